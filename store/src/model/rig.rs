//! A store on the model engine and the model disk, that can lose power; and its contents in the model's words.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use coffre_disk::Disk;
use coffre_disk::power::PowerDisk;
use coffre_kv::memory::Memory;
use coffre_kv::{Check, Kv, KvExt, Range, Scan};
use futures_util::TryStreamExt;

use super::naive::{BUCKETS, Content, Entry, Filled, IdsOf, Naive, Op, Spot, tags};
use crate::bucket::Setting;
use crate::codec::keys;
use crate::codec::object::{decode_history, decode_version};
use crate::condition::{Conditions, ETagCondition};
use crate::copy::CopyObject;
use crate::delete::{DeleteObject, DeleteOne};
use crate::file::{Access, Expect, OpenFile};
use crate::filing::FileChange;
use crate::get::GetObject;
use crate::multipart::{CompletePart, CompleteUpload, CreateUpload, PutPart};
use crate::name::{PartNumber, UploadId};
use crate::object::{
    At, Attributes, Bucket, BuiltInNames, Circumstances, Door, HistoryEntry, Principal, Version,
};
use crate::put::{Claims, PutObject};
use crate::rename::Replace;
use crate::resumable::{Append, Concatenate, CreateResumable};
use crate::{
    Action, Ask, Authority, Clock, Cx, Decision, Error, Growth, Ids, Options, QuotaGate, Result, Store,
    VersionId, VersionRef, Wait, usage,
};

/// Largest inline blob of these tests.
const INLINE_MAX: u64 = 64;
/// What each owner may store in these tests.
pub(super) const QUOTA_BYTES: i64 = 20_000;
/// How long a resumable upload of these tests lives: some expire while sweeps move the clock.
const LIVES_MS: u64 = 3_000;
/// Grace of these tests.
const GRACE_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Hands(AtomicU64);

impl Hands {
    pub(super) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ids that no other opening gives out, and that do not sort by age, as no code may rely on it.
#[derive(Debug)]
struct Scattered(AtomicU64);

impl Ids for Scattered {
    fn next(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let scattered = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (u128::from(scattered) << 64 | u128::from(n)).to_be_bytes()
    }
}

/// Allows everything but what a test forbids.
#[derive(Debug, Default)]
pub(super) struct Forbidden(std::sync::Mutex<Vec<(Action, Decision)>>);

impl Forbidden {
    pub(super) fn set(&self, answers: &[(Action, Decision)]) {
        *self.0.lock().unwrap() = answers.to_vec();
    }
}

impl Authority for Forbidden {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        let answers = self.0.lock().unwrap();
        answers.iter().find(|(action, _)| *action == ask.action).map_or(Decision::Allow, |(_, d)| *d)
    }
}

/// So many bytes for each owner.
#[derive(Debug)]
struct Ceiling(Arc<Memory>);

#[async_trait::async_trait]
impl QuotaGate for Ceiling {
    async fn checks(&self, growth: &[Growth]) -> Result<Vec<Check>> {
        let owners = growth.iter().filter(|growth| matches!(growth.of, usage::Of::Owner(_)));
        let check = |growth: &Growth| {
            Check::AtMost(usage::counter(usage::Measure::Bytes, &growth.of), QUOTA_BYTES - growth.bytes)
        };
        crate::sample::hold(&*self.0, owners.map(check).collect()).await
    }
}

pub(super) struct Rig {
    pub(super) forbidden: Arc<Forbidden>,
    pub(super) kv: Arc<Memory>,
    disk: PowerDisk,
    pub(super) clock: Arc<Hands>,
    ids: Arc<Scattered>,
}

/// What a store shows.
pub(super) struct Shown {
    pub(super) naive: Naive,
    pub(super) ids: IdsOf,
}

impl Rig {
    pub(super) fn new(seed: u64) -> Self {
        let disk = PowerDisk::new();
        // who opens a store gives it a directory that is there to stay
        disk.create_dir_all("/store".as_ref()).unwrap();
        disk.sync_all();
        Self {
            forbidden: Arc::default(),
            kv: Arc::new(Memory::new()),
            disk,
            clock: Arc::new(Hands(AtomicU64::new(1_000_000))),
            ids: Arc::new(Scattered(AtomicU64::new(seed << 20))),
        }
    }

    pub(super) async fn open(&self) -> Store {
        self.open_on(Arc::clone(&self.kv) as _).await
    }

