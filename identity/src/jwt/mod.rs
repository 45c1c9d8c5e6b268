//! JWTs of configured issuers (contract §2): HS256 by a secret, RS256 and ES256 by a JWKS file or URL.
//!
//! Promises: a token counts only under the key and algorithm its issuer is configured for, with `iss`, `sub` and `exp`,
//! with the audience where one is configured, within its time (a minute of clock skew allowed). `sub` is the user: a
//! user's id or name, or, where the issuer may make users, somebody made at first sight and bound to issuer and `sub`
//! from then on. A JWT has no permissions of its own: it has all of its user's role.
//! Leaves out: HTTP (the daemon fetches key sets), cryptography (`ring`, behind `crypto`).

mod crypto;
mod keys;

use std::path::PathBuf;
use std::sync::Arc;

use coffre_kv::{Check, Write};
use coffre_store::object::{Circumstances, Door, Principal};
use coffre_store::{Cx, UserId};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;

use crate::codec::{self, Kind};
use crate::error::{Error, Result};
use crate::people::{NewUser, Role, User, UserRows, stored_id};
use crate::seal::Secret;
use crate::token::{TokenHolder, slug};
use crate::{ATTEMPTS, Identity};

pub use keys::FetchKeys;
use keys::{KeySet, Source};

/// Longest text that is looked at: real tokens stay below 4 KiB.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// By how much clocks may differ.
const SKEW_S: u64 = 60;
/// Longest `sub` that is bound to a user, in bytes (OpenID Connect Core §2).
const SUBJECT_BYTES_MAX: usize = 255;

/// Somebody whose JWTs are believed (`[[auth.jwt]]` of contract D32).
#[derive(Clone, Debug)]
pub struct Issuer {
    /// `iss`.
    pub name: String,
    /// `aud` has to have this; `None`: it is not looked at.
    pub audience: Option<String>,
    /// What its signatures are checked with.
    pub keys: IssuerKeys,
    /// Who is not known yet becomes a user.
    pub creates_users: bool,
}

/// What an issuer's signatures are checked with.
#[derive(Clone, Debug)]
pub enum IssuerKeys {
    /// HS256 with this secret.
    Hs256(Secret),
    /// RS256 or ES256 with the keys of this file.
    File(PathBuf),
    /// The same, of this address.
    Url(String),
}

/// The issuers, with their keys.
#[derive(Debug)]
pub(crate) struct Issuers(Vec<Trusted>);

#[derive(Debug)]
struct Trusted {
    issuer: Issuer,
    /// `None`: by secret.
    set: Option<KeySet>,
}

/// The claims that count.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    name: Option<String>,
}

/// The claim that says whose keys to look for, before anything is verified.
#[derive(Debug, Deserialize)]
struct Unverified {
    iss: String,
}

impl Issuers {
    pub(crate) fn new(issuers: Vec<Issuer>, fetch: &Arc<dyn FetchKeys>) -> Self {
        crypto::install();
        let trusted = |issuer: Issuer| {
            let source = match &issuer.keys {
                IssuerKeys::Hs256(_) => None,
                IssuerKeys::File(path) => Some(Source::File(path.clone())),
                IssuerKeys::Url(url) => Some(Source::Url(url.clone(), Arc::clone(fetch))),
            };
            Trusted { issuer, set: source.map(KeySet::new) }
        };
        Self(issuers.into_iter().map(trusted).collect())
    }

    /// Who issued it and what it says; `None` for what is none of ours.
    async fn verify(&self, text: &str, now_ms: u64) -> Result<Option<(&Issuer, Claims)>> {
        if text.len() > TEXT_BYTES_MAX {
            return Ok(None);
        }
        let Ok(header) = jsonwebtoken::decode_header(text) else { return Ok(None) };
        let Ok(Unverified { iss }) = jsonwebtoken::dangerous::insecure_decode_claims(text) else {
            return Ok(None);
        };
        for Trusted { issuer, set } in self.0.iter().filter(|trusted| trusted.issuer.name == iss) {
            let keys = match (set, &issuer.keys) {
                (Some(set), _) => set.find(header.alg, header.kid.as_deref(), now_ms).await?,
                (None, IssuerKeys::Hs256(secret)) => {
                    vec![Arc::new(DecodingKey::from_secret(secret.expose().as_bytes()))]
                }
                (None, IssuerKeys::File(_) | IssuerKeys::Url(_)) => vec![],
            };
            let is_allowed = match set {
                Some(_) => keys::ALGORITHMS.contains(&header.alg),
                None => header.alg == jsonwebtoken::Algorithm::HS256,
            };
            if !is_allowed {
                continue;
            }
            let validation = validation(issuer, header.alg);
            for key in keys {
                if let Ok(data) = jsonwebtoken::decode::<Claims>(text, &key, &validation) {
                    return Ok(Some((issuer, data.claims)));
                }
            }
        }
        Ok(None)
    }
}

/// Signature, issuer and audience; times are compared with the clock that was passed in.
fn validation(issuer: &Issuer, algorithm: jsonwebtoken::Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(&[&issuer.name]);
    validation.set_required_spec_claims(&["iss", "sub", "exp"]);
    match &issuer.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        None => validation.validate_aud = false,
    }
    validation
}

