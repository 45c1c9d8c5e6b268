//! Signed links: who has one may have what it names, for as long as it says (contract D26).
//!
//! The signature is HMAC-SHA256 under a key made of the master key; what is signed begins with the link's kind, so that
//! one of one kind is none of another. Leaves out: what a link says, and until when it counts (the doors).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::Identity;

impl Identity {
    /// The signature of a link of a kind that says these texts, in hex.
    pub fn sign_link(&self, kind: &str, says: &[&str]) -> String {
        let key = mac(self.master().bytes(), &["coffre signed links", "1"]);
        let parts: Vec<&str> = std::iter::once(kind).chain(says.iter().copied()).collect();
        hex::encode(mac(&key, &parts))
    }

    /// Whether a signature is that of such a link. Takes as long for a wrong one as for the right one.
    pub fn is_link_signed(&self, kind: &str, says: &[&str], signature: &str) -> bool {
        bool::from(self.sign_link(kind, says).as_bytes().ct_eq(signature.as_bytes()))
    }
}

/// Each part with its length in front: no two lists of parts are one message.
fn mac(key: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coffre_kv::memory::Memory;

    use crate::sample;

    #[tokio::test]
    async fn a_link_says_what_was_signed_and_nothing_else() {
        let identity = sample::identity(Arc::new(Memory::new())).await;
        let signed = identity.sign_link("storage", &["a/b", "17"]);
        assert_eq!(signed.len(), 64);
        assert!(identity.is_link_signed("storage", &["a/b", "17"], &signed));
        for (kind, says) in [
            ("stream", &["a/b", "17"][..]),
            ("storage", &["a/b", "18"]),
            ("storage", &["a/b1", "7"]),
            ("storage", &["a/b17"]),
            ("storage", &["a/b", "17", ""]),
        ] {
            assert!(!identity.is_link_signed(kind, says, &signed), "{kind} {says:?}");
        }
        for wrong in ["", "0", &signed[..63], &signed.to_uppercase()] {
            assert!(!identity.is_link_signed("storage", &["a/b", "17"], wrong), "{wrong}");
        }
        let other = sample::identity(Arc::new(Memory::new())).await;
        assert!(!other.is_link_signed("storage", &["a/b", "17"], &signed), "another master key");
    }
}
