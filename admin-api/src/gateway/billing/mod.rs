//! `/api/v1/billing/…` (document 2.9, contract §5.3, D21, D22): what an organisation may use, and buying more of it.
//!
//! | module | what |
//! |---|---|
//! | `acting` | for whom a call is made: the three headers |
//! | `usage` | entitlements, balance, consume |
//! | `sessions` | pages at Stripe: checkout and portal |
//! | `webhook` | what Stripe tells |
//! | `view` | the JSON, key by key |

mod acting;
mod sessions;
mod usage;
mod view;
mod webhook;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Ground;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(sessions::checkout))
        .routes(routes!(sessions::portal))
        .routes(routes!(usage::entitlements))
        .routes(routes!(usage::balance))
        .routes(routes!(usage::consume))
        .routes(routes!(webhook::take))
}
