//! Checkout, portal and webhooks with a stand-in for Stripe that holds requests to Stripe's rules (document 2.9.1,
//! 2.9.2, contract D22).

use std::time::{SystemTime, UNIX_EPOCH};

use coffre_tests::s3::Answer;
use coffre_tests::stripe::{SECRET_KEY, StandIn, Taken, Trouble, WEBHOOK_SECRET, event, signature};
use serde_json::{Value, json};

use super::{JSON, World, assert_error, names, world, world_with};

const CHECKOUT: &str = "/api/v1/billing/stripe/checkout-session";
const PORTAL: &str = "/api/v1/billing/stripe/portal-session";
const WEBHOOK: &str = "/api/v1/billing/stripe/webhook";
const DAY_S: u64 = 24 * 60 * 60;

#[expect(clippy::disallowed_methods, reason = "webhooks are signed with the time that the daemon has")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn with_stripe() -> (StandIn, World) {
    let stripe = StandIn::start();
    let environment = stripe.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let world = world_with(&environment);
    (stripe, world)
}

fn value<'a>(taken: &'a Taken, name: &str) -> Option<&'a str> {
    taken.form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

fn checkout(world: &World, more: &[(&str, &str)]) -> Answer {
    world.ask("POST", CHECKOUT, more, &json!({"plan_code": "premium_monthly"}))
}

fn portal(world: &World) -> Answer {
    world.ask("POST", PORTAL, &[], &json!({"redirect_url": "https://example.com/billing"}))
}

/// Sends a signed webhook.
fn tell(world: &World, body: &str) -> Answer {
    let signature = signature(body, WEBHOOK_SECRET, now_s());
    let headers = [JSON, ("stripe-signature", signature.as_str())];
    world.rest.without_token().send("POST", WEBHOOK, &headers, body.as_bytes())
}

fn subscription(world: &World, status: &str, price: &str, anchor_s: u64) -> Value {
    json!({"id": "sub_1", "object": "subscription", "customer": "cus_77", "status": status,
        "billing_cycle_anchor": anchor_s, "metadata": {"org_id": world.org, "plan_code": "premium_monthly"},
        "items": {"object": "list", "data": [{"id": "si_1", "price": {"id": price}}]}})
}

#[test]
fn sessions_are_made_as_documented() {
    let (stripe, world) = with_stripe();
    let answer = checkout(&world, &[]).expect(200).json();
    assert_eq!(names(&answer), ["session_id", "url"]);
    assert_eq!(answer["session_id"], "cs_test_1");
    assert_eq!(answer["url"], "https://checkout.stripe.com/pay/cs_test_1");
    let taken = stripe.taken();
    let [request] = &taken[..] else { panic!("{taken:?}") };
    let form = [
        ("mode", "subscription"),
        ("line_items[0][price]", "price_premium"),
        ("client_reference_id", &world.org),
        ("metadata[org_id]", &world.org),
        ("metadata[user_id]", &world.ann),
        ("subscription_data[metadata][org_id]", &world.org),
        ("subscription_data[metadata][plan_code]", "premium_monthly"),
        ("success_url", "https://app.example/done?s={CHECKOUT_SESSION_ID}"),
        ("cancel_url", "https://app.example/plans"),
    ];
    for (name, expected) in form {
        assert_eq!(value(request, name), Some(expected), "{name}");
    }
    assert_eq!(request.headers["stripe-version"], "2026-10-28.endive");

    // an organisation that Stripe does not know is made known, once
    for n in 0..2 {
        let answer = portal(&world).expect(200).json();
        assert_eq!(names(&answer), ["session_id", "url"]);
        assert!(answer["session_id"].as_str().unwrap().starts_with("bps_"), "{n}: {answer}");
    }
    let paths: Vec<String> = stripe.taken().into_iter().map(|taken| taken.path).collect();
    assert_eq!(paths, ["/v1/customers", "/v1/billing_portal/sessions", "/v1/billing_portal/sessions"]);
    // and is bought for from then on
    checkout(&world, &[]).expect(200);
    assert_eq!(value(&stripe.taken()[0], "customer"), Some("cus_2"));

    // asked twice with one key: one session
    let key = [("idempotency-key", "again")];
    let first = checkout(&world, &key).expect(200).json();
    assert_eq!(checkout(&world, &key).expect(200).json(), first);
    assert_ne!(checkout(&world, &[]).expect(200).json(), first);

    for (path, body, status, words) in [
        (CHECKOUT, json!({"plan_code": "gold"}), 404, "plan"),
        (CHECKOUT, json!({"plan_code": "tiny"}), 400, "price"),
        (CHECKOUT, json!({}), 400, "plan_code"),
        (PORTAL, json!({"redirect_url": "javascript:alert(1)"}), 400, "redirect_url"),
        (PORTAL, json!({"redirect_url": 7}), 400, "redirect_url"),
    ] {
        assert_error(&world.ask("POST", path, &[], &body), status, words);
    }
    world.finish();
}

