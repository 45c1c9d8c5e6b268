//! Upkeep of the store: gc, scrub, check, status.

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Admin;
use crate::Ground;
use crate::error::ApiError;
use crate::http::input::Json;

pub(super) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(gc))
        .routes(routes!(scrub))
        .routes(routes!(check))
        .routes(routes!(status))
}

/// What was swept.
#[derive(Serialize, ToSchema)]
struct Freed {
    freed_bytes: u64,
    blobs: u64,
}

/// How to scrub.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Scrub {
    /// 1 MiB at the least.
    #[schema(minimum = 1_048_576)]
    bytes_per_second: u64,
}

/// What was read and found.
#[derive(Serialize, ToSchema)]
struct Scrubbed {
    blobs: u64,
    bytes: u64,
    /// SHA-256 of blobs that are in quarantine now.
    damaged: Vec<String>,
}

/// What was looked at and found.
#[derive(Serialize, ToSchema)]
struct Checked {
    versions: u64,
    blobs: u64,
    findings: Vec<Finding>,
}

#[derive(Serialize, ToSchema)]
struct Finding {
    kind: &'static str,
    message: String,
}

/// Remove what nothing refers to, without waiting out the grace time
#[utoipa::path(post, path = "/admin/v1/gc", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Freed)))]
async fn gc(State(ground): State<Ground>, Admin(_): Admin) -> Result<Answer<Freed>, ApiError> {
    let freed = ground.store.gc(true).await?;
    Ok(Answer(Freed { freed_bytes: freed.freed_bytes, blobs: freed.blobs }))
}

/// Read every blob again and compare it with its digest
#[utoipa::path(
    post, path = "/admin/v1/scrub", tag = "admin", security(("bearer" = [])), request_body = Scrub,
    responses((status = 200, body = Scrubbed)),
)]
async fn scrub(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Json(how): Json<Scrub>,
) -> Result<Answer<Scrubbed>, ApiError> {
    let done = ground.store.scrub(how.bytes_per_second).await?;
    Ok(Answer(Scrubbed { blobs: done.blobs, bytes: done.bytes, damaged: done.damaged }))
}

/// Compare what is derived with the truth
#[utoipa::path(post, path = "/admin/v1/check", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Checked)))]
async fn check(State(ground): State<Ground>, Admin(_): Admin) -> Result<Answer<Checked>, ApiError> {
    let done = ground.store.check().await?;
    let findings =
        done.findings.into_iter().map(|found| Finding { kind: found.kind, message: found.message });
    Ok(Answer(Checked { versions: done.versions, blobs: done.blobs, findings: findings.collect() }))
}

/// The daemon's state, memory, disk and buckets
#[utoipa::path(get, path = "/admin/v1/status", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Value)))]
async fn status(State(ground): State<Ground>, Admin(_): Admin) -> Result<Answer<Value>, ApiError> {
    Ok(Answer(ground.host.status().await?))
}
