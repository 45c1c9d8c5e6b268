//! Filing: the files of the `files` bucket by number and in lists (contract §5.4, D2–D6, D42).
//!
//! A file here is the current version at a key of the scheme; nothing is stored for it but rows that follow from the
//! record (`views.rs`, `usage.rs`). `query` says which lists hold an answer, `runs` reads their rows, `merge` makes
//! pages in the order of time, `scan` and `select` all others, `tree` groups; `add` and `change` are the ways in.
//! Promises: heads are read for the page shown and no others; a list shows only what the caller may read; no memory
//! grows with the number of files. Totals are those of the moment they were counted at, not of the page's rows.
//! Leaves out: JSON, messages and languages (the REST door), who a number of a user is (`identity`).

mod add;
mod change;
mod merge;
mod query;
mod runs;
mod scan;
mod select;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coffre_kv::Kv;

pub use add::{Added, NewFile};
pub use change::{FileChange, Folder};
pub use query::{Filter, Query, SortBy};
pub use tree::Branch;

use crate::codec::keys;
use crate::commit::RESTARTS_MAX;
use crate::error::{Error, Result};
use crate::object::{At, Bucket, Digest, Version};
use crate::scheme::{Category, Filing, Place};
use crate::usage::{Measure, list_counters};
use crate::views::{self, Pointer};
use crate::{Action, Cx, ObjectKey, Store};
use query::sources;
use runs::{Run, serial_of};

/// A file of filing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Its number.
    pub serial: u64,
    /// Its key in the bucket of filing.
    pub key: ObjectKey,
    /// What the key says.
    pub place: Filing,
    /// Everything else.
    pub version: Version,
}

impl Filed {
    /// A current version as a file; `None` when its key is outside the scheme or it has no number.
    fn of(bucket: &Bucket, key: &ObjectKey, version: Version) -> Option<Self> {
        let Some(Place::Filing(place)) = Place::parse(bucket.place?, key) else { return None };
        Some(Self { serial: version.ids.filing?, key: key.clone(), place, version })
    }

    /// The name shown: its label, else its key's last segment (contract D5).
    pub fn file_name(&self) -> &str {
        self.version.attributes.label.as_deref().unwrap_or(&self.place.name)
    }

    /// Its MIME type (contract D17), without parameters.
    pub fn mime(&self) -> String {
        views::type_essence(&self.version)
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePage {
    /// Its files, in order.
    pub files: Vec<Filed>,
    /// How many the whole list has.
    pub total: u64,
}

/// How many, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many files.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
}

/// What a caller's lists hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// In all.
    pub all: Amount,
    /// By MIME type.
    pub by_type: BTreeMap<String, Amount>,
    /// By category.
    pub by_category: BTreeMap<Category, Amount>,
}

