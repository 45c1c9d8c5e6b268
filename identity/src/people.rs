//! Users, organisations, and what they were granted.
//!
//! A user has one id (UUIDv7) and a serial number that only filing shows (contract D1). Names are unique without
//! regard to case, and so are e-mail addresses; both are held by rows that a commit checks to be absent.

use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Check, KvExt as _, Range, Scan, Write};
use coffre_store::object::{Principal, Who};
use coffre_store::{Cx, OrgId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::{self, Kind};
use crate::error::{Error, Result};
use crate::{ATTEMPTS, Identity, LIST_MAX, admin_only};

/// Longest name of a user, organisation or client, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest e-mail address (RFC 5321 §4.5.3.1.3).
const EMAIL_BYTES_MAX: usize = 254;

/// What a user may do by its role (contract §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    /// What it owns or was granted.
    User,
    /// Everything.
    Admin,
    /// As a user; an application that acts for others.
    App,
}

impl Role {
    /// As the contract spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Admin => "ADMIN",
            Self::App => "APP",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "USER" => Ok(Self::User),
            "ADMIN" => Ok(Self::Admin),
            "APP" => Ok(Self::App),
            _ => Err(Error::Invalid { what: "role: USER, ADMIN or APP" }),
        }
    }
}

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its number, for filing.
    pub serial: u64,
    /// Its name.
    pub name: String,
    /// Its address; one given here counts as verified (contract D33).
    pub email: Option<String>,
    /// Its role.
    pub role: Role,
    /// Keys and tokens do not work.
    pub is_disabled: bool,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
}

/// What [`Identity::create_user`] is given.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// 1 to 128 bytes, nothing invisible, not a UUID (a name works where an id does).
    pub name: String,
    /// An address.
    pub email: Option<String>,
    /// The role.
    pub role: Role,
}

/// An organisation, which is also a company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct UserRecord {
    serial: u64,
    name: String,
    email: Option<String>,
    role: Role,
    is_disabled: bool,
    created_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct OrgRecord {
    name: String,
    created_ms: u64,
}

impl User {
    fn decode(id: Uuid, bytes: &[u8]) -> Result<Self> {
        let UserRecord { serial, name, email, role, is_disabled, created_ms } =
            codec::decode("a user", bytes)?;
        Ok(Self { id: UserId(id), serial, name, email, role, is_disabled, created_ms })
    }

    fn encode(&self) -> Result<Bytes> {
        let Self { id: _, serial, name, email, role, is_disabled, created_ms } = self.clone();
        codec::encode(&UserRecord { serial, name, email, role, is_disabled, created_ms })
    }
}

/// The rows of a new user, with checks in this order: its serial, its name, its address.
pub(crate) struct UserRows {
    pub(crate) user: User,
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
}

