//! The gateway's and billing's API (contract §5.1–§5.3).

mod billing;
pub(crate) mod dialect;
mod direct;
mod place;
mod presigned;
pub(crate) mod tus;
mod view;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Ground;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(direct::direct))
        .routes(routes!(presigned::presigned_url))
        .routes(routes!(tus::options, tus::create))
        .routes(routes!(
            tus::options_of_one,
            tus::overridden,
            tus::append,
            tus::status,
            tus::status_by_get,
            tus::terminate
        ))
        .merge(billing::routes())
}
