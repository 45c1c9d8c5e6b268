//! What derived rows should say, from the versions, and what they do say: both as one stream of items.
//!
//! Versions, manifests' pages, uploads and parts are the truth. What follows from them — references, manifests'
//! owners, views, the pending list, counters — is generated on one side and read on the other. Memory is bounded
//! however many there are: a first survey only sums fingerprints into partitions, further ones collect the items of
//! partitions that differ. Counters are held whole; there are as many as buckets, owners and organisations.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use coffre_kv::Entry;

use super::Finding;
use crate::codec::keys;
use crate::codec::object::{decode_bucket, decode_history, decode_page, decode_version, encode_gone};
use crate::error::{Error, Result};
use crate::name::{BucketId, ObjectKey, UploadId};
use crate::object::{BlobId, Bucket, Extent, HistoryEntry, Manifest, Version};
use crate::pages::Pages;
use crate::{Store, derived, multipart, refs, resumable, usage};

/// Partitions of a survey: of a million items each holds a few hundred.
const PARTITIONS: usize = 4096;
/// Items collected at once, at most (beyond a partition's own number).
const COLLECT_MAX: u64 = 100_000;
/// Findings kept; what is beyond is counted.
const FINDINGS_MAX: usize = 1_000;

/// Which side an item was met on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// It follows from the truth.
    Wanted,
    /// It stands in a row.
    There,
}

/// Fingerprints of a partition's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: u64,
}

/// An item that one side has and the other has not, or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The row's key; for a reference that of its own row, even if it stands in the blob's.
    pub(super) key: Bytes,
    /// What it should be.
    pub(super) wanted: Option<Bytes>,
    /// What it is.
    pub(super) there: Option<Bytes>,
}

/// What a survey gathers.
#[derive(Debug)]
enum Gather {
    Tallies { wanted: Vec<Tally>, there: Vec<Tally> },
    Items { of: Vec<bool>, wanted: BTreeMap<Bytes, Bytes>, there: BTreeMap<Bytes, Bytes> },
}

/// A survey of the whole store.
#[derive(Debug)]
pub(super) struct Survey {
    gather: Gather,
    /// Counters as they should be and as they are.
    pub(super) counters: BTreeMap<Bytes, (i64, i64)>,
    /// What is wrong with the truth itself.
    pub(super) findings: Vec<Finding>,
    pub(super) versions: u64,
    pub(super) blobs: u64,
}

impl Survey {
    fn new(gather: Gather) -> Self {
        Self { gather, counters: BTreeMap::new(), findings: Vec::new(), versions: 0, blobs: 0 }
    }

    fn item(&mut self, side: Side, key: Bytes, value: Bytes) {
        let partition = partition_of(&key);
        match (&mut self.gather, side) {
            (Gather::Tallies { wanted: tallies, .. }, Side::Wanted)
            | (Gather::Tallies { there: tallies, .. }, Side::There) => {
                if let Some(tally) = tallies.get_mut(partition) {
                    tally.count += 1;
                    tally.sum = tally.sum.wrapping_add(hash(&(key, value)));
                }
            }
            (Gather::Items { of, wanted: items, .. }, Side::Wanted)
            | (Gather::Items { of, there: items, .. }, Side::There) => {
                if of.get(partition).copied().unwrap_or_default() {
                    items.insert(key, value);
                }
            }
        }
    }

