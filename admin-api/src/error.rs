//! What went wrong, as a value: [`ApiError`], and the one place where every crate's errors become it.
//!
//! An `ApiError` knows no API: handlers return it, and the frame around the routes (`http::frame`) renders it in the
//! dialect of the request's path and the caller's language. Promises: no secret, no server path, no stack trace in what
//! a caller is told; the unexpected is logged once, with its causes and the request id.

use axum::http::header::{ALLOW, CONTENT_RANGE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coffre_store::Missing;

/// What kind of error it is: for programs. Each dialect has its own status, word and sentence for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// No token, where one is needed.
    AuthRequired,
    /// A token that is none of ours, or revoked.
    AuthInvalid,
    /// A token whose time is over.
    AuthExpired,
    /// The caller may know of it and may not do this.
    PermissionDenied,
    /// A signed link that is not ours.
    BadSignature,
    /// Not there, or not for this caller to see.
    NotFound,
    /// No such route.
    NoRoute,
    /// It was there and is gone for good.
    Gone,
    /// The route has other methods.
    MethodNotAllowed,
    /// What is there is in the way.
    Conflict,
    /// Somebody else is at it right now.
    Locked,
    /// A condition of the request does not hold.
    Precondition,
    /// More bytes than are taken.
    TooLarge,
    /// The body's type is not one that is read here.
    UnsupportedMediaType,
    /// The range lies outside.
    RangeNotSatisfiable,
    /// What was sent cannot be read at all (broken JSON, a form cut off).
    Malformed,
    /// What was sent can be read and is not acceptable.
    Validation,
    /// The bytes are not those that were claimed.
    ChecksumMismatch,
    /// The body ended early, or stood still.
    Incomplete,
    /// The quota is used up.
    QuotaExceeded,
    /// Too many requests.
    RateLimited,
    /// The disk is full but for the reserve.
    NoSpace,
    /// Not now: starting, stopping, or busy; trying again may help.
    Unavailable,
    /// Another service that is needed here refused.
    Upstream,
    /// Our fault.
    Internal,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// For programs.
    pub(crate) code: Code,
    /// Where a route answers with another status than its dialect does for the code.
    pub(crate) status: Option<StatusCode>,
    /// For people, in the caller's language; `None`: the dialect's own words for the code.
    pub(crate) message: Option<String>,
    /// In English, more than the code says: what dialects in English tell where there is no message.
    pub(crate) detail: Option<String>,
    /// What is wrong with which field, in the order found.
    pub(crate) fields: Vec<(String, Vec<String>)>,
    /// Headers of the answer.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Why, for the log; told to callers by filing's `debug` setting alone.
    pub(crate) cause: Option<Box<str>>,
}

