//! Stripe's events as this crate understands them: pure. What is not about plans is `None`, whatever else it says.
//!
//! Read with what newer and older versions of the API call the same thing: an endpoint's version may differ from the
//! one that requests are pinned to.

use serde_json::Value;

use crate::subscription::{Status, Told, What};

/// Longest id of Stripe's that is taken.
const ID_BYTES_MAX: usize = 255;
/// Prices of a subscription that are kept.
const PRICES_MAX: usize = 20;

/// What an event says that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its id: applied once.
    pub(super) id: String,
    /// Whose it is, by the metadata we gave: an organisation's id.
    pub(super) org: Option<String>,
    /// Whose it is, by Stripe's id of the customer.
    pub(super) customer: Option<String>,
    /// What it says of a subscription.
    pub(super) told: Option<Told>,
}

/// Reads an event. `Ok(None)`: it is none that is applied.
///
/// # Errors
/// It is no event.
pub(super) fn parse(body: &[u8]) -> Result<Option<Event>, &'static str> {
    let event: Value = serde_json::from_slice(body).map_err(|_| "event: it is no JSON")?;
    let id = id_at(&event, "id").ok_or("event: it has no id")?;
    let kind = event.get("type").and_then(Value::as_str).ok_or("event: it has no type")?;
    let created_s = seconds(&event, "created").ok_or("event: it has no time")?;
    let object = event.pointer("/data/object").ok_or("event: it has no object")?;
    let event_ms = created_s.saturating_mul(1000);
    let told = match kind {
        "customer.subscription.created"
        | "customer.subscription.updated"
        | "customer.subscription.deleted"
        | "customer.subscription.paused"
        | "customer.subscription.resumed" => subscription(object, kind, event_ms),
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            let is_paid = matches!(word(object, "payment_status"), Some("paid" | "no_payment_required"));
            let plan_code = metadata(object, "plan_code");
            let id = id_at(object, "subscription").filter(|_| is_paid);
            id.map(|id| Told { id, what: What::Paid { plan_code }, event_ms })
        }
        "invoice.paid" | "invoice.payment_succeeded" => {
            let plan_code = metadata(object, "plan_code");
            subscription_of_invoice(object).map(|id| Told { id, what: What::Paid { plan_code }, event_ms })
        }
        "invoice.payment_failed" => {
            subscription_of_invoice(object).map(|id| Told { id, what: What::Unpaid, event_ms })
        }
        _ => return Ok(None),
    };
    let org = metadata(object, "org_id").or_else(|| word(object, "client_reference_id").map(str::to_owned));
    Ok(Some(Event { id, org, customer: id_at(object, "customer"), told }))
}

fn subscription(object: &Value, kind: &str, event_ms: u64) -> Option<Told> {
    let status = match kind {
        // It is over, whatever the status of the copy that came with it.
        "customer.subscription.deleted" => Status::Canceled,
        _ => Status::of(word(object, "status")?),
    };
    let items = object.pointer("/items/data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let prices = items.iter().filter_map(|item| id_at(item, "price").or_else(|| id_at(item, "plan")));
    let item = items.first().unwrap_or(&Value::Null);
    // Since 2025-03-31 periods stand at the items.
    let anchor_s = seconds(object, "billing_cycle_anchor")
        .or_else(|| seconds(object, "current_period_start"))
        .or_else(|| seconds(item, "current_period_start"))
        .or_else(|| seconds(object, "start_date"))
        .or_else(|| seconds(object, "created"));
    let what = What::Whole {
        status,
        prices: prices.take(PRICES_MAX).collect(),
        plan_code: metadata(object, "plan_code"),
        anchor_ms: anchor_s.map_or(event_ms, |seconds| seconds.saturating_mul(1000)),
        is_first: kind == "customer.subscription.created",
    };
    Some(Told { id: id_at(object, "id")?, what, event_ms })
}

/// Since 2025-03-31 an invoice names its subscription under `parent`.
fn subscription_of_invoice(invoice: &Value) -> Option<String> {
    let parent = invoice.pointer("/parent/subscription_details").unwrap_or(&Value::Null);
    id_at(invoice, "subscription").or_else(|| id_at(parent, "subscription"))
}

/// What we gave along: at the object itself, or where invoices keep their subscription's.
fn metadata(object: &Value, name: &str) -> Option<String> {
    let places = ["/metadata", "/subscription_details/metadata", "/parent/subscription_details/metadata"];
    places.iter().find_map(|place| word(object.pointer(place)?, name)).map(str::to_owned)
}

/// An id: a text, or an object in its place that was expanded.
fn id_at(object: &Value, name: &str) -> Option<String> {
    let value = object.get(name)?;
    let id = value.as_str().or_else(|| value.get("id")?.as_str())?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then(|| id.to_owned())
}

fn word<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty() && text.len() <= ID_BYTES_MAX)
}

