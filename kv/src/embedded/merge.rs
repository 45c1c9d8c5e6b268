//! Sorting more rows than fit in memory: runs on disk, merged by key, the latest word on a key wins.
//!
//! What a rebuild and an export are made of: a snapshot's rows, and over them what the log says since.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::codec::{BlockReader, BlockWriter, RowReader};
use crate::{Error, Result};

/// What a row costs in memory beside its bytes, about: two allocations and its place in the map.
const ROW_OVERHEAD: usize = 96;

/// Called with each key and row of a merge.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// A key, and its row or its end.
pub(super) type Change = (Bytes, Option<Bytes>);

/// Changes in key order, each key once.
pub(super) trait Source {
    fn next(&mut self) -> Result<Option<Change>>;
}

impl<S: Source + ?Sized> Source for &mut S {
    fn next(&mut self) -> Result<Option<Change>> {
        (**self).next()
    }
}

/// What a sorter keeps in memory; a test's rows are to go through files too.
const MEMORY_BYTES: usize = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };

/// Gathers changes, the latest of a key winning.
pub(super) struct Sorter {
    dir: PathBuf,
    limit_bytes: usize,
    pending: BTreeMap<Bytes, Option<Bytes>>,
    pending_bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// Keeps a bounded part in memory and the rest in unnamed files in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self::with_limit(dir, MEMORY_BYTES)
    }

    fn with_limit(dir: &Path, limit_bytes: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            limit_bytes,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            runs: Vec::new(),
        }
    }

    /// Adds the latest word on a key. Both are copied: they may be slices of something much larger.
    pub(super) fn put(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        self.pending_bytes += ROW_OVERHEAD + key.len() + row.map_or(0, <[u8]>::len);
        self.pending.insert(Bytes::copy_from_slice(key), row.map(Bytes::copy_from_slice));
        if self.pending_bytes < self.limit_bytes {
            return Ok(());
        }
        let run = self.write_run().map_err(|e| Error::io("sorting rows", e))?;
        self.runs.push(run);
        Ok(())
    }

    fn write_run(&mut self) -> std::io::Result<File> {
        let path = self.dir.join(format!("run-{}", self.runs.len()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        // Without a name it cannot be left behind.
        std::fs::remove_file(&path)?;
        let mut writer = BlockWriter::new(BufWriter::new(file), RUN_SEED);
        for (key, row) in std::mem::take(&mut self.pending) {
            // Rows are never empty, so an empty one can stand for the end of a key.
            writer.row(&key, row.as_deref().unwrap_or_default())?;
        }
        self.pending_bytes = 0;
        let mut file = writer.finish(&[])?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// How many runs went to disk.
    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Visits the rows in key order: those of `base` and, over them, the changes.
    pub(super) fn merge(self, base: Option<Box<dyn Source + '_>>, visit: &mut Visit<'_>) -> Result<()> {
        let mut sources: Vec<Box<dyn Source + '_>> = Vec::new();
        sources.extend(base);
        for run in self.runs {
            let blocks = BlockReader::new(BufReader::new(run), RUN_SEED, "a run of sorted rows");
            sources.push(Box::new(Run { rows: RowReader::new(blocks) }));
        }
        sources.push(Box::new(Pending { rows: self.pending.into_iter() }));
        let mut heap = BinaryHeap::new();
        for (age, source) in sources.iter_mut().enumerate() {
            if let Some((key, row)) = source.next()? {
                heap.push(Reverse(Head { key, age: Reverse(age), row }));
            }
        }
        let mut last: Option<Bytes> = None;
        while let Some(Reverse(Head { key, age: Reverse(age), row })) = heap.pop() {
            if let Some((key, row)) = sources.get_mut(age).map_or(Ok(None), |source| source.next())? {
                heap.push(Reverse(Head { key, age: Reverse(age), row }));
            }
            // Of one key the latest source comes first; the others have nothing to add.
            if last.as_ref() == Some(&key) {
                continue;
            }
            if let Some(row) = &row {
                visit(&key, row)?;
            }
            last = Some(key);
        }
        Ok(())
    }
}

const RUN_SEED: &[u8] = b"run";

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: Bytes,
    age: Reverse<usize>,
    row: Option<Bytes>,
}

struct Run<R> {
    rows: RowReader<R>,
}

impl<R: Read> Source for Run<R> {
    fn next(&mut self) -> Result<Option<Change>> {
        let next = self.rows.next()?;
        Ok(next.map(|(key, row)| (key, Some(row).filter(|row| !row.is_empty()))))
    }
}

struct Pending {
    rows: std::collections::btree_map::IntoIter<Bytes, Option<Bytes>>,
}

impl Source for Pending {
    fn next(&mut self) -> Result<Option<Change>> {
        Ok(self.rows.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Base(std::vec::IntoIter<Change>);

    impl Source for Base {
        fn next(&mut self) -> Result<Option<Change>> {
            Ok(self.0.next())
        }
    }

    #[test]
    fn the_latest_word_wins_whatever_fits_in_memory() {
        for limit_bytes in [1, 1000, 1 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::with_limit(dir.path(), limit_bytes);
            let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let base: Vec<Change> =
                (0..50_u8).map(|n| (Bytes::from(vec![n]), Some(Bytes::from_static(b"base")))).collect();
            expected.extend((0..50_u8).map(|n| (vec![n], b"base".to_vec())));
            for n in 0..400_u32 {
                let key = [u8::try_from(n * 7 % 90).unwrap()];
                assert!(sorter.pending_bytes < limit_bytes, "what is held in memory is bounded");
                if n % 5 == 0 {
                    sorter.put(&key, None).unwrap();
                    expected.remove(&key[..]);
                } else {
                    sorter.put(&key, Some(&n.to_le_bytes())).unwrap();
                    expected.insert(key.to_vec(), n.to_le_bytes().to_vec());
                }
            }
            assert_eq!(sorter.runs() > 0, limit_bytes < 2000, "limit {limit_bytes}");
            let mut met = Vec::new();
            let base: Box<dyn Source> = Box::new(Base(base.into_iter()));
            sorter
                .merge(Some(base), &mut |key, row| {
                    met.push((key.to_vec(), row.to_vec()));
                    Ok(())
                })
                .unwrap();
            assert_eq!(met, expected.into_iter().collect::<Vec<_>>(), "limit {limit_bytes}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        }
    }
}
