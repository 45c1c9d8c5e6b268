//! Bucket settings: versioning, tagging, policy, public access block; and the true answers for those that are not
//! there yet but that clients ask for on their way (ACL, ownership, CORS, lifecycle, …).

use coffre_identity::policy;
use coffre_store::bucket::Setting;
use coffre_store::object::{Bucket, Versioning};
use coffre_store::{Action, BucketName, Cx};
use s3s::dto::{
    BucketCannedACL, BucketVersioningStatus, DeleteBucketPolicyInput, DeleteBucketPolicyOutput,
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeletePublicAccessBlockInput,
    DeletePublicAccessBlockOutput, GetBucketAccelerateConfigurationInput,
    GetBucketAccelerateConfigurationOutput, GetBucketAclInput, GetBucketAclOutput, GetBucketCorsInput,
    GetBucketCorsOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, GetBucketLoggingInput,
    GetBucketLoggingOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketOwnershipControlsInput,
    GetBucketOwnershipControlsOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetBucketReplicationInput,
    GetBucketReplicationOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput, MFADelete,
    ObjectOwnership, OwnershipControls, OwnershipControlsRule, Payer, PolicyStatus,
    PublicAccessBlockConfiguration, PutBucketAclInput, PutBucketAclOutput, PutBucketPolicyInput,
    PutBucketPolicyOutput, PutBucketTaggingInput, PutBucketTaggingOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::{Ops, owner_grant, refuse_acl, refuse_policy};
use crate::access::context;
use crate::convert;
use crate::error::Answer as _;

/// The bucket, for an action.
async fn bucket(ops: &Ops, cx: &Cx, name: &str, action: Action) -> S3Result<Bucket> {
    let name: BucketName = name.parse().answer(cx)?;
    ops.store.bucket(cx, &name, action).await.answer(cx)
}

async fn set(ops: &Ops, cx: &Cx, name: &str, setting: Setting) -> S3Result<Bucket> {
    let name: BucketName = name.parse().answer(cx)?;
    ops.store.set_bucket(cx, &name, setting).await.answer(cx)
}

pub(super) async fn get_versioning(
    ops: &Ops,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketVersioning).await?;
    let status = match found.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
}

pub(super) async fn put_versioning(
    ops: &Ops,
    request: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let cx = context(&request)?;
    let configuration = request.input.versioning_configuration;
    if configuration.mfa_delete.is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED) {
        return Err(s3_error!(NotImplemented, "MFA delete is not implemented"));
    }
    let versioning = match configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => return Err(S3ErrorCode::IllegalVersioningConfigurationException.into()),
    };
    set(ops, &cx, &request.input.bucket, Setting::Versioning(versioning)).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub(super) async fn get_tagging(
    ops: &Ops,
    request: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketTagging).await?;
    if found.tags.is_empty() {
        return Err(S3ErrorCode::NoSuchTagSet.into());
    }
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: convert::shown_tags(&found.tags) }))
}

pub(super) async fn put_tagging(
    ops: &Ops,
    request: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let cx = context(&request)?;
    let tags = convert::tag_set(request.input.tagging.tag_set)?;
    set(ops, &cx, &request.input.bucket, Setting::Tags(tags)).await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn delete_tagging(
    ops: &Ops,
    request: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    let cx = context(&request)?;
    set(ops, &cx, &request.input.bucket, Setting::Tags(vec![])).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}

pub(super) async fn get_policy(
    ops: &Ops,
    request: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketPolicy).await?;
    match found.policy {
        Some(policy) => Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) })),
        None => Err(S3ErrorCode::NoSuchBucketPolicy.into()),
    }
}

/// `PutBucketPolicy`: parsed before it is kept; one that would open a bucket whose public access is blocked is
/// refused (S3 "BlockPublicPolicy").
pub(super) async fn put_policy(
    ops: &Ops,
    request: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let found = bucket(ops, &cx, &input.bucket, Action::PutBucketPolicy).await?;
    let parsed = policy::parse(&input.policy, &found.name)
        .map_err(|why| S3Error::with_message(S3ErrorCode::MalformedPolicy, why.to_string()))?;
    if found.blocks_public && parsed.is_public() {
        return Err(s3_error!(
            AccessDenied,
            "Public policies are blocked by the bucket's public access block"
        ));
    }
    set(ops, &cx, &input.bucket, Setting::Policy(Some(input.policy))).await?;
    Ok(S3Response::new(PutBucketPolicyOutput::default()))
}

pub(super) async fn delete_policy(
    ops: &Ops,
    request: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    let cx = context(&request)?;
    set(ops, &cx, &request.input.bucket, Setting::Policy(None)).await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
}

