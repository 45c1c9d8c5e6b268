//! S3's actions in policies: the names that exist, and which of them the store asks about.

use coffre_store::Action;

use super::PolicyError;
use super::pattern::{Pattern, Syntax};

/// Action names a policy may use (S3 "Actions, resources, and condition keys"). Those that this server does not do
/// have no effect, but the policy that names them is a right one.
const KNOWN: &[&str] = &[
    "AbortMultipartUpload",
    "BypassGovernanceRetention",
    "CreateBucket",
    "DeleteBucket",
    "DeleteBucketOwnershipControls",
    "DeleteBucketPolicy",
    "DeleteBucketTagging",
    "DeleteBucketWebsite",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetAccelerateConfiguration",
    "GetAnalyticsConfiguration",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketNotification",
    "GetBucketObjectLockConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetEncryptionConfiguration",
    "GetInventoryConfiguration",
    "GetLifecycleConfiguration",
    "GetMetricsConfiguration",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionForReplication",
    "GetObjectVersionTagging",
    "GetReplicationConfiguration",
    "ListAllMyBuckets",
    "ListBucket",
    "ListBucketMultipartUploads",
    "ListBucketVersions",
    "ListMultipartUploadParts",
    "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration",
    "PutBucketAcl",
    "PutBucketCORS",
    "PutBucketLogging",
    "PutBucketNotification",
    "PutBucketObjectLockConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketRequestPayment",
    "PutBucketTagging",
    "PutBucketVersioning",
    "PutBucketWebsite",
    "PutEncryptionConfiguration",
    "PutInventoryConfiguration",
    "PutLifecycleConfiguration",
    "PutMetricsConfiguration",
    "PutObject",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "PutReplicationConfiguration",
    "ReplicateDelete",
    "ReplicateObject",
    "ReplicateTags",
    "RestoreObject",
];

/// Parses an action of a policy: `*`, `s3:*`, `s3:Get*`, `s3:GetObject`.
///
/// # Errors
/// One that matches no S3 action: the author meant something else.
pub(super) fn parse(text: &str) -> Result<Pattern, PolicyError> {
    let pattern = Pattern::parse(text, Syntax { wildcards: true, variables: false })?;
    if KNOWN.iter().any(|name| matches(&pattern, name)) {
        Ok(pattern)
    } else {
        Err(PolicyError::malformed(format_args!("the action {text} is none of S3's")))
    }
}

/// Whether the pattern covers the action of this name. Upper and lower case are one, as at AWS.
pub(super) fn matches(pattern: &Pattern, name: &str) -> bool {
    pattern.matches(&format!("s3:{name}"), true, |_| None)
}

/// The action's name without `s3:`.
pub(super) fn name(action: Action) -> &'static str {
    match action {
        Action::CreateBucket => "CreateBucket",
        Action::DeleteBucket => "DeleteBucket",
        Action::ListAllMyBuckets => "ListAllMyBuckets",
        Action::ListBucket => "ListBucket",
        Action::ListBucketVersions => "ListBucketVersions",
        Action::ListBucketMultipartUploads => "ListBucketMultipartUploads",
        Action::GetBucketLocation => "GetBucketLocation",
        Action::GetBucketVersioning => "GetBucketVersioning",
        Action::PutBucketVersioning => "PutBucketVersioning",
        Action::GetBucketTagging => "GetBucketTagging",
        Action::PutBucketTagging => "PutBucketTagging",
        Action::GetBucketPolicy => "GetBucketPolicy",
        Action::PutBucketPolicy => "PutBucketPolicy",
        Action::DeleteBucketPolicy => "DeleteBucketPolicy",
        Action::GetBucketPublicAccessBlock => "GetBucketPublicAccessBlock",
        Action::PutBucketPublicAccessBlock => "PutBucketPublicAccessBlock",
        Action::GetObject => "GetObject",
        Action::GetObjectVersion => "GetObjectVersion",
        Action::GetObjectTagging => "GetObjectTagging",
        Action::GetObjectVersionTagging => "GetObjectVersionTagging",
        Action::GetObjectAttributes => "GetObjectAttributes",
        Action::PutObject => "PutObject",
        Action::PutObjectTagging => "PutObjectTagging",
        Action::PutObjectVersionTagging => "PutObjectVersionTagging",
        Action::DeleteObject => "DeleteObject",
        Action::DeleteObjectVersion => "DeleteObjectVersion",
        Action::DeleteObjectTagging => "DeleteObjectTagging",
        Action::AbortMultipartUpload => "AbortMultipartUpload",
        Action::ListMultipartUploadParts => "ListMultipartUploadParts",
    }
}

/// Whether the resource is an object; else it is the bucket.
pub(crate) fn is_of_object(action: Action) -> bool {
    match action {
        Action::GetObject
        | Action::GetObjectVersion
        | Action::GetObjectTagging
        | Action::GetObjectVersionTagging
        | Action::GetObjectAttributes
        | Action::PutObject
        | Action::PutObjectTagging
        | Action::PutObjectVersionTagging
        | Action::DeleteObject
        | Action::DeleteObjectVersion
        | Action::DeleteObjectTagging
        | Action::AbortMultipartUpload
        | Action::ListMultipartUploadParts => true,
        Action::CreateBucket
        | Action::DeleteBucket
        | Action::ListAllMyBuckets
        | Action::ListBucket
        | Action::ListBucketVersions
        | Action::ListBucketMultipartUploads
        | Action::GetBucketLocation
        | Action::GetBucketVersioning
        | Action::PutBucketVersioning
        | Action::GetBucketTagging
        | Action::PutBucketTagging
        | Action::GetBucketPolicy
        | Action::PutBucketPolicy
        | Action::DeleteBucketPolicy
        | Action::GetBucketPublicAccessBlock
        | Action::PutBucketPublicAccessBlock => false,
    }
}

/// Whether the action lists keys: then the question's key is the prefix asked for.
pub(crate) fn is_listing(action: Action) -> bool {
    matches!(action, Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads)
}
