//! What settings must satisfy beyond their types: pure, one line of reason for each refusal.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use coffre_admin_api::TrustedProxies;
use http::Uri;

use super::keys::{Config, INLINE_MAX, Jwt, MIB};

/// The key and why it is refused.
type Refused = (&'static str, String);

/// Sections and keys of features that this version does not have. They are read and checked, so that one file can
/// be written for a later version; the daemon says at its start which of those given have no effect.
const UNUSED: &[&str] =
    &["s3.lifecycle_interval_seconds", "s3.lifecycle_day_seconds", "outbound", "media", "jobs"];

/// Whether the key belongs to a feature to come.
pub(super) fn is_unused(key: &str) -> bool {
    UNUSED
        .iter()
        .any(|unused| key.strip_prefix(unused).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The first setting that cannot stand.
pub(super) fn check(config: &Config) -> Result<(), Refused> {
    doors(config)?;
    storage(config)?;
    buckets(config)?;
    billing(config)?;
    later(config)
}

/// Listening beyond loopback needs a public URL, or clients would be given addresses that lead nowhere (contract D34).
pub(crate) fn needs_public_url(listen: SocketAddr, public_url: Option<&str>) -> bool {
    !listen.ip().to_canonical().is_loopback() && public_url.is_none()
}

/// The reason given for [`needs_public_url`].
pub(crate) fn public_url_reason(section: &str) -> String {
    format!(
        "is reachable beyond this machine, so clients need to be told an address that works for them: \
         set [{section}] public_url, or listen on 127.0.0.1"
    )
}

fn doors(config: &Config) -> Result<(), Refused> {
    let (s3, rest) = (&config.s3, &config.rest);
    if needs_public_url(s3.listen, s3.public_url.as_deref()) {
        return Err(("s3.listen", public_url_reason("s3")));
    }
    if needs_public_url(rest.listen, rest.public_url.as_deref()) {
        return Err(("rest.listen", public_url_reason("rest")));
    }
    if s3.listen == rest.listen && s3.listen.port() != 0 {
        return Err((
            "rest.listen",
            format!("is the same as s3.listen ({}); each door needs its own", s3.listen),
        ));
    }
    url("s3.public_url", s3.public_url.as_deref())?;
    url("rest.public_url", rest.public_url.as_deref())?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if s3.region.is_empty() || s3.region.len() > 32 || !s3.region.chars().all(plain) {
        return Err(("s3.region", "has to be 1 to 32 of a-z, 0-9 and -".into()));
    }
    if let Some(bad) = s3.domains.iter().find(|domain| !is_host(domain)) {
        return Err(("s3.domains", format!("`{bad}` is not a host name, as `s3.example.org`")));
    }
    for (key, seconds) in [
        ("s3.lifecycle_interval_seconds", s3.lifecycle_interval_seconds),
        ("s3.lifecycle_day_seconds", s3.lifecycle_day_seconds),
    ] {
        if seconds == 0 {
            return Err((key, "has to be at least 1".into()));
        }
    }
    TrustedProxies::parse(rest.trusted_proxies.iter().map(String::as_str)).map_err(|bad| {
        ("rest.trusted_proxies", format!("`{bad}` is neither an address nor a CIDR, as `10.0.0.0/8`"))
    })?;
    let origin_ok = |origin: &String| origin == "*" || is_url(origin);
    if let Some(bad) = rest.cors_origins.iter().find(|origin| !origin_ok(origin)) {
        return Err((
            "rest.cors_origins",
            format!("`{bad}` is neither `*` nor an origin, as `https://app.example.org`"),
        ));
    }
    if rest.metrics_token.as_ref().is_some_and(|token| token.0.is_empty()) {
        return Err(("rest.metrics_token", "is empty; leave it out to open /metrics".into()));
    }
    if !coffre_admin_api::is_zone(&config.filing.timezone) {
        let name = &config.filing.timezone;
        return Err(("filing.timezone", format!("`{name}` is no time zone, as `Europe/Paris` or `UTC`")));
    }
    if config.filing.max_file_size == 0 {
        return Err(("filing.max_file_size", "has to be at least 1".into()));
    }
    match (&config.tls.cert, &config.tls.key) {
        (Some(_), None) => Err(("tls.cert", "needs [tls] key beside it".into())),
        (None, Some(_)) => Err(("tls.key", "needs [tls] cert beside it".into())),
        _ => Ok(()),
    }
}

fn storage(config: &Config) -> Result<(), Refused> {
    let storage = &config.storage;
    let within = |key, value: u64, low: u64, high: u64| {
        if (low..=high).contains(&value) { Ok(()) } else { Err((key, format!("has to be {low} to {high}"))) }
    };
    within("storage.inline_max", storage.inline_max, 0, INLINE_MAX)?;
    within("storage.segment_bytes", storage.segment_bytes, MIB, 1024 * MIB)?;
    within("storage.index_cache_bytes", storage.index_cache_bytes, MIB, 1 << 40)?;
    within("storage.scrub_bytes_per_second", storage.scrub_bytes_per_second, MIB, 1 << 40)?;
    within("storage.grace_seconds", storage.grace_seconds, 0, 30 * 86_400)?;
    within("storage.reserve_bytes", storage.reserve_bytes, MIB, 1 << 50)?;
    if !(0.0..=50.0).contains(&storage.reserve_percent) {
        return Err(("storage.reserve_percent", "has to be 0 to 50".into()));
    }
    within("audit.keep_days", config.audit.keep_days.into(), 1, 36_500)
}

fn buckets(config: &Config) -> Result<(), Refused> {
    let buckets = &config.buckets;
    let mut seen = BTreeSet::new();
    for (key, name) in [
        ("buckets.filing", &buckets.filing),
        ("buckets.gateway", &buckets.gateway),
        ("buckets.media", &buckets.media),
        ("buckets.companies", &buckets.companies),
    ] {
        if name.parse::<coffre_store::BucketName>().is_err() {
            return Err((key, format!("`{name}` is not a bucket name: 3 to 63 of a-z, 0-9, - and .")));
        }
        if !seen.insert(name) {
            return Err((key, format!("`{name}` is the name of two built-in buckets")));
        }
    }
    Ok(())
}

/// Settings of features to come: wrong ones are refused today, so that an upgrade does not meet them.
fn later(config: &Config) -> Result<(), Refused> {
    if !u32::from_str_radix(&config.mount.umask, 8).is_ok_and(|mask| mask <= 0o777) {
        return Err(("mount.umask", "has to be octal, 000 to 777".into()));
    }
    if !(10..=60_000).contains(&config.mount.sync_interval_ms) {
        return Err(("mount.sync_interval_ms", "has to be 10 to 60000".into()));
    }
    if config.mount.bucket.as_ref().is_some_and(|name| name.parse::<coffre_store::BucketName>().is_err()) {
        return Err(("mount.bucket", "is not a bucket name: 3 to 63 of a-z, 0-9, - and .".into()));
    }
    if config.mount.all_buckets && config.mount.bucket.is_some() {
        return Err(("mount.bucket", "excludes mount.all_buckets".into()));
    }
    if let Some(bad) = config.outbound.allow.iter().find(|text| !is_host_port(text)) {
        return Err(("outbound.allow", format!("`{bad}` is not host:port")));
    }
    url("gateway.public_base_url", config.gateway.public_base_url.as_deref())?;
    url("media.describe.base_url", config.media.describe.base_url.as_deref())?;
    config.auth.jwt.iter().try_for_each(jwt)?;
    Ok(())
}

fn billing(config: &Config) -> Result<(), Refused> {
    let stripe = &config.billing.stripe;
    url("billing.stripe.base_url", stripe.base_url.as_deref())?;
    for (key, address) in [
        ("billing.stripe.success_url", &stripe.success_url),
        ("billing.stripe.cancel_url", &stripe.cancel_url),
    ] {
        // Stripe fills `{CHECKOUT_SESSION_ID}` in, which is no part of an address by itself.
        let filled = address.as_ref().map(|address| address.replace(['{', '}'], ""));
        if filled.is_some_and(|address| !is_address(&address)) {
            return Err((key, "has to be an http:// or https:// address with a host".into()));
        }
    }
    for (key, secret) in [
        ("billing.stripe.secret_key", &stripe.secret_key),
        ("billing.stripe.webhook_secret", &stripe.webhook_secret),
    ] {
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if secret.as_ref().is_some_and(|secret| !is_plain(&secret.0)) {
            return Err((
                key,
                "has to be visible characters without spaces; leave it out to have none".into(),
            ));
        }
    }
    coffre_billing::Plans::new(config.billing.sold()).map(drop).map_err(|reason| ("billing.plans", reason))
}

fn jwt(jwt: &Jwt) -> Result<(), Refused> {
    if jwt.issuer.is_empty() {
        return Err(("auth.jwt", "an issuer is empty".into()));
    }
    let keys = [jwt.hs256_secret.is_some(), jwt.jwks_file.is_some(), jwt.jwks_url.is_some()];
    if keys.iter().filter(|given| **given).count() != 1 {
        let reason =
            format!("issuer `{}` needs exactly one of hs256_secret, jwks_file, jwks_url", jwt.issuer);
        return Err(("auth.jwt", reason));
    }
    url("auth.jwt", jwt.jwks_url.as_deref())
}

fn url(key: &'static str, text: Option<&str>) -> Result<(), Refused> {
    if text.is_none_or(is_url) {
        return Ok(());
    }
    Err((key, "has to be an http:// or https:// address with a host".into()))
}

fn is_url(text: &str) -> bool {
    is_address(text) && text.parse::<Uri>().is_ok_and(|uri| uri.query().is_none())
}

/// The same with a query.
fn is_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_host_port(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}
