//! TLS for the listeners (`[tls] cert, key`), read again on SIGHUP: a renewed certificate needs no restart.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// Certificate and key as last read.
#[derive(Debug)]
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads both files.
    pub(crate) fn open(cert: PathBuf, key: PathBuf) -> Result<Self> {
        let current = RwLock::new(read(&cert, &key)?);
        Ok(Self { cert, key, current })
    }

    /// What new connections use.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads both files again; on an error new connections go on with what was read before.
    pub(crate) fn reload(&self) -> Result<()> {
        let new = read(&self.cert, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn read(cert: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>> {
    let refuse = |name: &str, path: &PathBuf, reason: String| Error::Setting {
        place: path.display().to_string(),
        key: format!("tls.{name}"),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| refuse("cert", cert, format!("is not a PEM certificate chain: {e}")))?;
    if chain.is_empty() {
        return Err(refuse("cert", cert, "holds no certificate".into()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| refuse("key", key, format!("is not a PEM private key: {e}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| refuse("cert", cert, format!("does not go with the key: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
