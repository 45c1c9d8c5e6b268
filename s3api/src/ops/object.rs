//! Objects: put, get, head, copy, delete one and many, attributes, tagging, canned ACL.

use coffre_store::condition::Conditions;
use coffre_store::copy::CopyObject;
use coffre_store::delete::{DeleteObject, DeleteOne, Deleted};
use coffre_store::get::{Found, GetObject};
use coffre_store::object::{PartSizes, Versioning};
use coffre_store::put::PutObject;
use coffre_store::{Action, BucketName, Cx, ObjectKey};
use s3s::dto::{
    Checksum, ChecksumMode, CopyObjectInput, CopyObjectOutput, CopyObjectResult, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETagCondition, Error, GetObjectAclInput, GetObjectAclOutput,
    GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, GetObjectInput,
    GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadObjectInput, HeadObjectOutput,
    MetadataDirective, ObjectAttributes, ObjectCannedACL, ObjectIdentifier, ObjectPart, PutObjectAclInput,
    PutObjectAclOutput, PutObjectInput, PutObjectOutput, PutObjectTaggingInput, PutObjectTaggingOutput,
    StorageClass, TaggingDirective,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::{Ops, owner_grant, refuse_acl, refuse_policy, refuse_unsupported};
use crate::access::context;
use crate::body;
use crate::convert::{self, attributes, checksum};
use crate::error::{self, Answer as _};

/// Most keys of one DeleteObjects (S3).
const DELETES_MAX: usize = 1000;
/// What an object without a declared type is (S3).
const DEFAULT_TYPE: &str = "binary/octet-stream";
/// Most parts GetObjectAttributes shows at once (S3).
const PARTS_MAX: usize = 1000;

/// What a presigned URL carries in its query in place of headers (contract D16). Written after s3s has verified the
/// signature, which covers the whole query; a header of the same name wins.
macro_rules! unhoist {
    ($request:expr) => {
        for (name, value) in convert::hoisted(&$request.uri) {
            let input = &mut $request.input;
            if let Some(key) = name.strip_prefix("x-amz-meta-") {
                input.metadata.get_or_insert_default().entry(key.to_owned()).or_insert(value);
                continue;
            }
            match name.as_str() {
                "x-amz-tagging" => fill(&mut input.tagging, value),
                "x-amz-acl" => fill(&mut input.acl, value),
                "x-amz-website-redirect-location" => fill(&mut input.website_redirect_location, value),
                name if name.starts_with("x-amz-server-side-encryption") => {
                    fill(&mut input.server_side_encryption, value);
                }
                name if name.starts_with("x-amz-object-lock") => {
                    fill(&mut input.object_lock_mode, value);
                }
                _ => {}
            }
        }
    };
}
pub(super) use unhoist;

/// Sets what no header has set.
pub(super) fn fill<T: From<String>>(field: &mut Option<T>, value: String) {
    if field.is_none() {
        *field = Some(value.into());
    }
}

/// `PutObject`, and what `PostObject` becomes.
pub(super) async fn put(
    ops: &Ops,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let cx = context(&request)?;
    unhoist!(request);
    let (body, sha256) = body::upload(&mut request, |input| input.body.take());
    let mut input = request.input;
    refuse_unsupported!(input);
    if input.write_offset_bytes.is_some() {
        return Err(s3_error!(NotImplemented, "Appending is not implemented"));
    }
    let claimed = checksum::claimed!(input)?;
    let put = PutObject {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        attributes: attributes!(input),
        size_bytes: announced_size(input.content_length)?,
        claims: checksum::claims(
            input.content_md5.as_deref(),
            claimed,
            sha256,
            &request.headers,
            request.trailing_headers,
        )?,
        conditions: convert::conditions(input.if_match.take(), input.if_none_match.take(), None, None),
        body,
    };
    let stored = ops.store.put(&cx, put).await.answer(&cx)?;
    let mut output = PutObjectOutput {
        e_tag: Some(convert::etag(&stored.version.etag)),
        version_id: convert::shown_version_id(&stored.version, stored.versioning),
        ..PutObjectOutput::default()
    };
    checksum::show_typed!(output, checksum::of_version(&stored.version));
    Ok(S3Response::new(output))
}

/// `Content-Length`, decoded where the body was framed.
pub(super) fn announced_size(length: Option<i64>) -> S3Result<Option<u64>> {
    length.map(u64::try_from).transpose().map_err(|_| s3_error!(InvalidArgument, "invalid Content-Length"))
}

/// The fields a get and a head share.
macro_rules! version_output {
    ($output:ident, $found:expr, $with_checksum:expr) => {{
        let found: &Found = $found;
        let version = &found.version;
        let shown = &version.attributes;
        let (metadata, missing_meta) = convert::shown_metadata(&shown.user_metadata);
        let length = found.range.as_ref().map_or(version.size_bytes, |range| range.end - range.start);
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(length).ok(),
            content_range: found
                .range
                .as_ref()
                .map(|r| format!("bytes {}-{}/{}", r.start, r.end.saturating_sub(1), version.size_bytes)),
            content_type: convert::header_text(shown.content_type.as_ref())
                .or_else(|| Some(DEFAULT_TYPE.to_owned())),
            content_encoding: convert::header_text(shown.content_encoding.as_ref()),
            content_language: convert::header_text(shown.content_language.as_ref()),
            content_disposition: convert::header_text(shown.content_disposition.as_ref()),
            cache_control: convert::header_text(shown.cache_control.as_ref()),
            expires: convert::header_text(shown.expires.as_ref()),
            website_redirect_location: convert::header_text(shown.website_redirect.as_ref()),
            e_tag: Some(convert::etag(&version.etag)),
            last_modified: convert::timestamp(version.modified_ms),
            metadata,
            missing_meta,
            tag_count: i32::try_from(shown.tags.len()).ok().filter(|&n| n > 0),
            parts_count: found.parts_count.and_then(|n| i32::try_from(n).ok()),
            version_id: convert::shown_version_id(version, found.versioning),
            ..$output::default()
        };
        // a checksum of the whole says nothing of a piece
        if $with_checksum && found.range.is_none() {
            checksum::show_typed!(output, checksum::of_version(version));
        }
        output
    }};
}

