//! Stepping over ordered rows for a page: which rows count, which are rolled up, where to seek next. Pure.
//!
//! A *unit* of a page is an entry or a common prefix. The caller scans rows in key order and asks [`Walk::look`] for
//! each; a row inside a common prefix that has been taken is answered with the place to seek to, so a page costs one
//! seek a prefix however many keys lie under it.

use bytes::Bytes;
use coffre_kv::{Range, Step, after_prefix};

/// How a table writes an object key into its rows' keys, without the end that tells it from longer ones.
pub(crate) type RowPrefix = fn(crate::BucketId, &str) -> Bytes;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// At the first key.
    Nothing,
    /// Behind this key.
    Key(String),
    /// At this key, of which some entries come before the page.
    Within(String),
    /// Behind all keys under this common prefix.
    Common(String),
}

/// What a page is made of.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    prefix: String,
    delimiter: String,
    after: After,
    /// Units that still fit.
    room: usize,
    /// The common prefix taken last.
    rolled: Option<String>,
    /// A unit was met that did not fit.
    has_more: bool,
}

/// What a row is to a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look<'k> {
    /// It lies before the page.
    Behind,
    /// Its common prefix has been taken, or was the last of the page before.
    Rolled(&'k str),
    /// It is the first of this common prefix.
    Common(&'k str),
    /// It is an entry.
    Entry,
}

impl Walk {
    /// Units that still fit.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    pub(crate) fn new(prefix: &str, delimiter: &str, after: &str, is_within: bool, limit: usize) -> Self {
        let after = if after.is_empty() {
            After::Nothing
        } else if common_prefix(after, prefix, delimiter) == Some(after) {
            After::Common(after.to_owned())
        } else if is_within {
            After::Within(after.to_owned())
        } else {
            After::Key(after.to_owned())
        };
        Self {
            prefix: prefix.to_owned(),
            delimiter: delimiter.to_owned(),
            after,
            room: limit,
            rolled: None,
            has_more: false,
        }
    }

    /// The rows that can be on the page. `None`: none can.
    pub(crate) fn range(&self, bucket: crate::BucketId, row: RowPrefix, key_end: &[u8]) -> Option<Range> {
        let within = Range::prefix(row(bucket, &self.prefix));
        let start = match &self.after {
            After::Nothing => within.start.clone(),
            After::Within(key) => row(bucket, key),
            After::Key(key) => {
                // behind the rows of exactly this key, before those of longer ones
                let mut start = row(bucket, key).to_vec();
                start.extend_from_slice(key_end);
                if key_end.is_empty() { [&start[..], &[0]].concat().into() } else { after_prefix(&start)? }
            }
            After::Common(prefix) => after_prefix(&row(bucket, prefix))?,
        };
        let start = start.max(within.start);
        let is_empty = within.end.as_ref().is_some_and(|end| start >= *end);
        (!is_empty).then_some(Range { start, end: within.end })
    }

    /// What a row of [`Walk::range`] with this object key is.
    pub(crate) fn look<'k>(&self, key: &'k str) -> Look<'k> {
        let is_behind = match &self.after {
            After::Nothing => false,
            After::Key(after) => key <= after.as_str(),
            After::Within(after) => key < after.as_str(),
            After::Common(prefix) => key < prefix.as_str(),
        };
        if is_behind {
            return Look::Behind;
        }
        match common_prefix(key, &self.prefix, &self.delimiter) {
            Some(common) if self.rolled.as_deref() == Some(common) => Look::Rolled(common),
            Some(common) if self.after == After::Common(common.to_owned()) => Look::Rolled(common),
            Some(common) => Look::Common(common),
            None => Look::Entry,
        }
    }

    /// Makes room for a unit; `false`: the page is full, and there is more.
    pub(crate) fn take(&mut self, common: Option<&str>) -> bool {
        if self.room == 0 {
            self.has_more = true;
            return false;
        }
        self.room -= 1;
        if let Some(common) = common {
            self.rolled = Some(common.to_owned());
        }
        true
    }

    /// The page begins among the entries of the key it begins at.
    pub(crate) fn is_within(&self) -> bool {
        matches!(self.after, After::Within(_))
    }

    /// Whether there is more than fitted.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }
}

/// The step that leaves all rows under a common prefix behind.
pub(crate) fn seek_past(bucket: crate::BucketId, row: RowPrefix, common: &str) -> Step {
    after_prefix(&row(bucket, common)).map_or(Step::Stop, Step::Seek)
}

/// The part of a key up to and with the first delimiter behind the prefix.
pub(crate) fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: &str) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(prefix)?;
    let at = rest.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}
