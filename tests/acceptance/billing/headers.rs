//! Who may ask for whom (contract §2, D21): two organisations never see each other's figures, whatever the headers say.

use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::{Value, json};

use super::{CONSUME, JSON, assert_error, world};

/// Every route for a user and an organisation: method, path, body.
fn routes() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("GET", "/api/v1/billing/entitlements", Value::Null),
        ("GET", "/api/v1/billing/balance", Value::Null),
        ("POST", CONSUME, json!({"feature_key": "ai_generation", "amount": 1})),
        ("POST", "/api/v1/billing/stripe/checkout-session", json!({"plan_code": "premium_monthly"})),
        (
            "POST",
            "/api/v1/billing/stripe/portal-session",
            json!({"redirect_url": "https://example.com/billing"}),
        ),
    ]
}

fn send(rest: &Rest, route: &(&str, &str, Value), headers: &[(&str, &str)]) -> Answer {
    let (method, path, body) = route;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rest.send(method, path, &[headers, &[JSON]].concat(), body.as_bytes())
}

#[test]
fn a_header_that_is_missing_is_named() {
    let world = world();
    let all = [("x-user-id", world.ann.as_str()), ("x-application", "app"), ("x-org-id", world.org.as_str())];
    for route in &routes() {
        for missing in 0..all.len() {
            let mut headers = all.to_vec();
            let (name, _) = headers.remove(missing);
            assert_error(&send(&world.rest, route, &headers), 400, name);
            headers.push((name, " "));
            assert_error(&send(&world.rest, route, &headers), 400, name);
        }
        // a token comes first
        let nobody = send(&world.rest.without_token(), route, &[]);
        assert_error(&nobody, 401, "Authorization");
        let wrong =
            Rest { token: Some("0190c8f0-1111-7111-8111-111111111111|x".into()), ..world.rest.clone() };
        assert_error(&send(&wrong, route, &all), 401, "token");
    }
    let long = "x".repeat(81);
    let headers = [("x-user-id", world.ann.as_str()), ("x-application", &long), ("x-org-id", &world.org)];
    assert_error(&send(&world.rest, &routes()[0], &headers), 400, "x-application");
    world.finish();
}

#[test]
fn no_header_opens_another_organisation() {
    let world = world();
    world.plan("premium_monthly");
    let daemon = &world.daemon;
    let other = daemon.json(&["org", "create", "Other"])["id"].as_str().unwrap().to_owned();
    daemon.json(&["plan", "set", "Other", "premium_monthly"]);
    let eve = Rest::user(daemon, "eve", &[]);
    daemon.json(&["org", "add-member", &other, "eve"]);
    let users = daemon.json(&["user", "list"]);
    let id_of = |name: &str| {
        let user = users["users"].as_array().unwrap().iter().find(|user| user["name"] == name).unwrap();
        user["id"].as_str().unwrap().to_owned()
    };
    let (ann, eve_id) = (id_of("ann"), id_of("eve"));
    let nobody = "0190c8f0-1111-7111-8111-111111111111";
    let token = |arguments: &[&str]| {
        let made = daemon.json(&[&["token", "create"], arguments].concat());
        Rest { token: Some(made["token"].as_str().unwrap().to_owned()), ..eve.clone() }
    };
    daemon.json(&["user", "create", "service", "--role", "APP"]);
    let service = token(&["--user", "service", "--name", "s", "--act-as"]);
    let plain = token(&["--user", "service", "--name", "p"]);
    let reader = token(&["--user", "eve", "--name", "r", "--permission", "read_files"]);
    let admin = Rest::admin(daemon);
    for (who, rest, user, org, status) in [
        ("ann, as eve in eve's", &world.rest, &eve_id, &other, 403),
        ("ann, as herself in eve's", &world.rest, &ann, &other, 403),
        ("ann, as eve in her own", &world.rest, &eve_id, &world.org, 403),
        ("ann, as nobody", &world.rest, &nobody.to_owned(), &world.org, 403),
        ("ann, in none", &world.rest, &ann, &nobody.to_owned(), 403),
        ("ann, by names", &world.rest, &"ann".to_owned(), &"Acme".to_owned(), 403),
        ("eve, as ann in ann's", &eve, &ann, &world.org, 403),
        ("a service, for a member", &service, &ann, &world.org, 200),
        ("a service, for a stranger", &service, &eve_id, &world.org, 403),
        ("a service that may not", &plain, &ann, &world.org, 403),
        ("a token without the permission", &reader, &eve_id, &other, 403),
        ("an admin, for a member", &admin, &ann, &world.org, 200),
        ("an admin, for a stranger", &admin, &eve_id, &world.org, 403),
        ("eve herself", &eve, &eve_id, &other, 200),
    ] {
        let headers = [("x-user-id", user.as_str()), ("x-application", "app"), ("x-org-id", org)];
        for route in &routes()[..3] {
            let answer = send(rest, route, &headers);
            assert_eq!(answer.status, status, "{who}: {} {}: {}", route.0, route.1, answer.text());
        }
        if status == 403 {
            for route in &routes()[3..] {
                assert_eq!(send(rest, route, &headers).status, 403, "{who}: {}", route.1);
            }
        }
    }
    // three were consumed of the one (service, admin, nobody else), one of the other
    assert_eq!(world.right("ai_generation").2, 2);
    // a header twice is what its first says, which has to be allowed
    let headers = [
        ("x-user-id", ann.as_str()),
        ("x-application", "app"),
        ("x-org-id", other.as_str()),
        ("x-org-id", &world.org),
    ];
    assert_eq!(send(&world.rest, &routes()[0], &headers).status, 403);
    world.finish();
}
