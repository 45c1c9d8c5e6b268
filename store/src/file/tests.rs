//! Open files against a plain vector of bytes: random writes, cuts, holes, copies, commits, sweeps, power cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_disk::power::PowerDisk;
use coffre_disk::seed::{self, Random};
use coffre_disk::{Disk, RealDisk};
use coffre_kv::memory::Memory;
use coffre_kv::{Check, Kv};
use futures_util::TryStreamExt;

use super::*;
use crate::condition::Conditions;
use crate::get::GetObject;
use crate::object::{BuiltInNames, Digest, Door, Principal};
use crate::plan::canary::Broken;
use crate::sample::{Counted, at, body};
use crate::{Clock, Growth, Options, QuotaGate, Wait, usage};

#[derive(Debug)]
struct Now(AtomicU64);

impl Clock for Now {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Everybody;

impl crate::Authority for Everybody {
    fn decide(&self, _: &crate::Ask<'_>) -> crate::Decision {
        crate::Decision::Allow
    }
}

/// So many bytes for each owner.
#[derive(Debug)]
struct Ceiling {
    max: i64,
    kv: Arc<Memory>,
}

#[async_trait::async_trait]
impl QuotaGate for Ceiling {
    async fn checks(&self, growth: &[Growth]) -> Result<Vec<Check>> {
        let owners = growth.iter().filter(|growth| matches!(growth.of, usage::Of::Owner(_)));
        let check = |growth: &Growth| {
            Check::AtMost(usage::counter(usage::Measure::Bytes, &growth.of), self.max - growth.bytes)
        };
        crate::sample::hold(&*self.kv, owners.map(check).collect()).await
    }
}

/// What a store stands on, so that it can be opened again.
struct World {
    kv: Arc<Memory>,
    disk: Arc<dyn Disk>,
    power: Option<PowerDisk>,
    dir: Option<tempfile::TempDir>,
    quota: Arc<dyn QuotaGate>,
    inline_max: u64,
}

impl World {
    fn real() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (disk, quota) = (Arc::new(RealDisk), Arc::new(crate::Unlimited));
        Self { kv: Arc::new(Memory::new()), disk, power: None, dir: Some(dir), quota, inline_max: 128 * 1024 }
    }

    fn powered(inline_max: u64) -> Self {
        let power = PowerDisk::new();
        power.create_dir_all("/store".as_ref()).unwrap();
        power.sync_all();
        let disk = Arc::new(power.clone());
        Self {
            kv: Arc::new(Memory::new()),
            disk,
            power: Some(power),
            dir: None,
            quota: Arc::new(crate::Unlimited),
            inline_max,
        }
    }

