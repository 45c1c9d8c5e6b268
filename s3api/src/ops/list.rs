//! Listing objects and versions: v1, v2, versions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffre_store::list::{List, ListVersions, PAGE_MAX, Page};
use coffre_store::object::{Brief, HistoryEntry, Version};
use coffre_store::{BucketName, Cx};
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Ops;
use crate::access::context;
use crate::convert::{self, Names};
use crate::error::Answer as _;

/// `max-keys` and its kin: 1,000 at most and when nobody says.
pub(super) fn page_size(asked: Option<i32>) -> S3Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(n)) => Ok(n.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
    }
}

/// A page size as the answer repeats it.
pub(super) fn shown_size(limit: usize) -> Option<i32> {
    i32::try_from(limit).ok()
}

pub(super) fn common_prefixes(names: Names, prefixes: &[String]) -> Option<Vec<CommonPrefix>> {
    let shown = prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(names.write(prefix)) });
    (!prefixes.is_empty()).then(|| shown.collect())
}

/// `""` and absent are one.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

async fn page(ops: &Ops, cx: &Cx, list: List) -> S3Result<Page<Brief>> {
    if list.limit == 0 {
        // nothing is wanted, but whether one may ask is still answered
        ops.store.bucket(cx, &list.bucket, coffre_store::Action::ListBucket).await.answer(cx)?;
        return Ok(Page::default());
    }
    ops.store.list_brief(cx, list).await.answer(cx)
}

fn object(names: Names, key: String, brief: Brief, with_owner: bool) -> Object {
    let Brief { checksums, etag, size_bytes, modified_ms, owner } = brief;
    let algorithms = checksums.iter().map(|c| convert::checksum::shown_algorithm(c.algorithm)).collect();
    Object {
        key: Some(names.write(key)),
        e_tag: Some(convert::etag(etag)),
        size: i64::try_from(size_bytes).ok(),
        last_modified: convert::timestamp(modified_ms),
        owner: with_owner.then(|| convert::owner(owner)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        checksum_algorithm: Some(algorithms).filter(|all: &Vec<_>| !all.is_empty()),
        checksum_type: checksums.first().map(|c| convert::checksum::shown_kind(c.kind)),
        ..Object::default()
    }
}

fn contents(names: Names, entries: Vec<(String, Brief)>, with_owner: bool) -> Option<Vec<Object>> {
    let some = !entries.is_empty();
    let shown = entries.into_iter().map(|(key, brief)| object(names, key, brief, with_owner));
    some.then(|| shown.collect())
}

/// Everything of a page that is a name.
fn names_of(page: &Page<Brief>) -> impl Iterator<Item = &str> {
    page.entries.iter().map(|(key, _)| key.as_str()).chain(page.common_prefixes.iter().map(String::as_str))
}

/// `ListObjects` (v1): markers are keys.
pub(super) async fn objects(
    ops: &Ops,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = page_size(input.max_keys)?;
    let (prefix, delimiter) = (given(input.prefix), given(input.delimiter));
    let list = List {
        bucket: input.bucket.parse::<BucketName>().answer(&cx)?,
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        after: input.marker.clone().unwrap_or_default(),
        limit,
    };
    let page = page(ops, &cx, list).await?;
    let names = Names::decide(input.encoding_type.as_ref(), names_of(&page));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(names.write(prefix.unwrap_or_default())),
        marker: Some(names.write(input.marker.unwrap_or_default())),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        max_keys: shown_size(limit),
        is_truncated: Some(page.next_after.is_some()),
        contents: contents(names, page.entries, true),
        common_prefixes: common_prefixes(names, &page.common_prefixes),
        next_marker: page.next_after.map(|after| names.write(after)),
        encoding_type: names.shown(),
        ..ListObjectsOutput::default()
    }))
}

