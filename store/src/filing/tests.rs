//! Lists, numbers, statistics and groups against a naive reference; files coming in, changing and going.

mod many;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre_disk::seed::{self, Random};
use uuid::Uuid;

use super::*;
use crate::condition::Conditions;
use crate::delete::DeleteObject;
use crate::file::Expect;
use crate::list::List;
use crate::name::UserId;
use crate::object::{Attributes, BuiltIn, Digest, Door, Principal, Who};
use crate::put::{Claims, PutObject, StagedObject};
use crate::rename::Replace;
use crate::sample::{Opened, at, body};
use crate::scheme::fold;
use crate::{Ask, Authority, Decision, Wait};

const CLIENTS: [&str; 3] = ["7", "70", "Dupont & Cie"];
const MIMES: [&str; 3] = ["application/pdf", "image/png", "text/plain"];
const SUBCATEGORIES: [Option<&str>; 3] = [None, Some("annual"), Some("x")];
const NAMES: [&str; 6] = ["a.pdf", "B.pdf", "Été.png", "ete", "zz_annual.txt", "Z.TXT"];

/// Contract D2, as far as filing goes.
#[derive(Debug)]
struct Rules;

fn sees(principal: &Principal, key: &str, owner: Option<UserId>) -> bool {
    let client = key.strip_prefix("client/").and_then(|rest| rest.split('/').next());
    principal.is_admin
        || match client {
            Some(client) => principal.clients.iter().any(|granted| granted == client),
            None => owner.is_some() && owner == principal.user(),
        }
}

