//! Rate limits (contract D14): a fixed window of an hour, from the first call, for each caller and class; in memory.
//!
//! The class of a request is a pure function of method and path: one for each request, on t2m's and the gateway's routes
//! only. Counted before the handler runs, so that a refused body is never read. A restart forgets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;
use coffre_store::UserId;

use crate::error::{ApiError, Code};

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// All that is of no other.
    General,
    /// Uploads, and what prepares one.
    Upload,
    /// What makes videos and GIFs.
    Video,
    /// `/system/…`.
    System,
}

/// Calls an hour for each class (`[limits.rate]`); 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of [`Class::General`].
    pub general: u32,
    /// Of [`Class::Upload`].
    pub upload: u32,
    /// Of [`Class::Video`].
    pub video: u32,
    /// Of [`Class::System`].
    pub system: u32,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    /// A user, whatever its token.
    User(UserId),
    /// Nobody known, from there.
    Address(IpAddr),
}

/// A window's length.
const WINDOW_MS: u64 = 3_600_000;
/// Windows kept; beyond, those that are over are dropped. 40 bytes each.
const WINDOWS_MAX: usize = 100_000;

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

impl Limits {
    fn of(&self, class: Class) -> u32 {
        match class {
            Class::General => self.general,
            Class::Upload => self.upload,
            Class::Video => self.video,
            Class::System => self.system,
        }
    }
}

impl Class {
    /// As the documented sentence says it.
    fn noun(self) -> &'static str {
        match self {
            Self::General => "requests",
            Self::Upload => "uploads",
            Self::Video => "videos",
            Self::System => "system requests",
        }
    }

    /// The class of a request; `None`: it is not limited.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/")?;
        if method == Method::OPTIONS || rest.starts_with("files/secure/") {
            return None;
        }
        let is_post = method == Method::POST;
        match rest.trim_end_matches('/') {
            "auth/health" | "system/health" | "billing/stripe/webhook" => None,
            "files/upload"
            | "files/batch-upload"
            | "files/upload/direct"
            | "files/upload/multipart"
            | "files/upload/generate/presigned-url"
                if is_post =>
            {
                Some(Self::Upload)
            }
            "videos/generate" | "files/video/process" | "files/gifs/generate" if is_post => Some(Self::Video),
            path if path.starts_with("system/") => Some(Self::System),
            // A POST to an upload is a PATCH or DELETE in disguise (X-HTTP-Method-Override).
            path if path.starts_with("files/upload/multipart/")
                && (is_post || method == Method::PATCH || method == Method::HEAD) =>
            {
                None
            }
            _ => Some(Self::General),
        }
    }
}

/// What is left after a call was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    class: Class,
    limit: u32,
    remaining: u32,
    /// When the window is over, ms since 1970.
    reset_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    begun_ms: u64,
    used: u32,
}

/// The windows.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: Limits,
    windows: Mutex<HashMap<(Payer, Class), Window>>,
}

impl Rates {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, windows: Mutex::default() }
    }

    /// Counts a call. `None`: its class has no limit.
    ///
    /// # Errors
    /// `RateLimited`, with the documented sentence and headers.
    pub(crate) fn count(
        &self,
        payer: Payer,
        class: Class,
        now_ms: u64,
    ) -> Result<Option<Allowance>, ApiError> {
        let limit = self.limits.of(class);
        if limit == 0 {
            return Ok(None);
        }
        let (used, begun_ms) = self.take(payer, class, limit, now_ms);
        let reset_ms = begun_ms.saturating_add(WINDOW_MS);
        let allowance = Allowance { class, limit, remaining: limit.saturating_sub(used), reset_ms };
        if used > limit { Err(allowance.refusal(now_ms)) } else { Ok(Some(allowance)) }
    }

    /// Calls of the window with this one, at most one beyond the limit, and when it began.
    fn take(&self, payer: Payer, class: Class, limit: u32, now_ms: u64) -> (u32, u64) {
        let is_over = |window: &Window| now_ms.saturating_sub(window.begun_ms) >= WINDOW_MS;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= WINDOWS_MAX {
            windows.retain(|_, window| !is_over(window));
        }
        let window = windows.entry((payer, class)).or_insert(Window { begun_ms: now_ms, used: 0 });
        if is_over(window) {
            *window = Window { begun_ms: now_ms, used: 0 };
        }
        window.used = window.used.saturating_add(1).min(limit.saturating_add(1));
        (window.used, window.begun_ms)
    }
}

