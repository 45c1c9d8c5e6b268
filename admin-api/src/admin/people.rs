//! Users, tokens, access keys, organisations, client grants, buckets.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use coffre_identity::{NewUser, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::view::{Bucket, CreateToken, Key, MadeKey, MadeToken, Organisation, Token, User};
use super::{Admin, org_of, user_of};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::input::{Json, Path, Query};

/// Buckets read at a time.
const PAGE: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(show_user))
        .routes(routes!(disable_user))
        .routes(routes!(enable_user))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(create_org))
        .routes(routes!(show_org))
        .routes(routes!(add_member, remove_member))
        .routes(routes!(grant_client, revoke_client))
        .routes(routes!(list_buckets, create_bucket))
        .routes(routes!(delete_bucket))
}

/// Whose.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// A user's id or name; left out: everybody's.
    user: Option<String>,
}

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    name: String,
    #[serde(default)]
    email: Option<String>,
    /// `USER`, `ADMIN` or `APP`.
    #[serde(default)]
    role: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Users {
    users: Vec<User>,
}

/// All users
#[utoipa::path(get, path = "/admin/v1/users", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Users)))]
async fn list_users(State(ground): State<Ground>, Admin(cx): Admin) -> Result<Answer<Users>, ApiError> {
    let users = ground.identity.list_users(&cx, None).await?;
    Ok(Answer(Users { users: users.iter().map(User::of).collect() }))
}

/// Make a user
#[utoipa::path(
    post, path = "/admin/v1/users", tag = "admin", security(("bearer" = [])), request_body = CreateUser,
    responses((status = 201, body = User), (status = 409, description = "The name or address is taken")),
)]
async fn create_user(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<CreateUser>,
) -> Result<(StatusCode, Answer<User>), ApiError> {
    let role: Role = new.role.as_deref().unwrap_or("USER").parse()?;
    let user = ground.identity.create_user(&cx, NewUser { name: new.name, email: new.email, role }).await?;
    Ok((StatusCode::CREATED, Answer(User::of(&user))))
}

/// A user
#[utoipa::path(
    get, path = "/admin/v1/users/{user}", tag = "admin", security(("bearer" = [])), params(("user" = String, Path)),
    responses((status = 200, body = User), (status = 404)),
)]
async fn show_user(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Path(user): Path<String>,
) -> Result<Answer<User>, ApiError> {
    let found = ground.identity.find_user(&user).await?;
    Ok(Answer(User::of(&found.ok_or(Code::NotFound)?)))
}

/// Disable a user's keys and tokens
#[utoipa::path(
    post, path = "/admin/v1/users/{user}/disable", tag = "admin", security(("bearer" = [])),
    params(("user" = String, Path)), responses((status = 200, body = User), (status = 404)),
)]
async fn disable_user(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(user): Path<String>,
) -> Result<Answer<User>, ApiError> {
    let user = user_of(&ground, &user).await?;
    Ok(Answer(User::of(&ground.identity.disable_user(&cx, user, true).await?)))
}

/// Enable a user's keys and tokens again
#[utoipa::path(
    post, path = "/admin/v1/users/{user}/enable", tag = "admin", security(("bearer" = [])),
    params(("user" = String, Path)), responses((status = 200, body = User), (status = 404)),
)]
async fn enable_user(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(user): Path<String>,
) -> Result<Answer<User>, ApiError> {
    let user = user_of(&ground, &user).await?;
    Ok(Answer(User::of(&ground.identity.disable_user(&cx, user, false).await?)))
}

#[derive(Serialize, ToSchema)]
struct Tokens {
    tokens: Vec<Token>,
}

/// Tokens, never their texts
#[utoipa::path(
    get, path = "/admin/v1/tokens", tag = "admin", security(("bearer" = [])), params(Whose),
    responses((status = 200, body = Tokens)),
)]
async fn list_tokens(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Query(whose): Query<Whose>,
) -> Result<Answer<Tokens>, ApiError> {
    let user = match &whose.user {
        Some(user) => Some(user_of(&ground, user).await?),
        None => None,
    };
    let tokens = ground.identity.list_tokens(&cx, user).await?;
    Ok(Answer(Tokens { tokens: tokens.iter().map(Token::of).collect() }))
}

/// Make a token: the only time its text is shown
#[utoipa::path(
    post, path = "/admin/v1/tokens", tag = "admin", security(("bearer" = [])), request_body = CreateToken,
    responses((status = 201, body = MadeToken), (status = 404)),
)]
async fn create_token(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<CreateToken>,
) -> Result<(StatusCode, Answer<MadeToken>), ApiError> {
    let user = user_of(&ground, &new.user).await?;
    let organisation = match &new.org {
        Some(org) => Some(org_of(&ground, org).await?),
        None => None,
    };
    let issued = ground.identity.create_token(&cx, new.token(user, organisation, cx.now_ms)).await?;
    Ok((StatusCode::CREATED, Answer(MadeToken::of(user, &issued))))
}

/// Make a token useless
#[utoipa::path(
    delete, path = "/admin/v1/tokens/{id}", tag = "admin", security(("bearer" = [])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404)),
)]
async fn revoke_token(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    ground.identity.revoke_token(&cx, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateKey {
    /// Whose: an id or name.
    user: String,
}

#[derive(Serialize, ToSchema)]
struct Keys {
    keys: Vec<Key>,
}

/// S3 access keys, never their secrets
#[utoipa::path(
    get, path = "/admin/v1/keys", tag = "admin", security(("bearer" = [])), params(Whose),
    responses((status = 200, body = Keys)),
)]
async fn list_keys(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Query(whose): Query<Whose>,
) -> Result<Answer<Keys>, ApiError> {
    let user = match &whose.user {
        Some(user) => Some(user_of(&ground, user).await?),
        None => None,
    };
    let keys = ground.identity.list_keys(&cx, user).await?;
    Ok(Answer(Keys { keys: keys.iter().map(Key::of).collect() }))
}