/// What a get and a head ask for.
macro_rules! conditional_get {
    ($input:expr, $cx:expr) => {
        GetObject {
            conditions: convert::conditions(
                $input.if_match,
                $input.if_none_match,
                $input.if_modified_since,
                $input.if_unmodified_since,
            ),
            range: convert::range($input.range, $input.part_number)?,
            ..plain_get($cx, &$input.bucket, &$input.key, $input.version_id.as_deref())?
        }
    };
}

/// An object as it is, whole.
fn plain_get(cx: &Cx, bucket: &str, key: &str, version: Option<&str>) -> S3Result<GetObject> {
    Ok(GetObject {
        at: convert::at(bucket, key).answer(cx)?,
        version: convert::version_ref(version)?,
        conditions: Conditions::default(),
        range: None,
    })
}

/// `x-amz-checksum-mode: ENABLED`.
fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str().eq_ignore_ascii_case(ChecksumMode::ENABLED))
}

/// `GetObject`. s3s writes the `response-*` overrides; anonymous callers may not ask for them (S3).
pub(super) async fn get(
    ops: &Ops,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let cx = context(&request)?;
    let is_signed = request.credentials.is_some();
    let input = request.input;
    let overrides = [
        input.response_cache_control.is_some(),
        input.response_content_disposition.is_some(),
        input.response_content_encoding.is_some(),
        input.response_content_language.is_some(),
        input.response_content_type.is_some(),
        input.response_expires.is_some(),
    ];
    if !is_signed && overrides.contains(&true) {
        return Err(s3_error!(
            InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests."
        ));
    }
    let get = conditional_get!(input, &cx);
    let by_version = get.version.is_some();
    let (found, stream) = ops.store.get(&cx, get).await.map_err(|why| not_read(&cx, &why, by_version))?;
    let mut output = version_output!(GetObjectOutput, &found, wants_checksum(input.checksum_mode.as_ref()));
    let length = found.range.as_ref().map_or(found.version.size_bytes, |range| range.end - range.start);
    output.body = Some(body::outgoing(stream, length));
    Ok(S3Response::new(output))
}

