//! Bearer tokens in Sanctum's form, `{id}|{secret}` (contract §2).
//!
//! Stored is the SHA-256 of the secret: it has 238 bits, so a slow hash would only slow us. Compared in constant
//! time. The last use stands in a row of its own, at most once a minute: it is for people, not for decisions.

use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Check, Commit, KvExt as _, Range, Scan, Wait, Write};
use coffre_store::object::Principal;
use coffre_store::{Cx, OrgId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::codec::{self, Kind};
use crate::error::{Error, Result};
use crate::people::{Role, key_id};
use crate::seal::Secret;
use crate::{Identity, LIST_MAX, admin_only};

/// What a token may be limited to (contract D13).
pub const PERMISSIONS: [&str; 7] =
    ["read_files", "upload_files", "delete_files", "generate_videos", "manage_webhooks", "billing", "admin"];
/// Length of a token's secret.
const SECRET_LEN: usize = 40;
/// Longest name of a token, application or grant, in bytes.
const NAME_BYTES_MAX: usize = 80;
/// A use is noted when the last note is older than this.
const USE_EVERY_MS: u64 = 60_000;

/// What [`Identity::create_token`] is given.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose it is.
    pub user: UserId,
    /// What for.
    pub name: String,
    /// Any of [`PERMISSIONS`]; none: all of the user's role.
    pub permissions: Vec<String>,
    /// First segment of its gateway keys; default: the name as a slug.
    pub application: Option<String>,
    /// Second segment of its gateway keys; default: the user's id.
    pub grant: Option<String>,
    /// May act for others (contract §2).
    pub may_act_as: bool,
    /// The organisation it is a token of.
    pub organisation: Option<OrgId>,
    /// When it ends, ms since 1970.
    pub expires_ms: Option<u64>,
}

impl NewToken {
    /// A token with all of the user's rights and no end.
    pub fn of(user: UserId, name: &str) -> Self {
        Self {
            user,
            name: name.to_owned(),
            permissions: Vec::new(),
            application: None,
            grant: None,
            may_act_as: false,
            organisation: None,
            expires_ms: None,
        }
    }
}

/// A new token: the only time its text is shown.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// Its id.
    pub id: Uuid,
    /// `{id}|{secret}`.
    pub text: Secret,
}

/// A token as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// What for.
    pub name: String,
    /// Its limits.
    pub permissions: Vec<String>,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
    /// When it ends.
    pub expires_ms: Option<u64>,
    /// When it was used last, to the minute.
    pub used_ms: Option<u64>,
}

/// Who comes with a token.
#[derive(Clone, Debug)]
pub struct TokenHolder {
    /// The token's id; `None`: a JWT.
    pub id: Option<Uuid>,
    /// Its user.
    pub user: UserId,
    /// The user's role.
    pub role: Role,
    /// Whom it stands for. ADMIN only when the user is and the token is not limited, or has `admin`.
    pub principal: Arc<Principal>,
    /// Its limits; none: all of the role.
    pub permissions: Vec<String>,
    /// First segment of its gateway keys.
    pub application: String,
    /// Second segment of its gateway keys.
    pub grant: String,
    /// May act for others.
    pub may_act_as: bool,
    /// The organisation it is a token of.
    pub organisation: Option<OrgId>,
}