    /// Notes something wrong.
    pub(super) fn find(&mut self, kind: &'static str, message: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { kind, message });
        }
    }

    /// Notes a damaged row and goes on; other errors end the survey.
    fn or_find<T>(&mut self, row: &[u8], outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt { what }) => {
                self.find("record", format!("row {}: {what}", hex::encode(row)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn references<'a>(
        &mut self,
        side: Side,
        extents: impl IntoIterator<Item = &'a Extent>,
        owner: refs::Owner,
    ) {
        let blobs: std::collections::BTreeSet<BlobId> = extents.into_iter().map(|e| e.blob).collect();
        for blob in blobs {
            self.item(side, refs::owner_key(&blob, &owner), Bytes::new());
        }
    }

    fn entry(&mut self, bucket: &Bucket, key: &ObjectKey, version: &Version, is_current: bool) {
        self.versions += 1;
        for (row, value) in derived::rows(bucket, key, version, is_current) {
            self.item(Side::Wanted, row, value);
        }
        for (counter, n) in usage::of(bucket, key, version, is_current) {
            self.counters.entry(counter).or_default().0 += n;
        }
        match &version.manifest {
            Manifest::Inline(extents) => self.references(Side::Wanted, extents, version.id.0),
            Manifest::Paged { id, .. } => {
                self.item(Side::Wanted, keys::manifest_owner(*id, version.id), Bytes::new());
            }
        }
    }

    /// Partitions whose two sides differ, as many as may be collected at once.
    fn differing(&self) -> Option<Vec<bool>> {
        let Gather::Tallies { wanted, there } = &self.gather else { return None };
        let mut of = vec![false; PARTITIONS];
        let (mut count, mut is_any) = (0, false);
        for ((wanted, there), of) in wanted.iter().zip(there).zip(&mut of) {
            if wanted != there && (count == 0 || count + wanted.count + there.count <= COLLECT_MAX) {
                count += wanted.count + there.count;
                (*of, is_any) = (true, true);
            }
        }
        is_any.then_some(of)
    }

    fn differences(self) -> Vec<Difference> {
        let Gather::Items { wanted, mut there, .. } = self.gather else { return Vec::new() };
        let mut found = Vec::new();
        for (key, wanted) in wanted {
            let there = there.remove(&key);
            if there.as_ref() != Some(&wanted) {
                found.push(Difference { key, wanted: Some(wanted), there });
            }
        }
        found.extend(there.into_iter().map(|(key, there)| Difference {
            key,
            wanted: None,
            there: Some(there),
        }));
        found
    }
}

/// What a survey of the whole found.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) differences: Vec<Difference>,
    /// There are more, which were not collected this time.
    pub(super) is_partial: bool,
    /// Counters that should be otherwise, with what they lack.
    pub(super) counters: Vec<(Bytes, i64)>,
    pub(super) findings: Vec<Finding>,
    pub(super) versions: u64,
    pub(super) blobs: u64,
}

impl Store {
    /// Compares derived rows with the truth.
    pub(super) async fn survey(&self) -> Result<Surveyed> {
        let tallies = || vec![Tally::default(); PARTITIONS];
        let gather = Gather::Tallies { wanted: tallies(), there: tallies() };
        let survey = self.look(Survey::new(gather), true).await?;
        let (mut differences, mut is_partial) = (Vec::new(), false);
        if let Some(of) = survey.differing() {
            let collected = of.iter().filter(|of| **of).count();
            let gather = Gather::Items { of, wanted: BTreeMap::new(), there: BTreeMap::new() };
            differences = self.look(Survey::new(gather), false).await?.differences();
            let Gather::Tallies { wanted, there } = &survey.gather else { unreachable!("made so above") };
            is_partial = wanted.iter().zip(there).filter(|(w, t)| w != t).count() > collected;
        }
        let counters = survey.counters.into_iter().map(|(row, (wanted, there))| (row, wanted - there));
        Ok(Surveyed {
            differences,
            is_partial,
            counters: counters.filter(|(_, lack)| *lack != 0).collect(),
            findings: survey.findings,
            versions: survey.versions,
            blobs: survey.blobs,
        })
    }

