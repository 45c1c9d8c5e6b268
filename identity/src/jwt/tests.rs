//! JWTs: what is believed, what is not, and who it makes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use coffre_kv::memory::Memory;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::*;
use crate::presign;
use crate::sample::{self, NOW_MS, system};

const NOW_S: u64 = NOW_MS / 1000;
const ISSUER: &str = "https://id.example";
const SECRET: &str = "a secret of thirty-two characters";

/// An RSA key for these tests alone.
fn rsa() -> RsaKeyPair {
    let text: String = include_str!("rsa.test.b64").split_whitespace().collect();
    RsaKeyPair::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap()
}

fn ec() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
}

enum Signer<'a> {
    Hs(&'a str),
    Rsa(&'a RsaKeyPair),
    Ec(&'a EcdsaKeyPair),
    None,
}

fn token(signer: &Signer<'_>, kid: Option<&str>, claims: &Value) -> String {
    let algorithm = match signer {
        Signer::Hs(_) => "HS256",
        Signer::Rsa(_) => "RS256",
        Signer::Ec(_) => "ES256",
        Signer::None => "none",
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT", "kid": kid})), part(claims));
    let random = SystemRandom::new();
    let signature = match signer {
        Signer::Hs(secret) => presign::hmac(secret.as_bytes(), text.as_bytes()).to_vec(),
        Signer::Rsa(key) => {
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
            signature
        }
        Signer::Ec(key) => key.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
        Signer::None => vec![],
    };
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(sub: &str) -> Value {
    json!({"iss": ISSUER, "sub": sub, "exp": NOW_S + 300, "aud": "coffre"})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// Serves what it is told to, and counts.
#[derive(Debug, Default)]
struct Published {
    set: Mutex<Option<Value>>,
    fetched: AtomicU64,
}

#[async_trait::async_trait]
impl FetchKeys for Published {
    async fn fetch(&self, url: &str, _: usize) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(url, "https://id.example/jwks");
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let set = self.set.lock().unwrap();
        set.as_ref().map(|set| set.to_string().into()).ok_or_else(|| "down".into())
    }
}

fn rsa_jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let public: ring::signature::RsaPublicKeyComponents<Vec<u8>> = key.public().into();
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e),
    })
}

fn ec_jwk(key: &EcdsaKeyPair, kid: &str) -> Value {
    let point = key.public_key().as_ref();
    json!({
        "kty": "EC", "crv": "P-256", "kid": kid,
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    })
}

struct World {
    identity: Identity,
    published: Arc<Published>,
    clock: Arc<sample::At>,
}

async fn world(keys: IssuerKeys, audience: Option<&str>, creates_users: bool) -> World {
    let clock = sample::At::now();
    let mut options = sample::options(Arc::new(Memory::new()), &crate::MasterKey::random(), &Arc::default());
    options.clock = clock.clone();
    let identity = Identity::open(options).await.unwrap();
    let published = Arc::new(Published::default());
    let issuer = Issuer { name: ISSUER.into(), audience: audience.map(str::to_owned), keys, creates_users };
    identity.trust(vec![issuer], &(published.clone() as Arc<dyn FetchKeys>));
    World { identity, published, clock }
}

fn by_secret() -> IssuerKeys {
    IssuerKeys::Hs256(Secret::new(SECRET.into()))
}

fn by_url() -> IssuerKeys {
    IssuerKeys::Url("https://id.example/jwks".into())
}

#[tokio::test]
async fn a_secret_its_claims_and_nothing_else() {
    let World { identity, .. } = world(by_secret(), Some("coffre"), false).await;
    let new = NewUser { name: "ann".into(), email: None, role: Role::User };
    let ann = identity.create_user(&system(), new).await.unwrap();
    let find =
        async |signer: Signer<'_>, claims: Value| identity.find_bearer(&token(&signer, None, &claims)).await;

    let holder = find(Signer::Hs(SECRET), claims("ann")).await.unwrap().unwrap();
    assert_eq!((holder.user, holder.id, holder.permissions.len()), (ann.id, None, 0));
    assert_eq!(holder.principal.gateway_prefix, Some(format!("https-id-example/{}", ann.id)));
    assert!(find(Signer::Hs(SECRET), claims(&ann.id.to_string())).await.unwrap().is_some());
    let many = with(claims("ann"), "aud", json!(["other", "coffre"]));
    assert!(find(Signer::Hs(SECRET), many).await.unwrap().is_some());

    for refused in [
        claims("bob"),
        claims(""),
        with(claims("ann"), "iss", json!("https://other.example")),
        with(claims("ann"), "aud", json!("other")),
        with(claims("ann"), "aud", Value::Null),
        with(claims("ann"), "exp", Value::Null),
        with(claims("ann"), "nbf", json!(NOW_S + 3600)),
    ] {
        assert!(find(Signer::Hs(SECRET), refused.clone()).await.unwrap().is_none(), "{refused}");
    }
    assert!(find(Signer::Hs("another"), claims("ann")).await.unwrap().is_none());
    assert!(find(Signer::None, claims("ann")).await.unwrap().is_none());
    let ec = ec();
    assert!(find(Signer::Ec(&ec), claims("ann")).await.unwrap().is_none(), "not the algorithm configured");
    for text in ["", "a", "a.b", "a.b.c", "....", &"x".repeat(TEXT_BYTES_MAX + 1)] {
        assert!(identity.find_bearer(text).await.unwrap().is_none());
    }
    let good = token(&Signer::Hs(SECRET), None, &claims("ann"));
    let cut = &good[..good.len() - 1];
    assert!(identity.find_bearer(cut).await.unwrap().is_none());

    let late = with(claims("ann"), "exp", json!(NOW_S - 60));
    assert!(matches!(find(Signer::Hs(SECRET), late).await, Err(Error::TokenExpired)));
    let skewed = with(claims("ann"), "exp", json!(NOW_S - 59));
    assert!(find(Signer::Hs(SECRET), skewed).await.unwrap().is_some());

    identity.disable_user(&system(), ann.id, true).await.unwrap();
    assert!(find(Signer::Hs(SECRET), claims("ann")).await.unwrap().is_none());
}