impl Identity {
    /// Makes a user.
    ///
    /// # Errors
    /// `Exists` for a name or address that is taken, `Invalid`, `Denied`.
    pub async fn create_user(&self, cx: &Cx, new: NewUser) -> Result<User> {
        admin_only(cx)?;
        for _ in 0..ATTEMPTS {
            let UserRows { user, checks, writes } = self.user_rows(cx.now_ms, &new).await?;
            match self.change(cx, "CreateUser", &user.id.to_string(), checks, writes).await {
                Ok(()) => return Ok(user),
                Err(coffre_kv::Error::Conflict { check: 0 }) => {}
                Err(coffre_kv::Error::Conflict { check: 1 }) => return Err(Error::Exists { what: "name" }),
                Err(coffre_kv::Error::Conflict { .. }) => {
                    return Err(Error::Exists { what: "e-mail address" });
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::Busy)
    }

    pub(crate) async fn user_rows(&self, now_ms: u64, new: &NewUser) -> Result<UserRows> {
        let name = valid_name(&new.name)?;
        let email = new.email.as_deref().map(valid_email).transpose()?;
        let last = codec::key(Kind::LastSerial, &[]);
        let serial = u64::try_from(self.kv().counter(&last).await?)
            .map_err(|_| Error::Corrupt { what: "the last serial number".into() })?
            + 1;
        let id = UserId(self.new_id());
        let user = User {
            id,
            serial,
            name: name.to_owned(),
            email: email.map(str::to_owned),
            role: new.role,
            is_disabled: false,
            created_ms: now_ms,
        };
        let id_bytes = Bytes::copy_from_slice(id.0.as_bytes());
        let serial_row = codec::key(Kind::Serial, &[&serial.to_be_bytes()]);
        let name_row = codec::key(Kind::Name, &[fold(name).as_bytes()]);
        let mut checks = vec![Check::Absent(serial_row.clone()), Check::Absent(name_row.clone())];
        let mut writes = vec![
            Write::Put(codec::user_key(id), user.encode()?),
            Write::Put(serial_row, id_bytes.clone()),
            Write::Put(name_row, id_bytes.clone()),
            Write::Add(last, 1),
        ];
        if let Some(email) = email {
            let row = codec::key(Kind::Email, &[fold(email).as_bytes()]);
            checks.push(Check::Absent(row.clone()));
            writes.push(Write::Put(row, id_bytes));
        }
        Ok(UserRows { user, checks, writes })
    }

    /// The user with this id or name.
    pub async fn find_user(&self, id_or_name: &str) -> Result<Option<User>> {
        if let Ok(id) = Uuid::parse_str(id_or_name) {
            return self.user_by_id(UserId(id)).await;
        }
        let row = codec::key(Kind::Name, &[fold(id_or_name.trim()).as_bytes()]);
        match self.kv().get(&row).await? {
            None => Ok(None),
            Some(entry) => self.user_by_id(UserId(stored_id(&entry.value)?)).await,
        }
    }

    /// The user with this id.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<User>> {
        let row = self.kv().get(&codec::user_key(id)).await?;
        row.map(|row| User::decode(id.0, &row.value)).transpose()
    }

    /// The user with this number (contract D1).
    pub async fn user_by_serial(&self, serial: u64) -> Result<Option<User>> {
        let row = codec::key(Kind::Serial, &[&serial.to_be_bytes()]);
        match self.kv().get(&row).await? {
            None => Ok(None),
            Some(entry) => self.user_by_id(UserId(stored_id(&entry.value)?)).await,
        }
    }

    /// Who this user is to the store; `None`: there is no such user, or it is disabled.
    pub async fn principal_of(&self, id: UserId) -> Result<Option<Arc<Principal>>> {
        match self.user_by_id(id).await? {
            Some(user) if !user.is_disabled => Ok(Some(Arc::new(self.principal(&user).await?))),
            Some(_) | None => Ok(None),
        }
    }

    /// The user with this id or name, or an error.
    pub(crate) async fn get_user(&self, id: UserId) -> Result<User> {
        self.user_by_id(id).await?.ok_or(Error::NotFound { what: "user" })
    }

    /// All users, oldest first, at most [`LIST_MAX`] after one of them.
    pub async fn list_users(&self, cx: &Cx, after: Option<UserId>) -> Result<Vec<User>> {
        admin_only(cx)?;
        let mut range = Range::prefix(codec::key(Kind::User, &[]));
        if let Some(after) = after {
            range.start = [&codec::user_key(after)[..], &[0]].concat().into();
        }
        let rows = self.kv().rows(Scan::forward(range), LIST_MAX).await?;
        rows.iter().map(|(key, row)| User::decode(key_id(key, 0)?, &row.value)).collect()
    }

    /// Disables a user's keys and tokens, or enables them again.
    pub async fn disable_user(&self, cx: &Cx, id: UserId, is_disabled: bool) -> Result<User> {
        admin_only(cx)?;
        for _ in 0..ATTEMPTS {
            let key = codec::user_key(id);
            let row = self.kv().get(&key).await?.ok_or(Error::NotFound { what: "user" })?;
            let user = User { is_disabled, ..User::decode(id.0, &row.value)? };
            let action = if is_disabled { "DisableUser" } else { "EnableUser" };
            let (checks, writes) =
                (vec![Check::At(key.clone(), row.position)], vec![Write::Put(key, user.encode()?)]);
            match self.change(cx, action, &id.to_string(), checks, writes).await {
                Ok(()) => return Ok(user),
                Err(coffre_kv::Error::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::Busy)
    }

    /// The principal a user is: its role, organisations and clients.
    pub(crate) async fn principal(&self, user: &User) -> Result<Principal> {
        let rows = |kind| {
            let range = Range::prefix(codec::key(kind, &[user.id.0.as_bytes()]));
            self.kv().rows(Scan::forward(range).keys_only(), LIST_MAX)
        };
        let organisations = rows(Kind::Membership).await?;
        let clients = rows(Kind::Grant).await?;
        Ok(Principal {
            who: Who::User(user.id),
            name: Some(user.name.clone()),
            is_admin: user.role == Role::Admin,
            organisations: organisations
                .iter()
                .map(|(key, _)| key_id(key, 16).map(OrgId))
                .collect::<Result<_>>()?,
            organisation: None,
            clients: clients.iter().map(|(key, _)| client_of(key)).collect::<Result<_>>()?,
            gateway_prefix: None,
        })
    }

    /// Makes an organisation.
    ///
    /// # Errors
    /// `Exists` when the name is taken, `Invalid`, `Denied`.
    pub async fn create_org(&self, cx: &Cx, name: &str) -> Result<Organisation> {
        admin_only(cx)?;
        let name = valid_name(name)?;
        let org = Organisation { id: OrgId(self.new_id()), name: name.to_owned(), created_ms: cx.now_ms };
        let record = OrgRecord { name: org.name.clone(), created_ms: org.created_ms };
        let name_row = codec::key(Kind::OrgName, &[fold(name).as_bytes()]);
        let checks = vec![Check::Absent(name_row.clone())];
        let writes = vec![
            Write::Put(codec::org_key(org.id), codec::encode(&record)?),
            Write::Put(name_row, Bytes::copy_from_slice(org.id.0.as_bytes())),
        ];
        match self.change(cx, "CreateOrganisation", &org.id.to_string(), checks, writes).await {
            Ok(()) => Ok(org),
            Err(coffre_kv::Error::Conflict { .. }) => Err(Error::Exists { what: "name" }),
            Err(e) => Err(e.into()),
        }
    }

    /// The organisation with this id or name.
    pub async fn find_org(&self, id_or_name: &str) -> Result<Option<Organisation>> {
        let id = if let Ok(id) = Uuid::parse_str(id_or_name) {
            id
        } else {
            let row = codec::key(Kind::OrgName, &[fold(id_or_name.trim()).as_bytes()]);
            let Some(entry) = self.kv().get(&row).await? else { return Ok(None) };
            stored_id(&entry.value)?
        };
        let Some(row) = self.kv().get(&codec::org_key(OrgId(id))).await? else { return Ok(None) };
        let OrgRecord { name, created_ms } = codec::decode("an organisation", &row.value)?;
        Ok(Some(Organisation { id: OrgId(id), name, created_ms }))
    }

    /// Makes a user a member; fine when it is one.
    pub async fn add_member(&self, cx: &Cx, org: OrgId, user: UserId) -> Result<()> {
        let writes = membership(org, user).map(|row| Write::Put(row, Bytes::new())).to_vec();
        let checks = vec![Check::Present(codec::org_key(org)), Check::Present(codec::user_key(user))];
        self.relate(cx, "AddMember", &format!("{org}/{user}"), checks, writes).await
    }

    /// Ends a membership; fine when there is none.
    pub async fn remove_member(&self, cx: &Cx, org: OrgId, user: UserId) -> Result<()> {
        let writes = membership(org, user).map(Write::Delete).to_vec();
        let checks = vec![Check::Present(codec::org_key(org)), Check::Present(codec::user_key(user))];
        self.relate(cx, "RemoveMember", &format!("{org}/{user}"), checks, writes).await
    }

    /// Lets a user read and change a client's files (contract §2).
    pub async fn grant_client(&self, cx: &Cx, client: &str, user: UserId) -> Result<()> {
        let client = valid_client(client)?;
        let writes = grant(client, user).map(|row| Write::Put(row, Bytes::new())).to_vec();
        let checks = vec![Check::Present(codec::user_key(user))];
        self.relate(cx, "GrantClient", &format!("{client}/{user}"), checks, writes).await
    }

    /// Takes a grant back; fine when there is none.
    pub async fn revoke_client(&self, cx: &Cx, client: &str, user: UserId) -> Result<()> {
        let client = valid_client(client)?;
        let writes = grant(client, user).map(Write::Delete).to_vec();
        let checks = vec![Check::Present(codec::user_key(user))];
        self.relate(cx, "RevokeClient", &format!("{client}/{user}"), checks, writes).await
    }

    async fn relate(
        &self,
        cx: &Cx,
        action: &str,
        subject: &str,
        checks: Vec<Check>,
        writes: Vec<Write>,
    ) -> Result<()> {
        admin_only(cx)?;
        match self.change(cx, action, subject, checks, writes).await {
            Ok(()) => Ok(()),
            Err(coffre_kv::Error::Conflict { .. }) => Err(Error::NotFound { what: "organisation or user" }),
            Err(e) => Err(e.into()),
        }
    }
}

/// Both rows of a membership.
fn membership(org: OrgId, user: UserId) -> [Bytes; 2] {
    let (org, user) = (org.0.as_bytes(), user.0.as_bytes());
    [codec::key(Kind::Membership, &[user, org]), codec::key(Kind::Member, &[org, user])]
}

/// Both rows of a grant.
fn grant(client: &str, user: UserId) -> [Bytes; 2] {
    let (client, user) = (client.as_bytes(), user.0.as_bytes());
    [codec::key(Kind::Grant, &[user, client]), codec::key(Kind::Granted, &[client, &[0], user])]
}

/// Names that differ only in case are one.
fn fold(name: &str) -> String {
    name.to_lowercase()
}

fn valid_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let is_visible = !name.chars().any(char::is_control);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_visible || Uuid::parse_str(name).is_ok() {
        return Err(Error::Invalid { what: "name: 1 to 128 visible characters, not a UUID" });
    }
    Ok(name)
}

/// Only what makes an address useless is refused; whether mail arrives there nobody can tell from the text.
fn valid_email(email: &str) -> Result<&str> {
    let email = email.trim();
    let is_plain = !email.chars().any(|c| c.is_control() || c.is_whitespace());
    match email.rsplit_once('@') {
        Some((local, domain))
            if is_plain && email.len() <= EMAIL_BYTES_MAX && !local.is_empty() && !domain.is_empty() =>
        {
            Ok(email)
        }
        _ => Err(Error::Invalid { what: "e-mail address" }),
    }
}

/// A client id is one segment of a key.
fn valid_client(client: &str) -> Result<&str> {
    let is_segment = !client.chars().any(|c| c.is_control() || c == '/');
    if client.is_empty() || client.len() > NAME_BYTES_MAX || !is_segment {
        return Err(Error::Invalid { what: "client id: 1 to 128 visible characters without /" });
    }
    Ok(client)
}

pub(crate) fn stored_id(value: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(value).map_err(|_| Error::Corrupt { what: "an id".into() })
}

/// The id at the end of a key, after `skip` bytes of other parts.
pub(crate) fn key_id(key: &[u8], skip: usize) -> Result<Uuid> {
    codec::rest_id(key, skip).ok_or_else(|| Error::Corrupt { what: "the key of a row of users".into() })
}

fn client_of(key: &[u8]) -> Result<String> {
    let text = codec::rest(key, 16).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| Error::Corrupt { what: "the key of a grant".into() })
}
