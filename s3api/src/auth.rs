//! Access keys: the secret s3s checks a signature with, and the principal behind it.
//!
//! Promises that an unknown and a disabled key answer alike, and that a key disabled between the two questions of one
//! request is refused by the second. Leaves out how secrets are kept (`identity`).

use std::sync::Arc;

use coffre_identity::Identity;
use coffre_store::object::Principal;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// Answers s3s's question for the secret of a key.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let holder =
            self.identity.find_access_key(access_key).await.map_err(|source| unavailable(&source))?;
        match holder {
            Some(holder) if holder.is_enabled => Ok(SecretKey::from(holder.secret.expose())),
            Some(_) | None => Err(s3_error!(InvalidAccessKeyId)),
        }
    }
}

/// The principal of a key whose signature was right.
pub(crate) async fn principal(identity: &Identity, access_key: &str) -> S3Result<Arc<Principal>> {
    let holder = identity.find_access_key(access_key).await.map_err(|source| unavailable(&source))?;
    match holder {
        Some(holder) if holder.is_enabled => Ok(holder.principal),
        Some(_) | None => Err(s3_error!(InvalidAccessKeyId)),
    }
}

fn unavailable(source: &coffre_identity::Error) -> S3Error {
    tracing::error!(error = %source, "access keys cannot be read");
    S3ErrorCode::ServiceUnavailable.into()
}
