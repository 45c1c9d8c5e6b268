//! The master key: where it comes from, and how the first one is made.
//!
//! Looked for in this order (contract D32): `COFFRE_MASTER_KEY`; the systemd credential
//! `$CREDENTIALS_DIRECTORY/master-key`; `DIR/master.key`. As text it is 64 hex digits or the base64 of 32 bytes.
//! A key file is made (mode 0600, fsynced, then published under its name) only while nothing is sealed in the data:
//! a lost key must be a clear error, not a new key that opens nothing.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use coffre_kv::Kv;
use rand::RngCore as _;
use zeroize::Zeroizing;

use crate::codec::{Kind, key};
use crate::error::{Error, Result};
use crate::seal;

const KEY_BYTES: usize = 32;
/// A key file is one line; anything much longer is some other file.
const FILE_BYTES_MAX: u64 = 256;
const FILE_NAME: &str = "master.key";
/// What the check row says once opened.
const CHECK: &[u8] = b"this is the right master key";

/// The key all secrets are sealed under. `Debug` says nothing; wiped when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// The places a master key may come from.
#[derive(Clone)]
pub struct Sources {
    /// `COFFRE_MASTER_KEY`.
    pub environment: Option<seal::Secret>,
    /// `CREDENTIALS_DIRECTORY`, set by systemd.
    pub credentials: Option<PathBuf>,
    /// The data directory.
    pub dir: PathBuf,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Sources {
    /// Those of this process, with the data in `dir`.
    pub fn of_process(dir: impl Into<PathBuf>) -> Self {
        Self {
            environment: std::env::var("COFFRE_MASTER_KEY").ok().map(seal::Secret::new),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            dir: dir.into(),
        }
    }
}

impl MasterKey {
    /// A key with these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::rng().fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// The key for this data: the one found, or a new one in `DIR/master.key` when nothing is sealed in `kv` yet.
    ///
    /// # Errors
    /// [`Error::MasterKeyMissing`] when secrets are sealed and there is no key; [`Error::MasterKey`] for a key that
    /// cannot be used.
    pub async fn for_data(sources: &Sources, kv: &dyn Kv) -> Result<Self> {
        if let Some(found) = Self::find(sources)? {
            return Ok(found);
        }
        if kv.get(&key(Kind::Check, &[])).await?.is_some() {
            return Err(Error::MasterKeyMissing);
        }
        let new = Self::random();
        new.write(&sources.dir)?;
        Ok(new)
    }

    /// The key from the first place that has one.
    pub fn find(sources: &Sources) -> Result<Option<Self>> {
        if let Some(text) = &sources.environment {
            return Self::parse("the environment", text.expose()).map(Some);
        }
        if let Some(dir) = &sources.credentials
            && let Some(text) = read(&dir.join("master-key"))?
        {
            return Self::parse("the credential master-key", &text).map(Some);
        }
        let file = sources.dir.join(FILE_NAME);
        let Some(text) = read(&file)? else { return Ok(None) };
        let mode = std::fs::metadata(&file)
            .map_err(|e| Error::io("reading the master key", e))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Error::MasterKey {
                place: "the file master.key",
                reason: "others than its owner may use the file; its mode should be 0600",
            });
        }
        Self::parse("the file master.key", &text).map(Some)
    }

    fn parse(place: &'static str, text: &str) -> Result<Self> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if text.len() == 2 * KEY_BYTES && hex::decode_to_slice(text, &mut *bytes).is_ok() {
            return Ok(Self(bytes));
        }
        let decoded =
            Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default());
        if decoded.len() != KEY_BYTES {
            return Err(Error::MasterKey {
                place,
                reason: "expected 64 hex digits or the base64 of 32 bytes",
            });
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self(bytes))
    }

    /// Publishes the key as `DIR/master.key`, durable on return.
    fn write(&self, dir: &Path) -> Result<()> {
        let doing = "writing master.key";
        let fail = |e: std::io::Error| Error::io(doing, e);
        let (new, name) = (dir.join("master.key.new"), dir.join(FILE_NAME));
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(fail)?;
        let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(*self.0))));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        // There is no key under that name: we looked, and the data directory is locked by this process.
        rustix::fs::rename(&new, &name).map_err(|e| fail(e.into()))?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What the check row holds.
    pub(crate) fn check(&self) -> Result<Vec<u8>> {
        seal::seal(self, "check", "", CHECK)
    }

    /// Whether this key made the check row.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`].
    pub(crate) fn verify(&self, check: &[u8]) -> Result<()> {
        match seal::open(self, "check", "", check) {
            Ok(text) if text[..] == *CHECK => Ok(()),
            _ => Err(Error::WrongMasterKey),
        }
    }
}

/// A key file's text; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    use std::io::Read as _;
    let fail = |e| Error::io("reading the master key", e);
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
