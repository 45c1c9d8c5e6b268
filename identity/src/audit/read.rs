//! Reading the audit log: filtered, newest first, by pages (contract D23).

use std::collections::VecDeque;

use super::segment::Day;
use super::{Audit, Line};
use crate::error::{Error, Result};

/// How deep one may page: what is kept in memory while segments are read.
const LINES_MAX: usize = 10_000;

/// Which lines are wanted; `None`: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// By this principal: a user's UUID, `anonymous`, `system`.
    pub principal: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// Not before, ms since 1970.
    pub from_ms: Option<u64>,
    /// Not at or after, ms since 1970.
    pub to_ms: Option<u64>,
}

/// A page of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub lines: Vec<Line>,
    /// How many lines the filter has in all.
    pub total: u64,
}

impl Filter {
    fn wants(&self, line: &Line) -> bool {
        let note = &line.note;
        self.principal.as_ref().is_none_or(|principal| *principal == note.principal)
            && self.action.as_ref().is_none_or(|action| *action == note.action)
            && self.from_ms.is_none_or(|from| note.time_ms >= from)
            && self.to_ms.is_none_or(|to| note.time_ms < to)
    }
}

impl Audit {
    /// Page `page` (from 1) of `per_page` lines. Shows every change committed before the call.
    ///
    /// # Errors
    /// `Invalid` for page 0 and beyond the newest 10,000 lines: filter by time to go deeper.
    pub async fn read(&self, filter: Filter, page: usize, per_page: usize) -> Result<Page> {
        let invalid = Error::Invalid { what: "page: from 1, within the newest 10,000 lines" };
        let Some(skip) = page.checked_sub(1).and_then(|page| page.checked_mul(per_page)) else {
            return Err(invalid);
        };
        let Some(last) = skip.checked_add(per_page).filter(|last| *last <= LINES_MAX) else {
            return Err(invalid);
        };
        self.catch_up().await?;
        self.blocking(
            move |segments, filter| {
                let (mut newest, mut total, mut damaged) = (Vec::new(), 0u64, 0);
                // A line stands in the segment of its day or a later one: only older segments can be left out.
                let first_day = filter.from_ms.map(Day::of_ms);
                for day in
                    segments.days()?.into_iter().rev().filter(|day| first_day.is_none_or(|f| *day >= f))
                {
                    let wanted = last.saturating_sub(newest.len());
                    let mut tail = VecDeque::new();
                    damaged += segments.lines(day, 0, |line| {
                        if !filter.wants(&line) {
                            return;
                        }
                        total += 1;
                        tail.push_back(line);
                        if tail.len() > wanted {
                            tail.pop_front();
                        }
                    })?;
                    newest.extend(tail.into_iter().rev());
                }
                if damaged > 0 {
                    tracing::warn!(damaged, "lines of the audit log are not readable");
                }
                Ok(Page { lines: newest.into_iter().skip(skip).collect(), total })
            },
            filter,
        )
        .await
    }
}
