//! What a change of an object checks and writes: pure, the one place that knows how a key's rows hang together.
//!
//! Given what stands at a key ([`Standing`]) and what is to happen, a [`Plan`] collects the commit: head and version
//! rows by the bucket's versioning, rows derived from the entries that come and go (views, pending digests),
//! references, usage, quota. Everything that changes an object goes through here; `commit.rs` reads what stands and
//! carries the plan out.
//!
//! Invariants kept, and what the checks are for:
//! - The head row is the entry with the highest sequence, unless that is a delete marker: then there is no head row.
//! - A key has at most one `null` entry.
//! - No two current versions have one identity (inode number, serial): it follows the key's current object, waits in
//!   the delete marker that ended it, and goes along in a rename.
//! - A key that has a history and no head has a `gone` row, which names the delete marker that is current.
//! - Who changes a key checks the position of its head row, or that there is none and the position of its `gone` row,
//!   or that there is neither; and whatever changes what is current writes one of the two. So two changes decided on
//!   the same standing never both happen. (Looking at rows of the history instead would not do: they may be read at
//!   another moment than the head, and sequences have gaps.)

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coffre_kv::{Check, Position, Wait, Write};

use crate::codec::keys;
use crate::codec::object::{encode_gone, encode_history, encode_version};
use crate::error::{Error, Result};
use crate::feed::{KeyChange, Touched};
use crate::name::{ObjectKey, OrgId, UploadId, UserId, VersionId, VersionRef};
use crate::object::{BlobId, Bucket, DeleteMarker, HistoryEntry, Identity, Manifest, Version, Versioning};
use crate::refs::NewBlob;
use crate::{Growth, derived, refs, usage, views};

/// A value and the position of its row.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    /// What the row says.
    pub(crate) value: T,
    /// What [`Check::At`] compares.
    pub(crate) position: Position,
}

/// What stands at a key, as far as the change at hand needs to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The current version.
    pub(crate) head: Option<Placed<Version>>,
    /// The sequence its `gone` row names: the delete marker that is current.
    pub(crate) gone: Option<Placed<u64>>,
    /// The two newest entries of the history, newest first.
    pub(crate) newest: Vec<Placed<HistoryEntry>>,
    /// The entry of the history that is asked for, or that a `null` write replaces.
    pub(crate) named: Option<Placed<HistoryEntry>>,
}

impl Standing {
    /// The current version.
    pub(crate) fn current(&self) -> Option<&Version> {
        self.head.as_ref().map(|head| &head.value)
    }

    /// Whether these rows can have stood together: nothing of the history stands above the head, or what the `gone`
    /// row names is the newest.
    pub(crate) fn is_possible(&self) -> bool {
        let named = self.named.as_ref().map(|entry| entry.value.sequence());
        let newest = self.newest.first().map(|entry| entry.value.sequence());
        match &self.head {
            Some(head) => newest.max(named) < Some(head.value.sequence),
            None => newest == self.gone.as_ref().map(|gone| gone.value) && named <= newest,
        }
    }

    /// What the key's object is known by; `None`: there was none, or it has been moved away.
    fn identity(&self) -> Option<Identity> {
        match (&self.head, self.newest.first().map(|newest| &newest.value)) {
            (Some(head), _) => Some(head.value.identity()),
            (None, Some(HistoryEntry::DeleteMarker(marker))) => marker.identity,
            (None, _) => None,
        }
    }

    /// Whether removing this entry makes a version current whose identity has been moved away: it needs a new one.
    pub(crate) fn needs_identity(&self, which: VersionRef) -> bool {
        let is_top = self.head.is_none() && self.newest.first().is_some_and(|newest| newest.value.is(which));
        let follows = self.newest.get(1).is_some_and(|next| next.value.version().is_some());
        is_top && follows && self.identity().is_none()
    }

