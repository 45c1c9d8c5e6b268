//! A small S3 client on blocking HTTP: what the crash oracle and the acceptance tests speak.

use std::io::Read;
use std::time::Duration;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::sign::{Key, canonical_query, encode_path};

/// Why no whole answer came: the daemon died, or was not there.
pub type Unanswered = ureq::Error;

/// A client of one daemon with one key.
#[derive(Clone, Debug)]
pub struct Client {
    /// `127.0.0.1:port`.
    pub host: String,
    /// With which key it signs; `None`: anonymous.
    pub key: Option<Key>,
    agent: ureq::Agent,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What stands between `<name>` and `</name>`, first occurrence.
    pub fn element(&self, name: &str) -> Option<String> {
        elements(&self.text(), name).into_iter().next()
    }

    /// Fails the test unless the status is this.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// All that stands between `<name>` and `</name>`. Enough for S3's flat answers.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find(&open) {
        rest = &rest[start + open.len()..];
        let Some(end) = rest.find(&close) else { break };
        found.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    found
}

/// One request, as parts.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// `/bucket/key`, not encoded.
    pub path: &'a str,
    /// Query, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers to send and sign.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub body: &'a [u8],
}

impl Client {
    /// Speaks to `host` (address and port).
    pub fn new(host: impl Into<String>, key: Option<Key>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(2)))
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .build();
        Self { host: host.into(), key, agent: config.into() }
    }

    /// Sends a request, signed in its headers.
    ///
    /// # Errors
    /// When no whole answer came: the daemon died, or was not there.
    pub fn send(&self, request: &Request<'_>) -> Result<Answer, Unanswered> {
        let query: Vec<(String, String)> =
            request.query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut headers: Vec<(String, String)> =
            request.headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        headers.push(("host".into(), self.host.clone()));
        if let Some(key) = &self.key {
            let payload = hex::encode(Sha256::digest(request.body));
            key.sign(request.method, request.path, &query, &mut headers, &payload, now());
        }
        let mut url = format!("http://{}{}", self.host, encode_path(request.path));
        if !query.is_empty() {
            url = format!("{url}?{}", canonical_query(&query));
        }
        self.exchange(request.method, &url, &headers, request.body)
    }

    /// Sends a request to a URL as it is.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn exchange(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, Unanswered> {
        let mut builder = http::Request::builder().method(method).uri(url);
        for (name, value) in headers.iter().filter(|(name, _)| name != "host") {
            builder = builder.header(name, value);
        }
        let response = match method {
            "GET" | "HEAD" | "DELETE" if body.is_empty() => self.agent.run(builder.body(()).unwrap())?,
            _ => self.agent.run(builder.body(body).unwrap())?,
        };
        let (parts, body) = response.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(k, v)| (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        Ok(Answer { status: parts.status.as_u16(), headers, body: bytes })
    }

    /// `GET`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn get(&self, path: &str) -> Result<Answer, Unanswered> {
        self.send(&Request { method: "GET", path, ..Request::default() })
    }

    /// `GET` with a query.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn query(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Unanswered> {
        self.send(&Request { method: "GET", path, query, ..Request::default() })
    }

    /// `PUT`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn put(&self, path: &str, body: &[u8]) -> Result<Answer, Unanswered> {
        self.send(&Request { method: "PUT", path, body, ..Request::default() })
    }

    /// `POST` with a query.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn post(&self, path: &str, query: &[(&str, &str)], body: &[u8]) -> Result<Answer, Unanswered> {
        self.send(&Request { method: "POST", path, query, body, ..Request::default() })
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn delete(&self, path: &str) -> Result<Answer, Unanswered> {
        self.send(&Request { method: "DELETE", path, ..Request::default() })
    }

    /// A presigned URL for `method`.
    pub fn presign(&self, method: &str, path: &str, expires_s: u64) -> String {
        let key = self.key.as_ref().expect("only a client with a key presigns");
        let query = key.presign(method, &self.host, path, Vec::new(), expires_s, now());
        format!("http://{}{}?{query}", self.host, encode_path(path))
    }

    /// Stores an object in parts; the last answer is the completion's.
    ///
    /// # Errors
    /// As [`Client::send`], from whichever step failed.
    pub fn put_multipart(&self, path: &str, parts: &[&[u8]]) -> Result<Answer, Unanswered> {
        let begun = self.post(path, &[("uploads", "")], b"")?;
        let Some(upload) = begun.element("UploadId") else { return Ok(begun) };
        let mut lines = String::new();
        for (number, body) in (1..).zip(parts) {
            let number: usize = number;
            let answer = self.send(&Request {
                method: "PUT",
                path,
                query: &[("partNumber", &number.to_string()), ("uploadId", &upload)],
                body,
                ..Request::default()
            })?;
            let Some(etag) = answer.header("etag").filter(|_| answer.status == 200) else {
                return Ok(answer);
            };
            lines += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let xml = format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>");
        self.post(path, &[("uploadId", &upload)], xml.as_bytes())
    }

    /// All keys of a bucket with their ETags (without quotes) and sizes, page by page.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn list(&self, bucket: &str) -> Result<Vec<(String, String, u64)>, Unanswered> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let mut query = vec![("list-type", "2"), ("encoding-type", "url")];
            if !token.is_empty() {
                query.push(("continuation-token", token.as_str()));
            }
            let page = self.query(&format!("/{bucket}"), &query)?.expect(200);
            for entry in elements(&page.text(), "Contents") {
                let field = |name| elements(&entry, name).remove(0);
                let key =
                    percent_encoding::percent_decode_str(&field("Key")).decode_utf8().unwrap().into_owned();
                let etag = field("ETag").replace("&quot;", "").replace('"', "");
                found.push((key, etag, field("Size").parse().unwrap()));
            }
            match page.element("NextContinuationToken") {
                Some(next) if page.element("IsTruncated").as_deref() == Some("true") => token = next,
                _ => return Ok(found),
            }
        }
    }
}

/// The wall clock, for signatures.
#[expect(clippy::disallowed_methods, reason = "a signature carries the real time")]
pub fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}
