//! Listing by seeking: prefix, delimiter, pages, versions (S3 ListObjects, ListObjectsV2, ListObjectVersions).
//!
//! Promises: a plain list reads the rows of the page and one per common prefix, and never steps over old versions;
//! a page's cursor is its last entry or common prefix, so keys that come or go between pages are neither repeated
//! nor the cause of others being left out. A record that cannot be read is reported and left out: it does not hide
//! the others. `walk` decides about rows, this file reads them.

mod walk;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::Arc;

use coffre_kv::{Kv, KvExt, Row, SHORT_ROWS, Scan, Step};

use crate::codec::keys;
use crate::codec::object::{decode_brief, decode_history, decode_version, marker_for_version};
use crate::object::{Brief, Bucket, HistoryEntry, Version};
use crate::{Action, Ask, BucketId, BucketName, Cx, Decision, ObjectKey, Result, Store, VersionRef};

pub(crate) use walk::{Look, RowPrefix, Walk, seek_past};

/// Most entries and common prefixes of one page (S3).
pub const PAGE_MAX: usize = 1000;

/// What to list.
#[derive(Clone, Debug)]
pub struct List {
    /// Of which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so; empty: all.
    pub prefix: String,
    /// Roll keys up at the first of these after the prefix; empty: do not.
    pub delimiter: String,
    /// Begin after this: a key, or a common prefix (all of whose keys are then skipped); empty: at the beginning.
    pub after: String,
    /// Most entries and common prefixes together; over [`PAGE_MAX`] counts as that.
    pub limit: usize,
}

/// A page of current versions.
#[derive(Clone, Debug)]
pub struct Page<E = Box<Version>> {
    /// Keys and their current versions, in UTF-8 byte order.
    pub entries: Vec<(String, E)>,
    /// Common prefixes, in order; interleaved with the entries they make up the page.
    pub common_prefixes: Vec<String>,
    /// What to give as `after` for the next page: the last entry or common prefix of this one; `None`: no more.
    pub next_after: Option<String>,
}

impl<E> Default for Page<E> {
    fn default() -> Self {
        Self { entries: Vec::new(), common_prefixes: Vec::new(), next_after: None }
    }
}

/// What to list of all versions.
#[derive(Clone, Debug)]
pub struct ListVersions {
    /// Bucket, prefix, delimiter, limit; `after` is the key marker.
    pub list: List,
    /// With a key marker: begin after this version of that key; `None`: after all of them.
    pub after_version: Option<VersionRef>,
}

/// A page of all versions and delete markers.
#[derive(Clone, Debug, Default)]
pub struct VersionsPage {
    /// Key, entry, whether it is the key's latest; keys ascend, a key's versions go from new to old.
    pub entries: Vec<(String, HistoryEntry, bool)>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<String>,
    /// Key marker and version marker of the next page; `None`: no more.
    pub next: Option<(String, Option<VersionRef>)>,
}

impl Store {
    /// A page of a bucket's current versions. In the built-in buckets only what the caller may read (contract D2).
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn list(&self, cx: &Cx, list: List) -> Result<Page> {
        self.page_of(cx, list).await
    }

    /// The same of what S3 shows.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_brief(&self, cx: &Cx, list: List) -> Result<Page<Brief>> {
        self.page_of(cx, list).await
    }

    async fn page_of<E: Listed>(&self, cx: &Cx, list: List) -> Result<Page<E>> {
        let prefix = Some(list.prefix.as_str());
        let bucket = self.allowed_bucket(cx, &list.bucket, Action::ListBucket, prefix, None).await?.value;
        page(&**self.inner.kv(), bucket.id, &list, self.shown_to(cx, &bucket)).await
    }

    /// A page of a bucket's versions and delete markers.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_versions(&self, cx: &Cx, list: ListVersions) -> Result<VersionsPage> {
        let (name, prefix) = (&list.list.bucket, Some(list.list.prefix.as_str()));
        let bucket = self.allowed_bucket(cx, name, Action::ListBucketVersions, prefix, None).await?.value;
        versions_page(&**self.inner.kv(), bucket.id, &list, self.shown_to(cx, &bucket)).await
    }

    /// Which rows of a bucket the caller's listings show.
    pub(crate) fn shown_to(&self, cx: &Cx, bucket: &Bucket) -> Shown {
        bucket.place.is_some().then(|| {
            let (authority, cx, bucket) =
                (Arc::clone(&self.inner.options.authority), cx.clone(), bucket.clone());
            let shown: ShownRow = Arc::new(move |key, existing| {
                let ask = Ask {
                    cx: &cx,
                    action: Action::GetObject,
                    bucket: Some(&bucket),
                    key: Some(key),
                    existing,
                    initiator: None,
                };
                authority.decide(&ask) == Decision::Allow
            });
            shown
        })
    }
}