    async fn look(&self, mut survey: Survey, with_structure: bool) -> Result<Survey> {
        let buckets = self.all_buckets(&mut survey).await?;
        self.look_at_heads(&mut survey, &buckets).await?;
        self.look_at_history(&mut survey, &buckets, with_structure).await?;
        self.look_at_manifests(&mut survey).await?;
        let all: Vec<Bucket> = buckets.into_values().collect();
        let unfinished = multipart::unfinished(&**self.inner.kv(), &all).await?;
        let unfinished = resumable::recount(&**self.inner.kv(), &all, unfinished).await?;
        for due in unfinished.due {
            survey.item(Side::Wanted, due, Bytes::new());
        }
        for (blob, owner) in unfinished.references {
            survey.item(Side::Wanted, refs::owner_key(&blob, &owner), Bytes::new());
        }
        for (counter, n) in unfinished.usage {
            survey.counters.entry(counter).or_default().0 += n;
        }
        for fault in unfinished.faults {
            survey.find("record", fault);
        }
        self.look_at_rows(&mut survey).await?;
        Ok(survey)
    }

    async fn all_buckets(&self, survey: &mut Survey) -> Result<BTreeMap<BucketId, Bucket>> {
        let mut buckets = BTreeMap::new();
        let mut pages = Pages::of(keys::BUCKET);
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                if let Some(bucket) = survey.or_find(&row, decode_bucket(&entry.value))? {
                    buckets.insert(bucket.id, bucket);
                }
            }
        }
        Ok(buckets)
    }

    async fn look_at_heads(&self, survey: &mut Survey, buckets: &BTreeMap<BucketId, Bucket>) -> Result<()> {
        let mut pages = Pages::of(keys::HEAD);
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                let parsed = keys::parse_head(&row).and_then(|(bucket, key)| Ok((bucket, object_key(key)?)));
                let Some((bucket, key)) = survey.or_find(&row, parsed)? else { continue };
                let Some(version) = survey.or_find(&row, decode_version(&entry.value))? else { continue };
                let Some(bucket) = buckets.get(&bucket) else {
                    survey.find("record", format!("head {} is of no bucket", hex::encode(&row)));
                    continue;
                };
                survey.entry(bucket, &key, &version, true);
                self.look_at_pages(survey, &row, &version).await?;
            }
        }
        Ok(())
    }

    async fn look_at_history(
        &self,
        survey: &mut Survey,
        buckets: &BTreeMap<BucketId, Bucket>,
        with_structure: bool,
    ) -> Result<()> {
        let mut pages = Pages::of(keys::VERSION);
        let mut last: Option<(BucketId, String)> = None;
        let mut nulls = 0;
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                let parsed = keys::parse_version(&row);
                let parsed =
                    parsed.and_then(|(bucket, key, sequence)| Ok((bucket, object_key(&key)?, sequence)));
                let Some((id, key, sequence)) = survey.or_find(&row, parsed)? else { continue };
                let Some(entry) = survey.or_find(&row, decode_history(&entry.value))? else { continue };
                let Some(bucket) = buckets.get(&id) else {
                    survey.find("record", format!("version {} is of no bucket", hex::encode(&row)));
                    continue;
                };
                let is_newest = last.as_ref().is_none_or(|(b, k)| *b != id || k != key.as_str());
                if is_newest {
                    last = Some((id, key.to_string()));
                    nulls = 0;
                }
                nulls += u32::from(entry.is_null());
                let head = if is_newest {
                    let head_row = keys::head(id, &key);
                    let head = self.inner.kv().get(&head_row).await?;
                    if head.is_none() && entry.version().is_none() {
                        survey.item(Side::Wanted, keys::gone(id, &key), encode_gone(sequence));
                    }
                    head
                } else {
                    None
                };
                if with_structure {
                    let place = Where { sequence, is_newest, nulls, head };
                    if let Some(wrong) = misplaced(&entry, &place) {
                        survey.find("record", format!("version {}: {wrong}", hex::encode(&row)));
                    }
                }
                if let Some(version) = entry.version() {
                    survey.entry(bucket, &key, version, false);
                    self.look_at_pages(survey, &row, version).await?;
                }
            }
        }
        Ok(())
    }

    /// The pages of a version's manifest are all there.
    async fn look_at_pages(&self, survey: &mut Survey, row: &[u8], version: &Version) -> Result<()> {
        let Manifest::Paged { id, pages } = version.manifest else { return Ok(()) };
        for page in 0..pages {
            if self.inner.kv().get(&keys::manifest_page(id, page)).await?.is_none() {
                let message = format!("row {}: page {page} of its manifest is missing", hex::encode(row));
                survey.find("manifest", message);
            }
        }
        Ok(())
    }

    async fn look_at_manifests(&self, survey: &mut Survey) -> Result<()> {
        let mut pages = Pages::of(keys::MANIFEST);
        let mut seen: Option<UploadId> = None;
        let mut blobs = std::collections::BTreeSet::new();
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                let id = keys::split::<1>(&row).and_then(|(_, rest)| keys::split::<16>(rest));
                let Some((id, _)) = survey.or_find(&row, id)? else { continue };
                let Some(extents) = survey.or_find(&row, decode_page(&entry.value))? else { continue };
                if seen != Some(UploadId(id)) {
                    seen = Some(UploadId(id));
                    blobs.clear();
                }
                // a blob that several pages name has one reference
                let new: Vec<Extent> = extents.into_iter().filter(|e| blobs.insert(e.blob)).collect();
                survey.references(Side::Wanted, &new, id);
            }
        }
        Ok(())
    }

    /// The other side: rows as they are.
    async fn look_at_rows(&self, survey: &mut Survey) -> Result<()> {
        for table in [keys::GONE, keys::TUS_DUE, keys::MANIFEST_OWNER, keys::FILE, keys::BY, keys::PENDING] {
            let mut pages = Pages::of(table);
            while let Some(rows) = pages.next(self).await? {
                for (row, entry) in rows {
                    survey.item(Side::There, row, entry.value);
                }
            }
        }
        let mut pages = Pages::of(keys::USE);
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                match entry.counter() {
                    Some(n) => survey.counters.entry(row).or_default().1 += n,
                    None => survey.find("usage", format!("row {} is no counter", hex::encode(&row))),
                }
            }
        }
        let mut pages = Pages::of(keys::BLOB);
        while let Some(rows) = pages.next(self).await? {
            for (row, entry) in rows {
                match refs::parse_blob_key(&row) {
                    Some(refs::BlobKey::Row(blob)) => {
                        let decoded = refs::BlobRow::decode(&entry.value);
                        let Some(found) = survey.or_find(&row, decoded)? else { continue };
                        survey.blobs += 1;
                        for owner in &found.owners {
                            survey.item(Side::There, refs::owner_key(&blob, owner), Bytes::new());
                        }
                    }
                    Some(refs::BlobKey::Owner(..)) => survey.item(Side::There, row, Bytes::new()),
                    Some(refs::BlobKey::Inline(_) | refs::BlobKey::Stretch(..)) => {}
                    None => survey.find("record", format!("row {} is no blob's", hex::encode(&row))),
                }
            }
        }
        Ok(())
    }
}

/// Where an entry of the history was met.
struct Where {
    sequence: u64,
    is_newest: bool,
    /// `null` entries of its key so far.
    nulls: u32,
    /// Its key's head, looked up for the newest.
    head: Option<Entry>,
}

/// What is wrong with where an entry of the history stands.
fn misplaced(entry: &HistoryEntry, place: &Where) -> Option<&'static str> {
    if entry.sequence() != place.sequence {
        return Some("its record names another sequence");
    }
    if place.nulls > 1 {
        return Some("its key has two null entries");
    }
    if !place.is_newest {
        return None;
    }
    let Some(head) = &place.head else {
        return entry.version().is_some().then_some("it is the newest, and its key has no head");
    };
    // a damaged head has been told of already
    let head = decode_version(&head.value).ok()?;
    if head.sequence <= place.sequence {
        return Some("its key's head is older");
    }
    (head.is_null && place.nulls > 0).then_some("its key has two null entries")
}

fn object_key(text: &str) -> Result<ObjectKey> {
    text.parse().map_err(|_| crate::codec::corrupt("a key that no object may have"))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn partition_of(key: &Bytes) -> usize {
    usize::try_from(hash(key) % PARTITIONS as u64).unwrap_or_default()
}
