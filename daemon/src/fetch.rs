//! Outgoing HTTP to addresses that the operator has configured: the key sets of JWT issuers, Stripe.
//!
//! One request on a connection of its own, no redirects, within [`LIMIT`]; certificates are checked against the
//! system's authorities. Leaves out: addresses that callers give, which want a guard.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use coffre_billing::stripe::{self, Reply, Transport};
use coffre_identity::FetchKeys;
use http::Uri;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For the whole: looking up, connecting, reading.
const LIMIT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fetcher;

#[async_trait::async_trait]
impl FetchKeys for Fetcher {
    async fn fetch(&self, url: &str, bytes_max: usize) -> Result<Bytes, BoxError> {
        let asked = Asked { method: Method::GET, url, headers: &[("accept", "application/json")], body: "" };
        let (status, _, body) = within_limit(asked.send(bytes_max)).await?;
        if status != StatusCode::OK {
            return Err(format!("the answer is {status}").into());
        }
        Ok(body)
    }
}

#[async_trait::async_trait]
impl Transport for Fetcher {
    async fn send(&self, request: &stripe::Request, bytes_max: usize) -> Result<Reply, BoxError> {
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let asked = Asked { method: Method::POST, url: &request.url, headers: &headers, body: &request.body };
        let (status, headers, body) = within_limit(asked.send(bytes_max)).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Reply {
            status: status.as_u16(),
            retry_after_s: text("retry-after").and_then(|text| text.parse().ok()),
            should_retry: text("stripe-should-retry").and_then(|text| text.parse().ok()),
            body,
        })
    }
}

async fn within_limit<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    tokio::time::timeout(LIMIT, work).await.map_err(|_| "no answer in time")?
}

/// A request.
struct Asked<'a> {
    method: Method,
    url: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
}

type Answer = (StatusCode, HeaderMap, Bytes);

impl Asked<'_> {
    async fn send(&self, bytes_max: usize) -> Result<Answer, BoxError> {
        let uri: Uri = self.url.parse()?;
        let host = uri.host().ok_or("no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        if !is_secure {
            return self.ask(stream, &uri, bytes_max).await;
        }
        let name = ServerName::try_from(host)?;
        let stream = TlsConnector::from(trusting()?).connect(name, stream).await?;
        self.ask(stream, &uri, bytes_max).await
    }

    async fn ask<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: T,
        uri: &Uri,
        bytes_max: usize,
    ) -> Result<Answer, BoxError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::builder()
            .method(&self.method)
            .uri(path)
            .header(header::HOST, uri.authority().map_or("", http::uri::Authority::as_str))
            .header(header::USER_AGENT, concat!("coffre/", env!("CARGO_PKG_VERSION")));
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(self.body.as_bytes())))?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        driver.abort();
        Ok((head.status, head.headers, body?.to_bytes()))
    }
}

/// The system's authorities, read once.
fn trusting() -> Result<Arc<ClientConfig>, BoxError> {
    static TRUSTING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(known) = TRUSTING.get() {
        return Ok(Arc::clone(known));
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the system has no certificate authorities".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    Ok(Arc::clone(TRUSTING.get_or_init(|| config)))
}
