//! SigV4 written from its description, not from the library under test: headers, presigned, chunks, trailers.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::wire::Call;

pub(crate) const REGION: &str = "us-east-1";
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub(crate) const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
pub(crate) const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
pub(crate) const SIGNED_CHUNKS_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

/// An access key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Who signs, when, for which host.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) key: Key,
    pub(crate) at: OffsetDateTime,
    pub(crate) host: String,
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn sha256_hex(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// A key as a path: slashes stay.
pub(crate) fn encode_key(key: &str) -> String {
    key.split('/').map(encode).collect::<Vec<_>>().join("/")
}

pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(n, v)| (encode(n), encode(v))).collect();
    pairs.sort();
    pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("&")
}

impl Signer {
    pub(crate) fn date(&self) -> String {
        self.at.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap()
    }

    fn day(&self) -> String {
        self.date()[..8].to_owned()
    }

    pub(crate) fn scope(&self) -> String {
        format!("{}/{REGION}/s3/aws4_request", self.day())
    }

    pub(crate) fn signature(&self, string_to_sign: &str) -> String {
        let day = hmac(format!("AWS4{}", self.key.secret).as_bytes(), self.day().as_bytes());
        let key = hmac(&hmac(&hmac(&day, REGION.as_bytes()), b"s3"), b"aws4_request");
        hex::encode(hmac(&key, string_to_sign.as_bytes()))
    }

    /// The host and all headers there are, lower case, in order.
    fn signed_headers(&self, call: &Call) -> Vec<(String, String)> {
        let mut headers: Vec<_> =
            call.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        headers.push(("host".to_owned(), call.host.clone().unwrap_or_else(|| self.host.clone())));
        headers.sort();
        headers
    }

    fn sign_canonical(&self, call: &Call, headers: &[(String, String)], payload: &str) -> (String, String) {
        let names = headers.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let query = canonical_query(&call.query);
        let canonical = format!("{}\n{}\n{query}\n{lines}\n{names}\n{payload}", call.method, call.path);
        let hash = sha256_hex(canonical.as_bytes());
        let string = format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.date(), self.scope());
        (names, self.signature(&string))
    }

    /// Signs in the `Authorization` header, with this as `x-amz-content-sha256`. Headers added later are unsigned.
    pub(crate) fn header_as(&self, call: &mut Call, payload: &str) -> String {
        call.set("x-amz-date", Some(&self.date()));
        call.set("x-amz-content-sha256", Some(payload));
        let headers = self.signed_headers(call);
        let (names, signature) = self.sign_canonical(call, &headers, payload);
        let credential = format!("{}/{}", self.key.id, self.scope());
        let value =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        call.set("authorization", Some(&value));
        signature
    }

    /// Signs in the header, the body by its hash.
    pub(crate) fn header(&self, mut call: Call) -> Call {
        let payload = sha256_hex(&call.body);
        self.header_as(&mut call, &payload);
        call
    }

    /// The body unsigned.
    pub(crate) fn header_unsigned(&self, mut call: Call) -> Call {
        self.header_as(&mut call, UNSIGNED);
        call
    }

    /// As a presigned URL.
    pub(crate) fn presign(&self, call: Call, seconds: i64) -> Call {
        let headers = self.signed_headers(&call);
        self.presign_with(call, seconds, &headers)
    }

    /// As a presigned URL that signs these headers only.
    pub(crate) fn presign_with(&self, mut call: Call, seconds: i64, headers: &[(String, String)]) -> Call {
        let names = headers.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(";");
        call = call
            .query("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
            .query("X-Amz-Credential", &format!("{}/{}", self.key.id, self.scope()))
            .query("X-Amz-Date", &self.date())
            .query("X-Amz-Expires", &seconds.to_string())
            .query("X-Amz-SignedHeaders", &names);
        let (_, signature) = self.sign_canonical(&call, headers, UNSIGNED);
        call.query("X-Amz-Signature", &signature)
    }

    /// In signed chunks, with or without a signed trailer.
    pub(crate) fn chunks(&self, mut call: Call, chunk: usize, trailer: Option<(&str, &str)>) -> Call {
        let body = std::mem::take(&mut call.body);
        call.set("content-encoding", Some("aws-chunked"));
        call.set("x-amz-decoded-content-length", Some(&body.len().to_string()));
        if let Some((name, _)) = trailer {
            call.set("x-amz-trailer", Some(name));
        }
        let payload = if trailer.is_some() { SIGNED_CHUNKS_TRAILER } else { SIGNED_CHUNKS };
        let mut previous = self.header_as(&mut call, payload);
        let mut framed = Vec::new();
        for piece in body.chunks(chunk).chain([&[][..]]) {
            let (empty, hash) = (sha256_hex(b""), sha256_hex(piece));
            let (date, scope) = (self.date(), self.scope());
            previous = self.signature(&format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{empty}\n{hash}"
            ));
            framed.extend(format!("{:x};chunk-signature={previous}\r\n", piece.len()).bytes());
            framed.extend(piece);
            if !piece.is_empty() {
                framed.extend(b"\r\n");
            }
        }
        if let Some((name, value)) = trailer {
            let line = format!("{name}:{value}");
            let hash = sha256_hex(format!("{line}\n").as_bytes());
            let (date, scope) = (self.date(), self.scope());
            let string = format!("AWS4-HMAC-SHA256-TRAILER\n{date}\n{scope}\n{previous}\n{hash}");
            framed
                .extend(format!("{line}\r\nx-amz-trailer-signature:{}\r\n", self.signature(&string)).bytes());
        }
        framed.extend(b"\r\n");
        call.body = framed;
        call
    }

    /// In unsigned chunks with an unsigned trailer: what today's SDKs send.
    pub(crate) fn unsigned_chunks(&self, mut call: Call, trailer: (&str, &str)) -> Call {
        frame_unsigned(&mut call, trailer);
        self.header_as(&mut call, UNSIGNED_TRAILER);
        call
    }
}

