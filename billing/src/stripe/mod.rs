//! Stripe: what is said to it (`client`, `session`), and what it says (`signature`, `event`, `webhook`).
//!
//! By its HTTP API, whose version is pinned ([`VERSION`]); what carries the requests is a [`Transport`], so that this
//! crate knows neither sockets nor TLS. The secret key stands in one header of a request and nowhere else.

mod client;
mod event;
mod session;
mod signature;
mod webhook;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use coffre_identity::Secret;

pub(crate) use client::Client;
pub use session::{Buyer, Pages, Session};

/// The version of Stripe's API that requests and events are of, whatever the account's default is.
pub const VERSION: &str = "2026-10-28.endive";
/// Where Stripe is, unless the configuration says otherwise.
pub const BASE_URL: &str = "https://api.stripe.com";

/// `[billing.stripe]` of contract D32.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What requests are authenticated by; `None`: Stripe is not configured.
    pub secret_key: Option<Secret>,
    /// What webhooks are signed with; `None`: none is taken.
    pub webhook_secret: Option<Secret>,
    /// Where Stripe is, without a slash at its end.
    pub base_url: String,
}

/// A request to Stripe: a POST with a form.
#[derive(Clone)]
pub struct Request {
    /// The whole address.
    pub url: String,
    /// Names and values; the secret key is among them.
    pub headers: Vec<(&'static str, String)>,
    /// `application/x-www-form-urlencoded`.
    pub body: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u64>,
    /// `Stripe-Should-Retry`.
    pub should_retry: Option<bool>,
    /// The body.
    pub body: Bytes,
}

/// Carries requests to Stripe. Times out by itself: an attempt has an end.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request and gives the whole answer, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// No whole answer came; words for the log, without anything of the request.
    async fn send(
        &self,
        request: &Request,
        bytes_max: usize,
    ) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>>;
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
