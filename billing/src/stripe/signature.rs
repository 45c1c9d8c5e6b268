//! The signature of a webhook, by Stripe's published scheme: `Stripe-Signature: t=…,v1=…`, HMAC-SHA256 of
//! `t.body` with the whole secret as its key. Several `v1` may stand there while a secret is being rolled.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::{Error, Result};

/// How far the time of a signature may be from ours: as in Stripe's own libraries.
const TOLERANCE_S: u64 = 300;
/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 8;

/// Checks that the body was signed with the secret, and not long ago.
///
/// # Errors
/// `BadSignature`.
pub(super) fn verify(header: &str, body: &[u8], secret: &str, now_ms: u64) -> Result<()> {
    let bad = |why| Error::BadSignature { why };
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", text)) => time = Some(text),
            Some(("v1", text)) if signatures.len() < SIGNATURES_MAX => signatures.push(text),
            _ => {}
        }
    }
    let time = time.ok_or(bad("it has no time"))?;
    let signed_s: u64 = time.parse().map_err(|_| bad("its time is no number"))?;
    let is_right = signatures.iter().any(|signature| {
        let Ok(signature) = hex::decode(signature) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // Takes the same time wherever the first difference is.
        mac.verify_slice(&signature).is_ok()
    });
    if !is_right {
        return Err(bad("it was not made with this secret"));
    }
    if (now_ms / 1000).abs_diff(signed_s) > TOLERANCE_S {
        return Err(bad("its time is too far from ours"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_test_secret";
    const BODY: &[u8] = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}";
    const T: u64 = 1_700_000_000;

    /// HMAC-SHA256 of `1700000000.BODY`, computed with another implementation (Python's `hmac`).
    const KNOWN: &str = "4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150";

    fn check(header: &str, body: &[u8], secret: &str, now_s: u64) -> Result<(), &'static str> {
        verify(header, body, secret, now_s * 1000).map_err(|error| match error {
            Error::BadSignature { why } => why,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn what_is_signed_is_believed_for_five_minutes() {
        let good = format!("t={T},v1={KNOWN},v0=ff");
        for (header, now, outcome) in [
            (good.clone(), T, Ok(())),
            (good.clone(), T + 300, Ok(())),
            (good.clone(), T - 300, Ok(())),
            (good.clone(), T + 301, Err("its time is too far from ours")),
            (format!("t={T},v1={},v1={KNOWN}", "00".repeat(32)), T, Ok(())),
            (format!(" t={T} , v1={KNOWN}"), T, Ok(())),
            (format!("t={T},v0={KNOWN}"), T, Err("it was not made with this secret")),
            (format!("t={},v1={KNOWN}", T + 1), T, Err("it was not made with this secret")),
            (format!("t={T},v1=zz"), T, Err("it was not made with this secret")),
            (format!("v1={KNOWN}"), T, Err("it has no time")),
            (String::new(), T, Err("it has no time")),
        ] {
            assert_eq!(check(&header, BODY, SECRET, now), outcome, "{header} at {now}");
        }
        let wrong = Err("it was not made with this secret");
        assert_eq!(check(&good, BODY, "whsec_other", T), wrong);
        assert_eq!(check(&good, &[BODY, b" "].concat(), SECRET, T), wrong);
    }
}
