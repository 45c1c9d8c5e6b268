//! Whose plan an organisation has: what an operator decided, and what Stripe has told of its subscriptions. Pure.
//!
//! The last decision holds: a plan set by an operator, or the plan that a subscription came to have (contract §5.3).
//! Renewals decide nothing. `active`, `trialing` and for seven days `past_due` give the plan (contract D22).

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Plans};

/// How long a subscription whose payment failed still gives its plan (contract D22).
const PAST_DUE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Subscriptions of one organisation that are kept: those that ended go first.
const SUBSCRIPTIONS_MAX: usize = 16;

/// What is known of an organisation that may pay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Customer {
    /// The plan that an operator set.
    pub(crate) assigned: Option<Assigned>,
    /// Its id at Stripe.
    pub(crate) stripe_id: Option<String>,
    /// In the order in which they were first told of.
    pub(crate) subscriptions: Vec<Subscription>,
}

/// An operator's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assigned {
    /// The plan's code.
    pub(crate) plan_code: String,
    /// When, ms since 1970.
    pub(crate) since_ms: u64,
}

/// A subscription as Stripe told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    /// Its id there.
    pub(crate) id: String,
    /// How it is.
    pub(crate) status: Status,
    /// The prices of its items; none: only its checkout was told.
    pub(crate) prices: Vec<String>,
    /// What its metadata say: for prices that are of no plan.
    pub(crate) plan_code: Option<String>,
    /// What its periods are counted from, ms since 1970.
    pub(crate) anchor_ms: u64,
    /// When a payment failed that has not been made since.
    pub(crate) past_due_ms: Option<u64>,
    /// When it came to give the plan it gives, by our clock.
    pub(crate) since_ms: u64,
    /// When Stripe made the newest event that was applied, ms since 1970.
    pub(crate) event_ms: u64,
}

/// Stripe's words for how a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Active,
    Trialing,
    PastDue,
    Incomplete,
    /// The end: nothing follows it.
    Canceled,
    /// `unpaid`, `paused`, `incomplete_expired`, and words to come.
    Other,
}

impl Status {
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "trialing" => Self::Trialing,
            "past_due" => Self::PastDue,
            "incomplete" => Self::Incomplete,
            "canceled" => Self::Canceled,
            _ => Self::Other,
        }
    }
}

/// What one event says of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) what: What,
    /// When Stripe made the event, ms since 1970.
    pub(crate) event_ms: u64,
}

/// Which of the events it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// All there is to say: created, updated, deleted.
    Whole { status: Status, prices: Vec<String>, plan_code: Option<String>, anchor_ms: u64, is_first: bool },
    /// Its checkout is through, or one of its invoices was paid.
    Paid { plan_code: Option<String> },
    /// One of its invoices was not.
    Unpaid,
}

/// The plan an organisation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current<'a> {
    pub(crate) plan: &'a Plan,
    /// What periods are counted from; `None`: the calendar.
    pub(crate) anchor_ms: Option<u64>,
    /// Since when.
    pub(crate) since_ms: u64,
}

impl Customer {
    /// The plan it has now; one that is not in the configuration any more is none.
    pub(crate) fn current<'a>(&self, plans: &'a Plans, now_ms: u64) -> Option<Current<'a>> {
        let assigned = self.assigned.iter().filter_map(|assigned| {
            let plan = plans.find(&assigned.plan_code)?;
            Some(Current { plan, anchor_ms: None, since_ms: assigned.since_ms })
        });
        let subscribed =
            self.subscriptions.iter().filter(|subscription| subscription.gives(now_ms)).filter_map(|one| {
                let plan = one.plan(plans)?;
                Some(Current { plan, anchor_ms: Some(one.anchor_ms), since_ms: one.since_ms })
            });
        // of several decided in one millisecond the later in the list, an operator's last
        subscribed.chain(assigned).max_by_key(|current| current.since_ms)
    }

    /// Takes in what an event says. Whether anything changed: an event older than the newest applied to its
    /// subscription says nothing new.
    pub(crate) fn hear(&mut self, told: Told, now_ms: u64) -> bool {
        let before = self.subscriptions.clone();
        if let Some(known) = self.subscriptions.iter_mut().find(|known| known.id == told.id) {
            known.hear(told, now_ms);
        } else if let Some(new) = Subscription::begin(told, now_ms) {
            if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
                let ended = self.subscriptions.iter().position(|one| !one.gives(now_ms)).unwrap_or(0);
                self.subscriptions.remove(ended);
            }
            self.subscriptions.push(new);
        }
        self.subscriptions != before
    }
}

