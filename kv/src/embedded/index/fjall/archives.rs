//! What fjall takes on trust while it opens: counts in its files, for which it asks the memory before it compares a
//! checksum. One turned bit there asks for 80 GB, and that ends the process, at each start anew. So they are looked at
//! here first, as lsm-tree 3 and sfa 1 lay them out (numbers little-endian).
//!
//! Each tree, `keyspaces/N`, has a file `current` (id of its version, XXH3-128 of that version's file), the versions
//! `vID`, and `tables`. Versions and tables are archives: they end with a trailer (38 bytes: `SFA!`, version, kind of
//! checksum, XXH3-128 of the table of contents, its position, its length); the table of contents is `TOC!`, how many
//! entries, the entries. What does not look like that is left to fjall, which answers for it properly.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

const TRAILER_BYTES: usize = 38;
/// Of one entry in a table of contents: position, length, length of the name.
const ENTRY_BYTES_MIN: u64 = 18;

/// Fails when fjall may not be let near these files.
pub(super) fn check(dir: &Path) -> io::Result<()> {
    for tree in list(&dir.join("keyspaces"))? {
        check_version(&tree)?;
        for table in list(&tree.join("tables"))? {
            check_contents(&File::open(table)?)?;
        }
    }
    Ok(())
}

/// What a directory has; nothing when there is none.
fn list(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The file of a tree's version is small and has counts of several kinds: all of it has to be as it was written.
fn check_version(tree: &Path) -> io::Result<()> {
    let current = match std::fs::read(tree.join("current")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        current => current?,
    };
    let Some((id, rest)) = current.split_first_chunk() else { return Ok(()) };
    let version = match std::fs::read(tree.join(format!("v{}", u64::from_le_bytes(*id)))) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        version => version?,
    };
    if rest.first_chunk() == Some(&xxh3_128(&version).to_le_bytes()) { Ok(()) } else { Err(damaged()) }
}

/// An archive cannot have more entries than fit into it.
fn check_contents(archive: &File) -> io::Result<()> {
    let len = archive.metadata()?.len();
    let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else { return Ok(()) };
    let mut position = [0; 8];
    archive.read_exact_at(&mut position, trailer_at + 22)?;
    let at = u64::from_le_bytes(position);
    // A position behind the archive's end, or none at all, is an end of file to fjall.
    if at.checked_add(8).is_none_or(|end| end > len) {
        return Ok(());
    }
    let mut count = [0; 4];
    archive.read_exact_at(&mut count, at + 4)?;
    if u64::from(u32::from_le_bytes(count)) > (len - at) / ENTRY_BYTES_MIN { Err(damaged()) } else { Ok(()) }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of the index is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn_bit(path: &Path, at: usize, bit: u8) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= bit;
        std::fs::write(path, bytes).unwrap();
    }

    /// A tree as fjall itself leaves it, with a table.
    fn tree(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let db = fjall::Database::builder(dir).open().unwrap();
        let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
        for n in 0..1000_u32 {
            rows.insert(n.to_be_bytes(), [7; 100]).unwrap();
        }
        rows.rotate_memtable_and_wait().unwrap();
        drop((rows, db));
        let tree = dir.join("keyspaces/1");
        let table = list(&tree.join("tables")).unwrap().pop().expect("a table");
        (tree, table)
    }

    #[test]
    fn what_fjall_wrote_is_let_through() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        check(dir.path()).unwrap();
        check(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_turned_bit_of_a_count_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, table) = tree(dir.path());
        let bytes = std::fs::read(&table).unwrap();
        let contents = bytes.windows(4).rposition(|four| four == b"TOC!").unwrap();
        turn_bit(&table, contents + 7, 0x80);
        assert_eq!(check(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        turn_bit(&table, contents + 7, 0x80);
        check(dir.path()).unwrap();

        let current = std::fs::read(tree.join("current")).unwrap();
        let id = u64::from_le_bytes(*current.first_chunk().unwrap());
        let version = tree.join(format!("v{id}"));
        for at in 0..std::fs::read(&version).unwrap().len() {
            turn_bit(&version, at, 0x10);
            assert_eq!(check(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
            turn_bit(&version, at, 0x10);
        }
        check(dir.path()).unwrap();
    }
}
