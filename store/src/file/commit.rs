//! Making an open file's working copy the object's content: store what is dirty, then one commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use coffre_kv::Check;

use super::content::{Content, EXTENTS_MAX};
use super::pieces::Pieces;
use super::{Expect, OpenFile, Session, Writer};
use crate::attributes::AttributeChange;
use crate::codec::keys;
use crate::commit::{Committed, Need, Turn, check_size, note};
use crate::digest::ETag;
use crate::error::{Error, Result};
use crate::multipart::page_writes;
use crate::name::{UploadId, VersionId};
use crate::object::{At, Bucket, Digest, Extent, Identity, Manifest, ObjectIds, Version};
use crate::plan::{Placed, Plan, Standing};
use crate::sniff::{SNIFF_BYTES, sniff};
use crate::{Cx, Wait};

/// Extents of one manifest page (design §2.3).
const PAGE_EXTENTS: u32 = 1_000;

/// What a commit makes of the record that stands at the key.
struct Change<'a> {
    /// `None`: the bytes are those that were committed last.
    content: Option<&'a Content>,
    attributes: &'a AttributeChange,
    /// By the first bytes.
    sniffed_type: Option<String>,
    /// Names the manifest's pages, when the extents need any.
    manifest: UploadId,
}

/// A plan and what it makes current.
struct Planned {
    plan: Plan,
    version: Version,
}

impl OpenFile {
    /// Makes the working copy the object's content at `at`, whole, and goes on from there. `Wait::Ordered` (close)
    /// survives `kill -9` and is durable within a second; `Wait::Durable` (fsync) is durable on return. Costs the
    /// bytes written since the last commit. Does nothing but wait for durability when nothing is dirty.
    ///
    /// The first commit makes a new version; further ones of the same open file change that version in place while
    /// it is current (it gets a new ETag each time), so a history has one version for each open–close, not one for
    /// each fsync. Attributes are those the object has by then with the changes made here. The ETag is made of the
    /// SHA-256 where that is known, else it is an id drawn for this commit (contract D40).
    ///
    /// # Errors
    /// `Denied`, `Hidden`, `NotFound(Bucket)`, `Precondition` ([`Expect`]), `QuotaExceeded`, `NoSpace`, `Stopped`.
    /// The working copy is as it was.
    pub async fn commit(&self, cx: &Cx, at: &At, expect: Expect, wait: Wait) -> Result<Version> {
        let mut writer = self.writer.lock().await;
        let begun = self.begin_commit();
        let (changes, has_new_content) = match begun {
            Ok(dirty) => dirty,
            Err((version, committed)) => {
                self.settle_durable(committed, wait).await?;
                return Ok(*version);
            }
        };
        // on the heap: whoever holds the future of a commit should not carry all of its steps about
        let done =
            Box::pin(self.try_commit(cx, at, (expect, wait), &mut writer, (&changes, has_new_content)));
        let done = done.await;
        self.end_commit(done.is_ok());
        done
    }

    fn end_commit(&self, is_done: bool) {
        let mut state = self.state();
        state.is_committing = false;
        let later = std::mem::take(&mut state.later);
        if is_done {
            state.changes = later;
        } else {
            state.changes.then(later);
        }
    }

    /// What there is to commit: changed attributes, and whether the bytes are others. `Err`: nothing; the version and
    /// where its commit stands.
    fn begin_commit(&self) -> Result<(AttributeChange, bool), (Box<Version>, Option<coffre_kv::Position>)> {
        let mut state = self.state();
        if let (Some(version), false) = (&state.version, state.is_dirty()) {
            return Err((Box::new(version.clone()), state.committed));
        }
        // what a commit that was dropped in the middle left
        let later = std::mem::take(&mut state.later);
        state.changes.then(later);
        state.is_committing = true;
        Ok((state.changes.clone(), state.has_new_content))
    }

    /// Waits until the last commit is durable.
    async fn settle_durable(&self, committed: Option<coffre_kv::Position>, wait: Wait) -> Result<()> {
        if wait == Wait::Ordered {
            return Ok(());
        }
        let durable = self.store.inner.kv().stats().durable;
        if committed.is_some_and(|committed| committed <= durable) {
            return Ok(());
        }
        self.store.sync().await
    }