#[test]
fn stripes_troubles_are_told_apart() {
    let (stripe, world) = with_stripe();
    // what passes is tried again with the same key: no second session is made
    for trouble in [Trouble::Status(500), Trouble::Status(429), Trouble::Status(409), Trouble::Cut] {
        stripe.taken();
        stripe.trouble(&[trouble]);
        checkout(&world, &[]).expect(200);
        let taken = stripe.taken();
        assert_eq!(taken.len(), 2, "{trouble:?}");
        assert_eq!(taken[0].headers["idempotency-key"], taken[1].headers["idempotency-key"]);
    }
    stripe.trouble(&[Trouble::Status(503); 3]);
    let down = checkout(&world, &[]);
    assert_error(&down, 503, "cannot be reached");
    assert!(down.header("retry-after").is_some());
    stripe.trouble(&[Trouble::Status(402)]);
    let refused = checkout(&world, &[]);
    assert_error(&refused, 502, "Stripe refused");
    assert!(!refused.text().contains(SECRET_KEY));
    stripe.trouble(&[Trouble::Status(401)]);
    assert_error(&portal(&world), 502, "Stripe refused");
    // nothing of what was said in confidence is in the log
    let log = world.daemon.log();
    assert!(log.contains("Stripe") && !log.contains(SECRET_KEY) && !log.contains(WEBHOOK_SECRET), "{log}");
    world.finish();
}

#[test]
fn without_stripe_the_rest_works() {
    let world = world();
    for answer in [checkout(&world, &[]), portal(&world)] {
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json(), json!({"error": "Stripe is not configured"}));
    }
    let answer = tell(&world, &event("evt_1", "invoice.paid", now_s(), &json!({})));
    assert_eq!((answer.status, answer.json()), (503, json!({"error": "Stripe is not configured"})));
    world.plan("basic");
    world.consume(1).expect(200);
    world.finish();
}