    /// Opens the store with another view of the rows.
    pub(super) async fn open_on(&self, kv: Arc<dyn Kv>) -> Store {
        let store = Store::open(Options {
            kv,
            disk: Arc::new(self.disk.clone()),
            dir: "/store".into(),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            authority: Arc::clone(&self.forbidden) as _,
            quota: Arc::new(Ceiling(Arc::clone(&self.kv))),
            inline_max: INLINE_MAX,
            grace_ms: GRACE_MS,
            reserve_bytes: 0,
            direct_io: false,
            built_in: BuiltInNames::default(),
        });
        store.await.unwrap()
    }

    pub(super) async fn make_buckets(&self, store: &Store) {
        for (bucket, _) in BUCKETS.iter().filter(|(name, _)| *name != "files") {
            store.create_bucket(&cx(), bucket.parse().unwrap(), None).await.unwrap();
        }
    }

    /// The process dies and the disk forgets what was not synced. The rows are kept: each of them was durable.
    pub(super) async fn cut(&mut self, store: Store, seed: u64) {
        store.inner.background.kill().await;
        drop(store);
        self.disk = self.disk.cut(seed);
    }

    /// Does it, or drops it after so many polls: `None`.
    pub(super) async fn perform(&self, store: &Store, op: &Op, polls: Option<u64>) -> Option<Result<()>> {
        let work = pin!(perform(store, op));
        match polls {
            None => Some(work.await),
            Some(polls) => polled(work, polls).await,
        }
    }

    /// A key's entries, oldest first.
    async fn entries(&self, bucket: &Bucket, at: Spot) -> Vec<HistoryEntry> {
        let key = place(at).key;
        let mut entries = Vec::new();
        let scan = Scan::backward(Range::prefix(keys::versions(bucket.id, &key)));
        for (_, row) in self.kv.rows(scan, usize::MAX).await.unwrap() {
            entries.push(decode_history(&row.value).unwrap());
        }
        if let Some(row) = self.kv.get(&keys::head(bucket.id, &key)).await.unwrap() {
            entries.push(HistoryEntry::Version(Box::new(decode_version(&row.value).unwrap())));
        }
        entries
    }

    /// The ids of a key's entries.
    pub(super) async fn ids_at(&self, bucket: &Bucket, at: Spot) -> Vec<VersionId> {
        self.entries(bucket, at).await.iter().map(HistoryEntry::id).collect()
    }

    /// All entries of all keys, with their bytes.
    pub(super) async fn dump(&self, store: &Store) -> Result<Shown, String> {
        let mut shown = Shown { naive: Naive::default(), ids: BTreeMap::new() };
        let (mut inodes, mut serials) = (BTreeMap::new(), BTreeMap::new());
        for (b, (bucket, spots)) in BUCKETS.iter().enumerate() {
            let bucket = store.find_bucket(&bucket.parse().unwrap()).await.unwrap().value;
            if bucket.versioning != crate::object::Versioning::Off {
                shown.naive.versioning.insert(b, bucket.versioning);
            }
            for (k, _) in spots.iter().enumerate() {
                let at = (b, k);
                let entries = self.entries(&bucket, at).await;
                if let Some(HistoryEntry::Version(current)) = entries.last() {
                    let serial = current.ids.filing.and_then(|serial| serials.insert(serial, at));
                    if let Some(other) = inodes.insert(current.ino, at).or(serial) {
                        return Err(format!("{at:?} and {other:?} are one file"));
                    }
                }
                let mut history = Vec::new();
                for entry in &entries {
                    let content = match entry {
                        HistoryEntry::DeleteMarker(_) => None,
                        HistoryEntry::Version(version) => Some(content(store, at, version).await?),
                    };
                    history.push(Entry { is_null: entry.is_null(), content });
                }
                if !history.is_empty() {
                    shown.naive.histories.insert(at, history);
                    shown.ids.insert(at, entries.iter().map(HistoryEntry::id).collect());
                }
            }
        }
        Ok(shown)
    }
}

async fn content(store: &Store, at: Spot, version: &Version) -> Result<Content, String> {
    let get = GetObject {
        at: place(at),
        version: Some(VersionRef::Id(version.id)),
        conditions: Conditions::default(),
        range: None,
    };
    let (found, bytes) = store.get(&cx(), get).await.map_err(|error| format!("{at:?}: {error:?}"))?;
    let pieces: Vec<_> = bytes.try_collect().await.map_err(|error| format!("{at:?}: {error:?}"))?;
    Ok(Content { bytes: pieces.concat().into(), tags: found.version.attributes.tags })
}

