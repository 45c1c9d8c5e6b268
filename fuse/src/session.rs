//! Mounting and unmounting.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coffre_identity::Identity;
use coffre_store::object::Principal;
use coffre_store::{BucketName, Clock, Ids, Store, UserId, Wait};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::runtime::Handle;
use tokio::task::JoinHandle as Task;

use crate::door::{Door, SpaceOf};
use crate::error::{Error, Result};
use crate::filesystem::Files;
use crate::inode::Shows;
use crate::notify;

/// Threads that carry out calls: enough that some wait for the disk while others answer from memory.
const THREADS: usize = 8;

/// Most mounts of killed daemons that are taken from one directory.
const STALE_MAX: usize = 16;

/// What is mounted, and how.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Options {
    /// The objects.
    pub store: Store,
    /// Who the user is.
    pub identity: Identity,
    /// In whose name everything is done.
    pub user: UserId,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Names this mount in audit lines.
    pub ids: Arc<dyn Ids>,
    /// How much room there is.
    pub space: SpaceOf,
    /// Where.
    pub path: PathBuf,
    /// Which bucket; `None`: all, as directories.
    pub bucket: Option<BucketName>,
    /// Only keys below this, as a path without `/` at its ends.
    pub prefix: String,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Other users of the machine may use it.
    pub allow_other: bool,
    /// Owner, group and mode of what came by other doors.
    pub uid: u32,
    /// As `uid`.
    pub gid: u32,
    /// As `uid`.
    pub umask: u32,
    /// Let the kernel read committed files by itself, where it does.
    pub passthrough: bool,
    /// close is durable, not only fsync.
    pub close_is_durable: bool,
    /// Between two syncs that make durable what close left, at most.
    pub sync_interval: Duration,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// A mount. Dropped without [`Mount::unmount`] it ends as by a kill.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    door: Arc<Door>,
    session: BackgroundSession,
    notifier: JoinHandle<()>,
    upkeep: Task<()>,
}

impl Mount {
    /// Mounts. The kernel has answered and the mount is usable on return. To be called on a thread that may block.
    ///
    /// # Errors
    /// `NotADirectory`, `Busy` (something is mounted there), `NoUser`, `Refused`.
    pub fn new(options: Options, runtime: &Handle) -> Result<Self> {
        let path = ready(&options.path)?;
        let principal = runtime.block_on(principal(&options)).ok_or(Error::NoUser)?;
        let session_id = format!("{:032x}", u128::from_be_bytes(options.ids.next()));
        let prefix = options.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let shows = match options.bucket.clone() {
            Some(bucket) => Shows::Bucket { bucket, prefix },
            None => Shows::Buckets,
        };
        let door = Arc::new(Door::new(&options, shows, principal, session_id.into()));
        // before the kernel can ask for anything: what changes from here on is told to it
        let changes = options.store.subscribe();
        let files = Files { door: Arc::clone(&door), runtime: runtime.clone() };
        let refused = |source| Error::Refused { path: path.clone(), source };
        let session = begin(files, &path, &options).map_err(refused)?.spawn().map_err(refused)?;
        let notifier = {
            let (door, notifier, runtime) = (Arc::clone(&door), session.notifier(), runtime.clone());
            let thread = std::thread::Builder::new().name("mount-notify".into());
            thread.spawn(move || notify::follow(&door, &notifier, &runtime, changes)).map_err(refused)?
        };
        let upkeep = runtime.spawn(upkeep(Arc::clone(&door), options));
        Ok(Self { path, door, session, notifier, upkeep })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it ended by itself: somebody unmounted it.
    pub fn has_ended(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// How many inodes the kernel holds.
    pub fn inodes(&self) -> usize {
        self.door.table.lock().len()
    }

    /// Commits what is open, durably, and unmounts. Where programs still use it they lose it: it is taken from the
    /// directory at once, and ends with the process. To be called on a thread that may block.
    ///
    /// # Errors
    /// `Refused` when the kernel does not want to.
    pub fn unmount(self, runtime: &Handle) -> Result<()> {
        let Self { path, door, session, notifier, upkeep } = self;
        upkeep.abort();
        runtime.block_on(door.commit_all());
        let mut is_busy = false;
        if !session.guard.is_finished() {
            is_busy = unmount(&path, UnmountFlags::empty()).is_err();
            if is_busy {
                tracing::warn!(path = %path.display(), "programs still use the mount: it is taken from them");
                unmount(&path, UnmountFlags::DETACH)
                    .map_err(|source| Error::Refused { path: path.clone(), source })?;
            }
        }
        door.is_ending.store(true, Ordering::Relaxed);
        if !is_busy && session.join().is_err() {
            tracing::debug!("the session ended with an error");
        }
        // ends with the next event, or with the store; nothing is lost with it
        drop(notifier);
        runtime.block_on(door.write_times());
        Ok(())
    }
}

impl Mount {
    /// Gives the directory back where nothing can be committed any more: calls that are being answered get their error,
    /// programs that still use the mount lose it. To be called on a thread that may block, until then at most.
    pub fn give_up(self, until: Instant) {
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            tracing::warn!(%error, path = %self.path.display(), "a mount is left behind");
            return;
        }
        while !self.has_ended() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Door {
    /// Makes everything durable that was committed so far.
    pub(crate) async fn sync(&self) -> crate::errno::Result<()> {
        self.store.sync().await.map_err(crate::errno::errno)
    }

    /// Commits everything that was written and not closed.
    async fn commit_all(&self) {
        for handle in self.handles.files() {
            let _still = self.still().await;
            if handle.opened.file().is_dirty()
                && let Err(error) = self.commit(handle.node, &handle.opened, Wait::Durable).await
            {
                tracing::error!(%error, "an open file could not be committed at the end");
            }
        }
    }
}

/// Mounts and shakes hands with the kernel. Who may mount does so here; an ordinary user is helped by `fusermount3`.
///
/// fuser's own mounts are unmounted once more when they are dropped, whatever is mounted there by then; ours are not its.
fn begin(files: Files, path: &Path, options: &Options) -> io::Result<Session<Files>> {
    let config = config(options);
    let device = match mount(path, options) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Session::new(files, path, &config);
        }
        other => other?,
    };
    let acl = config.acl;
    Session::from_fd(files, device, acl, config).inspect_err(|_| {
        if let Err(error) = unmount(path, UnmountFlags::DETACH) {
            tracing::warn!(%error, path = %path.display(), "a mount that did not begin is left");
        }
    })
}

/// `mount(2)` with a device of our own.
fn mount(path: &Path, options: &Options) -> io::Result<OwnedFd> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse")?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut data =
        format!("fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions", device.as_raw_fd());
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(io::Error::other)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, options.read_only);
    rustix::mount::mount("coffre", path, "fuse.coffre", flags, Some(data.as_c_str()))?;
    Ok(device.into())
}

