//! The model: a key's history is a list.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffre_disk::seed::Random;

use crate::name::VersionId;
use crate::object::Versioning;

/// Keys of each bucket. The second bucket is `files`, whose keys are places; the third is never versioned.
pub(super) const BUCKETS: [(&str, [&str; 4]); 3] = [
    ("bucket", ["a", "a\0b", "é/ü//x", "z"]),
    ("files", ["client/c1/facture/x.pdf", "client/c1/facture/2024/y.pdf", "general/image/z.png", "loose"]),
    ("plain", ["a", "b", "c", "d"]),
];

/// Sizes around what is inline (64 in these tests), and a few different contents of each.
const SIZES: [usize; 6] = [0, 3, 64, 65, 3_000, 9_000];

/// Smallest part but the last (S3).
const PART_BYTES: usize = 5 * 1024 * 1024;

/// Bytes of one kind, for which a failed test needs one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) byte: u8,
    pub(super) len: usize,
}

impl Filled {
    pub(super) fn bytes(self) -> Bytes {
        vec![self.byte; self.len].into()
    }
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) is_null: bool,
    /// `None`: a delete marker.
    pub(super) content: Option<Content>,
}

/// What a version holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) tags: Vec<(String, String)>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, tags } = self;
        write!(f, "{} bytes ending in {:?}, tags {tags:?}", bytes.len(), bytes.last())
    }
}

/// A place: bucket and key by number.
pub(super) type Spot = (usize, usize);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Naive {
    pub(super) versioning: BTreeMap<usize, Versioning>,
    /// Oldest first; never an empty list.
    pub(super) histories: BTreeMap<Spot, Vec<Entry>>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Put {
        at: Spot,
        bytes: Filled,
        is_new_only: bool,
    },
    Delete {
        at: Spot,
    },
    DeleteMany {
        ats: Vec<Spot>,
    },
    DeleteVersion {
        at: Spot,
        id: VersionId,
        index: usize,
    },
    DeleteNull {
        at: Spot,
    },
    Copy {
        from: Spot,
        to: Spot,
    },
    Rename {
        from: Spot,
        to: Spot,
    },
    Tags {
        at: Spot,
        value: String,
    },
    TagsOfVersion {
        at: Spot,
        id: VersionId,
        index: usize,
        value: String,
    },
    SetVersioning {
        bucket: usize,
        versioning: Versioning,
    },
    /// Begun, filled and completed.
    Upload {
        at: Spot,
        parts: Vec<Filled>,
    },
    /// Begun, a part stored, and left; or aborted.
    Begin {
        at: Spot,
        bytes: Filled,
        is_aborted: bool,
    },
    /// A resumable upload: filled request by request, and at its end.
    Resume {
        at: Spot,
        pieces: Vec<Filled>,
    },
    /// The same but for its last byte; or given up.
    Leave {
        at: Spot,
        pieces: Vec<Filled>,
        is_given_up: bool,
    },
    /// Resumable pieces, composed.
    Compose {
        at: Spot,
        pieces: Vec<Filled>,
    },
    /// Opened, or made, written over at an offset, and committed.
    Edit {
        at: Spot,
        offset: usize,
        bytes: Filled,
    },
    /// The same, then more is written behind it and committed by the same open file.
    EditTwice {
        at: Spot,
        offset: usize,
        bytes: Filled,
    },
    /// The second half of it: the same version with more bytes.
    Extend {
        at: Spot,
        bytes: Filled,
    },
    /// Deleted by filing's number, where it has one.
    DeleteFile {
        at: Spot,
    },
    /// Given another name by filing's number: the same bytes.
    Label {
        at: Spot,
        value: String,
    },
    Sweep,
    Crash,
}

/// Where each entry's id stands: by place and index in the history.
pub(super) type IdsOf = BTreeMap<Spot, Vec<VersionId>>;