impl Subscription {
    /// A subscription of which nothing was known. A failed payment alone says nothing of it.
    fn begin(told: Told, now_ms: u64) -> Option<Self> {
        let Told { id, what, event_ms } = told;
        let (status, prices, plan_code, anchor_ms) = match what {
            What::Whole { status, prices, plan_code, anchor_ms, .. } => {
                (status, prices, plan_code, anchor_ms)
            }
            What::Paid { plan_code } => (Status::Active, Vec::new(), plan_code, event_ms),
            What::Unpaid => return None,
        };
        let past_due_ms = (status == Status::PastDue).then_some(event_ms);
        Some(Self { id, status, prices, plan_code, anchor_ms, past_due_ms, since_ms: now_ms, event_ms })
    }

    fn hear(&mut self, told: Told, now_ms: u64) {
        let gave = self.gives(now_ms);
        let sold = (self.prices.clone(), self.plan_code.clone());
        let is_sketch = self.prices.is_empty();
        let is_late = told.event_ms < self.event_ms;
        match told.what {
            What::Whole { prices, plan_code, anchor_ms, is_first, .. }
                if is_sketch && (is_late || is_first) =>
            {
                // The checkout was quicker than the event that tells what was bought.
                (self.prices, self.anchor_ms) = (prices, anchor_ms);
                self.plan_code = plan_code.or(self.plan_code.take());
            }
            // Stripe's times are seconds: of two events of one the first cannot be the last.
            What::Whole { is_first, .. } if is_late || is_first || self.status == Status::Canceled => return,
            What::Whole { status, prices, plan_code, anchor_ms, .. } => {
                self.become_(status, told.event_ms);
                (self.prices, self.plan_code, self.anchor_ms) = (prices, plan_code, anchor_ms);
            }
            _ if is_late || self.status == Status::Canceled => return,
            What::Paid { plan_code } => {
                if self.status != Status::Trialing {
                    self.become_(Status::Active, told.event_ms);
                }
                if is_sketch && plan_code.is_some() {
                    self.plan_code = plan_code;
                }
            }
            What::Unpaid => {
                if matches!(self.status, Status::Active | Status::Trialing) {
                    self.become_(Status::PastDue, told.event_ms);
                }
            }
        }
        self.event_ms = self.event_ms.max(told.event_ms);
        if self.gives(now_ms) && (!gave || sold != (self.prices.clone(), self.plan_code.clone())) {
            self.since_ms = now_ms;
        }
    }

    fn become_(&mut self, status: Status, at_ms: u64) {
        self.past_due_ms = match status {
            Status::PastDue => self.past_due_ms.or(Some(at_ms)),
            _ => None,
        };
        self.status = status;
    }

    /// Whether it gives its plan now.
    fn gives(&self, now_ms: u64) -> bool {
        match self.status {
            Status::Active | Status::Trialing => true,
            Status::PastDue => {
                self.past_due_ms.is_some_and(|since_ms| now_ms < since_ms.saturating_add(PAST_DUE_MS))
            }
            Status::Incomplete | Status::Canceled | Status::Other => false,
        }
    }

