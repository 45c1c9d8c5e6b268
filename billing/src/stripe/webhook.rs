//! What Stripe tells: each event is checked, applied once, and in the order in which Stripe made them.
//!
//! An event's id and what follows from it are one commit, so that an event that was answered with a success is applied,
//! and one that is sent again changes nothing. What is about nobody here (an organisation of another installation that
//! shares the account) or about nothing here is taken and left: Stripe would send a refused event for days.

use bytes::Bytes;
use coffre_kv::{Check, KvExt as _, Range, Scan, Write};
use coffre_store::{Cx, OrgId};
use uuid::Uuid;

use super::event::{self, Event};
use super::signature;
use crate::codec::{self, Kind as Row};
use crate::error::{Error, Result};
use crate::{ATTEMPTS, Billing};

/// How long it is remembered that an event was applied: Stripe sends one again for three days.
const REMEMBERED_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Events forgotten at a time: more than come in.
const FORGOTTEN: usize = 4;

impl Billing {
    /// Takes a webhook. Durable on return.
    ///
    /// # Errors
    /// `NotConfigured`, `BadSignature`, `Invalid` (no event), `Busy`, `NoSpace`, `Stopped`.
    pub async fn take_webhook(&self, cx: &Cx, signature_header: &str, body: &[u8]) -> Result<()> {
        let inner = &self.inner;
        let secret = inner.stripe.settings.webhook_secret.as_ref().ok_or(Error::NotConfigured)?;
        signature::verify(signature_header, body, secret.expose(), inner.clock.now_ms())?;
        let Some(event) = event::parse(body).map_err(|what| Error::Invalid { what })? else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            match self.apply(cx, &event).await {
                Err(Error::Busy) => {}
                done => return done,
            }
        }
        Err(Error::Busy)
    }

    /// Applies an event, if it is not applied yet and about somebody here.
    async fn apply(&self, cx: &Cx, event: &Event) -> Result<()> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let row = codec::key(Row::Event, &[event.id.as_bytes()]);
        if inner.kv.get(&row).await?.is_some() {
            tracing::debug!(event = event.id, "an event came again");
            return Ok(());
        }
        let Some(org) = self.org_of(event).await? else {
            tracing::info!(event = event.id, "an event of Stripe's is about no organisation here");
            return Ok(());
        };
        let (mut customer, check) = inner.customer(org).await?;
        let mut checks = vec![Check::Absent(row.clone()), check];
        let age = codec::key(Row::EventAge, &[&now_ms.to_be_bytes(), event.id.as_bytes()]);
        let mut writes = vec![Write::Put(row, Bytes::new()), Write::Put(age, Bytes::new())];
        let is_news = event.told.clone().is_some_and(|told| customer.hear(told, now_ms));
        if let Some(id) = &event.customer {
            // Whoever was a customer once is found by that id from then on; the newest is the one to sell to.
            let by_id = codec::key(Row::StripeId, &[id.as_bytes()]);
            writes.push(Write::Put(by_id, Bytes::copy_from_slice(org.0.as_bytes())));
            if is_news || customer.stripe_id.is_none() {
                customer.stripe_id = Some(id.clone());
            }
        }
        writes.push(Write::Put(codec::customer_key(org), codec::encode(&customer)?));
        for age in self.to_forget(now_ms).await? {
            let id = age.get(10..).unwrap_or_default();
            writes.push(Write::Delete(codec::key(Row::Event, &[id])));
            checks.push(Check::Present(age.clone()));
            writes.push(Write::Delete(age));
        }
        let subject = format!("{org}/{}", event.id);
        Ok(inner.change(cx, "StripeEvent", &subject, checks, writes).await?)
    }

    /// Whose event it is: by what we gave along, else by the customer.
    async fn org_of(&self, event: &Event) -> Result<Option<OrgId>> {
        let said = event.org.as_deref().and_then(|text| Uuid::parse_str(text).ok()).map(OrgId);
        let found = match (said, &event.customer) {
            (Some(org), _) => Some(org),
            (None, Some(id)) => {
                let entry = self.inner.kv.get(&codec::key(Row::StripeId, &[id.as_bytes()])).await?;
                let id =
                    |bytes: &[u8]| Uuid::from_slice(bytes).map_err(|_| Error::corrupt("a customer's id"));
                entry.map(|entry| id(&entry.value).map(OrgId)).transpose()?
            }
            (None, None) => None,
        };
        match found {
            Some(org) => match self.check_org(org).await {
                Ok(_) => Ok(Some(org)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
            None => Ok(None),
        }
    }

    /// Of the oldest events the rows of their age, where they are old enough.
    async fn to_forget(&self, now_ms: u64) -> Result<Vec<Bytes>> {
        let before = now_ms.saturating_sub(REMEMBERED_MS);
        let range = Range {
            start: codec::key(Row::EventAge, &[]),
            end: Some(codec::key(Row::EventAge, &[&before.to_be_bytes()])),
        };
        let rows = self.inner.kv.rows(Scan::forward(range).keys_only(), FORGOTTEN).await?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }
}