#[tokio::test]
async fn published_keys_by_id_and_algorithm() {
    let World { identity, published, clock } = world(by_url(), None, true).await;
    let (rsa, ec) = (rsa(), ec());
    let by = async |signer: Signer<'_>, kid: Option<&str>| {
        identity.find_bearer(&token(&signer, kid, &claims("u"))).await
    };
    assert!(matches!(by(Signer::Rsa(&rsa), Some("r")).await, Err(Error::IssuerUnavailable)));
    let unknown = json!({"kty": "something else", "kid": "x"});
    *published.set.lock().unwrap() = Some(json!({"keys": [unknown, rsa_jwk(&rsa, "r"), ec_jwk(&ec, "e")]}));
    assert!(matches!(by(Signer::Rsa(&rsa), Some("r")).await, Err(Error::IssuerUnavailable)), "not yet again");
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    let first = by(Signer::Rsa(&rsa), Some("r")).await.unwrap().unwrap();
    for (signer, kid) in [
        (Signer::Rsa(&rsa), None),
        (Signer::Ec(&ec), Some("e")),
        (Signer::Ec(&ec), None),
        (Signer::Rsa(&rsa), Some("r")),
    ] {
        assert_eq!(by(signer, kid).await.unwrap().unwrap().user, first.user);
    }
    assert_eq!(published.fetched.load(Ordering::Relaxed), 2);
    let other = self::ec();
    assert!(by(Signer::Ec(&other), Some("e")).await.unwrap().is_none());
    assert!(by(Signer::Rsa(&rsa), Some("e")).await.unwrap().is_none(), "a key is for one algorithm");
    // A public key is no secret: signing HS256 with it must not help.
    let public = String::from_utf8_lossy(rsa.public().as_ref()).into_owned();
    assert!(by(Signer::Hs(&public), Some("r")).await.unwrap().is_none());
}

#[tokio::test]
async fn keys_that_changed_are_found_and_an_outage_is_borne() {
    let World { identity, published, clock } = world(by_url(), None, true).await;
    let (old, new) = (ec(), ec());
    let by = async |key: &EcdsaKeyPair, kid: &str, exp: u64| {
        let claims = with(claims("u"), "exp", json!(exp));
        identity.find_bearer(&token(&Signer::Ec(key), Some(kid), &claims)).await
    };
    let far = NOW_S + 10 * 86_400;
    *published.set.lock().unwrap() = Some(json!({"keys": [ec_jwk(&old, "1")]}));
    assert!(by(&old, "1", far).await.unwrap().is_some());
    *published.set.lock().unwrap() = Some(json!({"keys": [ec_jwk(&new, "2")]}));
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    assert!(by(&new, "2", far).await.unwrap().is_some(), "an id that is not known is looked for");
    assert!(by(&old, "1", far).await.unwrap().is_none());
    *published.set.lock().unwrap() = None;
    clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    assert!(by(&new, "2", far).await.unwrap().is_some(), "the last set counts for a day");
    clock.0.fetch_add(24 * 3_600_000, Ordering::Relaxed);
    assert!(matches!(by(&new, "2", far).await, Err(Error::IssuerUnavailable)));
}

#[tokio::test]
async fn keys_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("jwks.json"), ec());
    std::fs::write(&path, json!({"keys": [ec_jwk(&key, "1")]}).to_string()).unwrap();
    let World { identity, .. } = world(IssuerKeys::File(path), None, true).await;
    assert!(
        identity.find_bearer(&token(&Signer::Ec(&key), Some("1"), &claims("u"))).await.unwrap().is_some()
    );
}

#[tokio::test]
async fn a_newcomer_is_made_once_and_never_takes_anothers_name() {
    let World { identity, .. } = world(by_secret(), None, true).await;
    let new =
        |name: &str, email: &str| NewUser { name: name.into(), email: Some(email.into()), role: Role::Admin };
    let admin = identity.create_user(&system(), new("admin", "root@example.org")).await.unwrap();
    let find = async |claims: Value| {
        let holder = identity.find_bearer(&token(&Signer::Hs(SECRET), None, &claims)).await.unwrap().unwrap();
        identity.user_by_id(holder.user).await.unwrap().unwrap()
    };
    let thief = find(with(claims("admin"), "name", json!("Admin"))).await;
    assert_ne!(thief.id, admin.id);
    assert_eq!((thief.name.as_str(), thief.role), ("admin (https-id-example)", Role::User));
    assert_eq!(find(claims("admin")).await.id, thief.id, "bound");
    assert_eq!(find(claims(&admin.id.to_string())).await.id, admin.id, "an id is an id");

    let ann = with(with(claims("user_1"), "name", json!("Ann")), "email", json!("ann@example.org"));
    let unverified = find(ann.clone()).await;
    assert_eq!((unverified.name.as_str(), unverified.email), ("Ann", None));
    let verified = with(with(ann, "sub", json!("user_2")), "email_verified", json!(true));
    let second = find(verified.clone()).await;
    assert_eq!((second.name.as_str(), second.email.as_deref()), ("user_2", Some("ann@example.org")));
    let third = find(with(verified, "sub", json!("user_3"))).await;
    assert_eq!((third.name.as_str(), third.email), ("user_3", None), "the address is somebody's");
}
