//! A stand-in for Stripe: a small server that holds every request to what Stripe's API wants of it (authentication,
//! version, idempotency key, form, known parameters) and keeps it; and webhooks signed by Stripe's published scheme.
//!
//! What it answers has Stripe's shapes. It can be told to be down, to fail, or to refuse.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha2::Sha256;

/// What it is authenticated by.
pub const SECRET_KEY: &str = "sk_test_of_the_stand_in";
/// What its webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_of_the_stand_in";

/// A request it took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// `/v1/…`.
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The form, in order, decoded.
    pub form: Vec<(String, String)>,
}

/// What it does with a request instead of answering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Answers with this status and an error of Stripe's kind.
    Status(u16),
    /// Takes the request, does what it asks, and closes the connection.
    Cut,
}

/// A running stand-in. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// `127.0.0.1:port`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    troubles: VecDeque<Trouble>,
    /// What was answered to an idempotency key, and to which request.
    keys: BTreeMap<String, (String, u16, String)>,
    made: u64,
}

impl StandIn {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stand_in = Self { address, state: Arc::default() };
        let served = stand_in.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                thread::spawn(move || served.serve(stream));
            }
        });
        stand_in
    }

    /// Its address as a setting has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The daemon's environment for it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("COFFRE_BILLING__STRIPE__SECRET_KEY", SECRET_KEY.into()),
            ("COFFRE_BILLING__STRIPE__WEBHOOK_SECRET", WEBHOOK_SECRET.into()),
            ("COFFRE_BILLING__STRIPE__BASE_URL", self.url()),
            (
                "COFFRE_BILLING__STRIPE__SUCCESS_URL",
                "https://app.example/done?s={CHECKOUT_SESSION_ID}".into(),
            ),
            ("COFFRE_BILLING__STRIPE__CANCEL_URL", "https://app.example/plans".into()),
        ]
    }

    /// What it will do with the next requests.
    pub fn trouble(&self, troubles: &[Trouble]) {
        self.state.lock().unwrap().troubles.extend(troubles);
    }

    /// The requests it took since it was asked last.
    pub fn taken(&self) -> Vec<Taken> {
        std::mem::take(&mut self.state.lock().unwrap().taken)
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut writer = stream.try_clone().ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let (method, path, headers) = head(&mut reader)?;
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let body = String::from_utf8(body).ok()?;
            let (status, answer) = self.answer(&method, &path, &headers, &body)?;
            let text = format!(
                "HTTP/1.1 {status} S\r\ncontent-type: application/json\r\nrequest-id: req_1\r\n\
                 content-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            writer.write_all(text.as_bytes()).ok()?;
        }
    }

    /// `None`: no answer.
    fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
    ) -> Option<(u16, String)> {
        let taken = Taken { path: path.to_owned(), headers: headers.clone(), form: form(body) };
        let mut state = self.state.lock().unwrap();
        state.taken.push(taken.clone());
        let trouble = state.troubles.pop_front();
        if let Some(Trouble::Status(status)) = trouble {
            let kind = if status >= 500 { "api_error" } else { "invalid_request_error" };
            let error =
                json!({"error": {"type": kind, "message": format!("{SECRET_KEY} is not for repeating")}});
            return Some((status, error.to_string()));
        }
        let answer = match check(method, &taken) {
            Err((status, code)) => (status, error(code)),
            Ok(()) => state.once(&taken, body),
        };
        (trouble != Some(Trouble::Cut)).then_some(answer)
    }
}

impl State {
    /// Carries a request out, or says what was said to its idempotency key before.
    fn once(&mut self, taken: &Taken, body: &str) -> (u16, String) {
        let key = taken.headers.get("idempotency-key").cloned().unwrap_or_default();
        let request = format!("{} {body}", taken.path);
        if let Some((first, status, answer)) = self.keys.get(&key) {
            return if *first == request {
                (*status, answer.clone())
            } else {
                (400, error("idempotency_error"))
            };
        }
        self.made += 1;
        let answer = match taken.path.as_str() {
            "/v1/customers" => json!({"id": format!("cus_{}", self.made), "object": "customer"}),
            "/v1/checkout/sessions" => {
                let id = format!("cs_test_{}", self.made);
                let url = format!("https://checkout.stripe.com/pay/{id}");
                json!({"id": id, "object": "checkout.session", "url": url, "mode": "subscription"})
            }
            _ => {
                let id = format!("bps_{}", self.made);
                let url = format!("https://billing.stripe.com/p/{id}");
                json!({"id": id, "object": "billing_portal.session", "url": url})
            }
        };
        self.keys.insert(key, (request, 200, answer.to_string()));
        (200, answer.to_string())
    }
}

