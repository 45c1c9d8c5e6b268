//! Export and import: all rows of one moment, values included, in the format every engine reads (`export.rs`).

use std::io::{Read, Write};
use std::sync::{Arc, PoisonError};

use super::index::Onward;
use super::log::segment::{Walked, walk};
use super::mark::FIRST_KEY;
use super::merge::Sorter;
use super::open::put_frame_rows;
use super::row::{IndexRow, Stored};
use super::shared::{Shared, bad_row};
use super::snapshot;
use crate::{Commit, Direction, Error, Result, Wait, Write as KvWrite, export};

/// Rows of an import go in commits of about this many bytes …
const IMPORT_BYTES: usize = 2 * 1024 * 1024;
/// … and at most this many rows.
const IMPORT_ROWS: usize = 10_000;

/// Writes every row as of one moment: a snapshot, and over it the log up to a commit after its end. Blocks.
pub(super) fn export(shared: &Shared, to: Box<dyn Write + Send>) -> Result<()> {
    // From here on no segment is removed, so that every address met below can be read.
    let _held = shared.segments.hold.read().unwrap_or_else(PoisonError::into_inner);
    let (from, rows) = {
        let _turn = shared.upkeep_turn()?;
        let taken = snapshot::take(shared)?;
        (taken.head, snapshot::open(&*shared.options.disk, &shared.options.dir, &shared.store, &taken)?)
    };
    let until = shared.head();
    let mut sorter = Sorter::new(&shared.options.index_dir);
    if until.place > from.place {
        let walked = walk(&shared.segments, from.place, &mut |frame| {
            // Commits written meanwhile are not of this moment.
            if frame.header.position > until.position {
                return Ok(false);
            }
            put_frame_rows(frame, &mut sorter)?;
            Ok(frame.header.position < until.position)
        })?;
        if walked == Walked::Gone {
            return Err(Error::Corrupt { what: "the log has a gap".into() });
        }
    }
    let mut writer = export::Writer::new(to)?;
    sorter.merge(Some(Box::new(rows)), &mut |key, row| {
        if shared.is_stopped() {
            return Err(Error::Stopped);
        }
        match IndexRow::decode(row).ok_or_else(bad_row)?.value {
            Stored::Inline(value) => writer.row(key, value),
            Stored::Logged(address) => {
                let value = shared.segments.value(&address)?;
                let value = value
                    .ok_or_else(|| Error::Corrupt { what: "a value's log segment is missing".into() })?;
                writer.row(key, &value)
            }
        }
    })?;
    writer.finish()
}

/// Reads an export into an empty engine. Durable on return; after an error a part of the rows may be there, and the
/// engine is to be thrown away. Blocks, and commits through `runtime`.
pub(super) fn import(
    shared: &Arc<Shared>,
    from: Box<dyn Read + Send>,
    runtime: &tokio::runtime::Handle,
) -> Result<()> {
    let index = shared.index()?;
    let mut is_empty = true;
    shared.scan_index(&*index, (FIRST_KEY, None), Direction::Forward, &mut |_, _| {
        is_empty = false;
        Ok(Onward::Stop)
    })?;
    if !is_empty {
        return Err(Error::Invalid { what: "to go into an engine that is not empty" });
    }
    let mut reader = export::Reader::new(from)?;
    let mut commit = Commit { wait: Wait::Ordered, ..Commit::default() };
    let mut bytes = 0;
    while let Some((key, value)) = reader.next()? {
        bytes += key.len() + value.len();
        commit.writes.push(KvWrite::Put(key, value));
        if bytes >= IMPORT_BYTES || commit.writes.len() >= IMPORT_ROWS {
            let full = std::mem::replace(&mut commit, Commit { wait: Wait::Ordered, ..Commit::default() });
            runtime.block_on(shared.commit(full))?;
            bytes = 0;
        }
    }
    if !commit.writes.is_empty() {
        runtime.block_on(shared.commit(commit))?;
    }
    shared.sync_log().map(drop)
}