    /// The number of the key's next entry: never the clock (design §2.1).
    fn next_sequence(&self) -> u64 {
        let newest = self.newest.first().map(|entry| entry.value.sequence());
        self.head.as_ref().map(|head| head.value.sequence).max(newest).unwrap_or(0) + 1
    }
}

impl Version {
    /// What the object is known by.
    pub(crate) fn identity(&self) -> Identity {
        Identity { ino: self.ino, filing: self.ids.filing }
    }

    /// Makes this the version of an object that is known by that, at this key.
    pub(crate) fn take_identity(&mut self, bucket: &Bucket, key: &ObjectKey, identity: Identity) {
        self.ino = identity.ino;
        self.ids = views::ids_at(bucket, key, identity.filing);
    }
}

impl HistoryEntry {
    /// The entry's number in its key's history.
    pub(crate) fn sequence(&self) -> u64 {
        match self {
            Self::Version(version) => version.sequence,
            Self::DeleteMarker(marker) => marker.sequence,
        }
    }

    /// The entry's name.
    pub(crate) fn id(&self) -> VersionId {
        match self {
            Self::Version(version) => version.id,
            Self::DeleteMarker(marker) => marker.id,
        }
    }

    /// It is S3's `null` entry.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Version(version) => version.is_null,
            Self::DeleteMarker(marker) => marker.is_null,
        }
    }

    /// The version, when it is one.
    pub(crate) fn version(&self) -> Option<&Version> {
        match self {
            Self::Version(version) => Some(version),
            Self::DeleteMarker(_) => None,
        }
    }

    /// It is what the reference means.
    pub(crate) fn is(&self, which: VersionRef) -> bool {
        names(which, self.id(), self.is_null())
    }
}

/// Whether a reference means the entry with this id.
pub(crate) fn names(which: VersionRef, id: VersionId, is_null: bool) -> bool {
    match which {
        VersionRef::Id(wanted) => wanted == id,
        VersionRef::Null => is_null,
    }
}

/// What is current when the newest entry has been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Top {
    Version,
    Marker(u64),
    Nothing,
}

/// A commit in the making.
#[derive(Debug)]
pub(crate) struct Plan {
    bucket: Bucket,
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    /// Derived rows: what they held and what they shall hold.
    derived: BTreeMap<Bytes, (Option<Bytes>, Option<Bytes>)>,
    /// Counters.
    usage: BTreeMap<Bytes, i64>,
    /// Bytes by whom they count for.
    growth: BTreeMap<(Option<UserId>, Option<OrgId>), i64>,
    /// Versions that begin (+1) or end (−1) to share a paged manifest.
    manifests: BTreeMap<(UploadId, VersionId), i32>,
    /// References to blobs.
    pub(crate) refs: refs::Changes,
    /// The commit only gives space back.
    pub(crate) may_use_reserve: bool,
    /// What its answer promises.
    pub(crate) wait: Wait,
    /// What becomes of keys, for who follows.
    touched: Touched,
}

/// A plan in the words of `kv`, but for the references, which their rows decide.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    /// By whom it counts for; only what grows.
    pub(crate) growth: Vec<Growth>,
    pub(crate) refs: refs::Changes,
    pub(crate) may_use_reserve: bool,
    pub(crate) wait: Wait,
    pub(crate) touched: Touched,
}

impl Plan {
    /// A plan for a bucket whose settings stay what they are until the commit: a write decided on the bucket's
    /// versioning or existence never lands after that has changed.
    pub(crate) fn new(bucket: &Placed<Bucket>) -> Self {
        Self {
            bucket: bucket.value.clone(),
            checks: vec![Check::At(keys::bucket(&bucket.value.name), bucket.position)],
            writes: Vec::new(),
            derived: BTreeMap::new(),
            usage: BTreeMap::new(),
            growth: BTreeMap::new(),
            manifests: BTreeMap::new(),
            refs: refs::Changes::new(),
            may_use_reserve: false,
            wait: Wait::Durable,
            touched: Touched::new(),
        }
    }

