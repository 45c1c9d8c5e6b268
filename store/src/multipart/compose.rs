//! What an upload completes to: pure.
//!
//! S3 CompleteMultipartUpload: the parts named exist, ascend and are large enough; the whole's ETag, checksum, size
//! and extents follow from them without a byte being read.

use std::collections::BTreeMap;

use super::record::{PartRecord, UploadRecord};
use super::{CompletePart, CompleteUpload, PART_BYTES_MIN, UploadChecksum};
use crate::digest::{Algorithm, Checksum, ChecksumKind, ETag};
use crate::error::{BadParts, Error, Result};
use crate::name::{PART_NUMBER_MAX, PartNumber};
use crate::object::{Extent, PartSizes};

/// An object made of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Composed {
    pub(crate) etag: ETag,
    pub(crate) size_bytes: u64,
    pub(crate) crc64nvme: u64,
    /// In the upload's algorithm.
    pub(crate) checksum: Option<Checksum>,
    pub(crate) sniffed_type: Option<String>,
    /// Adjacent ones joined.
    pub(crate) extents: Vec<Extent>,
    pub(crate) parts: PartSizes,
}

/// By whose rules an upload is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// S3's.
    Parts,
    /// Chunks: of any size, numbered 1 to `total`, all of them; what they make is known by its content (contract D40).
    Chunks { total: u16 },
}

impl Rule {
    /// Smallest part but the last, bytes.
    fn part_bytes_min(self) -> u64 {
        match self {
            Self::Parts => PART_BYTES_MIN,
            Self::Chunks { .. } => 0,
        }
    }
}

/// Composes the parts a completion names out of those that are in.
///
/// # Errors
/// `BadParts`, `ChecksumMismatch`, `Invalid`.
pub(crate) fn compose(
    upload: &UploadRecord,
    stored: &BTreeMap<PartNumber, PartRecord>,
    request: &CompleteUpload,
    rule: Rule,
) -> Result<Composed> {
    let etag = etag_of(&request.parts)?;
    let parts = chosen(stored, &request.parts, rule)?;
    let size_bytes: u64 = parts.iter().map(|(_, part)| part.size_bytes).sum();
    if request.size_bytes.is_some_and(|claimed| claimed != size_bytes) {
        return Err(Error::Invalid { what: "object size" });
    }
    let checksum = match upload.checksum {
        None => None,
        Some((algorithm, kind)) => Some(whole_checksum(algorithm, kind, &parts)?),
    };
    let crcs: Vec<_> =
        parts.iter().map(|(_, part)| (part.crc64nvme.to_be_bytes(), part.size_bytes)).collect();
    let crc64nvme = Algorithm::Crc64Nvme.combine(crcs.iter().map(|(value, len)| (value.as_slice(), *len)));
    let crc64nvme = crc64nvme.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
    verify(request.claim.as_ref(), checksum.as_ref(), crc64nvme)?;
    Ok(Composed {
        etag,
        size_bytes,
        crc64nvme,
        checksum,
        sniffed_type: parts.first().and_then(|(_, part)| part.sniffed_type.clone()),
        extents: joined(parts.iter().flat_map(|(_, part)| part.extents.iter().cloned())),
        parts: part_sizes(&parts),
    })
}

/// The ETag of an object of these parts, which needs nothing but the list.
///
/// # Errors
/// `BadParts`: the list's own faults.
pub(crate) fn etag_of(parts: &[CompletePart]) -> Result<ETag> {
    if parts.is_empty() || parts.len() > usize::from(PART_NUMBER_MAX) {
        return Err(Error::BadParts(BadParts::Count));
    }
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Error::BadParts(BadParts::Order));
    }
    let md5s: Option<Vec<[u8; 16]>> = parts.iter().map(|part| part.etag.as_md5()).collect();
    Ok(ETag::of_parts(&md5s.ok_or(Error::BadParts(BadParts::Missing))?))
}

