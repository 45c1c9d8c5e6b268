//! The accept loop of a door: one task a connection, HTTP/1.1 and HTTP/2, at most [`CONNECTIONS_MAX`] at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::observe::{DoorKind, Measured, Observed};
use super::patience::{InFlight, Patient};
use super::tls::Tls;

/// Connections of one door at a time; more wait in the kernel's queue. Each costs a descriptor and some 20 KiB.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// A connection's read buffer; hyper's own limit of 400 KiB would be a third of what ten transfers may hold (contract
/// D38).
const CONNECTION_BUFFER_BYTES: usize = 128 * 1024;
/// A request's head has to be in by then, from the first wait for it.
const HEAD_LIMIT: Duration = Duration::from_mins(1);
/// A TLS handshake has to be done by then.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
/// Pause after the kernel refused to accept for want of descriptors or memory: nothing tells when there are again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of a service, however it names them.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A door to serve.
pub(crate) struct Door<F> {
    pub(crate) kind: DoorKind,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Makes the service of one connection: from whom, and whether inside TLS.
    pub(crate) service: F,
}

/// Accepts until `stop` turns true, then waits for the requests being answered. The caller bounds that wait.
pub(crate) async fn serve<F, S, B>(door: Door<F>, mut stop: watch::Receiver<bool>)
where
    F: Fn(SocketAddr, bool) -> S,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Door { kind, listener, tls, service } = door;
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (tls, service, watcher) = (tls.clone(), service(peer, tls.is_some()), graceful.watcher());
                tokio::spawn(async move {
                    if let Err(e) = connection(kind, stream, peer, tls, service, watcher).await {
                        tracing::debug!(door = kind.name(), client_address = %peer, error = %e, "a connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(e) if is_of_one_client(&e) => {}
            Err(e) => {
                tracing::warn!(door = kind.name(), error = %e, "cannot accept connections");
                pause().await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Waits before accepting is tried again.
pub(crate) async fn pause() {
    #[expect(clippy::disallowed_methods, reason = "no condition to wait for, see ACCEPT_PAUSE")]
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The client went away before it was accepted.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection<S, B>(
    kind: DoorKind,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    service: S,
    watcher: Watcher,
) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Without it a 4 KiB answer may wait 40 ms for the client's delayed acknowledgement (design §3).
    stream.set_nodelay(true)?;
    let in_flight = InFlight::default();
    let service = Observed::new(kind, service, peer, in_flight.clone());
    let (received, sent) = kind.byte_counters();
    match tls {
        None => http(Patient::new(stream, in_flight, received, sent), service, watcher).await,
        Some(tls) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
            let stream = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await??;
            http(Patient::new(stream, in_flight, received, sent), service, watcher).await
        }
    }
}

async fn http<T, S>(stream: T, service: S, watcher: Watcher) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Measured>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(CONNECTION_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    watcher.watch(connection).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    /// Answers `/slow` when let go, panics at `/panic`, answers the rest.
    #[derive(Clone, Default)]
    struct Fake {
        entered: Arc<Notify>,
        go: Arc<Notify>,
        answered: Arc<AtomicU32>,
    }

    impl Service<Request<Incoming>> for Fake {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, BoxError>>;

        fn call(&self, request: Request<Incoming>) -> Self::Future {
            let this = self.clone();
            Box::pin(async move {
                match request.uri().path() {
                    "/slow" => {
                        this.entered.notify_one();
                        this.go.notified().await;
                    }
                    "/panic" => panic!("on purpose"),
                    _ => {}
                }
                this.answered.fetch_add(1, Ordering::Relaxed);
                Ok(Response::new(Full::from("done")))
            })
        }
    }

    async fn door(fake: &Fake) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let fake = fake.clone();
        let door = Door { kind: DoorKind::S3, listener, tls: None, service: move |_, _| fake.clone() };
        (address, stop, tokio::spawn(serve(door, stopping)))
    }

    async fn send(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads until the text given has come.
    async fn read_to(stream: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.ends_with(end) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn a_stop_waits_for_the_request_being_answered() {
        let fake = Fake::default();
        let (address, stop, task) = door(&fake).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        send(&mut idle, "/").await;
        read_to(&mut idle, "done").await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        send(&mut slow, "/slow").await;
        fake.entered.notified().await;

        stop.send(true).unwrap();
        // The idle connection is closed, the listener gone, the slow request still there.
        assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(!task.is_finished());
        fake.go.notify_one();
        let answer = read_to(&mut slow, "done").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        task.await.unwrap();
        assert_eq!(fake.answered.load(Ordering::Relaxed), 2);
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_a_500_and_the_connection_goes_on() {
        let fake = Fake::default();
        let (address, stop, task) = door(&fake).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, "/panic").await;
        let answer = read_to(&mut stream, "</Error>").await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(
            answer.contains("<Code>InternalError</Code>") && answer.contains("x-amz-request-id: "),
            "{answer}"
        );
        assert!(!answer.contains("on purpose"));
        send(&mut stream, "/").await;
        assert!(read_to(&mut stream, "done").await.starts_with("HTTP/1.1 200"));
        stop.send(true).unwrap();
        task.await.unwrap();
    }
}
