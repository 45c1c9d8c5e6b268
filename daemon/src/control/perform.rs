//! What each command does: names become ids, one function of `identity` or `store` is called, its result becomes JSON.

use coffre_admin_api::view;
use coffre_identity::{NewUser, Role, User};
use coffre_store::object::Bucket;
use coffre_store::{BucketName, Cx, UserId};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Command, billing};
use crate::status::{self, Host};
use crate::wire::Daemon;

/// Why a command was not carried out, in words for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) words: String,
}

impl Refusal {
    pub(super) fn bad(words: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, words: words.into() }
    }

    fn missing(words: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, words: words.into() }
    }
}

impl From<coffre_identity::Error> for Refusal {
    fn from(error: coffre_identity::Error) -> Self {
        use coffre_identity::Error as E;
        let status = match &error {
            E::NotFound { .. } => StatusCode::NOT_FOUND,
            E::Exists { .. } | E::Busy => StatusCode::CONFLICT,
            E::Invalid { .. } => StatusCode::BAD_REQUEST,
            E::Denied | E::TokenExpired => StatusCode::FORBIDDEN,
            E::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            E::Stopped | E::IssuerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            E::MasterKeyMissing
            | E::WrongMasterKey
            | E::MasterKey { .. }
            | E::BadSeal
            | E::Corrupt { .. }
            | E::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, words: told(&error) }
    }
}

impl From<coffre_store::Error> for Refusal {
    fn from(error: coffre_store::Error) -> Self {
        use coffre_store::{Error as E, Missing};
        let words = match &error {
            E::NotFound(Missing::Bucket(name)) => format!("there is no bucket {name}"),
            E::Denied | E::Hidden => "this bucket is not to be changed: it is built in".to_owned(),
            _ => told(&error),
        };
        let status = match &error {
            E::NotFound(_) | E::Hidden => StatusCode::NOT_FOUND,
            E::Denied => StatusCode::FORBIDDEN,
            E::Exists(_) | E::NotEmpty | E::Busy => StatusCode::CONFLICT,
            E::Invalid { .. } => StatusCode::BAD_REQUEST,
            E::NoSpace | E::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
            E::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, words }
    }
}

/// The error with its causes, on one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

pub(super) type Answer = Result<Value, Refusal>;