/// Polls so many times, then lets go.
async fn polled<F: Future>(mut work: Pin<&mut F>, mut polls: u64) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

pub(super) fn cx() -> Cx {
    Cx {
        principal: Arc::new(Principal::system()),
        door: Door::S3,
        request_id: "test".into(),
        now_ms: 0,
        circumstances: Arc::new(Circumstances::default()),
    }
}

pub(super) fn place((bucket, key): Spot) -> At {
    let (bucket, keys) = BUCKETS[bucket];
    At { bucket: bucket.parse().unwrap(), key: keys[key].parse().unwrap() }
}

pub(super) async fn perform(store: &Store, op: &Op) -> Result<()> {
    let cx = &cx();
    let none = Conditions::default;
    match op.clone() {
        Op::Put { at, bytes, is_new_only } => {
            let if_none_match = is_new_only.then_some(ETagCondition::Any);
            let size_bytes = Some(bytes.len as u64);
            let body = futures_util::stream::once(async move { Ok(bytes.bytes()) });
            let put = PutObject {
                at: place(at),
                attributes: Attributes::default(),
                body: Box::pin(body),
                size_bytes,
                claims: Claims::default(),
                conditions: Conditions { if_none_match, ..none() },
            };
            store.put(cx, put).await.map(drop)
        }
        Op::Delete { at } => delete(store, at, None).await,
        Op::DeleteVersion { at, id, .. } => delete(store, at, Some(VersionRef::Id(id))).await,
        Op::DeleteNull { at } => delete(store, at, Some(VersionRef::Null)).await,
        Op::DeleteMany { ats } => {
            let Some(first) = ats.first() else { return Ok(()) };
            let bucket = place(*first).bucket;
            let one = |at| DeleteOne { key: place(at).key, version: None, conditions: none() };
            let answers = store.delete_many(cx, &bucket, ats.into_iter().map(one).collect()).await?;
            answers.into_iter().try_for_each(|answer| answer.map(drop))
        }
        Op::Copy { from, to } => {
            let copy = CopyObject {
                source: place(from),
                source_version: None,
                source_conditions: none(),
                target: place(to),
                target_conditions: none(),
                attributes: None,
                tags: None,
                compute: None,
            };
            store.copy(cx, copy).await.map(drop)
        }
        Op::Rename { from, to } => store.rename(cx, place(from), place(to).key, Replace::Yes).await.map(drop),
        Op::Tags { at, value } => store.set_tags(cx, place(at), None, tags(&value)).await.map(drop),
        Op::TagsOfVersion { at, id, value, .. } => {
            store.set_tags(cx, place(at), Some(VersionRef::Id(id)), tags(&value)).await.map(drop)
        }
        Op::SetVersioning { bucket, versioning } => {
            let name = BUCKETS[bucket].0.parse().unwrap();
            store.set_bucket(cx, &name, Setting::Versioning(versioning)).await.map(drop)
        }
        Op::Upload { at, parts } => {
            let (upload, parts) = begin(store, at, parts).await?;
            let complete = CompleteUpload {
                at: place(at),
                upload,
                parts,
                claim: None,
                size_bytes: None,
                conditions: none(),
            };
            store.complete_upload(cx, complete).await.map(drop)
        }
        Op::Begin { at, bytes, is_aborted } => {
            let (upload, _) = begin(store, at, vec![bytes]).await?;
            if is_aborted { store.abort_upload(cx, place(at), upload).await } else { Ok(()) }
        }
        Op::Resume { at, pieces } => resume(store, at, &pieces, 0, false).await.map(drop),
        Op::Leave { at, pieces, is_given_up } => {
            let upload = resume(store, at, &pieces, 1, false).await?;
            if is_given_up { store.terminate_resumable(cx, upload).await } else { Ok(()) }
        }
        Op::Compose { at, pieces } => compose(store, at, pieces).await,
        Op::Edit { at, offset, bytes } => edit(store, at, offset, bytes).await.map(drop),
        Op::EditTwice { at, offset, bytes } => {
            let file = edit(store, at, offset, bytes).await?;
            if bytes.len == 0 {
                return Ok(());
            }
            file.append(&bytes.bytes(), 2).await?;
            file.commit(cx, &place(at), Expect::Unchanged, Wait::Durable).await.map(drop)
        }
        Op::DeleteFile { at } => match serial(store, at).await? {
            Some(serial) => store.delete_file(cx, serial).await.map(drop),
            None => Ok(()),
        },
        Op::Label { at, value } => match serial(store, at).await? {
            Some(serial) => {
                let change = FileChange { label: Some(value), ..FileChange::default() };
                store.change_file(cx, serial, &change).await.map(drop)
            }
            None => Ok(()),
        },
        Op::Extend { .. } | Op::Sweep | Op::Crash => Ok(()),
    }
}

