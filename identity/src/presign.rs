//! Signed links to the S3 door (SigV4 in the query), so that another door can hand them out without knowing that one.
//!
//! Who hands a link out lends its own rights to it: the link is signed by a key that stands for a token (or, where
//! there is no token of ours, for a user). Such a key is derived from the master key and never leaves the daemon; it has
//! no row, lives as long as what it stands for, and dies with it: a revoked token's links stop working at once.
//! Presigning is pure: a function of key, request and time ("Authenticating Requests: Using Query Parameters" of the
//! S3 API reference).

use std::sync::Arc;

use coffre_store::UserId;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use crate::Identity;
use crate::error::{Error, Result};
use crate::key::KeyHolder;
use crate::seal::Secret;
use crate::token::TokenHolder;

/// Longest life of a signed link, seconds (S3).
pub const EXPIRES_S_MAX: u64 = 604_800;
/// What ids of keys begin with that stand for a token, and for a user.
const OF_TOKEN: &str = "CFKT";
const OF_USER: &str = "CFKU";
/// Everything but the unreserved characters (RFC 3986 §2.3).
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, `/` kept: for paths.
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// What signs links.
#[derive(Clone, Debug)]
pub struct LinkKey {
    /// Its name in the link.
    pub id: String,
    /// What signs.
    pub secret: Secret,
}

/// A request that a link allows.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    /// `GET`, `PUT`, …
    pub method: &'a str,
    /// Scheme, host and port of the door, and what comes before `path`, without a slash at its end.
    pub base_url: &'a str,
    /// Begins with a slash; not encoded.
    pub path: &'a str,
    /// Parameters; `x-amz-meta-…` among them count like headers.
    pub query: &'a [(String, String)],
    /// Headers that have to be sent as they stand here; lower-case names.
    pub headers: &'a [(String, String)],
    /// The door's region.
    pub region: &'a str,
    /// How long it works, seconds: 1 to [`EXPIRES_S_MAX`].
    pub expires_s: u64,
}

/// What a key's id says it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    For(Uuid),
    ForUser(UserId),
}

/// Reads the id of a link's key.
pub(crate) fn parse_id(id: &str) -> Option<Stands> {
    let uuid = |hex: &str| {
        let is_ours = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        if is_ours { Uuid::try_parse(hex).ok() } else { None }
    };
    if let Some(token) = id.strip_prefix(OF_TOKEN) {
        return uuid(token).map(Stands::For);
    }
    uuid(id.strip_prefix(OF_USER)?).map(|user| Stands::ForUser(UserId(user)))
}

impl Identity {
    /// The key that signs links with a token's rights.
    pub fn link_key_of_token(&self, token: Uuid) -> LinkKey {
        self.link_key(format!("{OF_TOKEN}{}", hex::encode_upper(token.as_bytes())))
    }

    /// The key that signs links with the rights of who brought a token: one of ours, or somebody else's JWT, which
    /// stands for its user.
    pub fn link_key_of(&self, holder: &TokenHolder) -> LinkKey {
        holder.id.map_or_else(|| self.link_key_of_user(holder.user), |id| self.link_key_of_token(id))
    }

    /// The key that signs links with a user's rights.
    pub fn link_key_of_user(&self, user: UserId) -> LinkKey {
        self.link_key(format!("{OF_USER}{}", hex::encode_upper(user.0.as_bytes())))
    }

    fn link_key(&self, id: String) -> LinkKey {
        let mac = hmac(self.master().bytes(), format!("link key {id}").as_bytes());
        LinkKey { secret: Secret::new(hex::encode(mac)), id }
    }

    /// Who signs with a link's key; `None` when what it stands for is gone or its time is over.
    pub(crate) async fn find_link_key(&self, id: &str, stands: Stands) -> Result<Option<KeyHolder>> {
        let principal = match stands {
            Stands::For(token) => match self.holder_of_token(token).await {
                Ok(Some(holder)) => holder.principal,
                Ok(None) | Err(Error::TokenExpired) => return Ok(None),
                Err(error) => return Err(error),
            },
            Stands::ForUser(user) => match self.user_by_id(user).await? {
                Some(user) if !user.is_disabled => Arc::new(self.principal(&user).await?),
                Some(_) | None => return Ok(None),
            },
        };
        let secret = self.link_key(id.to_owned()).secret;
        Ok(Some(KeyHolder { secret, principal, is_enabled: true }))
    }
}

