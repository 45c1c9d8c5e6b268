//! What happens around every request: metrics, the access log, and the guard that turns a panic into a 500.
//!
//! The log line has method, path, names of query parameters, status, duration, bytes and request id; never the
//! query's values, which hold signatures and tokens.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response};
use metrics::{Counter, counter, gauge, histogram};

use super::connection::BoxError;
use super::patience::InFlight;

/// Which door, for labels, the request id's header and the shape of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorKind {
    S3,
    Rest,
}

impl DoorKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Rest => "rest",
        }
    }

    /// Bytes received and sent on the door's connections, heads included, inside TLS.
    pub(crate) fn byte_counters(self) -> (Counter, Counter) {
        let of = |direction| counter!("coffre_connection_bytes_total", "door" => self.name(), "direction" => direction);
        (of("in"), of("out"))
    }

    fn id_header(self) -> HeaderName {
        match self {
            Self::S3 => HeaderName::from_static("x-amz-request-id"),
            Self::Rest => HeaderName::from_static("x-request-id"),
        }
    }

    fn panicked(self, request_id: &str) -> Response<Full<Bytes>> {
        let (kind, text) = match self {
            Self::S3 => (
                "application/xml",
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code><Message>We encountered \
                     an internal error. Please try again.</Message><RequestId>{request_id}</RequestId></Error>"
                ),
            ),
            Self::Rest => (
                "application/json",
                format!(
                    "{{\"error\":{{\"code\":\"INTERNAL_ERROR\",\"message\":\"Something went wrong here.\",\
                     \"request_id\":\"{request_id}\"}}}}"
                ),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            response.headers_mut().insert(self.id_header(), id);
        }
        response
    }
}

/// A service with measurement, access log and panic guard around it; one for each connection.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    kind: DoorKind,
    inner: S,
    peer: SocketAddr,
    in_flight: InFlight,
}

impl<S> Observed<S> {
    pub(crate) fn new(kind: DoorKind, inner: S, peer: SocketAddr, in_flight: InFlight) -> Self {
        Self { kind, inner, peer, in_flight }
    }
}

impl<S, B> Service<Request<Incoming>> for Observed<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Measured>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let line = Line::begin(self.kind, self.peer, &request, self.in_flight.clone());
        let (inner, kind) = (self.inner.clone(), self.kind);
        Box::pin(async move {
            // Unwind safe: what requests share guards itself (locks poison, channels close).
            let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind().await;
            let response = if let Ok(answer) = answer {
                answer?.map(|body| body.map_err(Into::into).boxed_unsync())
            } else {
                let request_id =
                    uuid::Uuid::from_bytes(coffre_store::Ids::next(&crate::clock::TimeIds)).to_string();
                tracing::error!(door = kind.name(), request_id, "a request panicked");
                kind.panicked(&request_id).map(|body| body.map_err(Into::into).boxed_unsync())
            };
            let (parts, body) = response.into_parts();
            let line = line.answered(&parts);
            Ok(Response::from_parts(parts, Measured { body, line }))
        })
    }
}

/// An answer's body; when it is sent or given up, the request is counted and logged.
pub(crate) struct Measured {
    body: UnsyncBoxBody<Bytes, BoxError>,
    line: Line,
}

impl Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.line.sent_bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is known of a request; counted and logged when dropped.
struct Line {
    kind: DoorKind,
    /// The connection's other end, until the door says whom a proxy spoke for.
    client: IpAddr,
    method: Method,
    target: String,
    operation: Cow<'static, str>,
    begun: Instant,
    in_flight: InFlight,
    received_bytes: u64,
    sent_bytes: u64,
    status: Option<StatusCode>,
    request_id: Option<HeaderValue>,
}

impl Line {
    fn begin(kind: DoorKind, peer: SocketAddr, request: &Request<Incoming>, in_flight: InFlight) -> Self {
        in_flight.begin();
        gauge!("coffre_requests_in_flight", "door" => kind.name()).increment(1.0);
        Self {
            kind,
            client: peer.ip(),
            method: request.method().clone(),
            target: without_values(request.uri()),
            operation: operation(kind, request.uri().path()).into(),
            begun: Instant::now(),
            in_flight,
            received_bytes: request.body().size_hint().exact().unwrap_or_default(),
            sent_bytes: 0,
            status: None,
            request_id: None,
        }
    }

    fn answered(mut self, head: &Parts) -> Self {
        self.status = Some(head.status);
        self.request_id = head.headers.get(self.kind.id_header()).cloned();
        if let Some(operation) = head.extensions.get::<coffre_s3api::Operation>() {
            self.operation = operation.name().to_owned().into();
        } else if let Some(operation) = head.extensions.get::<coffre_admin_api::Operation>() {
            self.operation = operation.0.to_string().into();
        }
        if let Some(client) = head.extensions.get::<coffre_admin_api::ClientAddress>() {
            self.client = client.0;
        }
        self
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.in_flight.end();
        let (door, elapsed) = (self.kind.name(), self.begun.elapsed());
        let operation = std::mem::take(&mut self.operation);
        // 499: the client went away before there was an answer, as nginx counts it.
        let status = self.status.map_or(499, |status| status.as_u16());
        gauge!("coffre_requests_in_flight", "door" => door).decrement(1.0);
        counter!("coffre_requests_total", "door" => door, "operation" => operation.clone(), "status" => status.to_string())
            .increment(1);
        histogram!("coffre_request_duration_seconds", "door" => door, "operation" => operation.clone())
            .record(elapsed.as_secs_f64());
        tracing::debug!(
            target: "coffre::access",
            door,
            operation = &*operation,
            method = %self.method,
            path = self.target,
            status,
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            received_bytes = self.received_bytes,
            sent_bytes = self.sent_bytes,
            client_address = %self.client,
            request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok()),
            "request"
        );
    }
}

/// The path with the names of the query's parameters, without their values.
fn without_values(uri: &Uri) -> String {
    let mut text = uri.path().to_owned();
    for (i, pair) in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).enumerate() {
        text.push(if i == 0 { '?' } else { '&' });
        text.push_str(pair.split('=').next().unwrap_or_default());
    }
    text
}

/// A label with few values: S3's operation is told by the door itself, with its answer.
fn operation(kind: DoorKind, path: &str) -> &'static str {
    match (kind, path) {
        (DoorKind::S3, _) => "none",
        (DoorKind::Rest, "/healthz") => "healthz",
        (DoorKind::Rest, "/readyz") => "readyz",
        (DoorKind::Rest, "/metrics") => "metrics",
        (DoorKind::Rest, _) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_logged_without_their_values() {
        for (uri, logged) in [
            ("/b/k", "/b/k"),
            ("/b/k?uploads", "/b/k?uploads"),
            ("/b/k?X-Amz-Signature=abc&partNumber=3", "/b/k?X-Amz-Signature&partNumber"),
            ("/b?prefix=a=b&&x", "/b?prefix&x"),
        ] {
            assert_eq!(without_values(&uri.parse().unwrap()), logged);
        }
    }
}
