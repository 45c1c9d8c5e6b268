//! Webhooks as Stripe sends them, on rows in memory.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::sample::{NOW_MS, WEBHOOK_SECRET, World, system};
use crate::{Error, Result};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn signed(body: &str, now_ms: u64) -> String {
    let time = now_ms / 1000;
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    format!("t={time},v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn event(id: &str, kind: &str, created_ms: u64, object: &Value) -> String {
    json!({"id": id, "object": "event", "type": kind, "created": created_ms / 1000, "data": {"object": object}})
        .to_string()
}

async fn send(world: &World, body: &str) -> Result<()> {
    let now_ms = coffre_store::Clock::now_ms(&*world.clock);
    world.billing.take_webhook(&system(), &signed(body, now_ms), body.as_bytes()).await
}

fn subscription(world: &World, status: &str, price: &str) -> Value {
    json!({"id": "sub_1", "customer": "cus_1", "status": status, "metadata": {"org_id": world.org.to_string()},
        "billing_cycle_anchor": NOW_MS / 1000, "items": {"data": [{"price": {"id": price}}]}})
}

async fn plan(world: &World) -> Option<String> {
    world.billing.plan_of(world.org).await.unwrap().plan_code
}

#[tokio::test]
async fn a_subscription_gives_and_takes_its_plan() {
    let world = World::new().await;
    let told = |id, kind, status, price| {
        let object = subscription(&world, status, price);
        event(id, kind, coffre_store::Clock::now_ms(&*world.clock), &object)
    };
    send(&world, &told("e1", "customer.subscription.created", "active", "price_basic")).await.unwrap();
    assert_eq!(plan(&world).await.as_deref(), Some("basic"));
    let rights = world.billing.entitlements(world.org).await.unwrap();
    let shown: Vec<_> =
        rights.iter().map(|right| (right.feature.as_str(), right.is_enabled, right.limit)).collect();
    assert_eq!(shown, [("ai_generation", true, Some(150)), ("data_storage", true, Some(1))]);
    world.billing.consume(&crate::sample::user(world.user), world.consume(100, None)).await.unwrap();
    world.advance(1000);
    send(&world, &told("e2", "customer.subscription.updated", "active", "price_premium")).await.unwrap();
    let rights = world.billing.entitlements(world.org).await.unwrap();
    assert_eq!((rights[0].limit, rights[0].used), (Some(1000), 100), "the period goes on");
    assert_eq!((rights[2].feature.as_str(), rights[2].limit), ("exports", None));
    // periods are the subscription's: a month from its anchor, 14 November 22:13:20
    world.advance(30 * DAY_MS);
    assert_eq!(world.billing.entitlements(world.org).await.unwrap()[0].used, 0);
    send(&world, &told("e3", "customer.subscription.deleted", "canceled", "price_premium")).await.unwrap();
    assert_eq!(plan(&world).await, None);
    let rights = world.billing.entitlements(world.org).await.unwrap();
    assert!(rights.iter().all(|right| !right.is_enabled && right.limit == Some(0)), "{rights:?}");
    let refused = world.billing.consume(&crate::sample::user(world.user), world.consume(1, None)).await;
    assert!(matches!(refused, Err(Error::Insufficient { required: 1, current: 0 })));
}

#[tokio::test]
async fn events_are_applied_once_and_in_stripes_order() {
    let world = World::new().await;
    let active =
        event("e1", "customer.subscription.updated", NOW_MS, &subscription(&world, "active", "price_basic"));
    send(&world, &active).await.unwrap();
    let canceled = event(
        "e2",
        "customer.subscription.deleted",
        NOW_MS + 9000,
        &subscription(&world, "canceled", "price_basic"),
    );
    send(&world, &canceled).await.unwrap();
    assert_eq!(plan(&world).await, None);
    // again, and older ones under other ids
    send(&world, &active).await.unwrap();
    let older =
        event("e0", "customer.subscription.updated", NOW_MS, &subscription(&world, "active", "price_basic"));
    send(&world, &older).await.unwrap();
    assert_eq!(plan(&world).await, None);
    // what is none of ours is taken and left
    let mut stranger = subscription(&world, "active", "price_basic");
    stranger["metadata"] = json!({"org_id": uuid::Uuid::nil().to_string()});
    stranger["customer"] = json!("cus_9");
    send(&world, &event("e5", "customer.subscription.created", NOW_MS, &stranger)).await.unwrap();
    send(&world, &event("e6", "charge.succeeded", NOW_MS, &json!({"id": "ch_1"}))).await.unwrap();
    assert_eq!(plan(&world).await, None);
}

#[tokio::test]
async fn a_checkout_binds_the_customer_whom_later_events_name() {
    let world = World::new().await;
    let checkout = json!({"id": "cs_1", "client_reference_id": world.org.to_string(), "customer": "cus_1",
        "subscription": "sub_1", "payment_status": "paid", "metadata": {"plan_code": "basic"}});
    send(&world, &event("e1", "checkout.session.completed", NOW_MS, &checkout)).await.unwrap();
    assert_eq!(plan(&world).await.as_deref(), Some("basic"));
    let failed = json!({"customer": "cus_1", "parent": {"subscription_details": {"subscription": "sub_1"}}});
    send(&world, &event("e2", "invoice.payment_failed", NOW_MS + 1000, &failed)).await.unwrap();
    assert_eq!(plan(&world).await.as_deref(), Some("basic"), "for seven days");
    world.advance(7 * DAY_MS + 1000);
    assert_eq!(plan(&world).await, None);
    send(&world, &event("e3", "invoice.paid", NOW_MS + 8 * DAY_MS, &failed)).await.unwrap();
    assert_eq!(plan(&world).await.as_deref(), Some("basic"));
}

#[tokio::test]
async fn what_is_not_stripes_changes_nothing() {
    let world = World::new().await;
    let body =
        event("e1", "customer.subscription.created", NOW_MS, &subscription(&world, "active", "price_basic"));
    let take = |header: String| {
        let (billing, body) = (world.billing.clone(), body.clone());
        async move { billing.take_webhook(&system(), &header, body.as_bytes()).await }
    };
    for header in [
        String::new(),
        format!("t={}", NOW_MS / 1000),
        signed(&body, NOW_MS - 301_000),
        signed(&format!("{body} "), NOW_MS),
    ] {
        assert!(matches!(take(header.clone()).await, Err(Error::BadSignature { .. })), "{header}");
    }
    assert_eq!(plan(&world).await, None);
    assert!(matches!(send(&world, "{}").await, Err(Error::Invalid { .. })));
    assert!(matches!(send(&world, "nonsense").await, Err(Error::Invalid { .. })));
    take(signed(&body, NOW_MS)).await.unwrap();
    assert_eq!(plan(&world).await.as_deref(), Some("basic"));
}
