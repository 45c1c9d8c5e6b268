//! Signed S3 requests as ready bytes, and bodies that no two requests share.
//!
//! The client sits on the cores it measures the server on, so it saves work: the signing key is derived once a day,
//! reads are signed before the clock runs, and a body is one random block with a tail of its own, so that its SHA-256
//! costs the tail only.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_tests::s3::now;
use coffre_tests::sign::{Key, Signer, UNSIGNED, canonical_query, encode_path, timestamp};
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::http::{Answer, Connection};

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Bytes at the end of a body that are its own.
const TAIL_BYTES: usize = 16;

/// The server and with which key it is spoken to.
pub(crate) struct Target {
    pub(crate) address: String,
    key: Option<Key>,
    signer: Mutex<Option<(String, Signer)>>,
    bodies: AtomicU64,
}

/// One request, ready to be sent as often as the clock's skew allows (15 minutes).
pub(crate) struct Ready {
    head: Vec<u8>,
    has_body: bool,
}

/// Random bytes of one size; every request's end in a number of its own.
pub(crate) struct Body {
    base: Vec<u8>,
    hashed: Sha256,
}

impl Body {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut base = vec![0; bytes.saturating_sub(TAIL_BYTES)];
        rand::rngs::StdRng::seed_from_u64(bytes as u64).fill_bytes(&mut base);
        let hashed = Sha256::new_with_prefix(&base);
        Self { base, hashed }
    }

    /// What it begins with; a [`tail`] follows.
    pub(crate) fn base(&self) -> &[u8] {
        &self.base
    }

    fn digest(&self, tail: &[u8]) -> String {
        let mut hasher = self.hashed.clone();
        hasher.update(tail);
        hex::encode(hasher.finalize())
    }
}

/// The end that makes a body one of its own.
pub(crate) fn tail(number: u64) -> [u8; TAIL_BYTES] {
    let mut tail = [0; TAIL_BYTES];
    let (left, right) = tail.split_at_mut(TAIL_BYTES / 2);
    left.copy_from_slice(&number.to_be_bytes());
    right.copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
    tail
}

impl Target {
    /// `key` is `None` for the floor, which asks for none.
    pub(crate) fn new(address: &str, key: Option<Key>) -> Self {
        Self { address: address.to_owned(), key, signer: Mutex::default(), bodies: AtomicU64::new(1) }
    }

    fn signer(&self, stamp: &str) -> Option<Signer> {
        let key = self.key.as_ref()?;
        let mut cached = self.signer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*cached {
            Some((day, signer)) if stamp.starts_with(day.as_str()) => Some(signer.clone()),
            _ => {
                let signer = Signer::new(key, stamp);
                *cached = Some((stamp.chars().take(8).collect(), signer.clone()));
                Some(signer)
            }
        }
    }

    fn head(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        more: &[(&str, &str)],
        payload: &str,
        length: Option<usize>,
    ) -> Vec<u8> {
        let query: Vec<(String, String)> =
            query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut headers = vec![("host".to_owned(), self.address.clone())];
        headers.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let stamp = timestamp(now());
        if let Some(signer) = self.signer(&stamp) {
            signer.sign(method, path, &query, &mut headers, payload, &stamp);
        }
        let mut head = format!("{method} {}", encode_path(path));
        if !query.is_empty() {
            head.push('?');
            head.push_str(&canonical_query(&query));
        }
        head.push_str(" HTTP/1.1\r\n");
        for (name, value) in &headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        if let Some(length) = length {
            head.push_str("content-length: ");
            head.push_str(&length.to_string());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// A request without a body.
    pub(crate) fn ready(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> Ready {
        let length = matches!(method, "POST" | "PUT").then_some(0);
        let head = self.head(method, path, query, more, EMPTY, length);
        Ready { head, has_body: method != "HEAD" }
    }

    /// Sends a body that nothing else has sent; gives its tail's number.
    pub(crate) fn put(
        &self,
        connection: &mut Connection,
        path: &str,
        query: &[(&str, &str)],
        body: &Body,
        is_signed: bool,
    ) -> Outcome<Answer> {
        let number = self.bodies.fetch_add(1, Ordering::Relaxed);
        let tail = tail(number);
        let payload = if is_signed { body.digest(&tail) } else { UNSIGNED.to_owned() };
        let length = body.base.len() + TAIL_BYTES;
        let head = self.head("PUT", path, query, &[], &payload, Some(length));
        let answer = connection.exchange(&head, &[&body.base, &tail], true, |_| ())?;
        expect(answer, "PUT", path, 200)
    }

    /// Sends a request whose answer's body is short, whole.
    pub(crate) fn call(
        &self,
        connection: &mut Connection,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Outcome<(u16, String)> {
        let head = self.head(method, path, query, more, &hex::encode(Sha256::digest(body)), Some(body.len()));
        let mut text = Vec::new();
        let answer = connection.exchange(&head, &[body], true, |piece| text.extend_from_slice(piece))?;
        Ok((answer.status, String::from_utf8(text)?))
    }
}

impl Ready {
    pub(crate) fn new(head: Vec<u8>, has_body: bool) -> Self {
        Self { head, has_body }
    }

    /// Sends it and expects this status; the body is counted, not kept.
    pub(crate) fn send(&self, connection: &mut Connection, status: u16) -> Outcome<u64> {
        let answer = connection.exchange(&self.head, &[], self.has_body, |_| ())?;
        let bytes = answer.body_bytes;
        expect(answer, "a ready request", "", status)?;
        Ok(bytes)
    }

    /// The same, the body kept.
    pub(crate) fn text(&self, connection: &mut Connection) -> Outcome<String> {
        let mut text = Vec::new();
        let answer = connection.exchange(&self.head, &[], true, |piece| text.extend_from_slice(piece))?;
        expect(answer, "a ready request", "", 200)?;
        Ok(String::from_utf8(text)?)
    }
}

pub(crate) fn expect(answer: Answer, method: &str, path: &str, status: u16) -> Outcome<Answer> {
    if answer.status == status {
        Ok(answer)
    } else {
        Err(format!("{method} {path}: {} instead of {status}", answer.status).into())
    }
}