impl Code {
    /// The status where a dialect has no other.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::AuthRequired | Self::AuthInvalid | Self::AuthExpired => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied | Self::BadSignature => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Gone => StatusCode::GONE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Locked => StatusCode::LOCKED,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Malformed | Self::Validation | Self::ChecksumMismatch | Self::Incomplete => {
                StatusCode::BAD_REQUEST
            }
            Self::QuotaExceeded => StatusCode::PAYMENT_REQUIRED,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word where a dialect has no other.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AuthRequired => "AUTH_REQUIRED",
            Self::AuthInvalid => "AUTH_INVALID",
            Self::AuthExpired => "AUTH_EXPIRED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::BadSignature => "INVALID_SIGNATURE",
            Self::NotFound | Self::NoRoute => "NOT_FOUND",
            Self::Gone => "GONE",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::Locked => "LOCKED",
            Self::Precondition => "PRECONDITION_FAILED",
            Self::TooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::RangeNotSatisfiable => "RANGE_NOT_SATISFIABLE",
            Self::Malformed | Self::Validation => "VALIDATION_ERROR",
            Self::ChecksumMismatch => "CHECKSUM_MISMATCH",
            Self::Incomplete => "INCOMPLETE_BODY",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::RateLimited => "RATE_LIMIT_EXCEEDED",
            Self::NoSpace => "INSUFFICIENT_STORAGE",
            Self::Unavailable => "SERVICE_UNAVAILABLE",
            Self::Upstream => "UPSTREAM_ERROR",
            Self::Internal => "INTERNAL_ERROR",
        }
    }

    /// The sentence where neither the route nor the dialect has one.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AuthRequired => "Authentication is required: send Authorization: Bearer with a token.",
            Self::AuthInvalid => "The token is not valid.",
            Self::AuthExpired => "The token has expired.",
            Self::PermissionDenied => "You may not do this.",
            Self::BadSignature => "The link's signature is not valid, or its time is over.",
            Self::NotFound => "There is no such thing, or it is not for you to see.",
            Self::NoRoute => "There is nothing at this address.",
            Self::Gone => "It is gone.",
            Self::MethodNotAllowed => {
                "This address does not take this method; the Allow header names those it takes."
            }
            Self::Conflict => "What is there is in the way.",
            Self::Locked => "Another request is at it.",
            Self::Precondition => "A condition of the request does not hold.",
            Self::TooLarge => "The request is larger than is taken here.",
            Self::UnsupportedMediaType => "The body's content type is not read here.",
            Self::RangeNotSatisfiable => "The range lies outside the content.",
            Self::Malformed => "The request cannot be read.",
            Self::Validation => "The request is not valid.",
            Self::ChecksumMismatch => "The bytes received do not have the checksum that was claimed.",
            Self::Incomplete => "The body was not received whole.",
            Self::QuotaExceeded => "The storage quota is exceeded.",
            Self::RateLimited => "Too many requests.",
            Self::NoSpace => "There is no space left.",
            Self::Unavailable => "The service cannot answer now; try again.",
            Self::Upstream => "A service that this one needs refused.",
            Self::Internal => {
                "Something went wrong here; the server's log has the cause under this request id."
            }
        }
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self { code, status: None, message: None, detail: None, fields: vec![], headers: vec![], cause: None }
    }
}

impl ApiError {
    /// With words of its own.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..code.into() }
    }

    /// With a detail in English; a dialect in another language says its own words for the code.
    pub(crate) fn detailed(code: Code, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..code.into() }
    }

    /// A field that is not acceptable.
    pub(crate) fn field(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { fields: vec![(name.into(), vec![what.into()])], ..Code::Validation.into() }
    }

    /// Our fault; the log will have the cause.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string().into()), ..Code::Internal.into() }
    }

    /// With another status than the dialect's.
    #[must_use]
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// With a header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// When to try again.
    #[must_use]
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.with_header(RETRY_AFTER, seconds)
    }

    /// The caller is not known: 401, with the challenge HTTP wants beside it.
    pub(crate) fn unauthorized(code: Code) -> Self {
        Self::from(code).with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The route takes only these methods.
    pub(crate) fn only(methods: &'static str) -> Self {
        Self::from(Code::MethodNotAllowed).with_header(ALLOW, HeaderValue::from_static(methods))
    }

    /// Its message, or the code's own.
    pub(crate) fn words(&self) -> &str {
        self.message.as_deref().or(self.detail.as_deref()).unwrap_or(self.code.words())
    }
}

/// Unrendered: the frame replaces it by the dialect's answer.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status.unwrap_or(self.code.status());
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> Box<str> {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words.into()
}

