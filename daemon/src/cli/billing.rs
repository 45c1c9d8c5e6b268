//! `coffre plan`, `coffre billing` and `coffre quota`: what organisations may use.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use super::output::size;
use super::{Context, number, text};
use crate::control::{Command, Whose};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum PlanArgs {
    /// Give an organisation a plan of the configuration
    Set {
        /// Id or name
        org: String,
        /// The plan's code
        plan_code: String,
    },
    /// Take back what was set; what a subscription gives stays
    Clear {
        /// Id or name
        org: String,
    },
    /// Which plan an organisation has
    Show {
        /// Id or name
        org: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BillingArgs {
    /// Give an organisation units that no period ends
    Grant {
        /// Id or name
        org: String,
        /// The feature's key
        feature: String,
        /// How many; of `data_storage` megabytes
        amount: u64,
        /// Kept with the ledger's line
        #[arg(long)]
        reason: Option<String>,
    },
    /// Give a consumption back, once
    Refund {
        /// Id or name
        org: String,
        /// The feature's key
        feature: String,
        /// The ledger's line
        line: uuid::Uuid,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum QuotaArgs {
    /// Set what may be stored
    Set {
        #[command(flatten)]
        whose: WhoseArgs,
        /// How many bytes
        #[arg(long, required_unless_present = "none")]
        bytes: Option<u64>,
        /// As many as there is room for
        #[arg(long, conflicts_with = "bytes")]
        none: bool,
    },
    /// What may be stored, and is
    Show {
        #[command(flatten)]
        whose: WhoseArgs,
    },
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(super) struct WhoseArgs {
    /// A user: id or name
    #[arg(long)]
    user: Option<String>,
    /// An organisation: id or name
    #[arg(long)]
    org: Option<String>,
    /// A bucket
    #[arg(long)]
    bucket: Option<String>,
}

impl From<WhoseArgs> for Whose {
    fn from(args: WhoseArgs) -> Self {
        let WhoseArgs { user, org, bucket } = args;
        Self { user, org, bucket }
    }
}

pub(super) fn plan(context: &Context, args: PlanArgs) -> Result<ExitCode> {
    let command = match args {
        PlanArgs::Set { org, plan_code } => Command::PlanSet { org, plan_code: Some(plan_code) },
        PlanArgs::Clear { org } => Command::PlanSet { org, plan_code: None },
        PlanArgs::Show { org } => Command::PlanShow { org },
    };
    let plan = context.ask(&command)?;
    context.output.result(&plan, |plan| match text(plan, "plan_code") {
        "" => format!("{} has no plan", text(plan, "org_id")),
        code => format!("{} has the plan {code} since {}", text(plan, "org_id"), text(plan, "since")),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn billing(context: &Context, args: BillingArgs) -> Result<ExitCode> {
    let command = match args {
        BillingArgs::Grant { org, feature, amount, reason } => {
            Command::BillingGrant { org, feature, amount, reason }
        }
        BillingArgs::Refund { org, feature, line } => Command::BillingRefund { org, feature, line },
    };
    let granted = context.ask(&command)?;
    context.output.result(&granted, |granted| {
        let (amount, balance) = (number(granted, "amount"), number(granted, "balance"));
        format!("{} got {amount} of {}: {balance} left", text(granted, "org_id"), text(granted, "feature"))
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn quota(context: &Context, args: QuotaArgs) -> Result<ExitCode> {
    let command = match args {
        // without `--bytes` there is `--none`
        QuotaArgs::Set { whose, bytes, none: _ } => Command::QuotaSet { whose: whose.into(), bytes },
        QuotaArgs::Show { whose } => Command::QuotaShow { whose: whose.into() },
    };
    let quota = context.ask(&command)?;
    context.output.result(&quota, |quota| {
        let limit = quota.get("limit_bytes").and_then(Value::as_u64);
        let limit = limit.map_or_else(|| "no limit".to_owned(), size);
        let used = size(number(quota, "used_bytes"));
        format!("{} {}: {used} of {limit}", text(quota, "of"), text(quota, "id"))
    });
    Ok(ExitCode::SUCCESS)
}