    /// Its plan: that of one of its prices; customers change those in Stripe's portal, metadata stay.
    fn plan<'a>(&self, plans: &'a Plans) -> Option<&'a Plan> {
        let by_price = self.prices.iter().find_map(|price| plans.find_by_price(price));
        by_price.or_else(|| plans.find(self.plan_code.as_deref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{plan, plans};

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    const T: u64 = 1_700_000_000_000;

    fn whole(id: &str, status: Status, price: &str, event_ms: u64) -> Told {
        let what = What::Whole {
            status,
            prices: vec![price.to_owned()],
            plan_code: None,
            anchor_ms: T,
            is_first: false,
        };
        Told { id: id.to_owned(), what, event_ms }
    }

    fn first(id: &str, status: Status, price: &str, event_ms: u64) -> Told {
        let mut told = whole(id, status, price, event_ms);
        if let What::Whole { is_first, .. } = &mut told.what {
            *is_first = true;
        }
        told
    }

    fn told(id: &str, what: What, event_ms: u64) -> Told {
        Told { id: id.to_owned(), what, event_ms }
    }

    fn code(customer: &Customer, now_ms: u64) -> Option<String> {
        customer.current(&plans(), now_ms).map(|current| current.plan.code.clone())
    }

    #[test]
    fn a_subscriptions_life() {
        let mut customer = Customer::default();
        let paid = || What::Paid { plan_code: Some("basic".into()) };
        customer.hear(first("s", Status::Incomplete, "price_basic", T), T);
        assert_eq!(code(&customer, T), None);
        customer.hear(told("s", paid(), T + 1000), T + 1000);
        assert_eq!(code(&customer, T), Some("basic".into()));
        // a change of plan in the portal
        customer.hear(whole("s", Status::Active, "price_premium", T + DAY_MS), T + DAY_MS);
        assert_eq!(code(&customer, T), Some("premium".into()));
        // a payment fails: seven days
        let failed = T + 2 * DAY_MS;
        customer.hear(told("s", What::Unpaid, failed), failed);
        customer.hear(whole("s", Status::PastDue, "price_premium", failed + 5000), failed + 5000);
        assert_eq!(code(&customer, failed + 7 * DAY_MS - 1), Some("premium".into()));
        assert_eq!(code(&customer, failed + 7 * DAY_MS), None);
        customer.hear(told("s", What::Paid { plan_code: None }, failed + 8 * DAY_MS), failed + 8 * DAY_MS);
        assert_eq!(code(&customer, failed + 9 * DAY_MS), Some("premium".into()));
        customer.hear(whole("s", Status::Canceled, "price_premium", T + 30 * DAY_MS), T + 30 * DAY_MS);
        assert_eq!(code(&customer, T + 30 * DAY_MS), None);
        // the end is the end
        assert!(!customer.hear(told("s", paid(), T + 31 * DAY_MS), T + 31 * DAY_MS));
        assert!(!customer.hear(whole("s", Status::Active, "price_basic", T + 31 * DAY_MS), T));
    }

    #[test]
    fn what_comes_late_says_nothing_new() {
        let mut customer = Customer::default();
        customer.hear(whole("s", Status::Active, "price_premium", T + 5000), T);
        for late in [
            whole("s", Status::Canceled, "price_basic", T + 4999),
            told("s", What::Unpaid, T),
            // of the same second, and the first of all by its nature
            first("s", Status::Incomplete, "price_basic", T + 5000),
        ] {
            assert!(!customer.hear(late.clone(), T), "{late:?}");
        }
        assert_eq!(code(&customer, T), Some("premium".into()));
        // another subscription has times of its own
        customer.hear(whole("old", Status::Canceled, "price_basic", T + 9000), T);
        assert_eq!(code(&customer, T), Some("premium".into()));
        assert!(!Customer::default().hear(told("x", What::Unpaid, T), T));
    }

    #[test]
    fn a_checkout_before_its_subscription_is_filled_in_later() {
        let mut customer = Customer::default();
        customer.hear(told("s", What::Paid { plan_code: Some("basic".into()) }, T + 2000), T);
        assert_eq!(code(&customer, T), Some("basic".into()));
        customer.hear(first("s", Status::Incomplete, "price_premium", T + 1000), T);
        assert_eq!(
            code(&customer, T),
            Some("premium".into()),
            "the price tells, the status is the newer one"
        );
        assert_eq!(customer.subscriptions[0].anchor_ms, T);
    }

    #[test]
    fn the_last_decision_holds() {
        let mut customer = Customer::default();
        let assigned = |code: &str, since_ms| Some(Assigned { plan_code: code.into(), since_ms });
        customer.assigned = assigned("basic", T);
        assert_eq!(code(&customer, T), Some("basic".into()));
        customer.hear(whole("s", Status::Active, "price_premium", T), T + 10);
        assert_eq!(code(&customer, T + 10), Some("premium".into()));
        customer.assigned = assigned("basic", T + 20);
        assert_eq!(code(&customer, T + 20), Some("basic".into()));
        // a renewal decides nothing
        customer.hear(whole("s", Status::Active, "price_premium", T + 30_000), T + 30_000);
        assert_eq!(code(&customer, T + 30_000), Some("basic".into()));
        customer.assigned = assigned("gone", T + 40_000);
        assert_eq!(code(&customer, T + 40_000), Some("premium".into()), "a plan nobody sells is none");
        let metadata = What::Whole {
            status: Status::Active,
            prices: vec!["price_of_another_time".into()],
            plan_code: Some("basic".into()),
            anchor_ms: T,
            is_first: false,
        };
        customer.hear(told("s", metadata, T + 50_000), T + 50_000);
        assert_eq!(code(&customer, T + 50_000), Some("basic".into()), "an unknown price: the metadata");
        assert!(plan("x", vec![]).feature("y").is_none());
    }

    #[test]
    fn there_is_a_limit() {
        let mut customer = Customer::default();
        customer.hear(whole("live", Status::Active, "price_basic", T), T);
        for n in 0..2 * SUBSCRIPTIONS_MAX {
            customer.hear(whole(&n.to_string(), Status::Canceled, "price_basic", T), T);
        }
        assert_eq!(customer.subscriptions.len(), SUBSCRIPTIONS_MAX);
        assert_eq!(code(&customer, T), Some("basic".into()), "those that ended go first");
    }
}