/// `ListObjectsV2`: the continuation token is opaque.
pub(super) async fn objects_v2(
    ops: &Ops,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = page_size(input.max_keys)?;
    let (prefix, delimiter) = (given(input.prefix), given(input.delimiter));
    let after = match &input.continuation_token {
        Some(token) => token_after(token)?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let list = List {
        bucket: input.bucket.parse::<BucketName>().answer(&cx)?,
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        after,
        limit,
    };
    let page = page(ops, &cx, list).await?;
    let names = Names::decide(input.encoding_type.as_ref(), names_of(&page));
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.write(prefix.unwrap_or_default())),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        start_after: input.start_after.map(|after| names.write(after)),
        max_keys: shown_size(limit),
        key_count: shown_size(page.entries.len() + page.common_prefixes.len()),
        is_truncated: Some(page.next_after.is_some()),
        contents: contents(names, page.entries, input.fetch_owner == Some(true)),
        common_prefixes: common_prefixes(names, &page.common_prefixes),
        continuation_token: input.continuation_token,
        next_continuation_token: page.next_after.map(|after| URL_SAFE_NO_PAD.encode(after)),
        encoding_type: names.shown(),
        ..ListObjectsV2Output::default()
    }))
}

fn token_after(token: &str) -> S3Result<String> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// `ListObjectVersions`.
pub(super) async fn versions(
    ops: &Ops,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let cx = context(&request)?;
    let input = request.input;
    let limit = page_size(input.max_keys)?;
    let (prefix, delimiter) = (given(input.prefix), given(input.delimiter));
    let (key_marker, version_marker) = (given(input.key_marker), given(input.version_id_marker));
    if version_marker.is_some() && key_marker.is_none() {
        return Err(s3_error!(
            InvalidArgument,
            "A version-id marker cannot be specified without a key marker."
        ));
    }
    let list = List {
        bucket: input.bucket.parse::<BucketName>().answer(&cx)?,
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        after: key_marker.clone().unwrap_or_default(),
        limit: limit.max(1),
    };
    let list = ListVersions { list, after_version: convert::version_ref(version_marker.as_deref())? };
    let mut page = ops.store.list_versions(&cx, list).await.answer(&cx)?;
    if limit == 0 {
        page = coffre_store::list::VersionsPage::default();
    }
    let all = page
        .entries
        .iter()
        .map(|(key, ..)| key.as_str())
        .chain(page.common_prefixes.iter().map(String::as_str));
    let names = Names::decide(input.encoding_type.as_ref(), all);
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for (key, entry, is_latest) in &page.entries {
        match entry {
            HistoryEntry::Version(version) => versions.push(object_version(names, key, version, *is_latest)),
            HistoryEntry::DeleteMarker(marker) => markers.push(DeleteMarkerEntry {
                key: Some(names.write(key)),
                version_id: Some(convert::version_id(marker.id, marker.is_null)),
                is_latest: Some(*is_latest),
                last_modified: convert::timestamp(marker.modified_ms),
                owner: Some(convert::owner(marker.owner)),
            }),
        }
    }
    let (next_key, next_version) = page.next.clone().unzip();
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(names.write(prefix.unwrap_or_default())),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        key_marker: Some(names.write(key_marker.unwrap_or_default())),
        version_id_marker: Some(version_marker.unwrap_or_default()),
        max_keys: shown_size(limit),
        is_truncated: Some(page.next.is_some()),
        next_key_marker: next_key.map(|key| names.write(key)),
        next_version_id_marker: next_version.flatten().map(convert::version_ref_id),
        versions: Some(versions).filter(|all| !all.is_empty()),
        delete_markers: Some(markers).filter(|all| !all.is_empty()),
        common_prefixes: common_prefixes(names, &page.common_prefixes),
        encoding_type: names.shown(),
        ..ListObjectVersionsOutput::default()
    }))
}

fn object_version(names: Names, key: &str, version: &Version, is_latest: bool) -> ObjectVersion {
    let algorithms =
        version.checksums.iter().map(|c| convert::checksum::shown_algorithm(c.algorithm)).collect();
    ObjectVersion {
        key: Some(names.write(key)),
        version_id: Some(convert::version_id(version.id, version.is_null)),
        is_latest: Some(is_latest),
        e_tag: Some(convert::etag(&version.etag)),
        size: i64::try_from(version.size_bytes).ok(),
        last_modified: convert::timestamp(version.modified_ms),
        owner: Some(convert::owner(version.owner)),
        storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
        checksum_algorithm: Some(algorithms).filter(|all: &Vec<_>| !all.is_empty()),
        checksum_type: version.checksums.first().map(|c| convert::checksum::shown_kind(c.kind)),
        ..ObjectVersion::default()
    }
}