impl TokenHolder {
    /// Whether the token may do this (contract D13).
    pub fn permits(&self, permission: &str) -> bool {
        self.permissions.is_empty() || self.permissions.iter().any(|p| p == permission)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct TokenRecord {
    user: UserId,
    hash: [u8; 32],
    name: String,
    permissions: Vec<String>,
    application: String,
    grant: String,
    may_act_as: bool,
    organisation: Option<OrgId>,
    created_ms: u64,
    expires_ms: Option<u64>,
}

/// The rows of a new token, and what to show.
pub(crate) struct TokenRows {
    pub(crate) issued: IssuedToken,
    pub(crate) check: Check,
    pub(crate) writes: Vec<Write>,
}

impl Identity {
    /// Makes a token. The answer is the only time its text is shown.
    ///
    /// # Errors
    /// `NotFound` for an unknown user, `Invalid`, `Denied`.
    pub async fn create_token(&self, cx: &Cx, new: NewToken) -> Result<IssuedToken> {
        admin_only(cx)?;
        self.get_user(new.user).await?;
        let user = codec::user_key(new.user);
        let organisation = new.organisation;
        let TokenRows { issued, check, writes } = self.token_rows(cx.now_ms, new)?;
        let mut checks = vec![check, Check::Present(user)];
        checks.extend(organisation.map(|org| Check::Present(codec::org_key(org))));
        match self.change(cx, "CreateToken", &issued.id.to_string(), checks, writes).await {
            Ok(()) => Ok(issued),
            Err(coffre_kv::Error::Conflict { .. }) => Err(Error::NotFound { what: "organisation or user" }),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn token_rows(&self, now_ms: u64, new: NewToken) -> Result<TokenRows> {
        let NewToken { user, name, permissions, application, grant, may_act_as, organisation, expires_ms } =
            new;
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Error::Invalid { what: "token name: 1 to 80 visible characters" });
        }
        if !permissions.iter().all(|p| PERMISSIONS.contains(&p.as_str())) {
            return Err(Error::Invalid { what: "permission" });
        }
        let application = application.map_or_else(|| Ok(slug(&name)), segment)?;
        let grant = grant.map_or_else(|| Ok(user.to_string()), segment)?;
        let id = self.new_id();
        let secret = Secret::random(SECRET_LEN);
        let hash = hash(secret.expose());
        let created_ms = now_ms;
        let record = codec::encode(&TokenRecord {
            user,
            hash,
            name,
            permissions,
            application,
            grant,
            may_act_as,
            organisation,
            created_ms,
            expires_ms,
        })?;
        let row = codec::key(Kind::Token, &[id.as_bytes()]);
        let of_user = codec::key(Kind::UserToken, &[user.0.as_bytes(), id.as_bytes()]);
        Ok(TokenRows {
            issued: IssuedToken { id, text: Secret::new(format!("{id}|{}", secret.expose())) },
            check: Check::Absent(row.clone()),
            writes: vec![Write::Put(row, record), Write::Put(of_user, Bytes::new())],
        })
    }

    /// Who comes with this bearer, whatever its kind; `None` for one that is wrong, revoked, or of a disabled user.
    ///
    /// # Errors
    /// [`Error::TokenExpired`] for the right text too late (contract D10); `IssuerUnavailable`.
    pub async fn find_bearer(&self, text: &str) -> Result<Option<TokenHolder>> {
        if text.contains('|') { self.find_token(text).await } else { self.find_jwt(text).await }
    }

    /// Who comes with this token; `None` for one that is wrong, revoked, or of a disabled user.
    ///
    /// # Errors
    /// [`Error::TokenExpired`] for the right text too late (contract D10).
    pub async fn find_token(&self, text: &str) -> Result<Option<TokenHolder>> {
        let Some((id, secret)) = text.split_once('|') else { return Ok(None) };
        let Ok(id) = Uuid::parse_str(id) else { return Ok(None) };
        if secret.len() != SECRET_LEN {
            return Ok(None);
        }
        let Some(row) = self.kv().get(&codec::key(Kind::Token, &[id.as_bytes()])).await? else {
            return Ok(None);
        };
        let record: TokenRecord = codec::decode("a token", &row.value)?;
        if !bool::from(hash(secret).ct_eq(&record.hash)) {
            return Ok(None);
        }
        let holder = self.holder_of(id, record).await?;
        if holder.is_some() {
            self.note_use(id, self.now_ms()).await;
        }
        Ok(holder)
    }

    /// Whom a token stands for that somebody signs a link with; its text is not asked for.
    pub(crate) async fn holder_of_token(&self, id: Uuid) -> Result<Option<TokenHolder>> {
        let Some(row) = self.kv().get(&codec::key(Kind::Token, &[id.as_bytes()])).await? else {
            return Ok(None);
        };
        self.holder_of(id, codec::decode("a token", &row.value)?).await
    }

    async fn holder_of(&self, id: Uuid, record: TokenRecord) -> Result<Option<TokenHolder>> {
        let now_ms = self.now_ms();
        if record.expires_ms.is_some_and(|end| end <= now_ms) {
            return Err(Error::TokenExpired);
        }
        let Some(user) = self.user_by_id(record.user).await? else { return Ok(None) };
        if user.is_disabled {
            return Ok(None);
        }
        let mut principal = self.principal(&user).await?;
        let may_admin = record.permissions.is_empty() || record.permissions.iter().any(|p| p == "admin");
        principal.is_admin &= may_admin;
        principal.organisation = record.organisation;
        principal.gateway_prefix = Some(format!("{}/{}", record.application, record.grant));
        Ok(Some(TokenHolder {
            id: Some(id),
            user: record.user,
            role: user.role,
            principal: Arc::new(principal),
            permissions: record.permissions,
            application: record.application,
            grant: record.grant,
            may_act_as: record.may_act_as,
            organisation: record.organisation,
        }))
    }

    /// The tokens of a user, or of all; never their texts.
    pub async fn list_tokens(&self, cx: &Cx, user: Option<UserId>) -> Result<Vec<TokenInfo>> {
        admin_only(cx)?;
        let prefix = match &user {
            Some(user) => codec::key(Kind::UserToken, &[user.0.as_bytes()]),
            None => codec::key(Kind::UserToken, &[]),
        };
        let rows = self.kv().rows(Scan::forward(Range::prefix(prefix)).keys_only(), LIST_MAX).await?;
        let mut tokens = Vec::with_capacity(rows.len());
        for (row, _) in &rows {
            let id = key_id(row, 16)?;
            // Revoked between the two reads.
            let Some(entry) = self.kv().get(&codec::key(Kind::Token, &[id.as_bytes()])).await? else {
                continue;
            };
            let TokenRecord { user, name, permissions, created_ms, expires_ms, .. } =
                codec::decode("a token", &entry.value)?;
            let used_ms = self.last_use(id).await?;
            tokens.push(TokenInfo { id, user, name, permissions, created_ms, expires_ms, used_ms });
        }
        Ok(tokens)
    }

    /// Makes a token useless, from the answer on.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub async fn revoke_token(&self, cx: &Cx, id: Uuid) -> Result<()> {
        admin_only(cx)?;
        let missing = || Error::NotFound { what: "token" };
        let row = codec::key(Kind::Token, &[id.as_bytes()]);
        let entry = self.kv().get(&row).await?.ok_or_else(missing)?;
        let TokenRecord { user, .. } = codec::decode("a token", &entry.value)?;
        let writes = vec![
            Write::Delete(row.clone()),
            Write::Delete(codec::key(Kind::UserToken, &[user.0.as_bytes(), id.as_bytes()])),
            Write::Delete(codec::key(Kind::LastUse, &[id.as_bytes()])),
        ];
        match self.change(cx, "RevokeToken", &id.to_string(), vec![Check::Present(row)], writes).await {
            Err(coffre_kv::Error::Conflict { .. }) => Err(missing()),
            other => Ok(other?),
        }
    }

    async fn last_use(&self, id: Uuid) -> Result<Option<u64>> {
        let row = self.kv().get(&codec::key(Kind::LastUse, &[id.as_bytes()])).await?;
        Ok(row.and_then(|row| Some(u64::from_be_bytes(row.value[..].try_into().ok()?))))
    }

    /// Notes a use, at most once a minute and only while the token is there. Failing is no reason to refuse.
    async fn note_use(&self, id: Uuid, now_ms: u64) {
        match self.last_use(id).await {
            Ok(Some(last)) if now_ms < last.saturating_add(USE_EVERY_MS) => return,
            Ok(_) => {}
            Err(_) => return,
        }
        let used = Write::Put(
            codec::key(Kind::LastUse, &[id.as_bytes()]),
            Bytes::copy_from_slice(&now_ms.to_be_bytes()),
        );
        let commit = Commit {
            checks: vec![Check::Present(codec::key(Kind::Token, &[id.as_bytes()]))],
            writes: vec![used],
            wait: Wait::Ordered,
            ..Commit::default()
        };
        if let Err(error) = self.kv().commit(commit).await {
            tracing::debug!(%error, token = %id, "the token's last use was not noted");
        }
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A segment of a key, as given.
fn segment(text: String) -> Result<String> {
    let is_plain = !text.chars().any(|c| c.is_control() || c == '/');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !is_plain {
        return Err(Error::Invalid { what: "application or grant: 1 to 80 visible characters without /" });
    }
    Ok(text)
}

/// A name as a segment: lower-case ASCII, `_` kept, other runs `-` (contract D24, D43).
pub(crate) fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() || c == '_' {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "application".to_owned() } else { slug.to_owned() }
}
