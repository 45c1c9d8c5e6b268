//! What an organisation may use of a feature in a period, and what is left: pure functions of plan, account and time.
//!
//! An [`Account`] is the sum of its ledger's lines, kept beside them: what a plan gives in the period less what was
//! taken of it, and grants less what was taken of them. Every change of it is a [`Movement`], and every movement
//! becomes a line; `Σ movements = balance ≥ 0` at each moment ([`Account::balance`]). A period's end is two movements
//! (what is left expires, a new allowance comes), made with the first other movement of the new period; until then
//! [`Account::settled`] shows what the account is without them being written.

use serde::{Deserialize, Serialize};

use crate::calendar::period_start;
use crate::error::{Error, Result};
use crate::plan::UNITS_MAX;
use crate::subscription::Current;

/// What a feature is worth to an organisation now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Units a period; `None`: without limit; 0 where there is no plan, or it lacks the feature.
    pub(crate) limit: Option<u64>,
    /// When the period began; `None`: there is none, the account's last one stays.
    pub(crate) period_ms: Option<u64>,
    /// Since when the plan is the organisation's.
    pub(crate) since_ms: Option<u64>,
}

/// What is left of a feature, and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Units that the plan gives in the period; `None`: without limit.
    pub(crate) limit: Option<u64>,
    /// When the period began; `None`: there was none yet.
    pub(crate) period_ms: Option<u64>,
    /// Units used in the period that the plan gave.
    pub(crate) used_of_plan: u64,
    /// Units used in the period.
    pub(crate) used: u64,
    /// Units left of grants. They outlive periods.
    pub(crate) granted: u64,
    /// When a line was written last, ms since 1970.
    pub(crate) changed_ms: Option<u64>,
}

/// Why a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A plan's units for a period.
    Allowance,
    /// What was left of them at the period's end.
    Expiry,
    /// The plan gives more or less than before, within a period.
    Adjustment,
    /// Units used.
    Consumption,
    /// Units given by an operator.
    Grant,
    /// Units of a consumption given back.
    Refund,
}

/// One change of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) kind: Kind,
    /// Units, less than 0 where they go.
    pub(crate) amount: i64,
    /// Units of it that are the plan's.
    pub(crate) of_plan: u64,
    /// What is left after it; `None`: it is of no balance, the feature being without limit.
    pub(crate) balance_after: Option<u64>,
}

/// What a line that shall be given back took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) amount: u64,
    pub(crate) of_plan: u64,
    pub(crate) period_ms: Option<u64>,
    /// It was taken of a balance.
    pub(crate) is_counted: bool,
}

/// An organisation's right to a feature (document 2.9.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// Which.
    pub feature: String,
    /// The plan has it, or something granted is left.
    pub is_enabled: bool,
    /// Units of this period, grants included; `None`: without limit.
    pub limit: Option<u64>,
    /// Units used in this period.
    pub used: u64,
}

impl Terms {
    /// Of a feature, by the plan an organisation has.
    pub(crate) fn of(current: Option<&Current<'_>>, feature: &str, now_ms: u64) -> Self {
        let Some((current, feature)) =
            current.and_then(|current| Some((current, current.plan.feature(feature)?)))
        else {
            return Self { limit: Some(0), period_ms: None, since_ms: None };
        };
        Self {
            limit: feature.limit,
            period_ms: Some(period_start(feature.period, current.anchor_ms, now_ms)),
            since_ms: Some(current.since_ms),
        }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self { limit: Some(0), period_ms: None, used_of_plan: 0, used: 0, granted: 0, changed_ms: None }
    }
}

impl Account {
    /// Units left of the plan's; of a plan without limit none are counted.
    fn allowed(&self) -> u64 {
        self.limit.map_or(0, |limit| limit.saturating_sub(self.used_of_plan))
    }

    /// Units that lines add up to: what is left of a plan with limits, and of grants.
    pub(crate) fn balance(&self) -> u64 {
        self.allowed() + self.granted
    }

