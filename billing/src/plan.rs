//! What is sold: plans of the configuration, with their features, limits and periods (contract §5.3, D32).

use std::collections::BTreeSet;

/// The feature that is metered from what is really stored, in MB (contract D22).
pub const DATA_STORAGE: &str = "data_storage";
/// A megabyte of [`DATA_STORAGE`], bytes.
pub const MEGABYTE: u64 = 1_000_000;
/// Most units of anything: what a JSON number holds exactly (contract D21).
pub const UNITS_MAX: u64 = 1 << 53;
/// Longest key of a feature and code of a plan, bytes: both stand in keys of rows.
const NAME_BYTES_MAX: usize = 64;

/// After which time an allowance begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    /// Never.
    #[default]
    None,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// What is counted, and up to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its key: `ai_generation`.
    pub key: String,
    /// Units a period; `None`: as many as one likes (contract D43).
    pub limit: Option<u64>,
    /// When the allowance begins anew.
    pub period: Period,
}

/// What is sold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its code: `premium_monthly`.
    pub code: String,
    /// Its price at Stripe; `None`: it cannot be bought there.
    pub price: Option<String>,
    /// In the order of the configuration.
    pub features: Vec<Feature>,
}

/// All plans of the configuration, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans(Vec<Plan>);

impl Plan {
    /// What it says of a feature.
    pub fn feature(&self, key: &str) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.key == key)
    }
}

impl Plans {
    /// Checks them.
    ///
    /// # Errors
    /// The first thing that cannot stand, in words.
    pub fn new(plans: Vec<Plan>) -> Result<Self, String> {
        let (mut codes, mut prices) = (BTreeSet::new(), BTreeSet::new());
        for plan in &plans {
            let code = &plan.code;
            if !is_name(code) {
                return Err(format!("the code `{code}` has to be 1 to 64 of a-z, A-Z, 0-9, _, . and -"));
            }
            if !codes.insert(code) {
                return Err(format!("the code `{code}` stands twice"));
            }
            if let Some(price) = plan.price.as_ref().filter(|price| !prices.insert(*price)) {
                return Err(format!("the price `{price}` is that of two plans"));
            }
            let mut keys = BTreeSet::new();
            for Feature { key, limit, .. } in &plan.features {
                if !is_name(key) {
                    return Err(format!(
                        "the feature `{key}` has to be 1 to 64 of a-z, A-Z, 0-9, _, . and -"
                    ));
                }
                if !keys.insert(key) {
                    return Err(format!("the feature `{key}` stands twice in `{code}`"));
                }
                if limit.is_some_and(|limit| limit > UNITS_MAX) {
                    return Err(format!("the limit of `{key}` in `{code}` is more than {UNITS_MAX}"));
                }
            }
        }
        Ok(Self(plans))
    }

    /// The plan with this code.
    pub fn find(&self, code: &str) -> Option<&Plan> {
        self.0.iter().find(|plan| plan.code == code)
    }

    /// The plan with this price at Stripe.
    pub fn find_by_price(&self, price: &str) -> Option<&Plan> {
        self.0.iter().find(|plan| plan.price.as_deref() == Some(price))
    }

    /// Whether any plan has this feature.
    pub fn knows(&self, key: &str) -> bool {
        self.0.iter().any(|plan| plan.feature(key).is_some())
    }

    /// Every feature once, in the order of the configuration.
    pub fn features(&self) -> impl Iterator<Item = &Feature> {
        let mut seen = BTreeSet::new();
        self.0.iter().flat_map(|plan| &plan.features).filter(move |feature| seen.insert(&feature.key))
    }
}

/// Whether a feature or plan may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{feature, plan};

    #[test]
    fn what_cannot_stand_is_said() {
        let limited = |limit| Feature { limit: Some(limit), ..feature("a") };
        for (plans, reason) in [
            (vec![plan("", vec![])], "the code ``"),
            (vec![plan("a b", vec![])], "the code `a b`"),
            (vec![plan("a", vec![]), plan("a", vec![])], "`a` stands twice"),
            (vec![plan("a", vec![feature("")])], "the feature ``"),
            (vec![plan("a", vec![feature("é")])], "the feature `é`"),
            (vec![plan("a", vec![feature("x"), feature("x")])], "`x` stands twice in `a`"),
            (vec![plan("a", vec![limited(UNITS_MAX + 1)])], "the limit of `a`"),
            (
                vec![
                    Plan { price: Some("p".into()), ..plan("a", vec![]) },
                    Plan { price: Some("p".into()), ..plan("b", vec![]) },
                ],
                "the price `p`",
            ),
        ] {
            let refused = Plans::new(plans).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        let plans = Plans::new(vec![
            plan("a", vec![feature("x"), limited(UNITS_MAX)]),
            plan("b", vec![feature("y"), feature("x")]),
        ])
        .unwrap();
        assert_eq!(plans.features().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["x", "a", "y"]);
        assert!(plans.knows("y") && !plans.knows("z") && plans.find("b").is_some());
    }
}
