//! The REST door: the documented APIs (contract §5, §6) on one listener.
//!
//! Promises: every answer carries `X-Request-Id`; every error is in the style of the API called, a 404, 405, 413, 415
//! and a panic as well; nothing tells a path or a stack trace of the server; bodies are streamed both ways. Routes are
//! thin: unpack, one function of `store` or `identity`, render. Leaves out: listeners and TLS (`daemon`).
//!
//! | module | what |
//! |---|---|
//! | `http` | the frame around requests: ids, callers, rate limits, CORS, forms, downloads |
//! | `error`, `dialect` | what went wrong, and how each API says it |
//! | `tus` | the protocol's headers as values |
//! | `gateway`, `filing`, `company`, `t2m`, `admin` | an API each: `routes`, `view` (its JSON), `dialect` |
//! | `preview` | images made small |
//! | `openapi` | the document, generated from the routes |

mod dialect;
mod error;
mod health;
mod http;
mod openapi;

mod admin;
mod company;
mod filing;
mod gateway;
mod preview;
mod t2m;

mod tus;

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::http::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use coffre_billing::Billing;
use coffre_identity::Identity;
use coffre_identity::audit::Audit;
use coffre_store::object::BuiltInNames;
use coffre_store::{Clock, Ids, Store};
use futures_util::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;

pub use admin::view;
pub use filing::is_zone;
pub use http::address::{ClientAddress, Peer, TrustedProxies};
pub use http::frame::Operation;
pub use http::rate::Limits;

use company::Beginnings;
use error::{ApiError, Code};
use http::frame::{self, Rendering};
use http::rate::Rates;
use http::{address, caller, cors, request_id};
use preview::Previews;

/// Whether the daemon can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The store is being opened.
    Starting,
    /// Everything answers.
    Ready,
    /// Draining after a signal.
    Stopping,
    /// A write failed for good; the process is about to end.
    Failed,
}

/// What the door asks of the daemon.
pub trait Host: std::fmt::Debug + Send + Sync + 'static {
    /// Whether the daemon can serve now.
    fn readiness(&self) -> Readiness;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// A new request id.
    fn request_id(&self) -> String;
    /// The audit log; `None` while the rows are not verified yet.
    fn audit(&self) -> Option<Audit>;
    /// What `coffre status` tells.
    fn status(&self) -> BoxFuture<'_, coffre_store::Result<serde_json::Value>>;
}

/// The settings of the door, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients reach this door, without a slash at its end.
    pub public_url: String,
    /// Where clients reach the S3 door, without a slash at its end.
    pub s3_url: String,
    /// What the S3 door says it is in, for presigned URLs.
    pub s3_region: String,
    /// Names of the built-in buckets.
    pub buckets: BuiltInNames,
    /// `[rest] trusted_proxies`.
    pub trusted_proxies: TrustedProxies,
    /// `[rest] cors_origins`.
    pub cors_origins: Vec<String>,
    /// `[limits.rate]`.
    pub rate: Limits,
    /// `[gateway]`.
    pub gateway: GatewaySettings,
    /// `[filing]`.
    pub filing: FilingSettings,
    /// Where a browser goes from a checkout at Stripe.
    pub checkout: coffre_billing::stripe::Pages,
}

/// `[gateway]` of contract D32.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Anonymous may read what is uploaded.
    pub public_read: bool,
    /// What public links begin with; `None`: the S3 door, path style.
    pub public_base_url: Option<String>,
    /// Largest TUS upload, bytes.
    pub tus_max_size_bytes: u64,
    /// How long an unfinished TUS upload is kept, ms.
    pub tus_expiry_ms: u64,
}

/// `[filing]` of contract D32.
#[derive(Clone, Debug)]
pub struct FilingSettings {
    /// Largest file, bytes.
    pub file_bytes_max: u64,
    /// The zone of dates and stored names.
    pub timezone: String,
    /// A 500 tells its cause.
    pub debug: bool,
}

