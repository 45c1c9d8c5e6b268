//! Values for this crate's tests: a clock held still, ids from a counter, contexts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_kv::Kv;
use coffre_store::object::{BuiltInNames, Circumstances, Door, Principal};
use coffre_store::{Clock, Cx, Ids};

use crate::{Identity, MasterKey, Options};

/// 2023-11-14T22:13:20Z.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

#[derive(Debug)]
pub(crate) struct At(pub(crate) AtomicU64);

impl At {
    pub(crate) fn now() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW_MS)))
    }
}

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
        uuid::Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 | n).into_bytes()
    }
}

pub(crate) fn built_in() -> BuiltInNames {
    BuiltInNames::default()
}

pub(crate) fn options(kv: Arc<dyn Kv>, master_key: &MasterKey, ids: &Arc<Counting>) -> Options {
    Options {
        kv,
        master_key: master_key.clone(),
        clock: At::now(),
        ids: Arc::clone(ids) as Arc<dyn Ids>,
        built_in: built_in(),
        gateway_public_read: true,
    }
}

pub(crate) async fn identity(kv: Arc<dyn Kv>) -> Identity {
    Identity::open(options(kv, &MasterKey::random(), &Arc::default())).await.unwrap()
}

pub(crate) fn cx(principal: Principal, door: Door) -> Cx {
    Cx {
        principal: Arc::new(principal),
        door,
        request_id: "r-1".into(),
        now_ms: NOW_MS,
        circumstances: Arc::new(Circumstances::default()),
    }
}

pub(crate) fn system() -> Cx {
    cx(Principal::system(), Door::Control)
}
