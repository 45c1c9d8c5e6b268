//! The mounts of this process: made at the start or by command, ended by command or with the daemon.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coffre_disk::{Disk as _, RealDisk};
use coffre_fuse::{Mount, Options, Space};
use coffre_identity::Role;
use coffre_store::object::BuiltIn;
use coffre_store::usage::{Measure, Of};
use coffre_store::{OrgId, UserId};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::config::{Durability, Passthrough};
use crate::error::{Error, Result};
use crate::wire::Daemon;

/// What to mount where: what is not said is as the settings have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) bucket: Option<String>,
    pub(crate) all_buckets: Option<bool>,
    pub(crate) prefix: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) read_only: Option<bool>,
    pub(crate) allow_other: Option<bool>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Octal.
    pub(crate) umask: Option<String>,
}

/// What is mounted.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Mutex<Vec<Mount>>);

impl Mounts {
    /// Mounts.
    pub(crate) async fn mount(&self, daemon: &Daemon, wanted: Wanted) -> Result<PathBuf> {
        // those that somebody unmounted by hand
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|mount| !mount.has_ended());
        let options = options(daemon, wanted).await?;
        let runtime = Handle::current();
        let mounted = tokio::task::spawn_blocking(move || Mount::new(options, &runtime)).await;
        let mount = mounted.map_err(|e| Error::io("mounting")(std::io::Error::other(e)))?;
        let mount = mount.map_err(Error::Mount)?;
        let path = mount.path().to_owned();
        tracing::info!(path = %path.display(), "mounted");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mount);
        Ok(path)
    }

    /// Ends one.
    pub(crate) async fn unmount(&self, path: &Path) -> Result<()> {
        let found = {
            let mut mounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = mounts.iter().position(|mount| mount.path() == path);
            at.map(|at| mounts.swap_remove(at))
        };
        match found {
            Some(mount) => end(vec![mount]).await,
            None => Err(Error::NotMounted { path: path.to_owned() }),
        }
    }

    /// Ends all.
    pub(crate) async fn unmount_all(&self) -> Result<()> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        end(all).await
    }

    /// Gives all directories back after a write that failed for good, in `limit` at most.
    pub(crate) async fn give_up_all(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::task::spawn_blocking(move || {
            for mount in all {
                mount.give_up(until);
            }
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "mounts are left behind");
        }
    }

    /// Where they are, and how many inodes the kernel holds of each.
    pub(crate) fn list(&self) -> Vec<(PathBuf, usize)> {
        let mounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = mounts.iter().filter(|mount| !mount.has_ended());
        live.map(|mount| (mount.path().to_owned(), mount.inodes())).collect()
    }
}

async fn end(mounts: Vec<Mount>) -> Result<()> {
    let runtime = Handle::current();
    let ended = tokio::task::spawn_blocking(move || {
        let mut result = Ok(());
        for mount in mounts {
            let path = mount.path().to_owned();
            match mount.unmount(&runtime) {
                Ok(()) => tracing::info!(path = %path.display(), "unmounted"),
                Err(error) => result = Err(Error::Mount(error)),
            }
        }
        result
    });
    ended.await.map_err(|e| Error::io("unmounting")(std::io::Error::other(e)))?
}

/// What the settings ask for at the start.
pub(crate) fn at_start(daemon: &Daemon) -> Option<Wanted> {
    let path = daemon.config.mount.path.clone()?;
    Some(Wanted { path, ..Wanted::default() })
}

async fn options(daemon: &Daemon, wanted: Wanted) -> Result<Options> {
    let settings = &daemon.config.mount;
    let refuse =
        |key: &str, reason: String| Error::Setting { place: "the mount".into(), key: key.into(), reason };
    // a bucket that is named is meant, whatever the settings say of all
    let all_buckets = wanted.all_buckets.unwrap_or(settings.all_buckets && wanted.bucket.is_none());
    let bucket = if all_buckets {
        None
    } else {
        let name = wanted.bucket.or_else(|| settings.bucket.clone());
        let name = name.unwrap_or_else(|| daemon.config.buckets.filing.clone());
        let bucket =
            name.parse().map_err(|_| refuse("mount.bucket", format!("`{name}` is not a bucket name")))?;
        let found = daemon.store.bucket(&daemon.system_cx(), &bucket, coffre_store::Action::ListBucket).await;
        found.map_err(|_| refuse("mount.bucket", format!("there is no bucket {bucket}")))?;
        Some(bucket)
    };
    let umask = wanted.umask.unwrap_or_else(|| settings.umask.clone());
    let umask = u32::from_str_radix(&umask, 8).ok().filter(|mask| *mask <= 0o777);
    let user = user(daemon, wanted.user.or_else(|| settings.user.clone())).await?;
    let prefix = wanted.prefix.unwrap_or_else(|| settings.prefix.clone());
    let payers = payers(daemon, user, bucket.as_ref(), &prefix).await?;
    Ok(Options {
        store: daemon.store.clone(),
        identity: daemon.identity.clone(),
        user,
        clock: daemon.clock(),
        ids: daemon.ids(),
        space: space(daemon, payers).await,
        path: wanted.path,
        bucket,
        prefix,
        read_only: wanted.read_only.unwrap_or(settings.read_only),
        allow_other: wanted.allow_other.unwrap_or(settings.allow_other),
        uid: wanted.uid.or(settings.uid).unwrap_or_else(|| rustix::process::getuid().as_raw()),
        gid: wanted.gid.or(settings.gid).unwrap_or_else(|| rustix::process::getgid().as_raw()),
        umask: umask.ok_or_else(|| refuse("mount.umask", "has to be octal, 000 to 777".into()))?,
        passthrough: settings.passthrough == Passthrough::Auto,
        close_is_durable: settings.durability == Durability::Close,
        sync_interval: Duration::from_millis(settings.sync_interval_ms),
    })
}

