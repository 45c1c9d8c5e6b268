//! Users, keys and tokens on the model engine; secrets at rest; the first start.

use std::sync::Arc;

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