/// Whether a row is shown, by its key and version.
pub(crate) type ShownRow = Arc<dyn Fn(&str, Option<&Version>) -> bool + Send + Sync>;
/// `None`: all are.
pub(crate) type Shown = Option<ShownRow>;

/// What a listing makes of a record.
trait Listed: Sized + Send + 'static {
    fn decode(record: &[u8]) -> Result<Self>;

    /// The same of a record that had to be read whole.
    fn of(entry: HistoryEntry) -> Result<Self>;
}

impl Listed for Brief {
    fn decode(record: &[u8]) -> Result<Self> {
        decode_brief(record)
    }

    fn of(entry: HistoryEntry) -> Result<Self> {
        Box::<Version>::of(entry).map(|version| Self::from(*version))
    }
}

impl Listed for Box<Version> {
    fn decode(record: &[u8]) -> Result<Self> {
        decode_version(record).map(Box::new)
    }

    fn of(entry: HistoryEntry) -> Result<Self> {
        match entry {
            HistoryEntry::Version(version) => Ok(version),
            HistoryEntry::DeleteMarker(_) => Err(marker_for_version()),
        }
    }
}

impl Listed for HistoryEntry {
    fn decode(record: &[u8]) -> Result<Self> {
        decode_history(record)
    }

    fn of(entry: HistoryEntry) -> Result<Self> {
        Ok(entry)
    }
}

/// Reads a record, if it comes after the marker's sequence and the caller sees it.
fn read<E: Listed>(
    record: &[u8],
    key: &str,
    below: Option<u64>,
    shown: Option<&ShownRow>,
) -> Result<Option<E>> {
    if below.is_none() && shown.is_none() {
        return E::decode(record).map(Some);
    }
    let entry = decode_history(record)?;
    let counts = below.is_none_or(|below| entry.sequence() < below)
        && shown.is_none_or(|shown| shown(key, entry.version()));
    if counts { E::of(entry).map(Some) } else { Ok(None) }
}

/// One unit of a page while it is read.
#[derive(Debug)]
enum Unit<E> {
    Entry(String, E),
    Common(String),
}

impl<E> Unit<E> {
    fn text(&self) -> &str {
        match self {
            Self::Entry(key, _) | Self::Common(key) => key,
        }
    }
}

impl Unit<HistoryEntry> {
    /// The order of a page of versions.
    fn order(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text()).then_with(|| match (self, other) {
            (Self::Entry(_, a), Self::Entry(_, b)) => b.sequence().cmp(&a.sequence()),
            _ => Ordering::Equal,
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Entry(a, x), Self::Entry(b, y)) => a == b && x.id() == y.id(),
            (Self::Common(a), Self::Common(b)) => a == b,
            _ => false,
        }
    }
}

/// How the rows of a table become units.
#[derive(Clone, Copy)]
struct Table {
    row_prefix: RowPrefix,
    /// What follows an object key in a row's key; empty: nothing.
    key_end: &'static [u8],
    parse_key: fn(&[u8]) -> Result<String>,
}

const HEADS: Table = Table {
    row_prefix: keys::head_prefix,
    key_end: &[],
    parse_key: |row| keys::parse_head(row).map(|(_, key)| key.to_owned()),
};

