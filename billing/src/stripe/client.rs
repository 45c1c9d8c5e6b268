//! Requests to Stripe: form encoding, pinned version, idempotency keys, retries with backoff, errors mapped.
//!
//! A request is sent again with its idempotency key when no answer came, on 409 (another request with the key is under
//! way), 429 and 5xx, unless Stripe says otherwise (`Stripe-Should-Retry`); after [`TRIES`] it is `Unreachable`. What
//! Stripe refuses for good is `Refused` with its code alone: its sentences may quote what was sent.

use std::sync::Arc;
use std::time::Duration;

use form_urlencoded::Serializer;
use rand::Rng as _;
use serde_json::Value;

use super::{Reply, Request, Settings, Transport, VERSION};
use crate::error::{Error, Result};

/// How often a request is sent at most.
const TRIES: u32 = 3;
/// Pause before the second try; each further one doubles it. As Stripe's own libraries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause, whatever `Retry-After` says: somebody waits for the answer.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Longest error code that is repeated.
const CODE_BYTES_MAX: usize = 64;

/// Speaks to Stripe.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) settings: Settings,
    transport: Arc<dyn Transport>,
    /// Before the second try.
    pause: Duration,
}

/// What to do after an answer.
#[derive(Debug)]
enum Verdict {
    Done(Value),
    Again(Option<Duration>),
    Never(Error),
}

impl Client {
    pub(crate) fn new(settings: Settings, transport: Arc<dyn Transport>) -> Self {
        Self { settings, transport, pause: PAUSE }
    }

    /// Whether there is a secret key.
    ///
    /// # Errors
    /// `NotConfigured`.
    pub(crate) fn configured(&self) -> Result<()> {
        self.settings.secret_key.as_ref().map(drop).ok_or(Error::NotConfigured)
    }

    /// A POST; the object that Stripe answers with.
    ///
    /// # Errors
    /// `NotConfigured`, `Refused`, `Unreachable`.
    pub(super) async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        idempotency_key: &str,
    ) -> Result<Value> {
        let request = self.request(path, form, idempotency_key)?;
        for n in 0..TRIES {
            let verdict = match self.transport.send(&request, ANSWER_BYTES_MAX).await {
                Ok(reply) => judge(&reply),
                Err(error) => {
                    tracing::warn!(path, %error, "no answer from Stripe");
                    Verdict::Again(None)
                }
            };
            match verdict {
                Verdict::Done(value) => return Ok(value),
                Verdict::Never(error) => {
                    tracing::warn!(path, %error, "Stripe refused a request");
                    return Err(error);
                }
                Verdict::Again(asked) if n + 1 < TRIES => {
                    pause(self.pause.saturating_mul(1 << n), asked).await;
                }
                Verdict::Again(_) => {}
            }
        }
        tracing::warn!(path, tries = TRIES, "Stripe cannot be reached");
        Err(Error::Unreachable)
    }

    fn request(&self, path: &str, form: &[(&str, &str)], idempotency_key: &str) -> Result<Request> {
        let secret = self.settings.secret_key.as_ref().ok_or(Error::NotConfigured)?;
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form);
        Ok(Request {
            url: format!("{}{path}", self.settings.base_url),
            headers: vec![
                ("authorization", format!("Bearer {}", secret.expose())),
                ("stripe-version", VERSION.to_owned()),
                ("idempotency-key", idempotency_key.to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ],
            body: body.finish(),
        })
    }
}

/// What an answer means.
fn judge(reply: &Reply) -> Verdict {
    let value = serde_json::from_slice::<Value>(&reply.body).ok();
    if (200..300).contains(&reply.status) {
        // A success that is no JSON came from somebody in between.
        return value.map_or(Verdict::Again(None), Verdict::Done);
    }
    let may_pass = matches!(reply.status, 409 | 429) || reply.status >= 500;
    if reply.should_retry.unwrap_or(may_pass) {
        return Verdict::Again(reply.retry_after_s.map(Duration::from_secs));
    }
    if reply.status >= 500 || reply.status == 429 {
        return Verdict::Never(Error::Unreachable);
    }
    Verdict::Never(Error::Refused { status: reply.status, code: value.as_ref().and_then(code_of) })
}