impl Authority for Rules {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        let owner = ask.existing.map_or(ask.cx.principal.user(), |version| version.owner);
        let is_public = ask.action == Action::GetObject
            && ask.existing.is_some_and(|version| version.attributes.is_public);
        let may = ask.key.is_none_or(|key| sees(&ask.cx.principal, key, owner));
        if may || is_public { Decision::Allow } else { Decision::Hide }
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

/// The n-th user may see the first n clients; the 0th is an ADMIN.
fn cx(opened: &Opened, n: u128) -> Cx {
    let clients = CLIENTS.iter().take(usize::try_from(n).unwrap() - usize::from(n > 0));
    let principal = Principal {
        who: Who::User(user(n)),
        is_admin: n == 0,
        clients: clients.map(|client| (*client).to_owned()).collect(),
        ..Principal::anonymous()
    };
    Cx { principal: Arc::new(principal), door: Door::Rest, ..opened.cx.clone() }
}

async fn opened() -> Opened {
    Opened::guarded_by(Arc::new(Rules)).await
}

fn file(
    client: Option<&str>,
    category: Category,
    subcategory: Option<&str>,
    staged: StagedObject,
) -> NewFile {
    NewFile {
        client: client.map(str::to_owned),
        category,
        subcategory: subcategory.map(str::to_owned),
        stem: "stem_2024".into(),
        extension: Some("pdf".into()),
        label: None,
        description: None,
        tags: Vec::new(),
        is_public: false,
        staged,
    }
}

async fn staged(opened: &Opened, cx: &Cx, bytes: &[u8]) -> StagedObject {
    let like = at("files", "general/autre/any");
    opened.store.stage(cx, &like, body(bytes), None, Claims::default()).await.unwrap()
}

async fn add(opened: &Opened, cx: &Cx, client: Option<&str>, bytes: &[u8]) -> Added {
    let staged = staged(opened, cx, bytes).await;
    opened.store.add_file(cx, file(client, Category::Devis, None, staged)).await.unwrap()
}

fn new(added: Added) -> Filed {
    match added {
        Added::New(filed) => filed,
        Added::Same(filed) => panic!("{filed:?} is there already"),
    }
}

fn any(offset: u64, limit: usize) -> Query {
    Query { filter: Filter::default(), by: SortBy::UploadedAt, is_descending: true, offset, limit }
}

/// All files, newest first, as a listing of the bucket has them.
async fn all(opened: &Opened) -> Vec<Filed> {
    let list = List {
        bucket: "files".parse().unwrap(),
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        limit: 1000,
    };
    let page = opened.store.list(&opened.cx, list).await.unwrap();
    assert_eq!(page.next_after, None, "one page holds them");
    let bucket = opened.store.find_bucket(&"files".parse().unwrap()).await.unwrap().value;
    assert_eq!(bucket.place, Some(BuiltIn::Filing));
    let filed = |(key, version): (String, Box<Version>)| Filed::of(&bucket, &key.parse().unwrap(), *version);
    let mut all: Vec<Filed> = page.entries.into_iter().filter_map(filed).collect();
    all.sort_by_key(|file| std::cmp::Reverse((file.version.modified_ms, file.serial)));
    all
}

fn naive(all: &[Filed], principal: &Principal, query: &Query) -> (Vec<u64>, u64) {
    let Filter { category, client, mime, uploaded_by, from_ms, until_ms, search } = &query.filter;
    let mut meant: Vec<&Filed> = all
        .iter()
        .filter(|file| {
            let time = file.version.modified_ms;
            sees(principal, file.key.as_str(), file.version.owner)
                && category.is_none_or(|category| file.place.category == category)
                && client.as_deref().is_none_or(|client| file.place.client.as_deref() == Some(client))
                && mime.as_deref().is_none_or(|mime| file.mime() == mime.to_lowercase())
                && uploaded_by.is_none_or(|writer| file.version.writer == Some(writer))
                && from_ms.is_none_or(|from| time >= from)
                && until_ms.is_none_or(|until| time < until)
                && search.as_deref().is_none_or(|s| fold(file.file_name()).contains(&fold(s)))
        })
        .collect();
    let is_turned = |ordering: std::cmp::Ordering| {
        if query.is_descending { ordering.reverse() } else { ordering }
    };
    // stable: what is equal stays newest first
    meant.sort_by(|a, b| match query.by {
        SortBy::UploadedAt => std::cmp::Ordering::Equal,
        SortBy::FileName => is_turned(fold(a.file_name()).cmp(&fold(b.file_name()))),
        SortBy::SizeBytes => is_turned(a.version.size_bytes.cmp(&b.version.size_bytes)),
        SortBy::MimeType => is_turned(a.mime().cmp(&b.mime())),
        SortBy::Category => is_turned(a.place.category.as_str().cmp(b.place.category.as_str())),
    });
    if query.by == SortBy::UploadedAt && !query.is_descending {
        meant.reverse();
    }
    let total = meant.len() as u64;
    let skipped = meant.into_iter().skip(usize::try_from(query.offset).unwrap_or(usize::MAX));
    (skipped.take(query.limit).map(|file| file.serial).collect(), total)
}

fn some<T: Clone>(random: &mut Random, of: &[T], percent: u64) -> Option<T> {
    random.chance(percent).then(|| of[random.index(of.len())].clone())
}

fn random_query(random: &mut Random, all: &[Filed]) -> Query {
    let time = |random: &mut Random| all.get(random.index(all.len().max(1))).map(|f| f.version.modified_ms);
    let (from, until) = (time(random), time(random));
    let filter = Filter {
        category: some(random, &Category::ALL[..3], 20),
        client: some(random, &CLIENTS, 20).map(str::to_owned),
        mime: some(random, &["application/pdf", "IMAGE/png", "no/such"], 20).map(str::to_owned),
        uploaded_by: random.chance(25).then(|| user(u128::from(random.below(5)))),
        from_ms: from.filter(|_| random.chance(15)),
        until_ms: until.filter(|_| random.chance(15)),
        search: some(random, &["a", "ETE", "annual", ".pdf", ""], 20).map(str::to_owned),
    };
    let by = [SortBy::UploadedAt, SortBy::FileName, SortBy::SizeBytes, SortBy::MimeType, SortBy::Category];
    let by = if random.chance(40) { SortBy::UploadedAt } else { by[random.index(by.len())] };
    let limit = 1 + random.index(20);
    let offset = random.below(12) * limit as u64;
    Query { filter, by, is_descending: random.chance(60), offset, limit }
}

/// One step of the life of the bucket.
async fn step(opened: &Opened, random: &mut Random, serials: &[u64]) {
    let cx = cx(opened, u128::from(random.below(5)));
    // within a second, or after some hours: the files are of several days
    opened.clock.advance(random.below(3) * if random.chance(5) { 20_000_000 } else { 500 });
    let client = some(random, &CLIENTS, 60);
    let category = Category::ALL[random.index(3)];
    let subcategory = SUBCATEGORIES[random.index(3)];
    let serial = serials.get(random.index(serials.len().max(1))).copied().unwrap_or(0);
    let bytes = vec![b'x'; random.index(6) * 7];
    // what a user may not do is refused, and nothing happens
    match random.below(10) {
        0..4 => {
            let name = NAMES[random.index(NAMES.len())];
            let place = Filing {
                client: client.map(str::to_owned),
                category,
                subcategory: subcategory.map(str::to_owned),
                name: if random.chance(10) { format!(".{name}") } else { name.to_owned() },
            };
            let put = PutObject {
                at: at("files", &(place.folder() + &place.name)),
                attributes: Attributes {
                    content_type: Some(MIMES[random.index(3)].to_owned()),
                    label: some(random, &NAMES, 20).map(str::to_owned),
                    ..Attributes::default()
                },
                body: body(&bytes),
                size_bytes: None,
                claims: Claims::default(),
                conditions: Conditions::default(),
            };
            drop(opened.store.put(&cx, put).await);
        }
        4..7 => {
            let staged = staged(opened, &cx, &bytes).await;
            drop(opened.store.add_file(&cx, file(client, category, subcategory, staged)).await);
        }
        7 => {
            let change = FileChange {
                label: some(random, &NAMES, 50).map(str::to_owned),
                category: some(random, &Category::ALL[..3], 50),
                client: random.chance(50).then(|| client.map(str::to_owned)),
                subcategory: random.chance(50).then(|| subcategory.map(str::to_owned)),
                ..FileChange::default()
            };
            drop(opened.store.change_file(&cx, serial, &change).await);
        }
        8 => drop(opened.store.delete_file(&cx, serial).await),
        _ => {
            let Ok(file) = opened.store.file(&cx, serial).await else { return };
            let from = at("files", file.key.as_str());
            let to = ["elsewhere/x", "general/devis/moved.pdf"][random.index(2)].parse().unwrap();
            drop(opened.store.rename(&cx, from, to, Replace::Yes).await);
        }
    }
}

#[tokio::test]
async fn lists_are_those_of_a_naive_reference() {
    let first = seed::from_env();
    for n in 0..seed::rounds(3, 60) {
        let seed = first.wrapping_add(n);
        let mut random = Random::new(seed);
        let opened = opened().await;
        let mut serials = Vec::new();
        for _ in 0..250 {
            step(&opened, &mut random, &serials).await;
            serials = all(&opened).await.iter().map(|file| file.serial).collect();
        }
        let all = all(&opened).await;
        assert!(all.len() > 30, "seed {seed}: {} files", all.len());
        for _ in 0..150 {
            let query = random_query(&mut random, &all);
            let cx = cx(&opened, u128::from(random.below(5)));
            let page = opened.store.files(&cx, &query).await.unwrap();
            let found: Vec<u64> = page.files.iter().map(|file| file.serial).collect();
            let (expected, total) = naive(&all, &cx.principal, &query);
            assert_eq!((found, page.total), (expected, total), "seed {seed}: {:?} {query:?}", cx.principal);
        }
        for n in 0..5 {
            sums_are_those_of(&opened, &cx(&opened, n), &all).await;
        }
        assert_eq!(opened.store.check().await.unwrap().findings, [], "seed {seed}");
    }
}

/// Statistics and groups.
async fn sums_are_those_of(opened: &Opened, cx: &Cx, all: &[Filed]) {
    let mut statistics = Statistics::default();
    let mut branches: BTreeMap<(Category, String), Vec<u64>> = BTreeMap::new();
    for file in all.iter().filter(|file| sees(&cx.principal, file.key.as_str(), file.version.owner)) {
        let by_type = statistics.by_type.entry(file.mime()).or_default();
        let by_category = statistics.by_category.entry(file.place.category).or_default();
        for amount in [&mut statistics.all, by_type, by_category] {
            amount.files += 1;
            amount.bytes += file.version.size_bytes;
        }
        let branch = (file.place.category, file.place.shown_subcategory().to_owned());
        branches.entry(branch).or_default().push(file.serial);
    }
    assert_eq!(opened.store.filing_statistics(cx).await.unwrap(), statistics);
    let expected: Vec<Branch> = branches
        .into_iter()
        .map(|((category, subcategory), mut serials)| {
            let count = serials.len() as u64;
            serials.truncate(4);
            Branch { category, subcategory, count, serials }
        })
        .collect();
    assert_eq!(opened.store.filing_tree(cx, &Filter::default(), 4).await.unwrap(), expected);
}

#[tokio::test]
async fn the_same_bytes_are_filed_once() {
    let opened = opened().await;
    let (one, two) = (cx(&opened, 4), cx(&opened, 3));
    let first = new(add(&opened, &one, Some("7"), b"%PDF-1").await);
    assert_eq!(first.key.as_str(), "client/7/devis/stem_2024.pdf");
    assert_eq!((first.mime().as_str(), first.file_name()), ("application/pdf", "stem_2024.pdf"));
    assert_eq!(add(&opened, &one, Some("7"), b"%PDF-1").await, Added::Same(first.clone()));
    // other bytes, another client, another user, another subcategory
    let other = new(add(&opened, &one, Some("7"), b"%PDF-2").await);
    assert_eq!(other.key.as_str(), "client/7/devis/stem_2024_2.pdf");
    new(add(&opened, &one, Some("70"), b"%PDF-1").await);
    new(add(&opened, &one, None, b"%PDF-1").await);
    let third = new(add(&opened, &two, Some("7"), b"%PDF-1").await);
    assert_eq!(third.key.as_str(), "client/7/devis/stem_2024_3.pdf");
    let staged = staged(&opened, &one, b"%PDF-1").await;
    let annual = file(Some("7"), Category::Devis, Some("annual"), staged);
    new(opened.store.add_file(&one, annual).await.unwrap());
    // moved away, it is not there any more; deleted, neither
    let change = FileChange { category: Some(Category::Facture), ..FileChange::default() };
    opened.store.change_file(&one, first.serial, &change).await.unwrap();
    let again = new(add(&opened, &one, Some("7"), b"%PDF-1").await);
    opened.store.delete_file(&one, again.serial).await.unwrap();
    new(add(&opened, &one, Some("7"), b"%PDF-1").await);
    assert_eq!(opened.store.check().await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_filed() {
    let opened = Arc::new(opened().await);
    for bytes in [&b"small"[..], &vec![7; 200_000]] {
        let adding = (0..8).map(|_| {
            let (opened, cx, bytes) = (Arc::clone(&opened), cx(&opened, 4), bytes.to_vec());
            tokio::spawn(async move { add(&opened, &cx, Some("7"), &bytes).await })
        });
        let mut serials = Vec::new();
        for added in adding.collect::<Vec<_>>() {
            let (Added::New(file) | Added::Same(file)) = &added.await.unwrap();
            serials.push(file.serial);
        }
        serials.dedup();
        assert_eq!(serials.len(), 1, "{serials:?}");
    }
    let found = opened.store.files(&cx(&opened, 4), &any(0, 10)).await.unwrap();
    assert_eq!(found.total, 2);
    // what lost its race is gone, once nobody needs it
    opened.store.gc(true).await.unwrap();
    assert_eq!(opened.store.check().await.unwrap().findings, []);
}

#[tokio::test]
async fn a_change_keeps_the_number() {
    let opened = opened().await;
    let cx = cx(&opened, 4);
    let first = new(add(&opened, &cx, Some("7"), b"one").await);
    let blocker = new(add(&opened, &cx, Some("70"), b"two").await);
    opened.clock.advance(5_000);
    let change = FileChange {
        label: Some("Devis 2024.pdf".into()),
        description: Some(Some("annual".into())),
        tags: Some(vec![("quote".into(), String::new())]),
        is_public: Some(true),
        ..FileChange::default()
    };
    let changed = opened.store.change_file(&cx, first.serial, &change).await.unwrap();
    assert_eq!(changed.file_name(), "Devis 2024.pdf");
    assert_eq!((&changed.key, changed.version.id), (&first.key, first.version.id));
    assert_eq!(opened.store.file(&cx, first.serial).await.unwrap(), changed);
    // the last segment is taken there
    let change = FileChange { client: Some(Some("70".into())), ..FileChange::default() };
    let moved = opened.store.change_file(&cx, first.serial, &change).await.unwrap();
    assert_eq!(blocker.key.as_str(), "client/70/devis/stem_2024.pdf");
    assert_eq!(moved.key.as_str(), "client/70/devis/stem_2024_2.pdf");
    assert_eq!(moved.file_name(), "Devis 2024.pdf");
    let kept = (moved.serial, moved.version.modified_ms, moved.version.ino, moved.version.sha256);
    assert_eq!(kept, (first.serial, first.version.modified_ms, first.version.ino, first.version.sha256));
    assert!(opened.head(&at("files", first.key.as_str())).await.is_err());
    // a label that is the name is none; without one a name that had to change is kept as one
    let plain = FileChange { label: Some("stem_2024_2.pdf".into()), ..FileChange::default() };
    assert_eq!(
        opened.store.change_file(&cx, first.serial, &plain).await.unwrap().version.attributes.label,
        None
    );
    let again = new(add(&opened, &cx, Some("7"), b"three").await);
    let change = FileChange { client: Some(Some("70".into())), ..FileChange::default() };
    let moved = opened.store.change_file(&cx, again.serial, &change).await.unwrap();
    assert_eq!(moved.key.as_str(), "client/70/devis/stem_2024_3.pdf");
    assert_eq!(moved.file_name(), "stem_2024.pdf");
    // nothing to change
    let same = opened.store.change_file(&cx, again.serial, &FileChange::default()).await.unwrap();
    assert_eq!(same, moved);
    assert_eq!(opened.store.check().await.unwrap().findings, []);
}

#[tokio::test]
async fn files_of_others_are_hidden() {
    let opened = opened().await;
    let (admin, one, two) = (cx(&opened, 0), cx(&opened, 1), cx(&opened, 2));
    let mine = new(add(&opened, &one, None, b"mine").await);
    let theirs = new(add(&opened, &two, Some("7"), b"theirs").await);
    let is_hidden = |result: Result<Filed>| matches!(result, Err(Error::Hidden));
    let gone = FileChange { client: Some(None), ..FileChange::default() };
    for (cx, file) in [(&one, &theirs), (&two, &mine)] {
        assert!(is_hidden(opened.store.file(cx, file.serial).await));
        assert!(is_hidden(opened.store.change_file(cx, file.serial, &gone).await));
        assert!(is_hidden(opened.store.delete_file(cx, file.serial).await));
        let page = opened.store.files(cx, &any(0, 10)).await.unwrap();
        assert_eq!((page.total, page.files.len()), (1, 1));
    }
    assert!(is_hidden(opened.store.file(&admin, 999).await));
    assert_eq!(opened.store.files(&admin, &any(0, 10)).await.unwrap().total, 2);
    // into a client that is not granted neither comes anything nor goes
    let staged = staged(&opened, &one, b"x").await;
    let there = opened.store.add_file(&one, file(Some("7"), Category::Devis, None, staged)).await;
    assert!(matches!(there, Err(Error::Hidden)));
    let there = FileChange { client: Some(Some("7".into())), ..FileChange::default() };
    assert!(is_hidden(opened.store.change_file(&one, mine.serial, &there).await));
    // what is public can be read, and is in nobody else's list
    let public = FileChange { is_public: Some(true), ..FileChange::default() };
    opened.store.change_file(&one, mine.serial, &public).await.unwrap();
    assert_eq!(opened.store.file(&two, mine.serial).await.unwrap().serial, mine.serial);
    assert_eq!(opened.store.files(&two, &any(0, 10)).await.unwrap().total, 1);
    let public = opened.store.file(&two, mine.serial).await.unwrap();
    assert!(matches!(public.version.sha256, Digest::Known(_)));
    // deleted through another door, the number is gone
    let delete =
        DeleteObject { at: at("files", mine.key.as_str()), version: None, conditions: Conditions::default() };
    opened.store.delete(&opened.cx, delete).await.unwrap();
    assert!(is_hidden(opened.store.file(&one, mine.serial).await));
}

/// What is made of pieces gets its digest behind the answer: who needs it waits, but not for a file that is open.
#[tokio::test]
async fn a_digest_that_is_being_made_is_waited_for() {
    let o = opened().await;
    let (ada, at) = (cx(&o, 0), at("files", "general/autre/pieces.bin"));
    let file = o.store.create_file(&ada, &at, Attributes::default()).await.unwrap();
    file.write(0, &vec![1; 2_000_000], 1).await.unwrap();
    file.commit(&ada, &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    file.write(1_000_000, &[2; 10_000], 1).await.unwrap();
    let version = file.commit(&ada, &at, Expect::Unchanged, Wait::Ordered).await.unwrap();
    let serial = version.ids.filing.unwrap();
    let known = |filed: &Filed| matches!(filed.version.sha256, Digest::Known(_));

    let open = o.store.file_hashed(&ada, serial, Duration::ZERO).await.unwrap().unwrap();
    assert!(!known(&open), "it may still change");
    let held = o.store.inner.background.digesting().await;
    drop(file);
    let soon = Duration::from_millis(20);
    assert_eq!(o.store.file_hashed(&ada, serial, soon).await.unwrap(), None);
    drop(held);
    let long = Duration::from_mins(1);
    assert!(known(&o.store.file_hashed(&ada, serial, long).await.unwrap().unwrap()));
    let stranger = o.store.file_hashed(&cx(&o, 3), serial, long).await.unwrap_err();
    assert!(matches!(stranger, Error::Hidden));
}