/// Make an S3 access key: the only time its secret is shown
#[utoipa::path(
    post, path = "/admin/v1/keys", tag = "admin", security(("bearer" = [])), request_body = CreateKey,
    responses((status = 201, body = MadeKey), (status = 404)),
)]
async fn create_key(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<CreateKey>,
) -> Result<(StatusCode, Answer<MadeKey>), ApiError> {
    let user = user_of(&ground, &new.user).await?;
    let key = ground.identity.create_key(&cx, user).await?;
    Ok((StatusCode::CREATED, Answer(MadeKey::of(user, &key))))
}

/// Make an S3 access key useless
#[utoipa::path(
    delete, path = "/admin/v1/keys/{access_key_id}", tag = "admin", security(("bearer" = [])),
    params(("access_key_id" = String, Path)), responses((status = 204), (status = 404)),
)]
async fn revoke_key(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    ground.identity.revoke_key(&cx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An organisation to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateOrg {
    name: String,
}

/// Make an organisation
#[utoipa::path(
    post, path = "/admin/v1/orgs", tag = "admin", security(("bearer" = [])), request_body = CreateOrg,
    responses((status = 201, body = Organisation), (status = 409)),
)]
async fn create_org(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<CreateOrg>,
) -> Result<(StatusCode, Answer<Organisation>), ApiError> {
    let org = ground.identity.create_org(&cx, &new.name).await?;
    Ok((StatusCode::CREATED, Answer(Organisation::of(&org))))
}

/// An organisation
#[utoipa::path(
    get, path = "/admin/v1/orgs/{org}", tag = "admin", security(("bearer" = [])), params(("org" = String, Path)),
    responses((status = 200, body = Organisation), (status = 404)),
)]
async fn show_org(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Path(org): Path<String>,
) -> Result<Answer<Organisation>, ApiError> {
    let found = ground.identity.find_org(&org).await?;
    Ok(Answer(Organisation::of(&found.ok_or(Code::NotFound)?)))
}

/// Make a user a member
#[utoipa::path(
    put, path = "/admin/v1/orgs/{org}/members/{user}", tag = "admin", security(("bearer" = [])),
    params(("org" = String, Path), ("user" = String, Path)), responses((status = 204), (status = 404)),
)]
async fn add_member(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path((org, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (org, user) = (org_of(&ground, &org).await?, user_of(&ground, &user).await?);
    ground.identity.add_member(&cx, org, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a membership
#[utoipa::path(
    delete, path = "/admin/v1/orgs/{org}/members/{user}", tag = "admin", security(("bearer" = [])),
    params(("org" = String, Path), ("user" = String, Path)), responses((status = 204), (status = 404)),
)]
async fn remove_member(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path((org, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (org, user) = (org_of(&ground, &org).await?, user_of(&ground, &user).await?);
    ground.identity.remove_member(&cx, org, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a user read and change a client's files
#[utoipa::path(
    put, path = "/admin/v1/clients/{client}/users/{user}", tag = "admin", security(("bearer" = [])),
    params(("client" = String, Path), ("user" = String, Path)), responses((status = 204), (status = 404)),
)]
async fn grant_client(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path((client, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = user_of(&ground, &user).await?;
    ground.identity.grant_client(&cx, &client, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a client's grant back
#[utoipa::path(
    delete, path = "/admin/v1/clients/{client}/users/{user}", tag = "admin", security(("bearer" = [])),
    params(("client" = String, Path), ("user" = String, Path)), responses((status = 204), (status = 404)),
)]
async fn revoke_client(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path((client, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = user_of(&ground, &user).await?;
    ground.identity.revoke_client(&cx, &client, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A bucket to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateBucket {
    name: String,
    /// Whose: an id or name; left out: the caller's.
    #[serde(default)]
    owner: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Buckets {
    buckets: Vec<Bucket>,
}

/// All buckets
#[utoipa::path(get, path = "/admin/v1/buckets", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Buckets)))]
async fn list_buckets(State(ground): State<Ground>, Admin(cx): Admin) -> Result<Answer<Buckets>, ApiError> {
    let (mut buckets, mut after) = (Vec::new(), String::new());
    loop {
        let page = ground.store.list_buckets(&cx, "", &after, PAGE).await?;
        buckets.extend(page.buckets.iter().map(Bucket::of));
        match page.next_after {
            Some(next) => after = next,
            None => return Ok(Answer(Buckets { buckets })),
        }
    }
}

/// Make a bucket
#[utoipa::path(
    post, path = "/admin/v1/buckets", tag = "admin", security(("bearer" = [])), request_body = CreateBucket,
    responses((status = 201, body = Bucket), (status = 409)),
)]
async fn create_bucket(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<CreateBucket>,
) -> Result<(StatusCode, Answer<Bucket>), ApiError> {
    let owner = match &new.owner {
        Some(owner) => Some(user_of(&ground, owner).await?),
        None => cx.principal.user(),
    };
    let bucket = ground.store.create_bucket(&cx, new.name.parse()?, owner).await?;
    Ok((StatusCode::CREATED, Answer(Bucket::of(&bucket))))
}

/// Delete an empty bucket
#[utoipa::path(
    delete, path = "/admin/v1/buckets/{name}", tag = "admin", security(("bearer" = [])),
    params(("name" = String, Path)), responses((status = 204), (status = 404), (status = 409)),
)]
async fn delete_bucket(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    ground.store.delete_bucket(&cx, &name.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