/// The code of Stripe's error, or its type: if it is a plain word.
fn code_of(answer: &Value) -> Option<String> {
    let error = answer.get("error")?;
    let word = error.get("code").or_else(|| error.get("type"))?.as_str()?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (word.len() <= CODE_BYTES_MAX && word.chars().all(is_plain)).then(|| word.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a pause between tries: Stripe is to recover meanwhile")]
async fn pause(most: Duration, asked: Option<Duration>) {
    // Half of it at random: callers that failed together do not come back together.
    let own = most.mul_f64(rand::rng().random_range(0.5..1.0));
    tokio::time::sleep(own.max(asked.unwrap_or_default()).min(PAUSE_MAX)).await;
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use coffre_identity::Secret;

    use super::*;

    /// Gives these answers, and keeps what was asked.
    #[derive(Debug, Default)]
    struct Script(Mutex<(VecDeque<Option<Reply>>, Vec<Request>)>);

    #[async_trait]
    impl Transport for Script {
        async fn send(
            &self,
            request: &Request,
            _: usize,
        ) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
            let mut state = self.0.lock().unwrap();
            state.1.push(request.clone());
            state.0.pop_front().flatten().ok_or_else(|| "cut off".into())
        }
    }

    fn whole(status: u16, body: &str) -> Reply {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Reply { status, retry_after_s: None, should_retry: None, body }
    }

    /// An answer that comes.
    #[expect(clippy::unnecessary_wraps, reason = "beside `None`, which does not come")]
    fn reply(status: u16, body: &str) -> Option<Reply> {
        Some(whole(status, body))
    }

    async fn ask(answers: Vec<Option<Reply>>) -> (Result<Value>, Vec<Request>) {
        let script = Arc::new(Script(Mutex::new((answers.into(), Vec::new()))));
        let settings = Settings {
            secret_key: Some(Secret::new("sk_test_1".into())),
            base_url: "http://stripe.test".into(),
            ..Settings::default()
        };
        let transport = Arc::clone(&script) as Arc<dyn Transport>;
        let client = Client { pause: Duration::ZERO, ..Client::new(settings, transport) };
        let form = [("mode", "subscription"), ("line_items[0][price]", "price é&=")];
        let answer = client.post("/v1/checkout/sessions", &form, "key-1").await;
        let asked = std::mem::take(&mut script.0.lock().unwrap().1);
        (answer, asked)
    }

    #[tokio::test]
    async fn a_request_is_as_stripe_wants_it() {
        let (answer, asked) = ask(vec![reply(200, "{\"id\":\"cs_1\"}")]).await;
        assert_eq!(answer.unwrap()["id"], "cs_1");
        let [request] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(request.url, "http://stripe.test/v1/checkout/sessions");
        assert_eq!(request.body, "mode=subscription&line_items%5B0%5D%5Bprice%5D=price+%C3%A9%26%3D");
        let header = |name: &str| request.headers.iter().find(|(n, _)| *n == name).unwrap().1.as_str();
        assert_eq!(header("authorization"), "Bearer sk_test_1");
        assert_eq!(header("stripe-version"), VERSION);
        assert_eq!(header("idempotency-key"), "key-1");
        assert!(!format!("{request:?}").contains("sk_test_1"));
    }

    #[tokio::test]
    async fn what_may_pass_is_asked_again_with_the_same_key() {
        for passing in [None, reply(500, "{}"), reply(409, "{}"), reply(429, "{}"), reply(200, "<html>")] {
            let (answer, asked) = ask(vec![passing.clone(), passing.clone(), reply(200, "{}")]).await;
            assert!(answer.is_ok() && asked.len() == 3, "{passing:?}");
            assert!(asked.iter().all(|request| request.headers == asked[0].headers));
            let (answer, asked) = ask(vec![passing.clone(); 4]).await;
            assert!(matches!(answer, Err(Error::Unreachable)) && asked.len() == 3, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_refused_once_and_in_our_words() {
        let said = "{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"resource_missing\",\
                    \"message\":\"No such price: sk_live_secret\"}}";
        let (answer, asked) = ask(vec![reply(404, said)]).await;
        let error = answer.unwrap_err();
        assert_eq!((error.to_string().as_str(), asked.len()), ("Stripe refused (404, resource_missing)", 1));
        for (said, code) in [
            ("{\"error\":{\"type\":\"card_error\"}}", Some("card_error")),
            ("{\"error\":{\"code\":\"No such key: sk_live\"}}", None),
            ("nonsense", None),
        ] {
            let error = ask(vec![reply(402, said)]).await.0.unwrap_err();
            assert!(
                matches!(&error, Error::Refused { status: 402, code: c } if c.as_deref() == code),
                "{error}"
            );
        }
        let told = Reply { should_retry: Some(false), ..whole(500, "{}") };
        let (answer, asked) = ask(vec![Some(told)]).await;
        assert!(matches!(answer, Err(Error::Unreachable)) && asked.len() == 1);
        let none = Client::new(Settings::default(), Arc::new(Script::default()));
        assert!(matches!(none.post("/", &[], "k").await, Err(Error::NotConfigured)));
    }
}
