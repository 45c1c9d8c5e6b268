//! Filing's lists (contract D42) with `COFFRE_BENCH_OBJECTS` files in a store of their own: a thousand clients, six
//! categories, eight types, fifty who uploaded.

use std::sync::Arc;
use std::time::Instant;

use coffre_store::filing::{Filter, Query, SortBy};
use coffre_store::object::{At, Principal, Who};
use coffre_store::scheme::Category;
use coffre_store::{Cx, UserId};
use uuid::Uuid;

use crate::world::{World, name};
use crate::{Bounds, FILLERS, Wants, drive};

const CLIENTS: u64 = 1000;
const USERS: u64 = 50;
const TYPES: [&str; 8] = [
    "application/pdf",
    "image/jpeg",
    "image/png",
    "text/plain",
    "text/csv",
    "application/zip",
    "application/msword",
    "video/mp4",
];
/// An index page, and everything else (contract D42).
const INDEX: Bounds = Some((100.0, 1000.0));
const OTHERS: Bounds = Some((1.0, 3.0));

fn user(n: u64) -> UserId {
    UserId(Uuid::from_u128(u128::from(n) + 1))
}

/// Somebody with so many clients.
fn cx(world: &World, n: u64, clients: u64) -> Cx {
    let clients = (0..clients).map(|client| client.to_string()).collect();
    let principal = Principal { who: Who::User(user(n)), clients, ..Principal::anonymous() };
    Cx { principal: Arc::new(principal), ..world.cx.clone() }
}

/// Numbers without a pattern.
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n ^ (n >> 27)
}

async fn store(world: &World, n: u64) {
    let m = mixed(n);
    let pick = |bits: u64, of: u64| (m >> bits) % of;
    let category = Category::ALL.iter().cycle().nth(usize::try_from(pick(8, 6)).unwrap_or(0));
    let category = category.map_or("autre", |category| category.as_str());
    let folder =
        if pick(16, 3) == 0 { "general".to_owned() } else { format!("client/{}", pick(20, CLIENTS)) };
    let subcategory = ["", "annual/", "x/"].iter().cycle().nth(usize::try_from(pick(40, 3)).unwrap_or(0));
    let key = format!("{folder}/{category}/{}file-{m:016x}.bin", subcategory.copied().unwrap_or_default());
    let at = At { bucket: name("files"), key: name(&key) };
    let mime =
        TYPES.iter().cycle().nth(usize::try_from(pick(44, 8)).unwrap_or(0)).map(|mime| (*mime).to_owned());
    let bytes = 32 + usize::try_from(pick(50, 400)).unwrap_or(0);
    world.put_by(&cx(world, pick(56, USERS), 0), at, mime, bytes).await;
}

