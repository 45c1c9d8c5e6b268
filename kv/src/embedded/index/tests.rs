//! What the engine asks of an index, asked of both kinds.

use std::collections::BTreeMap;

use super::*;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Keys whose order an escaping could break: empty, zero bytes, one that begins another.
const KEYS: [&[u8]; 12] =
    [b"", &[0], &[0, 0], &[0, 0, 1], &[0, 1], &[0, 255], &[1], &[1, 0], b"a", b"a\0", &[255], &[255, 255]];

fn collect(index: &dyn Index, start: &[u8], end: Option<&[u8]>, direction: Direction) -> Rows {
    let mut rows = Vec::new();
    index
        .scan(start, end, direction, &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            Ok(Onward::Next)
        })
        .unwrap();
    rows
}

fn put(index: &dyn Index, rows: &[(&[u8], Option<&[u8]>)]) {
    index.apply(&mut rows.iter().copied()).unwrap();
}

/// Opened in a folder of its own, with a row for each of [`KEYS`] that is the key backwards.
fn filled(kind: IndexKind, dir: &Path) -> Arc<dyn Index> {
    let index = open(kind, dir, 1 << 20).unwrap();
    let rows: Vec<_> = KEYS.iter().map(|key| (*key, key.iter().rev().copied().collect::<Vec<_>>())).collect();
    put(&*index, &rows.iter().map(|(key, row)| (*key, Some(&row[..]))).collect::<Vec<_>>());
    index
}

#[test]
fn any_key_is_found_and_scanned_in_order() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let index = filled(kind, dir.path());
        let mut truth: BTreeMap<Vec<u8>, Vec<u8>> =
            KEYS.iter().map(|key| (key.to_vec(), key.iter().rev().copied().collect())).collect();
        for ended in [None, Some(&[0_u8, 0][..]), Some(b"")] {
            if let Some(ended) = ended {
                put(&*index, &[(ended, None), (&[1], Some(b"again"))]);
                truth.remove(ended);
                truth.insert(vec![1], b"again".to_vec());
            }
            for key in KEYS {
                assert_eq!(index.get(key).unwrap().as_ref(), truth.get(key), "{kind:?} {key:?}");
            }
            for start in KEYS {
                for end in KEYS.into_iter().map(Some).chain([None]) {
                    let is_in = |key: &[u8]| key >= start && end.is_none_or(|end| key < end);
                    let mut expected: Rows =
                        truth.clone().into_iter().filter(|(key, _)| is_in(key)).collect();
                    assert_eq!(collect(&*index, start, end, Direction::Forward), expected, "{kind:?}");
                    expected.reverse();
                    assert_eq!(collect(&*index, start, end, Direction::Backward), expected, "{kind:?}");
                }
            }
        }
    }
}

#[test]
fn a_visitor_seeks_and_stops() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let index = filled(kind, dir.path());
        let walk = |direction, seeks: &[(&[u8], &[u8])]| {
            let mut met = Vec::new();
            let mut visit = |key: &[u8], _: &[u8]| {
                met.push(key.to_vec());
                let seek = seeks.iter().find(|(at, _)| *at == key);
                Ok(seek.map_or(Onward::Next, |(_, to)| Onward::Seek(to.to_vec())))
            };
            index.scan(b"", None, direction, &mut visit).unwrap();
            met
        };
        let met = walk(Direction::Forward, &[(&[0], &[1]), (&[1, 0], b"a\0"), (b"a\0", &[0])]);
        assert_eq!(met, [&b""[..], &[0], &[1], &[1, 0], b"a\0", &[255], &[255, 255]], "{kind:?}");
        let met = walk(Direction::Backward, &[(&[255], &[0, 2]), (&[0, 1], &[0]), (&[0], &[9])]);
        assert_eq!(met, [&[255, 255][..], &[255], &[0, 1], &[0], b""], "{kind:?}");
        let mut met = 0;
        let stopping = index.scan(b"", None, Direction::Forward, &mut |_, _| {
            met += 1;
            Ok(if met == 3 { Onward::Stop } else { Onward::Next })
        });
        assert!(stopping.is_ok() && met == 3);
        let refused =
            index.scan(b"", None, Direction::Forward, &mut |_, _| Err(Error::Corrupt { what: "it".into() }));
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{kind:?}: {refused:?}");
        assert!(!has_failed(dir.path()), "what a visitor answers is no failure of the index");
    }
}

#[test]
fn rows_survive_and_their_maker_is_known() {
    for kind in IndexKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("index");
        assert_eq!(makers(&dir).next(), None);
        let index = filled(kind, &dir);
        index.checkpoint().unwrap();
        let identity =
            |kind| std::os::unix::fs::MetadataExt::ino(&identity_file(kind, &dir).metadata().unwrap());
        let (rows, was) = (collect(&*index, b"", None, Direction::Forward), identity(kind));
        drop(index);
        sync_files(&dir).unwrap();
        assert_eq!(makers(&dir).collect::<Vec<_>>(), [kind]);
        let index = open(kind, &dir, 1 << 20).unwrap();
        assert_eq!(
            (collect(&*index, b"", None, Direction::Forward), identity(kind)),
            (rows, was),
            "{kind:?}"
        );
        assert_eq!(rows_len(&*index), KEYS.len());
    }
}

fn rows_len(index: &dyn Index) -> usize {
    collect(index, b"", None, Direction::Forward).len()
}

/// An index that answers every call with one error.
struct Broken(io::ErrorKind);

impl Broken {
    fn fail<T>(&self) -> Result<T> {
        Err(Error::Io { doing: "trying", source: self.0.into() })
    }
}

impl Index for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>> {
        self.fail()
    }
    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: Direction, _: &mut Visit<'_>) -> Result<()> {
        self.fail()
    }
    fn apply(&self, _: &mut dyn Iterator<Item = RowChange<'_>>) -> Result<()> {
        self.fail()
    }
    fn checkpoint(&self) -> Result<()> {
        self.fail()
    }
}

#[test]
fn a_failure_is_noted_and_a_full_disk_is_none() {
    type Call = fn(&dyn Index) -> bool;
    let calls: [Call; 4] = [
        |index| index.get(b"a").is_err(),
        |index| index.scan(b"", None, Direction::Forward, &mut |_, _| Ok(Onward::Next)).is_err(),
        |index| index.apply(&mut std::iter::empty()).is_err(),
        |index| index.checkpoint().is_err(),
    ];
    for call in calls {
        let dir = tempfile::tempdir().unwrap();
        for (kind, is_noted) in [(io::ErrorKind::StorageFull, false), (io::ErrorKind::InvalidData, true)] {
            let index = Watched { index: Box::new(Broken(kind)), failed: dir.path().join(FAILED) };
            assert!(call(&index));
            assert_eq!(has_failed(dir.path()), is_noted, "{kind:?}");
        }
    }
}