fn config(options: &Options) -> Config {
    let mut config = Config::default();
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.mount_options = vec![
        MountOption::FSName("coffre".into()),
        MountOption::Subtype("coffre".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    config
}

/// The user as it is now; `None`: there is none any more, or it is disabled.
async fn principal(options: &Options) -> Option<Arc<Principal>> {
    match options.identity.principal_of(options.user).await {
        Ok(principal) => principal,
        Err(error) => {
            tracing::warn!(%error, "the mount's user cannot be read");
            None
        }
    }
}

/// Each second: the user as it is by then, the times of directories, and what close left becomes durable.
async fn upkeep(door: Arc<Door>, options: Options) {
    let mut ticks = tokio::time::interval(options.sync_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        door.set_principal(principal(&options).await);
        door.write_times().await;
        if let Err(error) = door.sync().await {
            tracing::debug!(%error, "what was closed is not durable yet");
        }
    }
}

/// The directory to mount on, freed of what a killed daemon left there.
fn ready(path: &Path) -> Result<PathBuf> {
    // one above the other, where a daemon was started and killed again
    for _ in 0..STALE_MAX {
        if !is_stale(path) {
            break;
        }
        tracing::info!(path = %path.display(), "removing what an earlier mount left");
        unmount(path, UnmountFlags::DETACH)
            .map_err(|source| Error::Refused { path: path.to_owned(), source })?;
    }
    let path = path.canonicalize().map_err(|source| Error::Refused { path: path.to_owned(), source })?;
    if !path.is_dir() {
        return Err(Error::NotADirectory { path });
    }
    if is_ours(&path) {
        return Err(Error::Busy { path });
    }
    Ok(path)
}

/// A mount whose daemon is gone. Asked is what the kernel does not keep: it still tells the attributes of the root.
fn is_stale(path: &Path) -> bool {
    use rustix::io::Errno;
    matches!(rustix::fs::statfs(path), Err(Errno::NOTCONN | Errno::CONNABORTED))
}

/// Whether a coffre is mounted on exactly this directory.
pub fn is_ours(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| {
        let at = line.split(' ').nth(4).map(unescape);
        at.as_deref() == path.to_str() && line.contains(" - fuse.coffre coffre ")
    })
}

/// The kernel writes blanks of a path as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn unmount(path: &Path, flags: UnmountFlags) -> io::Result<()> {
    match rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::PERM) => {
            // an ordinary user is helped by the program that mounted for it
            let lazy = if flags.contains(UnmountFlags::DETACH) { "-uz" } else { "-u" };
            let done = std::process::Command::new("fusermount3").arg(lazy).arg("--").arg(path).status()?;
            if done.success() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
        }
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}
