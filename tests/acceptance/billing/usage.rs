//! Rights, balances, consumption and the ledger (document 2.9.3–2.9.5).

use coffre_tests::rest::Rest;
use serde_json::{Value, json};

use super::{CONSUME, JSON, Sender, assert_error, names, world};

#[test]
fn the_documents_examples() {
    let world = world();
    world.plan("premium_monthly");
    let body = json!({"feature_key": "ai_generation", "amount": 150});
    let answer = world.ask("POST", CONSUME, &[], &body).expect(200).json();
    assert_eq!(answer, json!({"success": true, "remaining_balance": 850, "consumed": 150}));
    assert_eq!(
        world.entitlements(),
        json!([
            {"feature": "ai_generation", "enabled": true, "limit": 1000, "used": 150},
            {"feature": "data_storage", "enabled": true, "limit": 10000, "used": 0},
            {"feature": "exports", "enabled": true, "limit": null, "used": 0},
        ])
    );
    let path = "/api/v1/billing/balance?feature_key=ai_generation";
    let balance = world.ask("GET", path, &[], &Value::Null).expect(200).json();
    assert_eq!(names(&balance), ["balance", "feature", "last_updated"]);
    assert_eq!((&balance["balance"], &balance["feature"]), (&json!(850), &json!("ai_generation")));
    let updated = balance["last_updated"].as_str().unwrap();
    assert!(updated.len() == 20 && updated.ends_with('Z'), "{updated}");
    let metadata = json!({"model": "gpt-4", "tokens": 150});
    let body = json!({"feature_key": "ai_generation", "amount": 1, "metadata": metadata});
    let answer = world.ask("POST", CONSUME, &[], &body).expect(200).json();
    assert_eq!(answer, json!({"success": true, "remaining_balance": 849, "consumed": 1}));

    // without a key: the plan's first, and all
    let all = world.ask("GET", "/api/v1/billing/balance", &[], &Value::Null).expect(200).json();
    assert_eq!((&all["feature"], &all["balance"]), (&json!("ai_generation"), &json!(849)));
    let balances = all["balances"].as_array().unwrap();
    assert_eq!(names(&balances[0]), ["balance", "feature", "last_updated"]);
    let shown: Vec<_> =
        balances.iter().map(|one| (one["feature"].as_str().unwrap(), &one["balance"])).collect();
    assert_eq!(
        shown,
        [("ai_generation", &json!(849)), ("data_storage", &json!(10000)), ("exports", &Value::Null)]
    );

    // a feature without limit
    let body = json!({"feature_key": "exports", "amount": 5});
    let answer = world.ask("POST", CONSUME, &[], &body).expect(200).json();
    assert_eq!(answer, json!({"success": true, "remaining_balance": null, "consumed": 5}));

    // the ledger
    let rows = world.ledger();
    let row = rows.iter().find(|row| row["metadata"] == metadata).unwrap();
    let keys = [
        "amount",
        "application",
        "balance_after",
        "created_at",
        "feature",
        "id",
        "metadata",
        "org_id",
        "user_id",
    ];
    assert_eq!(names(row), keys);
    assert_eq!((&row["amount"], &row["balance_after"]), (&json!(-1), &json!(849)));
    assert_eq!((&row["org_id"], &row["user_id"]), (&json!(world.org), &json!(world.ann)));
    assert_eq!(row["application"], "app");
    let admin = Rest::admin(&world.daemon);
    let total = |query: &str| {
        let page = admin.get(&format!("/admin/v1/billing/ledger?{query}")).expect(200).json();
        page["pagination"]["total"].as_u64().unwrap()
    };
    assert_eq!((total("feature=exports"), total("org=Acme&feature=ai_generation"), total("")), (1, 3, 4));
    assert_eq!((total("to=2000-01-01"), total("from=2000-01-01")), (0, 4));
    for query in ["per_page=0", "page=0", "from=soon", "per_page=1001"] {
        admin.get(&format!("/admin/v1/billing/ledger?{query}")).expect(400);
    }
    admin.get("/admin/v1/billing/ledger?org=nobody").expect(404);
    world.finish();
}

#[test]
fn short_is_402_in_the_documented_shape() {
    let world = world();
    // without a plan there is nothing
    let answer = world.consume(1);
    assert_eq!(answer.status, 402);
    let documented = json!({"error": "Insufficient balance", "required_balance": 1, "current_balance": 0});
    assert_eq!(answer.json(), documented);
    assert!(world.entitlements().as_array().unwrap().iter().all(|right| right["enabled"] == false));
    world.plan("basic");
    world.consume(100).expect(200);
    let answer = world.consume(51).expect(402).json();
    assert_eq!(
        answer,
        json!({"error": "Insufficient balance", "required_balance": 51, "current_balance": 50})
    );
    world.consume(50).expect(200);
    // an operator's grant, by both ways there are
    world.daemon.json(&["billing", "grant", "Acme", "ai_generation", "7", "--reason", "sorry"]);
    let admin = Rest::admin(&world.daemon);
    let body = json!({"org": "Acme", "feature": "ai_generation", "amount": 3}).to_string();
    let granted = admin.send("POST", "/admin/v1/billing/grants", &[JSON], body.as_bytes()).expect(201).json();
    assert_eq!((&granted["amount"], &granted["balance"]), (&json!(3), &json!(10)));
    assert_eq!(world.right("ai_generation"), (true, json!(160), 150));
    let taken = world.consume(4).expect(200).json();
    assert_eq!(taken["remaining_balance"], 6);
    // given back, once
    let line = world.ledger().last().unwrap()["id"].as_str().unwrap().to_owned();
    let body = json!({"org": "Acme", "feature": "ai_generation", "line": line}).to_string();
    let back =
        |status| admin.send("POST", "/admin/v1/billing/refunds", &[JSON], body.as_bytes()).expect(status);
    assert_eq!(back(201).json()["balance"], 10);
    back(409);
    let sum: i64 = world.ledger().iter().map(|row| row["amount"].as_i64().unwrap()).sum();
    assert_eq!(sum, 10, "what lines add up to is the balance");
    // who did what
    let audit = |action: &str| {
        let page = admin.get(&format!("/admin/v1/audit?action={action}")).expect(200).json();
        page["pagination"]["total"].as_u64().unwrap()
    };
    assert_eq!((audit("Consume"), audit("GrantUnits"), audit("RefundUnits"), audit("SetPlan")), (3, 2, 1, 1));
    world.finish();
}

