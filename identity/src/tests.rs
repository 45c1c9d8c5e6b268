//! Users, keys and tokens on the model engine; secrets at rest; the first start.

use std::sync::{Arc, Mutex};

use coffre_kv::Kv;
use coffre_kv::memory::Memory;
use coffre_store::object::{Door, Principal, Who};

use crate::sample::{cx, identity, options, system};
use crate::*;

fn user(name: &str) -> NewUser {
    NewUser { name: name.into(), email: Some(format!("{name}@example.org")), role: Role::User }
}

#[tokio::test]
async fn names_addresses_and_serials_are_unique() {
    let identity = identity(Arc::new(Memory::new())).await;
    let anna = identity.create_user(&system(), user("Anna")).await.unwrap();
    let bert = identity.create_user(&system(), user("bert")).await.unwrap();
    assert_eq!((anna.serial, bert.serial), (1, 2));
    let same_name = NewUser { email: None, ..user("aNNA") };
    assert!(matches!(identity.create_user(&system(), same_name).await, Err(Error::Exists { what: "name" })));
    let same_address = NewUser { name: "third".into(), ..user("ANNA") };
    let answer = identity.create_user(&system(), same_address).await;
    assert!(matches!(answer, Err(Error::Exists { what: "e-mail address" })), "{answer:?}");
    assert_eq!(identity.find_user("anna").await.unwrap().as_ref(), Some(&anna));
    assert_eq!(identity.find_user(&bert.id.to_string()).await.unwrap().as_ref(), Some(&bert));
    assert_eq!(identity.find_user("nobody").await.unwrap(), None);
    assert_eq!(identity.list_users(&system(), None).await.unwrap(), [anna.clone(), bert.clone()]);
    assert_eq!(identity.list_users(&system(), Some(anna.id)).await.unwrap(), [bert]);
    for bad in ["", " ", "a\nb", &"x".repeat(129), "018f0000-0000-7000-8000-000000000000"] {
        let answer = identity.create_user(&system(), user(bad)).await;
        assert!(matches!(answer, Err(Error::Invalid { .. })), "{bad:?}");
    }
}