    async fn try_commit(
        &self,
        cx: &Cx,
        at: &At,
        (expect, wait): (Expect, Wait),
        writer: &mut Writer,
        (changes, has_new_content): (&AttributeChange, bool),
    ) -> Result<Version> {
        if writer.is_broken {
            return Err(Error::Stopped);
        }
        let ids = &self.store.inner.options.ids;
        let head =
            if has_new_content { self.read(0..SNIFF_BYTES as u64).await? } else { bytes::Bytes::new() };
        // from here on what fails gives the draft back
        let mut content = if has_new_content { Some(self.make_content(writer).await?) } else { None };
        let change = Change {
            content: content.as_ref(),
            attributes: changes,
            sniffed_type: sniff(&head, at.key.as_str()).map(str::to_owned),
            manifest: UploadId(ids.next()),
        };
        // What is made known is pinned before it is: a sweep without grace may come right after the commit.
        let pieces = content.as_ref().map(|content| Pieces::stored(content.extents.iter().cloned()));
        let pins = match &pieces {
            Some(pieces) => Some(self.store.pin(pieces).await),
            None => None,
        };
        let done = self.commit_change(cx, at, (expect, wait), writer, &change).await;
        let published = content.as_ref().and_then(|content| content.draft);
        let staged = content.as_mut().map(|content| std::mem::take(&mut content.staged)).unwrap_or_default();
        let (version, committed) = match done {
            Ok(done) => done,
            Err(error) => {
                if published.is_some() {
                    self.recover(writer, &error).await;
                }
                if !error.leaves_doubt() {
                    for staged in staged {
                        staged.settle(false);
                    }
                }
                return Err(error);
            }
        };
        for staged in staged {
            let used = committed.refs.used(&staged.blob());
            staged.settle(used);
        }
        {
            let mut state = self.state();
            if let (Some(pieces), Some(pins)) = (pieces, pins) {
                state.pieces = pieces;
                state.pins = Arc::new(pins);
                state.draft = None;
                state.has_new_content = false;
            }
            state.ino = version.ino;
            state.version = Some(version.clone());
            state.committed = Some(committed.position);
        }
        if has_new_content && let Some(draft) = writer.draft.take() {
            draft.settle(published.is_some_and(|blob| committed.refs.used(&blob)));
        }
        Ok(version)
    }

    /// The draft was published for a commit that failed.
    async fn recover(&self, writer: &mut Writer, error: &Error) {
        let Some(draft) = writer.draft.as_mut() else { return };
        // who does not know whether a row names the file must not write to it again
        writer.is_broken |= error.leaves_doubt() || draft.take_back().await.is_err();
    }