    /// Units left as they are shown; `None`: without limit.
    pub(crate) fn left(&self) -> Option<u64> {
        self.limit.map(|_| self.balance())
    }

    /// The account under the terms that hold now, and the movements it takes to get there.
    pub(crate) fn settled(&self, terms: &Terms) -> (Self, Vec<Movement>) {
        let mut next = self.clone();
        let mut movements = Vec::new();
        // A clock that goes back, or another plan's count, begins no period again.
        if terms.period_ms.is_some() && terms.period_ms > self.period_ms {
            (next.limit, next.period_ms) = (Some(0), terms.period_ms);
            (next.used, next.used_of_plan) = (0, 0);
            movements.extend(self.moved_to(&next, Kind::Expiry));
            let before = next.clone();
            next.limit = terms.limit;
            movements.extend(before.moved_to(&next, Kind::Allowance));
        } else {
            next.limit = terms.limit;
            movements.extend(self.moved_to(&next, Kind::Adjustment));
        }
        (next, movements)
    }

    /// The movement between two states; `None`: the balance is the same.
    fn moved_to(&self, next: &Self, kind: Kind) -> Option<Movement> {
        let amount = signed(next.balance()) - signed(self.balance());
        let of_plan = amount.unsigned_abs();
        (amount != 0).then(|| Movement { kind, amount, of_plan, balance_after: Some(next.balance()) })
    }

    /// With so many units used: the plan's first, which would expire.
    ///
    /// # Errors
    /// `Insufficient`.
    pub(crate) fn consume(&self, amount: u64) -> Result<(Self, Movement)> {
        let mut next = self.clone();
        next.used = next.used.saturating_add(amount);
        let of_plan = if self.limit.is_none() { amount } else { self.allowed().min(amount) };
        let of_grants = amount - of_plan;
        let current = self.balance();
        next.granted =
            self.granted.checked_sub(of_grants).ok_or(Error::Insufficient { required: amount, current })?;
        next.used_of_plan = next.used_of_plan.saturating_add(of_plan);
        let balance_after = self.limit.map(|_| next.balance());
        let movement = Movement { kind: Kind::Consumption, amount: -signed(amount), of_plan, balance_after };
        Ok((next, movement))
    }

    /// With so many units granted.
    ///
    /// # Errors
    /// `Invalid`: more than a number of JSON holds.
    pub(crate) fn grant(&self, amount: u64) -> Result<(Self, Movement)> {
        let mut next = self.clone();
        next.granted = self
            .granted
            .checked_add(amount)
            .filter(|sum| *sum <= UNITS_MAX)
            .ok_or(Error::Invalid { what: "amount: there would be more than 2^53 units" })?;
        let balance_after = Some(next.balance());
        Ok((next, Movement { kind: Kind::Grant, amount: signed(amount), of_plan: 0, balance_after }))
    }

    /// With a consumption given back: to where it was taken from, while that is the same period; else as a grant.
    ///
    /// # Errors
    /// `Invalid`: nothing was taken that could be given back.
    pub(crate) fn refund(&self, taken: &Taken) -> Result<(Self, Movement)> {
        let mut next = self.clone();
        if taken.period_ms == self.period_ms {
            next.used = self.used.saturating_sub(taken.amount);
            next.used_of_plan = self.used_of_plan.saturating_sub(taken.of_plan);
            next.granted = self.granted.saturating_add(taken.amount - taken.of_plan);
        } else if taken.is_counted {
            next.granted = self.granted.saturating_add(taken.amount);
        }
        let of_plan = taken.of_plan;
        let given = self.moved_to(&next, Kind::Refund).map(|movement| Movement { of_plan, ..movement });
        let uncounted = || {
            let is_same = taken.period_ms == self.period_ms && self.limit.is_none();
            let amount = signed(taken.amount);
            is_same.then_some(Movement { kind: Kind::Refund, amount, of_plan, balance_after: None })
        };
        let movement = given.or_else(uncounted);
        Ok((next, movement.ok_or(Error::Invalid { what: "line: there is nothing of it to give back" })?))
    }