    /// Makes `version` the key's current one; its sequence and nullness are set here. `blobs` are those of its
    /// content that this commit makes known.
    pub(crate) fn put(
        &mut self,
        key: &ObjectKey,
        standing: &Standing,
        mut version: Version,
        blobs: &[(BlobId, NewBlob)],
    ) -> Version {
        version.is_null = self.bucket.versioning != Versioning::Enabled;
        version.sequence = standing.next_sequence();
        self.guard_top(key, standing);
        self.make_way(key, standing);
        self.writes.push(Write::Put(keys::head(self.bucket.id, key), encode_version(&version)));
        if standing.gone.is_some() {
            self.writes.push(Write::Delete(keys::gone(self.bucket.id, key)));
        }
        self.enter(key, &version, true);
        self.hold(&version, blobs);
        self.touch(key, standing.current().map(|head| head.ino), Some(version.ino), true);
        version
    }

    /// Notes what becomes of a key.
    fn touch(&mut self, key: &ObjectKey, old_ino: Option<u64>, new_ino: Option<u64>, has_new_content: bool) {
        let change = KeyChange { key: key.as_str().to_owned(), old_ino, new_ino, has_new_content };
        self.touched.insert(change.key.clone(), change);
    }

    /// Deletes the key: its current version for good where versioning is off, else by a delete marker, which is
    /// returned.
    pub(crate) fn delete(
        &mut self,
        key: &ObjectKey,
        standing: &Standing,
        marker: DeleteMarker,
    ) -> Option<DeleteMarker> {
        self.end(key, standing, DeleteMarker { identity: standing.identity(), ..marker })
    }

    /// The same for an object that goes on at another key, known by what it was known by here.
    pub(crate) fn move_away(&mut self, key: &ObjectKey, standing: &Standing, marker: DeleteMarker) {
        self.end(key, standing, DeleteMarker { identity: None, ..marker });
    }

    fn end(
        &mut self,
        key: &ObjectKey,
        standing: &Standing,
        mut marker: DeleteMarker,
    ) -> Option<DeleteMarker> {
        self.guard_top(key, standing);
        self.make_way(key, standing);
        if let Some(head) = &standing.head {
            self.writes.push(Write::Delete(keys::head(self.bucket.id, key)));
            self.touch(key, Some(head.value.ino), None, true);
        }
        if self.bucket.versioning == Versioning::Off {
            return None;
        }
        marker.is_null = self.bucket.versioning == Versioning::Suspended;
        marker.sequence = standing.next_sequence();
        let row = keys::version(self.bucket.id, key, marker.sequence);
        self.writes.push(Write::Put(row, encode_history(&HistoryEntry::DeleteMarker(marker.clone()))));
        self.writes.push(Write::Put(keys::gone(self.bucket.id, key), encode_gone(marker.sequence)));
        Some(marker)
    }

