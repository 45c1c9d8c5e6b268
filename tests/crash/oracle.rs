//! What each key may hold after a crash: the last acknowledged content, or that of the one request that was under
//! way when the daemon died.

use std::collections::BTreeMap;

use coffre_tests::s3::{Answer, Client, Request};
use sha2::{Digest, Sha256};

/// Content as the oracle remembers it: absent, or digest and size.
pub(super) type Content = Option<([u8; 32], usize)>;

/// Digest and size of bytes.
#[expect(clippy::unnecessary_wraps, reason = "a content is what a key may hold, and that may be nothing")]
pub(super) fn content(bytes: &[u8]) -> Content {
    Some((Sha256::digest(bytes).into(), bytes.len()))
}

/// One writer's keys in one bucket. No other writer touches them, so what they may hold is known exactly.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Bucket.
    pub(super) bucket: String,
    /// Key → what it may hold; more than one only after a request without an answer.
    pub(super) keys: BTreeMap<String, Vec<Content>>,
    /// With versioning: key, version id, content of acknowledged puts.
    pub(super) versions: Vec<(String, String, Content)>,
}

impl Truth {
    /// A request that would leave `content` at `key` has been sent.
    pub(super) fn attempt(&mut self, key: &str, content: Content) {
        let may = self.keys.entry(key.to_owned()).or_insert_with(|| vec![None]);
        if !may.contains(&content) {
            may.push(content);
        }
    }

    /// It has been acknowledged.
    pub(super) fn acknowledge(&mut self, key: &str, content: Content, answer: &Answer) {
        self.keys.insert(key.to_owned(), vec![content]);
        if let (Some(version), true) = (answer.header("x-amz-version-id"), content.is_some()) {
            self.versions.push((key.to_owned(), version.to_owned(), content));
        }
    }

    /// What the key surely holds; `None` in the outer option when that is not known.
    pub(super) fn known(&self, key: &str) -> Option<Content> {
        match self.keys.get(key).map(Vec::as_slice) {
            None => Some(None),
            Some([only]) => Some(*only),
            Some(_) => None,
        }
    }

    /// Compares with what the daemon says, and learns which of the possible outcomes happened. What is wrong, in
    /// words.
    pub(super) fn verify(&mut self, s3: &Client) -> Vec<String> {
        let mut wrong = Vec::new();
        let listed: BTreeMap<String, u64> =
            s3.list(&self.bucket).unwrap().into_iter().map(|(key, _, size)| (key, size)).collect();
        for (key, may) in &mut self.keys {
            let seen = read(s3, &format!("/{}/{key}", self.bucket), &[]);
            match seen {
                Err(status) => wrong.push(format!("{key}: status {status}")),
                Ok(seen) if !may.contains(&seen) => {
                    wrong.push(format!("{key}: holds {seen:?}, may hold {may:?}"));
                }
                Ok(seen) => {
                    let size = seen.map(|(_, len)| len as u64);
                    if listed.get(key).copied() != size {
                        wrong.push(format!("{key}: the list says {:?}, a read {size:?}", listed.get(key)));
                    }
                    *may = vec![seen];
                }
            }
        }
        for key in listed.keys().filter(|key| !self.keys.contains_key(*key)) {
            wrong.push(format!("{key}: listed, but nobody wrote it"));
        }
        for (key, version, content) in &self.versions {
            let seen = read(s3, &format!("/{}/{key}", self.bucket), &[("versionId", version)]);
            if seen != Ok(*content) {
                wrong.push(format!("{key} version {version}: {seen:?}, written {content:?}"));
            }
        }
        wrong
    }
}

/// What a key or a version holds; another status than 200 and 404 is an error.
fn read(s3: &Client, path: &str, query: &[(&str, &str)]) -> Result<Content, u16> {
    let answer = s3.send(&Request { method: "GET", path, query, ..Request::default() }).unwrap();
    match answer.status {
        200 => Ok(content(&answer.body)),
        404 => Ok(None),
        other => Err(other),
    }
}
