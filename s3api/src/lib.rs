//! The S3 door: S3's API over the store, on s3s (contract §3).
//!
//! A request passes: the head's guard (`guard`), s3s's parser and signature check (keys from `auth`), the making of
//! the context (`access`), one operation (`ops/`), one store call, and back through `convert` or `error`. Promises an
//! `x-amz-request-id` on every answer, no answer with a body to HEAD, and that a request nobody signed reaches the
//! store as anonymous, which asks identity. Leaves out: sockets, TLS and their timeouts (the daemon's), and whether
//! somebody may (the store's).

mod access;
mod auth;
mod body;
mod convert;
mod error;
mod guard;
mod host;
mod ops;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use coffre_identity::Identity;
use coffre_store::object::Circumstances;
use coffre_store::{Clock, Ids, Store};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Error, s3_error};
use tracing::Instrument as _;

use crate::access::{Access, Arrival};
use crate::body::{BODY_IDLE, Broken, Timed};
use crate::guard::Refusal;

/// Largest chunk of a signed chunked upload, bytes. s3s holds a whole one before it checks it; clients send 64 KiB to
/// 1 MiB, and ten of these together stay within contract D38.
const SIGNED_CHUNK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest XML document, bytes: 10,000 parts of CompleteMultipartUpload with checksums are 3 MB.
const XML_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest fields of a POST form together, and each, bytes (S3: 20 KB without the file; metadata and a policy fit).
const FORM_BYTES_MAX: usize = 64 * 1024;
/// Largest object of one PUT, POST or part: 5 GiB (S3).
const PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// How far a client's clock may be off: 15 minutes (contract D37).
const SKEW_SECONDS_MAX: u32 = 15 * 60;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// What the door stands on.
pub struct Options {
    /// The objects.
    pub store: Store,
    /// Access keys and bucket policies.
    pub identity: Identity,
    /// The region the door says it is in. Requests may be signed for any.
    pub region: String,
    /// Domains whose subdomains are buckets (`[s3] domains`); every other host is path style.
    pub domains: Vec<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub ids: Arc<dyn Ids>,
}

/// Why a door cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a domain, or one within another.
    #[error("{domain:?} is no domain for virtual-host style: {reason}")]
    Domain {
        /// As configured.
        domain: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Makes the door.
///
/// # Errors
/// `Domain`.
pub fn service(options: Options) -> Result<S3Door, Error> {
    assemble(options, true)
}

/// The door without its guard, so that a test can show what the guard is for. Never serve it.
///
/// # Errors
/// As [`service`].
#[doc(hidden)]
pub fn service_without_guard_for_tests(options: Options) -> Result<S3Door, Error> {
    assemble(options, false)
}

/// The tracing directive the door wants: s3s logs every refused request as an error, a plain 404 too, and forms with
/// their fields. What matters of it is logged here, with the request's id.
pub fn log_directive() -> &'static str {
    "s3s=off"
}

fn assemble(options: Options, is_guarded: bool) -> Result<S3Door, Error> {
    let Options { store, identity, region, domains, clock, ids } = options;
    let mut builder = S3ServiceBuilder::new(ops::Ops { store: store.clone(), region: region.clone() });
    builder.set_auth(auth::Keys { identity: identity.clone() });
    builder.set_access(Access { identity, store });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config()))));
    if !domains.is_empty() {
        builder.set_host(host::Domains::new(domains)?);
    }
    Ok(S3Door { shared: Arc::new(Shared { service: builder.build(), region, clock, ids, is_guarded }) })
}

fn config() -> S3Config {
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_BYTES_MAX;
    config.put_object_max_size = Some(PUT_BYTES_MAX);
    config.post_object_max_file_size = PUT_BYTES_MAX;
    config.form_max_field_size = FORM_BYTES_MAX;
    config.form_max_fields_size = FORM_BYTES_MAX;
    config.form_max_parts = 100;
    config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_BYTES_MAX;
    config.presigned_url_max_skew_time_secs = SKEW_SECONDS_MAX;
    config.sig_v4_allowed_services = vec!["s3".to_owned()];
    config.enable_sig_v2 = false;
    // keys are opaque: `a//b` and `/a` are keys of their own
    config.normalize_forward_slash_path = false;
    // S3 goes by method, path and query; a client's `x-id` is decoration there
    config.operation_id_routing = false;
    config
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct S3Door {
    shared: Arc<Shared>,
}

struct Shared {
    service: S3Service,
    region: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    is_guarded: bool,
}

impl S3Door {
    /// The service of one accepted connection: from whom it came (after trusted proxies) and whether over TLS.
    pub fn for_connection(&self, client: IpAddr, is_secure: bool) -> Connection {
        Connection { shared: Arc::clone(&self.shared), client, is_secure }
    }
}

/// Which operation a request was, in its answer's extensions: for who counts requests around the door.
#[derive(Clone, Debug)]
pub struct Operation(Arc<OnceLock<String>>);

impl Operation {
    /// S3's name for it (`PutObject`); `none` when the request was refused before it was known.
    pub fn name(&self) -> &str {
        self.0.get().map_or("none", String::as_str)
    }
}

/// The door as one connection's hyper service.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    client: IpAddr,
    is_secure: bool,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Response<Body>, HttpError>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let (head, body) = request.into_parts();
        let body = Timed::new(body, BODY_IDLE);
        let broken = body.broken();
        let arrival = self.arrival(&head, body);
        let span = tracing::debug_span!("s3", request_id = &*arrival.request_id);
        Box::pin(async move { shared.answer(head, arrival, broken).await }.instrument(span))
    }
}

