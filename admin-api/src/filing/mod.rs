//! Filing's API (contract §5.4): files of clients and categories, in French.
//!
//! | module | what |
//! |---|---|
//! | `routes`, `upload`, `organized`, `storage` | the document's routes, and the links that `download` gives |
//! | `rules`, `input`, `words`, `name` | what may be asked, what was sent, what is said, what things are called: pure |
//! | `view`, `params` | the document's JSON; what the OpenAPI document says is taken |
//! | `dialect` | how errors are said |

pub(crate) mod dialect;
mod input;
mod name;
mod organized;
mod params;
mod routes;
mod rules;
mod storage;
mod upload;
mod view;
mod words;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Ground;

/// Whether there is such a time zone (`[filing] timezone`).
pub fn is_zone(name: &str) -> bool {
    name::Zone::named(name).is_some()
}

/// The routes. What is called like a list is never a file's number.
pub(crate) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(routes::list, upload::upload))
        .routes(routes!(routes::organized))
        .routes(routes!(routes::statistics))
        .routes(routes!(routes::by_category))
        .routes(routes!(routes::by_client))
        .routes(routes!(routes::show, routes::update, routes::update_by_form, routes::delete))
        .routes(routes!(routes::download))
        .routes(routes!(storage::storage))
}
