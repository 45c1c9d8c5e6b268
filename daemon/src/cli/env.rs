//! `coffre env`: the variables that aws-cli and the SDKs read, and two for the REST door (`REST_URL`, `REST_TOKEN`), from
//! `credentials.json` and `listen.json`.
//!
//! Reads files of the data directory only: who may read them may know what is printed.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Context, text};
use crate::error::{Error, Result};
use crate::net::listen::Addresses;

pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let path = context.data.join("credentials.json");
    let bytes =
        std::fs::read(path).map_err(Error::io("reading credentials.json, which the first start writes"))?;
    let credentials: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Io { doing: "reading credentials.json", source: e.into() })?;
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", text(&credentials, "access_key_id").to_owned()),
        ("AWS_SECRET_ACCESS_KEY", text(&credentials, "secret_access_key").to_owned()),
        ("REST_TOKEN", text(&credentials, "token").to_owned()),
    ];
    if let Some(listen) = Addresses::read(&context.data) {
        variables.push(("AWS_DEFAULT_REGION", listen.region));
        variables.push(("AWS_ENDPOINT_URL", listen.s3_url));
        variables.push(("REST_URL", listen.rest_url));
    }
    variables.retain(|(_, value)| !value.is_empty());
    let value = variables.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Value>();
    context.output.result(&value, |_| {
        // Keys, regions and addresses hold nothing that a shell reads inside single quotes.
        variables
            .iter()
            .map(|(name, value)| format!("export {name}='{value}'\n"))
            .collect::<Vec<_>>()
            .concat()
    });
    Ok(ExitCode::SUCCESS)
}
