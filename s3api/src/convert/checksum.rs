//! Checksums between headers, trailers and the store: base64 on the wire, raw inside.
//!
//! Promises that a checksum a client claims is either handed to the store to be verified, or refused: never dropped.
//! "Checking object integrity" of the S3 user guide.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_store::Error;
use coffre_store::digest::{Algorithm, Checksum, ChecksumKind};
use coffre_store::multipart::UploadChecksum;
use coffre_store::object::Version;
use coffre_store::put::Claims;
use http::HeaderMap;
use s3s::dto;
use s3s::{S3Result, TrailingHeaders, s3_error};

use crate::error::TRAILER;

/// Every algorithm S3 names and we compute, with its header.
const ALGORITHMS: [(Algorithm, &str); 5] = [
    (Algorithm::Crc32, "x-amz-checksum-crc32"),
    (Algorithm::Crc32c, "x-amz-checksum-crc32c"),
    (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme"),
    (Algorithm::Sha1, "x-amz-checksum-sha1"),
    (Algorithm::Sha256, "x-amz-checksum-sha256"),
];

/// `x-amz-checksum-algorithm`, `x-amz-sdk-checksum-algorithm`.
pub(crate) fn algorithm(name: &str) -> S3Result<Algorithm> {
    ALGORITHMS
        .iter()
        .map(|(algorithm, _)| *algorithm)
        .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))
}

/// A value in base64; with `-n` behind it of parts.
pub(crate) fn parse(algorithm: Algorithm, text: &str) -> Option<Checksum> {
    let (value, kind) = match text.split_once('-') {
        Some((value, parts)) => (value, ChecksumKind::Composite { parts: parts.parse().ok()? }),
        None => (text, ChecksumKind::FullObject),
    };
    let value = STANDARD.decode(value).ok()?;
    (value.len() == algorithm.len_bytes()).then_some(Checksum { algorithm, kind, value })
}

/// As S3 writes it.
pub(crate) fn render(checksum: &Checksum) -> String {
    let value = STANDARD.encode(&checksum.value);
    match checksum.kind {
        ChecksumKind::FullObject => value,
        ChecksumKind::Composite { parts } => format!("{value}-{parts}"),
    }
}

/// The one checksum among a DTO's fields.
pub(crate) fn only(fields: [(Algorithm, Option<String>); 5], foreign: bool) -> S3Result<Option<Checksum>> {
    if foreign {
        return Err(s3_error!(NotImplemented, "This checksum algorithm is not supported"));
    }
    let mut found = None;
    for (algorithm, text) in fields {
        let Some(text) = text else { continue };
        let Some(checksum) = parse(algorithm, &text) else {
            let name = algorithm.name().to_ascii_lowercase();
            return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-{} header is invalid.", name));
        };
        if found.replace(checksum).is_some() {
            return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header."));
        }
    }
    Ok(found)
}

/// The checksum fields of an input DTO.
macro_rules! claimed {
    ($input:expr) => {
        $crate::convert::checksum::only(
            [
                (coffre_store::digest::Algorithm::Crc32, $input.checksum_crc32.take()),
                (coffre_store::digest::Algorithm::Crc32c, $input.checksum_crc32c.take()),
                (coffre_store::digest::Algorithm::Crc64Nvme, $input.checksum_crc64nvme.take()),
                (coffre_store::digest::Algorithm::Sha1, $input.checksum_sha1.take()),
                (coffre_store::digest::Algorithm::Sha256, $input.checksum_sha256.take()),
            ],
            $input.checksum_md5.is_some()
                || $input.checksum_sha512.is_some()
                || $input.checksum_xxhash3.is_some()
                || $input.checksum_xxhash64.is_some()
                || $input.checksum_xxhash128.is_some(),
        )
    };
}
pub(crate) use claimed;

