//! TLS on both doors, and a renewed certificate read on SIGHUP. The certificates in `tls/` are for 127.0.0.1, signed by `ca.pem`.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::process::{Daemon, ask, coffre, stderr};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/tls").join(name)
}

fn connect(address: &str) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap())
}

/// The certificate the door shows.
fn shown(address: &str) -> Vec<u8> {
    let mut stream = connect(address);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn both_doors_speak_tls_and_renew() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let install = |name: &str| {
        std::fs::copy(fixture(&format!("{name}.pem")), &cert).unwrap();
        std::fs::copy(fixture(&format!("{name}.key")), &key).unwrap();
    };
    install("first");
    let environment =
        [("COFFRE_TLS__CERT", cert.to_str().unwrap()), ("COFFRE_TLS__KEY", key.to_str().unwrap())];
    let daemon = Daemon::start_with(folder.path(), &[], &environment);
    let (s3, rest) = (daemon.address("s3"), daemon.address("rest"));
    assert_eq!(daemon.listen()["s3_url"], format!("https://{s3}"));
    assert_eq!(ask(connect(&rest), "GET", "/readyz", "").status, 200);
    assert!(ask(connect(&s3), "GET", "/", "").header("x-amz-request-id").is_some());

    let first = shown(&s3);
    install("second");
    let second = CertificateDer::from_pem_file(&cert).unwrap().to_vec();
    assert_ne!(first, second);
    daemon.signal(Signal::HUP);
    let end = Instant::now() + Duration::from_secs(30);
    while shown(&s3) != second {
        assert!(Instant::now() < end, "still the old certificate");
    }
    assert_eq!(shown(&rest), second);
    // A broken file is no reason to lose the good one.
    std::fs::write(&cert, "nothing").unwrap();
    daemon.signal(Signal::HUP);
    while !daemon.log().contains("going on with the old certificate") {
        assert!(Instant::now() < end, "{}", daemon.log());
    }
    assert_eq!(shown(&s3), second);
    daemon.stop();
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = coffre()
        .args(["serve", "--data"])
        .arg(folder.path().join("data"))
        .env("COFFRE_TLS__CERT", fixture("first.pem"))
        .env("COFFRE_TLS__KEY", fixture("second.key"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("first.pem: tls.cert: does not go with the key"),
        "{}",
        stderr(&refused)
    );
}