const HISTORY: Table = Table {
    row_prefix: keys::versions_prefix,
    key_end: &[0, 0],
    parse_key: |row| keys::parse_version(row).map(|(_, key, _)| key),
};

/// A page of current versions, as rows of an engine.
async fn page<E: Listed>(kv: &dyn Kv, bucket: BucketId, list: &List, shown: Shown) -> Result<Page<E>> {
    let limit = list.limit.min(PAGE_MAX);
    let mut page = Page::default();
    if limit == 0 {
        return Ok(page);
    }
    let walk = Walk::new(&list.prefix, &list.delimiter, &list.after, false, limit);
    let (units, has_more) = units(kv, bucket, HEADS, walk, None, shown).await?;
    page.next_after = units.last().filter(|_| has_more).map(|unit| unit.text().to_owned());
    for unit in units {
        match unit {
            Unit::Entry(key, entry) => page.entries.push((key, entry)),
            Unit::Common(prefix) => page.common_prefixes.push(prefix),
        }
    }
    Ok(page)
}

/// A page of versions: the units of two scans, merged. Each scan gives one unit more than fits, so the first units
/// of the merge are among them. Heads come first: a version that becomes history meanwhile is then met twice, which
/// can be told, and not missed, which could not.
async fn versions_page(
    kv: &dyn Kv,
    bucket: BucketId,
    list: &ListVersions,
    shown: Shown,
) -> Result<VersionsPage> {
    let ListVersions { list, after_version } = list;
    let limit = list.limit.min(PAGE_MAX);
    if limit == 0 {
        return Ok(VersionsPage::default());
    }
    let below = match after_version {
        Some(version) if !list.after.is_empty() => below_marker(kv, bucket, &list.after, *version).await?,
        _ => None,
    };
    let walk = Walk::new(&list.prefix, &list.delimiter, &list.after, below.is_some(), limit + 1);
    let marker = below.map(|sequence| (list.after.clone(), sequence));
    let (mut merged, _) =
        units::<HistoryEntry>(kv, bucket, HEADS, walk.clone(), marker.clone(), shown.clone()).await?;
    let (history, _) = units(kv, bucket, HISTORY, walk, marker, shown).await?;
    merged.extend(history);
    merged.sort_by(Unit::order);
    merged.dedup_by(|b, a| a.is_same(b));

    let mut page = VersionsPage::default();
    if merged.len() > limit {
        merged.truncate(limit);
        page.next = merged.last().map(|unit| match unit {
            Unit::Common(prefix) => (prefix.clone(), None),
            Unit::Entry(key, entry) if entry.is_null() => (key.clone(), Some(VersionRef::Null)),
            Unit::Entry(key, entry) => (key.clone(), Some(VersionRef::Id(entry.id()))),
        });
    }
    // newer entries of the marker's key were on the page before
    let mut previous = below.map(|_| list.after.clone());
    for unit in merged {
        match unit {
            Unit::Entry(key, entry) => {
                let is_latest = previous.as_deref() != Some(key.as_str());
                previous = Some(key.clone());
                page.entries.push((key, entry, is_latest));
            }
            Unit::Common(prefix) => page.common_prefixes.push(prefix),
        }
    }
    Ok(page)
}

/// Scans a table for the units of a walk. Of the marker's key only entries below the sequence given count.
async fn units<E: Listed>(
    kv: &dyn Kv,
    bucket: BucketId,
    table: Table,
    walk: Walk,
    marker: Option<(String, u64)>,
    shown: Shown,
) -> Result<(Vec<Unit<E>>, bool)> {
    let Some(range) = walk.range(bucket, table.row_prefix, table.key_end) else {
        return Ok((Vec::new(), false));
    };
    let scan = Scan::forward(range);
    // one more than fit is looked at, and nothing is passed over
    let is_short = walk.room() < SHORT_ROWS && shown.is_none() && marker.is_none();
    let scan = if is_short { scan.short() } else { scan };
    let (units, walk) = kv
        .scan_into(scan, (Vec::new(), walk), move |(units, walk), row| {
            match step(bucket, table, walk, marker.as_ref(), shown.as_ref(), row) {
                Stepped::Unit(unit, step) => {
                    units.push(unit);
                    step
                }
                Stepped::Nothing(step) => step,
            }
        })
        .await?;
    Ok((units, walk.has_more()))
}