#[tokio::test]
async fn many_at_once_get_a_serial_each() {
    let identity = identity(Arc::new(Memory::new())).await;
    let make = |n: usize| {
        let identity = identity.clone();
        tokio::spawn(async move { identity.create_user(&system(), user(&format!("u{n}"))).await })
    };
    let mut serials = Vec::new();
    for made in (0..8).map(make).collect::<Vec<_>>() {
        serials.push(made.await.unwrap().unwrap().serial);
    }
    serials.sort_unstable();
    assert_eq!(serials, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_an_admin_changes_anything() {
    let identity = identity(Arc::new(Memory::new())).await;
    let anna = identity.create_user(&system(), user("anna")).await.unwrap();
    let as_anna = Principal { who: Who::User(anna.id), ..Principal::anonymous() };
    for principal in [Principal::anonymous(), as_anna] {
        let cx = cx(principal, Door::Rest);
        let denied = |answer: Result<()>| assert!(matches!(answer, Err(Error::Denied)), "{answer:?}");
        denied(identity.create_user(&cx, user("x")).await.map(drop));
        denied(identity.list_users(&cx, None).await.map(drop));
        denied(identity.disable_user(&cx, anna.id, true).await.map(drop));
        denied(identity.create_key(&cx, anna.id).await.map(drop));
        denied(identity.list_keys(&cx, None).await.map(drop));
        denied(identity.revoke_key(&cx, "CFKA").await);
        denied(identity.create_token(&cx, NewToken::of(anna.id, "t")).await.map(drop));
        denied(identity.list_tokens(&cx, None).await.map(drop));
        denied(identity.revoke_token(&cx, anna.id.0).await);
        denied(identity.create_org(&cx, "o").await.map(drop));
        denied(identity.grant_client(&cx, "42", anna.id).await);
        denied(identity.revoke_client(&cx, "42", anna.id).await);
        denied(identity.add_member(&cx, coffre_store::OrgId(anna.id.0), anna.id).await);
        denied(identity.remove_member(&cx, coffre_store::OrgId(anna.id.0), anna.id).await);
    }
}

#[tokio::test]
async fn a_key_is_found_until_it_is_revoked_or_its_user_disabled() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let (master, ids) = (MasterKey::random(), Arc::default());
    let here = Identity::open(options(Arc::clone(&kv), &master, &ids)).await.unwrap();
    // Another process on the same rows.
    let there = Identity::open(options(kv, &master, &ids)).await.unwrap();
    let anna = here.create_user(&system(), user("anna")).await.unwrap();
    let key = here.create_key(&system(), anna.id).await.unwrap();
    assert!(key.access_key_id.len() == 20 && key.access_key_id.starts_with("CFKA"), "{}", key.access_key_id);
    assert_eq!(key.secret_access_key.expose().len(), 40);
    for identity in [&here, &there, &here, &there] {
        let holder = identity.find_access_key(&key.access_key_id).await.unwrap().unwrap();
        assert_eq!(holder.secret, key.secret_access_key);
        assert_eq!((holder.principal.user(), holder.is_enabled), (Some(anna.id), true));
    }
    // What another process changes counts here at once, although it was cached.
    there.grant_client(&system(), "42", anna.id).await.unwrap();
    let org = there.create_org(&system(), "Org").await.unwrap();
    there.add_member(&system(), org.id, anna.id).await.unwrap();
    let holder = here.find_access_key(&key.access_key_id).await.unwrap().unwrap();
    assert_eq!(
        (&holder.principal.clients[..], &holder.principal.organisations[..]),
        (&["42".into()][..], &[org.id][..])
    );
    there.disable_user(&system(), anna.id, true).await.unwrap();
    assert!(!here.find_access_key(&key.access_key_id).await.unwrap().unwrap().is_enabled);
    there.disable_user(&system(), anna.id, false).await.unwrap();
    assert!(here.find_access_key(&key.access_key_id).await.unwrap().unwrap().is_enabled);
    assert_eq!(here.list_keys(&system(), Some(anna.id)).await.unwrap().len(), 1);
    there.revoke_key(&system(), &key.access_key_id).await.unwrap();
    assert!(here.find_access_key(&key.access_key_id).await.unwrap().is_none());
    assert!(here.list_keys(&system(), None).await.unwrap().is_empty());
    assert!(matches!(here.revoke_key(&system(), &key.access_key_id).await, Err(Error::NotFound { .. })));
    for strange in ["", "CFKA", "x/../../../../../../y", &"A".repeat(5000)] {
        assert!(here.find_access_key(strange).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn memberships_and_grants_end() {
    let identity = identity(Arc::new(Memory::new())).await;
    let anna = identity.create_user(&system(), user("anna")).await.unwrap();
    let org = identity.create_org(&system(), "Org").await.unwrap();
    assert_eq!(identity.find_org("ORG").await.unwrap().as_ref(), Some(&org));
    assert!(matches!(identity.create_org(&system(), "org").await, Err(Error::Exists { .. })));
    identity.add_member(&system(), org.id, anna.id).await.unwrap();
    identity.add_member(&system(), org.id, anna.id).await.unwrap();
    identity.grant_client(&system(), "a b-é", anna.id).await.unwrap();
    let nobody = coffre_store::UserId(org.id.0);
    assert!(matches!(identity.add_member(&system(), org.id, nobody).await, Err(Error::NotFound { .. })));
    assert!(matches!(identity.grant_client(&system(), "a/b", anna.id).await, Err(Error::Invalid { .. })));
    let principal = identity.principal(&anna).await.unwrap();
    assert_eq!((principal.organisations.len(), &principal.clients[..]), (1, &["a b-é".to_owned()][..]));
    identity.remove_member(&system(), org.id, anna.id).await.unwrap();
    identity.revoke_client(&system(), "a b-é", anna.id).await.unwrap();
    let principal = identity.principal(&anna).await.unwrap();
    assert!(principal.organisations.is_empty() && principal.clients.is_empty());
}

#[tokio::test]
async fn tokens_work_until_revoked_expired_or_disabled() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let clock = sample::At::now();
    let options =
        Options { clock: Arc::clone(&clock) as _, ..options(kv, &MasterKey::random(), &Arc::default()) };
    let identity = Identity::open(options).await.unwrap();
    let anna = identity.create_user(&system(), NewUser { role: Role::Admin, ..user("anna") }).await.unwrap();
    let limited = NewToken {
        permissions: vec!["read_files".into()],
        expires_ms: Some(sample::NOW_MS + 1000),
        ..NewToken::of(anna.id, "Été à Nice!")
    };
    let limited = identity.create_token(&system(), limited).await.unwrap();
    let full = identity.create_token(&system(), NewToken::of(anna.id, "full")).await.unwrap();
    assert!(
        full.text.expose().starts_with(&format!("{}|", full.id)) && full.text.expose().len() == 36 + 1 + 40
    );

    let holder = identity.find_token(limited.text.expose()).await.unwrap().unwrap();
    assert_eq!((holder.id, holder.user, holder.application.as_str()), (Some(limited.id), anna.id, "t-nice"));
    assert!(holder.permits("read_files") && !holder.permits("upload_files"));
    assert!(!holder.principal.is_admin, "a limited token of an ADMIN is none");
    assert_eq!(holder.principal.gateway_prefix, Some(format!("t-nice/{}", anna.id)));
    let holder = identity.find_token(full.text.expose()).await.unwrap().unwrap();
    assert!(holder.principal.is_admin && holder.permits("admin"));

    let text = full.text.expose();
    let other_id = text.replace(&full.id.to_string(), &limited.id.to_string());
    for wrong in
        ["", "|", "x|y", &text[..text.len() - 1], &format!("{text}x"), &text.replace('|', ":"), &other_id]
    {
        assert!(identity.find_token(wrong).await.unwrap().is_none(), "{wrong}");
    }
    for at in 37..77 {
        let mut wrong = text.to_owned().into_bytes();
        wrong[at] ^= 1;
        assert!(identity.find_token(std::str::from_utf8(&wrong).unwrap()).await.unwrap().is_none());
    }

    let listed = identity.list_tokens(&system(), Some(anna.id)).await.unwrap();
    assert_eq!(
        listed.iter().map(|t| (t.id, t.used_ms)).collect::<Vec<_>>(),
        [(limited.id, Some(sample::NOW_MS)), (full.id, Some(sample::NOW_MS))]
    );
    clock.0.store(sample::NOW_MS + 1000, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(identity.find_token(limited.text.expose()).await, Err(Error::TokenExpired)));
    // A wrong secret does not learn that the token has expired.
    let wrong = format!("{}|{}", limited.id, "x".repeat(40));
    assert!(identity.find_token(&wrong).await.unwrap().is_none());
    identity.disable_user(&system(), anna.id, true).await.unwrap();
    assert!(identity.find_token(text).await.unwrap().is_none());
    identity.disable_user(&system(), anna.id, false).await.unwrap();
    assert!(identity.find_token(text).await.unwrap().is_some());
    identity.revoke_token(&system(), full.id).await.unwrap();
    assert!(identity.find_token(text).await.unwrap().is_none());
    assert!(matches!(identity.revoke_token(&system(), full.id).await, Err(Error::NotFound { .. })));
    assert_eq!(identity.list_tokens(&system(), None).await.unwrap().len(), 1);
    for bad in [
        NewToken { permissions: vec!["everything".into()], ..NewToken::of(anna.id, "t") },
        NewToken { application: Some("a/b".into()), ..NewToken::of(anna.id, "t") },
        NewToken { grant: Some(String::new()), ..NewToken::of(anna.id, "t") },
        NewToken::of(anna.id, " "),
    ] {
        assert!(matches!(identity.create_token(&system(), bad).await, Err(Error::Invalid { .. })));
    }
    let of_org =
        NewToken { organisation: Some(coffre_store::OrgId(anna.id.0)), ..NewToken::of(anna.id, "t") };
    assert!(matches!(identity.create_token(&system(), of_org).await, Err(Error::NotFound { .. })));
}

/// Everything an engine writes out.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn exported(kv: &dyn Kv) -> Vec<u8> {
    let sink = Sink::default();
    kv.export(Box::new(sink.clone())).await.unwrap();
    std::mem::take(&mut *sink.0.lock().unwrap())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn secrets_stand_in_no_row_no_note_and_no_debug() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let identity =
        Identity::open(options(Arc::clone(&kv), &MasterKey::random(), &Arc::default())).await.unwrap();
    let admin = identity.bootstrap().await.unwrap().unwrap();
    let key = identity.create_key(&system(), admin.user_id).await.unwrap();
    let token = identity.create_token(&system(), NewToken::of(admin.user_id, "t")).await.unwrap();
    let holder = identity.find_access_key(&key.access_key_id).await.unwrap();
    let token_holder = identity.find_token(token.text.expose()).await.unwrap();
    let mut everything = exported(&*kv).await;
    let coffre_kv::Changes::Items(changes) = kv.changes(coffre_kv::Position(0), 1000).await.unwrap() else {
        panic!("the feed begins at 0")
    };
    everything.extend(changes.iter().flat_map(|change| change.note.to_vec()));
    everything
        .extend(format!("{identity:?} {admin:?} {key:?} {token:?} {holder:?} {token_holder:?}").bytes());
    let of_token = |text: &Secret| text.expose().split_once('|').unwrap().1.to_owned();
    for secret in [
        admin.secret_access_key.expose().to_owned(),
        of_token(&admin.token),
        key.secret_access_key.expose().to_owned(),
        of_token(&token.text),
    ] {
        assert!(!contains(&everything, &secret), "a secret is readable");
    }
    // The canary: what is not secret is found by the same search.
    assert!(contains(&everything, &key.access_key_id) && contains(&everything, "CreateAccessKey"));
    let planted = coffre_kv::Write::Put("x".into(), key.secret_access_key.expose().to_owned().into());
    kv.commit(Commit { writes: vec![planted], ..Commit::default() }).await.unwrap();
    assert!(contains(&exported(&*kv).await, key.secret_access_key.expose()));
}

#[tokio::test]
async fn another_master_key_is_refused_at_open() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let (right, ids) = (MasterKey::random(), Arc::default());
    drop(Identity::open(options(Arc::clone(&kv), &right, &ids)).await.unwrap());
    drop(Identity::open(options(Arc::clone(&kv), &right, &ids)).await.unwrap());
    let answer = Identity::open(options(kv, &MasterKey::random(), &ids)).await;
    assert!(matches!(answer, Err(Error::WrongMasterKey)), "{answer:?}");
}

#[tokio::test]
async fn a_sealed_secret_moved_to_another_key_does_not_open() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let identity = identity(Arc::clone(&kv)).await;
    let anna = identity.create_user(&system(), user("anna")).await.unwrap();
    let eve = identity.create_user(&system(), user("eve")).await.unwrap();
    let theirs = identity.create_key(&system(), anna.id).await.unwrap();
    let own = identity.create_key(&system(), eve.id).await.unwrap();
    // Somebody with write access to the rows gives anna's key eve's sealed secret.
    let row = |key: &NewKey| codec::key(Kind::Key, &[key.access_key_id.as_bytes()]);
    let of_eve = kv.get(&row(&own)).await.unwrap().unwrap().value;
    let swap =
        vec![Write::Put(row(&theirs), of_eve), Write::Put(codec::key(Kind::Generation, &[]), Bytes::new())];
    kv.commit(Commit { writes: swap, ..Commit::default() }).await.unwrap();
    let answer = identity.find_access_key(&theirs.access_key_id).await;
    assert!(matches!(answer, Err(Error::BadSeal)), "{answer:?}");
    assert!(identity.find_access_key(&own.access_key_id).await.unwrap().is_some());
}

