//! The shell around the planner: reading what stands at a key, and carrying a plan out.
//!
//! An operation is a loop: read what stands, decide and plan (pure), [`Store::commit`]; on [`Turn::Lost`] somebody
//! was faster, and it is decided again from the rows as they are now. [`crate::turns`] keeps the loop short.

use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Commit, Kv, KvExt, Position, Range, Scan, Step};

use crate::codec::keys;
use crate::codec::object::{decode_bucket, decode_gone, decode_history, decode_version, encode_version};
use crate::error::{Error, Missing, Result};
use crate::feed::Touched;
use crate::name::{BucketName, ObjectKey, OrgId, VersionRef};
use crate::object::{At, Bucket, BuiltIn, Door, HistoryEntry, Identity, Version, Versioning};
use crate::plan::{Parts, Placed, Plan, Standing, failed_key, names};
use crate::watch::Note;
use crate::{Growth, Inner, Store, refs, views};

/// Restarts of a read that met rows of two moments. One is rare, two in a row need writers at the same key; this many
/// are not met.
pub(crate) const RESTARTS_MAX: usize = 64;

/// What a change needs to know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To put something above what stands.
    Write,
    /// To find an entry of the history.
    Named(VersionRef),
}

/// How a commit went.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It happened.
    Done(Committed),
    /// Nothing happened: this row is not what it was.
    Lost(Bytes),
}

/// What a commit left behind.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Which blobs' rows name the places that came with it.
    pub(crate) refs: refs::RefPlan,
    /// Where it stands among all commits.
    pub(crate) position: Position,
}

/// An entry found for reading.
#[derive(Clone, Debug)]
pub(crate) struct FoundEntry {
    /// The entry.
    pub(crate) entry: Placed<HistoryEntry>,
    /// It is the head row.
    pub(crate) is_current: bool,
}

impl Inner {
    /// The rows.
    pub(crate) fn kv(&self) -> &Arc<dyn Kv> {
        &self.options.kv
    }
}

impl Store {
    /// A bucket's settings.
    pub(crate) async fn find_bucket(&self, name: &BucketName) -> Result<Placed<Bucket>> {
        let entry = self.inner.kv().get(&keys::bucket(name)).await?;
        let entry = entry.ok_or_else(|| Error::NotFound(Missing::Bucket(name.clone())))?;
        Ok(Placed { value: decode_bucket(&entry.value)?, position: entry.position })
    }

    /// A key's current version.
    pub(crate) async fn find_head(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
    ) -> Result<Option<Placed<Version>>> {
        let Some(entry) = self.inner.kv().get(&keys::head(bucket.id, key)).await? else { return Ok(None) };
        Ok(Some(Placed { value: decode_version(&entry.value)?, position: entry.position }))
    }

    /// The delete marker that is current.
    async fn find_gone(&self, bucket: &Bucket, key: &ObjectKey) -> Result<Option<Placed<u64>>> {
        let Some(entry) = self.inner.kv().get(&keys::gone(bucket.id, key)).await? else { return Ok(None) };
        Ok(Some(Placed { value: decode_gone(&entry.value)?, position: entry.position }))
    }

    /// What stands at a key.
    pub(crate) async fn standing(&self, bucket: &Bucket, key: &ObjectKey, need: Need) -> Result<Standing> {
        for _ in 0..RESTARTS_MAX {
            let standing = self.read_standing(bucket, key, need).await?;
            if standing.is_possible() && !self.may_have_missed(bucket, key, need, &standing).await? {
                return Ok(standing);
            }
        }
        Err(Error::Busy)
    }

    /// Whether the entry asked for was not found and may have become the head after that was read: nothing is
    /// committed then, so no check would tell.
    async fn may_have_missed(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        need: Need,
        standing: &Standing,
    ) -> Result<bool> {
        let Need::Named(which) = need else { return Ok(false) };
        let is_head = standing.current().is_some_and(|head| names(which, head.id, head.is_null));
        if is_head || standing.named.is_some() {
            return Ok(false);
        }
        let seen = standing.head.as_ref().map(|head| head.position);
        Ok(self.find_head(bucket, key).await?.map(|head| head.position) != seen)
    }

