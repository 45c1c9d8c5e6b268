//! Buckets: create, head, delete, list, location.

use coffre_store::Action;
use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Ops, refuse_acl};
use crate::access::context;
use crate::convert;
use crate::error::Answer as _;

/// The region whose location has no name (S3 GetBucketLocation).
const NAMELESS_REGION: &str = "us-east-1";
/// Most buckets of one page, and how many come when nobody says (S3 ListBuckets).
const BUCKETS_MAX: usize = 10_000;

/// `CreateBucket`. Making one's own bucket again is an error everywhere but in the region without a name; here it
/// always is, so that a client knows.
pub(super) async fn create(
    ops: &Ops,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    refuse_acl(input.acl.as_ref().map(s3s::dto::BucketCannedACL::as_str))?;
    if input.object_lock_enabled_for_bucket == Some(true) {
        return Err(s3_error!(NotImplemented, "Object lock is not implemented"));
    }
    let name: coffre_store::BucketName = input.bucket.parse().answer(&cx)?;
    match ops.store.create_bucket(&cx, name.clone(), None).await {
        Ok(_) => {}
        Err(coffre_store::Error::Exists(_)) => {
            let mine = ops.store.bucket(&cx, &name, Action::ListBucket).await;
            return Err(match (mine, cx.principal.user()) {
                (Ok(bucket), Some(user)) if bucket.owner == Some(user) => s3_error!(BucketAlreadyOwnedByYou),
                _ => s3_error!(BucketAlreadyExists),
            });
        }
        other => drop(other.answer(&cx)?),
    }
    let output = CreateBucketOutput { location: Some(format!("/{name}")), ..CreateBucketOutput::default() };
    Ok(S3Response::new(output))
}

/// `HeadBucket`.
pub(super) async fn head(
    ops: &Ops,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let cx = context(&request)?;
    let name = request.input.bucket.parse().answer(&cx)?;
    ops.store.bucket(&cx, &name, Action::ListBucket).await.answer(&cx)?;
    let output = HeadBucketOutput { bucket_region: Some(ops.region.clone()), ..HeadBucketOutput::default() };
    Ok(S3Response::new(output))
}

/// `DeleteBucket`.
pub(super) async fn delete(
    ops: &Ops,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let cx = context(&request)?;
    let name = request.input.bucket.parse().answer(&cx)?;
    ops.store.delete_bucket(&cx, &name).await.answer(&cx)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

/// `ListBuckets`, in pages. The token is the name after which the next page begins.
pub(super) async fn list(
    ops: &Ops,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = match input.max_buckets {
        None => BUCKETS_MAX,
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| (1..=BUCKETS_MAX).contains(n))
            .ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be from 1 to 10000"))?,
    };
    let prefix = input.prefix.unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let page = ops.store.list_buckets(&cx, &prefix, &after, limit).await.answer(&cx)?;
    let shown = |bucket: &coffre_store::object::Bucket| Bucket {
        name: Some(bucket.name.to_string()),
        creation_date: convert::timestamp(bucket.created_ms),
        bucket_region: Some(ops.region.clone()),
        ..Bucket::default()
    };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(page.buckets.iter().map(shown).collect()),
        continuation_token: page.next_after,
        owner: Some(convert::owner(cx.principal.user())),
        prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
    }))
}

/// `GetBucketLocation`.
pub(super) async fn location(
    ops: &Ops,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let cx = context(&request)?;
    let name = request.input.bucket.parse().answer(&cx)?;
    ops.store.bucket(&cx, &name, Action::GetBucketLocation).await.answer(&cx)?;
    let location =
        (ops.region != NAMELESS_REGION).then(|| BucketLocationConstraint::from(ops.region.clone()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: location }))
}
