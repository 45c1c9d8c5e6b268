//! What operators decide: `plan set` (contract §6).

use coffre_kv::Write;
use coffre_store::{Cx, OrgId};

use crate::codec;
use crate::error::{Error, Result};
use crate::subscription::Assigned;
use crate::{ATTEMPTS, Billing, admin_only};

/// Which plan an organisation has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOf {
    /// The plan's code; `None`: it has none.
    pub plan_code: Option<String>,
    /// Since when, ms since 1970.
    pub since_ms: Option<u64>,
    /// A subscription at Stripe gives it.
    pub is_subscribed: bool,
}

impl Billing {
    /// Gives an organisation a plan, from the answer on, or with `None` takes back what was given so. A subscription
    /// that comes to another plan later decides anew. Durable on return.
    ///
    /// # Errors
    /// `Denied`, `NotFound` (plan, organisation), `Busy`, `NoSpace`, `Stopped`.
    pub async fn set_plan(&self, cx: &Cx, org: OrgId, plan_code: Option<&str>) -> Result<PlanOf> {
        admin_only(cx)?;
        self.check_org(org).await?;
        if plan_code.is_some_and(|code| self.inner.plans.find(code).is_none()) {
            return Err(Error::NotFound { what: "plan" });
        }
        for _ in 0..ATTEMPTS {
            let (mut customer, check) = self.inner.customer(org).await?;
            let since_ms = self.inner.clock.now_ms();
            customer.assigned = plan_code.map(|code| Assigned { plan_code: code.to_owned(), since_ms });
            let writes = vec![Write::Put(codec::customer_key(org), codec::encode(&customer)?)];
            match self.inner.change(cx, "SetPlan", &org.to_string(), vec![check], writes).await {
                Ok(()) => return self.plan_of(org).await,
                Err(coffre_kv::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy)
    }

    /// Which plan an organisation has now.
    pub async fn plan_of(&self, org: OrgId) -> Result<PlanOf> {
        let (customer, _) = self.inner.customer(org).await?;
        let current = customer.current(&self.inner.plans, self.inner.clock.now_ms());
        Ok(PlanOf {
            plan_code: current.map(|current| current.plan.code.clone()),
            since_ms: current.map(|current| current.since_ms),
            is_subscribed: current.is_some_and(|current| current.anchor_ms.is_some()),
        })
    }
}