impl From<coffre_store::Error> for ApiError {
    fn from(error: coffre_store::Error) -> Self {
        use coffre_store::Error as E;
        match &error {
            E::NotFound(
                Missing::Bucket(_)
                | Missing::Key(_)
                | Missing::DeleteMarker(..)
                | Missing::Version(_)
                | Missing::Upload(_)
                | Missing::Setting(_),
            )
            | E::Hidden => Code::NotFound.into(),
            E::Denied | E::Retained => Code::PermissionDenied.into(),
            E::Exists(_) | E::NotEmpty => Code::Conflict.into(),
            E::Precondition { condition } => {
                Self::detailed(Code::Precondition, format!("The condition of {condition} does not hold."))
            }
            // Who sends content answers it with 304 before it gets here (`http::send`).
            E::NotModified(_) => Self::from(Code::Precondition).with_status(StatusCode::NOT_MODIFIED),
            E::Busy => Self::from(Code::Conflict).retry_after(1),
            E::ChecksumMismatch { algorithm } => Self::detailed(
                Code::ChecksumMismatch,
                format!("The {algorithm} of the bytes received differs from the one claimed."),
            ),
            E::NotAsSigned => Code::ChecksumMismatch.into(),
            E::IncompleteBody { source } => {
                // A form's or a limit's own error travels through the store inside the body's stream.
                let told = source.downcast_ref::<Self>().cloned();
                told.unwrap_or_else(|| Self { cause: Some(chain(&error)), ..Code::Incomplete.into() })
            }
            E::Invalid { what } => Self::detailed(Code::Validation, format!("Invalid {what}.")),
            E::KeyTooLong => Self::detailed(Code::Validation, "The path is longer than 1,024 bytes."),
            E::InvalidRange { size_bytes } => {
                let range = HeaderValue::try_from(format!("bytes */{size_bytes}"));
                let range = range.unwrap_or(HeaderValue::from_static("bytes */*"));
                Self::from(Code::RangeNotSatisfiable).with_header(CONTENT_RANGE, range)
            }
            E::BadParts(_) => Self::detailed(Code::Validation, "The parts do not make a whole."),
            E::TooLarge { what, max } => {
                Self::detailed(Code::TooLarge, format!("{what} is larger than {max}."))
            }
            E::QuotaExceeded => Code::QuotaExceeded.into(),
            E::NoSpace => Self { cause: Some(chain(&error)), ..Code::NoSpace.into() },
            E::Stopped => Self { cause: Some(chain(&error)), ..Code::Unavailable.into() }.retry_after(5),
            E::Corrupt { .. } | E::Internal { .. } => Self::internal(chain(&error)),
        }
    }
}

impl From<coffre_identity::Error> for ApiError {
    fn from(error: coffre_identity::Error) -> Self {
        use coffre_identity::Error as E;
        match &error {
            E::NotFound { what } => Self::detailed(Code::NotFound, format!("There is no such {what}.")),
            E::Exists { what } => Self::detailed(Code::Conflict, format!("This {what} is taken.")),
            E::Invalid { what } => Self::detailed(Code::Validation, format!("Invalid {what}.")),
            E::Denied => Code::PermissionDenied.into(),
            E::TokenExpired => Self::unauthorized(Code::AuthExpired),
            E::Busy => Self::from(Code::Conflict).retry_after(1),
            E::NoSpace => Self { cause: Some(chain(&error)), ..Code::NoSpace.into() },
            E::Stopped | E::IssuerUnavailable => {
                Self { cause: Some(chain(&error)), ..Code::Unavailable.into() }.retry_after(5)
            }
            E::MasterKeyMissing
            | E::WrongMasterKey
            | E::MasterKey { .. }
            | E::BadSeal
            | E::Corrupt { .. }
            | E::Internal { .. } => Self::internal(chain(&error)),
        }
    }
}

impl From<coffre_billing::Error> for ApiError {
    fn from(error: coffre_billing::Error) -> Self {
        use coffre_billing::Error as E;
        match &error {
            E::NotFound { what } => Self::detailed(Code::NotFound, format!("There is no such {what}.")),
            E::Invalid { what } => Self::detailed(Code::Validation, format!("Invalid {what}.")),
            // Its own route says it in the documented shape.
            E::Insufficient { .. } => Self::detailed(Code::QuotaExceeded, "Insufficient balance"),
            E::KeyReused => {
                Self::detailed(Code::Conflict, "This Idempotency-Key was used for another request.")
            }
            E::Done { what } => Self::detailed(Code::Conflict, format!("This {what} already.")),
            E::Denied => Code::PermissionDenied.into(),
            E::Busy => Self::from(Code::Unavailable).retry_after(1),
            E::NotConfigured => Self::detailed(Code::Unavailable, "Stripe is not configured"),
            E::Refused { code, .. } => {
                let code = code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
                let cause = Some(chain(&error));
                Self { cause, ..Self::detailed(Code::Upstream, format!("Stripe refused the request{code}.")) }
            }
            E::Unreachable => {
                Self::detailed(Code::Unavailable, "Stripe cannot be reached; try again.").retry_after(5)
            }
            E::BadSignature { why } => {
                let words = format!("The webhook's signature is not valid: {why}.");
                Self::detailed(Code::Validation, words)
            }
            E::NoSpace => Self { cause: Some(chain(&error)), ..Code::NoSpace.into() },
            E::Stopped => Self { cause: Some(chain(&error)), ..Code::Unavailable.into() }.retry_after(5),
            E::Corrupt { .. } | E::Internal { .. } => Self::internal(chain(&error)),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for ApiError {}