/// The parts named, if they are what the client got, and large enough.
fn chosen<'a>(
    stored: &'a BTreeMap<PartNumber, PartRecord>,
    named: &[CompletePart],
    rule: Rule,
) -> Result<Vec<(PartNumber, &'a PartRecord)>> {
    let mut parts = Vec::with_capacity(named.len());
    for name in named {
        let part = stored.get(&name.number).filter(|part| ETag::of_md5(part.md5) == name.etag);
        let part = part.ok_or(Error::BadParts(BadParts::Missing))?;
        let differs = |claim: &Checksum| {
            part.checksum.as_ref().is_some_and(|c| c.algorithm != claim.algorithm || c.value != claim.value)
        };
        if name.checksum.as_ref().is_some_and(differs) {
            return Err(Error::BadParts(BadParts::Missing));
        }
        parts.push((name.number, part));
    }
    let all_but_last = parts.split_last().map(|(_, rest)| rest).unwrap_or_default();
    if all_but_last.iter().any(|(_, part)| part.size_bytes < rule.part_bytes_min()) {
        return Err(Error::BadParts(BadParts::TooSmall));
    }
    Ok(parts)
}

fn whole_checksum(
    algorithm: Algorithm,
    kind: UploadChecksum,
    parts: &[(PartNumber, &PartRecord)],
) -> Result<Checksum> {
    let values: Option<Vec<(&[u8], u64)>> = parts
        .iter()
        .map(|(_, part)| {
            let checksum = part.checksum.as_ref().filter(|c| c.algorithm == algorithm)?;
            Some((checksum.value.as_slice(), part.size_bytes))
        })
        .collect();
    let lost = || Error::Corrupt { what: "a part has no checksum of its upload's algorithm".into() };
    let values = values.ok_or_else(lost)?;
    match kind {
        UploadChecksum::Composite => Ok(algorithm.composite(values.iter().map(|(value, _)| *value))),
        UploadChecksum::FullObject => {
            let value = algorithm.combine(values).ok_or_else(lost)?;
            Ok(Checksum { algorithm, kind: ChecksumKind::FullObject, value })
        }
    }
}

/// Compares what the client claims of the whole. A CRC-64/NVME can be claimed of any upload, since it is known of
/// every part; another algorithm only where the upload was begun with it.
fn verify(claim: Option<&Checksum>, checksum: Option<&Checksum>, crc64nvme: u64) -> Result<()> {
    let Some(claim) = claim else { return Ok(()) };
    let crc64nvme = Checksum {
        algorithm: Algorithm::Crc64Nvme,
        kind: ChecksumKind::FullObject,
        value: crc64nvme.to_be_bytes().to_vec(),
    };
    let computed = match checksum {
        Some(checksum) if checksum.algorithm == claim.algorithm => checksum,
        _ if claim.algorithm == Algorithm::Crc64Nvme => &crc64nvme,
        _ => return Err(Error::Invalid { what: "checksum algorithm" }),
    };
    let is_kind = match (claim.kind, computed.kind) {
        (ChecksumKind::FullObject, ChecksumKind::FullObject) => true,
        (ChecksumKind::Composite { parts: a }, ChecksumKind::Composite { parts: b }) => a == b,
        _ => false,
    };
    if !is_kind {
        return Err(Error::Invalid { what: "checksum type" });
    }
    if claim.value != computed.value {
        return Err(Error::ChecksumMismatch { algorithm: claim.algorithm.name() });
    }
    Ok(())
}

/// Extents with neighbours of the same blob made one: parts that lie one behind the other in a file become a plain
/// file again.
pub(crate) fn joined(extents: impl IntoIterator<Item = Extent>) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if last.blob == extent.blob && last.offset + last.len == extent.offset => {
                last.len += extent.len;
            }
            _ if extent.len == 0 => {}
            _ => joined.push(extent),
        }
    }
    joined
}

