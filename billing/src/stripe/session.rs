//! Checkout and portal sessions: pages at Stripe where an organisation buys a plan and manages its subscription
//! (document 2.9.1, 2.9.2).

use coffre_kv::Write;
use coffre_store::{Cx, OrgId, UserId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::codec::{self, Kind as Row};
use crate::error::{Error, Result};
use crate::ledger::KEY_BYTES_MAX;
use crate::{ATTEMPTS, Billing};

/// Longest address that a browser is sent to, bytes: as Stripe takes them.
const URL_BYTES_MAX: usize = 2048;

/// For whom a session is made.
#[derive(Clone, Debug)]
pub struct Buyer {
    /// The organisation.
    pub org: OrgId,
    /// Who asks for it.
    pub user: UserId,
    /// That user's address, for Stripe's form.
    pub email: Option<String>,
    /// From which application.
    pub application: String,
    /// Whoever asks again with it gets the same session.
    pub idempotency_key: Option<String>,
}

/// Where a browser goes from a checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// When it is through.
    pub success_url: String,
    /// When it is given up.
    pub cancel_url: String,
}

/// A page at Stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub url: String,
}

impl Billing {
    /// Whether Stripe is configured.
    ///
    /// # Errors
    /// `NotConfigured`.
    pub fn check_stripe(&self) -> Result<()> {
        self.inner.stripe.configured()
    }

    /// A page where a plan is bought.
    ///
    /// # Errors
    /// `NotConfigured`, `NotFound { what: "plan" }`, `Invalid` for a plan without a price, `Refused`, `Unreachable`.
    pub async fn checkout(&self, buyer: &Buyer, plan_code: &str, pages: &Pages) -> Result<Session> {
        self.check_stripe()?;
        let inner = &self.inner;
        let plan = inner.plans.find(plan_code).ok_or(Error::NotFound { what: "plan" })?;
        let price =
            plan.price.as_deref().ok_or(Error::Invalid { what: "plan: it has no price at Stripe" })?;
        let (customer, _) = inner.customer(buyer.org).await?;
        let (org, user) = (buyer.org.to_string(), buyer.user.to_string());
        let mut form = vec![
            ("mode", "subscription"),
            ("line_items[0][price]", price),
            ("line_items[0][quantity]", "1"),
            ("success_url", pages.success_url.as_str()),
            ("cancel_url", pages.cancel_url.as_str()),
            ("client_reference_id", org.as_str()),
            ("metadata[org_id]", org.as_str()),
            ("metadata[user_id]", user.as_str()),
            ("metadata[application]", buyer.application.as_str()),
            ("metadata[plan_code]", plan_code),
            ("subscription_data[metadata][org_id]", org.as_str()),
            ("subscription_data[metadata][plan_code]", plan_code),
        ];
        // Stripe takes one of the two.
        match (&customer.stripe_id, &buyer.email) {
            (Some(id), _) => form.push(("customer", id)),
            (None, Some(email)) => form.push(("customer_email", email)),
            (None, None) => {}
        }
        let key = self.key_of(buyer, "checkout")?;
        session(&inner.stripe.post("/v1/checkout/sessions", &form, &key).await?)
    }

    /// A page where the organisation manages its subscription. One that Stripe does not know yet is made known.
    ///
    /// # Errors
    /// `NotConfigured`, `Invalid` (an address that is none of http or https), `Refused`, `Unreachable`.
    pub async fn portal(&self, cx: &Cx, buyer: &Buyer, return_url: Option<&str>) -> Result<Session> {
        self.check_stripe()?;
        if return_url.is_some_and(|url| !is_address(url)) {
            return Err(Error::Invalid { what: "redirect_url: an http:// or https:// address" });
        }
        let customer = self.customer_id(cx, buyer).await?;
        let mut form = vec![("customer", customer.as_str())];
        form.extend(return_url.map(|url| ("return_url", url)));
        let key = self.key_of(buyer, "portal")?;
        session(&self.inner.stripe.post("/v1/billing_portal/sessions", &form, &key).await?)
    }

    /// The organisation's id at Stripe.
    async fn customer_id(&self, cx: &Cx, buyer: &Buyer) -> Result<String> {
        let inner = &self.inner;
        let org = buyer.org.to_string();
        for _ in 0..ATTEMPTS {
            let (mut customer, check) = inner.customer(buyer.org).await?;
            if let Some(id) = customer.stripe_id {
                return Ok(id);
            }
            let name = self.check_org(buyer.org).await?.name;
            let mut form = vec![("name", name.as_str()), ("metadata[org_id]", org.as_str())];
            form.extend(buyer.email.as_deref().map(|email| ("email", email)));
            // The same for all who ask at once: Stripe makes one.
            let key = hex::encode(Sha256::digest(format!("coffre customer {org} {name} {:?}", buyer.email)));
            let made = inner.stripe.post("/v1/customers", &form, &key).await?;
            let id = text(&made, "id")?.to_owned();
            customer.stripe_id = Some(id.clone());
            let by_id = codec::key(Row::StripeId, &[id.as_bytes()]);
            let writes = vec![
                Write::Put(codec::customer_key(buyer.org), codec::encode(&customer)?),
                Write::Put(by_id, buyer.org.0.as_bytes().to_vec().into()),
            ];
            match inner.change(cx, "MakeCustomer", &org, vec![check], writes).await {
                Ok(()) => return Ok(id),
                Err(coffre_kv::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy)
    }

    /// The key under which Stripe knows the request: of the caller's own, if it brought one, so that asking twice makes
    /// one session; else a new one.
    fn key_of(&self, buyer: &Buyer, what: &str) -> Result<String> {
        let Some(key) = &buyer.idempotency_key else { return Ok(self.inner.new_id().to_string()) };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::Invalid { what: "Idempotency-Key: 1 to 255 bytes" });
        }
        let Buyer { org, user, application, .. } = buyer;
        let mut hash = Sha256::new();
        for part in [what, &org.to_string(), &user.to_string(), application, key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(hex::encode(hash.finalize()))
    }
}

fn session(answer: &Value) -> Result<Session> {
    Ok(Session { id: text(answer, "id")?.to_owned(), url: text(answer, "url")?.to_owned() })
}

/// A text that Stripe's answer has to have.
fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    let found = answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or(Error::Refused { status: 200, code: None })
}

/// Whether a browser may be sent there: http or https with a host, nothing invisible.
fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let is_visible = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    !host.is_empty() && is_visible && url.len() <= URL_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, is) in [
            ("https://example.com/billing", true),
            ("http://localhost:3000", true),
            ("https://", false),
            ("https:///x", false),
            ("javascript:alert(1)", false),
            ("//example.com", false),
            ("https://a b", false),
            ("", false),
        ] {
            assert_eq!(is_address(url), is, "{url}");
        }
        assert!(!is_address(&format!("https://x/{}", "a".repeat(URL_BYTES_MAX))));
    }
}
