//! For the tests of this crate: a door over a real store (rows in memory, blobs in a temporary folder) and identity's
//! own rules, asked without a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use coffre_billing::Billing;
use coffre_billing::stripe::{Pages, Reply, Request as ToStripe, Transport};
use coffre_identity::audit::Audit;
use coffre_identity::{Identity, MasterKey, NewToken, NewUser, Role};
use coffre_kv::memory::Memory;
use coffre_store::object::{BuiltInNames, Circumstances, Door, Principal};
use coffre_store::{Clock, Cx, Ids, Store, Unlimited, UserId};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::http::address::{Peer, TrustedProxies};
use crate::http::rate::Limits;
use crate::{FilingSettings, GatewaySettings, Ground, Host, Options, Parts, Readiness, RestDoor, Settings};

/// 2023-11-14T22:13:20Z.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct At(pub(crate) AtomicU64);

impl Clock for At {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ids that ascend.
#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Ids for Counting {
    fn next(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        uuid::Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 | n).into_bytes()
    }
}

/// A daemon that is as ready as it is told.
#[derive(Debug)]
pub(crate) struct Fake(pub(crate) Readiness);

impl Host for Fake {
    fn readiness(&self) -> Readiness {
        self.0
    }
    fn metrics(&self) -> String {
        "coffre_up 1\n".into()
    }
    fn request_id(&self) -> String {
        "made-here".into()
    }
    fn audit(&self) -> Option<Audit> {
        None
    }
    fn status(&self) -> BoxFuture<'_, coffre_store::Result<Value>> {
        Box::pin(async { Ok(serde_json::json!({"state": "ready"})) })
    }
}

/// Nobody is there.
#[derive(Debug)]
struct NoStripe;

#[async_trait::async_trait]
impl Transport for NoStripe {
    async fn send(&self, _: &ToStripe, _: usize) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        Err("nobody is there".into())
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Asks a router.
pub(crate) async fn ask(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// A request with headers and body.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// Everything a test needs.
pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) clock: Arc<At>,
    _dir: TempDir,
}

pub(crate) fn options(readiness: Readiness, token: Option<&str>) -> Options {
    Options { host: Arc::new(Fake(readiness)), metrics_token: token.map(str::to_owned) }
}

pub(crate) fn system() -> Cx {
    Cx {
        principal: Arc::new(Principal::system()),
        door: Door::Control,
        request_id: "test".into(),
        now_ms: NOW_MS,
        circumstances: Arc::new(Circumstances::default()),
    }
}

fn settings(buckets: BuiltInNames) -> Settings {
    Settings {
        public_url: "http://rest.test".into(),
        s3_url: "http://s3.test".into(),
        s3_region: "us-east-1".into(),
        buckets,
        trusted_proxies: TrustedProxies::parse(["10.0.0.0/8"]).unwrap(),
        cors_origins: vec!["https://app.test".into()],
        rate: Limits { general: 3, upload: 2, video: 1, system: 1 },
        gateway: GatewaySettings {
            public_read: true,
            public_base_url: None,
            tus_max_size_bytes: 1 << 40,
            tus_expiry_ms: 24 * 3_600_000,
        },
        filing: FilingSettings { file_bytes_max: 10 << 20, timezone: "UTC".into(), debug: false },
        checkout: Pages {
            success_url: "http://app.test/done".into(),
            cancel_url: "http://app.test/back".into(),
        },
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kv = Arc::new(Memory::new());
        let clock = Arc::new(At(AtomicU64::new(NOW_MS)));
        let ids: Arc<dyn Ids> = Arc::new(Counting::default());
        let name = |name: &str| name.parse().unwrap();
        let built_in = BuiltInNames {
            filing: name("files"),
            gateway: name("gateway"),
            media: name("media"),
            companies: name("companies"),
        };
        let identity = Identity::open(coffre_identity::Options {
            kv: kv.clone(),
            master_key: MasterKey::new([7; 32]),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            built_in: built_in.clone(),
            gateway_public_read: true,
        })
        .await
        .unwrap();
        let store = Store::open(coffre_store::Options {
            kv: kv.clone(),
            disk: Arc::new(coffre_disk::RealDisk),
            dir: dir.path().to_owned(),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            authority: identity.authority(),
            quota: Arc::new(Unlimited),
            inline_max: 1024,
            grace_ms: 0,
            reserve_bytes: 0,
            direct_io: false,
            built_in: built_in.clone(),
        })
        .await
        .unwrap();
        let billing = Billing::new(coffre_billing::Options {
            kv: kv.clone(),
            identity: identity.clone(),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            plans: Arc::default(),
            stripe: coffre_billing::stripe::Settings::default(),
            transport: Arc::new(NoStripe),
        });
        let ground = Ground::new(Parts {
            store,
            identity,
            billing,
            host: Arc::new(Fake(Readiness::Ready)),
            clock: clock.clone(),
            ids,
            settings: settings(built_in),
        });
        Self { ground, clock, _dir: dir }
    }

    /// A user with a token of these permissions.
    pub(crate) async fn person(&self, name: &str, role: Role, permissions: &[&str]) -> (UserId, String) {
        let identity = &self.ground.identity;
        let new = NewUser { name: name.into(), email: None, role };
        let user = identity.create_user(&system(), new).await.unwrap().id;
        let permissions = permissions.iter().map(|&p| p.to_owned()).collect();
        let token = NewToken { permissions, ..NewToken::of(user, "test") };
        let token = identity.create_token(&system(), token).await.unwrap();
        (user, format!("Bearer {}", token.text.expose()))
    }

    /// Asks the open door, from an address.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        self.ask_from("192.0.2.1:4711", request).await
    }

    pub(crate) async fn ask_from(&self, address: &str, request: Request<Body>) -> Answer {
        let door = RestDoor::new(options(Readiness::Ready, None));
        door.open(self.ground.clone());
        let address: SocketAddr = address.parse().unwrap();
        let response =
            door.for_connection(Peer { address, is_secure: false }).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}