pub(super) async fn policy_status(
    ops: &Ops,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketPolicy).await?;
    let Some(text) = &found.policy else { return Err(S3ErrorCode::NoSuchBucketPolicy.into()) };
    // a policy that no longer parses opens nothing
    let is_public = policy::parse(text, &found.name).is_ok_and(|policy| policy.is_public());
    let status = PolicyStatus { is_public: Some(is_public && !found.blocks_public) };
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status: Some(status) }))
}

/// `GetPublicAccessBlock`: one switch stands behind the four (there are no public ACLs to block).
pub(super) async fn get_public_access(
    ops: &Ops,
    request: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketPublicAccessBlock).await?;
    let blocks = Some(found.blocks_public);
    Ok(S3Response::new(GetPublicAccessBlockOutput {
        public_access_block_configuration: Some(PublicAccessBlockConfiguration {
            block_public_acls: blocks,
            block_public_policy: blocks,
            ignore_public_acls: blocks,
            restrict_public_buckets: blocks,
        }),
    }))
}

/// `PutPublicAccessBlock`: the two flags about policies turn the switch; those about ACLs have nothing to act on.
pub(super) async fn put_public_access(
    ops: &Ops,
    request: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let cx = context(&request)?;
    let asked = request.input.public_access_block_configuration;
    let blocks = asked.block_public_policy == Some(true) || asked.restrict_public_buckets == Some(true);
    set(ops, &cx, &request.input.bucket, Setting::BlocksPublic(blocks)).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) async fn delete_public_access(
    ops: &Ops,
    request: S3Request<DeletePublicAccessBlockInput>,
) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
    let cx = context(&request)?;
    set(ops, &cx, &request.input.bucket, Setting::BlocksPublic(false)).await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
}

pub(super) async fn get_acl(
    ops: &Ops,
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let cx = context(&request)?;
    let found = bucket(ops, &cx, &request.input.bucket, Action::GetBucketPolicy).await?;
    let owner = convert::owner(found.owner);
    let grants = vec![owner_grant(owner.clone())];
    Ok(S3Response::new(GetBucketAclOutput { owner: Some(owner), grants: Some(grants) }))
}

pub(super) async fn put_acl(
    ops: &Ops,
    request: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let found = bucket(ops, &cx, &input.bucket, Action::PutBucketPolicy).await?;
    refuse_policy(input.access_control_policy.as_ref(), &convert::owner(found.owner))?;
    refuse_acl(input.acl.as_ref().map(BucketCannedACL::as_str))?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(super) async fn ownership(
    ops: &Ops,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let cx = context(&request)?;
    bucket(ops, &cx, &request.input.bucket, Action::GetBucketPolicy).await?;
    let ownership = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership: ownership }];
    let ownership_controls = Some(OwnershipControls { rules });
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls }))
}

pub(super) async fn request_payment(
    ops: &Ops,
    request: S3Request<GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    let cx = context(&request)?;
    bucket(ops, &cx, &request.input.bucket, Action::GetBucketLocation).await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

/// 404, which S3 says and s3s does not know of these two.
fn not_found(code: S3ErrorCode) -> S3Error {
    let mut error = S3Error::new(code);
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}

/// Writes the answers that say no more than "nothing of that kind is set".
macro_rules! unset {
    ($($(#[$doc:meta])* $name:ident($input:ident) -> $output:ident = $answer:expr;)*) => {
        $($(#[$doc])*
        pub(super) async fn $name(ops: &Ops, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
            let cx = context(&request)?;
            bucket(ops, &cx, &request.input.bucket, Action::GetBucketLocation).await?;
            $answer
        })*
    };
}

unset! {
    logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = Ok(S3Response::new(GetBucketLoggingOutput::default()));
    notification(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput
        = Ok(S3Response::new(GetBucketNotificationConfigurationOutput::default()));
    accelerate(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput
        = Ok(S3Response::new(GetBucketAccelerateConfigurationOutput::default()));
    cors(GetBucketCorsInput) -> GetBucketCorsOutput = Err(S3ErrorCode::NoSuchCORSConfiguration.into());
    lifecycle(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput
        = Err(S3ErrorCode::NoSuchLifecycleConfiguration.into());
    website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = Err(S3ErrorCode::NoSuchWebsiteConfiguration.into());
    /// Nothing is encrypted at rest yet, and saying AES256 would be a lie.
    encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput
        = Err(not_found(S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError));
    replication(GetBucketReplicationInput) -> GetBucketReplicationOutput
        = Err(not_found(S3ErrorCode::ReplicationConfigurationNotFoundError));
    object_lock(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput
        = Err(S3ErrorCode::ObjectLockConfigurationNotFoundError.into());
}
