//! Multipart uploads: create, parts (also by copy), complete, abort, lists.

use coffre_store::multipart::{
    CompletePart, CompleteUpload, CopyPart, CreateUpload, ListUploads, PutPart, Upload,
};
use coffre_store::{BucketName, Cx, UploadId};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part, StorageClass, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::list::{common_prefixes, given, page_size, shown_size};
use super::object::{announced_size, fill, unhoist};
use super::{Ops, refuse_unsupported};
use crate::access::context;
use crate::body;
use crate::convert::{self, Names, attributes, checksum};
use crate::error::Answer as _;

/// An upload's id as the client got it.
fn upload_id(cx: &Cx, text: &str) -> S3Result<UploadId> {
    text.parse().answer(cx)
}

/// `CreateMultipartUpload`.
pub(super) async fn create(
    ops: &Ops,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let cx = context(&request)?;
    unhoist!(request);
    let mut input = request.input;
    refuse_unsupported!(input);
    let checksum = checksum::of_upload(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let create = CreateUpload {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        attributes: attributes!(input),
        checksum,
    };
    let upload = ops.store.create_upload(&cx, create).await.answer(&cx)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(convert::xml_name(&input.key).into_owned()),
        upload_id: Some(upload.id.to_string()),
        checksum_algorithm: checksum.map(|(algorithm, _)| checksum::shown_algorithm(algorithm)),
        checksum_type: checksum.map(|(_, kind)| checksum::shown_upload_kind(kind)),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// `UploadPart`.
pub(super) async fn put_part(
    ops: &Ops,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let cx = context(&request)?;
    let (body, sha256) = body::upload(&mut request, |input| input.body.take());
    let mut input = request.input;
    if input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some() {
        return Err(s3_error!(NotImplemented, "Server-side encryption is not implemented"));
    }
    let claimed = checksum::claimed!(input)?;
    let part = PutPart {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        upload: upload_id(&cx, &input.upload_id)?,
        number: convert::part_number(input.part_number)?,
        size_bytes: announced_size(input.content_length)?,
        claims: checksum::claims(
            input.content_md5.as_deref(),
            claimed,
            sha256,
            &request.headers,
            request.trailing_headers,
        )?,
        body,
    };
    let part = ops.store.put_part(&cx, part).await.answer(&cx)?;
    let mut output =
        UploadPartOutput { e_tag: Some(convert::etag(&part.etag)), ..UploadPartOutput::default() };
    checksum::show!(output, part.checksum.as_ref());
    Ok(S3Response::new(output))
}

/// `UploadPartCopy`. One call: the store asks for both ends (design §3).
pub(super) async fn copy_part(
    ops: &Ops,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    if input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some() {
        return Err(s3_error!(NotImplemented, "Server-side encryption is not implemented"));
    }
    let (source, source_version) = convert::copy_source(&request.headers, &input.copy_source)?;
    let copy = CopyPart {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        upload: upload_id(&cx, &input.upload_id)?,
        number: convert::part_number(input.part_number)?,
        source,
        source_version,
        source_conditions: convert::conditions(
            input.copy_source_if_match,
            input.copy_source_if_none_match,
            input.copy_source_if_modified_since,
            input.copy_source_if_unmodified_since,
        ),
        range: convert::copy_range(input.copy_source_range.as_deref())?,
    };
    let (part, from) = ops.store.copy_part(&cx, copy).await.answer(&cx)?;
    let mut result = CopyPartResult {
        e_tag: Some(convert::etag(&part.etag)),
        last_modified: convert::timestamp(part.modified_ms),
        ..CopyPartResult::default()
    };
    checksum::show!(result, part.checksum.as_ref());
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: from.map(convert::version_ref_id),
        ..UploadPartCopyOutput::default()
    }))
}

