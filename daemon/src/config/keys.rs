//! Every configuration key of contract D32 with its type and default. What a value must satisfy beyond its type is
//! in `check.rs`; what each means is in `docs/configuration.md`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// The whole configuration. Unknown keys are refused, so that a typing error is not a silent default; keys of doors to
/// come are read and checked, so that one file serves later versions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) s3: S3,
    pub(crate) rest: Rest,
    pub(crate) mount: Mount,
    pub(crate) storage: Storage,
    pub(crate) buckets: Buckets,
    pub(crate) tls: Tls,
    pub(crate) log: Log,
    pub(crate) audit: Audit,
    pub(crate) limits: Limits,
    pub(crate) outbound: Outbound,
    pub(crate) gateway: Gateway,
    pub(crate) filing: Filing,
    pub(crate) auth: Auth,
    pub(crate) billing: Billing,
    pub(crate) media: Media,
    pub(crate) jobs: Jobs,
}

/// A setting that must not appear in logs or messages.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct S3 {
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "words")]
    pub(crate) domains: Vec<String>,
    pub(crate) region: String,
    pub(crate) public_url: Option<String>,
    pub(crate) lifecycle_interval_seconds: u64,
    pub(crate) lifecycle_day_seconds: u64,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            domains: Vec::new(),
            region: "us-east-1".into(),
            public_url: None,
            lifecycle_interval_seconds: 3600,
            lifecycle_day_seconds: 86_400,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rest {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<String>,
    #[serde(deserialize_with = "words")]
    pub(crate) trusted_proxies: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(crate) cors_origins: Vec<String>,
    pub(crate) metrics_token: Option<Secret>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            metrics_token: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) path: Option<PathBuf>,
    pub(crate) bucket: Option<String>,
    pub(crate) prefix: String,
    pub(crate) all_buckets: bool,
    pub(crate) user: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) allow_other: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Octal.
    pub(crate) umask: String,
    pub(crate) passthrough: Passthrough,
    pub(crate) durability: Durability,
    pub(crate) sync_interval_ms: u64,
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            path: None,
            bucket: None,
            prefix: String::new(),
            all_buckets: false,
            user: None,
            read_only: false,
            allow_other: false,
            uid: None,
            gid: None,
            umask: "022".into(),
            passthrough: Passthrough::Auto,
            durability: Durability::Fsync,
            sync_interval_ms: 1000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Passthrough {
    Auto,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    Fsync,
    Close,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    pub(crate) index: Index,
    pub(crate) inline_max: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) reserve_percent: f64,
    pub(crate) grace_seconds: u64,
    pub(crate) index_cache_bytes: u64,
    pub(crate) direct_io: bool,
    pub(crate) scrub_bytes_per_second: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            index: Index::Sled,
            inline_max: INLINE_MAX,
            segment_bytes: 64 * MIB,
            reserve_bytes: 256 * MIB,
            reserve_percent: 2.0,
            grace_seconds: 600,
            // Idle memory stays below 150 MB (contract D38) with the index in this cache.
            index_cache_bytes: 64 * MIB,
            direct_io: true,
            scrub_bytes_per_second: 32 * MIB,
        }
    }
}

/// What finds the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Index {
    Sled,
    Fjall,
}

/// One mebibyte.
pub(crate) const MIB: u64 = 1024 * 1024;
/// Largest blob that may lie in the log: a value of `kv` less its frame (design §2.3).
pub(crate) const INLINE_MAX: u64 = 128 * 1024;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Buckets {
    pub(crate) filing: String,
    pub(crate) gateway: String,
    pub(crate) media: String,
    pub(crate) companies: String,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            filing: "files".into(),
            gateway: "gateway".into(),
            media: "media".into(),
            companies: "companies".into(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Audit {
    pub(crate) keep_days: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep_days: 365 }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) rate: Rate,
}

/// Requests per hour and user.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rate {
    pub(crate) general: u32,
    pub(crate) upload: u32,
    pub(crate) video: u32,
    pub(crate) system: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { general: 1000, upload: 100, video: 10, system: 500 }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Outbound {
    #[serde(deserialize_with = "words")]
    pub(crate) allow: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gateway {
    pub(crate) public_read: bool,
    pub(crate) public_base_url: Option<String>,
    pub(crate) tus_max_size: u64,
    pub(crate) tus_expiry_hours: u32,
}

impl Default for Gateway {
    fn default() -> Self {
        // 5 TiB is the largest S3 object; a day is what upload clients keep their own records for.
        Self { public_read: true, public_base_url: None, tus_max_size: 5 << 40, tus_expiry_hours: 24 }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Filing {
    pub(crate) max_file_size: u64,
    pub(crate) timezone: String,
    pub(crate) debug: bool,
}

impl Default for Filing {
    fn default() -> Self {
        // The document's 10 MB, counted as its framework does.
        Self { max_file_size: 10 * MIB, timezone: "UTC".into(), debug: false }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) jwt: Vec<Jwt>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    pub(crate) issuer: String,
    #[serde(default)]
    pub(crate) audience: Option<String>,
    #[serde(default)]
    pub(crate) hs256_secret: Option<Secret>,
    #[serde(default)]
    pub(crate) jwks_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) jwks_url: Option<String>,
    #[serde(default)]
    pub(crate) create_users: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Billing {
    pub(crate) stripe: Stripe,
    pub(crate) plans: Vec<Plan>,
}

impl Billing {
    /// The plans as `billing` has them.
    pub(crate) fn sold(&self) -> Vec<coffre_billing::Plan> {
        let feature = |feature: &Feature| coffre_billing::Feature {
            key: feature.key.clone(),
            limit: feature.limit,
            period: match feature.period {
                Period::None => coffre_billing::Period::None,
                Period::Month => coffre_billing::Period::Month,
                Period::Year => coffre_billing::Period::Year,
            },
        };
        let plan = |plan: &Plan| coffre_billing::Plan {
            code: plan.code.clone(),
            price: plan.price.clone(),
            features: plan.features.iter().map(feature).collect(),
        };
        self.plans.iter().map(plan).collect()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Stripe {
    pub(crate) secret_key: Option<Secret>,
    pub(crate) webhook_secret: Option<Secret>,
    pub(crate) base_url: Option<String>,
    pub(crate) success_url: Option<String>,
    pub(crate) cancel_url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) price: Option<String>,
    #[serde(default)]
    pub(crate) features: Vec<Feature>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feature {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) limit: Option<u64>,
    #[serde(default)]
    pub(crate) period: Period,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Period {
    #[default]
    None,
    Month,
    Year,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Media {
    pub(crate) ffmpeg: PathBuf,
    pub(crate) time_limit_seconds: u64,
    pub(crate) memory_limit: u64,
    pub(crate) describe: Describe,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            ffmpeg: "ffmpeg".into(),
            time_limit_seconds: 600,
            memory_limit: 1024 * MIB,
            describe: Describe::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Describe {
    pub(crate) provider: Provider,
    pub(crate) base_url: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) api_key: Option<Secret>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Provider {
    #[default]
    Builtin,
    OpenaiCompatible,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jobs {
    pub(crate) workers: usize,
    pub(crate) generators: Vec<String>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { workers: 2, generators: Vec::new() }
    }
}

/// A list of words; from the environment also as `a,b`.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Either::deserialize(from)? {
        Either::Many(words) => words,
        Either::One(text) => {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
    })
}