/// `HeadObject`.
pub(super) async fn head(
    ops: &Ops,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let get = conditional_get!(input, &cx);
    let by_version = get.version.is_some();
    let found = ops.store.head(&cx, get).await.map_err(|why| not_read(&cx, &why, by_version))?;
    let output = version_output!(HeadObjectOutput, &found, wants_checksum(input.checksum_mode.as_ref()));
    Ok(S3Response::new(output))
}

fn not_read(cx: &Cx, why: &coffre_store::Error, by_version: bool) -> s3s::S3Error {
    if by_version { error::marker_by_version(cx, why) } else { error::answer(cx, why) }
}

/// `CopyObject`. One call: the store asks for both ends (design §3).
pub(super) async fn copy(
    ops: &Ops,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let cx = context(&request)?;
    let mut input = request.input;
    refuse_unsupported!(input);
    let (source, source_version) = convert::copy_source(&request.headers, &input.copy_source)?;
    let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
    };
    let tags = match input.tagging_directive.as_ref().map(TaggingDirective::as_str) {
        None | Some(TaggingDirective::COPY) => None,
        Some(TaggingDirective::REPLACE) => Some(convert::tagging_header(input.tagging.as_deref())?),
        Some(_) => return Err(s3_error!(InvalidArgument, "Unknown tagging directive.")),
    };
    let copy = CopyObject {
        source,
        source_version,
        source_conditions: convert::conditions(
            input.copy_source_if_match.take(),
            input.copy_source_if_none_match.take(),
            input.copy_source_if_modified_since.take(),
            input.copy_source_if_unmodified_since.take(),
        ),
        target: convert::at(&input.bucket, &input.key).answer(&cx)?,
        target_conditions: convert::conditions(input.if_match.take(), input.if_none_match.take(), None, None),
        attributes: if replaces { Some(attributes!(input)) } else { None },
        tags,
        compute: input.checksum_algorithm.as_ref().map(|a| checksum::algorithm(a.as_str())).transpose()?,
    };
    let (stored, from) = ops.store.copy(&cx, copy).await.answer(&cx)?;
    let mut result = CopyObjectResult {
        e_tag: Some(convert::etag(&stored.version.etag)),
        last_modified: convert::timestamp(stored.version.modified_ms),
        ..CopyObjectResult::default()
    };
    checksum::show_typed!(result, checksum::of_version(&stored.version));
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: from.map(convert::version_ref_id),
        version_id: convert::shown_version_id(&stored.version, stored.versioning),
        ..CopyObjectOutput::default()
    }))
}

/// What a delete answers: version id and marker only where versioning is or was on.
fn shown_delete(deleted: &Deleted) -> (Option<String>, Option<bool>) {
    if deleted.versioning == Versioning::Off {
        return (None, None);
    }
    let version = deleted.version.map(|id| convert::version_id(id, deleted.is_null));
    (version, deleted.is_delete_marker.then_some(true))
}

/// `DeleteObject`.
pub(super) async fn delete(
    ops: &Ops,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(s3_error!(NotImplemented, "Only If-Match is implemented for deletes"));
    }
    let delete = DeleteObject {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        version: convert::version_ref(input.version_id.as_deref())?,
        conditions: convert::conditions(input.if_match, None, None, None),
    };
    let deleted = ops.store.delete(&cx, delete).await.answer(&cx)?;
    let (version_id, delete_marker) = shown_delete(&deleted);
    let output = DeleteObjectOutput { version_id, delete_marker, ..DeleteObjectOutput::default() };
    Ok(S3Response::new(output))
}

