//! Reading a document by HTTP or HTTPS from an address the operator has configured: the key sets of JWT issuers.
//!
//! One GET, no redirects, within [`LIMIT`]; certificates are checked against the system's authorities.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffre_identity::FetchKeys;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
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
        tokio::time::timeout(LIMIT, get(url, bytes_max)).await.map_err(|_| "no answer in time")?
    }
}

async fn get(url: &str, bytes_max: usize) -> Result<Bytes, BoxError> {
    let uri: Uri = url.parse()?;
    let host = uri.host().ok_or("no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if !is_secure {
        return ask(stream, &uri, bytes_max).await;
    }
    let name = ServerName::try_from(host)?;
    let stream = TlsConnector::from(Arc::new(trusting()?)).connect(name, stream).await?;
    ask(stream, &uri, bytes_max).await
}

/// The system's authorities.
fn trusting() -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the system has no certificate authorities".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn ask<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    uri: &Uri,
    bytes_max: usize,
) -> Result<Bytes, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(path)
        .header(header::HOST, uri.authority().map_or("", http::uri::Authority::as_str))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("coffre/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    driver.abort();
    if status != StatusCode::OK {
        return Err(format!("the answer is {status}").into());
    }
    Ok(body?.to_bytes())
}
