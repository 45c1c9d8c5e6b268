//! Tests of a store whose rows are not verified yet: reads are served, no file gets a name and none goes.

use std::sync::Arc;

use async_trait::async_trait;
use coffre_kv::{Changes, Commit, Entry, Kv, Position, Result, Scan, Stats, Visitor};
use tokio::sync::watch;

use crate::sample::{self, Opened, at};
use crate::{Options, Store, blob};

/// Rows whose commits wait until they are verified.
#[derive(Debug)]
struct Unverified {
    rows: Arc<dyn Kv>,
    is_verified: watch::Sender<bool>,
    /// Commits that have begun to wait.
    waiting: watch::Sender<usize>,
}

#[async_trait]
impl Kv for Unverified {
    async fn commit(&self, commit: Commit) -> Result<Position> {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.verified().await?;
        self.rows.commit(commit).await
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.rows.get(key).await
    }
    async fn scan(&self, scan: Scan, visit: Visitor) -> Result<()> {
        self.rows.scan(scan, visit).await
    }
    async fn changes(&self, after: Position, limit: usize) -> Result<Changes> {
        self.rows.changes(after, limit).await
    }
    fn applied(&self) -> watch::Receiver<Position> {
        self.rows.applied()
    }
    fn stats(&self) -> Stats {
        self.rows.stats()
    }
    async fn verified(&self) -> Result<()> {
        self.is_verified.subscribe().wait_for(|is_verified| *is_verified).await.expect("the sender lives");
        Ok(())
    }
    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> Result<()> {
        self.rows.export(to).await
    }
    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> Result<()> {
        self.rows.import(from).await
    }
    async fn close(&self) -> Result<()> {
        self.rows.close().await
    }
}

/// Names of the files among the blobs, sorted.
fn names(opened: &Opened) -> Vec<String> {
    let files = opened.files().into_iter();
    let blobs = files.filter(|path| path.starts_with(opened.dir.path().join("blobs")));
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = blobs.map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn reads_do_not_wait_for_the_epoch_and_files_do() {
    let mut opened = Opened::new().await;
    let (one, two) = (at("bucket", "one"), at("bucket", "two"));
    opened.put(&one, vec![1; 200_000]).await;
    opened.store.close().await.unwrap();
    let [name] = &names(&opened)[..] else { panic!("one file") };
    let (_, epoch) = blob::parse_name(name).unwrap();
    // What a crash left: no row names it.
    let orphan = format!("{}.{epoch}-77", "ab".repeat(32));
    std::fs::write(opened.dir.path().join("blobs/ab").join(&orphan), b"orphan").unwrap();
    let before = names(&opened);

    let kv = Arc::new(Unverified {
        rows: Arc::clone(&opened.kv),
        is_verified: watch::Sender::new(false),
        waiting: watch::Sender::new(0),
    });
    // Ids go on, as those of a clock do.
    let ids = Arc::new(sample::Counted::starting(1000));
    let options = Options { ids, ..sample::options(Arc::clone(&kv) as Arc<dyn Kv>, opened.dir.path()) };
    opened.store = Store::open(options).await.unwrap();
    assert_eq!(opened.get(&one, None).await, vec![1; 200_000]);
    let store = opened.store.clone();
    let sweep = tokio::spawn(async move { store.gc(true).await });
    let opened = Arc::new(opened);
    let putting = Arc::clone(&opened);
    let put = tokio::spawn(async move { putting.put(&two, vec![2; 200_000]).await });
    kv.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    assert_eq!(names(&opened), before, "nothing has a name yet, nothing went");
    assert!(!sweep.is_finished() && !put.is_finished());

    kv.is_verified.send_replace(true);
    put.await.unwrap();
    sweep.await.unwrap().unwrap();
    let names = names(&opened);
    assert!(!names.contains(&orphan) && names.contains(name), "{names:?}");
    let epochs = names.iter().map(|name| blob::parse_name(name).unwrap().1);
    assert_eq!(epochs.max(), Some(epoch + 1), "a name of its own, though the numbers begin again");
}