/// Writes a checksum into the fields of an output DTO.
macro_rules! show {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let text = Some($crate::convert::checksum::render(checksum));
            match checksum.algorithm {
                coffre_store::digest::Algorithm::Crc32 => $output.checksum_crc32 = text,
                coffre_store::digest::Algorithm::Crc32c => $output.checksum_crc32c = text,
                coffre_store::digest::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
                coffre_store::digest::Algorithm::Sha1 => $output.checksum_sha1 = text,
                coffre_store::digest::Algorithm::Sha256 => $output.checksum_sha256 = text,
            }
        }
    };
}
pub(crate) use show;

/// The same, with `x-amz-checksum-type`.
macro_rules! show_typed {
    ($output:expr, $checksum:expr) => {
        let checksum: Option<coffre_store::digest::Checksum> = $checksum;
        $output.checksum_type = checksum.as_ref().map(|c| $crate::convert::checksum::shown_kind(c.kind));
        $crate::convert::checksum::show!($output, checksum.as_ref());
    };
}
pub(crate) use show_typed;

/// The checksum a version shows: the client's, else the CRC-64 that every whole body has.
pub(crate) fn of_version(version: &Version) -> Option<Checksum> {
    let own = version.checksums.first().cloned();
    own.or_else(|| {
        let value = version.crc64nvme?.to_be_bytes().to_vec();
        Some(Checksum { algorithm: Algorithm::Crc64Nvme, kind: ChecksumKind::FullObject, value })
    })
}

pub(crate) fn shown_kind(kind: ChecksumKind) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match kind {
        ChecksumKind::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumKind::Composite { .. } => dto::ChecksumType::COMPOSITE,
    })
}

pub(crate) fn shown_upload_kind(kind: UploadChecksum) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match kind {
        UploadChecksum::FullObject => dto::ChecksumType::FULL_OBJECT,
        UploadChecksum::Composite => dto::ChecksumType::COMPOSITE,
    })
}

pub(crate) fn shown_algorithm(algorithm: Algorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm.name())
}

/// What the parts of a new upload carry: the algorithm's usual kind unless told, and only kinds S3 knows.
pub(crate) fn of_upload(
    name: Option<&dto::ChecksumAlgorithm>,
    kind: Option<&dto::ChecksumType>,
) -> S3Result<Option<(Algorithm, UploadChecksum)>> {
    let Some(name) = name else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let algorithm = algorithm(name.as_str())?;
    let is_crc64 = algorithm == Algorithm::Crc64Nvme;
    let is_sha = matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
    let kind = match kind.map(dto::ChecksumType::as_str) {
        None if is_crc64 => UploadChecksum::FullObject,
        Some(dto::ChecksumType::FULL_OBJECT) if !is_sha => UploadChecksum::FullObject,
        None => UploadChecksum::Composite,
        Some(dto::ChecksumType::COMPOSITE) if !is_crc64 => UploadChecksum::Composite,
        Some(_) => {
            return Err(s3_error!(
                InvalidRequest,
                "The {} checksum type cannot be used with the {} checksum algorithm.",
                kind.map(dto::ChecksumType::as_str).unwrap_or_default(),
                algorithm.name()
            ));
        }
    };
    Ok(Some((algorithm, kind)))
}

/// Reads the checksum once the body has ended.
type FromTrailer = Box<dyn FnOnce() -> Result<Vec<Checksum>, Error> + Send>;

/// Everything a client claims of a body: `Content-MD5`, one checksum header, or one in the trailer, and the hash it
/// was signed with.
pub(crate) fn claims(
    content_md5: Option<&str>,
    checksum: Option<Checksum>,
    signed_sha256: Option<[u8; 32]>,
    headers: &HeaderMap,
    trailer: Option<TrailingHeaders>,
) -> S3Result<Claims> {
    let md5 = match content_md5 {
        None => None,
        Some(text) => {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            Some(bytes.ok_or_else(|| s3_error!(InvalidDigest))?)
        }
    };
    let announced = announced(headers)?;
    let mut compute: Vec<Algorithm> = announced.into_iter().collect();
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if let Some(name) = text("x-amz-sdk-checksum-algorithm") {
        let algorithm = algorithm(name)?;
        if !compute.contains(&algorithm) {
            compute.push(algorithm);
        }
    }
    let trailer: Option<FromTrailer> = match (announced, trailer) {
        (Some(algorithm), Some(trailer)) => {
            Some(Box::new(move || from_trailer(algorithm, &trailer).map(|c| vec![c])))
        }
        _ => None,
    };
    Ok(Claims { md5, signed_sha256, checksums: checksum.into_iter().collect(), compute, trailer })
}