impl Op {
    pub(super) fn random(random: &mut Random, model: &Naive, ids: &IdsOf) -> Self {
        let bucket = random.index(BUCKETS.len());
        let at = (bucket, random.index(4));
        let other = (bucket, random.index(4));
        let anywhere = (random.index(BUCKETS.len()), random.index(4));
        let version = ids.get(&at).filter(|ids| !ids.is_empty()).map(|ids| {
            let index = random.index(ids.len());
            (ids[index], index)
        });
        let bytes =
            Filled { byte: u8::try_from(random.below(2)).unwrap(), len: SIZES[random.index(SIZES.len())] };
        let pieces = |random: &mut Random| {
            let one = |random: &mut Random| Filled {
                byte: u8::try_from(random.below(2)).unwrap(),
                len: SIZES[random.index(SIZES.len())],
            };
            (0..=random.below(3)).map(|_| one(random)).collect::<Vec<_>>()
        };
        // resumable uploads are for the built-in buckets
        let filed = (1, at.1);
        match random.below(142) {
            0..30 => Self::Put { at, bytes, is_new_only: random.chance(15) },
            30..38 => Self::Delete { at },
            38..42 => {
                Self::DeleteMany { ats: (0..random.below(6)).map(|_| (bucket, random.index(4))).collect() }
            }
            42..54 => match version {
                Some((id, index)) => Self::DeleteVersion { at, id, index },
                None => Self::DeleteNull { at },
            },
            54..58 => Self::DeleteNull { at },
            58..66 => Self::Copy { from: anywhere, to: at },
            66..76 => Self::Rename { from: at, to: other },
            76..81 => Self::Tags { at, value: random.below(9).to_string() },
            81..86 => match version {
                Some((id, index)) if model.histories[&at][index].content.is_some() => {
                    Self::TagsOfVersion { at, id, index, value: random.below(9).to_string() }
                }
                _ => Self::Tags { at, value: String::new() },
            },
            86..89 if bucket < 2 => {
                let versioning = [Versioning::Enabled, Versioning::Suspended][random.index(2)];
                Self::SetVersioning { bucket, versioning }
            }
            86..94 => Self::Sweep,
            94..100 => Self::Crash,
            100..108 => {
                // a part that is not the last has 5 MiB, so it is rare
                let large = random.chance(15).then_some(Filled { byte: 1, len: PART_BYTES });
                Self::Upload { at, parts: large.into_iter().chain([bytes]).collect() }
            }
            108..112 => Self::Begin { at, bytes, is_aborted: random.chance(30) },
            112..118 => Self::Resume { at: filed, pieces: pieces(random) },
            118..121 => Self::Leave { at: filed, pieces: pieces(random), is_given_up: random.chance(30) },
            121..124 => Self::Compose { at: filed, pieces: pieces(random) },
            124..127 => Self::DeleteFile { at: (1, at.1) },
            127..130 => Self::Label { at: (1, at.1), value: random.below(3).to_string() },
            _ => {
                let offset = [0, 2, 64, 5_000][random.index(4)];
                if random.chance(50) {
                    Self::Edit { at, offset, bytes }
                } else {
                    Self::EditTwice { at, offset, bytes }
                }
            }
        }
    }
}

impl Op {
    /// What happens one after another when nobody waits for the end: all keys of a list in one commit, but one that is
    /// named again only on what its first deletion left.
    pub(super) fn commits(&self) -> Vec<Self> {
        if let Self::EditTwice { at, offset, bytes } = *self {
            return vec![Self::Edit { at, offset, bytes }, Self::Extend { at, bytes }];
        }
        let Self::DeleteMany { ats } = self else { return vec![self.clone()] };
        let mut firsts = Vec::new();
        let mut later = Vec::new();
        for &at in ats {
            if firsts.contains(&at) {
                later.push(Self::Delete { at });
            } else {
                firsts.push(at);
            }
        }
        std::iter::once(Self::DeleteMany { ats: firsts }).chain(later).collect()
    }
}

impl Naive {
    fn versioning(&self, at: Spot) -> Versioning {
        self.versioning.get(&at.0).copied().unwrap_or_default()
    }

    pub(super) fn current(&self, at: Spot) -> Option<&Content> {
        self.histories.get(&at)?.last()?.content.as_ref()
    }

    /// Whether the store answers with success.
    pub(super) fn allows(&self, op: &Op) -> bool {
        match op {
            Op::Put { at, is_new_only, .. } => !is_new_only || self.current(*at).is_none(),
            Op::Copy { from, to } => self.current(*from).is_some() && from != to,
            Op::Rename { from, .. } | Op::Tags { at: from, .. } => self.current(*from).is_some(),
            _ => true,
        }
    }

