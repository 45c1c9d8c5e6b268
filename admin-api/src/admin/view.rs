//! What the admin API and the command line show of users, keys, tokens, organisations, buckets and audit lines.

pub mod billing;

use coffre_identity::audit::Line;
use coffre_identity::{KeyInfo, NewKey, NewToken, TokenInfo};
use coffre_store::{OrgId, UserId, object};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its number, for filing.
    pub serial: u64,
    /// Its name.
    pub name: String,
    /// Its address.
    pub email: Option<String>,
    /// `USER`, `ADMIN` or `APP`.
    pub role: &'static str,
    /// Its keys and tokens do not work.
    pub disabled: bool,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// An S3 access key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Key {
    /// Its id.
    pub access_key_id: String,
    /// Whose it is.
    pub user_id: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// An S3 access key that was made now: the only time its secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MadeKey {
    /// Whose it is.
    pub user_id: String,
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Whose: an id or name.
    pub user: String,
    /// What for.
    pub name: String,
    /// Of `read_files`, `upload_files`, `delete_files`, `generate_videos`, `manage_webhooks`, `billing`, `admin`; none:
    /// all of the user's role.
    #[serde(default)]
    pub permissions: Vec<String>,
    #[serde(default)]
    pub application: Option<String>,
    #[serde(default)]
    pub grant: Option<String>,
    /// May act for others.
    #[serde(default)]
    pub act_as: bool,
    /// The organisation it is a token of: an id or name.
    #[serde(default)]
    pub org: Option<String>,
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

impl CreateToken {
    /// What `identity` makes of it, once its names are ids.
    pub fn token(self, user: UserId, organisation: Option<OrgId>, now_ms: u64) -> NewToken {
        NewToken {
            permissions: self.permissions,
            application: self.application,
            grant: self.grant,
            may_act_as: self.act_as,
            organisation,
            expires_ms: self.expires_in_seconds.map(|s| now_ms.saturating_add(s.saturating_mul(1000))),
            ..NewToken::of(user, &self.name)
        }
    }
}

/// A bearer token, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What for.
    pub name: String,
    /// Whose it is.
    pub user_id: String,
    /// Its limits; none: all of the user's role.
    pub permissions: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<String>,
}

/// A bearer token that was made now: the only time its text is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MadeToken {
    /// Its id.
    pub id: String,
    /// `{id}|{secret}`.
    pub token: String,
    /// Whose it is.
    pub user_id: String,
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Organisation {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Whose it is; `null`: the system's.
    pub owner: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// A line of the audit log (contract D43).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditRow {
    /// RFC 3339.
    pub time: String,
    /// A user's id, `anonymous` or `system`.
    pub principal: String,
    /// `s3`, `mount`, `rest` or `control`.
    pub door: String,
    /// From where.
    pub client_address: Option<String>,
    /// Doing what.
    pub action: String,
    /// To which bucket.
    pub bucket: Option<String>,
    /// To which key, or whom.
    pub key: Option<String>,
    /// `ok`, or why not.
    pub outcome: String,
    /// The request's id.
    pub request_id: String,
}

/// Where a page stands among all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pagination {
    /// From 1.
    pub current_page: u64,
    /// The first row's number; `null` on an empty page.
    pub from: Option<u64>,
    /// At least 1.
    pub last_page: u64,
    /// Rows a page.
    pub per_page: u64,
    /// The last row's number.
    pub to: Option<u64>,
    /// Rows in all.
    pub total: u64,
    /// Whether there is another page.
    pub has_more_pages: bool,
}

impl User {
    /// Of a user.
    pub fn of(user: &coffre_identity::User) -> Self {
        Self {
            id: user.id.to_string(),
            serial: user.serial,
            name: user.name.clone(),
            email: user.email.clone(),
            role: user.role.as_str(),
            disabled: user.is_disabled,
            created_at: rfc3339(user.created_ms),
        }
    }
}

impl Key {
    /// Of a key.
    pub fn of(key: &KeyInfo) -> Self {
        Self {
            access_key_id: key.access_key_id.clone(),
            user_id: key.user.to_string(),
            created_at: rfc3339(key.created_ms),
        }
    }
}

impl MadeKey {
    /// Of a user's new key.
    pub fn of(user: coffre_store::UserId, key: &NewKey) -> Self {
        Self {
            user_id: user.to_string(),
            access_key_id: key.access_key_id.clone(),
            secret_access_key: key.secret_access_key.expose().to_owned(),
        }
    }
}

impl Token {
    /// Of a token.
    pub fn of(token: &TokenInfo) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.clone(),
            user_id: token.user.to_string(),
            permissions: token.permissions.clone(),
            created_at: rfc3339(token.created_ms),
            expires_at: token.expires_ms.map(rfc3339),
            last_used_at: token.used_ms.map(rfc3339),
        }
    }
}

impl MadeToken {
    /// Of a user's new token.
    pub fn of(user: coffre_store::UserId, issued: &coffre_identity::IssuedToken) -> Self {
        Self { id: issued.id.to_string(), token: issued.text.expose().to_owned(), user_id: user.to_string() }
    }
}

impl Organisation {
    /// Of an organisation.
    pub fn of(org: &coffre_identity::Organisation) -> Self {
        Self { id: org.id.to_string(), name: org.name.clone() }
    }
}

impl Bucket {
    /// Of a bucket.
    pub fn of(bucket: &object::Bucket) -> Self {
        Self {
            name: bucket.name.as_str().to_owned(),
            owner: bucket.owner.map(|owner| owner.to_string()),
            created_at: rfc3339(bucket.created_ms),
        }
    }
}

impl AuditRow {
    /// Of a line.
    pub fn of(line: &Line) -> Self {
        let note = &line.note;
        Self {
            time: rfc3339(note.time_ms),
            principal: note.principal.clone(),
            door: note.door.clone(),
            client_address: note.client_address.map(|address| address.to_string()),
            action: note.action.clone(),
            bucket: note.bucket.clone(),
            key: note.key.clone(),
            outcome: note.outcome.clone(),
            request_id: note.request_id.clone(),
        }
    }
}

impl Pagination {
    /// Of page `page` (from 1) with `shown` rows.
    pub fn of(page: u64, per_page: u64, shown: u64, total: u64) -> Self {
        let before = page.saturating_sub(1).saturating_mul(per_page);
        let last_page = total.div_ceil(per_page.max(1)).max(1);
        Self {
            current_page: page,
            from: (shown > 0).then_some(before + 1),
            last_page,
            per_page,
            to: (shown > 0).then_some(before + shown),
            total,
            has_more_pages: page < last_page,
        }
    }
}

/// A time as text, UTC.
pub fn rfc3339(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let of = |page, per_page, shown, total| {
            let p = Pagination::of(page, per_page, shown, total);
            (p.from, p.to, p.last_page, p.has_more_pages)
        };
        assert_eq!(of(1, 15, 15, 75), (Some(1), Some(15), 5, true));
        assert_eq!(of(5, 15, 15, 75), (Some(61), Some(75), 5, false));
        assert_eq!(of(1, 15, 0, 0), (None, None, 1, false));
        assert_eq!(of(3, 10, 1, 21), (Some(21), Some(21), 3, false));
        assert_eq!(of(9, 10, 0, 21), (None, None, 3, false));
    }
}
