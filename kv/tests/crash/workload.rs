//! What the writers write: commits of several rows that only make sense together.
//!
//! Each commit of a writer rewrites or deletes one of its objects (`o/`), moves that object's index row (`i/`), adds to
//! the counters of objects, bytes and references (`c/`), and rewrites the row all writers share (`hot`). The writer's
//! own counter (`w/`) is checked and raised, so that its commits can only happen in their order, each once.
//! A script is a function of seed and writer: whoever knows how many commits happened knows every row.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffre_disk::seed::Random;
use coffre_kv::{Check, Commit, Wait, Write};

/// Objects each writer has at most; the rest are rewrites, so that old values die and compaction has work.
const OBJECTS: u64 = 48;
/// Counters of references, shared by all writers.
const REFERENCES: u64 = 16;

pub(crate) const HOT: &[u8] = b"hot";
pub(crate) const COUNT: &[u8] = b"c/objects";
pub(crate) const BYTES: &[u8] = b"c/bytes";

/// The commits of one writer, in order.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    seed: u64,
    /// Of the bytes of values.
    contents: u64,
    pub(crate) writer: u64,
    /// The number of the next commit.
    pub(crate) next: u64,
    objects: BTreeMap<u64, Object>,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    written: u64,
    len: usize,
}

pub(crate) fn writer_key(writer: u64) -> Bytes {
    Bytes::from(format!("w/{writer}"))
}

pub(crate) fn object_key(writer: u64, object: u64) -> Bytes {
    Bytes::from(format!("o/{writer}/{object:03}"))
}

/// Where an object of this commit stands in the index.
pub(crate) fn index_key(writer: u64, object: u64, written: u64) -> Bytes {
    let shuffled = Random::new(written ^ (writer << 40)).next_u64();
    Bytes::from(format!("i/{:04x}/{writer}/{object:03}/{written}", shuffled & 0xffff))
}

pub(crate) fn reference_key(written: u64) -> Bytes {
    Bytes::from(format!("c/references/{:02}", written % REFERENCES))
}

/// The head of an object's value and of `hot`: who wrote it, in which of its commits.
pub(crate) fn mark(writer: u64, n: u64) -> [u8; 16] {
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&writer.to_be_bytes());
    mark[8..].copy_from_slice(&n.to_be_bytes());
    mark
}

pub(crate) fn read_mark(value: &[u8]) -> Option<(u64, u64)> {
    let writer = value.get(..8)?.try_into().ok()?;
    let n = value.get(8..16)?.try_into().ok()?;
    Some((u64::from_be_bytes(writer), u64::from_be_bytes(n)))
}

impl Script {
    pub(crate) fn new(seed: u64, writer: u64) -> Self {
        Self { seed, contents: seed, writer, next: 0, objects: BTreeMap::new() }
    }

    /// Goes on with other commits; with the same lengths, with the same commits of other bytes.
    pub(crate) fn fork(&mut self, seed: u64, same_lengths: bool) {
        self.contents = seed;
        if !same_lengths {
            self.seed = seed;
        }
    }

    /// The next commit; from here on it counts as having happened.
    pub(crate) fn advance(&mut self) -> Commit {
        let n = self.next;
        self.next += 1;
        let mut random = Random::new(self.seed ^ self.writer.wrapping_mul(0x1234_5678_9abc_def1) ^ (n << 8));
        let object = random.below(OBJECTS);
        let old = self.objects.get(&object).copied();
        let mut writes = vec![
            Write::Add(writer_key(self.writer), 1),
            Write::Put(Bytes::from_static(HOT), Bytes::copy_from_slice(&mark(self.writer, n))),
        ];
        let mut references: BTreeMap<Bytes, i64> = BTreeMap::new();
        let (mut count, mut bytes) = (0, 0);
        if let Some(old) = old {
            writes.push(Write::Delete(index_key(self.writer, object, old.written)));
            *references.entry(reference_key(old.written)).or_default() -= 1;
            count -= 1;
            bytes -= i64::try_from(old.len).unwrap();
        }
        if old.is_some() && random.chance(20) {
            self.objects.remove(&object);
            writes.push(Write::Delete(object_key(self.writer, object)));
        } else {
            let len = length(&mut random);
            let mut value = mark(self.writer, n).to_vec();
            value.extend_from_slice(&Random::new(self.contents ^ random.next_u64()).bytes(len));
            writes.push(Write::Put(index_key(self.writer, object, n), Bytes::from(len.to_string())));
            *references.entry(reference_key(n)).or_default() += 1;
            count += 1;
            bytes += i64::try_from(value.len()).unwrap();
            self.objects.insert(object, Object { written: n, len: value.len() });
            writes.push(Write::Put(object_key(self.writer, object), value.into()));
        }
        writes.push(Write::Add(Bytes::from_static(COUNT), count));
        writes.push(Write::Add(Bytes::from_static(BYTES), bytes));
        writes.extend(references.into_iter().map(|(key, delta)| Write::Add(key, delta)));

        let own = writer_key(self.writer);
        let position = i64::try_from(n).unwrap();
        let mut checks = vec![Check::AtLeast(own.clone(), position), Check::AtMost(own, position)];
        let key = object_key(self.writer, object);
        checks.push(if old.is_some() { Check::Present(key) } else { Check::Absent(key) });
        let wait = if random.chance(30) { Wait::Ordered } else { Wait::Durable };
        Commit {
            checks,
            writes,
            note: Bytes::from(format!("{}/{n}", self.writer)),
            wait,
            may_use_reserve: false,
        }
    }
}

/// Mostly rows that stay in the index, some that stay in the log, a few that are inline blobs.
fn length(random: &mut Random) -> usize {
    match random.below(100) {
        0..=79 => 10 + random.index(300),
        80..=96 => 1000 + random.index(4000),
        _ => 20_000 + random.index(100_000),
    }
}