    /// Removes one entry for good; the next newest becomes current, and the same file as what stood there. `None`: no
    /// such entry, nothing planned. `new` is for [`Standing::needs_identity`].
    pub(crate) fn remove(
        &mut self,
        key: &ObjectKey,
        standing: &Standing,
        which: VersionRef,
        new: Option<Identity>,
    ) -> Option<HistoryEntry> {
        if let Some(head) = standing.head.as_ref().filter(|h| names(which, h.value.id, h.value.is_null)) {
            let row = keys::head(self.bucket.id, key);
            self.checks.push(Check::At(row.clone(), head.position));
            self.leave(key, &head.value, true);
            self.release(&head.value);
            let ino = head.value.ino;
            let top = self.promote(key, standing.newest.first(), Some(head.value.identity()));
            self.touch(key, Some(ino), (top == Top::Version).then_some(ino), true);
            match top {
                Top::Version => {}
                Top::Marker(sequence) => {
                    self.writes.push(Write::Delete(row));
                    self.writes.push(Write::Put(keys::gone(self.bucket.id, key), encode_gone(sequence)));
                }
                Top::Nothing => self.writes.push(Write::Delete(row)),
            }
            return Some(HistoryEntry::Version(Box::new(head.value.clone())));
        }
        let named = standing.named.as_ref().filter(|named| named.value.is(which))?;
        let row = keys::version(self.bucket.id, key, named.value.sequence());
        self.checks.push(Check::At(row.clone(), named.position));
        self.writes.push(Write::Delete(row));
        if let Some(version) = named.value.version() {
            self.leave(key, version, false);
            self.release(version);
        }
        let head_row = keys::head(self.bucket.id, key);
        if standing.head.is_some() {
            // a head that stays needs no successor; one that went meanwhile might have needed this one
            self.checks.push(Check::Present(head_row));
            return Some(named.value.clone());
        }
        self.guard_top(key, standing);
        let is_newest = standing.newest.first().is_some_and(|e| e.value.sequence() == named.value.sequence());
        if is_newest {
            let gone = keys::gone(self.bucket.id, key);
            let identity = standing.identity().or(new);
            let top = self.promote(key, standing.newest.get(1), identity);
            if top == Top::Version {
                self.touch(key, None, identity.map(|identity| identity.ino), true);
            }
            let write = match top {
                Top::Marker(sequence) => Write::Put(gone, encode_gone(sequence)),
                Top::Version | Top::Nothing => Write::Delete(gone),
            };
            self.writes.push(write);
        }
        Some(named.value.clone())
    }

    /// Writes another record of the same entry (tags, digest, manifest). `is_current`: it is the head.
    pub(crate) fn replace(
        &mut self,
        key: &ObjectKey,
        old: &Placed<Version>,
        new: &Version,
        is_current: bool,
        blobs: &[(BlobId, NewBlob)],
    ) {
        let row = if is_current {
            keys::head(self.bucket.id, key)
        } else {
            keys::version(self.bucket.id, key, old.value.sequence)
        };
        self.checks.push(Check::At(row.clone(), old.position));
        self.writes.push(Write::Put(row, encode_version(new)));
        self.leave(key, &old.value, is_current);
        self.enter(key, new, is_current);
        self.release(&old.value);
        self.hold(new, blobs);
        if is_current {
            let has_new_content = old.value.etag != new.etag || old.value.size_bytes != new.size_bytes;
            self.touch(key, Some(old.value.ino), Some(new.ino), has_new_content);
        }
    }

    /// Adds to a counter.
    pub(crate) fn count(&mut self, counter: Bytes, delta: i64) {
        *self.usage.entry(counter).or_default() += delta;
    }

    /// Counts bytes that are not a version's (parts) towards quotas.
    pub(crate) fn grow(&mut self, owner: Option<UserId>, organisation: Option<OrgId>, bytes: i64) {
        let grown = self.growth.entry((owner, organisation)).or_default();
        *grown = grown.saturating_add(bytes);
    }

    /// Counts bytes that belong to no version yet.
    pub(crate) fn count_unfinished(
        &mut self,
        owner: Option<UserId>,
        organisation: Option<OrgId>,
        bytes: i64,
    ) {
        for (counter, n) in usage::unfinished(&self.bucket, owner, organisation, bytes) {
            self.count(counter, n);
        }
        self.grow(owner, organisation, bytes);
    }

    /// Adds an owner to whatever holds a version's content.
    pub(crate) fn hold(&mut self, version: &Version, blobs: &[(BlobId, NewBlob)]) {
        match &version.manifest {
            Manifest::Inline(extents) => {
                for blob in extents.iter().map(|extent| extent.blob).collect::<BTreeSet<_>>() {
                    let new = blobs.iter().find(|(id, _)| *id == blob).map(|(_, new)| new.clone());
                    self.refs.add(blob, version.id.0, new);
                }
            }
            Manifest::Paged { id, .. } => *self.manifests.entry((*id, version.id)).or_default() += 1,
        }
    }

