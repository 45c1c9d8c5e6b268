//! Billing from outside (contract §5.3, D21–D23): the document's examples key by key, who may ask for whom, Stripe by a
//! stand-in that holds requests to Stripe's rules, quotas at the REST and the S3 door.

mod headers;
mod quota;
mod stripe;
mod usage;

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::{Value, json};
use tempfile::TempDir;

const JSON: (&str, &str) = ("content-type", "application/json");
const CONSUME: &str = "/api/v1/billing/consume";

/// Plans as an operator would sell them. `tiny` is for quotas: one megabyte.
const PLANS: &str = r#"
[limits.rate]
general = 0
upload = 0

[[billing.plans]]
code = "premium_monthly"
price = "price_premium"
[[billing.plans.features]]
key = "ai_generation"
limit = 1000
period = "month"
[[billing.plans.features]]
key = "data_storage"
limit = 10000
[[billing.plans.features]]
key = "exports"

[[billing.plans]]
code = "basic"
price = "price_basic"
[[billing.plans.features]]
key = "ai_generation"
limit = 150
period = "month"
[[billing.plans.features]]
key = "data_storage"
limit = 1000

[[billing.plans]]
code = "tiny"
[[billing.plans.features]]
key = "data_storage"
limit = 1
"#;

/// A daemon that sells plans, an organisation, and a member of it.
struct World {
    daemon: Daemon,
    org: String,
    /// The member's id.
    ann: String,
    rest: Rest,
    _folder: TempDir,
}

fn world() -> World {
    world_with(&[])
}

fn world_with(environment: &[(&str, &str)]) -> World {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coffre.toml");
    std::fs::write(&file, PLANS).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let daemon = Daemon::start_with(&folder.path().join("data"), &flags, environment);
    let org = daemon.json(&["org", "create", "Acme"])["id"].as_str().unwrap().to_owned();
    let rest = Rest::user(&daemon, "ann", &[]);
    daemon.json(&["org", "add-member", &org, "ann"]);
    let users = daemon.json(&["user", "list"]);
    let ann = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "ann").unwrap();
    let ann = ann["id"].as_str().unwrap().to_owned();
    World { daemon, org, ann, rest, _folder: folder }
}

impl World {
    /// With the three headers, of the member and the organisation.
    fn ask(&self, method: &str, path: &str, more: &[(&str, &str)], body: &Value) -> Answer {
        let whom = [("x-user-id", self.ann.as_str()), ("x-application", "app"), ("x-org-id", &self.org)];
        let headers = [&whom[..], &[JSON], more].concat();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.rest.send(method, path, &headers, body.as_bytes())
    }

    fn consume(&self, amount: u64) -> Answer {
        self.ask("POST", CONSUME, &[], &json!({"feature_key": "ai_generation", "amount": amount}))
    }

    fn plan(&self, code: &str) {
        self.daemon.json(&["plan", "set", &self.org, code]);
    }

    fn entitlements(&self) -> Value {
        self.ask("GET", "/api/v1/billing/entitlements", &[], &Value::Null).expect(200).json()["entitlements"]
            .clone()
    }

    /// What the organisation may use of a feature: enabled, limit, used.
    fn right(&self, feature: &str) -> (bool, Value, u64) {
        let all = self.entitlements();
        let right = all.as_array().unwrap().iter().find(|right| right["feature"] == feature).unwrap();
        (right["enabled"] == true, right["limit"].clone(), right["used"].as_u64().unwrap())
    }

    /// All lines of the organisation's ledger, oldest first.
    fn ledger(&self) -> Vec<Value> {
        let admin = Rest::admin(&self.daemon);
        let page =
            admin.get(&format!("/admin/v1/billing/ledger?org={}&per_page=1000", self.org)).expect(200).json();
        assert_eq!(page["pagination"]["has_more_pages"], false);
        let mut rows = page["data"].as_array().unwrap().clone();
        rows.reverse();
        rows
    }

    fn finish(self) {
        self.daemon.check_finds_nothing();
        self.daemon.stop_cleanly();
    }
}

/// The names of an object's members, in order.
fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// An error in billing's style (contract D9).
#[track_caller]
fn assert_error(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(names(&body), ["error"], "{body}");
    assert!(body["error"].as_str().unwrap().contains(words), "{body}");
}

/// What one process sends: a request each.
struct Sender(String);

impl Sender {
    fn new() -> Self {
        Self(String::new())
    }

    /// Adds a consumption of one unit with a key of its own.
    fn consume(&mut self, world: &World, key: &str) {
        let headers = [
            format!("authorization: Bearer {}", world.rest.token.as_ref().unwrap()),
            format!("x-user-id: {}", world.ann),
            "x-application: app".into(),
            format!("x-org-id: {}", world.org),
            "content-type: application/json".into(),
            format!("idempotency-key: {key}"),
        ];
        let lines: Vec<String> = headers.iter().map(|header| format!("header = \"{header}\"\n")).collect();
        let lines = lines.concat();
        write!(
            self.0,
            "url = \"http://{}{CONSUME}\"\n{lines}data = \"{{\\\"feature_key\\\":\\\"ai_generation\\\",\\\"amount\\\":1}}\"\n\
             output = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\"\nsilent\nnext\n",
            world.daemon.rest_address()
        )
        .unwrap();
    }

    /// Starts the process: all of its requests at once.
    fn start(self, folder: &std::path::Path, n: usize) -> std::process::Child {
        let file = folder.join(format!("curl-{n}"));
        std::fs::write(&file, self.0.trim_end_matches("next\n")).unwrap();
        Command::new("curl")
            .args(["--parallel", "--parallel-immediate", "--parallel-max", "25", "--config"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}
