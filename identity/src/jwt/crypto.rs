//! How signatures of JWTs are verified: by `ring`, which TLS uses anyway, behind `jsonwebtoken`'s port for it. Nothing
//! is signed here.
#![expect(clippy::trivially_copy_pass_by_ref, reason = "the port's signatures")]

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::Sha256;

/// As the port says whether a signature is good.
type Verified = std::result::Result<(), Error>;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// For the whole process; fine when it was done before.
pub(super) fn install() {
    if PROVIDER.install_default().is_err() {
        tracing::trace!("the verifier of JWTs was installed before");
    }
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(jsonwebtoken::errors::new_error(ErrorKind::InvalidAlgorithm))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let invalid = || jsonwebtoken::errors::new_error(ErrorKind::InvalidAlgorithm);
    let kind = key.kind();
    match (algorithm, kind) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(_)) => {
            Ok(Box::new(Hs256(key.try_get_as_bytes()?.to_vec())))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Ok(Box::new(Rs256(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(_)) => {
            Ok(Box::new(Es256(key.try_get_as_bytes()?.to_vec())))
        }
        _ => Err(invalid()),
    }
}

struct Hs256(Vec<u8>);
struct Rs256(RsaPublicKeyComponents<Vec<u8>>);
/// The point, uncompressed.
struct Es256(Vec<u8>);

impl Verifier<Vec<u8>> for Hs256 {
    /// In constant time.
    fn verify(&self, text: &[u8], signature: &Vec<u8>) -> Verified {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| Error::new())?;
        mac.update(text);
        mac.verify_slice(signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, text: &[u8], signature: &Vec<u8>) -> Verified {
        self.0.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for Es256 {
    fn verify(&self, text: &[u8], signature: &Vec<u8>) -> Verified {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0);
        key.verify(text, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

impl JwtVerifier for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}
