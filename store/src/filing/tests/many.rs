//! A hundred thousand files: pages, sums and groups are right, and cost the rows they cost with ten thousand
//! (contract D42). What they cost in time is the benchmark's.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use coffre_kv::{Changes, Commit, Entry, Position, Scan, Stats, Visitor};

use super::*;

const FEW: u64 = 10_000;
const MANY: u64 = 100_000;
const CLIENTS: u64 = 50;
const WRITERS: u64 = 10;
const PER_PAGE: usize = 15;

/// Rows that were asked for are counted.
#[derive(Debug)]
struct Counting {
    rows: Arc<dyn Kv>,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl Kv for Counting {
    async fn commit(&self, commit: Commit) -> coffre_kv::Result<Position> {
        self.rows.commit(commit).await
    }

    async fn get(&self, key: &[u8]) -> coffre_kv::Result<Option<Entry>> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.rows.get(key).await
    }

    async fn scan(&self, scan: Scan, mut visit: Visitor) -> coffre_kv::Result<()> {
        let read = Arc::clone(&self.read);
        let counted: Visitor = Box::new(move |row| {
            read.fetch_add(1, Ordering::Relaxed);
            visit(row)
        });
        self.rows.scan(scan, counted).await
    }

    async fn changes(&self, after: Position, limit: usize) -> coffre_kv::Result<Changes> {
        self.rows.changes(after, limit).await
    }

    fn applied(&self) -> tokio::sync::watch::Receiver<Position> {
        self.rows.applied()
    }

    fn stats(&self) -> Stats {
        self.rows.stats()
    }

    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> coffre_kv::Result<()> {
        self.rows.export(to).await
    }

    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> coffre_kv::Result<()> {
        self.rows.import(from).await
    }

    async fn close(&self) -> coffre_kv::Result<()> {
        self.rows.close().await
    }
}

/// What the n-th file is, without a pattern.
struct File {
    client: Option<u64>,
    category: Category,
    mime: &'static str,
    writer: u64,
    bytes: usize,
}

fn nth(n: u64) -> File {
    let m = Random::new(n).below(u64::MAX);
    let pick = |bits: u32, of: u64| (m >> bits) % of;
    let index = |bits: u32, of: usize| usize::try_from(pick(bits, of as u64)).unwrap();
    File {
        client: (pick(0, 4) > 0).then(|| pick(8, CLIENTS)),
        category: Category::ALL[index(20, 6)],
        mime: MIMES[index(30, 3)],
        writer: pick(40, WRITERS),
        bytes: index(50, 40),
    }
}

fn principal(n: u64, clients: &[u64]) -> Arc<Principal> {
    Arc::new(Principal {
        who: Who::User(user(u128::from(n))),
        clients: clients.iter().map(u64::to_string).collect(),
        ..Principal::anonymous()
    })
}

/// A store with so many files, and the rows that were read of it.
async fn filled(count: u64) -> (Opened, Arc<AtomicU64>) {
    let mut opened = Opened::new().await;
    let read = Arc::new(AtomicU64::new(0));
    opened
        .reopen(|options| {
            options.kv = Arc::new(Counting { rows: Arc::clone(&options.kv), read: Arc::clone(&read) });
        })
        .await;
    for n in 0..count {
        let file = nth(n);
        let folder = file.client.map_or("general".to_owned(), |client| format!("client/{client}"));
        let bytes = vec![b'x'; file.bytes];
        let put = PutObject {
            at: at("files", &format!("{folder}/{}/{n:06}.bin", file.category.as_str())),
            attributes: Attributes { content_type: Some(file.mime.to_owned()), ..Attributes::default() },
            body: body(&bytes),
            size_bytes: Some(bytes.len() as u64),
            claims: Claims::default(),
            conditions: Conditions::default(),
        };
        opened.clock.advance(1);
        let cx = Cx { principal: principal(file.writer, &[]), ..opened.cx.clone() };
        opened.store.put(&cx, put).await.unwrap();
    }
    (opened, read)
}

/// Rows read while `work` runs, beside what it found.
async fn costs<T>(read: &AtomicU64, work: impl Future<Output = T>) -> (u64, T) {
    let before = read.load(Ordering::Relaxed);
    let found = work.await;
    (read.load(Ordering::Relaxed) - before, found)
}

type Question = (&'static str, Arc<Principal>, Filter, fn(&File) -> bool);

/// Pages that are index pages, whoever asks, and the files they are of.
fn questions() -> Vec<Question> {
    let admin = || Arc::new(Principal { is_admin: true, ..Principal::clone(&principal(0, &[])) });
    let filter = Filter::default;
    vec![
        ("all", admin(), filter(), |_| true),
        ("a category", admin(), Filter { category: Some(Category::Devis), ..filter() }, |file| {
            file.category == Category::Devis
        }),
        ("a type", admin(), Filter { mime: Some(MIMES[1].to_owned()), ..filter() }, |file| {
            file.mime == MIMES[1]
        }),
        ("a client", admin(), Filter { client: Some("7".to_owned()), ..filter() }, |file| {
            file.client == Some(7)
        }),
        ("a writer", admin(), Filter { uploaded_by: Some(user(3)), ..filter() }, |file| file.writer == 3),
        ("of a user with three clients", principal(5, &[1, 2, 3]), filter(), |file| match file.client {
            Some(client) => (1..=3).contains(&client),
            None => file.writer == 5,
        }),
    ]
}

#[tokio::test]
async fn a_hundred_thousand_files_cost_what_ten_thousand_do() {
    let (few, read_of_few) = filled(FEW).await;
    let (many, read_of_many) = filled(MANY).await;
    for (label, principal, filter, is_of) in questions() {
        let of = (0..MANY).filter(|n| is_of(&nth(*n))).count() as u64;
        for page in [0, 2] {
            let query = Query {
                filter: filter.clone(),
                by: SortBy::UploadedAt,
                is_descending: true,
                offset: page * PER_PAGE as u64,
                limit: PER_PAGE,
            };
            let asked = |opened: &Opened| Cx { principal: Arc::clone(&principal), ..opened.cx.clone() };
            let (cx_few, cx_many) = (asked(&few), asked(&many));
            let (cost_few, _) = costs(&read_of_few, few.store.files(&cx_few, &query)).await;
            let (cost_many, found) = costs(&read_of_many, many.store.files(&cx_many, &query)).await;
            let found = found.unwrap();
            assert_eq!((found.files.len(), found.total), (PER_PAGE, of), "{label}");
            let times: Vec<u64> = found.files.iter().map(|file| file.version.modified_ms).collect();
            assert!(times.is_sorted_by(|a, b| a > b), "{label}: newest first");
            assert!(
                cost_many <= cost_few + cost_few / 4 + 20,
                "{label}, page {page}: {cost_few}, {cost_many}"
            );
        }
        let cx = |opened: &Opened| Cx { principal: Arc::clone(&principal), ..opened.cx.clone() };
        let (cx_few, cx_many) = (cx(&few), cx(&many));
        let (cost_few, _) = costs(&read_of_few, few.store.filing_statistics(&cx_few)).await;
        let (cost_many, sums) = costs(&read_of_many, many.store.filing_statistics(&cx_many)).await;
        let sums = sums.unwrap();
        if filter == Filter::default() {
            let bytes = (0..MANY).map(nth).filter(is_of).map(|file| file.bytes as u64).sum::<u64>();
            assert_eq!((sums.all.files, sums.all.bytes), (of, bytes), "{label}");
        }
        assert_eq!(cost_few, cost_many, "{label}: statistics");
    }
}