#[test]
fn what_is_refused_consumes_nothing() {
    let world = world();
    world.plan("basic");
    for (body, status, words) in [
        (json!({"feature_key": "ai_generation", "amount": 0}), 400, "amount"),
        (json!({"feature_key": "ai_generation", "amount": -1}), 400, "amount"),
        (json!({"feature_key": "ai_generation", "amount": 1.5}), 400, "amount"),
        (json!({"feature_key": "ai_generation", "amount": "1"}), 400, "amount"),
        (json!({"feature_key": "ai_generation"}), 400, "amount"),
        (json!({"feature_key": "ai_generation", "amount": 9_007_199_254_740_993_u64}), 400, "amount"),
        (json!({"amount": 1}), 400, "feature_key"),
        (json!({"feature_key": "ai_generation", "amount": 1, "metadata": "x"}), 400, "metadata"),
        (json!({"feature_key": "nothing", "amount": 1}), 404, "feature"),
        (json!({"feature_key": "data_storage", "amount": 1}), 400, "stored"),
        (json!([]), 400, "object"),
    ] {
        assert_error(&world.ask("POST", CONSUME, &[], &body), status, words);
    }
    let balance =
        |query: &str| world.ask("GET", &format!("/api/v1/billing/balance{query}"), &[], &Value::Null);
    assert_error(&balance("?feature_key=nothing"), 404, "feature");
    let send = |kind: &str, body: &[u8]| {
        let headers = [("x-user-id", world.ann.as_str()), ("x-application", "app"), ("x-org-id", &world.org)];
        world.rest.send("POST", CONSUME, &[&headers[..], &[("content-type", kind)]].concat(), body)
    };
    assert_error(&send("text/plain", b"{}"), 415, "application/json");
    assert_error(&send("application/json", b"{"), 400, "");
    assert_error(&send("application/json", &vec![b' '; 2 << 20]), 413, "");
    assert_error(&world.ask("DELETE", CONSUME, &[], &Value::Null), 405, "method");
    assert_error(&world.ask("GET", "/api/v1/billing/nothing", &[], &Value::Null), 404, "");
    assert_eq!(balance("?feature_key=ai_generation").expect(200).json()["balance"], 150);
    assert!(world.ledger().is_empty());
    world.finish();
}

#[test]
fn an_idempotency_key_gets_the_first_answer_again() {
    let world = world();
    world.plan("basic");
    let body = json!({"feature_key": "ai_generation", "amount": 2, "metadata": {"n": 1}});
    let key = [("idempotency-key", "key-1")];
    let first = world.ask("POST", CONSUME, &key, &body).expect(200).json();
    assert_eq!(first["remaining_balance"], 148);
    world.consume(10).expect(200);
    assert_eq!(world.ask("POST", CONSUME, &key, &body).expect(200).json(), first);
    let other = json!({"feature_key": "ai_generation", "amount": 3, "metadata": {"n": 1}});
    assert_error(&world.ask("POST", CONSUME, &key, &other), 409, "Idempotency-Key");
    assert_error(
        &world.ask("POST", CONSUME, &[("idempotency-key", &"x".repeat(256))], &body),
        400,
        "Idempotency-Key",
    );
    assert_eq!(world.right("ai_generation").2, 12);
    world.finish();
}

#[test]
fn two_hundred_at_once_from_eight_processes_never_overdraw() {
    let world = world();
    world.plan("basic");
    let folder = tempfile::tempdir().unwrap();
    let mut senders: Vec<Sender> = (0..8).map(|_| Sender::new()).collect();
    for n in 0..200 {
        senders[n % 8].consume(&world, &format!("key-{n}"));
    }
    let processes: Vec<_> =
        senders.into_iter().enumerate().map(|(n, sender)| sender.start(folder.path(), n)).collect();
    let mut statuses = Vec::new();
    for process in processes {
        let out = process.wait_with_output().unwrap();
        statuses.extend(String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned));
    }
    let count = |status: &str| statuses.iter().filter(|found| *found == status).count();
    assert_eq!((count("200"), count("402"), statuses.len()), (150, 50, 200), "{statuses:?}");
    let rows = world.ledger();
    let taken: Vec<_> = rows.iter().filter(|row| row["amount"] == -1).collect();
    assert_eq!(taken.len(), 150);
    // each line says what was left after it: no two the same, none skipped
    let left: Vec<_> = taken.iter().map(|row| row["balance_after"].as_u64().unwrap()).collect();
    assert_eq!(left, (0..150).rev().collect::<Vec<_>>());
    assert_eq!(world.right("ai_generation"), (true, json!(150), 150));
    world.finish();
}