fn seconds(object: &Value, name: &str) -> Option<u64> {
    object.get(name)?.as_u64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(kind: &str, object: &Value) -> Option<Event> {
        let event = json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_700_000_000,
            "data": {"object": object}});
        parse(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn subscriptions_old_and_new() {
        let old = json!({"id": "sub_1", "customer": "cus_1", "status": "active", "created": 5,
            "current_period_start": 7, "metadata": {"org_id": "o", "plan_code": "p"},
            "items": {"data": [{"price": {"id": "price_1"}}]}});
        let new = json!({"id": "sub_1", "customer": {"id": "cus_1"}, "status": "active", "created": 5,
            "metadata": {"org_id": "o", "plan_code": "p"},
            "items": {"data": [{"price": {"id": "price_1"}, "current_period_start": 7}]}});
        for object in [old, new] {
            let found = event("customer.subscription.updated", &object).unwrap();
            assert_eq!((found.org.as_deref(), found.customer.as_deref()), (Some("o"), Some("cus_1")));
            let what = What::Whole {
                status: Status::Active,
                prices: vec!["price_1".into()],
                plan_code: Some("p".into()),
                anchor_ms: 7000,
                is_first: false,
            };
            let told = Told { id: "sub_1".into(), what, event_ms: 1_700_000_000_000 };
            assert_eq!(found.told, Some(told));
        }
        let deleted =
            event("customer.subscription.deleted", &json!({"id": "s", "status": "active"})).unwrap();
        let is_over = |told: &Told| matches!(told.what, What::Whole { status: Status::Canceled, .. });
        assert!(deleted.told.as_ref().is_some_and(is_over));
    }

    #[test]
    fn checkouts_and_invoices() {
        let checkout = |paid: &str| {
            let object = json!({"id": "cs_1", "mode": "subscription", "client_reference_id": "o",
                "customer": "cus_1", "subscription": "sub_1", "payment_status": paid,
                "metadata": {"plan_code": "p"}});
            event("checkout.session.completed", &object).unwrap()
        };
        let paid = checkout("paid");
        assert_eq!(paid.org.as_deref(), Some("o"));
        let what = What::Paid { plan_code: Some("p".into()) };
        assert_eq!(paid.told.map(|told| (told.id, told.what)), Some(("sub_1".into(), what)));
        assert_eq!(checkout("unpaid").told, None);
        assert_eq!(checkout("unpaid").customer.as_deref(), Some("cus_1"), "bound all the same");
        for invoice in [
            json!({"subscription": "sub_1", "subscription_details": {"metadata": {"org_id": "o"}}}),
            json!({"parent": {"subscription_details": {"subscription": "sub_1", "metadata": {"org_id": "o"}}}}),
        ] {
            let failed = event("invoice.payment_failed", &invoice).unwrap();
            assert_eq!(failed.org.as_deref(), Some("o"));
            let told = failed.told.unwrap();
            assert_eq!((told.id.as_str(), told.what), ("sub_1", What::Unpaid));
        }
        assert_eq!(event("invoice.paid", &json!({"id": "in_1"})).unwrap().told, None, "no subscription's");
        assert_eq!(event("customer.created", &json!({})), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9]{0,80}") {
            let _whatever = (parse(&body).is_ok(), parse(text.as_bytes()).is_ok());
        }
    }
}
