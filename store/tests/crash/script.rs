//! What every round does, and what has to be there afterwards.

use std::collections::BTreeMap;

use coffre_disk::seed::Random;
use coffre_store::condition::{Conditions, RangeRequest};
use coffre_store::copy::CopyObject;
use coffre_store::delete::DeleteObject;
use coffre_store::file::{Access, Expect};
use coffre_store::filing::{FileChange, NewFile};
use coffre_store::get::GetObject;
use coffre_store::list::List;
use coffre_store::moves::{How, MoveName};
use coffre_store::multipart::{CompletePart, CompleteUpload, CopyPart, CreateUpload, Part, PutPart};
use coffre_store::object::{At, Attributes, BuiltIn};
use coffre_store::put::{Claims, PutObject};
use coffre_store::rename::Replace;
use coffre_store::resumable::{Append, Concatenate, CreateResumable, Kind};
use coffre_store::scheme::{Filing, Place};
use coffre_store::{ByteStream, Error, Missing, PartNumber, Result, Store, UploadId, Wait};
use futures_util::TryStreamExt;

use crate::world::{Opened, cx};

const MIB: usize = 1024 * 1024;
/// The clock of these tests stands still.
const LIVES_MS: u64 = 1;

/// One operation. Contents are numbers, sizes in bytes; keys and uploads are names.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(&'static str, u64, usize),
    Copy(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Delete(&'static str),
    Begin(&'static str),
    Part(&'static str, i64, u64, usize),
    /// From a key, its bytes from the second on.
    CopyPart(&'static str, i64, &'static str),
    Complete(&'static str),
    Abort(&'static str),
    /// A resumable upload of so many bytes.
    Resumable(&'static str, usize),
    /// Bytes at the end of one.
    Append(&'static str, u64, usize),
    GiveUp(&'static str),
    /// The same, as a piece of one.
    Piece(&'static str, usize),
    /// From two pieces.
    Compose(&'static str, [&'static str; 2]),
    /// Opened, or made, written over at an offset, and committed durably.
    Edit(&'static str, u64, usize, usize),
    /// All keys that begin with the first and a slash.
    MoveDir(&'static str, &'static str),
    /// A file comes into filing, at a key that is free.
    File(&'static str, u64, usize),
    /// It goes to another category.
    Refile(&'static str, &'static str),
    Sweep,
}

/// The script. An upload has the name of its key.
const STEPS: [Step; 70] = [
    Step::Put("a", 1, 100),
    Step::Put("b", 2, 200_000),
    Step::Put("c", 2, 200_000),
    Step::Put("b", 3, 5_000),
    Step::Copy("c", "d"),
    Step::Put("general/devis/x.txt", 4, 150_000),
    Step::Begin("m"),
    Step::Part("m", 1, 5, 5 * MIB),
    Step::Part("m", 2, 6, 5 * MIB),
    Step::Part("m", 3, 7, 300_000),
    // replaced, by a part that is longer
    Step::Part("m", 2, 8, 5 * MIB + 1),
    Step::Complete("m"),
    Step::Begin("open"),
    Step::Part("open", 1, 9, 5 * MIB),
    Step::Part("open", 2, 10, 100),
    Step::Delete("c"),
    Step::Sweep,
    Step::Begin("gone"),
    Step::Part("gone", 1, 11, 5 * MIB),
    Step::Part("gone", 2, 12, 200_000),
    Step::Abort("gone"),
    Step::Begin("n"),
    Step::Part("n", 1, 13, 5 * MIB),
    Step::CopyPart("n", 2, "m"),
    Step::CopyPart("n", 3, "d"),
    Step::Complete("n"),
    Step::Delete("m"),
    Step::Sweep,
    Step::Rename("a", "z"),
    Step::Put("d", 14, 140_000),
    Step::Rename("d", "b"),
    Step::Delete("n"),
    Step::Sweep,
    Step::Put("m", 5, 5 * MIB),
    Step::Copy("m", "m2"),
    Step::Delete("m"),
    // in the rows, over a plain blob, by a file of its own, whole, and in many pieces
    Step::Edit("edited", 15, 0, 3_000),
    Step::Edit("m2", 16, 100_000, 5_000),
    Step::Edit("m2", 17, MIB, 2 * MIB),
    Step::Edit("m2", 18, 6 * MIB, 10),
    Step::Sweep,
    Step::Edit("dir/large", 19, 0, 2 * MIB),
    Step::Edit("dir/holes", 20, 3 * MIB, 100),
    Step::Edit("dir/sub/small", 21, 7, 100),
    Step::MoveDir("dir", "moved"),
    Step::Edit("moved/large", 22, 2 * MIB, 300_000),
    Step::Sweep,
    Step::Edit("moved/large", 23, 0, 3 * MIB),
    Step::Resumable("general/devis/whole", 2 * MIB),
    Step::Append("general/devis/whole", 24, MIB + 7),
    Step::Resumable("general/devis/goes-on", 600_000),
    Step::Append("general/devis/goes-on", 25, 100),
    Step::Append("general/devis/goes-on", 26, 200_000),
    Step::Sweep,
    Step::Append("general/devis/whole", 27, MIB - 7),
    Step::Resumable("general/devis/again", 150_000),
    // bytes that are stored already
    Step::Append("general/devis/again", 4, 150_000),
    Step::Resumable("general/devis/little", 1_000),
    Step::Append("general/devis/little", 28, 1_000),
    Step::Resumable("general/devis/given-up", 400_000),
    Step::Append("general/devis/given-up", 29, 300_000),
    Step::GiveUp("general/devis/given-up"),
    Step::Piece("general/devis/piece-1", 200_000),
    Step::Append("general/devis/piece-1", 30, 200_000),
    Step::Piece("general/devis/piece-2", 50),
    Step::Append("general/devis/piece-2", 31, 50),
    Step::Compose("general/devis/composed", ["general/devis/piece-1", "general/devis/piece-2"]),
    Step::File("general/facture/invoice.bin", 32, 150_000),
    Step::Refile("general/facture/invoice.bin", "general/contrat/invoice.bin"),
    Step::Sweep,
];

/// What is there: objects with their bytes, and parts of uploads that are not complete.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<i64, Vec<u8>>>,
    /// Resumable uploads and pieces that have not become an object.
    resumables: BTreeMap<String, Vec<u8>>,
}

pub(crate) struct Script {
    seed: u64,
    /// What was acknowledged.
    acknowledged: Expected,
    /// What was acknowledged with the step that failed, which may have happened.
    doubtful: Option<(Step, Expected)>,
    uploads: BTreeMap<&'static str, UploadId>,
    resumables: BTreeMap<&'static str, UploadId>,
}

fn at(key: &str) -> At {
    let bucket = if key.starts_with("general/") { "files" } else { "bucket" };
    At { bucket: bucket.parse().unwrap(), key: key.parse().unwrap() }
}

fn body(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(MIB).map(|piece| Ok(piece.to_vec().into())).collect();
    Box::pin(futures_util::stream::iter(pieces))
}

fn number(n: i64) -> PartNumber {
    PartNumber::try_from(n).unwrap()
}

/// The bytes that a step copies from an object.
fn copied(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().skip(1).copied().collect()
}

impl Expected {
    /// What is there once a step has happened.
    fn after(&self, step: Step, content: impl Fn(u64, usize) -> Vec<u8>) -> Self {
        let mut next = self.clone();
        let get = |key: &str| self.objects.get(key).cloned().unwrap_or_default();
        match step {
            Step::Put(key, n, len) | Step::File(key, n, len) => {
                next.objects.insert(key.into(), content(n, len));
            }
            Step::Copy(from, to) => {
                next.objects.insert(to.into(), get(from));
            }
            Step::Rename(from, to) | Step::Refile(from, to) => {
                next.objects.insert(to.into(), get(from));
                next.objects.remove(from);
            }
            Step::Delete(key) => {
                next.objects.remove(key);
            }
            Step::Begin(key) => {
                next.uploads.insert(key.into(), BTreeMap::new());
            }
            Step::Part(key, number, n, len) => {
                next.uploads.entry(key.into()).or_default().insert(number, content(n, len));
            }
            Step::CopyPart(key, number, from) => {
                next.uploads.entry(key.into()).or_default().insert(number, copied(&get(from)));
            }
            Step::Complete(key) => {
                let parts = next.uploads.remove(key).unwrap_or_default();
                next.objects.insert(key.into(), parts.into_values().flatten().collect());
            }
            Step::Abort(key) => {
                next.uploads.remove(key);
            }
            Step::Resumable(key, _) | Step::Piece(key, _) => {
                next.resumables.insert(key.into(), Vec::new());
            }
            Step::Append(key, n, len) => {
                let bytes = next.resumables.entry(key.into()).or_default();
                bytes.extend(content(n, len));
                if bytes.len() == length_of(key) && !key.contains("piece") {
                    let bytes = next.resumables.remove(key).unwrap_or_default();
                    next.objects.insert(key.into(), bytes);
                }
            }
            Step::GiveUp(key) => {
                next.resumables.remove(key);
            }
            Step::Compose(key, pieces) => {
                let bytes = pieces.iter().filter_map(|piece| next.resumables.remove(*piece)).flatten();
                let bytes = bytes.collect();
                next.objects.insert(key.into(), bytes);
            }
            Step::Edit(key, n, offset, len) => {
                let bytes = next.objects.entry(key.into()).or_default();
                bytes.resize(bytes.len().max(offset + len), 0);
                bytes[offset..offset + len].copy_from_slice(&content(n, len));
            }
            Step::MoveDir(from, to) => {
                let within =
                    |key: &str| key.strip_prefix(from)?.strip_prefix('/').map(|rest| format!("{to}/{rest}"));
                next.objects = std::mem::take(&mut next.objects)
                    .into_iter()
                    .map(|(key, bytes)| (within(&key).unwrap_or(key), bytes))
                    .collect();
            }
            Step::Sweep => {}
        }
        next
    }
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let (acknowledged, doubtful) = (Expected::default(), None);
        Self { seed, acknowledged, doubtful, uploads: BTreeMap::new(), resumables: BTreeMap::new() }
    }

    /// Runs to the end or to the first step that fails.
    pub(crate) async fn run(&mut self, opened: &Opened) -> Result<()> {
        for step in STEPS {
            let seed = self.seed;
            let next = self.acknowledged.after(step, |n, len| Random::new(seed.wrapping_add(n)).bytes(len));
            if let Err(error) = Box::pin(self.perform(&opened.store, step, &next)).await {
                self.doubtful = Some((step, next));
                return Err(error);
            }
            self.acknowledged = next;
        }
        Ok(())
    }

    async fn perform(&mut self, store: &Store, step: Step, next: &Expected) -> Result<()> {
        let conditions = Conditions::default();
        match step {
            Step::Put(key, ..) => {
                let bytes = next.objects.get(key).unwrap();
                let put = PutObject {
                    at: at(key),
                    attributes: Attributes::default(),
                    body: body(bytes),
                    size_bytes: Some(bytes.len() as u64),
                    claims: Claims::default(),
                    conditions,
                };
                store.put(&cx(), put).await.map(drop)
            }
            Step::Copy(from, to) => {
                let copy = CopyObject {
                    source: at(from),
                    source_version: None,
                    source_conditions: conditions.clone(),
                    target: at(to),
                    target_conditions: conditions,
                    attributes: None,
                    tags: None,
                    compute: None,
                };
                store.copy(&cx(), copy).await.map(drop)
            }
            Step::Rename(from, to) => store.rename(&cx(), at(from), at(to).key, Replace::Yes).await.map(drop),
            Step::Delete(key) => {
                let delete = DeleteObject { at: at(key), version: None, conditions };
                store.delete(&cx(), delete).await.map(drop)
            }
            Step::Begin(key) => {
                let create = CreateUpload { at: at(key), attributes: Attributes::default(), checksum: None };
                let upload = store.create_upload(&cx(), create).await?;
                self.uploads.insert(key, upload.id);
                Ok(())
            }
            Step::Part(key, n, ..) => {
                let bytes = next.uploads.get(key).and_then(|parts| parts.get(&n)).unwrap();
                let part = PutPart {
                    at: at(key),
                    upload: self.uploads[key],
                    number: number(n),
                    body: body(bytes),
                    size_bytes: Some(bytes.len() as u64),
                    claims: Claims::default(),
                };
                store.put_part(&cx(), part).await.map(drop)
            }
            Step::CopyPart(key, n, from) => {
                let copy = CopyPart {
                    at: at(key),
                    upload: self.uploads[key],
                    number: number(n),
                    source: at(from),
                    source_version: None,
                    source_conditions: conditions,
                    range: Some(RangeRequest::From(1)),
                };
                store.copy_part(&cx(), copy).await.map(drop)
            }
            Step::Complete(key) => complete(store, key, self.uploads[key]).await,
            Step::Abort(key) => store.abort_upload(&cx(), at(key), self.uploads[key]).await,
            Step::Resumable(key, len) | Step::Piece(key, len) => {
                let upload = create_resumable(store, key, len, matches!(step, Step::Piece(..))).await?;
                self.resumables.insert(key, upload);
                Ok(())
            }
            Step::Append(key, ..) => {
                let from = self.acknowledged.resumables[key].len();
                let all = next.resumables.get(key).or_else(|| next.objects.get(key)).unwrap();
                append(store, self.resumables[key], from, &all[from..]).await
            }
            Step::GiveUp(key) => store.terminate_resumable(&cx(), self.resumables[key]).await,
            Step::Compose(key, pieces) => {
                compose(store, key, pieces.iter().map(|piece| self.resumables[piece]).collect()).await
            }
            Step::Edit(key, _, offset, len) => {
                let bytes = next.objects.get(key).unwrap();
                edit(store, key, offset, &bytes[offset..offset + len]).await
            }
            Step::MoveDir(from, to) => {
                let (bucket, from, to) = (at(from).bucket, at(from).key, at(to).key);
                let moving =
                    MoveName { bucket: &bucket, from: &from, is_dir: true, to: &to, how: How::NoReplace };
                store.move_name(&cx(), moving, Wait::Durable).await.map(drop)
            }
            Step::File(key, ..) => add_file(store, key, next.objects.get(key).unwrap()).await,
            Step::Refile(from, to) => refile(store, from, to).await,
            Step::Sweep => store.gc(true).await.map(drop),
        }
    }

    /// What is wrong with what is there now.
    pub(crate) async fn verify(&self, opened: &Opened) -> Result<(), String> {
        let store = &opened.store;
        sound(store).await?;
        let shown = self.shown(store).await.map_err(|error| format!("reading what is there: {error:?}"))?;
        let doubtful = self.doubtful.as_ref();
        if shown != self.acknowledged && doubtful.is_none_or(|(_, after)| shown != *after) {
            let acknowledged = summary(&self.acknowledged);
            let step = doubtful.map(|(step, _)| step);
            return Err(format!(
                "shown {}, acknowledged {acknowledged}, in flight {step:?}",
                summary(&shown)
            ));
        }
        store.gc(true).await.map_err(|error| format!("sweeping: {error:?}"))?;
        sound(store).await?;
        let after = self.shown(store).await.map_err(|error| format!("reading after a sweep: {error:?}"))?;
        if after != shown {
            return Err(format!("the sweep took something: shown {}", summary(&after)));
        }
        self.go_on(store, &shown).await
    }

    /// All objects and unfinished parts, read back; a part by its ETag, so its bytes are the expected ones or none.
    async fn shown(&self, store: &Store) -> Result<Expected> {
        let mut shown = Expected::default();
        // first: one that has all its bytes is finished by whoever asks
        self.show_resumables(store, &mut shown).await?;
        for bucket in ["bucket", "files"] {
            let list = List {
                bucket: bucket.parse().unwrap(),
                prefix: String::new(),
                delimiter: String::new(),
                after: String::new(),
                limit: 1000,
            };
            for (key, _) in store.list(&cx(), list).await?.entries {
                let bytes = read(store, &key).await?;
                shown.objects.insert(key, bytes);
            }
        }
        // an upload whose beginning was not answered has no name here: nobody can use it
        for (key, upload) in &self.uploads {
            let parts = match list_parts(store, key, *upload).await {
                Err(Error::NotFound(Missing::Upload(_))) => continue,
                other => other?,
            };
            let known = |part: &Part| {
                let sides = [Some(&self.acknowledged), self.doubtful.as_ref().map(|(_, after)| after)];
                let bytes = sides
                    .into_iter()
                    .flatten()
                    .filter_map(|side| side.uploads.get(*key)?.get(&i64::from(part.number.get())));
                let is_it = |bytes: &&Vec<u8>| etag(bytes) == part.etag.as_str();
                bytes.into_iter().find(is_it).cloned().unwrap_or_default()
            };
            let parts = parts.iter().map(|part| (i64::from(part.number.get()), known(part)));
            shown.uploads.insert((*key).into(), parts.collect());
        }
        Ok(shown)
    }

    /// What resumable uploads have stored: as many bytes as their offset says. Whether it is those bytes shows when the
    /// upload goes on; a piece that is used, and what is done, is none any more.
    async fn show_resumables(&self, store: &Store, shown: &mut Expected) -> Result<()> {
        // pieces stay to be asked about when they are used
        let is_composed = read(store, "general/devis/composed").await.is_ok();
        for (key, upload) in &self.resumables {
            let found = match store.resumable(&cx(), *upload).await {
                Err(Error::NotFound(Missing::Upload(_))) => continue,
                other => other?,
            };
            let is_over = if found.kind == Kind::Partial { is_composed } else { found.is_complete };
            if is_over {
                continue;
            }
            let len = usize::try_from(found.offset_bytes).unwrap();
            let sides = [Some(&self.acknowledged), self.doubtful.as_ref().map(|(_, after)| after)];
            let begun =
                |side: &Expected| side.resumables.get(*key).filter(|bytes| bytes.len() == len).cloned();
            let bytes = sides.into_iter().flatten().find_map(begun);
            shown.resumables.insert((*key).into(), bytes.unwrap_or_else(|| vec![0; len]));
        }
        Ok(())
    }

    /// The store works on: an upload that was open completes to its parts' bytes, and a new object is kept.
    async fn go_on(&self, store: &Store, shown: &Expected) -> Result<(), String> {
        let mut wanted: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        if let Some(parts) = shown.uploads.get("open").filter(|parts| !parts.is_empty()) {
            let done = complete(store, "open", self.uploads["open"]).await;
            done.map_err(|error| format!("completing what was open: {error:?}"))?;
            wanted.insert("open", parts.values().flatten().copied().collect());
        }
        if let Some(begun) = shown.resumables.get("general/devis/goes-on") {
            let key = "general/devis/goes-on";
            let rest = vec![7; length_of(key) - begun.len()];
            let done = append(store, self.resumables[key], begun.len(), &rest).await;
            done.map_err(|error| format!("going on: {error:?}"))?;
            wanted.insert(key, [begun.as_slice(), &rest].concat());
        }
        let put = PutObject {
            at: at("new"),
            attributes: Attributes::default(),
            body: body(b"new"),
            size_bytes: Some(3),
            claims: Claims::default(),
            conditions: Conditions::default(),
        };
        store.put(&cx(), put).await.map_err(|error| format!("a put afterwards: {error:?}"))?;
        wanted.insert("new", b"new".to_vec());
        for (key, bytes) in wanted {
            if read(store, key).await.map_err(|error| format!("{key} afterwards: {error:?}"))? != bytes {
                return Err(format!("{key} has other bytes afterwards"));
            }
        }
        sound(store).await
    }
}

/// What a resumable upload of the script was begun with.
fn length_of(key: &str) -> usize {
    let length = |step: &Step| match step {
        Step::Resumable(of, len) | Step::Piece(of, len) if *of == key => Some(*len),
        _ => None,
    };
    STEPS.iter().find_map(length).unwrap()
}

async fn create_resumable(store: &Store, key: &str, len: usize, is_partial: bool) -> Result<UploadId> {
    let create = CreateResumable {
        at: at(key),
        attributes: Attributes::default(),
        said: String::new(),
        length_bytes: Some(len as u64),
        is_partial,
        lives_ms: LIVES_MS,
    };
    Ok(store.create_resumable(&cx(), create).await?.id)
}

async fn append(store: &Store, upload: UploadId, offset: usize, bytes: &[u8]) -> Result<()> {
    let append = Append {
        upload,
        offset_bytes: offset as u64,
        length_bytes: None,
        length_max: u64::MAX,
        body: body(bytes),
        size_bytes: Some(bytes.len() as u64),
        claims: Claims::default(),
    };
    store.append_resumable(&cx(), append).await.map(drop)
}

/// What a key of filing says.
fn place(key: &str) -> Filing {
    match Place::parse(BuiltIn::Filing, &key.parse().unwrap()) {
        Some(Place::Filing(place)) => place,
        other => panic!("{key}: {other:?}"),
    }
}

/// Composes an object of pieces.
async fn compose(store: &Store, key: &str, partials: Vec<UploadId>) -> Result<()> {
    let concatenate = Concatenate {
        at: at(key),
        attributes: Attributes::default(),
        said: String::new(),
        partials,
        length_max: u64::MAX,
        lives_ms: LIVES_MS,
    };
    store.concatenate(&cx(), concatenate).await.map(drop)
}

/// Writes into a file in place, which is made if it is not there.
async fn edit(store: &Store, key: &str, offset: usize, bytes: &[u8]) -> Result<()> {
    let file = match store.open_file(&cx(), &at(key), Access::ReadWrite).await {
        Err(Error::NotFound(_)) => store.create_file(&cx(), &at(key), Attributes::default()).await?,
        other => other?,
    };
    file.write(offset as u64, bytes, 1).await?;
    file.commit(&cx(), &at(key), Expect::Unchanged, Wait::Durable).await.map(drop)
}

async fn add_file(store: &Store, key: &str, bytes: &[u8]) -> Result<()> {
    let place = place(key);
    let (stem, extension) = place.name.split_once('.').unwrap();
    let staged = store.stage(&cx(), &at(key), body(bytes), None, Claims::default()).await?;
    let new = NewFile {
        client: place.client.clone(),
        category: place.category,
        subcategory: place.subcategory.clone(),
        stem: stem.to_owned(),
        extension: Some(extension.to_owned()),
        label: None,
        description: None,
        tags: Vec::new(),
        is_public: false,
        staged,
    };
    store.add_file(&cx(), new).await.map(drop)
}

/// By its number, as filing's API does.
async fn refile(store: &Store, from: &str, to: &str) -> Result<()> {
    let get = GetObject { at: at(from), version: None, conditions: Conditions::default(), range: None };
    let serial = store.head(&cx(), get).await?.version.ids.filing.unwrap();
    let change = FileChange { category: Some(place(to).category), ..FileChange::default() };
    let filed = store.change_file(&cx(), serial, &change).await?;
    assert_eq!((filed.serial, filed.key.as_str()), (serial, to));
    Ok(())
}

/// Check finds nothing, and every blob's bytes are what they were.
async fn sound(store: &Store) -> Result<(), String> {
    let checked = store.check().await.map_err(|error| format!("check: {error:?}"))?;
    if !checked.findings.is_empty() {
        return Err(format!("check found {:#?}", checked.findings));
    }
    let scrubbed = store.scrub(u64::MAX).await.map_err(|error| format!("scrub: {error:?}"))?;
    if scrubbed.damaged.is_empty() { Ok(()) } else { Err(format!("scrub found {:?}", scrubbed.damaged)) }
}

async fn read(store: &Store, key: &str) -> Result<Vec<u8>> {
    let get = GetObject { at: at(key), version: None, conditions: Conditions::default(), range: None };
    let (_, stream) = store.get(&cx(), get).await?;
    let pieces: Vec<_> = stream
        .try_collect()
        .await
        .map_err(|source| Error::Internal { doing: "reading an object back", source })?;
    Ok(pieces.concat())
}

async fn list_parts(store: &Store, key: &str, upload: UploadId) -> Result<Vec<Part>> {
    Ok(store.list_parts(&cx(), at(key), upload, None, 1000).await?.parts)
}

/// Completes an upload with all its parts.
async fn complete(store: &Store, key: &str, upload: UploadId) -> Result<()> {
    let parts = list_parts(store, key, upload).await?;
    let named = |part: Part| CompletePart { number: part.number, etag: part.etag, checksum: None };
    let complete = CompleteUpload {
        at: at(key),
        upload,
        parts: parts.into_iter().map(named).collect(),
        claim: None,
        size_bytes: None,
        conditions: Conditions::default(),
    };
    store.complete_upload(&cx(), complete).await.map(drop)
}

fn etag(bytes: &[u8]) -> String {
    use md5::Digest;
    hex::encode(md5::Md5::digest(bytes))
}

/// Keys and sizes.
fn summary(expected: &Expected) -> String {
    let objects: Vec<_> = expected.objects.iter().map(|(key, bytes)| (key.as_str(), bytes.len())).collect();
    let uploads: Vec<_> = expected
        .uploads
        .iter()
        .map(|(key, parts)| (key.as_str(), parts.iter().map(|(n, b)| (*n, b.len())).collect::<Vec<_>>()))
        .collect();
    let resumables: Vec<_> = expected.resumables.iter().map(|(key, bytes)| (key, bytes.len())).collect();
    format!("objects {objects:?} uploads {uploads:?} resumables {resumables:?}")
}
