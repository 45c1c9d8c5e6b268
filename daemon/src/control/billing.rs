//! What the commands about plans, grants and quotas do.

use coffre_admin_api::view::billing as view;
use coffre_store::usage::Of;
use coffre_store::{Action, Cx};
use http::StatusCode;

use super::perform::{Answer, Refusal, as_json, bucket_name, org_of, told, user_of};
use super::{Command, Whose};
use crate::wire::Daemon;

impl From<coffre_billing::Error> for Refusal {
    fn from(error: coffre_billing::Error) -> Self {
        use coffre_billing::Error as E;
        let status = match &error {
            E::NotFound { .. } => StatusCode::NOT_FOUND,
            E::Invalid { .. } | E::BadSignature { .. } => StatusCode::BAD_REQUEST,
            E::Insufficient { .. } => StatusCode::PAYMENT_REQUIRED,
            E::KeyReused | E::Done { .. } | E::Busy => StatusCode::CONFLICT,
            E::Denied => StatusCode::FORBIDDEN,
            E::NotConfigured | E::Unreachable | E::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            E::Refused { .. } => StatusCode::BAD_GATEWAY,
            E::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            E::Corrupt { .. } | E::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, words: told(&error) }
    }
}

pub(super) async fn perform(daemon: &Daemon, cx: &Cx, command: Command) -> Answer {
    let billing = &daemon.billing;
    match command {
        Command::PlanSet { org, plan_code } => {
            let org = org_of(daemon, &org).await?;
            let plan = billing.set_plan(cx, org, plan_code.as_deref()).await?;
            Ok(as_json(&view::Plan::of(org, plan)))
        }
        Command::PlanShow { org } => {
            let org = org_of(daemon, &org).await?;
            Ok(as_json(&view::Plan::of(org, billing.plan_of(org).await?)))
        }
        Command::BillingGrant { org, feature, amount, reason } => {
            let org = org_of(daemon, &org).await?;
            let line = billing.grant(cx, org, &feature, amount, reason.as_deref()).await?;
            Ok(as_json(&view::Granted::of(org, &feature, line)))
        }
        Command::BillingRefund { org, feature, line } => {
            let org = org_of(daemon, &org).await?;
            let line = billing.refund(cx, org, &feature, line).await?;
            Ok(as_json(&view::Granted::of(org, &feature, line)))
        }
        Command::QuotaSet { whose, bytes } => {
            let (kind, id, of) = find(daemon, cx, &whose).await?;
            let room = billing.set_quota(cx, &of, &format!("{kind}/{id}"), bytes).await?;
            Ok(as_json(&view::Quota::of(kind, id, room)))
        }
        Command::QuotaShow { whose } => {
            let (kind, id, of) = find(daemon, cx, &whose).await?;
            Ok(as_json(&view::Quota::of(kind, id, billing.room(&of).await?)))
        }
        _ => Err(Refusal::bad("not a command about billing")),
    }
}

/// What it is called, its id, and what counts for it.
async fn find(daemon: &Daemon, cx: &Cx, whose: &Whose) -> Result<(&'static str, String, Of), Refusal> {
    match (&whose.user, &whose.org, &whose.bucket) {
        (Some(user), None, None) => {
            let user = user_of(daemon, user).await?.id;
            Ok(("user", user.to_string(), Of::Owner(user)))
        }
        (None, Some(org), None) => {
            let org = org_of(daemon, org).await?;
            Ok(("org", org.to_string(), Of::Organisation(org)))
        }
        (None, None, Some(name)) => {
            let bucket = daemon.store.bucket(cx, &bucket_name(name)?, Action::ListBucket).await?;
            Ok(("bucket", name.clone(), Of::Bucket(bucket.id)))
        }
        _ => Err(Refusal::bad("a quota is one user's, one organisation's or one bucket's")),
    }
}
