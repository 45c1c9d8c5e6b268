//! What a cut may do and may not do.

use std::collections::BTreeSet;

use super::*;
use crate::{DiskExt, RealDisk};

const CUTS: std::ops::Range<u64> = 0..300;

fn path(name: &str) -> PathBuf {
    PathBuf::from("/").join(name)
}

fn read(disk: &PowerDisk, name: &str) -> Option<Vec<u8>> {
    disk.read_whole(&path(name)).unwrap()
}

/// A disk with a synced file of this content.
fn with_file(content: &[u8]) -> (PowerDisk, Arc<dyn DiskFile>) {
    let disk = PowerDisk::new();
    let file = disk.open(&path("f"), Open::Create).unwrap();
    file.write_all_at(content, 0).unwrap();
    disk.sync_all();
    (disk, file)
}

#[test]
fn what_is_synced_stays() {
    let (disk, file) = with_file(&[1; 10_000]);
    file.write_all_at(&[2; 5000], 3000).unwrap();
    file.set_len(9000).unwrap();
    file.sync_data().unwrap();
    disk.replace_whole(Path::new("/"), "g", b"whole").unwrap();
    let before = (read(&disk, "f"), read(&disk, "g"), disk.list(Path::new("/")).unwrap());
    for seed in CUTS {
        let cut = disk.cut(seed);
        assert_eq!((read(&cut, "f"), read(&cut, "g"), cut.list(Path::new("/")).unwrap()), before);
    }
}

#[test]
fn unsynced_blocks_are_old_new_or_between_each_by_itself() {
    let (disk, file) = with_file(&[1; 3 * BLOCK_BYTES]);
    file.write_all_at(&[2; 3 * BLOCK_BYTES], 0).unwrap();
    file.write_all_at(&[3; 3 * BLOCK_BYTES], 0).unwrap();
    let (mut seen, mut mixed, mut torn) = (BTreeSet::new(), 0, 0);
    for seed in CUTS {
        let after = read(&disk.cut(seed), "f").unwrap();
        assert_eq!(after.len(), 3 * BLOCK_BYTES);
        for sector in after.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| byte == &sector[0]), "a sector is one version");
            seen.insert(sector[0]);
        }
        let firsts: BTreeSet<_> = after.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
        mixed += u32::from(firsts.len() > 1);
        torn += u32::from(after.chunks(BLOCK_BYTES).any(|block| block.iter().any(|byte| byte != &block[0])));
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
    assert!(mixed > 50 && torn > 50, "{mixed} mixed, {torn} torn");
    assert_eq!(read(&disk, "f").unwrap(), vec![3; 3 * BLOCK_BYTES], "the disk itself is not changed");
}

#[test]
fn growth_may_come_without_its_bytes_or_not_at_all() {
    let (disk, file) = with_file(&[1; 100]);
    file.write_all_at(&[2; 3 * BLOCK_BYTES], 100).unwrap();
    let (mut short, mut zeros, mut whole) = (0, 0, 0);
    for seed in CUTS {
        let after = read(&disk.cut(seed), "f").unwrap();
        assert_eq!(&after[..100], [1; 100]);
        match &after[100..] {
            [] => short += 1,
            tail if tail.iter().all(|&byte| byte == 2) => whole += 1,
            tail => {
                assert!(tail.iter().all(|&byte| byte == 2 || byte == 0));
                zeros += 1;
            }
        }
    }
    assert!(short > 10 && zeros > 10 && whole > 10, "{short} short, {zeros} with zeros, {whole} whole");
}

#[test]
fn a_cut_length_may_come_back_with_the_old_bytes() {
    let (disk, file) = with_file(&[1; 3 * BLOCK_BYTES]);
    file.set_len(10).unwrap();
    file.set_len(2 * BLOCK_BYTES as u64).unwrap();
    let met: BTreeSet<_> = CUTS.map(|seed| read(&disk.cut(seed), "f").unwrap()).collect();
    let lengths: BTreeSet<_> = met.iter().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([10, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES]));
    assert!(met.iter().all(|bytes| bytes[..10] == [1; 10]));
    assert!(met.contains(&vec![1; 3 * BLOCK_BYTES]), "nothing happened");
    file.sync_data().unwrap();
    let mut expected = vec![1; 10];
    expected.resize(2 * BLOCK_BYTES, 0);
    assert!(CUTS.into_iter().all(|seed| read(&disk.cut(seed), "f").unwrap() == expected));
}