#[test]
fn a_subscription_from_its_checkout_to_its_end() {
    let (_stripe, world) = with_stripe();
    let (begun, none) = (now_s() - 20 * DAY_S, (false, json!(0), 0));
    assert_eq!(world.right("ai_generation"), none);
    let told = |id: &str, kind: &str, created_s: u64, object: &Value| {
        let answer = tell(&world, &event(id, kind, created_s, object)).expect(200);
        assert_eq!(answer.json(), json!({"received": true}));
    };
    let sub = |status: &str, price: &str| subscription(&world, status, price, begun);
    told("evt_1", "customer.subscription.created", begun, &sub("incomplete", "price_premium"));
    assert_eq!(world.right("ai_generation"), none, "not paid yet");
    let session = json!({"id": "cs_1", "object": "checkout.session", "mode": "subscription", "customer": "cus_77",
        "client_reference_id": world.org, "subscription": "sub_1", "payment_status": "paid",
        "metadata": {"org_id": world.org, "plan_code": "premium_monthly"}});
    told("evt_2", "checkout.session.completed", begun + 5, &session);
    assert_eq!(world.right("ai_generation"), (true, json!(1000), 0));
    world.consume(100).expect(200);
    // a smaller plan, in the portal: what was used stays used
    told("evt_3", "customer.subscription.updated", begun + 10, &sub("active", "price_basic"));
    assert_eq!(world.right("ai_generation"), (true, json!(150), 100));
    // again and late: nothing changes
    told("evt_2", "checkout.session.completed", begun + 5, &session);
    told("evt_late", "customer.subscription.updated", begun + 9, &sub("active", "price_premium"));
    assert_eq!(world.right("ai_generation"), (true, json!(150), 100));
    // a payment fails: the plan stays for seven days, as long as nothing else is told
    let invoice = json!({"id": "in_1", "object": "invoice", "customer": "cus_77",
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}});
    told("evt_4", "invoice.payment_failed", now_s() - 6 * DAY_S, &invoice);
    assert_eq!(world.right("ai_generation"), (true, json!(150), 100));
    told("evt_5", "invoice.paid", now_s() - 5 * DAY_S, &invoice);
    told("evt_6", "customer.subscription.updated", now_s() - 4 * DAY_S, &sub("unpaid", "price_basic"));
    assert_eq!(world.right("ai_generation"), (false, json!(0), 100));
    assert_eq!(world.consume(1).status, 402);
    told("evt_7", "customer.subscription.updated", now_s() - 3 * DAY_S, &sub("active", "price_basic"));
    assert_eq!(world.right("ai_generation"), (true, json!(150), 100), "the same period goes on");
    told("evt_8", "customer.subscription.deleted", now_s() - 2 * DAY_S, &sub("canceled", "price_basic"));
    assert!(!world.right("ai_generation").0);
    // what an operator decides holds beside it
    world.plan("basic");
    assert!(world.right("ai_generation").0);
    // nobody's, and about nothing here
    told("evt_9", "charge.succeeded", now_s(), &json!({"id": "ch_1"}));
    let mut stranger = sub("active", "price_premium");
    stranger["customer"] = json!("cus_of_another");
    stranger["metadata"] = json!({"org_id": "0190c8f0-1111-7111-8111-111111111111"});
    told("evt_10", "customer.subscription.created", now_s(), &stranger);
    world.finish();
}

#[test]
fn a_failed_payment_ends_the_plan_after_seven_days() {
    let (_stripe, world) = with_stripe();
    let begun = now_s() - 40 * DAY_S;
    let sub = |status: &str| subscription(&world, status, "price_premium", begun);
    tell(&world, &event("evt_1", "customer.subscription.created", begun, &sub("active"))).expect(200);
    let failed = now_s() - 8 * DAY_S;
    tell(&world, &event("evt_2", "customer.subscription.updated", failed, &sub("past_due"))).expect(200);
    assert!(!world.right("ai_generation").0, "eight days ago");
    tell(&world, &event("evt_3", "customer.subscription.updated", failed + 60, &sub("past_due"))).expect(200);
    assert!(!world.right("ai_generation").0, "told again, it is the same failure");
    world.finish();
}

#[test]
fn only_what_stripe_signed_is_believed() {
    let (_stripe, world) = with_stripe();
    let body = event(
        "evt_1",
        "customer.subscription.created",
        now_s(),
        &subscription(&world, "active", "price_premium", now_s()),
    );
    let send = |headers: &[(&str, &str)], body: &str| {
        let headers = [headers, &[JSON]].concat();
        world.rest.without_token().send("POST", WEBHOOK, &headers, body.as_bytes())
    };
    assert_error(&send(&[], &body), 400, "Stripe-Signature");
    for (secret, at_s, sent) in [
        ("whsec_of_somebody", now_s(), body.clone()),
        (WEBHOOK_SECRET, now_s() - 400, body.clone()),
        (WEBHOOK_SECRET, now_s(), body.replace("active", "trialing")),
    ] {
        let signature = signature(&body, secret, at_s);
        assert_error(&send(&[("stripe-signature", &signature)], &sent), 400, "signature");
    }
    assert!(!world.right("ai_generation").0);
    assert_error(&tell(&world, "not json"), 400, "event");
    tell(&world, &body).expect(200);
    assert!(world.right("ai_generation").0);
    world.finish();
}
