//! The checkpoint: up to where the index is known to be kept, and whether it may be believed at all.
//!
//! File `checkpoint`, replaced whole: `"COFFRCHK" · version u32 · CRC-32C u32 of the rest · store id · flags u8 (1: the
//! store was closed; 2: the index is of another boot and not verified yet) · boot id (varint length, bytes) · index device u64 · index inode u64 · position u64 · segment u64
//! · offset u64`.
//!
//! The index is believed after a clean close, or when the same boot still runs: then only the process died and the
//! system kept what it was given. After a power cut it may be silently wrong and is built again (`open.rs`).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use coffre_disk::{Disk, DiskExt};

use super::index::{self, IndexKind};
use super::log::frame::{Place, StoreId};
use super::shared::{Head, Shared};
use crate::codec::{Cursor, crc32c, put_bytes};
use crate::{Error, Position, Result};

const NAME: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"COFFRCHK";
const VERSION: u32 = 2;
const CLEAN: u8 = 1;
const DOUBTFUL: u8 = 2;

/// Device and inode of the index's own file (`index/mod.rs`): a copy of a store is not the store whose process died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexIdentity {
    device: u64,
    inode: u64,
}

impl IndexIdentity {
    /// `None` when there is no index.
    pub(super) fn of(kind: IndexKind, index_dir: &Path) -> Option<Self> {
        let meta = std::fs::metadata(index::identity_file(kind, index_dir)).ok()?;
        Some(Self { device: meta.dev(), inode: meta.ino() })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) is_clean: bool,
    /// The index comes from another boot, and nobody has added up its rows since.
    pub(super) is_doubtful: bool,
    pub(super) boot_id: String,
    pub(super) index: IndexIdentity,
    pub(super) head: Head,
}

impl Checkpoint {
    fn encode(&self, store: &StoreId) -> Vec<u8> {
        let mut rest = store.to_vec();
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        rest.push(flag(self.is_clean, CLEAN) | flag(self.is_doubtful, DOUBTFUL));
        put_bytes(&mut rest, self.boot_id.as_bytes());
        let Head { position, place } = self.head;
        for n in [self.index.device, self.index.inode, position.0, place.segment, place.offset] {
            rest.extend_from_slice(&n.to_le_bytes());
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32c(&rest).to_le_bytes());
        out.extend_from_slice(&rest);
        out
    }

    /// `None` when the bytes are not a whole checkpoint of this store.
    fn decode(bytes: &[u8], store: &StoreId) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
            return None;
        }
        let crc = cursor.u32()?;
        if crc32c(bytes.get(16..)?) != crc || cursor.take(16)? != store {
            return None;
        }
        let flags = cursor.u8()?;
        let boot_id = String::from_utf8(cursor.bytes()?.to_vec()).ok()?;
        let index = IndexIdentity { device: cursor.u64()?, inode: cursor.u64()? };
        let position = Position(cursor.u64()?);
        let head = Head { position, place: Place { segment: cursor.u64()?, offset: cursor.u64()? } };
        let (is_clean, is_doubtful) = (flags & CLEAN != 0, flags & DOUBTFUL != 0);
        cursor.is_empty().then_some(Self { is_clean, is_doubtful, boot_id, index, head })
    }

    /// Reads the file. A damaged one is as good as none: the index is built again, and the log speaks for itself.
    pub(super) fn read(disk: &dyn Disk, dir: &Path, store: &StoreId) -> Result<Option<Self>> {
        let bytes = disk.read_whole(&dir.join(NAME)).map_err(|e| Error::io("reading the checkpoint", e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let version = bytes.get(8..12);
        if bytes.starts_with(MAGIC) && version.is_some_and(|version| version > &VERSION.to_le_bytes()[..]) {
            return Err(Error::Corrupt {
                what: "the checkpoint has a version that is not known here".into(),
            });
        }
        let checkpoint = Self::decode(&bytes, store);
        if checkpoint.is_none() {
            tracing::warn!("the checkpoint is damaged; the index will be built again");
        }
        Ok(checkpoint)
    }

    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path, store: &StoreId) -> Result<()> {
        let written = disk.replace_whole(dir, NAME, &self.encode(store));
        written.map_err(|e| Error::io("writing the checkpoint", e))
    }
}

/// Makes what is applied now the point from which a replay begins. The caller has the upkeep's turn.
///
/// Commits go on meanwhile: what they add to the index is simply ahead of the checkpoint.
pub(super) fn take(shared: &Shared) -> Result<Head> {
    let index = shared.index()?;
    let head = shared.head();
    let due_at = shared.logged_bytes.load(Ordering::Relaxed);
    // An index that is ahead of the durable log would be wrong after a power cut; nobody would believe it then. But a
    // checkpoint also says that the log reaches it, and that has to be true.
    shared.sync_log()?;
    shared.or_poison(index.checkpoint())?;
    write_mark(shared, head, false)?;
    shared.upkeep.due_at.store(due_at + shared.options.checkpoint_bytes, Ordering::Relaxed);
    Ok(head)
}

/// Writes the file for a head that the index has reached durably.
pub(super) fn write_mark(shared: &Shared, head: Head, is_clean: bool) -> Result<()> {
    let index = super::open::current(&shared.options.index_dir);
    let checkpoint = Checkpoint {
        is_clean,
        is_doubtful: false,
        boot_id: shared.options.boot_id.clone(),
        index: IndexIdentity::of(shared.options.index, &index).unwrap_or_default(),
        head,
    };
    checkpoint.write(&*shared.options.disk, &shared.options.dir, &shared.store)?;
    *shared.checkpoint.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = head;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_damage_is_none() {
        let checkpoint = Checkpoint {
            is_clean: true,
            is_doubtful: true,
            boot_id: "boot".into(),
            index: IndexIdentity { device: 1, inode: 2 },
            head: Head { position: Position(9), place: Place { segment: 3, offset: 640 } },
        };
        let bytes = checkpoint.encode(&[7; 16]);
        assert_eq!(Checkpoint::decode(&bytes, &[7; 16]), Some(checkpoint));
        assert_eq!(Checkpoint::decode(&bytes, &[8; 16]), None, "another store's");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Checkpoint::decode(&bad, &[7; 16]), None, "byte {at}");
            assert_eq!(Checkpoint::decode(&bytes[..at], &[7; 16]), None, "cut at {at}");
        }
    }
}