    pub(super) fn apply(&mut self, op: &Op) {
        if !self.allows(op) {
            return;
        }
        match op {
            Op::Put { at, bytes, .. } => self.put(*at, Content { bytes: bytes.bytes(), tags: Vec::new() }),
            Op::Delete { at } => self.delete(*at),
            Op::DeleteMany { ats } => ats.iter().for_each(|at| self.delete(*at)),
            Op::DeleteVersion { at, index, .. } => {
                self.histories.get_mut(at).unwrap().remove(*index);
            }
            Op::DeleteNull { at } => self.drop_null(*at),
            Op::Copy { from, to } => self.put(*to, self.current(*from).unwrap().clone()),
            Op::Rename { from, to } => {
                if from != to {
                    let content = self.current(*from).unwrap().clone();
                    self.delete(*from);
                    self.put(*to, content);
                }
            }
            Op::Tags { at, value } => {
                let last = self.histories.get_mut(at).unwrap().last_mut().unwrap();
                last.content.as_mut().unwrap().tags = tags(value);
            }
            Op::TagsOfVersion { at, index, value, .. } => {
                let entry = &mut self.histories.get_mut(at).unwrap()[*index];
                entry.content.as_mut().unwrap().tags = tags(value);
            }
            Op::SetVersioning { bucket, versioning } => {
                self.versioning.insert(*bucket, *versioning);
            }
            Op::Upload { at, parts }
            | Op::Resume { at, pieces: parts }
            | Op::Compose { at, pieces: parts } => {
                self.put(
                    *at,
                    Content { bytes: parts.iter().flat_map(|part| part.bytes()).collect(), tags: Vec::new() },
                );
            }
            Op::Edit { at, offset, bytes } => self.edit(*at, *offset, *bytes),
            Op::EditTwice { at, offset, bytes } => {
                self.edit(*at, *offset, *bytes);
                self.extend(*at, *bytes);
            }
            Op::Extend { at, bytes } => self.extend(*at, *bytes),
            Op::DeleteFile { at } => {
                // the last key of the bucket is outside the scheme
                if at.1 < 3 && self.current(*at).is_some() {
                    self.delete(*at);
                }
            }
            Op::Label { .. } | Op::Begin { .. } | Op::Leave { .. } | Op::Sweep | Op::Crash => {}
        }
        self.histories.retain(|_, history| !history.is_empty());
    }

    /// Another version, with what was written over the current one's bytes and its tags; or the same, when nothing was.
    fn edit(&mut self, at: Spot, offset: usize, bytes: Filled) {
        let current = self.current(at).cloned();
        if bytes.len == 0 && current.is_some() {
            return;
        }
        let Content { bytes: before, tags } =
            current.unwrap_or(Content { bytes: Bytes::new(), tags: vec![] });
        let mut after = before.to_vec();
        if bytes.len > 0 {
            after.resize(after.len().max(offset + bytes.len), 0);
            after[offset..offset + bytes.len].fill(bytes.byte);
        }
        self.put(at, Content { bytes: after.into(), tags });
    }

    fn extend(&mut self, at: Spot, bytes: Filled) {
        if let Some(Entry { content: Some(content), .. }) =
            self.histories.get_mut(&at).and_then(|h| h.last_mut())
        {
            content.bytes = [content.bytes.as_ref(), &bytes.bytes()].concat().into();
        }
    }

    fn put(&mut self, at: Spot, content: Content) {
        self.push(at, Some(content));
    }

    fn delete(&mut self, at: Spot) {
        if self.versioning(at) == Versioning::Off {
            self.histories.remove(&at);
        } else {
            self.push(at, None);
        }
    }

    fn push(&mut self, at: Spot, content: Option<Content>) {
        let versioning = self.versioning(at);
        if versioning != Versioning::Enabled {
            self.drop_null(at);
        }
        let is_null = versioning != Versioning::Enabled;
        self.histories.entry(at).or_default().push(Entry { is_null, content });
    }

    fn drop_null(&mut self, at: Spot) {
        if let Some(history) = self.histories.get_mut(&at) {
            history.retain(|entry| !entry.is_null);
        }
    }
}

/// An object's tags from a value; none from an empty one.
pub(super) fn tags(value: &str) -> Vec<(String, String)> {
    if value.is_empty() { Vec::new() } else { vec![("k".to_owned(), value.to_owned())] }
}
