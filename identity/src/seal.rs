//! Secrets in memory and at rest: [`Secret`] shows itself to nobody by accident; sealing is XChaCha20-Poly1305
//! under the master key.
//!
//! A sealed value is `nonce (24, random) ‖ ciphertext ‖ tag (16)`. The associated data names the row it belongs to,
//! so that a value moved to another row does not open.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::RngCore as _;
use rand::seq::IndexedRandom as _;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::master::MasterKey;

const NONCE_BYTES: usize = 24;
/// Letters and digits: a secret needs no escaping in shells, URLs and configuration files.
const SECRET_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// RFC 4648's base32: no letters that look alike.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A secret text. `Debug` says nothing; the bytes are wiped when the last clone goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Keeps a text from now on.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A new random secret of letters and digits, 5.95 bits each.
    pub(crate) fn random(len: usize) -> Self {
        Self::new(random_text(SECRET_ALPHABET, len))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Random capitals and digits, 5 bits each.
pub(crate) fn random_id(len: usize) -> String {
    random_text(ID_ALPHABET, len)
}

fn random_text(alphabet: &[u8], len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).filter_map(|_| alphabet.choose(&mut rng).copied().map(char::from)).collect()
}

fn cipher(master: &MasterKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(Key::from_slice(master.bytes()))
}

/// Names the row a sealed value belongs to: its kind and its key, unambiguously.
fn place(kind: &str, row: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(kind.len() + row.len() + 1);
    place.extend_from_slice(kind.as_bytes());
    place.push(0);
    place.extend_from_slice(row.as_bytes());
    place
}

/// Encrypts for one row.
pub(crate) fn seal(master: &MasterKey, kind: &str, row: &str, clear: &[u8]) -> Result<Vec<u8>> {
    let mut sealed = vec![0; NONCE_BYTES];
    rand::rng().fill_bytes(&mut sealed);
    let payload = Payload { msg: clear, aad: &place(kind, row) };
    let ciphertext = cipher(master)
        .encrypt(XNonce::from_slice(&sealed), payload)
        .map_err(|_| Error::Internal { doing: "sealing a secret", source: "the cipher refused".into() })?;
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Decrypts what [`seal`] made for the same row under the same key.
///
/// # Errors
/// [`Error::BadSeal`] for anything else.
pub(crate) fn open(master: &MasterKey, kind: &str, row: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or(Error::BadSeal)?;
    let payload = Payload { msg: ciphertext, aad: &place(kind, row) };
    cipher(master).decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| Error::BadSeal)
}

/// The same as text.
pub(crate) fn open_text(master: &MasterKey, kind: &str, row: &str, sealed: &[u8]) -> Result<Secret> {
    let bytes = open(master, kind, row, sealed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::BadSeal)?;
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_under_the_same_key_in_the_same_row() {
        let (ours, theirs) = (MasterKey::random(), MasterKey::random());
        let sealed = seal(&ours, "key", "A", b"clear").unwrap();
        assert_eq!(&open(&ours, "key", "A", &sealed).unwrap()[..], b"clear");
        assert!(matches!(open(&theirs, "key", "A", &sealed), Err(Error::BadSeal)));
        assert!(matches!(open(&ours, "key", "B", &sealed), Err(Error::BadSeal)));
        assert!(matches!(open(&ours, "kind", "A", &sealed), Err(Error::BadSeal)));
        assert!(matches!(open(&ours, "key\0A", "", &sealed), Err(Error::BadSeal)));
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let key = MasterKey::random();
        let sealed = seal(&key, "key", "A", b"clear").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, "key", "A", &bad).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(open(&key, "key", "A", &sealed[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn sealing_twice_differs() {
        let key = MasterKey::random();
        assert_ne!(seal(&key, "k", "A", b"x").unwrap(), seal(&key, "k", "A", b"x").unwrap());
    }

    #[test]
    fn a_secret_tells_debug_nothing() {
        let secret = Secret::random(40);
        assert_eq!(secret.expose().len(), 40);
        assert!(!format!("{secret:?} {:?}", Some(&secret)).contains(secret.expose()));
        assert_ne!(Secret::random(40).expose(), secret.expose());
    }
}
