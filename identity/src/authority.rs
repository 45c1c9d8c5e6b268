//! [`coffre_store::Authority`]: the rules, with the policies of buckets kept parsed.
//!
//! Kept by bucket id together with the text they were parsed from, which is compared at every question: a policy put
//! through any process counts from the next question on, and nothing has to be told.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use coffre_store::object::Bucket;
use coffre_store::{Ask, Authority, BucketId, Decision};

use crate::policy::{self, Policy};
use crate::rules::{self, Document};

/// Policies kept parsed; beyond, the cache begins anew. At 20 KiB each this is 20 MiB at the very worst.
const CACHE_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    gateway_public_read: bool,
    parsed: RwLock<HashMap<BucketId, Arc<Parsed>>>,
}

#[derive(Debug)]
struct Parsed {
    text: String,
    /// `None`: stored by another version, and this one cannot read it.
    policy: Option<Policy>,
}

impl Rules {
    pub(crate) fn new(gateway_public_read: bool) -> Self {
        Self { gateway_public_read, parsed: RwLock::default() }
    }

    fn parsed(&self, bucket: &Bucket, text: &str) -> Arc<Parsed> {
        let known = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&bucket.id).cloned();
        if let Some(parsed) = known.filter(|parsed| parsed.text == text) {
            return parsed;
        }
        let policy = policy::parse(text, &bucket.name)
            .inspect_err(|error| tracing::warn!(bucket = %bucket.name, %error, "the policy is not readable: all but its owner are denied"))
            .ok();
        let parsed = Arc::new(Parsed { text: text.to_owned(), policy });
        let mut all = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHE_MAX {
            all.clear();
        }
        all.insert(bucket.id, Arc::clone(&parsed));
        parsed
    }
}

impl Authority for Rules {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        let Some((bucket, text)) = ask.bucket.and_then(|b| Some((b, b.policy.as_deref()?))) else {
            return rules::decide(ask, &Document::None, self.gateway_public_read);
        };
        let parsed = self.parsed(bucket, text);
        match &parsed.policy {
            Some(policy) => rules::decide(ask, &Document::Policy(policy), self.gateway_public_read),
            None => rules::decide(ask, &Document::Unreadable, self.gateway_public_read),
        }
    }
}