    async fn open(&self) -> Store {
        let name = |text: &str| text.parse().unwrap();
        let dir = self.dir.as_ref().map_or("/store".into(), |dir| dir.path().to_owned());
        let store = Store::open(Options {
            kv: Arc::clone(&self.kv) as Arc<dyn Kv>,
            disk: Arc::clone(&self.disk),
            dir,
            clock: Arc::new(Now(AtomicU64::new(1_700_000_000_000))),
            ids: Arc::new(Counted::starting(self.kv.stats().applied.0 << 20)),
            authority: Arc::new(Everybody),
            quota: Arc::clone(&self.quota),
            inline_max: self.inline_max,
            grace_ms: 0,
            reserve_bytes: 0,
            direct_io: false,
            built_in: BuiltInNames::default(),
        });
        let store = store.await.unwrap();
        match store.create_bucket(&cx(), name("bucket"), None).await {
            Ok(_) | Err(Error::Exists(_)) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// The process dies and what was not synced is lost. The rows stay, those of ordered commits too.
    async fn cut(&mut self, store: Store, seed: u64) {
        store.inner.background.kill().await;
        drop(store);
        let power = self.power.as_ref().unwrap().cut(seed);
        self.disk = Arc::new(power.clone());
        self.power = Some(power);
    }
}

fn cx() -> Cx {
    Cx {
        principal: Arc::new(Principal::system()),
        door: Door::Mount,
        request_id: "test".into(),
        now_ms: 0,
        circumstances: Arc::default(),
    }
}

fn get(at: &At) -> GetObject {
    GetObject { at: at.clone(), version: None, conditions: Conditions::default(), range: None }
}

async fn read_object(store: &Store, at: &At) -> Vec<u8> {
    let (_, body) = store.get(&cx(), get(at)).await.unwrap();
    let pieces: Vec<bytes::Bytes> = body.try_collect().await.unwrap();
    pieces.concat()
}

async fn head(store: &Store, at: &At) -> Version {
    store.head(&cx(), get(at)).await.unwrap().version
}

async fn put_object(store: &Store, at: &At, bytes: &[u8]) -> Version {
    let put = crate::put::PutObject {
        at: at.clone(),
        attributes: Attributes::default(),
        size_bytes: Some(bytes.len() as u64),
        body: body(bytes),
        claims: crate::put::Claims::default(),
        conditions: Conditions::default(),
    };
    store.put(&Cx { door: Door::S3, ..cx() }, put).await.unwrap().version
}

/// Check and scrub find nothing.
async fn assert_sound(store: &Store) {
    let checked = store.check().await.unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    let scrubbed = store.scrub(u64::MAX).await.unwrap();
    assert!(scrubbed.damaged.is_empty(), "{:?}", scrubbed.damaged);
}

/// An open file and what it should hold.
struct Pair {
    file: OpenFile,
    plain: Vec<u8>,
    /// What others see; `None`: nothing yet.
    committed: Option<Vec<u8>>,
}

const SIZE_MAX: u64 = 3 * 1024 * 1024;

impl Pair {
    fn offset(random: &mut Random, size: u64) -> u64 {
        match random.below(4) {
            0 => size,
            1 => random.below(size + 5_000),
            _ => random.below(size + 1),
        }
        .min(SIZE_MAX - 1)
    }

    fn length(random: &mut Random) -> u64 {
        match random.below(10) {
            0 => random.below(900 * 1024),
            1..4 => random.below(40 * 1024),
            _ => random.below(600),
        }
    }

    fn place(&mut self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        if !bytes.is_empty() && self.plain.len() < offset + bytes.len() {
            self.plain.resize(offset + bytes.len(), 0);
        }
        if !bytes.is_empty() {
            self.plain[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    async fn write(&mut self, random: &mut Random) {
        let offset = Self::offset(random, self.plain.len() as u64);
        let len = Self::length(random).min(SIZE_MAX - offset);
        let bytes = random.bytes(usize::try_from(len).unwrap());
        self.file.write(offset, &bytes, 1).await.unwrap();
        self.place(offset, &bytes);
    }

    async fn step(&mut self, store: &Store, at: &At, random: &mut Random) {
        let size = self.plain.len() as u64;
        match random.below(20) {
            0..9 => self.write(random).await,
            9 => {
                for _ in 0..random.below(100) {
                    let len = usize::try_from(random.below(300)).unwrap();
                    let bytes = random.bytes(len);
                    let offset = self.file.append(&bytes, 1).await.unwrap();
                    assert_eq!(offset, self.plain.len() as u64);
                    self.place(offset, &bytes);
                }
            }
            10 => {
                let len = Self::offset(random, size);
                self.file.truncate(len, 1).await.unwrap();
                self.plain.resize(usize::try_from(len).unwrap(), 0);
            }
            11 => {
                let from = Self::offset(random, size);
                let end = (from + Self::length(random)).min(SIZE_MAX);
                let keep_size = random.chance(50);
                self.file.zero(from..end, keep_size, 1).await.unwrap();
                let end = if keep_size { end.min(size) } else { end };
                self.place(from, &vec![0; usize::try_from(end.saturating_sub(from)).unwrap()]);
            }
            12 => {
                let (from, to) = (random.below(size + 1), Self::offset(random, size));
                let len = Self::length(random).min(size - from).min(SIZE_MAX - to);
                if to < from + len && from < to + len {
                    return;
                }
                let copied = self.file.copy_range(&self.file, from..from + len, to, 1).await.unwrap();
                assert_eq!(copied, len);
                let from = usize::try_from(from).unwrap();
                let bytes = self.plain[from..from + usize::try_from(len).unwrap()].to_vec();
                self.place(to, &bytes);
            }
            13..17 => self.commit(at, if random.chance(50) { Wait::Durable } else { Wait::Ordered }).await,
            17 => drop(store.gc(true).await.unwrap()),
            18 => store.digest_pending().await.unwrap(),
            _ => {
                // closed and opened again
                self.commit(at, Wait::Ordered).await;
                self.file = store.open_file(&cx(), at, Access::ReadWrite).await.unwrap();
            }
        }
    }

    async fn commit(&mut self, at: &At, wait: Wait) {
        let version = self.file.commit(&cx(), at, Expect::Any, wait).await.unwrap();
        assert_eq!(version.size_bytes, self.plain.len() as u64);
        self.committed = Some(self.plain.clone());
    }

    async fn check(&self, random: &mut Random) {
        assert_eq!(self.file.size(), self.plain.len() as u64);
        let from = random.below(self.plain.len() as u64 + 1);
        let to = (from + random.below(200_000)).min(self.plain.len() as u64);
        let read = self.file.read(from..to + random.below(2) * 10).await.unwrap();
        let end = usize::try_from(from).unwrap() + read.len();
        assert!(read.len() as u64 >= to - from);
        assert!(
            read == self.plain[usize::try_from(from).unwrap()..end],
            "{from}..{end} of {}",
            self.plain.len()
        );
    }
}

/// Many lives of files; what was wrong.
async fn lives(worlds: Vec<World>, first: u64, steps: u64, cuts: bool) -> Result<(), String> {
    for (n, mut world) in (0..).zip(worlds) {
        let seed = first.wrapping_add(n);
        let life = tokio::spawn(async move { live(&mut world, seed, steps, cuts).await });
        life.await.map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

/// One life of a file; what is there in the end is what was committed last.
async fn live(world: &mut World, seed: u64, steps: u64, cuts: bool) {
    let mut random = Random::new(seed);
    let at = at("bucket", "file");
    let mut store = world.open().await;
    let mut committed: Option<Vec<u8>> = None;
    for life in 0..3 {
        let (file, plain) = match &committed {
            None => (store.create_file(&cx(), &at, Attributes::default()).await.unwrap(), Vec::new()),
            Some(bytes) => (store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap(), bytes.clone()),
        };
        let mut pair = Pair { file, plain, committed: committed.clone() };
        for _ in 0..steps {
            pair.step(&store, &at, &mut random).await;
            pair.check(&mut random).await;
        }
        assert!(pair.file.read(0..u64::MAX).await.unwrap() == pair.plain, "seed {seed}, life {life}");
        committed.clone_from(&pair.committed);
        drop(pair);
        if cuts {
            world.cut(store, random.next_u64()).await;
            store = world.open().await;
        }
        let Some(committed) = &committed else { continue };
        assert!(read_object(&store, &at).await == *committed, "seed {seed}, life {life}");
        store.digest_pending().await.unwrap();
        assert_ne!(head(&store, &at).await.sha256, Digest::Pending);
        store.gc(true).await.unwrap();
        assert!(read_object(&store, &at).await == *committed, "seed {seed}, life {life}, after a sweep");
        assert_sound(&store).await;
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_is_a_vector_of_bytes() {
    let seed = seed::from_env();
    println!("COFFRE_SEED={seed}");
    for round in 0..seed::rounds(6, 60) {
        live(&mut World::real(), seed.wrapping_add(round), 60, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_survives_a_power_cut() {
    let seed = seed::from_env();
    println!("COFFRE_SEED={seed}");
    for round in 0..seed::rounds(6, 60) {
        let inline_max = [0, 5_000, 128 * 1024][usize::try_from(round % 3).unwrap()];
        live(&mut World::powered(inline_max), seed.wrapping_add(round), 40, true).await;
    }
}

/// What is cut off or punched out of a staging file; whether it comes back.
async fn punched() -> Result<(), String> {
    let world = World::real();
    let store = world.open().await;
    for base in [0, 3_000_000] {
        let at = at("bucket", &format!("over {base}"));
        put_object(&store, &at, &bytes(1, base)).await;
        let file = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
        let mut plain = bytes(1, base);
        let written = bytes(2, 1_500_000);
        file.write(0, &written, 1).await.unwrap();
        plain.resize(plain.len().max(written.len()), 0);
        plain[..written.len()].copy_from_slice(&written);
        file.zero(100_000..300_000, true, 1).await.unwrap();
        plain[100_000..300_000].fill(0);
        file.truncate(1_000_000, 1).await.unwrap();
        file.truncate(1_600_000, 1).await.unwrap();
        plain.truncate(1_000_000);
        plain.resize(1_600_000, 0);
        file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
        if read_object(&store, &at).await != plain {
            return Err(format!("over {base} bytes"));
        }
        if matches!(head(&store, &at).await.sha256, Digest::Known(sha256) if sha256.0 != sha(&plain)) {
            return Err("another digest".into());
        }
    }
    assert_sound(&store).await;
    Ok(())
}

fn sha(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

#[tokio::test]
async fn what_was_cut_off_does_not_come_back() {
    punched().await.unwrap();
}

#[test]
fn what_is_broken_is_noticed() {
    let pins = || async { lives((0..6).map(|_| World::real()).collect(), 1, 60, false).await };
    assert!(crate::model::with_broken(Broken::Pins, pins).is_err(), "nobody misses the pins");
    assert!(crate::model::with_broken(Broken::Holes, punched).is_err(), "nobody misses the holes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_syncs_is_noticed() {
    let worlds = (0..6).map(|_| {
        let mut world = World::powered(0);
        let lying = coffre_disk::fault::FaultDisk::new(Arc::clone(&world.disk));
        lying.swallow_syncs();
        world.disk = Arc::new(lying);
        world
    });
    assert!(lives(worlds.collect(), 1, 40, true).await.is_err());
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

#[tokio::test]
async fn an_open_and_a_close_are_one_version() {
    let world = World::real();
    let store = world.open().await;
    let at = at("bucket", "file");
    let versioning = crate::bucket::Setting::Versioning(crate::object::Versioning::Enabled);
    store.set_bucket(&cx(), &at.bucket, versioning).await.unwrap();
    let first = put_object(&store, &at, &bytes(1, 300_000)).await;
    let file = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
    let mut made = Vec::new();
    for _ in 0..3 {
        file.append(b"more", 7).await.unwrap();
        made.push(file.commit(&cx(), &at, Expect::Unchanged, Wait::Durable).await.unwrap());
    }
    let ids: std::collections::BTreeSet<_> = made.iter().map(|version| version.id).collect();
    let etags: std::collections::BTreeSet<_> = made.iter().map(|version| version.etag.as_str()).collect();
    assert_eq!((ids.len(), etags.len()), (1, 3), "one version, whose ETag tells its states apart");
    assert_eq!(made[0].etag.as_str(), format!("{}-1", made[0].id));
    assert_eq!((made[2].size_bytes, made[2].ino), (300_012, first.ino));
    assert_eq!(made[2].attributes.posix.as_ref().unwrap().modified_ns, Some(7));
    let bucket = store.find_bucket(&at.bucket).await.unwrap().value;
    let history = store.newest_history(&bucket, &at.key, 10).await.unwrap();
    assert_eq!(history.iter().map(|entry| entry.value.id()).collect::<Vec<_>>(), [first.id]);
    // another open is another version; one that changes nothing is none
    drop(file);
    let file = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
    assert_eq!(file.commit(&cx(), &at, Expect::Any, Wait::Durable).await.unwrap().id, made[2].id);
    file.write(0, b"x", 8).await.unwrap();
    assert_ne!(file.commit(&cx(), &at, Expect::Any, Wait::Ordered).await.unwrap().id, made[2].id);
    assert_sound(&store).await;
}

#[tokio::test]
async fn the_digest_is_known_at_once_or_later() {
    let world = World::real();
    let store = world.open().await;
    // small; written from its beginning; small again by being cut
    let (small, large) = (at("bucket", "small"), at("bucket", "large"));
    let file = store.create_file(&cx(), &small, Attributes::default()).await.unwrap();
    file.write(0, b"abc", 1).await.unwrap();
    let version = file.commit(&cx(), &small, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert_eq!(version.etag.as_str(), "ba7816bf8f01cfea414140de5dae2223-1");
    let file = store.create_file(&cx(), &large, Attributes::default()).await.unwrap();
    for n in 0..20 {
        file.write(n * 100_000, &bytes(n, 100_000), 1).await.unwrap();
    }
    let version = file.commit(&cx(), &large, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert!(matches!(version.sha256, Digest::Known(_)));
    assert!(file.plain().await.unwrap().is_some(), "one plain blob");
    assert_eq!(put_object(&store, &small, &read_object(&store, &large).await).await.sha256, version.sha256);
    // over a base it comes in the background, when the file is closed
    file.write(50_000, &bytes(77, 10_000), 1).await.unwrap();
    assert!(file.plain().await.unwrap().is_none());
    let version = file.commit(&cx(), &large, Expect::Unchanged, Wait::Ordered).await.unwrap();
    store.digest_pending().await.unwrap();
    assert_eq!(head(&store, &large).await.sha256, Digest::Pending, "it may still change");
    drop(file);
    store.digest_pending().await.unwrap();
    let joined = head(&store, &large).await;
    assert_eq!((joined.id, &joined.etag), (version.id, &version.etag));
    assert!(matches!(joined.sha256, Digest::Known(_)));
    assert!(matches!(&joined.manifest, Manifest::Inline(extents) if extents.len() == 1));
    let file = store.open_file(&cx(), &large, Access::Read).await.unwrap();
    assert!(file.plain().await.unwrap().is_some());
}

#[tokio::test]
async fn the_last_close_wins_and_readers_keep_what_they_opened() {
    let world = World::real();
    let store = world.open().await;
    let at = at("bucket", "file");
    let (old, new) = (bytes(1, 400_000), bytes(2, 500_000));
    put_object(&store, &at, &old).await;
    let reader = store.open_file(&cx(), &at, Access::Read).await.unwrap();
    let writer = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
    writer.write(10, b"written", 1).await.unwrap();
    put_object(&store, &at, &new).await;
    store.gc(true).await.unwrap();
    assert!(reader.read(0..u64::MAX).await.unwrap() == old);
    let refused = writer.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })));
    writer.commit(&cx(), &at, Expect::Any, Wait::Ordered).await.unwrap();
    let mut expected = old.clone();
    expected[10..17].copy_from_slice(b"written");
    assert!(read_object(&store, &at).await == expected);
    drop((reader, writer));
    store.digest_pending().await.unwrap();
    store.gc(true).await.unwrap();
    assert!(read_object(&store, &at).await == expected);
    assert_sound(&store).await;
}

#[tokio::test]
async fn attributes_of_two_doors_meet() {
    let world = World::real();
    let store = world.open().await;
    let at = at("bucket", "file");
    let initial = Attributes { content_type: Some("text/x".into()), ..Attributes::default() };
    let file = store.create_file(&cx(), &at, initial).await.unwrap();
    file.change(AttributeChange { mode: Some(0o600), ..AttributeChange::default() }).unwrap();
    file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    file.write(0, b"x", 5).await.unwrap();
    file.change(AttributeChange { modified_ns: Some(3), ..AttributeChange::default() }).unwrap();
    store.set_tags(&cx(), at.clone(), None, vec![("k".into(), "v".into())]).await.unwrap();
    let change = AttributeChange { uid: Some(9), ..AttributeChange::default() };
    let changed = store.set_attributes(&cx(), &at, &change, Wait::Ordered).await.unwrap();
    let version = file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert_eq!(changed.id, version.id);
    let Attributes { content_type, tags, posix, .. } = version.attributes;
    assert_eq!((content_type.as_deref(), tags.len()), (Some("text/x"), 1));
    let posix = *posix.unwrap();
    assert_eq!(
        (posix.mode, posix.uid, posix.modified_ns, posix.changed_ns),
        (Some(0o600), Some(9), Some(3), Some(5))
    );
    // only attributes: the bytes keep their ETag
    let before = file.version().unwrap();
    file.change(AttributeChange { mode: Some(0o640), ..AttributeChange::default() }).unwrap();
    let after = file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert_eq!((after.id, after.etag, after.modified_ms), (before.id, before.etag, before.modified_ms));
    assert_eq!(head(&store, &at).await.attributes.posix.unwrap().mode, Some(0o640));
}

#[tokio::test]
async fn a_quota_is_told_at_the_write_and_held_at_the_commit() {
    let mut world = World::real();
    world.quota = Arc::new(Ceiling { max: 1_000, kv: Arc::clone(&world.kv) });
    let store = world.open().await;
    let user = crate::object::Who::User(UserId(uuid::Uuid::from_bytes([7; 16])));
    let cx = Cx { principal: Arc::new(Principal { who: user, ..Principal::system() }), ..cx() };
    let (one, two) = (at("bucket", "one"), at("bucket", "two"));
    let file = store.create_file(&cx, &one, Attributes::default()).await.unwrap();
    assert!(matches!(file.write(500, &[1; 501], 1).await, Err(Error::QuotaExceeded)));
    assert_eq!(file.size(), 0);
    file.write(500, &[1; 500], 1).await.unwrap();
    let other = store.create_file(&cx, &two, Attributes::default()).await.unwrap();
    other.write(0, &[2; 600], 1).await.unwrap();
    other.commit(&cx, &two, Expect::Unchanged, Wait::Ordered).await.unwrap();
    let refused = file.commit(&cx, &one, Expect::Unchanged, Wait::Ordered).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded)));
    assert!(matches!(store.head(&cx, get(&one)).await, Err(Error::NotFound(_))));
    other.truncate(0, 1).await.unwrap();
    other.commit(&cx, &two, Expect::Unchanged, Wait::Ordered).await.unwrap();
    file.commit(&cx, &one, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert_eq!(read_object(&store, &one).await, [vec![0; 500], vec![1; 500]].concat());
    assert_sound(&store).await;
}

#[tokio::test]
async fn a_full_disk_is_an_answer_and_a_failed_sync_the_end() {
    use coffre_disk::fault::{Fault, FaultDisk, Operation};
    let mut world = World::powered(1_000);
    let disk = FaultDisk::new(Arc::clone(&world.disk));
    world.disk = Arc::new(disk.clone());
    let store = world.open().await;
    let at = at("bucket", "file");
    let file = store.create_file(&cx(), &at, Attributes::default()).await.unwrap();
    file.write(0, &bytes(1, 1_000_000), 1).await.unwrap();
    let full = Fault::FailOnce(std::io::ErrorKind::StorageFull);
    disk.plan_on(Operation::Write, 1, full);
    let more = bytes(2, 500_000);
    assert!(matches!(file.write(1_000_000, &more, 1).await, Err(Error::NoSpace)));
    file.write(1_000_000, &more, 1).await.unwrap();
    for operation in [Operation::Rename, Operation::SyncDir] {
        disk.plan_on(operation, 1, full);
        let refused = file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await;
        assert!(refused.is_err(), "{operation:?}");
    }
    file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    let expected = [bytes(1, 1_000_000), more].concat();
    assert!(read_object(&store, &at).await == expected);
    // nobody can say what became of these bytes: they are never offered again, and what was committed stays
    file.write(0, &bytes(3, 1_400_000), 1).await.unwrap();
    disk.plan_on(Operation::SyncData, 1, Fault::FailOnce(std::io::ErrorKind::Other));
    assert!(file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.is_err());
    assert!(matches!(file.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await, Err(Error::Stopped)));
    assert!(matches!(file.write(0, b"x", 1).await, Err(Error::Stopped)));
    assert!(read_object(&store, &at).await == expected);
    drop(file);
    let again = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
    again.write(0, b"x", 1).await.unwrap();
    again.commit(&cx(), &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    assert_sound(&store).await;
}

/// Bytes of keys and values that commits wrote since.
async fn written(world: &World, since: coffre_kv::Position) -> (u64, u64) {
    let (mut bytes, mut commits, mut after) = (0, 0, since);
    loop {
        let coffre_kv::Changes::Items(items) = world.kv.changes(after, 1_000).await.unwrap() else {
            panic!("the feed does not reach back")
        };
        let Some(last) = items.last() else { return (bytes, commits) };
        after = last.position;
        commits += items.len() as u64;
        for (key, value) in items.iter().flat_map(|item| &item.writes) {
            bytes += (key.len() + value.as_ref().map_or(0, bytes::Bytes::len)) as u64;
        }
    }
}

#[tokio::test]
async fn an_fsync_costs_what_was_written() {
    let mut world = World::real();
    world.kv = Arc::new(Memory::with_feed(100_000));
    let store = world.open().await;
    let at = at("bucket", "file");
    put_object(&store, &at, &bytes(1, 20 << 20)).await;
    let files = || std::fs::read_dir(world.dir.as_ref().unwrap().path().join("staging")).unwrap().count();
    // appended to, a hundred bytes at a time
    let file = store.open_file(&cx(), &at, Access::ReadWrite).await.unwrap();
    let before = world.kv.stats().applied;
    for n in 0..3_000 {
        file.append(&bytes(n, 100), 1).await.unwrap();
        file.commit(&cx(), &at, Expect::Unchanged, Wait::Durable).await.unwrap();
        assert_eq!(files(), 0);
    }
    let (bytes_each, commits) = written(&world, before).await;
    let each = bytes_each / commits;
    println!("append of 100 bytes: {each} bytes of rows in each commit");
    assert!(each < 10_000, "{each} bytes for each append");
    let extents = |version: Version| match version.manifest {
        Manifest::Inline(extents) => extents.len(),
        Manifest::Paged { .. } => usize::MAX,
    };
    assert!(extents(head(&store, &at).await) < 100);
    // and rewritten page by page here and there
    let before = world.kv.stats().applied;
    let mut random = Random::new(5);
    for n in 0..1_000 {
        let page = random.below(5_000);
        file.write(page * 4_096, &bytes(n, 4_096), 1).await.unwrap();
        file.commit(&cx(), &at, Expect::Unchanged, Wait::Durable).await.unwrap();
    }
    let (bytes_each, commits) = written(&world, before).await;
    let each = bytes_each / commits;
    println!("page of 4 KiB: {each} bytes of rows in each commit");
    assert!(each < 64_000, "{each} bytes for each page");
    let whole = file.read(0..u64::MAX).await.unwrap();
    assert!(read_object(&store, &at).await == whole);
    assert_sound(&store).await;
}