/// Carries out a command.
pub(super) async fn perform(daemon: &Daemon, host: &Host, command: Command) -> Answer {
    let cx = daemon.system_cx();
    tracing::info!(request_id = %cx.request_id, command = name_of(&command), "command");
    let identity = &daemon.identity;
    match command {
        Command::UserCreate { .. } | Command::UserList | Command::UserDisable { .. } => {
            users(daemon, &cx, command).await
        }
        Command::KeyCreate { .. } | Command::KeyList { .. } | Command::KeyRevoke { .. } => {
            keys(daemon, &cx, command).await
        }
        Command::TokenCreate(new) => token_create(daemon, &cx, new).await,
        Command::TokenList { user } => token_list(daemon, &cx, user).await,
        Command::TokenRevoke { token } => {
            let id = token.split('|').next().unwrap_or_default().parse();
            let id: uuid::Uuid = id.map_err(|_| Refusal::bad("a token's id is a UUID"))?;
            identity.revoke_token(&cx, id).await?;
            Ok(json!({"id": id.to_string(), "revoked": true}))
        }
        Command::OrgCreate { name } => {
            let org = identity.create_org(&cx, &name).await?;
            Ok(as_json(&view::Organisation::of(&org)))
        }
        Command::OrgAddMember { org, user } => {
            let (org, user) = (org_of(daemon, &org).await?, user_of(daemon, &user).await?.id);
            identity.add_member(&cx, org, user).await?;
            Ok(json!({"org": org.to_string(), "user": user.to_string(), "member": true}))
        }
        Command::OrgRemoveMember { org, user } => {
            let (org, user) = (org_of(daemon, &org).await?, user_of(daemon, &user).await?.id);
            identity.remove_member(&cx, org, user).await?;
            Ok(json!({"org": org.to_string(), "user": user.to_string(), "member": false}))
        }
        Command::ClientGrant { client, user } => {
            let user = user_of(daemon, &user).await?.id;
            identity.grant_client(&cx, &client, user).await?;
            Ok(json!({"client": client, "user": user.to_string(), "granted": true}))
        }
        Command::ClientRevoke { client, user } => {
            let user = user_of(daemon, &user).await?.id;
            identity.revoke_client(&cx, &client, user).await?;
            Ok(json!({"client": client, "user": user.to_string(), "granted": false}))
        }
        Command::BucketCreate { .. } | Command::BucketList | Command::BucketDelete { .. } => {
            buckets(daemon, &cx, command).await
        }
        Command::PlanSet { .. }
        | Command::PlanShow { .. }
        | Command::BillingGrant { .. }
        | Command::BillingRefund { .. }
        | Command::QuotaSet { .. }
        | Command::QuotaShow { .. } => billing::perform(daemon, &cx, command).await,
        Command::Gc => gc(daemon).await,
        Command::Scrub { bytes_per_second } => {
            let rate = bytes_per_second.unwrap_or(daemon.config.storage.scrub_bytes_per_second);
            Ok(as_json(&daemon.store.scrub(rate).await?))
        }
        Command::Check { rebuild_index } => check(daemon, rebuild_index).await,
        // Its answer is no JSON (`export.rs`).
        Command::Export => Err(Refusal::bad("an export is a stream")),
        Command::Status => Ok(host.told(daemon, &cx).await?),
        Command::Mount(wanted) => {
            Ok(json!({"path": daemon.mounts.mount(daemon, wanted).await.map_err(refused)?}))
        }
        Command::Umount { path } => {
            daemon.mounts.unmount(&path).await.map_err(refused)?;
            Ok(json!({"path": path, "unmounted": true}))
        }
    }
}

/// Why there is no mount.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn refused(error: crate::error::Error) -> Refusal {
    Refusal::bad(error.chain())
}

fn name_of(command: &Command) -> String {
    // The tag alone: fields may name people.
    serde_json::to_value(command)
        .ok()
        .and_then(|value| Some(value.get("command")?.as_str()?.to_owned()))
        .unwrap_or_default()
}

pub(super) fn as_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("figures and text are JSON")
}

pub(super) async fn user_of(daemon: &Daemon, id_or_name: &str) -> Result<User, Refusal> {
    let found = daemon.identity.find_user(id_or_name).await?;
    found.ok_or_else(|| Refusal::missing(format!("there is no user {id_or_name}")))
}

pub(super) async fn org_of(daemon: &Daemon, id_or_name: &str) -> Result<coffre_store::OrgId, Refusal> {
    let found = daemon.identity.find_org(id_or_name).await?;
    Ok(found.ok_or_else(|| Refusal::missing(format!("there is no organisation {id_or_name}")))?.id)
}

async fn user_id_of(daemon: &Daemon, id_or_name: Option<String>) -> Result<Option<UserId>, Refusal> {
    match id_or_name {
        Some(text) => Ok(Some(user_of(daemon, &text).await?.id)),
        None => Ok(None),
    }
}

fn user_json(user: &User) -> Value {
    as_json(&view::User::of(user))
}

async fn users(daemon: &Daemon, cx: &Cx, command: Command) -> Answer {
    let identity = &daemon.identity;
    match command {
        Command::UserCreate { name, email, role } => {
            let role: Role = role.parse().map_err(|_| Refusal::bad("a role is USER, ADMIN or APP"))?;
            Ok(user_json(&identity.create_user(cx, NewUser { name, email, role }).await?))
        }
        Command::UserDisable { user, is_disabled } => {
            let user = user_of(daemon, &user).await?;
            Ok(user_json(&identity.disable_user(cx, user.id, is_disabled).await?))
        }
        _ => {
            let users = identity.list_users(cx, None).await?;
            Ok(json!({"users": users.iter().map(user_json).collect::<Vec<_>>()}))
        }
    }
}

