//! The files by category and subcategory (contract §5.4 `organized`, D42).
//!
//! One look at the lists' rows; what is kept is the count of each group and the newest of it.

use std::collections::{BTreeMap, BinaryHeap};

use coffre_kv::Direction;

use super::query::Filter;
use super::runs::{Go, Tail, Walk, serial_of, tail_of};
use crate::error::{Error, Result};
use crate::scheme::{Category, subcategory_of};
use crate::views::Shown;
use crate::{Cx, Store};

/// Most groups of one answer: subcategories are names that callers choose.
const BRANCHES_MAX: usize = 10_000;

/// A category and subcategory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The category.
    pub category: Category,
    /// The subcategory, as it is shown.
    pub subcategory: String,
    /// How many files it has.
    pub count: u64,
    /// Numbers of the newest, newest first.
    pub serials: Vec<u64>,
}

/// A branch while rows are looked at: the count, and the newest, oldest first.
type Growing = (u64, BinaryHeap<Tail>);

impl Store {
    /// What the caller may see of what the filter names (its `search` and uploader apart), by category, in the
    /// document's order, and subcategory.
    ///
    /// # Errors
    /// `TooLarge` beyond 10,000 groups; as reads do: `Stopped`, `Corrupt`.
    pub async fn filing_tree(&self, cx: &Cx, filter: &Filter, newest: usize) -> Result<Vec<Branch>> {
        let Some(between) = filter.tails() else { return Ok(Vec::new()) };
        let filter = Filter { search: None, uploaded_by: None, ..filter.clone() };
        let runs = self.lists(cx, &filter).await?.runs;
        let spans = runs.iter().map(|run| run.span(between)).collect();
        let categories: Vec<Category> = runs.iter().map(|run| run.category).collect();
        let walk = Walk { spans, direction: Direction::Forward, keys_only: false };
        let branches: BTreeMap<(Category, String), Growing> = BTreeMap::new();
        let visit = move |state: &mut Result<BTreeMap<(Category, String), Growing>>,
                          span: usize,
                          key: &[u8],
                          value: &[u8]| {
            let (Ok(branches), Some(category)) = (state.as_mut(), categories.get(span)) else {
                return Go::Past;
            };
            match Shown::decode(value)
                .and_then(|row| grow(branches, *category, row.key, tail_of(key), newest))
            {
                Ok(()) => Go::On,
                Err(error) => {
                    *state = Err(error);
                    Go::Past
                }
            }
        };
        let branches = walk.over(self.inner.kv(), Ok(branches), visit).await??;
        let branches = branches.into_iter().map(|((category, subcategory), (count, newest))| {
            let serials = newest.into_sorted_vec().into_iter().map(serial_of).collect();
            Branch { category, subcategory, count, serials }
        });
        Ok(branches.collect())
    }
}

/// Counts a file and keeps it if it is among the newest.
fn grow(
    branches: &mut BTreeMap<(Category, String), Growing>,
    category: Category,
    key: &str,
    tail: Tail,
    newest: usize,
) -> Result<()> {
    let subcategory = subcategory_of(key);
    let name = (category, subcategory.to_owned());
    if branches.len() >= BRANCHES_MAX && !branches.contains_key(&name) {
        return Err(Error::TooLarge { what: "the number of groups", max: BRANCHES_MAX as u64 });
    }
    let (count, kept) = branches.entry(name).or_default();
    *count += 1;
    if kept.len() < newest {
        kept.push(tail);
    } else if let Some(mut oldest) = kept.peek_mut()
        && tail < *oldest
    {
        *oldest = tail;
    }
    Ok(())
}
