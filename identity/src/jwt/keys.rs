//! An issuer's published keys (JWKS, RFC 7517), kept for a while.
//!
//! Read again when older than [`FRESH_MS`], and sooner for a key id that is not among them (an issuer that has changed
//! its keys), at most once in [`AGAIN_MS`]. While a set cannot be had, the last one counts for [`STALE_MS`].

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

use crate::error::{Error, Result};

/// What keys of a set may sign with.
pub(super) const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];
/// How long a set counts without looking again.
const FRESH_MS: u64 = 10 * 60_000;
/// How often at most it is read again before that.
const AGAIN_MS: u64 = 60_000;
/// How long the last set counts while no newer one can be had.
const STALE_MS: u64 = 24 * 3_600_000;
/// Largest set.
const BYTES_MAX: usize = 256 * 1024;
/// Most keys of a set.
const KEYS_MAX: usize = 100;

/// Fetches a key set by HTTP; the daemon implements it.
#[async_trait]
pub trait FetchKeys: std::fmt::Debug + Send + Sync + 'static {
    /// The document at this address, at most `bytes_max` long, within seconds.
    ///
    /// # Errors
    /// Anything; it is logged.
    async fn fetch(
        &self,
        url: &str,
        bytes_max: usize,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;
}

/// Where a set is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url(String, Arc<dyn FetchKeys>),
}

/// A set and when it was read.
#[derive(Debug)]
pub(super) struct KeySet {
    source: Source,
    /// One reads, the others wait for it.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Vec<Key>,
    /// When they were read; `None`: never.
    read_ms: Option<u64>,
    /// When that was tried last.
    tried_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: Arc<DecodingKey>,
}

impl KeySet {
    pub(super) fn new(source: Source) -> Self {
        Self { source, known: Mutex::default() }
    }

    /// The keys that may have signed so: by id, or all of the algorithm where the token names none.
    ///
    /// # Errors
    /// `IssuerUnavailable` when there is no set to look in.
    pub(super) async fn find(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        now_ms: u64,
    ) -> Result<Vec<Arc<DecodingKey>>> {
        let mut known = self.known.lock().await;
        let age = |since: Option<u64>| since.map_or(u64::MAX, |since| now_ms.saturating_sub(since));
        let mut found = known.matching(algorithm, id);
        let is_due = age(known.read_ms) >= FRESH_MS || found.is_empty();
        if is_due && age(known.tried_ms) >= AGAIN_MS {
            known.tried_ms = Some(now_ms);
            match self.read().await {
                Ok(keys) => {
                    (known.keys, known.read_ms) = (keys, Some(now_ms));
                    found = known.matching(algorithm, id);
                }
                Err(error) => tracing::warn!(error = %error, "an issuer's keys cannot be read"),
            }
        }
        if age(known.read_ms) >= STALE_MS { Err(Error::IssuerUnavailable) } else { Ok(found) }
    }

    async fn read(&self) -> Result<Vec<Key>, Box<dyn std::error::Error + Send + Sync>> {
        let bytes = match &self.source {
            Source::Url(url, fetch) => fetch.fetch(url, BYTES_MAX).await?,
            Source::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || std::fs::read(path)).await??.into()
            }
        };
        if bytes.len() > BYTES_MAX {
            return Err("the key set is too large".into());
        }
        parse(&bytes)
    }
}

impl Known {
    fn matching(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<Arc<DecodingKey>> {
        let fits = |key: &&Key| {
            key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref().is_none_or(|own| own == id))
        };
        self.keys.iter().filter(fits).map(|key| Arc::clone(&key.decoding)).collect()
    }
}

/// The keys of a set that can be used; others are passed over, as RFC 7517 §5 asks.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, Box<dyn std::error::Error + Send + Sync>> {
    /// One by one, so that a key of a kind we do not know does not spoil the set.
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let Set { keys } = serde_json::from_slice(bytes)?;
    let set = JwkSet {
        keys: keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok()).collect(),
    };
    Ok(set.keys.iter().filter_map(usable).collect())
}

fn usable(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|use_| *use_ != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    if common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: common.key_id.clone(), algorithm, decoding: Arc::new(key) })
}
