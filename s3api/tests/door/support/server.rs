//! A door over a real store, in this process: kv in memory, blobs in a temporary folder, identity's own rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_identity::{Identity, MasterKey, NewUser, Role};
use coffre_kv::memory::Memory;
use coffre_s3api::S3Door;
use coffre_store::list::{List, ListVersions};
use coffre_store::multipart::ListUploads;
use coffre_store::object::{BuiltInNames, Circumstances, Door, HistoryEntry, Principal};
use coffre_store::{Ask, Authority, Clock, Cx, Decision, Ids, Store, UserId};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::sign::{Key, Signer};
use super::wire::{Answer, Call};

/// Real time: s3s reads the real clock too.
#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now_ms(&self) -> u64 {
        u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap()
    }
}

/// Ids that ascend.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Ids for Counter {
    fn next(&self) -> [u8; 16] {
        (0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(self.0.fetch_add(1, Ordering::SeqCst)))
            .to_be_bytes()
    }
}

/// Identity's rules, and how often they were asked: a request that was refused before has not reached the store.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Authority>,
    asked: Arc<AtomicU64>,
}

impl Authority for Counting {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.decide(ask)
    }
}

/// A user with a key.
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) key: Key,
}

/// Everything a test needs.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    /// The door as it is served.
    pub(crate) address: SocketAddr,
    /// The same without its guard.
    pub(crate) unguarded: SocketAddr,
    asked: Arc<AtomicU64>,
    serving: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.serving {
            task.abort();
        }
    }
}

pub(crate) fn system() -> Cx {
    Cx {
        principal: Arc::new(Principal::system()),
        door: Door::Control,
        request_id: "test".into(),
        now_ms: Now.now_ms(),
        circumstances: Arc::new(Circumstances::default()),
    }
}

async fn serve(door: S3Door) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, peer)) = listener.accept().await else { return };
            stream.set_nodelay(true).unwrap();
            let service = door.for_connection(peer.ip(), false);
            tokio::spawn(async move {
                // a client that hangs up is no failure of the test
                let _ended = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, task)
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kv = Arc::new(Memory::new());
        let (clock, ids) = (Arc::new(Now), Arc::new(Counter::default()));
        let built_in = BuiltInNames::default();
        let identity = Identity::open(coffre_identity::Options {
            kv: kv.clone(),
            master_key: MasterKey::new([7; 32]),
            clock: clock.clone(),
            ids: ids.clone(),
            built_in: built_in.clone(),
            gateway_public_read: true,
        })
        .await
        .unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let authority = Arc::new(Counting { inner: identity.authority(), asked: Arc::clone(&asked) });
        let store = Store::open(coffre_store::Options {
            kv,
            disk: Arc::new(coffre_disk::RealDisk),
            dir: dir.path().to_owned(),
            clock: clock.clone(),
            ids: ids.clone(),
            authority,
            quota: Arc::new(coffre_store::Unlimited),
            inline_max: 128 * 1024,
            grace_ms: 600_000,
            reserve_bytes: 0,
            direct_io: false,
            built_in,
        })
        .await
        .unwrap();
        let options = || coffre_s3api::Options {
            store: store.clone(),
            identity: identity.clone(),
            region: "us-east-1".to_owned(),
            domains: vec!["s3.test".to_owned()],
            clock: clock.clone(),
            ids: ids.clone(),
        };
        let (address, guarded) = serve(coffre_s3api::service(options()).unwrap()).await;
        let open = coffre_s3api::service_without_guard_for_tests(options()).unwrap();
        let (unguarded, without) = serve(open).await;
        let alice = person(&identity, "alice").await;
        let bob = person(&identity, "bob").await;
        let serving = vec![guarded, without];
        Self { store, identity, alice, bob, address, unguarded, asked, serving, _dir: dir }
    }

    /// A signer of now for a person.
    pub(crate) fn signer(&self, person: &Person) -> Signer {
        Signer { key: person.key.clone(), at: OffsetDateTime::now_utc(), host: self.address.to_string() }
    }

    /// Sends as alice, signed in the header.
    pub(crate) async fn alice(&self, call: Call) -> Answer {
        self.signer(&self.alice).header(call).send(self.address).await
    }

    /// The same, and it has to succeed.
    pub(crate) async fn ok(&self, call: Call) -> Answer {
        let shown = format!("{} {} {:?}", call.method, call.path, call.query);
        let answer = self.alice(call).await;
        assert!(answer.status < 300, "{shown}: {} {}", answer.status, answer.text());
        answer
    }

    /// Sends as bob.
    pub(crate) async fn bob(&self, call: Call) -> Answer {
        self.signer(&self.bob).header(call).send(self.address).await
    }

    /// Sends without credentials.
    pub(crate) async fn anonymous(&self, call: Call) -> Answer {
        call.send(self.address).await
    }

    /// How often the store has asked whether somebody may.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Everything stored: versions, markers, uploads of all buckets, each as a line.
    pub(crate) async fn stored(&self) -> Vec<String> {
        let cx = system();
        let mut lines = Vec::new();
        for bucket in self.store.list_buckets(&cx, "", "", 1000).await.unwrap().buckets {
            lines.push(format!("{} policy {:?} tags {:?}", bucket.name, bucket.policy, bucket.tags));
            let list = List {
                bucket: bucket.name.clone(),
                prefix: String::new(),
                delimiter: String::new(),
                after: String::new(),
                limit: 1000,
            };
            let page =
                self.store.list_versions(&cx, ListVersions { list, after_version: None }).await.unwrap();
            assert!(page.next.is_none(), "more than a page");
            for (key, entry, _) in page.entries {
                lines.push(match entry {
                    HistoryEntry::Version(v) => {
                        format!("{}/{key} {} {:?} {:?}", bucket.name, v.id, v.etag, v.attributes)
                    }
                    HistoryEntry::DeleteMarker(m) => format!("{}/{key} {} marker", bucket.name, m.id),
                });
            }
            let uploads = ListUploads {
                bucket: bucket.name.clone(),
                prefix: String::new(),
                delimiter: String::new(),
                after_key: String::new(),
                after_upload: None,
                limit: 1000,
            };
            for upload in self.store.list_uploads(&cx, uploads).await.unwrap().uploads {
                let parts =
                    self.store.list_parts(&cx, upload.at.clone(), upload.id, None, 1000).await.unwrap();
                let parts: Vec<_> = parts.parts.iter().map(|p| (p.number, p.etag.clone())).collect();
                lines.push(format!("{}/{} upload {} {parts:?}", bucket.name, upload.at.key, upload.id));
            }
        }
        lines
    }
}

async fn person(identity: &Identity, name: &str) -> Person {
    let new = NewUser { name: name.to_owned(), email: None, role: Role::User };
    let user = identity.create_user(&system(), new).await.unwrap();
    let key = identity.create_key(&system(), user.id).await.unwrap();
    Person {
        id: user.id,
        key: Key { id: key.access_key_id, secret: key.secret_access_key.expose().to_owned() },
    }
}