/// `DeleteObjects`: one answer for each key. A key or version that is none fails alone.
pub(super) async fn delete_many(
    ops: &Ops,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let bucket: BucketName = input.bucket.parse().answer(&cx)?;
    let (asked, quiet) = (input.delete.objects, input.delete.quiet == Some(true));
    if asked.is_empty() || asked.len() > DELETES_MAX {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let parsed: Vec<S3Result<DeleteOne>> = asked.iter().map(|one| delete_one(&cx, one)).collect();
    let ones = parsed.iter().filter_map(|one| one.as_ref().ok()).cloned().collect();
    let mut results = ops.store.delete_many(&cx, &bucket, ones).await.answer(&cx)?.into_iter();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (one, parsed) in asked.into_iter().zip(parsed) {
        let result = match parsed {
            Err(refused) => Err(refused),
            Ok(_) => {
                results.next().map_or_else(|| Err(s3_error!(InternalError)), |result| result.answer(&cx))
            }
        };
        let key = Some(convert::xml_name(&one.key).into_owned());
        match result {
            Ok(_) if quiet => {}
            Ok(done) => {
                let (version, delete_marker) = shown_delete(&done);
                deleted.push(DeletedObject {
                    key,
                    delete_marker,
                    delete_marker_version_id: version.filter(|_| delete_marker == Some(true)),
                    version_id: one.version_id,
                });
            }
            Err(refused) => errors.push(Error {
                key,
                version_id: one.version_id,
                code: Some(refused.code().as_str().to_owned()),
                message: refused.message().map(str::to_owned),
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted).filter(|all| !all.is_empty()),
        errors: Some(errors).filter(|all| !all.is_empty()),
        ..DeleteObjectsOutput::default()
    }))
}

fn delete_one(cx: &Cx, one: &ObjectIdentifier) -> S3Result<DeleteOne> {
    if one.last_modified_time.is_some() || one.size.is_some() {
        return Err(s3_error!(NotImplemented, "Only ETag is implemented as a condition of deletes"));
    }
    let if_match = one.e_tag.clone().map(ETagCondition::ETag);
    Ok(DeleteOne {
        key: one.key.parse::<ObjectKey>().answer(cx)?,
        version: convert::version_ref(one.version_id.as_deref())?,
        conditions: convert::conditions(if_match, None, None, None),
    })
}

/// `GetObjectAttributes`: only what is asked for.
pub(super) async fn attributes(
    ops: &Ops,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let get = plain_get(&cx, &input.bucket, &input.key, input.version_id.as_deref())?;
    let by_version = get.version.is_some();
    let found = ops.store.head(&cx, get).await.map_err(|why| not_read(&cx, &why, by_version))?;
    // one header with commas, or several
    let asked: Vec<&str> =
        input.object_attributes.iter().flat_map(|names| names.as_str().split(',')).map(str::trim).collect();
    let wants = |name: &'static str| asked.contains(&name);
    let version = &found.version;
    let mut sums = Checksum::default();
    checksum::show_typed!(sums, checksum::of_version(version));
    let after = input.part_number_marker.unwrap_or(0);
    let limit = super::list::page_size(input.max_parts)?.min(PARTS_MAX);
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: wants(ObjectAttributes::CHECKSUM).then_some(sums),
        e_tag: wants(ObjectAttributes::ETAG).then(|| convert::etag(&version.etag)),
        object_parts: version
            .parts
            .as_ref()
            .filter(|_| wants(ObjectAttributes::OBJECT_PARTS))
            .map(|parts| parts_page(parts, version.size_bytes, after, limit)),
        object_size: i64::try_from(version.size_bytes).ok().filter(|_| wants(ObjectAttributes::OBJECT_SIZE)),
        storage_class: wants(ObjectAttributes::STORAGE_CLASS)
            .then(|| StorageClass::from_static(StorageClass::STANDARD)),
        last_modified: convert::timestamp(version.modified_ms),
        version_id: convert::shown_version_id(version, found.versioning),
        ..GetObjectAttributesOutput::default()
    }))
}

