//! Values for this crate's tests: a clock that is moved, ids from a counter, plans, a ledger on rows in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use coffre_identity::{Identity, MasterKey, Secret};
use coffre_kv::Kv;
use coffre_kv::memory::Memory;
use coffre_store::object::{BuiltInNames, Circumstances, Door, Principal, Who};
use coffre_store::watch::Note;
use coffre_store::{Clock, Cx, Ids, OrgId, UserId};
use uuid::Uuid;

use crate::stripe::{Reply, Request, Settings, Transport};
use crate::{Billing, Consume, DATA_STORAGE, Feature, Options, Period, Plan, Plans};

/// 2023-11-14T22:13:20Z.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
pub(crate) const WEBHOOK_SECRET: &str = "whsec_of_the_tests";

#[derive(Debug)]
pub(crate) struct At(pub(crate) AtomicU64);

impl Clock for At {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Ids for Counting {
    fn next(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let time = (NOW_MS << 16) | 0x7000;
        Uuid::from_u64_pair(time, 0x8000_0000_0000_0000 | n).into_bytes()
    }
}

/// Nobody is there.
#[derive(Debug)]
pub(crate) struct NoStripe;

#[async_trait]
impl Transport for NoStripe {
    async fn send(&self, _: &Request, _: usize) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        Err("nobody is there".into())
    }
}

/// Without limit.
pub(crate) fn feature(key: &str) -> Feature {
    Feature { key: key.to_owned(), limit: None, period: Period::None }
}

pub(crate) fn plan(code: &str, features: Vec<Feature>) -> Plan {
    Plan { code: code.to_owned(), price: None, features }
}

/// `basic` and `premium`, each with a price `price_{code}`.
pub(crate) fn plans() -> Plans {
    let of = |code: &str, units, megabytes| Plan {
        price: Some(format!("price_{code}")),
        ..plan(
            code,
            vec![
                Feature { limit: Some(units), period: Period::Month, ..feature("ai_generation") },
                Feature { limit: Some(megabytes), ..feature(DATA_STORAGE) },
            ],
        )
    };
    let mut premium = of("premium", 1000, 10_000);
    premium.features.push(feature("exports"));
    Plans::new(vec![of("basic", 150, 1), premium]).unwrap()
}

/// Billing on rows in memory, an organisation with a member.
pub(crate) struct World {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) billing: Billing,
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<At>,
    ids: Arc<Counting>,
    pub(crate) org: OrgId,
    pub(crate) user: UserId,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(Memory::new())).await
    }

    pub(crate) async fn on(kv: Arc<dyn Kv>) -> Self {
        let clock = Arc::new(At(AtomicU64::new(NOW_MS)));
        let ids = Arc::new(Counting::default());
        let identity = Identity::open(coffre_identity::Options {
            kv: Arc::clone(&kv),
            master_key: MasterKey::new([7; 32]),
            clock: Arc::clone(&clock) as _,
            ids: Arc::clone(&ids) as _,
            built_in: BuiltInNames::default(),
            gateway_public_read: true,
        })
        .await
        .unwrap();
        let org = identity.create_org(&system(), "org").await.unwrap().id;
        let user = UserId(Uuid::from_u128(77));
        let billing = billing(&kv, &identity, &clock, &ids);
        Self { kv, billing, identity, clock, ids, org, user }
    }

    /// Another process on the same rows.
    pub(crate) fn another(&self) -> Billing {
        billing(&self.kv, &self.identity, &self.clock, &self.ids)
    }

    pub(crate) fn consume(&self, amount: u64, key: Option<&str>) -> Consume {
        Consume {
            org: self.org,
            user: self.user,
            application: "app".into(),
            feature: "ai_generation".into(),
            amount,
            metadata: None,
            idempotency_key: key.map(str::to_owned),
        }
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }
}

fn billing(kv: &Arc<dyn Kv>, identity: &Identity, clock: &Arc<At>, ids: &Arc<Counting>) -> Billing {
    Billing::new(Options {
        kv: Arc::clone(kv),
        identity: identity.clone(),
        clock: Arc::clone(clock) as _,
        ids: Arc::clone(ids) as _,
        plans: Arc::new(plans()),
        stripe: Settings { webhook_secret: Some(Secret::new(WEBHOOK_SECRET.into())), ..Settings::default() },
        transport: Arc::new(NoStripe),
    })
}

pub(crate) fn note() -> Note {
    Note::of(&system(), "Test", None, None)
}

pub(crate) fn system() -> Cx {
    cx(Principal::system())
}

pub(crate) fn user(user: UserId) -> Cx {
    cx(Principal { who: Who::User(user), ..Principal::anonymous() })
}

fn cx(principal: Principal) -> Cx {
    Cx {
        principal: Arc::new(principal),
        door: Door::Control,
        request_id: "test".into(),
        now_ms: NOW_MS,
        circumstances: Arc::new(Circumstances::default()),
    }
}
