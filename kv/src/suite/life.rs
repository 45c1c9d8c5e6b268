//! Export, import, and the end.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Make, everything, key, ordered, put, value, write};
use crate::memory::Memory;
use crate::{Commit, Error, Kv, Position, Range, Scan, Step, Wait, Write};

/// A `Write` whose bytes can be had afterwards.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn export(kv: &dyn Kv) -> Vec<u8> {
    let sink = Sink::default();
    kv.export(Box::new(sink.clone())).await.unwrap();
    let bytes = sink.0.lock().unwrap();
    bytes.clone()
}

async fn import(kv: &dyn Kv, bytes: &[u8]) -> crate::Result<()> {
    kv.import(Box::new(io::Cursor::new(bytes.to_vec()))).await
}

async fn fill(kv: &dyn Kv) {
    for n in 0..40u32 {
        let big = vec![n.to_le_bytes()[0]; if n % 5 == 0 { 70_000 } else { 40 }];
        write(
            kv,
            vec![put(n.to_be_bytes(), big), put([0xff, n.to_le_bytes()[0]], ""), Write::Add(key("n"), 3)],
        )
        .await;
    }
    write(kv, vec![Write::Delete(key(7u32.to_be_bytes()))]).await;
}

async fn pairs(kv: &dyn Kv) -> Vec<(Bytes, Bytes)> {
    everything(kv).await.into_iter().map(|(key, value, _)| (key, value)).collect()
}

pub(super) async fn export_then_import(make: Make<'_>) {
    let (from, to, model) = (make(), make(), Memory::new());
    import(&*to, &export(&*from).await).await.expect("nothing is exported and imported too");
    let to = {
        to.close().await.unwrap();
        make()
    };
    fill(&*from).await;
    let rows = pairs(&*from).await;
    let exported = export(&*from).await;
    // Through the model and back: any engine reads what any other wrote.
    import(&model, &exported).await.unwrap();
    assert!(pairs(&model).await == rows);
    let again = export(&model).await;
    assert!(again == exported, "the same rows are the same export");
    import(&*to, &again).await.unwrap();
    assert!(pairs(&*to).await == rows);
    assert!(everything(&*to).await.iter().all(|(_, _, position)| *position > Position(0)));

    match import(&*to, &exported).await {
        Err(Error::Invalid { .. }) => {}
        other => panic!("an import into rows: {other:?}"),
    }
    assert!(pairs(&*to).await == rows);
    let entry = to.get(b"n").await.unwrap().unwrap();
    let next = to
        .commit(ordered(vec![crate::Check::At(key("n"), entry.position)], vec![Write::Add(key("n"), 1)]))
        .await
        .unwrap();
    assert!(next > entry.position);
    assert_eq!(value(&*to, b"n").await.unwrap(), crate::encode_counter(121));
    from.close().await.unwrap();
    to.close().await.unwrap();
}

pub(super) async fn a_damaged_export_is_refused(make: Make<'_>) {
    let from = make();
    fill(&*from).await;
    let exported = export(&*from).await;
    from.close().await.unwrap();
    let cuts = [0, 5, 12, exported.len() / 2, exported.len() - 1];
    let mut bad: Vec<_> = cuts.iter().filter_map(|&cut| Some(exported.get(..cut)?.to_vec())).collect();
    for at in [0, 9, exported.len() / 3, exported.len() - 3] {
        let mut flipped = exported.clone();
        *flipped.get_mut(at).unwrap() ^= 1;
        bad.push(flipped);
    }
    for bytes in bad {
        let to = make();
        match import(&*to, &bytes).await {
            Err(Error::Corrupt { .. }) => {}
            other => panic!("a damaged export of {} bytes: {other:?}", bytes.len()),
        }
        let _closed = to.close().await;
    }
}

pub(super) async fn stopped_after_close(kv: Arc<dyn Kv>) {
    write(&*kv, vec![put("a", "1")]).await;
    kv.commit(Commit { wait: Wait::Durable, ..ordered(Vec::new(), vec![put("b", "1")]) }).await.unwrap();
    kv.close().await.unwrap();
    let stopped = |what: &str, result: crate::Result<()>| match result {
        Err(Error::Stopped) => {}
        other => panic!("{what} after close: {other:?}"),
    };
    stopped("commit", kv.commit(ordered(Vec::new(), vec![put("a", "2")])).await.map(drop));
    stopped("get", kv.get(b"a").await.map(drop));
    stopped("scan", kv.scan(Scan::forward(Range::all()), Box::new(|_| Step::Next)).await);
    stopped("changes", kv.changes(Position(0), 1).await.map(drop));
    stopped("export", kv.export(Box::new(io::sink())).await);
    stopped("import", kv.import(Box::new(io::empty())).await);
}
