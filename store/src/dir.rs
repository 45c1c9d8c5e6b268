//! Directories over keys (contract D7): `a/b/` is one when an object has that key (its marker) or one that begins so.
//!
//! A directory is named by its key without the last `/`; the bucket's root has no name. The marker carries the
//! directory's attributes and inode number. A directory without one is there as long as something is in it; when this
//! file takes the last thing out of one, it gives it a marker in the same commit. Other doors do not.

use coffre_kv::{Check, KvExt, Range, Scan};

use crate::attributes::AttributeChange;
use crate::codec::keys;
use crate::commit::{Need, Turn, check_size, note};
use crate::digest::ETag;
use crate::error::{Error, Missing, Result};
use crate::hasher::{self, Wanted};
use crate::list::List;
use crate::object::{At, Attributes, Bucket, Digest, Identity, Manifest, ObjectIds, Version};
use crate::plan::{Placed, Plan};
use crate::{Action, BucketName, Cx, ObjectKey, Store, VersionId, Wait};

/// What stands at a name: an object, a directory, both (`a` beside `a/b`), or nothing.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The object with exactly that key.
    pub object: Option<Box<Version>>,
    /// The directory.
    pub dir: Option<Dir>,
}

/// A directory.
#[derive(Clone, Debug, Default)]
pub struct Dir {
    /// Its marker; `None`: it is there because something is in it.
    pub marker: Option<Box<Version>>,
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The last segment: for a directory without its `/`. May be empty or anything else that a key may hold.
    pub name: String,
    /// What it is. An object and a directory of one name are two entries.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// An object.
    Object(Box<Version>),
    /// A directory.
    Dir(Dir),
}

/// A page of a directory.
#[derive(Clone, Debug, Default)]
pub struct DirPage {
    /// In the order of keys. The directory's own marker is not among them.
    pub entries: Vec<DirEntry>,
    /// What to give as `after` for the next page; `None`: no more.
    pub next_after: Option<String>,
}

impl Store {
    /// What stands at a name. What the caller may not read is not there.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied` (the bucket), `Stopped`, `Corrupt`.
    pub async fn look_up(&self, cx: &Cx, at: &At) -> Result<Look> {
        let bucket = self.find_bucket(&at.bucket).await?.value;
        let shown = |found: Option<Placed<Version>>, key: &ObjectKey| {
            let version = found?.value;
            let may = self.ask(cx, Action::GetObject, &bucket, Some(key), Some(&version));
            may.is_ok().then(|| Box::new(version))
        };
        let object = shown(self.find_head(&bucket, &at.key).await?, &at.key);
        // a key so long that nothing can be in it
        let Ok(marker) = marker_of(&at.key) else { return Ok(Look { object, dir: None }) };
        if let Some(marker) = shown(self.find_head(&bucket, &marker).await?, &marker) {
            return Ok(Look { object, dir: Some(Dir { marker: Some(marker) }) });
        }
        let list = List {
            bucket: at.bucket.clone(),
            prefix: marker.as_str().to_owned(),
            delimiter: String::new(),
            after: String::new(),
            limit: 1,
        };
        let is_dir = !self.list(cx, list).await?.entries.is_empty();
        Ok(Look { object, dir: is_dir.then(Dir::default) })
    }

