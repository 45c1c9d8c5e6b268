//! kill −9 while units are consumed: what was answered is in the ledger once, what was asked again with its key is not
//! there twice, and lines add up to the balance. 6 rounds; 200 by `make test-long`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use coffre_tests::seed;
use rand::Rng;
use serde_json::{Value, json};

const CONSUME: &str = "/api/v1/billing/consume";
const CALLERS: usize = 8;
const LIMIT: u64 = 1_000_000;
const PLANS: &str = r#"
[limits.rate]
general = 0

[[billing.plans]]
code = "plan"
[[billing.plans.features]]
key = "units"
limit = 1000000
"#;

/// For whom is consumed.
struct Whom {
    rest: Rest,
    user: String,
    org: String,
}

/// What one caller asked for, by key: how much, and what it was told.
type Asked = BTreeMap<String, (u64, Option<Value>)>;

impl Whom {
    /// An answer, unless the daemon is gone.
    fn consume(&self, key: &str, amount: u64) -> Option<Answer> {
        let body = json!({"feature_key": "units", "amount": amount, "metadata": {"key": key}}).to_string();
        let length = body.len().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("content-length", length.as_str()),
            ("idempotency-key", key),
            ("x-user-id", &self.user),
            ("x-application", "crash"),
            ("x-org-id", &self.org),
        ];
        let mut open = self.rest.try_open("POST", CONSUME, &headers)?;
        open.write(body.as_bytes()).ok()?;
        let answer = open.try_answer()?;
        let is_whole = answer.header("content-length").is_some_and(|n| n.parse() == Ok(answer.body.len()));
        is_whole.then_some(answer)
    }

    /// Every consumption of the ledger by its key: units and what was left; and the sum of all lines.
    fn ledger(&self, admin: &Rest) -> (BTreeMap<String, (i64, u64)>, i64) {
        let (mut lines, mut sum) = (BTreeMap::new(), 0);
        for page in 1.. {
            let path = format!("/admin/v1/billing/ledger?org={}&per_page=1000&page={page}", self.org);
            let page = admin.get(&path).expect(200).json();
            for row in page["data"].as_array().unwrap() {
                let amount = row["amount"].as_i64().unwrap();
                sum += amount;
                if let Some(key) = row["metadata"]["key"].as_str() {
                    let line = (amount, row["balance_after"].as_u64().unwrap());
                    assert!(lines.insert(key.to_owned(), line).is_none(), "{key} twice");
                }
            }
            if page["pagination"]["has_more_pages"] == false {
                break;
            }
        }
        (lines, sum)
    }
}

#[test]
fn no_consumption_is_lost_or_doubled_when_the_daemon_is_killed() {
    let mut rng = seed::rng("billing");
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("coffre.toml"));
    std::fs::write(&file, PLANS).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let mut daemon = Daemon::start_with(&data, &flags, &[]);
    let org = daemon.json(&["org", "create", "Acme"])["id"].as_str().unwrap().to_owned();
    let user = daemon.credentials()["user_id"].as_str().unwrap().to_owned();
    daemon.json(&["org", "add-member", &org, &user]);
    daemon.json(&["plan", "set", &org, "plan"]);
    let mut asked: Vec<Asked> = (0..CALLERS).map(|_| Asked::new()).collect();
    let numbers = AtomicU64::new(0);
    for round in 0..seed::rounds(6, 200) {
        let after = Duration::from_millis(rng.random_range(100..1_200));
        let whom = Whom { rest: Rest::admin(&daemon), user: user.clone(), org: org.clone() };
        let dead = AtomicBool::new(false);
        thread::scope(|scope| {
            for asked in &mut asked {
                let (whom, dead, numbers) = (&whom, &dead, &numbers);
                scope.spawn(move || {
                    while !dead.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        let (key, amount) = (format!("key-{number}"), number % 5 + 1);
                        let answer = whom.consume(&key, amount);
                        let is_gone = answer.is_none();
                        let told = answer.map(|answer| answer.expect(200).json());
                        asked.insert(key, (amount, told));
                        if is_gone {
                            return;
                        }
                    }
                });
            }
            // the moment of the kill is meant to be any; nothing is waited for
            thread::park_timeout(after);
            daemon.kill();
            dead.store(true, Ordering::Relaxed);
        });
        daemon = Daemon::start_with(&data, &flags, &[]);
        let whom = Whom { rest: Rest::admin(&daemon), ..whom };
        // what was answered is there, and asked again it is answered the same
        let (lines, _) = whom.ledger(&whom.rest);
        for (key, (amount, told)) in asked.iter_mut().flatten() {
            if let Some(told) = told {
                let (units, left) = lines.get(key).unwrap_or_else(|| panic!("round {round}: {key} is lost"));
                assert_eq!((units.unsigned_abs(), json!(left)), (*amount, told["remaining_balance"].clone()));
            } else {
                let answer = whom.consume(key, *amount).unwrap().expect(200).json();
                if let Some((_, left)) = lines.get(key) {
                    assert_eq!(answer["remaining_balance"], *left, "round {round}: {key} was there");
                }
                *told = Some(answer);
            }
        }
        let (lines, sum) = whom.ledger(&whom.rest);
        let all: u64 = asked.iter().flatten().map(|(_, (amount, _))| amount).sum();
        assert_eq!(lines.len(), asked.iter().map(BTreeMap::len).sum::<usize>(), "round {round}");
        let headers = [("x-user-id", user.as_str()), ("x-application", "crash"), ("x-org-id", &org)];
        let balance = whom.rest.send("GET", "/api/v1/billing/balance?feature_key=units", &headers, b"");
        let balance = balance.expect(200).json()["balance"].as_u64().unwrap();
        assert_eq!((balance, i64::try_from(balance).unwrap()), (LIMIT - all, sum), "round {round}");
        let again = whom.consume("key-0", 1).unwrap().expect(200).json();
        assert_eq!(Some(&again), asked.iter().find_map(|asked| asked.get("key-0")?.1.as_ref()));
        // the ledger is read whole in each round: what is known to be there is forgotten but for its count
        eprintln!("round {round}: {} consumptions, balance {balance}", lines.len());
    }
    assert!(numbers.into_inner() > 100, "the load hardly ran");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
