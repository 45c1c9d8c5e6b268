//! Reading the audit log (contract D23).

use axum::Json as Answer;
use axum::extract::State;
use coffre_identity::audit::Filter;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::view::{AuditRow, Pagination};
use super::{Admin, user_of};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::input::Query;

/// Rows of a page unless asked otherwise, and at most.
const PER_PAGE: usize = 50;
const PER_PAGE_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Which lines, and which page of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// By whom: a user's id or name, `anonymous`, `system`.
    principal: Option<String>,
    /// An action's name: `PutObject`, `CreateUser`, …
    action: Option<String>,
    /// Not before: RFC 3339, a date, or milliseconds since 1970.
    from: Option<String>,
    /// Not at or after; a date means its whole day.
    to: Option<String>,
    /// From 1.
    page: Option<usize>,
    /// 1 to 1000; 50 unless given.
    per_page: Option<usize>,
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
struct Log {
    data: Vec<AuditRow>,
    pagination: Pagination,
}

/// The audit log, newest first
#[utoipa::path(
    get, path = "/admin/v1/audit", tag = "admin", security(("bearer" = [])), params(Asked),
    responses((status = 200, body = Log)),
)]
async fn read(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Query(asked): Query<Asked>,
) -> Result<Answer<Log>, ApiError> {
    let principal = match asked.principal {
        Some(who) if matches!(who.as_str(), "anonymous" | "system") => Some(who),
        Some(who) if uuid::Uuid::parse_str(&who).is_err() => Some(user_of(&ground, &who).await?.to_string()),
        who => who.map(|id| id.to_ascii_lowercase()),
    };
    let filter = Filter {
        principal,
        action: asked.action,
        from_ms: asked.from.as_deref().map(|text| instant("from", text, false)).transpose()?,
        to_ms: asked.to.as_deref().map(|text| instant("to", text, true)).transpose()?,
    };
    let (page, per_page) = (asked.page.unwrap_or(1), asked.per_page.unwrap_or(PER_PAGE));
    if !(1..=PER_PAGE_MAX).contains(&per_page) {
        return Err(ApiError::field("per_page", format!("It has to be 1 to {PER_PAGE_MAX}.")));
    }
    let audit = ground.host.audit().ok_or_else(|| ApiError::from(Code::Unavailable).retry_after(1))?;
    let found = audit.read(filter, page, per_page).await?;
    let shown = found.lines.len() as u64;
    let pagination = Pagination::of(page as u64, per_page as u64, shown, found.total);
    Ok(Answer(Log { data: found.lines.iter().map(AuditRow::of).collect(), pagination }))
}

/// A time as a caller writes it, ms since 1970. A date is the beginning of its day, or with `is_end` that of the next.
pub(super) fn instant(name: &str, text: &str, is_end: bool) -> Result<u64, ApiError> {
    let bad = || ApiError {
        code: Code::Validation,
        ..ApiError::field(name, "It has to be RFC 3339, a date, or milliseconds since 1970.")
    };
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let at = match Date::parse(text, format_description!("[year]-[month]-[day]")) {
        Ok(day) if is_end => day.next_day().ok_or_else(bad)?.midnight().assume_utc(),
        Ok(day) => day.midnight().assume_utc(),
        // A `+` of a zone that was not escaped has become a space.
        Err(_) => OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).map_err(|_| bad())?,
    };
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_three_forms() {
        for (text, is_end, ms) in [
            ("0", false, Some(0)),
            ("1700000000000", true, Some(1_700_000_000_000)),
            ("1970-01-02", false, Some(86_400_000)),
            ("1970-01-02", true, Some(2 * 86_400_000)),
            ("1970-01-01T00:00:01Z", false, Some(1000)),
            ("1970-01-01T01:00:01 01:00", false, Some(1000)),
            ("1969-12-31", false, None),
            ("yesterday", false, None),
            ("", false, None),
        ] {
            assert_eq!(instant("from", text, is_end).ok(), ms, "{text}");
        }
    }
}
