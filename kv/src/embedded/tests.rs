//! Tests of the engine as a whole.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::RealDisk;

use super::{Embedded, Options};
use crate::{Commit, Kv, KvExt, Position, Range, Scan, Wait, Write};

/// Small segments and frequent checkpoints, so that little data meets every path.
fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: 64 * 1024,
        checkpoint_bytes: 1 << 40,
        index_cache_bytes: 16 * 1024 * 1024,
        reserve_bytes: 0,
        ..Options::new(Arc::new(RealDisk), dir.join("kv"), dir.join("index"))
    }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::Put(key.into(), value.into())
}

async fn commit(kv: &Embedded, writes: Vec<Write>, wait: Wait) -> Position {
    kv.commit(Commit { writes, wait, ..Commit::default() }).await.unwrap()
}

/// Every row, as (key, value, position).
async fn everything(kv: &Embedded) -> Vec<(Bytes, Bytes, Position)> {
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    rows.into_iter().map(|(key, entry)| (key, entry.value, entry.position)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let dirs = std::sync::Mutex::new(Vec::new());
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let kv: Arc<dyn Kv> = Arc::new(Embedded::open(options(dir.path())).unwrap());
        dirs.lock().unwrap().push(dir);
        kv
    };
    crate::suite::all(&make).await;
}

#[tokio::test]
async fn comes_back_after_close_after_a_drop_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for (n, how) in ["new", "replayed", "clean", "rebuilt", "replayed", "clean"].into_iter().enumerate() {
        let rebuild_index = how == "rebuilt";
        let kv = Embedded::open(Options { rebuild_index, ..options(dir.path()) }).unwrap();
        assert_eq!(kv.stats().opened, Some(how), "open {n}");
        assert_eq!(everything(&kv).await, expected, "open {n}");
        for i in 0..40_u8 {
            let n = u8::try_from(n).unwrap();
            let big = vec![i; if i % 4 == 0 { 5000 } else { 30 }];
            let writes = vec![
                put(vec![n, i], big),
                put(&b"hot"[..], vec![n, i]),
                Write::Delete(vec![n.wrapping_sub(1), i].into()),
            ];
            commit(&kv, writes, if i % 8 == 0 { Wait::Durable } else { Wait::Ordered }).await;
        }
        expected = everything(&kv).await;
        if how == "replayed" || how == "rebuilt" && n == 9 {
            kv.close().await.unwrap();
        }
    }
}
