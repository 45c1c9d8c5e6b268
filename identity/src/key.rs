//! S3 access keys: made, found once a request, revoked.
//!
//! A secret is sealed under the master key with the access key id as associated data, since SigV4 needs it in clear.
//! [`Identity::find_access_key`] reads one row (the generation, which every change of identity touches) and answers
//! from its cache while that has not moved: a key revoked by any process stops working with the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use coffre_kv::{Check, KvExt as _, Position, Range, Scan, Write};
use coffre_store::object::Principal;
use coffre_store::{Cx, UserId};
use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::error::{Error, Result};
use crate::people::key_id;
use crate::presign;
use crate::seal::{self, Secret};
use crate::{Identity, LIST_MAX, admin_only};

/// What our access key ids begin with, as AWS's do with `AKIA`: secret scanners find them by it.
const ID_PREFIX: &str = "CFKA";
/// Length of an access key id, as AWS's.
const ID_LEN: usize = 20;
/// Length of a secret, as AWS's.
const SECRET_LEN: usize = 40;
/// Keys of a user.
const KEYS_MAX: usize = 100;
/// Keys kept ready; beyond, the cache begins anew.
const CACHE_MAX: usize = 4096;

/// A new key: the only time its secret is shown.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What names it.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Secret,
}

/// A key as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// What names it.
    pub access_key_id: String,
    /// Whose it is.
    pub user: UserId,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
}

/// What a door needs of a key: the secret to check a signature, and who signs with it.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    /// The secret, for the signature.
    pub secret: Secret,
    /// Whom the key stands for.
    pub principal: Arc<Principal>,
    /// False when its user is disabled.
    pub is_enabled: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyRecord {
    user: UserId,
    created_ms: u64,
    sealed: Vec<u8>,
}

/// Keys found lately, all as of one generation.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    generation: Position,
    keys: HashMap<String, KeyHolder>,
}

impl Holders {
    fn get(&self, id: &str, generation: Position) -> Option<KeyHolder> {
        let ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.generation == generation { ready.keys.get(id).cloned() } else { None }
    }

    fn put(&self, id: &str, generation: Position, holder: &KeyHolder) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.generation > generation {
            return;
        }
        if ready.generation < generation || ready.keys.len() >= CACHE_MAX {
            ready.keys.clear();
            ready.generation = generation;
        }
        ready.keys.insert(id.to_owned(), holder.clone());
    }
}

/// The rows of a new key, and what to show.
pub(crate) struct KeyRows {
    pub(crate) new: NewKey,
    pub(crate) check: Check,
    pub(crate) writes: Vec<Write>,
}

impl Identity {
    /// Makes an access key for a user. The answer is the only time the secret is shown.
    ///
    /// # Errors
    /// `NotFound` for an unknown user, `Invalid` when it has too many keys, `Denied`.
    pub async fn create_key(&self, cx: &Cx, user: UserId) -> Result<NewKey> {
        admin_only(cx)?;
        self.get_user(user).await?;
        if self.key_rows_of(user).await?.len() >= KEYS_MAX {
            return Err(Error::Invalid { what: "number of keys: a user has at most 100" });
        }
        let KeyRows { new, check, writes } = self.key_rows(cx.now_ms, user)?;
        let checks = vec![check, Check::Present(codec::user_key(user))];
        self.change(cx, "CreateAccessKey", &new.access_key_id, checks, writes).await?;
        Ok(new)
    }

    pub(crate) fn key_rows(&self, now_ms: u64, user: UserId) -> Result<KeyRows> {
        let access_key_id = format!("{ID_PREFIX}{}", seal::random_id(ID_LEN - ID_PREFIX.len()));
        let secret_access_key = Secret::random(SECRET_LEN);
        let sealed = seal::seal(self.master(), "key", &access_key_id, secret_access_key.expose().as_bytes())?;
        let record = codec::encode(&KeyRecord { user, created_ms: now_ms, sealed })?;
        let row = codec::key(Kind::Key, &[access_key_id.as_bytes()]);
        let of_user = codec::key(Kind::UserKey, &[user.0.as_bytes(), access_key_id.as_bytes()]);
        Ok(KeyRows {
            new: NewKey { access_key_id, secret_access_key },
            check: Check::Absent(row.clone()),
            writes: vec![Write::Put(row, record), Write::Put(of_user, Bytes::new())],
        })
    }

