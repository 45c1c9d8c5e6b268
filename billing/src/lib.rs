//! What an organisation may use, and what it used (contract §5.3, D21–D23, D33).
//!
//! Owns plans ([`plan`]), whose plan it is (`subscription`: operators and Stripe decide), rights and balances by period
//! (`entitlement`, pure), the ledger (`ledger`, `desk`, `read`), quotas on what is stored (`quota`, which is
//! [`coffre_store::QuotaGate`]) and what is said to and by Stripe ([`stripe`]).
//! Promises: a balance is the sum of its lines and never below 0; a line, the account it changes and the idempotency
//! key that answers for it are one durable commit; decisions are checked in the commit that follows from them, so they
//! hold across processes; a secret stands in no log, error or `Debug`.
//! Leaves out: who the caller is and for whom it may act (`identity`), HTTP (the REST door), the network (`daemon`
//! implements [`stripe::Transport`]).

mod calendar;
mod codec;
mod desk;
mod entitlement;
mod error;
mod ledger;
mod line;
mod operator;
pub mod plan;
mod quota;
mod read;
pub mod stripe;
mod subscription;

use std::sync::Arc;

use coffre_identity::Identity;
use coffre_kv::{Check, Commit, Kv, Write};
use coffre_store::watch::Note;
use coffre_store::{Clock, Cx, Ids, OrgId};
use uuid::Uuid;

pub use entitlement::{Entitlement, Kind};
pub use error::{Error, Result};
pub use ledger::{APPLICATION_BYTES_MAX, Consume, Consumed, KEY_BYTES_MAX};
pub use line::{Line, METADATA_BYTES_MAX};
pub use operator::PlanOf;
pub use plan::{DATA_STORAGE, Feature, MEGABYTE, Period, Plan, Plans, UNITS_MAX};
pub use quota::{Gate, Room};
pub use read::{Balance, Filter, Page};

use desk::Desk;

/// How often a change is decided again when others were quicker.
const ATTEMPTS: usize = 32;

/// What [`Billing::new`] is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rows.
    pub kv: Arc<dyn Kv>,
    /// Who is an organisation.
    pub identity: Identity,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// What is sold.
    pub plans: Arc<Plans>,
    /// How Stripe is spoken to.
    pub stripe: stripe::Settings,
    /// What carries requests there.
    pub transport: Arc<dyn stripe::Transport>,
}

/// Plans, accounts and quotas. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Billing {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kv: Arc<dyn Kv>,
    identity: Identity,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    plans: Arc<Plans>,
    stripe: stripe::Client,
    desk: Desk,
}

impl Billing {
    /// On the rows of `options.kv`. Reads nothing yet.
    pub fn new(options: Options) -> Self {
        let Options { kv, identity, clock, ids, plans, stripe, transport } = options;
        let stripe = stripe::Client::new(stripe, transport);
        Self { inner: Arc::new(Inner { kv, identity, clock, ids, plans, stripe, desk: Desk::default() }) }
    }

    /// The plans of the configuration.
    pub fn plans(&self) -> &Plans {
        &self.inner.plans
    }

    async fn check_org(&self, org: OrgId) -> Result<coffre_identity::Organisation> {
        let found = self.inner.identity.find_org(&org.to_string()).await?;
        found.ok_or(Error::NotFound { what: "organisation" })
    }
}

impl Inner {
    fn new_id(&self) -> Uuid {
        Uuid::from_bytes(self.ids.next())
    }

    /// One commit with its audit line.
    async fn change(
        &self,
        cx: &Cx,
        action: &str,
        subject: &str,
        checks: Vec<Check>,
        writes: Vec<Write>,
    ) -> coffre_kv::Result<()> {
        let note = Note::of(cx, action, None, Some(subject)).encode();
        self.kv.commit(Commit { checks, writes, note, ..Commit::default() }).await.map(drop)
    }
}

/// Only an ADMIN, or the daemon itself.
fn admin_only(cx: &Cx) -> Result<()> {
    if cx.principal.is_admin { Ok(()) } else { Err(Error::Denied) }
}

#[cfg(test)]
mod sample;