/// The link.
///
/// # Errors
/// `Invalid` for a life that is too long or a base that is no address.
pub fn presign(key: &LinkKey, link: &Link<'_>, now_ms: u64) -> Result<String> {
    if !(1..=EXPIRES_S_MAX).contains(&link.expires_s) {
        return Err(Error::Invalid { what: "life of a link: 1 to 604800 seconds" });
    }
    let (host, before) = host_of(link.base_url).ok_or(Error::Invalid { what: "base of a link" })?;
    let seconds = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Invalid { what: "time" })?;
    let stamp = now
        .format(format_description!("[year][month][day]T[hour][minute][second]Z"))
        .map_err(|_| Error::Invalid { what: "time" })?;
    let day = stamp.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/s3/aws4_request", link.region);
    let mut headers = link.headers.to_vec();
    headers.push(("host".to_owned(), host.to_owned()));
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let mut query = link.query.to_vec();
    for (name, value) in [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("{}/{scope}", key.id)),
        ("X-Amz-Date", stamp.clone()),
        ("X-Amz-Expires", link.expires_s.to_string()),
        ("X-Amz-SignedHeaders", names.clone()),
    ] {
        query.push((name.to_owned(), value));
    }
    let query = canonical_query(&query);
    let path = format!("{before}{}", utf8_percent_encode(link.path, PATH));
    let lines: String =
        headers.iter().flat_map(|(name, value)| [name.as_str(), ":", value.trim(), "\n"]).collect();
    let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD", link.method);
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
    let signature = hex::encode(hmac(&signing_key(&key.secret, day, link.region), text.as_bytes()));
    let origin = link.base_url.strip_suffix(before).unwrap_or(link.base_url);
    Ok(format!("{origin}{path}?{query}&X-Amz-Signature={signature}"))
}

/// Where an object is without a signature: the same address, encoded the same way.
pub fn address(base_url: &str, path: &str) -> String {
    format!("{base_url}{}", utf8_percent_encode(path, PATH))
}

/// Host with port, and what follows it.
fn host_of(base_url: &str) -> Option<(&str, &str)> {
    let (_, rest) = base_url.split_once("://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, before) = rest.split_at_checked(end)?;
    (!host.is_empty()).then_some((host, before))
}

fn canonical_query(query: &[(String, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, STRICT).to_string();
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn signing_key(secret: &Secret, day: &str, region: &str) -> [u8; 32] {
    let first = hmac(format!("AWS4{}", secret.expose()).as_bytes(), day.as_bytes());
    [region, "s3", "aws4_request"].iter().fold(first, |key, next| hmac(&key, next.as_bytes()))
}

/// HMAC-SHA256.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{identity, system};
    use crate::token::NewToken;

    /// The example of "Authenticating Requests: Using Query Parameters" (S3 API reference).
    #[test]
    fn the_published_example_has_the_published_signature() {
        let key = LinkKey {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        };
        let link = Link {
            method: "GET",
            base_url: "https://examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            headers: &[],
            region: "us-east-1",
            expires_s: 86_400,
        };
        let url = presign(&key, &link, 1_369_353_600_000).unwrap();
        assert_eq!(
            url,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
        for expires_s in [0, EXPIRES_S_MAX + 1] {
            assert!(presign(&key, &Link { expires_s, ..link.clone() }, 0).is_err());
        }
        assert!(presign(&key, &Link { base_url: "nowhere", ..link }, 0).is_err());
    }

    #[test]
    fn a_base_may_have_a_path_and_names_are_encoded_once() {
        let key = LinkKey { id: "K".into(), secret: Secret::new("S".into()) };
        let link = Link {
            method: "PUT",
            base_url: "http://127.0.0.1:9000/gateway",
            path: "/a/b/é x+(1).md",
            query: &[("x-amz-meta-tag".into(), "a b/é".into())],
            headers: &[("content-type".into(), "text/plain".into())],
            region: "us-east-1",
            expires_s: 1,
        };
        let url = presign(&key, &link, 0).unwrap();
        assert!(
            url.starts_with("http://127.0.0.1:9000/gateway/a/b/%C3%A9%20x%2B%281%29.md?X-Amz-Algorithm=")
        );
        assert!(
            url.contains("&X-Amz-SignedHeaders=content-type%3Bhost&x-amz-meta-tag=a%20b%2F%C3%A9&"),
            "{url}"
        );
        assert_eq!(url.split('?').next(), Some(address(link.base_url, link.path).as_str()));
    }

    #[tokio::test]
    async fn a_links_key_lives_and_dies_with_its_token() {
        let identity = identity(Arc::new(coffre_kv::memory::Memory::new())).await;
        let cx = system();
        let user = identity
            .create_user(&cx, crate::NewUser { name: "u".into(), email: None, role: crate::Role::User })
            .await
            .unwrap();
        let new = NewToken {
            application: Some("app".into()),
            grant: Some("g".into()),
            ..NewToken::of(user.id, "t")
        };
        let issued = identity.create_token(&cx, new).await.unwrap();
        let key = identity.link_key_of_token(issued.id);
        let holder = identity.find_access_key(&key.id).await.unwrap().unwrap();
        assert_eq!(holder.secret, key.secret);
        assert_eq!(holder.principal.gateway_prefix.as_deref(), Some("app/g"));
        let of_user = identity.link_key_of_user(user.id);
        assert_ne!(of_user.secret, key.secret);
        let holder = identity.find_access_key(&of_user.id).await.unwrap().unwrap();
        assert_eq!((holder.principal.user(), &holder.principal.gateway_prefix), (Some(user.id), &None));
        identity.revoke_token(&cx, issued.id).await.unwrap();
        assert!(identity.find_access_key(&key.id).await.unwrap().is_none());
        for id in ["CFKT", "CFKTxyz", &key.id.to_lowercase(), &format!("{}0", key.id)] {
            assert!(identity.find_access_key(id).await.unwrap().is_none(), "{id}");
        }
    }
}
