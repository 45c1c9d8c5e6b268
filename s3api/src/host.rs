//! Virtual-host style: which hosts name a bucket.
//!
//! Promises that only subdomains of the configured domains do; every other host, an address or `localhost` too, is
//! path style (s3s's own parser would take an unknown host for a bucket of that name). "Virtual hosting of buckets"
//! of the S3 user guide.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

use crate::Error;

/// The configured domains, lower case.
#[derive(Debug)]
pub(crate) struct Domains(Vec<String>);

impl Domains {
    pub(crate) fn new(domains: Vec<String>) -> Result<Self, Error> {
        let mut known: Vec<String> = Vec::new();
        for domain in domains {
            let lower = domain.to_ascii_lowercase();
            let is_label = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            if !lower.split('.').all(is_label) || lower.parse::<std::net::IpAddr>().is_ok() {
                return Err(Error::Domain {
                    domain,
                    reason: "letters, digits, dots and hyphens, no port, no address",
                });
            }
            let overlaps =
                |other: &String| within(&lower, other).is_some() || within(other, &lower).is_some();
            if known.iter().any(overlaps) {
                return Err(Error::Domain { domain, reason: "it is, or lies within, another of them" });
            }
            known.push(lower);
        }
        Ok(Self(known))
    }
}

/// What stands before a domain: `Some("")` for itself, `Some(bucket)` for a subdomain.
fn within<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let rest = host.strip_suffix(domain)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let lower = host.to_ascii_lowercase();
        let name = match lower.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &lower,
        };
        for domain in &self.0 {
            match within(name, domain) {
                Some("") => return Ok(VirtualHost::new(domain.as_str())),
                Some(bucket) => return Ok(VirtualHost::new(domain.as_str()).with_bucket(bucket.to_owned())),
                None => {}
            }
        }
        Ok(VirtualHost::new(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_subdomains_are_buckets() {
        let domains = Domains::new(vec!["s3.example.com".into(), "Store.test".into()]).unwrap();
        let check = |host: &str, bucket: Option<&str>| {
            assert_eq!(domains.parse_host_header(host).unwrap().bucket(), bucket, "{host}");
        };
        check("s3.example.com", None);
        check("s3.example.com:9000", None);
        check("photos.s3.example.com:9000", Some("photos"));
        check("a.b.s3.example.com", Some("a.b"));
        check("PHOTOS.STORE.TEST", Some("photos"));
        check("evils3.example.com", None);
        check("localhost:9000", None);
        check("127.0.0.1:9000", None);
        check("[::1]:9000", None);
        check("photos.elsewhere.com", None);
    }

    #[test]
    fn domains_that_are_none() {
        for bad in
            [vec!["a..b"], vec![""], vec!["a:9000"], vec!["127.0.0.1"], vec!["a.b", "c.a.b"], vec!["a", "A"]]
        {
            assert!(Domains::new(bad.iter().map(ToString::to_string).collect()).is_err(), "{bad:?}");
        }
    }
}