#[tokio::test]
async fn damaged_rows_are_told_and_nothing_else_suffers() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let identity = identity(Arc::clone(&kv)).await;
    let anna = identity.create_user(&system(), user("anna")).await.unwrap();
    let bert = identity.create_user(&system(), user("bert")).await.unwrap();
    let key = codec::user_key(anna.id);
    let mut bytes = kv.get(&key).await.unwrap().unwrap().value.to_vec();
    bytes[3] ^= 1;
    kv.commit(Commit { writes: vec![Write::Put(key, bytes.into())], ..Commit::default() }).await.unwrap();
    assert!(matches!(identity.find_user("anna").await, Err(Error::Corrupt { .. })));
    assert_eq!(identity.find_user("bert").await.unwrap(), Some(bert));
}

/// What the daemon does at a start, cut off after `steps` steps; the credentials file when it got that far.
async fn start(identity: &Identity, file: &Mutex<Option<FirstAdmin>>, steps: usize) {
    if steps == 0 {
        return;
    }
    let Some(admin) = identity.bootstrap().await.unwrap() else { return };
    if steps == 1 {
        return;
    }
    *file.lock().unwrap() = Some(admin);
    if steps == 2 {
        return;
    }
    identity.bootstrap_written().await.unwrap();
}

#[tokio::test]
async fn a_crash_at_any_step_of_the_first_start_leaves_working_credentials() {
    for first in 0..=3 {
        for second in 0..=3 {
            let kv: Arc<dyn Kv> = Arc::new(Memory::new());
            let (master, ids) = (MasterKey::random(), Arc::default());
            let file = Mutex::new(None);
            for steps in [first, second, 3, 3] {
                let identity = Identity::open(options(Arc::clone(&kv), &master, &ids)).await.unwrap();
                start(&identity, &file, steps).await;
            }
            let identity = Identity::open(options(Arc::clone(&kv), &master, &ids)).await.unwrap();
            let admin = file.lock().unwrap().clone().expect("the credentials were written");
            assert_eq!(identity.list_users(&system(), None).await.unwrap().len(), 1, "{first} {second}");
            let holder = identity.find_access_key(&admin.access_key_id).await.unwrap().unwrap();
            assert!(holder.principal.is_admin && holder.principal.user() == Some(admin.user_id));
            assert_eq!(holder.secret, admin.secret_access_key);
            let token = identity.find_token(admin.token.expose()).await.unwrap().unwrap();
            assert!(token.principal.is_admin && token.user == admin.user_id);
            assert!(identity.bootstrap().await.unwrap().is_none(), "{first} {second}");
            assert!(kv.get(&codec::key(Kind::FirstAdmin, &[])).await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn two_first_starts_at_once_make_one_admin() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let (master, ids) = (MasterKey::random(), Arc::default());
    let one = Identity::open(options(Arc::clone(&kv), &master, &ids)).await.unwrap();
    let two = Identity::open(options(kv, &master, &ids)).await.unwrap();
    let (one, two) = tokio::join!(one.bootstrap(), two.bootstrap());
    let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
    assert_eq!((one.user_id, one.secret_access_key), (two.user_id, two.secret_access_key));
}

#[tokio::test]
async fn no_first_admin_where_there_are_users() {
    let identity = identity(Arc::new(Memory::new())).await;
    identity.create_user(&system(), user("anna")).await.unwrap();
    assert!(identity.bootstrap().await.unwrap().is_none());
}

#[tokio::test]
async fn every_change_is_noted_for_the_audit_log() {
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let identity = identity(Arc::clone(&kv)).await;
    let anna = identity.create_user(&system(), user("anna")).await.unwrap();
    let org = identity.create_org(&system(), "o").await.unwrap();
    let key = identity.create_key(&system(), anna.id).await.unwrap();
    let token = identity.create_token(&system(), NewToken::of(anna.id, "t")).await.unwrap();
    identity.add_member(&system(), org.id, anna.id).await.unwrap();
    identity.remove_member(&system(), org.id, anna.id).await.unwrap();
    identity.grant_client(&system(), "42", anna.id).await.unwrap();
    identity.revoke_client(&system(), "42", anna.id).await.unwrap();
    identity.revoke_key(&system(), &key.access_key_id).await.unwrap();
    identity.revoke_token(&system(), token.id).await.unwrap();
    identity.disable_user(&system(), anna.id, true).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let audit = audit::Audit::open(kv, dir.path().join("audit"), sample::At::now(), None).await.unwrap();
    let page = audit.read(audit::Filter::default(), 1, 100).await.unwrap();
    let actions: Vec<&str> = page.lines.iter().rev().map(|line| line.note.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "CreateUser",
            "CreateOrganisation",
            "CreateAccessKey",
            "CreateToken",
            "AddMember",
            "RemoveMember",
            "GrantClient",
            "RevokeClient",
            "RevokeAccessKey",
            "RevokeToken",
            "DisableUser"
        ]
    );
    assert!(page.lines.iter().all(|line| line.note.principal == "system" && line.note.door == "control"));
    assert!(page.lines[0].note.key.as_deref() == Some(&anna.id.to_string()[..]));
}