/// The checksum that `x-amz-trailer` announces.
fn announced(headers: &HeaderMap) -> S3Result<Option<Algorithm>> {
    let Some(names) = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let mut found = None;
    for name in names.split(',').map(|name| name.trim().to_ascii_lowercase()) {
        let Some(algorithm) = name.strip_prefix("x-amz-checksum-") else { continue };
        if found.replace(self::algorithm(algorithm)?).is_some() {
            return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header."));
        }
    }
    Ok(found)
}

/// The checksum that came, after the last byte.
fn from_trailer(algorithm: Algorithm, trailer: &TrailingHeaders) -> Result<Checksum, Error> {
    let header =
        ALGORITHMS.iter().find(|(a, _)| *a == algorithm).map(|(_, header)| *header).unwrap_or_default();
    trailer
        .read(|headers| {
            headers.get(header).and_then(|v| v.to_str().ok()).and_then(|text| parse(algorithm, text))
        })
        .flatten()
        .filter(|checksum| checksum.kind == ChecksumKind::FullObject)
        .ok_or(Error::Invalid { what: TRAILER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        for (algorithm, _) in ALGORITHMS {
            let value = vec![7; algorithm.len_bytes()];
            for kind in [ChecksumKind::FullObject, ChecksumKind::Composite { parts: 3 }] {
                let checksum = Checksum { algorithm, kind, value: value.clone() };
                assert_eq!(parse(algorithm, &render(&checksum)), Some(checksum));
            }
            assert_eq!(parse(algorithm, "AA=="), None, "too short");
            assert_eq!(parse(algorithm, "not base64"), None);
            assert_eq!(super::algorithm(algorithm.name()).unwrap(), algorithm);
        }
        assert!(algorithm("SHA512").is_err());
    }

    #[test]
    fn upload_kinds() {
        use UploadChecksum::{Composite, FullObject};
        let check = |name: &'static str, kind: Option<&'static str>, expected: Option<UploadChecksum>| {
            let name = dto::ChecksumAlgorithm::from_static(name);
            let kind = kind.map(dto::ChecksumType::from_static);
            let found = of_upload(Some(&name), kind.as_ref()).ok().flatten().map(|(_, kind)| kind);
            assert_eq!(found, expected, "{name:?} {kind:?}");
        };

        check("CRC32", None, Some(Composite));
        check("CRC32", Some("FULL_OBJECT"), Some(FullObject));
        check("CRC64NVME", None, Some(FullObject));
        check("CRC64NVME", Some("COMPOSITE"), None);
        check("SHA256", None, Some(Composite));
        check("SHA256", Some("FULL_OBJECT"), None);
        check("SHA1", Some("COMPOSITE"), Some(Composite));
        check("CRC32C", Some("else"), None);
        let kind = dto::ChecksumType::from_static("COMPOSITE");
        assert!(of_upload(None, Some(&kind)).is_err());
    }

    #[test]
    fn claims_are_verified_or_refused() {
        let mut headers = HeaderMap::new();
        assert!(claims(Some("AA=="), None, None, &headers, None).is_err(), "short MD5");
        headers.insert("x-amz-trailer", "x-amz-checksum-crc32".parse().unwrap());
        assert_eq!(claims(None, None, None, &headers, None).unwrap().compute, [Algorithm::Crc32]);
        headers.insert("x-amz-trailer", "x-amz-checksum-crc32, x-amz-checksum-sha1".parse().unwrap());
        assert!(claims(None, None, None, &headers, None).is_err(), "two announced");
        headers.insert("x-amz-trailer", "x-amz-checksum-xxhash3".parse().unwrap());
        assert!(claims(None, None, None, &headers, None).is_err(), "one we do not compute");
    }
}
