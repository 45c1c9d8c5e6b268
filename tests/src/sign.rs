//! AWS Signature Version 4, written from its published description, apart from the product's own.

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

/// Everything but the unreserved characters of RFC 3986.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, `/` kept: for paths.
const PATH: &AsciiSet = &STRICT.remove(b'/');
/// Stands in place of the body's digest.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// An access key and where it is used.
#[derive(Clone, Debug)]
pub struct Key {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Region of the credential scope.
    pub region: String,
}

/// Encodes a query name or value.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

/// Encodes a path; slashes stay.
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// Encodes and sorts a query as the canonical request wants it.
pub fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(k, v)| (encode(k), encode(v))).collect();
    pairs.sort();
    pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&")
}

/// `YYYYMMDD'T'HHMMSS'Z'`.
pub fn timestamp(at: OffsetDateTime) -> String {
    at.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap()
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A key made ready for one day: what a client that signs many requests keeps.
#[derive(Clone)]
pub struct Signer {
    id: String,
    scope: String,
    /// Keyed, so that a signature costs no derivation.
    mac: Hmac<Sha256>,
}

impl Signer {
    /// Derives the signing key of the day `stamp` begins with.
    pub fn new(key: &Key, stamp: &str) -> Self {
        let day = hmac(format!("AWS4{}", key.secret).as_bytes(), &stamp[..8]);
        let signing = hmac(&hmac(&hmac(&day, &key.region), "s3"), "aws4_request");
        Self {
            id: key.id.clone(),
            scope: format!("{}/{}/s3/aws4_request", &stamp[..8], key.region),
            mac: Hmac::new_from_slice(&signing).unwrap(),
        }
    }

    fn signature(&self, stamp: &str, canonical: &str) -> String {
        let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
        let mut mac = self.mac.clone();
        mac.update(format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{digest}", self.scope).as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// Adds `x-amz-date`, `x-amz-content-sha256` and `authorization` to the headers; all headers given are signed.
    /// `stamp` is of the signer's day.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        headers: &mut Vec<(String, String)>,
        payload: &str,
        stamp: &str,
    ) {
        headers.push(("x-amz-date".into(), stamp.into()));
        headers.push(("x-amz-content-sha256".into(), payload.into()));
        let mut sorted: Vec<_> =
            headers.iter().map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect();
        sorted.sort();
        let names = sorted.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = sorted.iter().map(|(k, v)| format!("{k}:{v}\n")).collect();
        let canonical = format!(
            "{method}\n{}\n{}\n{lines}\n{names}\n{payload}",
            encode_path(path),
            canonical_query(query)
        );
        let signature = self.signature(stamp, &canonical);
        headers.push((
            "authorization".into(),
            format!(
                "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}",
                self.id, self.scope
            ),
        ));
    }
}

impl Key {
    /// [`Signer::sign`] once, at a time.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        headers: &mut Vec<(String, String)>,
        payload: &str,
        at: OffsetDateTime,
    ) {
        let stamp = timestamp(at);
        Signer::new(self, &stamp).sign(method, path, query, headers, payload, &stamp);
    }

    /// The query of a presigned URL, in full.
    pub fn presign(
        &self,
        method: &str,
        host: &str,
        path: &str,
        mut query: Vec<(String, String)>,
        expires_s: u64,
        at: OffsetDateTime,
    ) -> String {
        let stamp = timestamp(at);
        let signer = Signer::new(self, &stamp);
        let mut add = |k: &str, v: String| query.push((k.to_owned(), v));
        add("X-Amz-Algorithm", "AWS4-HMAC-SHA256".into());
        add("X-Amz-Credential", format!("{}/{}", signer.id, signer.scope));
        add("X-Amz-Date", stamp.clone());
        add("X-Amz-Expires", expires_s.to_string());
        add("X-Amz-SignedHeaders", "host".into());
        let canonical_query = canonical_query(&query);
        let canonical =
            format!("{method}\n{}\n{canonical_query}\nhost:{host}\n\nhost\n{UNSIGNED}", encode_path(path));
        format!("{canonical_query}&X-Amz-Signature={}", signer.signature(&stamp, &canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example "GET Object" of "Signature Calculations for the Authorization Header" (AWS S3 API reference).
    #[test]
    fn the_published_example_has_the_published_signature() {
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            region: "us-east-1".into(),
        };
        let at = time::macros::datetime!(2013-05-24 00:00 UTC);
        let empty = hex::encode(Sha256::digest(b""));
        let mut headers = vec![
            ("host".into(), "examplebucket.s3.amazonaws.com".into()),
            ("range".into(), "bytes=0-9".into()),
        ];
        key.sign("GET", "/test.txt", &[], &mut headers, &empty, at);
        let authorization = &headers.iter().find(|(k, _)| k == "authorization").unwrap().1;
        assert!(
            authorization
                .ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{authorization}"
        );
    }
}
