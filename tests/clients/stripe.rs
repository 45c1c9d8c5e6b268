//! Stripe's own library beside the daemon: what both send for the same thing is the same form, name by name; webhooks
//! that the library signs are believed.

use std::collections::BTreeMap;
use std::path::Path;

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;
use coffre_tests::stripe::{SECRET_KEY, StandIn, Taken, WEBHOOK_SECRET};

use super::with_credentials;

const PLANS: &str = "[{code=\"premium_monthly\",price=\"price_premium\",\
                     features=[{key=\"ai_generation\",limit=1000,period=\"month\"}]}]";

/// Forms of the requests to a path, without what names the session's customer.
fn forms(taken: &[Taken], path: &str) -> Vec<BTreeMap<String, String>> {
    let of_path = taken.iter().filter(|taken| taken.path == path);
    of_path.map(|taken| taken.form.iter().filter(|(name, _)| name != "customer").cloned().collect()).collect()
}

#[test]
fn stripes_library_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let stripe = StandIn::start();
    let mut environment = stripe.environment();
    environment.push(("COFFRE_BILLING__PLANS", PLANS.into()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::start_with(&folder.path().join("data"), &[], &environment);
    let org = daemon.json(&["org", "create", "Acme"])["id"].as_str().unwrap().to_owned();
    let credentials = daemon.credentials();
    let user = credentials["user_id"].as_str().unwrap();
    daemon.json(&["org", "add-member", &org, user]);
    let mut command = with_credentials(&daemon, folder.path(), "node");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node/stripe.mjs"))
        .env("COFFRE_REST", format!("http://{}", daemon.rest_address()))
        .env("COFFRE_TOKEN", credentials["token"].as_str().unwrap())
        .env("STRIPE_ADDRESS", &stripe.address)
        .env("STRIPE_KEY", SECRET_KEY)
        .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .env("ORG", &org)
        .env("USER", user);
    let said = run(&mut command);
    assert!(said.lines().last().is_some_and(|line| line.ends_with("cases passed")), "{said}");
    let taken = stripe.taken();
    for path in ["/v1/checkout/sessions", "/v1/customers", "/v1/billing_portal/sessions"] {
        let [library, own] = &forms(&taken, path)[..] else { panic!("{path}: {taken:?}") };
        assert_eq!(own, library, "{path}");
    }
    let versions: Vec<&String> = taken.iter().map(|taken| &taken.headers["stripe-version"]).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "the library's version: {versions:?}");
    daemon.stop_cleanly();
}