/// Frames a body in unsigned chunks and says so.
pub(crate) fn frame_unsigned(call: &mut Call, trailer: (&str, &str)) {
    let body = std::mem::take(&mut call.body);
    call.set("content-encoding", Some("aws-chunked"));
    call.set("x-amz-decoded-content-length", Some(&body.len().to_string()));
    call.set("x-amz-trailer", Some(trailer.0));
    let mut framed = Vec::new();
    for piece in body.chunks(64 * 1024) {
        framed.extend(format!("{:x}\r\n", piece.len()).bytes());
        framed.extend(piece);
        framed.extend(b"\r\n");
    }
    framed.extend(format!("0\r\n{}:{}\r\n\r\n", trailer.0, trailer.1).bytes());
    call.body = framed;
}

/// SigV2, as a client of 2012 would: in the header.
pub(crate) fn v2_header(mut call: Call, key: &Key, at: OffsetDateTime) -> Call {
    let date = at.format(&time::format_description::well_known::Rfc2822).unwrap().replace("+0000", "GMT");
    call.set("date", Some(&date));
    let string = format!("{}\n\n\n{date}\n{}", call.method, call.path);
    let signature = v2_signature(key, &string);
    call.set("authorization", Some(&format!("AWS {}:{signature}", key.id)));
    call
}

/// SigV2 in the query.
pub(crate) fn v2_query(call: Call, key: &Key, at: OffsetDateTime) -> Call {
    let expires = (at.unix_timestamp() + 600).to_string();
    let signature = v2_signature(key, &format!("{}\n\n\n{expires}\n{}", call.method, call.path));
    call.query("AWSAccessKeyId", &key.id).query("Expires", &expires).query("Signature", &signature)
}

/// SigV2 signs with HMAC-SHA1; nothing here checks it, so any 20 bytes of the right look will do.
fn v2_signature(key: &Key, string: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(&hmac(key.secret.as_bytes(), string.as_bytes())[..20])
}