fn part_sizes(parts: &[(PartNumber, &PartRecord)]) -> PartSizes {
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let each = parts.first().map_or(0, |(_, part)| part.size_bytes);
    let is_uniform = parts.iter().zip(1_u32..).all(|((number, part), place)| {
        let fits = if place == count { part.size_bytes <= each } else { part.size_bytes == each };
        u32::from(number.get()) == place && fits
    });
    if is_uniform {
        PartSizes::Uniform { count, each }
    } else {
        PartSizes::Listed(parts.iter().map(|(number, part)| (*number, part.size_bytes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::hasher::{Wanted, digest};
    use crate::object::{At, Attributes, BlobId};
    use crate::{UploadId, condition::Conditions};

    const MIN: u64 = PART_BYTES_MIN;
    const UPLOAD: UploadId = UploadId([5; 16]);

    fn number(n: i64) -> PartNumber {
        PartNumber::try_from(n).unwrap()
    }

    fn record(checksum: Option<(Algorithm, UploadChecksum)>) -> UploadRecord {
        UploadRecord {
            initiator: None,
            organisation: None,
            created_ms: 0,
            attributes: Attributes::default(),
            checksum,
            slot: Some(MIN),
            unknown: Vec::new(),
        }
    }

    /// A part as if its bytes were `size` times the number's low byte; in the parts file, or a blob of its own.
    fn part(n: i64, size: u64, algorithm: Option<Algorithm>, is_shared: bool) -> (PartNumber, PartRecord) {
        let bytes = bytes(n, size);
        let wanted = Wanted { md5: true, algorithms: algorithm.into_iter().collect() };
        let digests = digest(&wanted, &bytes);
        let blob = if is_shared { BlobId::Parts(UPLOAD) } else { BlobId::Content(digests.sha256) };
        let offset = if is_shared { (u64::try_from(n).unwrap() - 1) * MIN } else { 0 };
        let extents = if size == 0 { vec![] } else { vec![Extent { blob, offset, len: size }] };
        let record = PartRecord {
            size_bytes: size,
            md5: digests.md5.unwrap(),
            crc64nvme: digests.crc64nvme,
            modified_ms: 0,
            checksum: digests.checksums.first().cloned(),
            sniffed_type: (n == 1).then(|| "text/plain".to_owned()),
            extents,
            unknown: Vec::new(),
        };
        (number(n), record)
    }

    fn bytes(n: i64, size: u64) -> Vec<u8> {
        vec![n.to_le_bytes()[0]; usize::try_from(size).unwrap()]
    }

    fn request(parts: &[(PartNumber, PartRecord)]) -> CompleteUpload {
        let named = |(number, part): &(PartNumber, PartRecord)| CompletePart {
            number: *number,
            etag: ETag::of_md5(part.md5),
            checksum: part.checksum.clone(),
        };
        CompleteUpload {
            at: At { bucket: "bucket".parse().unwrap(), key: "k".parse().unwrap() },
            upload: UPLOAD,
            parts: parts.iter().map(named).collect(),
            claim: None,
            size_bytes: None,
            conditions: Conditions::default(),
        }
    }

    fn stored(parts: &[(PartNumber, PartRecord)]) -> BTreeMap<PartNumber, PartRecord> {
        parts.iter().cloned().collect()
    }

    #[test]
    fn equal_parts_are_one_extent() {
        let parts = [part(1, MIN, None, true), part(2, MIN, None, true), part(3, 7, None, true)];
        let composed = compose(&record(None), &stored(&parts), &request(&parts), Rule::Parts).unwrap();
        let whole = [bytes(1, MIN), bytes(2, MIN), bytes(3, 7)].concat();
        let digests = digest(&Wanted { md5: false, algorithms: vec![] }, &whole);
        assert_eq!(composed.extents, [Extent { blob: BlobId::Parts(UPLOAD), offset: 0, len: 2 * MIN + 7 }]);
        assert_eq!(composed.parts, PartSizes::Uniform { count: 3, each: MIN });
        assert_eq!(composed.size_bytes, whole.len() as u64);
        assert_eq!(composed.crc64nvme, digests.crc64nvme);
        assert_eq!(composed.sniffed_type.as_deref(), Some("text/plain"));
        assert!(composed.etag.as_str().ends_with("-3"));
    }

    #[test]
    fn other_parts_are_listed() {
        let parts = [part(2, MIN, None, true), part(5, MIN + 1, None, false), part(9, 0, None, false)];
        let composed = compose(&record(None), &stored(&parts), &request(&parts), Rule::Parts).unwrap();
        assert_eq!(composed.extents.len(), 2);
        let sizes = vec![(number(2), MIN), (number(5), MIN + 1), (number(9), 0)];
        assert_eq!(composed.parts, PartSizes::Listed(sizes));
    }

    #[test]
    fn lists_that_cannot_be_completed() {
        let (one, two, small) = (part(1, MIN, None, true), part(2, MIN, None, true), part(3, 5, None, true));
        let all = [one.clone(), two.clone(), small.clone()];
        let changed = part(2, MIN + 1, None, false);
        let table = [
            (vec![], Some(BadParts::Count)),
            (vec![one.clone()], None),
            (vec![small.clone()], None),
            (vec![one.clone(), small.clone()], None),
            (vec![two.clone(), one.clone()], Some(BadParts::Order)),
            (vec![one.clone(), one.clone()], Some(BadParts::Order)),
            (vec![one.clone(), changed], Some(BadParts::Missing)),
            (vec![one.clone(), part(4, MIN, None, true)], Some(BadParts::Missing)),
            (vec![small.clone(), part(4, MIN, None, true)], Some(BadParts::Missing)),
        ];
        for (named, expected) in table {
            let got = match compose(&record(None), &stored(&all), &request(&named), Rule::Parts) {
                Ok(_) => None,
                Err(Error::BadParts(bad)) => Some(bad),
                Err(other) => panic!("{other}"),
            };
            let numbers: Vec<u16> = named.iter().map(|(number, _)| number.get()).collect();
            assert_eq!(got, expected, "{numbers:?}");
        }
        let too_small = [part(1, MIN - 1, None, true), two];
        let got = compose(&record(None), &stored(&too_small), &request(&too_small), Rule::Parts);
        assert!(matches!(got, Err(Error::BadParts(BadParts::TooSmall))));
    }

    #[test]
    fn claims_of_the_whole() {
        use Algorithm::{Crc32, Crc32c, Crc64Nvme, Sha256 as Sha};
        use UploadChecksum::{Composite, FullObject};
        let whole = [bytes(1, MIN), bytes(2, 9)].concat();
        for (algorithm, kind) in
            [(Crc32, FullObject), (Crc32c, Composite), (Crc64Nvme, FullObject), (Sha, Composite)]
        {
            let parts = [part(1, MIN, Some(algorithm), true), part(2, 9, Some(algorithm), true)];
            let record = record(Some((algorithm, kind)));
            let run = |claim: Option<Checksum>, size_bytes: Option<u64>| {
                let request = CompleteUpload { claim, size_bytes, ..request(&parts) };
                compose(&record, &stored(&parts), &request, Rule::Parts)
            };
            let checksum = run(None, Some(whole.len() as u64)).unwrap().checksum.unwrap();
            if kind == FullObject {
                let wanted = Wanted { md5: false, algorithms: vec![algorithm] };
                assert_eq!(checksum, digest(&wanted, &whole).checksums[0]);
            } else {
                assert_eq!(checksum.kind, ChecksumKind::Composite { parts: 2 });
            }
            assert!(run(Some(checksum.clone()), None).is_ok());
            let wrong = Checksum { value: vec![0; algorithm.len_bytes()], ..checksum.clone() };
            assert!(matches!(run(Some(wrong), None), Err(Error::ChecksumMismatch { .. })), "{algorithm:?}");
            let other = Checksum { kind: ChecksumKind::Composite { parts: 3 }, ..checksum.clone() };
            assert!(matches!(run(Some(other), None), Err(Error::Invalid { .. })), "{algorithm:?}");
            assert!(matches!(run(None, Some(3)), Err(Error::Invalid { .. })));
        }
    }

    #[test]
    fn a_part_with_another_checksum_is_another_part() {
        let parts = [part(1, 9, Some(Algorithm::Crc32), true)];
        let mut request = request(&parts);
        if let Some(checksum) = &mut request.parts[0].checksum {
            checksum.value = vec![0; 4];
        }
        let record = record(Some((Algorithm::Crc32, UploadChecksum::FullObject)));
        let got = compose(&record, &stored(&parts), &request, Rule::Parts);
        assert!(matches!(got, Err(Error::BadParts(BadParts::Missing))));
    }

    #[test]
    fn joining() {
        let a = BlobId::Content(Sha256([1; 32]));
        let b = BlobId::Content(Sha256([2; 32]));
        let extent = |blob, offset, len| Extent { blob, offset, len };
        let made = joined([
            extent(a, 0, 5),
            extent(a, 5, 5),
            extent(a, 11, 1),
            extent(b, 12, 1),
            extent(b, 0, 0),
            extent(b, 13, 2),
        ]);
        assert_eq!(made, [extent(a, 0, 10), extent(a, 11, 1), extent(b, 12, 3)]);
    }
}
