// Stripe's own library, untouched: requests for the same session beside the daemon's, and webhooks signed by it. Each case is a
// named function of `cases`; a failure ends the run.
import assert from "node:assert/strict";

import Stripe from "stripe";

const { COFFRE_REST: rest, COFFRE_TOKEN: token, STRIPE_ADDRESS: address, STRIPE_KEY: key, STRIPE_WEBHOOK_SECRET: secret } =
  process.env;
assert.ok(rest && address && key && secret, "COFFRE_REST and STRIPE_… say where both are");
const [host, port] = address.split(":");
const stripe = new Stripe(key, { host, port, protocol: "http", maxNetworkRetries: 0, telemetry: false });
const { ORG: org, USER: user } = process.env;
const headers = {
  authorization: `Bearer ${token}`,
  "content-type": "application/json",
  "x-user-id": user,
  "x-application": "app",
  "x-org-id": org,
};

async function coffre(method, path, body) {
  const answer = await fetch(`${rest}/api/v1/billing/${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

async function webhook(event, header) {
  const body = JSON.stringify(event);
  const signature = header ?? stripe.webhooks.generateTestHeaderString({ payload: body, secret });
  const answer = await fetch(`${rest}/api/v1/billing/stripe/webhook`, {
    method: "POST",
    headers: { "content-type": "application/json", "stripe-signature": signature },
    body,
  });
  return { status: answer.status, body: await answer.json() };
}

const now = Math.floor(Date.now() / 1000);

function event(id, type, object) {
  return { id, object: "event", api_version: Stripe.API_VERSION, created: now, type, livemode: false, data: { object } };
}

const cases = {
  // The stand-in is held to the library, and the test around this compares both forms, name by name.
  async checkout() {
    const session = await stripe.checkout.sessions.create({
      mode: "subscription",
      line_items: [{ price: "price_premium", quantity: 1 }],
      success_url: "https://app.example/done?s={CHECKOUT_SESSION_ID}",
      cancel_url: "https://app.example/plans",
      client_reference_id: org,
      metadata: { org_id: org, user_id: user, application: "app", plan_code: "premium_monthly" },
      subscription_data: { metadata: { org_id: org, plan_code: "premium_monthly" } },
    }, { idempotencyKey: "library-checkout" });
    assert.match(session.id, /^cs_test_/);
    const own = await coffre("POST", "stripe/checkout-session", { plan_code: "premium_monthly" });
    assert.equal(own.status, 200, JSON.stringify(own.body));
    assert.match(own.body.session_id, /^cs_test_/);
  },

  async customer_and_portal() {
    const customer = await stripe.customers.create(
      { name: "Acme", metadata: { org_id: org } },
      { idempotencyKey: "library-customer" },
    );
    const session = await stripe.billingPortal.sessions.create(
      { customer: customer.id, return_url: "https://example.com/billing" },
      { idempotencyKey: "library-portal" },
    );
    assert.match(session.id, /^bps_/);
    const own = await coffre("POST", "stripe/portal-session", { redirect_url: "https://example.com/billing" });
    assert.equal(own.status, 200, JSON.stringify(own.body));
  },

  async signed_webhooks_are_believed() {
    const subscription = {
      id: "sub_library",
      object: "subscription",
      customer: "cus_1",
      status: "active",
      billing_cycle_anchor: now - 3600,
      metadata: { org_id: org },
      items: { object: "list", data: [{ id: "si_1", object: "subscription_item", price: { id: "price_premium" } }] },
    };
    const made = event("evt_library_1", "customer.subscription.created", subscription);
    const forged = stripe.webhooks.generateTestHeaderString({ payload: JSON.stringify(made), secret: "whsec_other" });
    assert.equal((await webhook(made, forged)).status, 400);
    const old = stripe.webhooks.generateTestHeaderString({
      payload: JSON.stringify(made),
      secret,
      timestamp: now - 600,
    });
    assert.equal((await webhook(made, old)).status, 400);
    assert.deepEqual(await webhook(made), { status: 200, body: { received: true } });
    const rights = await coffre("GET", "entitlements");
    const right = rights.body.entitlements.find(({ feature }) => feature === "ai_generation");
    assert.deepEqual(right, { feature: "ai_generation", enabled: true, limit: 1000, used: 0 });
  },
};

for (const [name, run] of Object.entries(cases)) {
  console.log(name);
  await run();
}
console.log(`${Object.keys(cases).length} cases passed`);
process.exit(0);