/// Composes an object of pieces.
async fn compose(store: &Store, at: Spot, pieces: Vec<Filled>) -> Result<()> {
    let mut partials = Vec::new();
    for piece in pieces {
        partials.push(resume(store, at, &[piece], 0, true).await?);
    }
    let concatenate = Concatenate {
        at: place(at),
        attributes: Attributes::default(),
        said: String::new(),
        partials,
        length_max: u64::MAX,
        lives_ms: LIVES_MS,
    };
    store.concatenate(&cx(), concatenate).await.map(drop)
}

/// The number of the file at a key; `None`: it is none of filing's. (One that has left the scheme keeps its number.)
async fn serial(store: &Store, at: Spot) -> Result<Option<u64>> {
    let at = place(at);
    if crate::scheme::Place::parse(crate::object::BuiltIn::Filing, &at.key).is_none() {
        return Ok(None);
    }
    let get = GetObject { at, version: None, conditions: Conditions::default(), range: None };
    match store.head(&cx(), get).await {
        Ok(found) => Ok(found.version.ids.filing),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes over an object's bytes, or makes it, and commits.
async fn edit(store: &Store, at: Spot, offset: usize, bytes: Filled) -> Result<OpenFile> {
    let (cx, at) = (&cx(), place(at));
    let file = match store.open_file(cx, &at, Access::ReadWrite).await {
        Err(Error::NotFound(_)) => store.create_file(cx, &at, Attributes::default()).await?,
        other => other?,
    };
    file.write(offset as u64, &bytes.bytes(), 1).await?;
    file.commit(cx, &at, Expect::Unchanged, Wait::Ordered).await?;
    Ok(file)
}

/// A resumable upload of these pieces, a request each; `lacks` bytes are announced beyond them.
async fn resume(
    store: &Store,
    at: Spot,
    pieces: &[Filled],
    lacks: u64,
    is_partial: bool,
) -> Result<UploadId> {
    let cx = &cx();
    let length = pieces.iter().map(|piece| piece.len as u64).sum::<u64>() + lacks;
    let create = CreateResumable {
        at: place(at),
        attributes: Attributes::default(),
        said: String::new(),
        length_bytes: Some(length),
        is_partial,
        lives_ms: LIVES_MS,
    };
    let upload = store.create_resumable(cx, create).await?.id;
    let mut offset_bytes = 0;
    for bytes in pieces.iter().copied() {
        let append = Append {
            upload,
            offset_bytes,
            length_bytes: None,
            length_max: u64::MAX,
            body: Box::pin(futures_util::stream::once(async move { Ok(bytes.bytes()) })),
            size_bytes: None,
            claims: Claims::default(),
        };
        offset_bytes = store.append_resumable(cx, append).await?.offset_bytes;
    }
    Ok(upload)
}

/// Begins an upload and stores its parts.
async fn begin(store: &Store, at: Spot, parts: Vec<Filled>) -> Result<(UploadId, Vec<CompletePart>)> {
    let cx = &cx();
    let create = CreateUpload { at: place(at), attributes: Attributes::default(), checksum: None };
    let upload = store.create_upload(cx, create).await?.id;
    let mut stored = Vec::new();
    for (n, bytes) in (1..).zip(parts) {
        let number = PartNumber::try_from(n)?;
        let size_bytes = Some(bytes.len as u64);
        let body = Box::pin(futures_util::stream::once(async move { Ok(bytes.bytes()) }));
        let (at, claims) = (place(at), Claims::default());
        let part = store.put_part(cx, PutPart { at, upload, number, body, size_bytes, claims }).await?;
        stored.push(CompletePart { number, etag: part.etag, checksum: None });
    }
    Ok((upload, stored))
}

async fn delete(store: &Store, at: Spot, version: Option<VersionRef>) -> Result<()> {
    let delete = DeleteObject { at: place(at), version, conditions: Conditions::default() };
    store.delete(&cx(), delete).await.map(drop)
}