    /// Rows of two moments may meet in what this reads. Some such can be told at once, others by the plan's checks.
    async fn read_standing(&self, bucket: &Bucket, key: &ObjectKey, need: Need) -> Result<Standing> {
        let head = self.find_head(bucket, key).await?;
        if bucket.versioning == Versioning::Off {
            return Ok(Standing { head, ..Standing::default() });
        }
        let wanted = match (need, &head) {
            (Need::Named(which), Some(head)) if names(which, head.value.id, head.value.is_null) => None,
            (Need::Named(which), _) => Some(which),
            (Need::Write, head) => (bucket.versioning == Versioning::Suspended
                && !head.as_ref().is_some_and(|head| head.value.is_null))
            .then_some(VersionRef::Null),
        };
        let gone = if head.is_none() { self.find_gone(bucket, key).await? } else { None };
        if need == Need::Write && head.is_none() && gone.is_none() {
            // no history either; if that is not so any more, the plan's checks notice
            return Ok(Standing::default());
        }
        // whoever adds above a head needs no history, whoever removes the head needs its successor
        let newest = match (need, &head) {
            (Need::Write, Some(_)) => Vec::new(),
            (Need::Write, None) | (Need::Named(_), _) => self.newest_history(bucket, key, 2).await?,
        };
        let named = match wanted {
            None => None,
            Some(which) => match newest.iter().find(|entry| entry.value.is(which)) {
                Some(entry) => Some(entry.clone()),
                None => self.find_history(bucket, key, which).await?,
            },
        };
        Ok(Standing { head, gone, newest, named })
    }

    /// The newest entries of a key's history.
    pub(crate) async fn newest_history(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        limit: usize,
    ) -> Result<Vec<Placed<HistoryEntry>>> {
        let scan = Scan::forward(Range::prefix(keys::versions(bucket.id, key)));
        let rows = self.inner.kv().rows(scan, limit).await?;
        rows.into_iter()
            .map(|(_, entry)| Ok(Placed { value: decode_history(&entry.value)?, position: entry.position }))
            .collect()
    }

    /// An entry of a key's history. Ids do not sort as sequences do, so this looks through the key's own versions.
    async fn find_history(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        which: VersionRef,
    ) -> Result<Option<Placed<HistoryEntry>>> {
        let scan = Scan::forward(Range::prefix(keys::versions(bucket.id, key)));
        let visit = move |found: &mut Result<Option<Placed<HistoryEntry>>>, row: coffre_kv::Row<'_>| {
            match decode_history(row.value) {
                Ok(value) if value.is(which) => *found = Ok(Some(Placed { value, position: row.position })),
                Ok(_) => return Step::Next,
                Err(error) => *found = Err(error),
            }
            Step::Stop
        };
        self.inner.kv().scan_into(scan, Ok(None), visit).await?
    }

    /// The entry that a reader means; `None`: there is none.
    pub(crate) async fn find_entry(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        which: Option<VersionRef>,
    ) -> Result<Option<FoundEntry>> {
        for _ in 0..RESTARTS_MAX {
            let head = self.find_head(bucket, key).await?;
            let seen = head.as_ref().map(|head| head.position);
            if let Some(Placed { value, position }) = head
                && which.is_none_or(|which| names(which, value.id, value.is_null))
            {
                let entry = Placed { value: HistoryEntry::Version(Box::new(value)), position };
                return Ok(Some(FoundEntry { entry, is_current: true }));
            }
            if bucket.versioning == Versioning::Off {
                return Ok(None);
            }
            let found = match which {
                Some(which) => self.find_history(bucket, key, which).await?,
                None => self.newest_history(bucket, key, 1).await?.pop(),
            };
            // without a head the newest entry is a delete marker; a version there has been current since
            let is_settled = match (&found, which) {
                (Some(found), None) => found.value.version().is_none(),
                (Some(_), Some(_)) => true,
                // it may have become the head after that was read
                (None, _) => self.find_head(bucket, key).await?.map(|head| head.position) == seen,
            };
            if is_settled {
                return Ok(found.map(|entry| FoundEntry { entry, is_current: false }));
            }
        }
        Err(Error::Busy)
    }

    /// Carries a plan out, as durably as it says, with a line for the audit log unless it is the daemon's own work, and tells
    /// who subscribed. Doors other than the mount wait for that (`feed.rs`).
    ///
    /// # Errors
    /// `QuotaExceeded`, `NoSpace`, `Stopped`, `Corrupt`. What lost a race is no error but [`Turn::Lost`].
    pub(crate) async fn commit(&self, bucket: &BucketName, plan: Plan, note: Option<&Note>) -> Result<Turn> {
        let (turn, touched) = self.carry_out(plan, note).await?;
        // the rows' lock is let go of: who is told may come with questions
        if let (Turn::Done(_), Some(note)) = (&turn, note)
            && let Some(delivery) = self.inner.hub.tell(bucket, touched, note.came_by(), &note.request_id)
            && note.came_by() != Door::Mount
        {
            self.inner.hub.wait(delivery).await;
        }
        Ok(turn)
    }

    async fn carry_out(&self, plan: Plan, note: Option<&Note>) -> Result<(Turn, Touched)> {
        let Parts { mut checks, mut writes, growth, refs, may_use_reserve, wait, touched } = plan.finish();
        let _gate = self.inner.gate.read().await;
        let refs = match refs.plan(&**self.inner.kv()).await {
            Ok(refs) => refs,
            // a blob that was to be shared has gone: what referred to it has changed
            Err(Error::Busy) => return Ok((Turn::Lost(Bytes::new()), touched)),
            Err(error) => return Err(error),
        };
        checks.extend(refs.checks.iter().cloned());
        writes.extend(refs.writes.iter().cloned());
        let note = note.map(Note::encode).unwrap_or_default();
        let commit = Commit { checks, writes, note, wait, may_use_reserve };
        let turn = match self.commit_within_quota(commit, &growth).await? {
            Ok(position) => Turn::Done(Committed { refs, position }),
            Err(row) => Turn::Lost(row),
        };
        Ok((turn, touched))
    }

    /// Commits with what the quota gate asks for beside the plan's own checks. `Err`: the row of one of those is not
    /// what it was. When a check of the gate's fails, others have written meanwhile: it is asked again, and says at
    /// last whether there is room (each time at most half of it is left).
    async fn commit_within_quota(
        &self,
        mut commit: Commit,
        growth: &[Growth],
    ) -> Result<Result<Position, Bytes>> {
        let own = commit.checks.len();
        for _ in 0..RESTARTS_MAX {
            commit.checks.truncate(own);
            if !growth.is_empty() {
                commit.checks.extend(self.inner.options.quota.checks(growth).await?);
            }
            let conflict = match self.inner.kv().commit(commit.clone()).await {
                Ok(position) => return Ok(Ok(position)),
                Err(coffre_kv::Error::Conflict { check }) => check,
                Err(error) => return Err(error.into()),
            };
            if !(own..commit.checks.len()).contains(&conflict) {
                return Ok(Err(failed_key(&commit.checks, conflict)?));
            }
        }
        Err(Error::Busy)
    }

    /// Gives a version that shall become current at `key` what the place it goes to decides: its inode number and
    /// ids (those of `had`, whose place it takes), and the company it counts for, if it is one's place; else it goes
    /// on counting for the organisation whose token wrote it.
    pub(crate) async fn settle_in(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        had: Option<&Version>,
        version: &mut Version,
    ) -> Result<()> {
        let identity = self.identity_at(bucket, key, had.map(Version::identity)).await?;
        version.take_identity(bucket, key, identity);
        version.organisation = organisation_at(bucket, key).or(version.organisation);
        Ok(())
    }

    /// What an object at this key is known by: what it `had`, with what it lacks.
    pub(crate) async fn identity_at(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        had: Option<Identity>,
    ) -> Result<Identity> {
        let kv = self.inner.kv();
        let mut identity = match had {
            Some(had) => had,
            None => Identity { ino: self.inner.inodes.next(kv).await?, filing: None },
        };
        if identity.filing.is_none() && views::needs_serial(bucket, key) {
            identity.filing = Some(self.inner.filing_serials.next(kv).await?);
        }
        Ok(identity)
    }

    /// The time, for what becomes current now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.options.clock.now_ms()
    }
}