impl Connection {
    fn arrival(&self, head: &Parts, body: Timed<Incoming>) -> Arrival {
        let text =
            |name| head.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
        let query: Vec<_> = convert::query_pairs(head.uri.query().unwrap_or_default()).collect();
        let asked = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        Arrival {
            request_id: hex::encode_upper(self.shared.ids.next()).into(),
            now_ms: self.shared.clock.now_ms(),
            circumstances: Arc::new(Circumstances {
                client_address: Some(self.client),
                is_secure: self.is_secure,
                user_agent: text(USER_AGENT),
                referer: text(REFERER),
                delimiter: asked("delimiter"),
                max_keys: asked("max-keys").and_then(|n| n.parse().ok()),
            }),
            operation: Arc::new(OnceLock::new()),
            body: body::Shared::new(body),
            has_begun: Arc::default(),
        }
    }
}

impl Shared {
    async fn answer(
        &self,
        mut head: Parts,
        arrival: Arrival,
        broken: Arc<OnceLock<Broken>>,
    ) -> Result<Response<Body>, HttpError> {
        let is_head = head.method == Method::HEAD;
        let request_id = Arc::clone(&arrival.request_id);
        let operation = Arc::clone(&arrival.operation);
        let mut response = if let Err(refusal) = self.guard(&mut head) {
            self.refuse(refusal, &request_id)?
        } else {
            let has_begun = Arc::clone(&arrival.has_begun);
            let body = Body::http_body_unsync(arrival.body.clone());
            head.extensions.insert(arrival);
            let request = Request::from_parts(head, body);
            let answered = AssertUnwindSafe(self.service.call(request)).catch_unwind().await;
            let is_unread = operation.get().is_some() && !has_begun.load(Ordering::Relaxed);
            match answered {
                Ok(Ok(answer)) if is_unread && answer.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                    render(error::unread_document(broken.get().copied()), &request_id)?
                }
                Ok(answered) => {
                    answered.inspect_err(|why| tracing::error!(error = %why, "request broke off"))?
                }
                Err(_) => {
                    tracing::error!("a request panicked");
                    render(s3_error!(InternalError), &request_id)?
                }
            }
        };
        if is_head {
            strip_body(&mut response);
        }
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let operation = Operation(operation);
        log(operation.name(), response.status());
        response.extensions_mut().insert(operation);
        Ok(response)
    }

    fn guard(&self, head: &mut Parts) -> Result<(), Refusal> {
        if !self.is_guarded {
            return Ok(());
        }
        guard::inspect(head)?;
        guard::drop_foreign_range(head);
        Ok(())
    }

    fn refuse(&self, refusal: Refusal, request_id: &str) -> Result<Response<Body>, HttpError> {
        let mut response = render(refusal.answer(&self.region), request_id)?;
        if refusal == Refusal::NoRegion {
            name_region(&mut response, &self.region);
        }
        Ok(response)
    }
}

/// S3 says in an element of its own which region to sign for; s3s's errors have no such element. The configuration holds
/// the region to letters that XML needs no escape for.
fn name_region(response: &mut Response<Body>, region: &str) {
    const END: &str = "</Error>";
    let document = response.body().bytes().and_then(|bytes| String::from_utf8(bytes.into()).ok());
    if let Some(document) = document.and_then(|text| text.strip_suffix(END).map(str::to_owned)) {
        *response.body_mut() = Body::from(format!("{document}<Region>{region}</Region>{END}"));
    }
}

fn render(mut refused: S3Error, request_id: &str) -> Result<Response<Body>, HttpError> {
    refused.set_request_id(request_id);
    tracing::debug!(code = refused.code().as_str(), "refused at the door");
    refused.to_http_response().map_err(|why| HttpError::from_std_error(Box::new(why)))
}

/// HEAD answers have the headers of a GET and no body (RFC 9110 §9.3.2); an error's headers describe the body that is
/// not there. s3s answers a HEAD of a range with 200; S3 and HTTP say 206.
fn strip_body(response: &mut Response<Body>) {
    if response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if !response.status().is_success() {
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    *response.body_mut() = Body::empty();
}

fn log(operation: &str, status: StatusCode) {
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::warn!(operation, status = status.as_u16(), "answered with a server error");
    } else {
        tracing::debug!(operation, status = status.as_u16(), "answered");
    }
}