    /// Who signs with this access key. Quick: called once a request.
    pub async fn find_access_key(&self, id: &str) -> Result<Option<KeyHolder>> {
        if let Some(stands) = presign::parse_id(id) {
            return self.find_link_key(id, stands).await;
        }
        if !is_plausible(id) {
            return Ok(None);
        }
        // Read before the rows below: what changes from here on moves it again.
        let generation = self.generation().await?;
        if let Some(holder) = self.inner.holders.get(id, generation) {
            return Ok(Some(holder));
        }
        let Some(row) = self.kv().get(&codec::key(Kind::Key, &[id.as_bytes()])).await? else {
            return Ok(None);
        };
        let record: KeyRecord = codec::decode("an access key", &row.value)?;
        let Some(user) = self.user_by_id(record.user).await? else { return Ok(None) };
        let holder = KeyHolder {
            secret: seal::open_text(self.master(), "key", id, &record.sealed)?,
            principal: Arc::new(self.principal(&user).await?),
            is_enabled: !user.is_disabled,
        };
        self.inner.holders.put(id, generation, &holder);
        Ok(Some(holder))
    }

    /// The keys of a user, or of all; never their secrets.
    pub async fn list_keys(&self, cx: &Cx, user: Option<UserId>) -> Result<Vec<KeyInfo>> {
        admin_only(cx)?;
        let ids = if let Some(user) = user {
            self.key_rows_of(user).await?
        } else {
            let range = Range::prefix(codec::key(Kind::UserKey, &[]));
            self.kv().rows(Scan::forward(range).keys_only(), LIST_MAX).await?
        };
        let mut keys = Vec::with_capacity(ids.len());
        for (row, _) in &ids {
            let id = codec::rest(row, 16).unwrap_or_default();
            // Revoked between the two reads.
            let Some(entry) = self.kv().get(&codec::key(Kind::Key, &[id])).await? else { continue };
            let KeyRecord { user, created_ms, sealed: _ } = codec::decode("an access key", &entry.value)?;
            keys.push(KeyInfo { access_key_id: String::from_utf8_lossy(id).into_owned(), user, created_ms });
        }
        Ok(keys)
    }

    /// Makes a key useless, from the answer on.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub async fn revoke_key(&self, cx: &Cx, id: &str) -> Result<()> {
        admin_only(cx)?;
        let missing = || Error::NotFound { what: "access key" };
        let row = codec::key(Kind::Key, &[id.as_bytes()]);
        let entry = if is_plausible(id) { self.kv().get(&row).await? } else { None }.ok_or_else(missing)?;
        let KeyRecord { user, .. } = codec::decode("an access key", &entry.value)?;
        let of_user = codec::key(Kind::UserKey, &[user.0.as_bytes(), id.as_bytes()]);
        let (checks, writes) =
            (vec![Check::Present(row.clone())], vec![Write::Delete(row), Write::Delete(of_user)]);
        match self.change(cx, "RevokeAccessKey", id, checks, writes).await {
            Err(coffre_kv::Error::Conflict { .. }) => Err(missing()),
            other => Ok(other?),
        }
    }

    async fn key_rows_of(&self, user: UserId) -> Result<Vec<(Bytes, coffre_kv::Entry)>> {
        let range = Range::prefix(codec::key(Kind::UserKey, &[user.0.as_bytes()]));
        let rows = self.kv().rows(Scan::forward(range).keys_only(), KEYS_MAX).await?;
        // A key too short for its user is damage, and not a key.
        rows.iter().try_for_each(|(key, _)| key_id(key.get(..18).unwrap_or_default(), 0).map(drop))?;
        Ok(rows)
    }
}

/// Ids that cannot be ours cost no read.
fn is_plausible(id: &str) -> bool {
    id.len() == ID_LEN && id.bytes().all(|b| b.is_ascii_alphanumeric())
}