    /// The commit, decided again as often as it takes.
    async fn commit_change(
        &self,
        cx: &Cx,
        at: &At,
        (expect, wait): (Expect, Wait),
        writer: &mut Writer,
        change: &Change<'_>,
    ) -> Result<(Version, Committed)> {
        let store = &self.store;
        let note = note(cx, "PutObject", at);
        let id = VersionId(store.inner.options.ids.next());
        let mut session = None;
        let mut tries = store.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = store.find_bucket(&at.bucket).await?;
            let standing = store.standing(&bucket.value, &at.key, Need::Write).await?;
            let has_tags = change.attributes.tags.is_some();
            store.ask_write(cx, &bucket.value, &at.key, standing.current(), has_tags)?;
            if expect == Expect::Unchanged {
                let known = self.state().version.as_ref().map(|version| version.id);
                if standing.current().map(|current| current.id) != known {
                    return Err(Error::Precondition { condition: "If-Match" });
                }
            }
            let session_id = writer.session.as_ref().map(|session| session.id);
            let mine = standing.head.as_ref().filter(|head| Some(head.value.id) == session_id);
            if mine.is_none() && change.content.is_some() {
                // before anybody can see it: the background is to leave the version alone while it is open
                session.get_or_insert_with(|| Session::begin(store, id));
            }
            let mut planned = match mine {
                Some(head) => self.plan_same(&bucket, at, head, change)?,
                None => self.plan_new(cx, &bucket, at, &standing, (id, change)).await?,
            };
            planned.plan.wait = wait;
            if standing.head.is_none() {
                planned.plan.checks.extend(store.parent_check(&bucket.value, &at.key).await?);
            }
            match store.commit(&at.bucket, planned.plan, Some(&note)).await? {
                Turn::Done(committed) => {
                    if planned.version.id == id {
                        writer.session = session;
                    }
                    return Ok((planned.version, committed));
                }
                // a blob that is referred to has gone although it is pinned
                Turn::Lost(row) if row.is_empty() => return Err(Error::Busy),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Another record of the version that this open file has made.
    fn plan_same(
        &self,
        bucket: &Placed<Bucket>,
        at: &At,
        head: &Placed<Version>,
        change: &Change<'_>,
    ) -> Result<Planned> {
        let mut version = head.value.clone();
        let mut plan = Plan::new(bucket);
        let fresh = change.manifest.0;
        self.fill(&mut version, change, fresh, &mut plan);
        check_size(&version)?;
        let blobs = change.content.map(|content| content.blobs.as_slice()).unwrap_or_default();
        plan.replace(&at.key, head, &version, true, blobs);
        Ok(Planned { plan, version })
    }

    /// A new version, or, when only attributes changed, another record of what stands there.
    async fn plan_new(
        &self,
        cx: &Cx,
        bucket: &Placed<Bucket>,
        at: &At,
        standing: &Standing,
        (id, change): (VersionId, &Change<'_>),
    ) -> Result<Planned> {
        let mut plan = Plan::new(bucket);
        if let (None, Some(head)) = (change.content, &standing.head) {
            let mut version = head.value.clone();
            change.attributes.apply(&mut version.attributes);
            check_size(&version)?;
            plan.replace(&at.key, head, &version, true, &[]);
            return Ok(Planned { plan, version });
        }
        let Some(content) = change.content else {
            // only attributes changed and somebody has deleted it: there is nothing to change
            return Err(Error::no_key(&at.key));
        };
        let current = standing.current();
        let mut version = self.new_version(cx, id, current);
        self.fill(&mut version, change, id.0, &mut plan);
        if current.is_some() {
            self.store.settle_in(&bucket.value, &at.key, current, &mut version).await?;
        } else {
            let drawn = Identity { ino: self.ino(), filing: None };
            let identity = self.store.identity_at(&bucket.value, &at.key, Some(drawn)).await?;
            version.take_identity(&bucket.value, &at.key, identity);
            version.organisation = crate::commit::counts_for(cx, &bucket.value, &at.key);
        }
        check_size(&version)?;
        let version = plan.put(&at.key, standing, version, &content.blobs);
        Ok(Planned { plan, version })
    }

    /// The record of a new version with the attributes of the one it follows.
    fn new_version(&self, cx: &Cx, id: VersionId, current: Option<&Version>) -> Version {
        let state = self.state();
        let known = state.version.as_ref();
        let mine = known.map_or(&state.initial, |version| &version.attributes);
        let mut attributes = current.map_or(mine, |current| &current.attributes).clone();
        if attributes.posix.is_none() {
            // what another door put there has none: the file stays the one that is open
            attributes.posix.clone_from(&mine.posix);
        }
        let user = cx.principal.user();
        Version {
            id,
            is_null: false,
            sequence: 0,
            ino: state.ino,
            ids: ObjectIds::default(),
            owner: current.or(known).map_or(user, |version| version.owner),
            organisation: current.or(known).map_or(cx.principal.organisation, |version| version.organisation),
            writer: user,
            size_bytes: 0,
            modified_ms: 0,
            etag: ETag::parse(""),
            sha256: Digest::Pending,
            crc64nvme: None,
            checksums: Vec::new(),
            sniffed_type: None,
            attributes,
            manifest: Manifest::Inline(Vec::new()),
            parts: None,
            unknown: Vec::new(),
        }
    }

    /// Gives a record the change's content and attributes. `fresh` names the content where its digest is not known.
    fn fill(&self, version: &mut Version, change: &Change<'_>, fresh: [u8; 16], plan: &mut Plan) {
        change.attributes.apply(&mut version.attributes);
        let Some(content) = change.content else { return };
        version.size_bytes = content.size_bytes;
        version.modified_ms = self.store.now_ms();
        version.sha256 = content.sha256;
        version.crc64nvme = content.crc64nvme;
        version.checksums = Vec::new();
        version.parts = None;
        version.sniffed_type.clone_from(&change.sniffed_type);
        version.etag = match &content.sha256 {
            Digest::Known(sha256) => ETag::of_sha256(sha256),
            Digest::Pending => ETag::parse(&format!("{}-1", hex::encode(fresh))),
        };
        plan.writes.extend(content.stretches.iter().cloned());
        version.manifest = if content.extents.len() <= EXTENTS_MAX {
            Manifest::Inline(content.extents.clone())
        } else {
            plan_pages(plan, change.manifest, content)
        };
    }
}

/// Plans the pages of a manifest of its own.
fn plan_pages(plan: &mut Plan, id: UploadId, content: &Content) -> Manifest {
    plan.checks.push(Check::Absent(keys::manifest_page(id, 0)));
    plan.writes.extend(page_writes(id, &content.extents));
    for blob in content.extents.iter().map(|extent: &Extent| extent.blob).collect::<BTreeSet<_>>() {
        let new = content.blobs.iter().find(|(new, _)| *new == blob).map(|(_, new)| new.clone());
        plan.refs.add(blob, id.0, new);
    }
    let pages = u32::try_from(content.extents.len()).unwrap_or(u32::MAX).div_ceil(PAGE_EXTENTS);
    Manifest::Paged { id, pages }
}

impl crate::Store {
    /// Holds while the directory that a new key comes to is still there, if it has a marker.
    pub(crate) async fn parent_check(
        &self,
        bucket: &Bucket,
        key: &crate::ObjectKey,
    ) -> Result<Option<Check>> {
        let Some((parent, _)) = key.as_str().trim_end_matches('/').rsplit_once('/') else { return Ok(None) };
        let marker = keys::head_prefix(bucket.id, &format!("{parent}/"));
        Ok(self.inner.kv().get(&marker).await?.map(|_| Check::Present(marker)))
    }
}