    /// Takes an owner off whatever holds a version's content.
    fn release(&mut self, version: &Version) {
        #[cfg(test)]
        if canary::is(canary::Broken::Release) {
            return;
        }
        match &version.manifest {
            Manifest::Inline(extents) => {
                for blob in extents.iter().map(|extent| extent.blob).collect::<BTreeSet<_>>() {
                    self.refs.remove(blob, version.id.0);
                }
            }
            Manifest::Paged { id, .. } => *self.manifests.entry((*id, version.id)).or_default() -= 1,
        }
    }

    /// Ends the planning.
    pub(crate) fn finish(mut self) -> Parts {
        for (row, (old, new)) in self.derived {
            match (old, new) {
                (old, Some(new)) if old.as_ref() != Some(&new) => self.writes.push(Write::Put(row, new)),
                (Some(_), None) => self.writes.push(Write::Delete(row)),
                _ => {}
            }
        }
        for ((manifest, version), change) in self.manifests {
            let row = keys::manifest_owner(manifest, version);
            if change > 0 {
                // its pages go only when nobody refers to them: so they are there as long as the first one is
                let page = keys::manifest_page(manifest, 0);
                if !self.writes.iter().any(|write| *write.key() == page) {
                    self.checks.push(Check::Present(page));
                }
                self.writes.push(Write::Put(row, Bytes::new()));
            } else if change < 0 {
                self.writes.push(Write::Delete(row));
                self.writes.push(Write::Put(keys::manifest_due(manifest), Bytes::new()));
            }
        }
        let counters = self.usage.into_iter().filter(|(_, delta)| *delta != 0);
        self.writes.extend(counters.map(|(counter, delta)| Write::Add(counter, delta)));
        let mut growth: BTreeMap<usage::Of, i64> = BTreeMap::new();
        for ((owner, organisation), bytes) in self.growth {
            for of in usage::payers(self.bucket.id, owner, organisation) {
                let grown = growth.entry(of).or_default();
                *grown = grown.saturating_add(bytes);
            }
        }
        let growth = growth.into_iter().filter(|(_, bytes)| *bytes > 0);
        Parts {
            checks: self.checks,
            writes: self.writes,
            growth: growth.map(|(of, bytes)| Growth { of, bytes }).collect(),
            refs: self.refs,
            may_use_reserve: self.may_use_reserve,
            wait: self.wait,
            touched: self.touched,
        }
    }

    /// What was current still is.
    fn guard_top(&mut self, key: &ObjectKey, standing: &Standing) {
        #[cfg(test)]
        if canary::is(canary::Broken::Guard) {
            return;
        }
        let head = keys::head(self.bucket.id, key);
        if let Some(seen) = &standing.head {
            self.checks.push(Check::At(head, seen.position));
            return;
        }
        self.checks.push(Check::Absent(head));
        let gone = keys::gone(self.bucket.id, key);
        #[cfg(test)]
        if canary::is(canary::Broken::Gone) {
            return;
        }
        match &standing.gone {
            Some(seen) => self.checks.push(Check::At(gone, seen.position)),
            None if self.bucket.versioning == Versioning::Off => {}
            None => self.checks.push(Check::Absent(gone)),
        }
    }

    /// Retires what a new entry replaces: the head becomes history or goes, the `null` entry goes when the new one
    /// is `null`.
    fn make_way(&mut self, key: &ObjectKey, standing: &Standing) {
        let is_replaced = |is_null: bool| match self.bucket.versioning {
            Versioning::Off => true,
            Versioning::Enabled => false,
            Versioning::Suspended => is_null,
        };
        if let Some(head) = &standing.head {
            let goes = is_replaced(head.value.is_null);
            self.leave(key, &head.value, true);
            if goes {
                self.release(&head.value);
            } else {
                let row = keys::version(self.bucket.id, key, head.value.sequence);
                self.writes.push(Write::Put(row, encode_version(&head.value)));
                self.enter(key, &head.value, false);
            }
        }
        if self.bucket.versioning != Versioning::Suspended {
            return;
        }
        if let Some(null) = standing.named.as_ref().filter(|named| named.value.is_null()) {
            let row = keys::version(self.bucket.id, key, null.value.sequence());
            self.checks.push(Check::At(row.clone(), null.position));
            self.writes.push(Write::Delete(row));
            if let Some(version) = null.value.version() {
                self.leave(key, version, false);
                self.release(version);
            }
        }
    }