    /// A page of at most `limit` (1,000) entries of the directory `dir` (`""`: the root), with attributes of files and
    /// of marked directories. Empty when there is no such directory.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_dir(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        dir: &str,
        after: &str,
        limit: usize,
    ) -> Result<DirPage> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let list = List {
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            delimiter: "/".into(),
            after: after.to_owned(),
            limit,
        };
        let page = self.list(cx, list).await?;
        let settings = self.find_bucket(bucket).await?.value;
        let mut entries: Vec<(String, EntryKind)> = Vec::new();
        for (key, version) in page.entries.into_iter().filter(|(key, _)| *key != prefix) {
            entries.push((key, EntryKind::Object(version)));
        }
        for common in page.common_prefixes {
            let marker = match common.parse() {
                Ok(key) => self.find_head(&settings, &key).await?.map(|found| Box::new(found.value)),
                Err(_) => None,
            };
            entries.push((common, EntryKind::Dir(Dir { marker })));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let named = entries.into_iter().map(|(key, kind)| {
            let name = key.get(prefix.len()..).unwrap_or_default();
            let name =
                if matches!(kind, EntryKind::Dir(_)) { name.strip_suffix('/').unwrap_or(name) } else { name };
            DirEntry { name: name.to_owned(), kind }
        });
        Ok(DirPage { entries: named.collect(), next_after: page.next_after })
    }

    /// Makes a directory: its marker. The parent has to be there.
    ///
    /// # Errors
    /// `Precondition` when an object or directory of that name is there, `NotFound(Key)` without a parent, and as
    /// [`Store::put`].
    pub async fn make_dir(&self, cx: &Cx, at: &At, attributes: Attributes, wait: Wait) -> Result<Version> {
        let new = NewName { key: &marker_of(&at.key)?, name: &at.key, attributes, wait };
        self.make_name(cx, at, new, "MakeDirectory").await
    }

    /// Makes a symbolic link: an object without bytes whose `posix.symlink` says where to; `attributes` carries it.
    /// Anything else that is only a name (a pipe, a socket, a device by its mode) is made so too.
    ///
    /// # Errors
    /// As [`Store::make_dir`].
    pub async fn make_link(&self, cx: &Cx, at: &At, attributes: Attributes, wait: Wait) -> Result<Version> {
        self.make_name(cx, at, NewName { key: &at.key, name: &at.key, attributes, wait }, "PutObject").await
    }

    /// Makes an object without bytes where nothing of that name is.
    async fn make_name(&self, cx: &Cx, at: &At, new: NewName<'_>, action: &str) -> Result<Version> {
        let note = note(cx, action, at);
        let mut tries = self.inner.turns.tries(Vec::new());
        let id = VersionId(self.inner.options.ids.next());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let standing = self.standing(&bucket.value, new.key, Need::Write).await?;
            self.ask_write(cx, &bucket.value, new.key, standing.current(), false)?;
            let object = keys::head(bucket.value.id, new.name);
            let within = within(&bucket.value, new.name.as_str());
            let is_there = standing.head.is_some()
                || self.inner.kv().get(&object).await?.is_some()
                || self.first_in(within.clone()).await?.is_some();
            if is_there {
                return Err(Error::Precondition { condition: "If-None-Match" });
            }
            let mut plan = Plan::new(&bucket);
            plan.wait = new.wait;
            plan.checks.push(Check::PrefixEmpty(within.start));
            if new.key != new.name {
                plan.checks.push(Check::Absent(object));
            }
            plan.checks.extend(self.dir_check(cx, &bucket.value, parent_of(&at.key)).await?);
            let version = self.empty_version(cx, &bucket.value, new.key, id, new.attributes.clone()).await?;
            let version = plan.put(new.key, &standing, version, &[]);
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(version),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Removes an empty directory. Its parent stays (it gets a marker if it would not).
    ///
    /// # Errors
    /// `NotFound(Key)`, `NotEmpty`, and as [`Store::delete`].
    pub async fn remove_dir(&self, cx: &Cx, at: &At, wait: Wait) -> Result<()> {
        let note = note(cx, "RemoveDirectory", at);
        let marker = marker_of(&at.key)?;
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let standing = self.standing(&bucket.value, &marker, Need::Write).await?;
            self.ask(cx, Action::DeleteObject, &bucket.value, Some(&marker), standing.current())?;
            let inside = inside(&bucket.value, &at.key);
            if self.first_in(inside.clone()).await?.is_some() {
                return Err(Error::NotEmpty);
            }
            if standing.head.is_none() {
                return Err(self.missing(cx, &bucket.value, &at.key, Missing::Key(at.key.clone())));
            }
            let mut plan = Plan::new(&bucket);
            plan.wait = wait;
            plan.may_use_reserve = true;
            plan.checks.push(Check::RangeEmpty(inside.start, inside.end.unwrap_or_default()));
            plan.delete(&marker, &standing, self.new_marker(cx));
            self.keep_dir(cx, &bucket, &mut plan, &at.key, within(&bucket.value, at.key.as_str())).await?;
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(()),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Changes a directory's attributes, on its marker, which is made where it has none.
    ///
    /// # Errors
    /// As [`Store::set_attributes`].
    pub async fn set_dir_attributes(
        &self,
        cx: &Cx,
        at: &At,
        change: &AttributeChange,
        wait: Wait,
    ) -> Result<Version> {
        let marker = At { bucket: at.bucket.clone(), key: marker_of(&at.key)? };
        let note = note(cx, "SetAttributes", at);
        let mut tries = self.inner.turns.tries(Vec::new());
        let id = VersionId(self.inner.options.ids.next());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let standing = self.standing(&bucket.value, &marker.key, Need::Write).await?;
            if standing.head.is_some() {
                return self.set_attributes(cx, &marker, change, wait).await;
            }
            self.ask_write(cx, &bucket.value, &marker.key, None, false)?;
            let Some(inhabitant) = self.first_in(within(&bucket.value, at.key.as_str())).await? else {
                return Err(self.missing(cx, &bucket.value, &at.key, Missing::Key(at.key.clone())));
            };
            let mut attributes = Attributes::default();
            change.check(&attributes)?;
            change.apply(&mut attributes);
            let version = self.empty_version(cx, &bucket.value, &marker.key, id, attributes).await?;
            let mut plan = Plan::new(&bucket);
            plan.wait = wait;
            plan.checks.push(Check::Present(inhabitant));
            let version = plan.put(&marker.key, &standing, version, &[]);
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(version),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Removes an object as a file: like [`Store::delete`] of the key, but its directory stays, in the same commit.
    /// The version that was current is returned.
    ///
    /// # Errors
    /// `NotFound(Key)`, and as [`Store::delete`].
    pub async fn remove_file(&self, cx: &Cx, at: &At, wait: Wait) -> Result<Version> {
        let note = note(cx, "DeleteObject", at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let standing = self.standing(&bucket.value, &at.key, Need::Write).await?;
            let Some(current) = standing.current().cloned() else {
                return Err(self.missing(cx, &bucket.value, &at.key, Missing::Key(at.key.clone())));
            };
            self.ask(cx, Action::DeleteObject, &bucket.value, Some(&at.key), Some(&current))?;
            let mut plan = Plan::new(&bucket);
            plan.wait = wait;
            plan.may_use_reserve = true;
            plan.delete(&at.key, &standing, self.new_marker(cx));
            let row = keys::head(bucket.value.id, &at.key);
            let alone = Range { end: Some([row.as_ref(), &[0]].concat().into()), start: row };
            self.keep_dir(cx, &bucket, &mut plan, &at.key, alone).await?;
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(current),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Plans that the directory of `key` stays when the rows `going` go: something else in it does, or it gets a
    /// marker.
    pub(crate) async fn keep_dir(
        &self,
        cx: &Cx,
        bucket: &Placed<Bucket>,
        plan: &mut Plan,
        key: &ObjectKey,
        going: Range,
    ) -> Result<()> {
        let Some(parent) = parent_of(key) else { return Ok(()) };
        let all = within(&bucket.value, parent);
        let before = Range { start: all.start, end: Some(going.start) };
        let after = Range { start: going.end.unwrap_or_default(), end: all.end };
        let stays = match self.first_in(before).await? {
            None if !after.start.is_empty() => self.first_in(after).await?,
            stays => stays,
        };
        if let Some(stays) = stays {
            plan.checks.push(Check::Present(stays));
            return Ok(());
        }
        let marker: ObjectKey = format!("{parent}/").parse()?;
        let standing = self.standing(&bucket.value, &marker, Need::Write).await?;
        let id = VersionId(self.inner.options.ids.next());
        let version = self.empty_version(cx, &bucket.value, &marker, id, Attributes::default()).await?;
        plan.put(&marker, &standing, version, &[]);
        Ok(())
    }

    /// Holds while a directory that something is put into is there; `None`: it is the root.
    ///
    /// # Errors
    /// `NotFound(Key)` when it is not.
    pub(crate) async fn dir_check(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        dir: Option<&str>,
    ) -> Result<Option<Check>> {
        let Some(dir) = dir else { return Ok(None) };
        let marker = keys::head_prefix(bucket.id, &format!("{dir}/"));
        if self.inner.kv().get(&marker).await?.is_some() {
            return Ok(Some(Check::Present(marker)));
        }
        if let Some(inhabitant) = self.first_in(within(bucket, dir)).await? {
            return Ok(Some(Check::Present(inhabitant)));
        }
        let key: ObjectKey = dir.parse()?;
        Err(self.missing(cx, bucket, &key, Missing::Key(key.clone())))
    }

    /// The first row of a range.
    pub(crate) async fn first_in(&self, range: Range) -> Result<Option<bytes::Bytes>> {
        let rows = self.inner.kv().rows(Scan::forward(range).keys_only(), 1).await?;
        Ok(rows.into_iter().next().map(|(row, _)| row))
    }

    /// The record of an object without bytes.
    pub(crate) async fn empty_version(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        key: &ObjectKey,
        id: VersionId,
        attributes: Attributes,
    ) -> Result<Version> {
        let digests = hasher::digest(&Wanted::default(), b"");
        let user = cx.principal.user();
        let mut version = Version {
            id,
            is_null: false,
            sequence: 0,
            ino: 0,
            ids: ObjectIds::default(),
            owner: user,
            organisation: crate::commit::counts_for(cx, bucket, key),
            writer: user,
            size_bytes: 0,
            modified_ms: self.now_ms(),
            etag: ETag::of_sha256(&digests.sha256),
            sha256: Digest::Known(digests.sha256),
            crc64nvme: Some(digests.crc64nvme),
            checksums: Vec::new(),
            sniffed_type: None,
            attributes,
            manifest: Manifest::Inline(Vec::new()),
            parts: None,
            unknown: Vec::new(),
        };
        let identity: Identity = self.identity_at(bucket, key, None).await?;
        version.take_identity(bucket, key, identity);
        check_size(&version)?;
        Ok(version)
    }
}

/// An object without bytes to be made.
struct NewName<'a> {
    /// Its key.
    key: &'a ObjectKey,
    /// The name that nothing may have, without a trailing `/`.
    name: &'a ObjectKey,
    attributes: Attributes,
    wait: Wait,
}

/// The key of a directory's marker.
pub(crate) fn marker_of(dir: &ObjectKey) -> Result<ObjectKey> {
    format!("{dir}/").parse()
}

/// The directory that a name is in; `None`: the root.
pub(crate) fn parent_of(name: &ObjectKey) -> Option<&str> {
    name.as_str().rsplit_once('/').map(|(parent, _)| parent)
}

/// The rows of everything in a directory and of its marker.
pub(crate) fn within(bucket: &Bucket, dir: &str) -> Range {
    Range::prefix(keys::head_prefix(bucket.id, &format!("{dir}/")))
}

/// The rows of everything in a directory, without its marker.
pub(crate) fn inside(bucket: &Bucket, dir: &ObjectKey) -> Range {
    let within = within(bucket, dir.as_str());
    Range { start: [within.start.as_ref(), &[0]].concat().into(), end: within.end }
}

#[cfg(test)]
mod tests;