impl Allowance {
    fn refusal(&self, now_ms: u64) -> ApiError {
        let seconds = self.reset_ms.saturating_sub(now_ms).div_ceil(1000).max(1);
        let words = format!(
            "You have exceeded the limit of {} {} per hour. Try again in {} minutes.",
            self.limit,
            self.class.noun(),
            seconds.div_ceil(60)
        );
        let mut error = ApiError::detailed(Code::RateLimited, words).retry_after(seconds);
        error.headers.extend(self.headers());
        error
    }

    fn headers(&self) -> [(HeaderName, HeaderValue); 3] {
        [
            (X_LIMIT, self.limit.into()),
            (X_REMAINING, self.remaining.into()),
            (X_RESET, (self.reset_ms / 1000).into()),
        ]
    }

    /// Tells the caller what is left; `X-RateLimit-Reset` is in seconds since 1970.
    pub(crate) fn tell(&self, response: &mut Response) {
        response.headers_mut().extend(self.headers());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_one_class() {
        use Class::{General, System, Upload, Video};
        for (method, path, class) in [
            ("POST", "/api/v1/files/upload", Some(Upload)),
            ("POST", "/api/v1/files/batch-upload", Some(Upload)),
            ("POST", "/api/v1/files/upload/direct", Some(Upload)),
            ("POST", "/api/v1/files/upload/multipart", Some(Upload)),
            ("POST", "/api/v1/files/upload/multipart/", Some(Upload)),
            ("POST", "/api/v1/files/upload/generate/presigned-url", Some(Upload)),
            ("GET", "/api/v1/files/upload", Some(General)),
            ("PATCH", "/api/v1/files/upload/multipart/u", None),
            ("HEAD", "/api/v1/files/upload/multipart/u", None),
            ("POST", "/api/v1/files/upload/multipart/u", None),
            ("GET", "/api/v1/files/upload/multipart/u", Some(General)),
            ("DELETE", "/api/v1/files/upload/multipart/u", Some(General)),
            ("OPTIONS", "/api/v1/files/upload/multipart", None),
            ("POST", "/api/v1/videos/generate", Some(Video)),
            ("POST", "/api/v1/files/video/process", Some(Video)),
            ("POST", "/api/v1/files/gifs/generate", Some(Video)),
            ("GET", "/api/v1/system/metrics", Some(System)),
            ("POST", "/api/v1/system/optimize", Some(System)),
            ("GET", "/api/v1/system/health", None),
            ("GET", "/api/v1/auth/health", None),
            ("GET", "/api/v1/auth/me", Some(General)),
            ("GET", "/api/v1/files/secure/f", None),
            ("POST", "/api/v1/billing/stripe/webhook", None),
            ("POST", "/api/v1/billing/consume", Some(General)),
            ("GET", "/api/files", None),
            ("GET", "/healthz", None),
        ] {
            assert_eq!(Class::of(&method.parse().unwrap(), path), class, "{method} {path}");
        }
    }

    #[test]
    fn the_window_begins_with_the_first_call() {
        let rates = Rates::new(Limits { general: 2, upload: 1, video: 0, system: 1 });
        let payer = Payer::Address("192.0.2.1".parse().unwrap());
        let count = |class, now_ms| rates.count(payer, class, now_ms);
        let left = |allowed: Result<Option<Allowance>, ApiError>| allowed.unwrap().unwrap().remaining;
        assert_eq!(left(count(Class::General, 1000)), 1);
        assert_eq!(left(count(Class::General, 2000)), 0);
        assert_eq!(left(count(Class::Upload, 2000)), 0, "classes are counted apart");
        let refused = count(Class::General, 61_000).unwrap_err();
        assert_eq!(
            refused.words(),
            "You have exceeded the limit of 2 requests per hour. Try again in 59 minutes."
        );
        let header = |name: &str| {
            let found = refused.headers.iter().find(|(n, _)| n == name).unwrap();
            found.1.to_str().unwrap().to_owned()
        };
        assert_eq!(header("retry-after"), "3540");
        assert_eq!(header("x-ratelimit-limit"), "2");
        assert_eq!(header("x-ratelimit-remaining"), "0");
        assert_eq!(header("x-ratelimit-reset"), "3601");
        assert_eq!(left(count(Class::General, 1000 + WINDOW_MS)), 1, "an hour after the first call");
        assert_eq!(count(Class::Video, 0), Ok(None), "0 is no limit");
    }
}
