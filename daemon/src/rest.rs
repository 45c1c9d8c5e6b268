//! What the REST door is given: the store's and identity's handles, and its settings out of the configuration.

use std::sync::Arc;

use coffre_admin_api::{FilingSettings, GatewaySettings, Ground, Limits, Parts, Settings, TrustedProxies};
use coffre_billing::stripe::Pages;

use crate::net::listen::Addresses;
use crate::status::Host;
use crate::wire::{self, Daemon};

/// Joins them.
pub(crate) fn ground(daemon: &Daemon, host: &Arc<Host>, addresses: &Addresses) -> Ground {
    Ground::new(Parts {
        store: daemon.store.clone(),
        identity: daemon.identity.clone(),
        billing: daemon.billing.clone(),
        host: Arc::clone(host) as Arc<dyn coffre_admin_api::Host>,
        clock: daemon.clock(),
        ids: daemon.ids(),
        settings: settings(daemon, addresses),
    })
}

fn settings(daemon: &Daemon, addresses: &Addresses) -> Settings {
    let config = &daemon.config;
    let proxies = config.rest.trusted_proxies.iter().map(String::as_str);
    let rate = &config.limits.rate;
    let (gateway, filing) = (&config.gateway, &config.filing);
    Settings {
        public_url: addresses.rest_url.clone(),
        s3_url: addresses.s3_url.clone(),
        s3_region: addresses.region.clone(),
        buckets: wire::built_in(config),
        trusted_proxies: TrustedProxies::parse(proxies).expect("proxies were checked with the configuration"),
        cors_origins: config.rest.cors_origins.clone(),
        rate: Limits { general: rate.general, upload: rate.upload, video: rate.video, system: rate.system },
        gateway: GatewaySettings {
            public_read: gateway.public_read,
            public_base_url: gateway.public_base_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
            tus_max_size_bytes: gateway.tus_max_size,
            tus_expiry_ms: u64::from(gateway.tus_expiry_hours) * 3_600_000,
        },
        filing: FilingSettings {
            file_bytes_max: filing.max_file_size,
            timezone: filing.timezone.clone(),
            debug: filing.debug,
        },
        checkout: checkout(daemon, addresses),
    }
}

/// Where a browser goes from a checkout; unless the settings say where, to a page that is there.
fn checkout(daemon: &Daemon, addresses: &Addresses) -> Pages {
    let stripe = &daemon.config.billing.stripe;
    let or_docs =
        |url: &Option<String>| url.clone().unwrap_or_else(|| format!("{}/docs", addresses.rest_url));
    Pages { success_url: or_docs(&stripe.success_url), cancel_url: or_docs(&stripe.cancel_url) }
}
