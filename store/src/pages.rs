//! Rows of a range, some at a time: async work may stand between them, and memory does not grow with their number.

use bytes::Bytes;
use coffre_kv::{Entry, KvExt, Range, Scan};

use crate::Store;
use crate::codec::keys::Key;
use crate::error::Result;

/// Rows read at once.
const ROWS: usize = 500;

/// What is left of the range; `None`: nothing.
pub(crate) struct Pages(Option<Range>);

impl Pages {
    /// A whole table.
    pub(crate) fn of(table: u8) -> Self {
        Self::over(Range::prefix(Key::of(table).done()))
    }

    /// A range of keys.
    pub(crate) fn over(range: Range) -> Self {
        Self(Some(range))
    }

    /// The next rows; `None`: no more.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<Vec<(Bytes, Entry)>>> {
        let Some(range) = self.0.take() else { return Ok(None) };
        let end = range.end.clone();
        let rows = store.inner.kv().rows(Scan::forward(range), ROWS).await?;
        if let (Some((last, _)), true) = (rows.last(), rows.len() == ROWS) {
            let start = [last.as_ref(), &[0]].concat().into();
            self.0 = Some(Range { start, end });
        }
        Ok(Some(rows))
    }
}