/// `CompleteMultipartUpload`.
pub(super) async fn complete(
    ops: &Ops,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let cx = context(&request)?;
    let host = request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let mut input = request.input;
    let listed = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    if listed.is_empty() {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let complete = CompleteUpload {
        at: convert::at(&input.bucket, &input.key).answer(&cx)?,
        upload: upload_id(&cx, &input.upload_id)?,
        parts: listed.into_iter().map(completed_part).collect::<S3Result<_>>()?,
        claim: checksum::claimed!(input)?,
        size_bytes: announced_size(input.mpu_object_size)?,
        conditions: convert::conditions(input.if_match.take(), input.if_none_match.take(), None, None),
    };
    let stored = ops.store.complete_upload(&cx, complete).await.answer(&cx)?;
    let scheme = if cx.circumstances.is_secure { "https" } else { "http" };
    let path = Names::Url.write(&input.key);
    let mut output = CompleteMultipartUploadOutput {
        location: host.map(|host| format!("{scheme}://{host}/{}/{path}", input.bucket)),
        bucket: Some(input.bucket),
        key: Some(convert::xml_name(&input.key).into_owned()),
        e_tag: Some(convert::etag(&stored.version.etag)),
        version_id: convert::shown_version_id(&stored.version, stored.versioning),
        ..CompleteMultipartUploadOutput::default()
    };
    checksum::show_typed!(output, checksum::of_version(&stored.version));
    Ok(S3Response::new(output))
}

fn completed_part(mut part: CompletedPart) -> S3Result<CompletePart> {
    let number = part.part_number.ok_or(S3ErrorCode::MalformedXML)?;
    let etag = part.e_tag.take().ok_or(S3ErrorCode::MalformedXML)?;
    Ok(CompletePart {
        number: convert::part_number(number)?,
        etag: coffre_store::digest::ETag::parse(etag.value()),
        checksum: checksum::claimed!(part)?,
    })
}

/// `AbortMultipartUpload`.
pub(super) async fn abort(
    ops: &Ops,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let at = convert::at(&input.bucket, &input.key).answer(&cx)?;
    ops.store.abort_upload(&cx, at, upload_id(&cx, &input.upload_id)?).await.answer(&cx)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

/// Who began an upload.
fn initiator(upload: &Upload) -> Initiator {
    Initiator { id: Some(convert::owner_id(upload.initiator)), display_name: None }
}

/// `ListParts`.
pub(super) async fn list_parts(
    ops: &Ops,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = page_size(input.max_parts)?;
    let at = convert::at(&input.bucket, &input.key).answer(&cx)?;
    let after = match input.part_number_marker {
        None | Some(0) => None,
        Some(number) => Some(convert::part_number(number)?),
    };
    let upload = upload_id(&cx, &input.upload_id)?;
    let mut page = ops.store.list_parts(&cx, at, upload, after, limit.max(1)).await.answer(&cx)?;
    if limit == 0 {
        (page.parts, page.next_after) = (Vec::new(), None);
    }
    let shown = page.parts.iter().map(|part| {
        let mut shown = Part {
            part_number: Some(i32::from(part.number.get())),
            e_tag: Some(convert::etag(&part.etag)),
            size: i64::try_from(part.size_bytes).ok(),
            last_modified: convert::timestamp(part.modified_ms),
            ..Part::default()
        };
        checksum::show!(shown, part.checksum.as_ref());
        shown
    });
    Ok(S3Response::new(ListPartsOutput {
        parts: Some(shown.collect()),
        bucket: Some(input.bucket),
        key: Some(convert::xml_name(&input.key).into_owned()),
        upload_id: Some(input.upload_id),
        initiator: Some(initiator(&page.upload)),
        owner: Some(convert::owner(page.upload.initiator)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        part_number_marker: Some(input.part_number_marker.unwrap_or(0)),
        next_part_number_marker: page.next_after.map(|number| i32::from(number.get())),
        max_parts: shown_size(limit),
        is_truncated: Some(page.next_after.is_some()),
        checksum_algorithm: page.upload.checksum.map(|(algorithm, _)| checksum::shown_algorithm(algorithm)),
        checksum_type: page.upload.checksum.map(|(_, kind)| checksum::shown_upload_kind(kind)),
        ..ListPartsOutput::default()
    }))
}

/// `ListMultipartUploads`.
pub(super) async fn list_uploads(
    ops: &Ops,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = page_size(input.max_uploads)?;
    let (prefix, delimiter) = (given(input.prefix), given(input.delimiter));
    // without a key marker the upload marker means nothing (S3)
    let key_marker = given(input.key_marker);
    let upload_marker = given(input.upload_id_marker).filter(|_| key_marker.is_some());
    let list = ListUploads {
        bucket: input.bucket.parse::<BucketName>().answer(&cx)?,
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        after_key: key_marker.clone().unwrap_or_default(),
        after_upload: upload_marker.as_deref().map(|id| upload_id(&cx, id)).transpose()?,
        limit: limit.max(1),
    };
    let mut page = ops.store.list_uploads(&cx, list).await.answer(&cx)?;
    if limit == 0 {
        page = coffre_store::multipart::UploadsPage::default();
    }
    let all =
        page.uploads.iter().map(|u| u.at.key.as_str()).chain(page.common_prefixes.iter().map(String::as_str));
    let names = Names::decide(input.encoding_type.as_ref(), all);
    let shown = page.uploads.iter().map(|upload| MultipartUpload {
        key: Some(names.write(upload.at.key.as_str())),
        upload_id: Some(upload.id.to_string()),
        initiated: convert::timestamp(upload.created_ms),
        initiator: Some(initiator(upload)),
        owner: Some(convert::owner(upload.initiator)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm: upload.checksum.map(|(algorithm, _)| checksum::shown_algorithm(algorithm)),
        checksum_type: upload.checksum.map(|(_, kind)| checksum::shown_upload_kind(kind)),
    });
    let (next_key, next_upload) = page.next.clone().unzip();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        uploads: Some(shown.collect()),
        bucket: Some(input.bucket),
        prefix: Some(names.write(prefix.unwrap_or_default())),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        key_marker: Some(names.write(key_marker.unwrap_or_default())),
        upload_id_marker: Some(upload_marker.unwrap_or_default()),
        next_key_marker: next_key.map(|key| names.write(key)),
        next_upload_id_marker: next_upload.flatten().map(|id| id.to_string()),
        max_uploads: shown_size(limit),
        is_truncated: Some(page.next.is_some()),
        common_prefixes: common_prefixes(names, &page.common_prefixes),
        encoding_type: names.shown(),
        ..ListMultipartUploadsOutput::default()
    }))
}