/// The user named, else the first ADMIN (contract D7).
async fn user(daemon: &Daemon, named: Option<String>) -> Result<UserId> {
    let failed = |source| Error::Identity { doing: "looking for the mount's user", source };
    let found = if let Some(text) = &named {
        daemon.identity.find_user(text).await.map_err(failed)?
    } else {
        let users = daemon.identity.list_users(&daemon.system_cx(), None).await.map_err(failed)?;
        users.into_iter().find(|user| user.role == Role::Admin && !user.is_disabled)
    };
    found.map(|user| user.id).ok_or_else(|| Error::Setting {
        place: "the mount".into(),
        key: "mount.user".into(),
        reason: named.map_or_else(|| "there is no ADMIN".into(), |name| format!("there is no user {name}")),
    })
}

/// Whose quotas bound what is written there: the bucket's, and the user's or, in a company's folder, the company's.
async fn payers(
    daemon: &Daemon,
    user: UserId,
    bucket: Option<&coffre_store::BucketName>,
    prefix: &str,
) -> Result<Vec<Of>> {
    let Some(bucket) = bucket else { return Ok(vec![Of::Owner(user)]) };
    let doing = "looking for the mount's quotas";
    let found = daemon.store.bucket(&daemon.system_cx(), bucket, coffre_store::Action::ListBucket).await;
    let bucket = found.map_err(|source| Error::Store { doing, source })?;
    let company = prefix.split('/').next().and_then(|first| uuid::Uuid::parse_str(first).ok());
    let company = company.filter(|_| bucket.place == Some(BuiltIn::Companies)).map(OrgId);
    Ok(vec![Of::Bucket(bucket.id), company.map_or(Of::Owner(user), Of::Organisation)])
}

/// How much room there is: the disk's, without the reserve, and within the quotas.
async fn space(daemon: &Daemon, payers: Vec<Of>) -> coffre_fuse::SpaceOf {
    let (data, reserve) =
        (daemon.data.clone(), crate::wire::reserve(&daemon.config, &daemon.data).unwrap_or(0));
    let (store, billing, runtime) = (daemon.store.clone(), daemon.billing.clone(), Handle::current());
    let buckets = crate::status::buckets(daemon, &daemon.system_cx()).await.unwrap_or_default();
    let of: Vec<Of> = buckets.iter().map(|bucket| Of::Bucket(bucket.id)).collect();
    Arc::new(move || {
        let space = RealDisk.space(&data).ok()?;
        let mut objects = 0;
        for of in &of {
            let counted = runtime.block_on(store.usage(Measure::Objects, of)).unwrap_or(0);
            objects += u64::try_from(counted).unwrap_or(0);
        }
        let mut found = Space {
            total_bytes: space.total_bytes.saturating_sub(reserve),
            free_bytes: space.free_bytes.saturating_sub(reserve),
            objects,
        };
        for of in &payers {
            let room = runtime.block_on(billing.room(of)).ok();
            if let Some((limit, used)) = room.and_then(|room| Some((room.limit_bytes?, room.used_bytes))) {
                found = within(found, limit, used);
            }
        }
        Some(found)
    })
}

/// What is left of a quota: no more than the disk has.
fn within(space: Space, limit_bytes: u64, used_bytes: u64) -> Space {
    let free_bytes = space.free_bytes.min(limit_bytes.saturating_sub(used_bytes));
    let total_bytes = space.total_bytes.min(limit_bytes).max(free_bytes);
    Space { total_bytes, free_bytes, ..space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_shown_where_it_is_what_ends_first() {
        let disk = Space { total_bytes: 1000, free_bytes: 400, objects: 7 };
        for (limit, used, total, free) in [
            (5000, 0, 1000, 400),
            (300, 100, 300, 200),
            (300, 301, 300, 0),
            (600, 100, 600, 400),
            (0, 0, 0, 0),
        ] {
            let found = within(disk, limit, used);
            assert_eq!((found.total_bytes, found.free_bytes), (total, free), "{limit} {used}");
        }
    }
}