/// The company that bytes at this key count for: all below `{company}/`, whether or not the rest is of the scheme.
pub(crate) fn organisation_at(bucket: &Bucket, key: &ObjectKey) -> Option<OrgId> {
    if bucket.place != Some(BuiltIn::Companies) {
        return None;
    }
    let (company, _) = key.as_str().split_once('/')?;
    // Keys spell ids in one way (contract D43): another spelling is nobody's place.
    let id = uuid::Uuid::parse_str(company).ok().filter(|id| id.to_string() == company)?;
    Some(OrgId(id))
}

/// The organisation that bytes written there now count for: the company whose place it is, else the one whose token
/// writes them (contract D22).
pub(crate) fn counts_for(cx: &crate::Cx, bucket: &Bucket, key: &ObjectKey) -> Option<OrgId> {
    organisation_at(bucket, key).or(cx.principal.organisation)
}

/// Largest record of a version, bytes: one value of the rows' engine, with room for fields that come later.
const RECORD_BYTES_MAX: usize = 120 * 1024;

/// A version whose record no row could hold is refused before it is planned.
pub(crate) fn check_size(version: &Version) -> Result<()> {
    if encode_version(version).len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge { what: "the object's metadata", max: RECORD_BYTES_MAX as u64 });
    }
    Ok(())
}

/// The bucket and key of a place, for a note.
pub(crate) fn note(cx: &crate::Cx, action: &str, at: &At) -> Note {
    Note::of(cx, action, Some(at.bucket.as_str()), Some(at.key.as_str()))
}