    /// Makes the newest entry of the history current if it is a version. What it is, or that it is none, was
    /// decided on: so its position is checked either way.
    fn promote(
        &mut self,
        key: &ObjectKey,
        next: Option<&Placed<HistoryEntry>>,
        identity: Option<Identity>,
    ) -> Top {
        let Some(next) = next else { return Top::Nothing };
        let row = keys::version(self.bucket.id, key, next.value.sequence());
        self.checks.push(Check::At(row.clone(), next.position));
        let Some(version) = next.value.version() else { return Top::Marker(next.value.sequence()) };
        #[cfg(test)]
        if canary::is(canary::Broken::Promotion) {
            return Top::Nothing;
        }
        self.writes.push(Write::Delete(row));
        let mut current = version.clone();
        if let Some(identity) = identity {
            current.take_identity(&self.bucket, key, identity);
        }
        self.writes.push(Write::Put(keys::head(self.bucket.id, key), encode_version(&current)));
        self.leave(key, version, false);
        self.enter(key, &current, true);
        Top::Version
    }

    /// An entry comes: its derived rows and what it counts.
    fn enter(&mut self, key: &ObjectKey, version: &Version, is_current: bool) {
        for (row, value) in derived::rows(&self.bucket, key, version, is_current) {
            self.derived.entry(row).or_default().1 = Some(value);
        }
        for (counter, n) in usage::of(&self.bucket, key, version, is_current) {
            self.count(counter, n);
        }
        self.grow(version.owner, version.organisation, size(version));
    }

    /// An entry goes: the same, taken away.
    fn leave(&mut self, key: &ObjectKey, version: &Version, is_current: bool) {
        #[cfg(test)]
        if canary::is(canary::Broken::Usage) {
            return self.grow(version.owner, version.organisation, -size(version));
        }
        for (row, value) in derived::rows(&self.bucket, key, version, is_current) {
            self.derived.entry(row).or_default().0 = Some(value);
        }
        for (counter, n) in usage::of(&self.bucket, key, version, is_current) {
            self.count(counter, -n);
        }
        self.grow(version.owner, version.organisation, -size(version));
    }
}

fn size(version: &Version) -> i64 {
    i64::try_from(version.size_bytes).unwrap_or(i64::MAX)
}

/// What a failed check of a finished commit was about.
pub(crate) fn failed_key(checks: &[Check], index: usize) -> Result<Bytes> {
    match checks.get(index) {
        Some(check) => Ok(check.key().clone()),
        None => Err(Error::Corrupt { what: "a usage counter is at its limit".into() }),
    }
}

/// Ways to break the planner, for the tests that have to notice.
#[cfg(test)]
pub(crate) mod canary {
    use std::cell::Cell;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Broken {
        /// References of what goes stay.
        Release,
        /// What goes is still counted and indexed.
        Usage,
        /// Nobody becomes current when the current version is removed.
        Promotion,
        /// Nobody looks whether somebody was faster.
        Guard,
        /// Nobody looks whether somebody was faster while a delete marker is current.
        Gone,
        /// An open file does not pin what it refers to.
        Pins,
        /// A staging file's holes keep what was written there before.
        Holes,
    }

    thread_local! {
        static BROKEN: Cell<Option<Broken>> = const { Cell::new(None) };
    }

    /// Breaks the planner on this thread.
    pub(crate) fn set(broken: Option<Broken>) {
        BROKEN.set(broken);
    }

    pub(crate) fn is(broken: Broken) -> bool {
        BROKEN.get() == Some(broken)
    }
}
