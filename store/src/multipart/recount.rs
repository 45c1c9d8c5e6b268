//! What unfinished uploads hold and count, recounted from their rows: for `check` and `rebuild`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coffre_kv::{Kv, KvExt, Range, Scan, Step};

use super::record::{PartRecord, UploadRecord, parse_part};
use crate::codec::keys::{self, Key};
use crate::error::Result;
use crate::object::{BlobId, Bucket};
use crate::refs::Owner;
use crate::{BucketId, PartNumber, UploadId, usage};

/// What unfinished uploads say.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    /// Blobs and who of the uploads and parts uses them.
    pub(crate) references: BTreeSet<(BlobId, Owner)>,
    /// Counters and what they should hold of unfinished bytes.
    pub(crate) usage: BTreeMap<Bytes, i64>,
    /// When resumable uploads are to be looked at: rows of the table `tus due`.
    pub(crate) due: BTreeSet<Bytes>,
    /// Rows that belong to nothing or cannot be read, in a sentence each.
    pub(crate) faults: Vec<String>,
}

/// What is read of the rows, upload rows first.
#[derive(Default)]
struct Reading {
    uploads: BTreeMap<UploadId, (BucketId, UploadRecord)>,
    bytes: BTreeMap<UploadId, i64>,
    found: Unfinished,
}

/// Recounts all uploads. `buckets` are all there are.
pub(crate) async fn unfinished(kv: &dyn Kv, buckets: &[Bucket]) -> Result<Unfinished> {
    let uploads = Scan::forward(Range::prefix(Key::of(keys::UPLOAD).done()));
    let reading = kv
        .scan_into(uploads, Reading::default(), |reading, row| {
            let read = || {
                let (bucket, _, id) = keys::parse_upload(row.key)?;
                Ok((id, bucket, UploadRecord::decode(&Bytes::copy_from_slice(row.value))?))
            };
            match read() {
                Ok((id, bucket, record)) => {
                    if record.slot.is_some() {
                        reading.found.references.insert((BlobId::Parts(id), id.0));
                    }
                    reading.uploads.insert(id, (bucket, record));
                }
                Err(error) => reading.fault("upload", row.key, &error),
            }
            Step::Next
        })
        .await?;
    let parts = Scan::forward(Range::prefix(Key::of(keys::PART).done()));
    let mut reading = kv
        .scan_into(parts, reading, |reading, row| {
            if let Err(error) = reading.part(row.key, row.value) {
                reading.fault("part", row.key, &error);
            }
            Step::Next
        })
        .await?;
    for (id, (bucket_id, record)) in &reading.uploads {
        let Some(bucket) = buckets.iter().find(|bucket| bucket.id == *bucket_id) else {
            let fault = format!("upload {id} belongs to a bucket that is not there");
            reading.found.faults.push(fault);
            continue;
        };
        let bytes = reading.bytes.get(id).copied().unwrap_or(0);
        for (counter, n) in usage::unfinished(bucket, record.initiator, record.organisation, bytes) {
            *reading.found.usage.entry(counter).or_default() += n;
        }
    }
    Ok(reading.found)
}

impl Reading {
    fn part(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (id, number) = parse_part(key)?;
        if !self.uploads.contains_key(&id) {
            self.found.faults.push(format!("part {number} belongs to upload {id}, which is not there"));
            return Ok(());
        }
        if number == 0 {
            return Ok(());
        }
        let number = PartNumber::try_from(i64::from(number))?;
        let record = PartRecord::decode(&Bytes::copy_from_slice(value))?;
        self.found.references.extend(record.held(id, number));
        *self.bytes.entry(id).or_default() += i64::try_from(record.size_bytes).unwrap_or(i64::MAX);
        Ok(())
    }

    fn fault(&mut self, table: &str, key: &[u8], error: &crate::Error) {
        self.found.faults.push(format!("{table} row {}: {error}", hex::encode(key)));
    }
}
