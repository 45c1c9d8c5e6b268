//! Rows that take their time: before each call others get a turn, so that races that chance seldom shows are met.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffre_disk::seed::Random;
use coffre_kv::memory::Memory;
use coffre_kv::{Changes, Commit, Entry, Kv, Position, Result, Scan, Stats, Visitor};

/// Most turns that others get before a call.
const TURNS_MAX: u64 = 6;

/// The model engine, seen by clients that are interrupted.
#[derive(Debug)]
pub(super) struct Hesitant {
    rows: Arc<Memory>,
    random: Mutex<Random>,
}

impl Hesitant {
    pub(super) fn new(rows: Arc<Memory>, seed: u64) -> Self {
        Self { rows, random: Mutex::new(Random::new(seed)) }
    }

    async fn hesitate(&self) {
        let turns = self.random.lock().unwrap().below(TURNS_MAX);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Kv for Hesitant {
    async fn commit(&self, commit: Commit) -> Result<Position> {
        self.hesitate().await;
        self.rows.commit(commit).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.hesitate().await;
        self.rows.get(key).await
    }

    async fn scan(&self, scan: Scan, visit: Visitor) -> Result<()> {
        self.hesitate().await;
        self.rows.scan(scan, visit).await
    }

    async fn changes(&self, after: Position, limit: usize) -> Result<Changes> {
        self.rows.changes(after, limit).await
    }

    fn applied(&self) -> tokio::sync::watch::Receiver<Position> {
        self.rows.applied()
    }

    fn stats(&self) -> Stats {
        self.rows.stats()
    }

    async fn verified(&self) -> Result<()> {
        self.rows.verified().await
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
