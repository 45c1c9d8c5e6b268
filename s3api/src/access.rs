//! Between s3s's check of the signature and the operation: who asks becomes the context the store wants.
//!
//! Promises that no operation runs without a [`Cx`]: it is made here and only here, and an operation that finds none
//! refuses (s3s runs this check only when an auth provider is set; forgetting it must not open the door). Lets
//! everyone pass, the anonymous too: whether they may is asked by the store, once, for each operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffre_identity::Identity;
use coffre_store::object::{Circumstances, Door, Principal};
use coffre_store::{Action, BucketName, Cx, Store};
use http::Extensions;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::CopySource;
use s3s::{S3Request, S3Result, s3_error};

use crate::auth;
use crate::body::Shared;
use crate::convert::owner_id;

/// What the door knows of a request before it is parsed; travels in its extensions.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// Answered as `x-amz-request-id`.
    pub(crate) request_id: Arc<str>,
    /// When it came, ms since 1970.
    pub(crate) now_ms: u64,
    /// What policies may ask about.
    pub(crate) circumstances: Arc<Circumstances>,
    /// The operation's name, once s3s knows it; for logs and counters.
    pub(crate) operation: Arc<std::sync::OnceLock<String>>,
    /// The body.
    pub(crate) body: Shared,
    /// The operation has begun: what was to be read before it has been read.
    pub(crate) has_begun: Arc<AtomicBool>,
}

/// s3s's access check.
pub(crate) struct Access {
    pub(crate) identity: Identity,
    pub(crate) store: Store,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = request.s3_op().name().to_owned();
        let principal = match request.credentials() {
            Some(credentials) => auth::principal(&self.identity, &credentials.access_key).await?,
            None => Arc::new(Principal::anonymous()),
        };
        let Some(arrival) = request.extensions_mut().get::<Arrival>().cloned() else {
            return Err(s3_error!(AccessDenied));
        };
        arrival.operation.get_or_init(|| operation);
        let cx = Cx {
            principal,
            door: Door::S3,
            request_id: arrival.request_id,
            now_ms: arrival.now_ms,
            circumstances: arrival.circumstances,
        };
        self.check_expected_owners(&cx, request).await?;
        request.extensions_mut().insert(cx);
        Ok(())
    }
}

impl Access {
    /// `x-amz-expected-bucket-owner` and its kin for copy sources: a caller's own safety line against writing into,
    /// or reading from, somebody else's bucket of that name.
    async fn check_expected_owners(&self, cx: &Cx, request: &S3AccessContext<'_>) -> S3Result<()> {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(expected) = text("x-amz-expected-bucket-owner")
            && let Some(bucket) = request.s3_path().get_bucket_name()
        {
            self.check_owner(cx, bucket, expected).await?;
        }
        if let Some(expected) = text("x-amz-source-expected-bucket-owner")
            && let Some(CopySource::Bucket { bucket, .. }) =
                text("x-amz-copy-source").and_then(|source| CopySource::parse(source).ok())
        {
            self.check_owner(cx, &bucket, expected).await?;
        }
        Ok(())
    }

    async fn check_owner(&self, cx: &Cx, bucket: &str, expected: &str) -> S3Result<()> {
        // Asked as the system: the answer is only compared. A bucket that is not there is the operation's to report.
        let system = Cx { principal: Arc::new(Principal::system()), ..cx.clone() };
        let Ok(name) = bucket.parse::<BucketName>() else { return Ok(()) };
        match self.store.bucket(&system, &name, Action::GetBucketLocation).await {
            Ok(bucket) if owner_id(bucket.owner) != expected => Err(s3_error!(AccessDenied)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The context of an operation.
pub(crate) fn context<T>(request: &S3Request<T>) -> S3Result<Cx> {
    of(&request.extensions)
}

fn of(extensions: &Extensions) -> S3Result<Cx> {
    if let Some(arrival) = extensions.get::<Arrival>() {
        arrival.has_begun.store(true, Ordering::Relaxed);
    }
    extensions.get::<Cx>().cloned().ok_or_else(|| s3_error!(AccessDenied))
}