impl Identity {
    /// Believes these issuers' JWTs from now on. Once, before the doors open.
    pub fn trust(&self, issuers: Vec<Issuer>, fetch: &Arc<dyn FetchKeys>) {
        if self.inner.issuers.set(Issuers::new(issuers, fetch)).is_err() {
            tracing::warn!("issuers of JWTs were given twice");
        }
    }

    /// Who comes with this JWT.
    ///
    /// # Errors
    /// `TokenExpired`; `IssuerUnavailable` while its issuer's keys cannot be had.
    pub(crate) async fn find_jwt(&self, text: &str) -> Result<Option<TokenHolder>> {
        let Some(issuers) = self.inner.issuers.get() else { return Ok(None) };
        let now_ms = self.now_ms();
        let Some((issuer, claims)) = issuers.verify(text, now_ms).await? else { return Ok(None) };
        let now_s = now_ms / 1000;
        if claims.exp.saturating_add(SKEW_S) <= now_s {
            return Err(Error::TokenExpired);
        }
        if claims.nbf > now_s.saturating_add(SKEW_S) {
            return Ok(None);
        }
        let user = self.user_of(issuer, &claims).await?;
        let Some(user) = user.filter(|user| !user.is_disabled) else { return Ok(None) };
        let (application, grant) = (slug(&issuer.name), user.id.to_string());
        let mut principal = self.principal(&user).await?;
        principal.gateway_prefix = Some(format!("{application}/{grant}"));
        Ok(Some(TokenHolder {
            id: None,
            user: user.id,
            role: user.role,
            principal: Arc::new(principal),
            permissions: Vec::new(),
            application,
            grant,
            may_act_as: false,
            organisation: None,
        }))
    }

    /// The user that a `sub` is.
    async fn user_of(&self, issuer: &Issuer, claims: &Claims) -> Result<Option<User>> {
        let subject = claims.sub.as_str();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Ok(None);
        }
        if !issuer.creates_users {
            return self.find_user(subject).await;
        }
        // Where users come of themselves, a name that somebody chose at the issuer must not be another's here.
        if let Ok(id) = uuid::Uuid::parse_str(subject)
            && let Some(user) = self.user_by_id(UserId(id)).await?
        {
            return Ok(Some(user));
        }
        let row = codec::key(Kind::Subject, &[issuer.name.as_bytes(), &[0], subject.as_bytes()]);
        if let Some(entry) = self.kv().get(&row).await? {
            return self.user_by_id(UserId(stored_id(&entry.value)?)).await;
        }
        self.make_user_of(issuer, claims, row).await.map(Some)
    }

    /// Makes a user and binds it in one commit. Its name is the first that is free of: `name`, `sub`, both with the
    /// issuer; its address is kept when the issuer has verified it and nobody has it.
    async fn make_user_of(&self, issuer: &Issuer, claims: &Claims, row: bytes::Bytes) -> Result<User> {
        let cx = self.own_cx();
        let email = claims.email.clone().filter(|_| claims.email_verified);
        let subject = &claims.sub;
        let with_issuer = format!("{subject} ({})", slug(&issuer.name));
        let mut names: Vec<&str> = claims.name.as_deref().into_iter().collect();
        names.extend([subject.as_str(), &with_issuer]);
        let mut tried = names.iter().flat_map(|name| [(*name, email.clone()), (*name, None)]);
        let mut next = tried.next();
        for _ in 0..ATTEMPTS {
            let Some((name, email)) = next.clone() else { break };
            let new = NewUser { name: name.to_owned(), email, role: Role::User };
            let rows = match self.user_rows(cx.now_ms, &new).await {
                Ok(rows) => rows,
                Err(Error::Invalid { .. }) => {
                    next = tried.next();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let UserRows { user, mut checks, mut writes } = rows;
            let of_subject = checks.len();
            checks.push(Check::Absent(row.clone()));
            writes.push(Write::Put(row.clone(), bytes::Bytes::copy_from_slice(user.id.0.as_bytes())));
            match self.change(&cx, "CreateUser", &user.id.to_string(), checks, writes).await {
                Ok(()) => return Ok(user),
                Err(coffre_kv::Error::Conflict { check }) if check == of_subject => {
                    // Another request of the same newcomer was quicker.
                    let entry = self.kv().get(&row).await?.ok_or(Error::Busy)?;
                    return self.get_user(UserId(stored_id(&entry.value)?)).await;
                }
                // The serial number: again. The name or the address: the next.
                Err(coffre_kv::Error::Conflict { check: 0 }) => {}
                Err(coffre_kv::Error::Conflict { .. }) => next = tried.next(),
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::Exists { what: "name" })
    }

    fn own_cx(&self) -> Cx {
        Cx {
            principal: Arc::new(Principal::system()),
            door: Door::Rest,
            request_id: "jwt".into(),
            now_ms: self.now_ms(),
            circumstances: Arc::new(Circumstances::default()),
        }
    }
}

#[cfg(test)]
mod tests;