    /// The right it shows.
    pub(crate) fn entitlement(&self, feature: &str, is_in_plan: bool) -> Entitlement {
        let of_grants = self.granted.saturating_add(self.used.saturating_sub(self.used_of_plan));
        Entitlement {
            feature: feature.to_owned(),
            is_enabled: is_in_plan || self.granted > 0,
            limit: self.limit.map(|limit| limit.saturating_add(of_grants)),
            used: self.used,
        }
    }
}

/// Units with a sign: all are below [`UNITS_MAX`].
pub(crate) fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(limit: Option<u64>, period: u64) -> Terms {
        Terms { limit, period_ms: Some(period), since_ms: Some(0) }
    }

    fn settled(account: &Account, limit: Option<u64>, period: u64) -> Account {
        account.settled(&terms(limit, period)).0
    }

    fn consumed(account: &Account, amount: u64) -> Account {
        account.consume(amount).unwrap().0
    }

    fn shown(account: &Account) -> (bool, Option<u64>, u64, Option<u64>) {
        let Entitlement { is_enabled, limit, used, .. } = account.entitlement("f", account.limit != Some(0));
        (is_enabled, limit, used, account.left())
    }

    #[test]
    fn a_year_in_an_account() {
        let account = settled(&Account::default(), Some(1000), 1);
        assert_eq!(shown(&account), (true, Some(1000), 0, Some(1000)));
        let account = consumed(&account, 150);
        assert_eq!(shown(&account), (true, Some(1000), 150, Some(850)), "as the document has it");
        let (account, grant) = account.grant(100).unwrap();
        assert_eq!((grant.amount, grant.balance_after), (100, Some(950)));
        assert_eq!(shown(&account), (true, Some(1100), 150, Some(950)));
        // beyond the plan's own: 850 of the plan, 50 of the grant
        let (account, taken) = account.consume(900).unwrap();
        assert_eq!((taken.amount, taken.of_plan, taken.balance_after), (-900, 850, Some(50)));
        assert_eq!(shown(&account), (true, Some(1100), 1050, Some(50)));
        let short = account.consume(51).unwrap_err();
        assert!(matches!(short, Error::Insufficient { required: 51, current: 50 }));
        // the next period: what is granted stays, nothing was left to expire
        let (account, movements) = account.settled(&terms(Some(1000), 2));
        assert_eq!(movements.len(), 1);
        assert_eq!((movements[0].kind, movements[0].amount), (Kind::Allowance, 1000));
        assert_eq!(shown(&account), (true, Some(1050), 0, Some(1050)));
        let (account, movements) = consumed(&account, 10).settled(&terms(Some(1000), 3));
        let kinds: Vec<_> = movements.iter().map(|m| (m.kind, m.amount, m.balance_after)).collect();
        assert_eq!(kinds, [(Kind::Expiry, -990, Some(50)), (Kind::Allowance, 1000, Some(1050))]);
        // a smaller plan in the middle, a larger one, none, and the same again: no period begins
        let account = consumed(&account, 600);
        assert_eq!(shown(&settled(&account, Some(500), 3)), (true, Some(550), 600, Some(50)));
        assert_eq!(shown(&settled(&account, Some(5000), 3)), (true, Some(5050), 600, Some(4450)));
        let none = account.settled(&Terms { limit: Some(0), period_ms: None, since_ms: None }).0;
        assert_eq!(shown(&none), (true, Some(50), 600, Some(50)), "what was granted is still there");
        assert_eq!(settled(&none, Some(1000), 3), account);
        assert_eq!(settled(&account, Some(1000), 2), account, "a clock that goes back begins nothing");
    }

    #[test]
    fn without_limit_nothing_is_counted_down() {
        let account = settled(&Account::default(), None, 1);
        assert_eq!(shown(&account), (true, None, 0, None));
        let (account, movement) = account.consume(UNITS_MAX).unwrap();
        assert_eq!((movement.amount, movement.balance_after), (-(1 << 53), None));
        assert_eq!(shown(&account).2, UNITS_MAX);
        // then a limit comes, in the middle of the period
        assert_eq!(shown(&settled(&account, Some(10), 1)), (true, Some(10), UNITS_MAX, Some(0)));
        assert_eq!(shown(&settled(&account, Some(10), 2)), (true, Some(10), 0, Some(10)));
    }

    #[test]
    fn refunds_go_where_the_units_came_from() {
        let account = settled(&Account::default(), Some(10), 1).grant(5).unwrap().0;
        let (used, movement) = account.consume(12).unwrap();
        let taken =
            Taken { amount: 12, of_plan: movement.of_plan, period_ms: used.period_ms, is_counted: true };
        let (back, movement) = used.refund(&taken).unwrap();
        assert_eq!((back, movement.amount, movement.balance_after), (account, 12, Some(15)));
        // in the next period the plan's units are there anew: these come beside them
        let (later, movement) = settled(&used, Some(10), 2).refund(&taken).unwrap();
        assert_eq!((later.left(), movement.amount), (Some(25), 12));
        let unlimited = settled(&Account::default(), None, 1);
        let used = consumed(&unlimited, 7);
        let taken = Taken { amount: 7, of_plan: 7, period_ms: Some(1), is_counted: false };
        let (back, movement) = used.refund(&taken).unwrap();
        assert_eq!((back.used, movement.amount, movement.balance_after), (0, 7, None));
        assert!(settled(&used, Some(3), 2).refund(&taken).is_err(), "it cost nothing");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Consume(u64),
        Grant(u64),
        Refund(prop::sample::Index),
        Terms(Option<u64>, Option<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..40).prop_map(Step::Consume),
            1 => (1u64..40).prop_map(Step::Grant),
            2 => any::<prop::sample::Index>().prop_map(Step::Refund),
            2 => (prop::option::weighted(0.8, 0u64..60), prop::option::of(0u64..6))
                .prop_map(|(limit, period)| Step::Terms(limit, period)),
        ]
    }

    proptest! {
        #[test]
        fn lines_add_up_to_a_balance_that_is_never_below_0(steps in prop::collection::vec(step(), 1..80)) {
            let mut account = Account::default();
            let (mut sum, mut taken) = (0i64, Vec::new());
            for step in steps {
                let before = account.balance();
                let made = match step {
                    Step::Consume(amount) => match account.consume(amount) {
                        Ok(made) => {
                            taken.push(Taken {
                                amount,
                                of_plan: made.1.of_plan,
                                period_ms: account.period_ms,
                                is_counted: made.1.balance_after.is_some(),
                            });
                            Ok((made.0, vec![made.1]))
                        }
                        Err(Error::Insufficient { required, current }) => {
                            prop_assert!(required > current && current == before && account.limit.is_some());
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                    Step::Grant(amount) => account.grant(amount).map(|(next, movement)| (next, vec![movement])),
                    Step::Refund(which) => {
                        if taken.is_empty() {
                            continue;
                        }
                        let given = taken.remove(which.index(taken.len()));
                        match account.refund(&given) {
                            Ok((next, movement)) => Ok((next, vec![movement])),
                            Err(_) => continue,
                        }
                    }
                    Step::Terms(limit, period_ms) => {
                        let limit = if period_ms.is_none() { Some(0) } else { limit };
                        Ok(account.settled(&Terms { limit, period_ms, since_ms: None }))
                    }
                };
                let (next, movements) = made.unwrap();
                for movement in movements {
                    if let Some(after) = movement.balance_after {
                        sum += movement.amount;
                        prop_assert_eq!(sum, signed(after));
                    }
                }
                account = next;
                prop_assert_eq!(sum, signed(account.balance()));
                let shown = account.entitlement("f", true);
                if let (Some(limit), Some(left)) = (shown.limit, account.left()) {
                    prop_assert!(limit.saturating_sub(shown.used) <= left);
                }
            }
        }
    }
}