fn error(code: &str) -> String {
    json!({"error": {"type": "invalid_request_error", "code": code, "message": "for people"}}).to_string()
}

type Head = (String, String, BTreeMap<String, String>);

fn head(reader: &mut impl std::io::BufRead) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Some((method, path, headers));
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn form(body: &str) -> Vec<(String, String)> {
    let decoded =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// What Stripe would refuse.
fn check(method: &str, taken: &Taken) -> Result<(), (u16, &'static str)> {
    let header = |name: &str| taken.headers.get(name).map(String::as_str).unwrap_or_default();
    if header("authorization") != format!("Bearer {SECRET_KEY}") {
        return Err((401, "api_key_invalid"));
    }
    if method != "POST" {
        return Err((405, "method_not_allowed"));
    }
    // a date and the name of its release
    let (date, name) = header("stripe-version").split_once('.').ok_or((400, "version_missing"))?;
    if date.len() != 10 || name.is_empty() {
        return Err((400, "version_missing"));
    }
    if header("content-type") != "application/x-www-form-urlencoded" {
        return Err((400, "content_type"));
    }
    if !(1..=255).contains(&header("idempotency-key").len()) {
        return Err((400, "idempotency_key_missing"));
    }
    let (known, needed): (&[&str], &[&str]) = match taken.path.as_str() {
        "/v1/customers" => (&["name", "email", "metadata[org_id]"], &["name", "metadata[org_id]"]),
        "/v1/checkout/sessions" => (
            &[
                "mode",
                "line_items[0][price]",
                "line_items[0][quantity]",
                "success_url",
                "cancel_url",
                "client_reference_id",
                "metadata[org_id]",
                "metadata[user_id]",
                "metadata[application]",
                "metadata[plan_code]",
                "subscription_data[metadata][org_id]",
                "subscription_data[metadata][plan_code]",
                "customer",
                "customer_email",
            ],
            &[
                "mode",
                "line_items[0][price]",
                "line_items[0][quantity]",
                "success_url",
                "client_reference_id",
            ],
        ),
        "/v1/billing_portal/sessions" => (&["customer", "return_url"], &["customer"]),
        _ => return Err((404, "url_invalid")),
    };
    let value = |name: &str| taken.form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    if taken.form.iter().any(|(name, _)| !known.contains(&name.as_str())) {
        return Err((400, "parameter_unknown"));
    }
    if needed.iter().any(|name| value(name).is_none_or(str::is_empty)) {
        return Err((400, "parameter_missing"));
    }
    if value("line_items[0][price]").is_some_and(|price| !price.starts_with("price_")) {
        return Err((400, "resource_missing"));
    }
    if value("customer").is_some_and(|customer| !customer.starts_with("cus_")) {
        return Err((400, "resource_missing"));
    }
    if value("customer").is_some() && value("customer_email").is_some() {
        return Err((400, "parameter_invalid_combination"));
    }
    let is_address =
        |name: &str| value(name).is_none_or(|url| url.starts_with("https://") || url.starts_with("http://"));
    if !["success_url", "cancel_url", "return_url"].iter().all(|name| is_address(name)) {
        return Err((400, "url_invalid"));
    }
    Ok(())
}

/// An event as Stripe sends it.
pub fn event(id: &str, kind: &str, created_s: u64, object: &Value) -> String {
    json!({
        "id": id,
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": created_s,
        "type": kind,
        "livemode": false,
        "pending_webhooks": 1,
        "data": {"object": object},
    })
    .to_string()
}

/// The header `Stripe-Signature` of a body: `t=…,v1=HMAC-SHA256(secret, "t.body")`.
pub fn signature(body: &str, secret: &str, at_s: u64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at_s}.{body}").as_bytes());
    format!("t={at_s},v1={}", hex::encode(mac.finalize().into_bytes()))
}