enum Stepped<E> {
    Unit(Unit<E>, Step),
    Nothing(Step),
}

/// What one row adds to a page, and where to go from there.
fn step<E: Listed>(
    bucket: BucketId,
    table: Table,
    walk: &mut Walk,
    marker: Option<&(String, u64)>,
    shown: Option<&ShownRow>,
    row: Row<'_>,
) -> Stepped<E> {
    let key = match (table.parse_key)(row.key) {
        Ok(key) => key,
        Err(error) => {
            tracing::error!(row = hex::encode(row.key), %error, "a row that cannot be read is left out of a list");
            return Stepped::Nothing(Step::Next);
        }
    };
    let look = walk.look(&key);
    match look {
        Look::Behind => return Stepped::Nothing(Step::Next),
        Look::Rolled(common) => return Stepped::Nothing(seek_past(bucket, table.row_prefix, common)),
        // that the row is there is enough, unless it may lie before the marker
        Look::Common(common) if shown.is_none() && marker.is_none_or(|(after, _)| *after != key) => {
            if !walk.take(Some(common)) {
                return Stepped::Nothing(Step::Stop);
            }
            let past = seek_past(bucket, table.row_prefix, common);
            return Stepped::Unit(Unit::Common(common.to_owned()), past);
        }
        Look::Common(_) | Look::Entry => {}
    }
    let below = marker.filter(|(after, _)| *after == key).map(|(_, below)| *below);
    let entry = match read::<E>(row.value, &key, below, shown) {
        Ok(Some(entry)) => entry,
        Ok(None) => return Stepped::Nothing(Step::Next),
        Err(error) => {
            tracing::error!(row = hex::encode(row.key), %error, "a record that cannot be read is left out of a list");
            return Stepped::Nothing(Step::Next);
        }
    };
    if let Look::Common(common) = look {
        if !walk.take(Some(common)) {
            return Stepped::Nothing(Step::Stop);
        }
        return Stepped::Unit(Unit::Common(common.to_owned()), seek_past(bucket, table.row_prefix, common));
    }
    if !walk.take(None) {
        return Stepped::Nothing(Step::Stop);
    }
    Stepped::Unit(Unit::Entry(key, entry), Step::Next)
}

/// The sequence below which entries of the marker's key come after the marker. A version that has gone since stands
/// where its id, which sorts by time, says. `None`: nothing of this key comes after it.
async fn below_marker(kv: &dyn Kv, bucket: BucketId, key: &str, marker: VersionRef) -> Result<Option<u64>> {
    let Ok(key) = key.parse::<ObjectKey>() else { return Ok(None) };
    let find = move |entry: &HistoryEntry| {
        if entry.is(marker) {
            return Some(entry.sequence());
        }
        match marker {
            VersionRef::Id(id) if entry.id() < id => Some(entry.sequence() + 1),
            VersionRef::Id(_) | VersionRef::Null => None,
        }
    };
    if let Some(head) = kv.get(&keys::head(bucket, &key)).await? {
        let head = HistoryEntry::Version(Box::new(decode_version(&head.value)?));
        if let Some(sequence) = find(&head) {
            return Ok(Some(sequence));
        }
    }
    let scan = Scan::forward(coffre_kv::Range::prefix(keys::versions(bucket, &key)));
    kv.scan_into(scan, Ok(None), move |found: &mut Result<Option<u64>>, row| {
        match decode_history(row.value) {
            Ok(entry) => match find(&entry) {
                None => Step::Next,
                some => {
                    *found = Ok(some);
                    Step::Stop
                }
            },
            Err(error) => {
                *found = Err(error);
                Step::Stop
            }
        }
    })
    .await?
}
