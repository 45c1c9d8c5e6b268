//! The operations, one line each; the work is in `ops/`, a file for each family.
//!
//! Promises that what is not listed here answers `NotImplemented` (s3s's default), and that no operation runs without
//! the context `access` made. Each takes a request apart, asks the store once, and renders the answer.

mod bucket;
mod list;
mod multipart;
mod object;
mod settings;

use coffre_store::Store;
use s3s::dto::{AccessControlPolicy, Grant, Grantee, Owner, Permission, Type};
use s3s::{S3, S3Request, S3Response, S3Result};

/// What the operations stand on.
pub(crate) struct Ops {
    pub(crate) store: Store,
    pub(crate) region: String,
}

/// Writes `impl S3` from lines of `method(Input) -> Output = function`.
macro_rules! operations {
    ($($method:ident($input:ident) -> $output:ident = $function:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Ops {
            $(async fn $method(&self, request: S3Request<s3s::dto::$input>) -> S3Result<S3Response<s3s::dto::$output>> {
                $function(self, request).await
            })*
        }
    };
}

operations! {
    create_bucket(CreateBucketInput) -> CreateBucketOutput = bucket::create;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = bucket::head;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = bucket::delete;
    list_buckets(ListBucketsInput) -> ListBucketsOutput = bucket::list;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = bucket::location;

    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = settings::get_versioning;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = settings::put_versioning;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = settings::get_tagging;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = settings::put_tagging;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = settings::delete_tagging;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = settings::get_policy;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = settings::put_policy;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = settings::delete_policy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = settings::policy_status;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = settings::get_public_access;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = settings::put_public_access;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput
        = settings::delete_public_access;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = settings::get_acl;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = settings::put_acl;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput
        = settings::ownership;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput
        = settings::request_payment;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = settings::logging;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput)
        -> GetBucketNotificationConfigurationOutput = settings::notification;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput)
        -> GetBucketAccelerateConfigurationOutput = settings::accelerate;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = settings::cors;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput = settings::lifecycle;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = settings::website;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = settings::encryption;
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = settings::replication;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput
        = settings::object_lock;

    put_object(PutObjectInput) -> PutObjectOutput = object::put;
    get_object(GetObjectInput) -> GetObjectOutput = object::get;
    head_object(HeadObjectInput) -> HeadObjectOutput = object::head;
    copy_object(CopyObjectInput) -> CopyObjectOutput = object::copy;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = object::delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = object::delete_many;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = object::attributes;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = object::get_tagging;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = object::put_tagging;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = object::delete_tagging;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = object::get_acl;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = object::put_acl;

    list_objects(ListObjectsInput) -> ListObjectsOutput = list::objects;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list::objects_v2;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list::versions;

    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = multipart::create;
    upload_part(UploadPartInput) -> UploadPartOutput = multipart::put_part;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = multipart::copy_part;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = multipart::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = multipart::abort;
    list_parts(ListPartsInput) -> ListPartsOutput = multipart::list_parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = multipart::list_uploads;
}

/// What a request may ask that is not there yet, in the fields that puts, copies and new uploads share. Storing in
/// clear what was to be encrypted, or without the retention that was asked for, would be a lie.
macro_rules! refuse_unsupported {
    ($input:expr) => {{
        $crate::ops::refuse_acl($input.acl.as_ref().map(|acl| acl.as_str()))?;
        if $input.sse_customer_algorithm.is_some()
            || $input.sse_customer_key.is_some()
            || $input.ssekms_key_id.is_some()
            || $input.server_side_encryption.is_some()
        {
            return Err(s3s::s3_error!(NotImplemented, "Server-side encryption is not implemented"));
        }
        if $input.object_lock_mode.is_some()
            || $input.object_lock_retain_until_date.is_some()
            || $input.object_lock_legal_hold_status.is_some()
        {
            return Err(s3s::s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        if $input.grant_full_control.is_some()
            || $input.grant_read.is_some()
            || $input.grant_read_acp.is_some()
            || $input.grant_write_acp.is_some()
        {
            return Err(s3s::s3_error!(AccessControlListNotSupported));
        }
    }};
}
use refuse_unsupported;

/// Ownership alone says who owns an object: the canned ACLs that change nothing are taken, others refused, as S3 does
/// where the bucket owner is enforced.
fn refuse_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => Ok(()),
        Some(_) => Err(s3s::s3_error!(AccessControlListNotSupported)),
    }
}

/// An ACL sent as a document is taken when it is the one that [`owner_grant`] shows: s3cmd reads a source's and writes it
/// to the copy, and so do others that restore what they have saved. Any other would be a grant that is not kept.
fn refuse_policy(policy: Option<&AccessControlPolicy>, owner: &Owner) -> S3Result<()> {
    let Some(policy) = policy else { return Ok(()) };
    let says_owner = policy.owner.as_ref().is_none_or(|named| named.id == owner.id);
    let grants_owner = match policy.grants.as_deref() {
        Some([Grant { grantee: Some(grantee), permission: Some(permission) }]) => {
            grantee.id == owner.id && permission.as_str() == Permission::FULL_CONTROL
        }
        _ => false,
    };
    if says_owner && grants_owner { Ok(()) } else { Err(s3s::s3_error!(AccessControlListNotSupported)) }
}

/// The ACL that ownership amounts to.
fn owner_grant(owner: Owner) -> Grant {
    let grantee = Grantee {
        type_: Type::from_static(Type::CANONICAL_USER),
        id: owner.id,
        display_name: owner.display_name,
        email_address: None,
        uri: None,
    };
    Grant { grantee: Some(grantee), permission: Some(Permission::from_static(Permission::FULL_CONTROL)) }
}