fn parts_page(parts: &PartSizes, total: u64, after: i32, limit: usize) -> GetObjectAttributesParts {
    let all: Vec<(i32, u64)> = match parts {
        PartSizes::Uniform { count, each } => (0..*count)
            .map(|i| {
                (
                    i32::try_from(i + 1).unwrap_or(i32::MAX),
                    total.saturating_sub(u64::from(i) * each).min(*each),
                )
            })
            .collect(),
        PartSizes::Listed(listed) => {
            listed.iter().map(|(number, size)| (i32::from(number.get()), *size)).collect()
        }
    };
    let page: Vec<ObjectPart> = all
        .iter()
        .filter(|(number, _)| *number > after)
        .take(limit)
        .map(|(number, size)| ObjectPart {
            part_number: Some(*number),
            size: i64::try_from(*size).ok(),
            ..ObjectPart::default()
        })
        .collect();
    let last = page.last().and_then(|part| part.part_number).unwrap_or(after);
    GetObjectAttributesParts {
        total_parts_count: i32::try_from(all.len()).ok(),
        part_number_marker: Some(after),
        next_part_number_marker: Some(last),
        max_parts: super::list::shown_size(limit),
        is_truncated: Some(all.iter().any(|(number, _)| *number > last)),
        parts: Some(page),
    }
}

/// `GetObjectTagging`.
pub(super) async fn get_tagging(
    ops: &Ops,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let at = convert::at(&input.bucket, &input.key).answer(&cx)?;
    let version = convert::version_ref(input.version_id.as_deref())?;
    let found = ops.store.tags(&cx, at, version).await.answer(&cx)?;
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set: convert::shown_tags(&found.version.attributes.tags),
        version_id: convert::shown_version_id(&found.version, found.versioning),
    }))
}

/// `PutObjectTagging`.
pub(super) async fn put_tagging(
    ops: &Ops,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let at = convert::at(&input.bucket, &input.key).answer(&cx)?;
    let version = convert::version_ref(input.version_id.as_deref())?;
    let tags = convert::tag_set(input.tagging.tag_set)?;
    let found = ops.store.set_tags(&cx, at, version, tags).await.answer(&cx)?;
    let version_id = convert::shown_version_id(&found.version, found.versioning);
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

/// `DeleteObjectTagging`.
pub(super) async fn delete_tagging(
    ops: &Ops,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let at = convert::at(&input.bucket, &input.key).answer(&cx)?;
    let version = convert::version_ref(input.version_id.as_deref())?;
    let found = ops.store.set_tags(&cx, at, version, vec![]).await.answer(&cx)?;
    let version_id = convert::shown_version_id(&found.version, found.versioning);
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

/// `GetObjectAcl`: who may read the bucket's policy and the object may know whose it is.
pub(super) async fn get_acl(
    ops: &Ops,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let get = plain_get(&cx, &input.bucket, &input.key, input.version_id.as_deref())?;
    let bucket = ops.store.bucket(&cx, &get.at.bucket, Action::GetBucketPolicy).await.answer(&cx)?;
    ops.store.head(&cx, get).await.answer(&cx)?;
    // the bucket's owner owns what is in it (S3 "bucket owner enforced")
    let owner = convert::owner(bucket.owner);
    let grants = vec![owner_grant(owner.clone())];
    Ok(S3Response::new(GetObjectAclOutput {
        owner: Some(owner),
        grants: Some(grants),
        request_charged: None,
    }))
}

/// `PutObjectAcl`: the ACLs that change nothing.
pub(super) async fn put_acl(
    ops: &Ops,
    request: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let get = plain_get(&cx, &input.bucket, &input.key, input.version_id.as_deref())?;
    let bucket = ops.store.bucket(&cx, &get.at.bucket, Action::PutBucketPolicy).await.answer(&cx)?;
    ops.store.head(&cx, get).await.answer(&cx)?;
    refuse_policy(input.access_control_policy.as_ref(), &convert::owner(bucket.owner))?;
    refuse_acl(input.acl.as_ref().map(ObjectCannedACL::as_str))?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}
