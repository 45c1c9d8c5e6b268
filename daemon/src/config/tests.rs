//! What is read, in which order, and each refusal with its words.

use std::io::Write as _;

use super::*;

/// Settings of a file, the environment and flags, read together.
fn load(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Loaded> {
    let mut held = tempfile::Builder::new().prefix("coffre-").suffix(".toml").tempfile().unwrap();
    held.write_all(file.as_bytes()).unwrap();
    Sources {
        file: Some(held.path().to_owned()),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
    }
    .load()
}

/// Place (the file's folder and random name cut), key and reason of a refusal.
fn refusal(loaded: Result<Loaded>) -> (String, String, String) {
    match loaded.expect_err("refused") {
        Error::Setting { place, key, reason } => {
            let place = if place.starts_with('/') { "FILE".to_owned() } else { place };
            (place, key, reason)
        }
        other => panic!("another kind of error: {other}"),
    }
}

#[test]
fn nothing_given_is_loopback() {
    let loaded = Sources::default().load().unwrap();
    assert_eq!(loaded.config.s3.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(loaded.config.rest.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(loaded.config.storage.inline_max, 131_072);
    assert_eq!(loaded.config.storage.grace_seconds, 600);
    assert_eq!(loaded.given, []);
}

#[test]
fn flags_beat_the_environment_beats_the_file() {
    let file = "[s3]\nlisten = \"127.0.0.1:1\"\nregion = \"from-file\"\n[log]\nlevel = \"debug\"\n";
    let environment = [("COFFRE_S3__LISTEN", "127.0.0.1:2"), ("COFFRE_LOG__LEVEL", "warn")];
    let loaded = load(file, &environment, &[("s3.listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(loaded.config.s3.listen.port(), 3);
    assert_eq!(loaded.config.s3.region, "from-file");
    assert_eq!(loaded.config.log.level, LogLevel::Warn);
    let given: Vec<(&str, &str)> = loaded
        .given
        .iter()
        .map(|given| {
            (given.key.as_str(), if given.place.starts_with('/') { "FILE" } else { given.place.as_str() })
        })
        .collect();
    let expected = [("log.level", "COFFRE_LOG__LEVEL"), ("s3.listen", "--s3-listen"), ("s3.region", "FILE")];
    assert_eq!(given, expected);
}

#[test]
fn variables_are_read_by_the_keys_type() {
    let environment = [
        ("COFFRE_STORAGE__GRACE_SECONDS", "7"),
        ("COFFRE_STORAGE__RESERVE_PERCENT", "0.5"),
        ("COFFRE_STORAGE__DIRECT_IO", "false"),
        // a token of digits is no number
        ("COFFRE_REST__METRICS_TOKEN", "0123"),
        ("COFFRE_S3__DOMAINS", "s3.example.org, s3.example.net"),
        ("COFFRE_REST__CORS_ORIGINS", "[\"*\"]"),
        ("COFFRE_AUTH__JWT", "[{issuer=\"me\",hs256_secret=\"s\"}]"),
        // not ours
        ("COFFRE_SERVICE_PORT", "tcp://10.0.0.1:9000"),
        ("COFFRE_MASTER_KEY", "00"),
        ("PATH", "/bin"),
    ];
    let config = load("", &environment, &[]).unwrap().config;
    assert_eq!(config.storage.grace_seconds, 7);
    assert!((config.storage.reserve_percent - 0.5).abs() < f64::EPSILON);
    assert!(!config.storage.direct_io);
    assert_eq!(config.rest.metrics_token.unwrap().0, "0123");
    assert_eq!(config.s3.domains, ["s3.example.org", "s3.example.net"]);
    assert_eq!(config.rest.cors_origins, ["*"]);
    assert_eq!(config.auth.jwt.len(), 1);
}

/// Every refused setting: the file's text, the key named, a part of the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    // unknown keys, at every level
    ("listen = 1", "listen", "no such key"),
    ("[s4]\nlisten = \"127.0.0.1:1\"", "s4", "no such key; known here: s3, rest"),
    ("[s3]\nlissten = \"127.0.0.1:1\"", "s3.lissten", "no such key; known here: listen"),
    ("[limits.rate]\nuploads = 1", "limits.rate.uploads", "no such key"),
    ("[[auth.jwt]]\nissuer = \"x\"\nsecret = \"y\"", "auth.jwt.0.secret", "no such key"),
    // types
    ("[s3]\nlisten = 9000", "s3.listen", "has to be"),
    ("[s3]\nlisten = \"localhost\"", "s3.listen", "invalid socket address"),
    ("[storage]\ngrace_seconds = \"soon\"", "storage.grace_seconds", "has to be"),
    ("[storage]\ngrace_seconds = -1", "storage.grace_seconds", "has to be"),
    ("[log]\nlevel = \"loud\"", "log.level", "has to be one of error, warn, info, debug, trace"),
    ("[log]\nformat = \"xml\"", "log.format", "has to be one of text, json"),
    ("[mount]\npassthrough = \"on\"", "mount.passthrough", "has to be one of auto, off"),
    ("[mount]\ndurability = \"never\"", "mount.durability", "has to be one of fsync, close"),
    ("[media.describe]\nprovider = \"oracle\"", "media.describe.provider", "has to be one of builtin"),
    ("[[auth.jwt]]\naudience = \"x\"", "auth.jwt.0", "issuer is missing"),
    // doors (contract D34)
    ("[s3]\nlisten = \"0.0.0.0:9000\"", "s3.listen", "set [s3] public_url, or listen on 127.0.0.1"),
    ("[rest]\nlisten = \"[::]:8080\"", "rest.listen", "set [rest] public_url, or listen on 127.0.0.1"),
    ("[rest]\nlisten = \"127.0.0.1:9000\"", "rest.listen", "is the same as s3.listen"),
    ("[s3]\npublic_url = \"s3.example.org\"", "s3.public_url", "http:// or https://"),
    ("[s3]\npublic_url = \"ftp://x\"", "s3.public_url", "http:// or https://"),
    ("[rest]\npublic_url = \"https://x/?a=b\"", "rest.public_url", "http:// or https://"),
    ("[s3]\nregion = \"\"", "s3.region", "1 to 32"),
    ("[s3]\nregion = \"EU west\"", "s3.region", "1 to 32"),
    ("[s3]\ndomains = [\"a..b\"]", "s3.domains", "`a..b` is not a host name"),
    ("[s3]\nlifecycle_interval_seconds = 0", "s3.lifecycle_interval_seconds", "at least 1"),
    ("[s3]\nlifecycle_day_seconds = 0", "s3.lifecycle_day_seconds", "at least 1"),
    ("[rest]\ntrusted_proxies = [\"10.0.0.0/33\"]", "rest.trusted_proxies", "neither an address nor a CIDR"),
    ("[rest]\ncors_origins = [\"example.org\"]", "rest.cors_origins", "neither `*` nor an origin"),
    ("[rest]\nmetrics_token = \"\"", "rest.metrics_token", "is empty"),
    ("[tls]\ncert = \"c.pem\"", "tls.cert", "needs [tls] key"),
    ("[tls]\nkey = \"k.pem\"", "tls.key", "needs [tls] cert"),
    // storage
    ("[storage]\ninline_max = 131073", "storage.inline_max", "has to be 0 to 131072"),
    ("[storage]\nsegment_bytes = 1000", "storage.segment_bytes", "has to be 1048576 to"),
    ("[storage]\nindex = \"redb\"", "storage.index", "has to be one of sled, fjall"),
    ("[storage]\nindex_cache_bytes = 1", "storage.index_cache_bytes", "has to be"),
    ("[storage]\nscrub_bytes_per_second = 0", "storage.scrub_bytes_per_second", "has to be"),
    ("[storage]\ngrace_seconds = 3000000", "storage.grace_seconds", "has to be 0 to"),
    ("[storage]\nreserve_bytes = 0", "storage.reserve_bytes", "has to be"),
    ("[storage]\nreserve_percent = 51.0", "storage.reserve_percent", "has to be 0 to 50"),
    ("[storage]\nreserve_percent = nan", "storage.reserve_percent", "has to be 0 to 50"),
    ("[audit]\nkeep_days = 0", "audit.keep_days", "has to be 1 to"),
    ("[buckets]\nfiling = \"Files\"", "buckets.filing", "`Files` is not a bucket name"),
    ("[buckets]\nmedia = \"files\"", "buckets.media", "`files` is the name of two built-in buckets"),
    ("[filing]\ntimezone = \"Mars/Olympus\"", "filing.timezone", "`Mars/Olympus` is no time zone"),
    ("[filing]\nmax_file_size = 0", "filing.max_file_size", "has to be at least 1"),
    // features to come
    ("[mount]\numask = \"999\"", "mount.umask", "octal"),
    ("[mount]\nsync_interval_ms = 1", "mount.sync_interval_ms", "10 to 60000"),
    ("[mount]\nbucket = \"B\"", "mount.bucket", "not a bucket name"),
    ("[mount]\nall_buckets = true\nbucket = \"files\"", "mount.bucket", "excludes mount.all_buckets"),
    ("[outbound]\nallow = [\"example.org\"]", "outbound.allow", "`example.org` is not host:port"),
    ("[gateway]\npublic_base_url = \"x\"", "gateway.public_base_url", "http:// or https://"),
    ("[billing.stripe]\nbase_url = \"x\"", "billing.stripe.base_url", "http:// or https://"),
    ("[billing.stripe]\nsuccess_url = \"x\"", "billing.stripe.success_url", "http:// or https://"),
    ("[billing.stripe]\ncancel_url = \"x\"", "billing.stripe.cancel_url", "http:// or https://"),
    ("[media.describe]\nbase_url = \"x\"", "media.describe.base_url", "http:// or https://"),
    ("[[auth.jwt]]\nissuer = \"x\"", "auth.jwt", "exactly one of"),
    ("[[auth.jwt]]\nissuer = \"\"\nhs256_secret = \"s\"", "auth.jwt", "issuer is empty"),
    ("[[auth.jwt]]\nissuer = \"x\"\njwks_url = \"y\"", "auth.jwt", "http:// or https://"),
    ("[[billing.plans]]\ncode = \"a\"\n[[billing.plans]]\ncode = \"a\"", "billing.plans", "`a` stands twice"),
];

#[test]
fn wrong_settings_are_refused_with_place_key_and_reason() {
    for (file, expected_key, expected_reason) in REFUSED {
        let (place, key, reason) = refusal(load(file, &[], &[]));
        assert_eq!(key, *expected_key, "{file}: {reason}");
        assert!(reason.contains(expected_reason), "{file}: {reason}");
        assert_eq!(place, "FILE", "{file}");
    }
}

#[test]
fn a_refusal_names_the_variable_or_flag() {
    let variable = refusal(load("", &[("COFFRE_S3__REGION", "EU west")], &[]));
    assert_eq!((variable.0.as_str(), variable.1.as_str()), ("COFFRE_S3__REGION", "s3.region"));
    let unknown = refusal(load("", &[("COFFRE_S3__LISSTEN", "127.0.0.1:1")], &[]));
    assert_eq!((unknown.0.as_str(), unknown.1.as_str()), ("COFFRE_S3__LISSTEN", "s3.lissten"));
    let typed = refusal(load("", &[("COFFRE_STORAGE__GRACE_SECONDS", "soon")], &[]));
    assert_eq!(
        (typed.0.as_str(), typed.1.as_str()),
        ("COFFRE_STORAGE__GRACE_SECONDS", "storage.grace_seconds")
    );
    let flag = refusal(load("", &[], &[("s3.listen", "0.0.0.0:9000")]));
    assert_eq!((flag.0.as_str(), flag.1.as_str()), ("--s3-listen", "s3.listen"));
}

#[test]
fn a_refusal_does_not_repeat_a_secret() {
    let (_, _, reason) = refusal(load("[rest]\nmetrics_token = [\"hunter2\"]", &[], &[]));
    assert!(!reason.contains("hunter2"), "{reason}");
    let error = load("[rest]\nmetrics_token = \"hunter2", &[], &[]).expect_err("not TOML");
    assert!(matches!(error, Error::ConfigFile { .. }), "{error}");
    assert!(error.to_string().contains("line 2") && !error.to_string().contains("hunter2"), "{error}");
    let config = load("[rest]\nmetrics_token = \"hunter2\"", &[], &[]).unwrap().config;
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn beyond_loopback_a_public_url_opens_the_door() {
    let file = "[s3]\nlisten = \"0.0.0.0:9000\"\npublic_url = \"https://s3.example.org\"";
    assert!(load(file, &[], &[]).is_ok());
    assert!(load("[s3]\nlisten = \"[::1]:9000\"", &[], &[]).is_ok());
    assert!(load("[s3]\nlisten = \"[::ffff:127.0.0.1]:9000\"", &[], &[]).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let sources = Sources { file: Some("/nowhere/coffre.toml".into()), ..Sources::default() };
    let error = sources.load().expect_err("refused");
    assert!(error.to_string().starts_with("/nowhere/coffre.toml: cannot be read"), "{error}");
}

#[test]
fn settings_of_features_to_come_are_told() {
    let loaded = load("[jobs]\nworkers = 3\n[s3]\nregion = \"r\"", &[], &[]).unwrap();
    let unused: Vec<&str> = loaded.given.iter().filter(|g| g.is_unused).map(|g| g.key.as_str()).collect();
    assert_eq!(unused, ["jobs.workers"]);
}

/// The operator's reference has a row for every key.
#[test]
fn the_reference_has_every_key() {
    let reference = include_str!("../../../docs/configuration.md");
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let mut keys = 0;
    for line in include_str!("keys.rs").lines() {
        let field = line.trim().strip_prefix("pub(crate) ").and_then(|rest| rest.split_once(": "));
        let Some((name, _)) = field.filter(|(name, _)| is_name(name)) else { continue };
        keys += 1;
        // A section stands in a heading, a key in backquotes.
        let is_told = [format!("`{name}`"), format!("{name}]"), format!("[{name}.")];
        let is_told = is_told.iter().any(|words| reference.contains(words));
        assert!(is_told, "docs/configuration.md does not tell {name}");
    }
    assert!(keys > 60, "{keys} keys found");
}