async fn keys(daemon: &Daemon, cx: &Cx, command: Command) -> Answer {
    let identity = &daemon.identity;
    match command {
        Command::KeyCreate { user } => {
            let user = user_of(daemon, &user).await?;
            let key = identity.create_key(cx, user.id).await?;
            Ok(as_json(&view::MadeKey::of(user.id, &key)))
        }
        Command::KeyRevoke { access_key_id } => {
            identity.revoke_key(cx, &access_key_id).await?;
            Ok(json!({"access_key_id": access_key_id, "revoked": true}))
        }
        Command::KeyList { user } => {
            let user = user_id_of(daemon, user).await?;
            let keys = identity.list_keys(cx, user).await?;
            Ok(json!({"keys": keys.iter().map(view::Key::of).collect::<Vec<_>>()}))
        }
        _ => Err(Refusal::bad("not a command about keys")),
    }
}

async fn token_create(daemon: &Daemon, cx: &Cx, new: view::CreateToken) -> Answer {
    let user = user_of(daemon, &new.user).await?.id;
    let organisation = match &new.org {
        Some(org) => Some(org_of(daemon, org).await?),
        None => None,
    };
    let issued = daemon.identity.create_token(cx, new.token(user, organisation, cx.now_ms)).await?;
    Ok(as_json(&view::MadeToken::of(user, &issued)))
}

async fn token_list(daemon: &Daemon, cx: &Cx, user: Option<String>) -> Answer {
    let user = user_id_of(daemon, user).await?;
    let tokens = daemon.identity.list_tokens(cx, user).await?;
    Ok(json!({"tokens": tokens.iter().map(view::Token::of).collect::<Vec<_>>()}))
}

async fn buckets(daemon: &Daemon, cx: &Cx, command: Command) -> Answer {
    let store = &daemon.store;
    match command {
        Command::BucketCreate { name, owner } => {
            let owner = user_id_of(daemon, owner).await?;
            let bucket = store.create_bucket(cx, bucket_name(&name)?, owner).await?;
            Ok(bucket_json(&bucket))
        }
        Command::BucketDelete { name } => {
            store.delete_bucket(cx, &bucket_name(&name)?).await?;
            Ok(json!({"name": name, "deleted": true}))
        }
        _ => {
            let buckets = status::buckets(daemon, cx).await?;
            Ok(json!({"buckets": buckets.iter().map(bucket_json).collect::<Vec<_>>()}))
        }
    }
}

pub(super) fn bucket_name(text: &str) -> Result<BucketName, Refusal> {
    text.parse()
        .map_err(|_| Refusal::bad(format!("`{text}` is not a bucket name: 3 to 63 of a-z, 0-9, - and .")))
}

fn bucket_json(bucket: &Bucket) -> Value {
    as_json(&view::Bucket::of(bucket))
}

async fn gc(daemon: &Daemon) -> Answer {
    let freed = daemon.store.gc(true).await?;
    metrics::counter!("coffre_gc_freed_bytes_total").increment(freed.freed_bytes);
    Ok(as_json(&freed))
}

/// Checks while serving. The index itself can be rebuilt only at an opening: asked for, it is noted for the next one.
async fn check(daemon: &Daemon, rebuild_index: bool) -> Answer {
    let checked = daemon.store.check().await?;
    let mut value = as_json(&checked);
    if rebuild_index {
        daemon
            .rebuild_at_next_start()
            .map_err(|e| Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, words: e.chain() })?;
        if let Some(object) = value.as_object_mut() {
            object.insert("index".into(), "rebuilt at the next start".into());
        }
    }
    Ok(value)
}