impl Store {
    /// A page of what the caller may see. With one filter or none, whatever the order but by name and size, its cost is
    /// that of the page and what is before it, or behind it; else that of the shortest list that holds the answer.
    /// (With times and another filter or order, the rows between them are counted.)
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`; `Busy` when the list changes faster than it can be read.
    pub async fn files(&self, cx: &Cx, query: &Query) -> Result<FilePage> {
        let Some(between) = query.filter.tails() else { return Ok(FilePage::default()) };
        let Lists { scopes, runs } = self.lists(cx, &query.filter).await?;
        let kv = self.inner.kv();
        let is_by_rows = query.filter.needle().is_some()
            || matches!(query.by, SortBy::FileName | SortBy::SizeBytes)
            || runs.iter().any(|run| !run.only.is_all());
        let (total, serials) = if is_by_rows {
            scan::page(kv, &runs, between, query).await?
        } else {
            in_time(kv, Lists { scopes, runs }, between, query).await?
        };
        Ok(FilePage { files: self.filed_of(cx, &serials).await?, total })
    }

    /// The file with this number.
    ///
    /// # Errors
    /// `Hidden` when there is none or the caller may not read it.
    pub async fn file(&self, cx: &Cx, serial: u64) -> Result<Filed> {
        let bucket = self.find_bucket(&self.inner.options.built_in.filing).await?.value;
        let filed = self.find_filed(&bucket, serial).await?.ok_or(Error::Hidden)?;
        self.ask(cx, Action::GetObject, &bucket, Some(&filed.key), Some(&filed.version))?;
        Ok(filed)
    }

    /// As [`Store::file`], once the SHA-256 that is being made of its pieces is known (design §2.3); `None` when that
    /// takes longer than `patience`. Of a file that is open for writing it is not made, nor waited for.
    ///
    /// # Errors
    /// As [`Store::file`].
    pub async fn file_hashed(&self, cx: &Cx, serial: u64, patience: Duration) -> Result<Option<Filed>> {
        let look = async {
            loop {
                let mut known = std::pin::pin!(self.inner.background.known().notified());
                known.as_mut().enable();
                let filed = self.file(cx, serial).await?;
                let version = &filed.version;
                if version.sha256 != Digest::Pending || self.is_in_session(version.id) {
                    return Ok(filed);
                }
                // nobody tells of one that was replaced meanwhile
                drop(tokio::time::timeout(Duration::from_secs(1), known).await);
            }
        };
        tokio::time::timeout(patience, look).await.ok().transpose()
    }

    /// The files with these numbers, in order, without those that are gone or that the caller may not read.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn filed_of(&self, cx: &Cx, serials: &[u64]) -> Result<Vec<Filed>> {
        let bucket = self.find_bucket(&self.inner.options.built_in.filing).await?.value;
        let mut files = Vec::with_capacity(serials.len());
        for serial in serials {
            let Some(filed) = self.find_filed(&bucket, *serial).await? else { continue };
            // a policy may forbid what the lists hold
            let existing = Some(&filed.version);
            if self.ask(cx, Action::GetObject, &bucket, Some(&filed.key), existing).is_ok() {
                files.push(filed);
            }
        }
        Ok(files)
    }

    /// How much the caller's lists hold, by counters.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn filing_statistics(&self, cx: &Cx) -> Result<Statistics> {
        let mut statistics = Statistics::default();
        for run in self.lists(cx, &Filter::default()).await?.runs {
            let bytes = self.inner.kv().get(&list_counters(Measure::Bytes, &run.prefix)).await?;
            let bytes = bytes.and_then(|entry| entry.counter()).unwrap_or_default();
            let (files, bytes) = (run.count, u64::try_from(bytes).unwrap_or_default());
            let by_type = statistics.by_type.entry(run.mime.as_ref().to_owned()).or_default();
            let by_category = statistics.by_category.entry(run.category).or_default();
            for amount in [&mut statistics.all, by_type, by_category] {
                amount.files += files;
                amount.bytes += bytes;
            }
        }
        Ok(statistics)
    }

    /// Where the file with this number stands now.
    async fn find_filed(&self, bucket: &Bucket, serial: u64) -> Result<Option<Filed>> {
        for _ in 0..RESTARTS_MAX {
            let Some(row) = self.inner.kv().get(&keys::file_filing(serial)).await? else { return Ok(None) };
            let pointer = Pointer::decode(&row.value)?;
            let key: ObjectKey = pointer.key.parse()?;
            // moved or replaced between the two rows: look again
            if let Some(head) = self.find_head(bucket, &key).await?
                && head.value.ids.filing == Some(serial)
            {
                return Ok(Filed::of(bucket, &key, head.value));
            }
        }
        Err(Error::Busy)
    }

    /// The lists that hold what the caller may see of what a filter names.
    async fn lists(&self, cx: &Cx, filter: &Filter) -> Result<Lists> {
        let mime = filter.mime.as_deref().map(str::to_ascii_lowercase);
        let mut shortest: Option<(u64, Lists)> = None;
        for sources in sources(&cx.principal, filter) {
            let mut runs = runs::of_sources(self.inner.kv(), &sources).await?;
            runs.retain(|run| {
                filter.category.is_none_or(|category| category == run.category)
                    && mime.as_deref().is_none_or(|mime| mime == run.mime.as_ref())
            });
            let rows = runs.iter().map(|run| run.count).sum();
            if shortest.as_ref().is_none_or(|(least, _)| rows < *least) {
                let scopes = sources.iter().map(|source| views::filing_scope_prefix(source.scope)).collect();
                shortest = Some((rows, Lists { scopes, runs }));
            }
        }
        Ok(shortest.map(|(_, lists)| lists).unwrap_or_default())
    }

    /// Where filing's file stands, for a change.
    fn filing_at(&self, key: ObjectKey) -> At {
        At { bucket: self.inner.options.built_in.filing.clone(), key }
    }
}

/// What an answer is found in.
#[derive(Debug, Default)]
struct Lists {
    /// The prefixes of the lists.
    scopes: Vec<bytes::Bytes>,
    /// Their runs of the categories and types asked for.
    runs: Vec<Run>,
}

/// A page in an order that the rows stand in: by time, or by what runs are apart in and then by time.
async fn in_time(
    kv: &Arc<dyn Kv>,
    Lists { scopes, runs }: Lists,
    between: (runs::Tail, runs::Tail),
    query: &Query,
) -> Result<(u64, Vec<u64>)> {
    let filter = &query.filter;
    let is_whole = filter.category.is_none() && filter.mime.is_none() && query.by == SortBy::UploadedAt;
    let mut groups: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for run in runs {
        let group = match query.by {
            SortBy::Category => run.category.as_str().to_owned(),
            SortBy::MimeType => run.mime.as_ref().to_owned(),
            SortBy::UploadedAt | SortBy::FileName | SortBy::SizeBytes => String::new(),
        };
        groups.entry(group).or_default().push(run);
    }
    let mut groups: Vec<Vec<Run>> = groups.into_values().collect();
    let is_by_time = query.by == SortBy::UploadedAt;
    if query.is_descending && !is_by_time {
        groups.reverse();
    }
    let (mut total, mut offset) = (0, query.offset);
    let mut serials = Vec::with_capacity(query.limit);
    for runs in groups {
        let here = if filter.is_of_all_times() {
            runs.iter().map(|run| run.count).sum()
        } else if is_whole {
            let times = (filter.from_ms.unwrap_or(0), filter.until_ms.unwrap_or(u64::MAX));
            runs::count_days(kv, &scopes, &runs, times).await?
        } else {
            runs::count(kv, &runs, between).await?
        };
        total += here;
        let is_newest_first = !is_by_time || query.is_descending;
        let limit = query.limit - serials.len();
        let page = merge::Page { between, is_newest_first, offset, limit, total: here };
        serials.extend(page.read(kv, &runs).await?.into_iter().map(serial_of));
        offset = offset.saturating_sub(here);
    }
    Ok((total, serials))
}