pub(crate) fn run(wants: &Wants) {
    let cases = cases();
    if !cases.iter().any(|case| wants.wants(case.0)) && !wants.wants("filing: statistics") {
        return;
    }
    let world = World::open(wants.index);
    let begin = Instant::now();
    drive(&world, FILLERS, f64::INFINITY, wants.objects, |n| store(&world, n));
    #[expect(clippy::print_stderr, reason = "how long it took is of interest")]
    {
        eprintln!("{} files stored in {:.1} s", wants.objects, begin.elapsed().as_secs_f64());
    }
    let admin = world.cx.clone();
    let (few, many) = (cx(&world, 3, 5), cx(&world, 3, CLIENTS));
    for (label, who, query, bounds) in cases {
        if !wants.wants(label) {
            continue;
        }
        let cx = match who {
            Asker::Admin => &admin,
            Asker::Few => &few,
            Asker::Many => &many,
        };
        let query = query(wants.objects);
        let run = drive(&world, 1, wants.seconds, 10_000, |_| async {
            let page = world.store.files(cx, &query).await.expect("a page");
            assert!(page.total > 0 && !page.files.is_empty(), "{label}: an empty page");
        });
        wants.print(label, 0, &run, bounds);
    }
    if wants.wants("filing: statistics") {
        let run = drive(&world, 1, wants.seconds, u64::MAX, |_| async {
            let statistics = world.store.filing_statistics(&admin).await.expect("statistics");
            assert_eq!(statistics.all.files, wants.objects);
        });
        wants.print("filing: statistics", 0, &run, INDEX);
        let run = drive(&world, 1, wants.seconds, u64::MAX, |_| async {
            let tree = world.store.filing_tree(&admin, &Filter::default(), 15).await.expect("groups");
            assert_eq!(tree.iter().map(|branch| branch.count).sum::<u64>(), wants.objects);
        });
        wants.print("filing: organized", 0, &run, OTHERS);
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum Asker {
    Admin,
    Few,
    Many,
}

type Case = (&'static str, Asker, fn(u64) -> Query, Bounds);

fn query(filter: Filter, page: u64, limit: usize) -> Query {
    let offset = (page - 1) * limit as u64;
    Query { filter, by: SortBy::UploadedAt, is_descending: true, offset, limit }
}

fn by(by: SortBy, offset: u64) -> Query {
    Query { by, offset, ..query(Filter::default(), 1, 15) }
}

fn cases() -> Vec<Case> {
    vec![
        ("filing: page 1", Asker::Admin, |_| query(Filter::default(), 1, 15), INDEX),
        ("filing: page 100", Asker::Admin, |_| query(Filter::default(), 100, 15), INDEX),
        ("filing: page 100 of 100", Asker::Admin, |_| query(Filter::default(), 100, 100), INDEX),
        ("filing: a category", Asker::Admin, |_| query(devis(), 100, 15), INDEX),
        ("filing: a type", Asker::Admin, |_| query(png(), 100, 15), INDEX),
        ("filing: a client", Asker::Admin, |_| query(of_client(), 3, 15), INDEX),
        ("filing: an uploader", Asker::Admin, |_| query(of_user(), 100, 15), INDEX),
        ("filing: a user of 5 clients", Asker::Few, |_| query(Filter::default(), 3, 15), INDEX),
        ("filing: a user of 1,000 clients", Asker::Many, |_| query(Filter::default(), 1, 15), OTHERS),
        ("filing: by category", Asker::Admin, |_| by(SortBy::Category, 1_500), INDEX),
        ("filing: by type, deep", Asker::Admin, |n| by(SortBy::MimeType, n / 2), OTHERS),
        ("filing: the middle", Asker::Admin, |n| query(Filter::default(), n / 30, 15), OTHERS),
        ("filing: search", Asker::Admin, |_| query(search(), 1, 15), OTHERS),
        ("filing: search in a category", Asker::Admin, |_| query(search_devis(), 1, 15), OTHERS),
        ("filing: by name", Asker::Admin, |_| by(SortBy::FileName, 0), OTHERS),
        ("filing: by size, the middle", Asker::Admin, |n| by(SortBy::SizeBytes, n / 2), OTHERS),
        ("filing: since a day", Asker::Admin, |n| query(since(n), 1, 15), OTHERS),
    ]
}

fn devis() -> Filter {
    Filter { category: Some(Category::Devis), ..Filter::default() }
}

fn png() -> Filter {
    Filter { mime: Some("image/png".into()), ..Filter::default() }
}

fn of_client() -> Filter {
    Filter { client: Some("77".into()), ..Filter::default() }
}

fn of_user() -> Filter {
    Filter { uploaded_by: Some(user(7)), ..Filter::default() }
}

fn search() -> Filter {
    Filter { search: Some("FFF".into()), ..Filter::default() }
}

fn search_devis() -> Filter {
    Filter { search: Some("ff".into()), ..devis() }
}

/// Half of all.
fn since(files: u64) -> Filter {
    Filter { from_ms: Some(1_700_000_000_000 + files * 750), ..Filter::default() }
}