/// What every route can reach. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The objects.
    pub store: Store,
    /// Users, tokens, rights.
    pub identity: Identity,
    /// Plans, accounts, quotas.
    pub billing: Billing,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// The daemon.
    pub host: Arc<dyn Host>,
    /// The settings.
    pub settings: Arc<Settings>,
    rates: Arc<Rates>,
    previews: Previews,
    beginnings: Arc<Beginnings>,
}

/// What [`Ground::new`] is given.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The objects.
    pub store: Store,
    /// Users, tokens, rights.
    pub identity: Identity,
    /// Plans, accounts, quotas.
    pub billing: Billing,
    /// The daemon.
    pub host: Arc<dyn Host>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// The settings.
    pub settings: Settings,
}

impl Ground {
    /// Joins what the routes need.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, identity, billing, host, clock, ids, settings } = parts;
        Self {
            store,
            identity,
            billing,
            clock,
            ids,
            host,
            rates: Arc::new(Rates::new(settings.rate)),
            settings: Arc::new(settings),
            previews: Previews::default(),
            beginnings: Arc::default(),
        }
    }

    /// A new UUIDv7.
    pub fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.ids.next())
    }
}

/// What the door has before the store is open.
#[derive(Clone)]
pub struct Options {
    /// The daemon.
    pub host: Arc<dyn Host>,
    /// `[rest] metrics_token`: who asks for `/metrics` has to bring it as a bearer token.
    pub metrics_token: Option<String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The door. Health answers at once; everything else is 503 until [`RestDoor::open`].
#[derive(Clone, Debug)]
pub struct RestDoor {
    options: Arc<Options>,
    starting: Router,
    open: Arc<OnceLock<Router>>,
}

impl RestDoor {
    /// With health alone.
    pub fn new(options: Options) -> Self {
        let options = Arc::new(options);
        let routes =
            health::routes(&options).fallback(async || ApiError::from(Code::Unavailable).retry_after(1));
        let starting = identified(
            routes.layer(from_fn_with_state(Rendering { tells_causes: false }, frame::render)),
            &options,
        );
        Self { options, starting, open: Arc::default() }
    }

    /// Opens all routes.
    pub fn open(&self, ground: Ground) {
        if self.open.set(router(&self.options, ground)).is_err() {
            tracing::warn!("the REST door was opened twice");
        }
    }

    /// The service of one connection.
    pub fn for_connection(&self, peer: Peer) -> Connection {
        Connection { door: self.clone(), peer }
    }
}

/// All routes, in their frame.
fn router(options: &Arc<Options>, ground: Ground) -> Router {
    let (routes, document) = routes().split_for_parts();
    let rendering = Rendering::of(&ground.settings);
    let documented = routes.merge(openapi::routes(&openapi::finish(document)));
    // From the inside out. CORS lies outside the rendering, so that a page can read errors too; the id outermost.
    let framed = documented
        .fallback(async || ApiError::from(Code::NoRoute))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .layer(from_fn_with_state(ground.clone(), caller::admit))
        .layer(from_fn_with_state(rendering, frame::render))
        .layer(from_fn(gateway::tus::versioned))
        .layer(from_fn_with_state(ground.clone(), cors::answer))
        .layer(from_fn_with_state(ground.clone(), address::find))
        .with_state(ground);
    identified(framed.merge(health::routes(options)), options)
}

fn identified(routes: Router, options: &Options) -> Router {
    routes.layer(from_fn_with_state(Arc::clone(&options.host), request_id::keep_or_make))
}

/// The routes of every API.
fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(gateway::routes())
        .merge(filing::routes())
        .merge(company::routes())
        .merge(admin::routes())
}

/// One connection's service.
#[derive(Clone, Debug)]
pub struct Connection {
    door: RestDoor,
    peer: Peer,
}

impl<B> tower::Service<Request<B>> for Connection
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = RouteFuture<std::convert::Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let mut router = self.door.open.get().unwrap_or(&self.door.starting).clone();
        tower::Service::call(&mut router, request)
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
