//! What resumable uploads hold, count and are due for, recounted from their rows: for `check` and `rebuild`.

use coffre_kv::{Kv, KvExt, Range, Scan, Step};

use super::record::{Record, due};
use crate::UploadId;
use crate::codec::keys::{self, Key};
use crate::error::Result;
use crate::multipart::Unfinished;
use crate::object::Bucket;
use crate::usage;

/// Adds what resumable uploads say to what uploads in parts say. `buckets` are all there are.
pub(crate) async fn recount(kv: &dyn Kv, buckets: &[Bucket], found: Unfinished) -> Result<Unfinished> {
    let buckets = buckets.to_vec();
    let uploads = Scan::forward(Range::prefix(Key::of(keys::TUS).done()));
    let visit = move |found: &mut Unfinished, row: coffre_kv::Row<'_>| {
        if let Err(error) = add(found, &buckets, row.key, row.value) {
            found.faults.push(format!("tus row {}: {error}", hex::encode(row.key)));
        }
        Step::Next
    };
    Ok(kv.scan_into(uploads, found, visit).await?)
}

fn add(found: &mut Unfinished, buckets: &[Bucket], key: &[u8], value: &[u8]) -> Result<()> {
    let (_, rest) = keys::split::<1>(key)?;
    let (id, _) = keys::split::<16>(rest)?;
    let id = UploadId(id);
    let record = Record::decode(&bytes::Bytes::copy_from_slice(value))?;
    found.due.insert(due(record.due_ms, id));
    found.references.extend(record.held(id));
    let Some(bucket) = buckets.iter().find(|bucket| bucket.name == record.at.bucket) else {
        found.faults.push(format!("resumable upload {id} belongs to a bucket that is not there"));
        return Ok(());
    };
    let bytes = record.unfinished_bytes();
    for (counter, n) in usage::unfinished(bucket, record.initiator, record.organisation, bytes) {
        *found.usage.entry(counter).or_default() += n;
    }
    Ok(())
}