#[test]
fn names_are_durable_with_their_directory_only() {
    let disk = PowerDisk::new();
    let file = disk.open(&path("new"), Open::Create).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    let kept = CUTS.filter(|&seed| read(&disk.cut(seed), "new").is_some()).count();
    assert!((1..300).contains(&kept), "a synced file's name may be lost: kept {kept}");

    disk.sync_all();
    disk.open(&path("old"), Open::Create).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(&path("new"), &path("old")).unwrap();
    let mut met = BTreeSet::new();
    for seed in CUTS {
        let cut = disk.cut(seed);
        met.insert((read(&cut, "new"), read(&cut, "old")));
    }
    let before = (Some(b"x".to_vec()), Some(Vec::new()));
    assert_eq!(met, BTreeSet::from([before, (None, Some(b"x".to_vec()))]), "a rename is whole or not at all");

    disk.remove(&path("old")).unwrap();
    assert!(CUTS.into_iter().any(|seed| read(&disk.cut(seed), "old").is_some()), "a removal may be lost");
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(CUTS.into_iter().all(|seed| disk.cut(seed).list(Path::new("/")).unwrap().is_empty()));
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let disk = PowerDisk::new();
    let dir = path("a/b");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    disk.replace_whole(&dir, "f", b"x").unwrap();
    let kept = CUTS.filter(|&seed| disk.cut(seed).read_whole(&dir.join("f")).unwrap().is_some()).count();
    assert!((1..300).contains(&kept), "{kept}");
    disk.sync_dir(&path("a")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for seed in CUTS {
        assert_eq!(disk.cut(seed).read_whole(&dir.join("f")).unwrap().unwrap(), b"x");
    }
}

#[test]
fn after_a_failed_sync_the_next_one_saves_only_what_is_new() {
    let (disk, file) = with_file(&[1; 2 * BLOCK_BYTES]);
    disk.fail_sync(2);
    file.sync_data().unwrap();
    file.write_all_at(&[2; 10], 0).unwrap();
    assert!(disk.sync_will_fail());
    assert!(file.sync_data().is_err());
    assert!(!disk.sync_will_fail());
    file.write_all_at(&[3; 10], BLOCK_BYTES as u64).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&disk, "f").unwrap()[..10], [2; 10], "it can still be read");
    for seed in CUTS {
        let after = read(&disk.cut(seed), "f").unwrap();
        assert_eq!((&after[..10], &after[BLOCK_BYTES..][..10]), ([1; 10].as_slice(), [3; 10].as_slice()));
    }
}

#[test]
fn the_same_seed_gives_the_same_cut() {
    let (disk, file) = with_file(&[1; 9000]);
    file.write_all_at(&[2; 12_000], 5).unwrap();
    disk.open(&path("g"), Open::Create).unwrap();
    for seed in CUTS {
        let (a, b) = (disk.cut(seed), disk.cut(seed));
        assert_eq!((read(&a, "f"), read(&a, "g")), (read(&b, "f"), read(&b, "g")));
    }
}

/// The model answers as a real file system does, in the plain cases and the odd ones.
#[test]
fn it_behaves_like_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let power = PowerDisk::new();
    power.create_dir_all(folder.path()).unwrap();
    let mut random = Random::new(crate::seed::from_env());
    let names = ["a", "b", "c", "d/e", "missing/f"];
    let disks: [&dyn Disk; 2] = [&RealDisk, &power];
    for disk in disks {
        disk.create_dir_all(&folder.path().join("d")).unwrap();
    }
    for _ in 0..600 {
        let (name, other) = (*random.pick(&names).unwrap(), *random.pick(&names).unwrap());
        let (at, other) = (folder.path().join(name), folder.path().join(other));
        let (what, offset, len) = (random.below(8), random.below(9000), random.index(5000));
        let answers: Vec<_> = disks.iter().map(|disk| step(*disk, what, &at, &other, offset, len)).collect();
        assert_eq!(answers[0], answers[1], "operation {what} on {name}");
    }
}

fn step(
    disk: &dyn Disk,
    what: u64,
    at: &Path,
    other: &Path,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, io::ErrorKind> {
    let done = || -> io::Result<Vec<u8>> {
        match what {
            0 => disk.open(at, Open::Create).map(|_| Vec::new()),
            1 => disk.open(at, Open::Write)?.write_all_at(&vec![7; len], offset).map(|()| Vec::new()),
            2 => disk.open(at, Open::Write)?.set_len(offset).map(|()| Vec::new()),
            3 => disk.rename(at, other).map(|()| Vec::new()),
            4 => disk.remove(at).map(|()| Vec::new()),
            5 => Ok(format!("{:?}", disk.list(at.parent().unwrap())?).into_bytes()),
            6 => {
                let mut buf = vec![9; len];
                let read = disk.open(at, Open::Read)?.read_at(&mut buf, offset)?;
                buf.truncate(read);
                Ok(buf)
            }
            _ => Ok(disk.read_whole(at)?.unwrap_or_default()),
        }
    };
    done().map_err(|e| e.kind())
}
