//! Lists of uploads and parts (S3 ListMultipartUploads, ListParts).

use bytes::Bytes;
use coffre_kv::{Kv, KvExt, Row, Scan, Step};

use super::record::{PartRecord, UploadRecord, parse_part, parts_from};
use super::{ListUploads, PartsPage, Upload, UploadsPage};
use crate::codec::keys::{self, Key};
use crate::list::{Look, PAGE_MAX, Walk, seek_past};
use crate::object::{At, Bucket};
use crate::{Action, BucketId, Cx, ObjectKey, PartNumber, Result, Store, UploadId, UserId};

impl Store {
    /// A page of an upload's parts.
    ///
    /// # Errors
    /// `NotFound(Bucket, Upload)`, `Denied`, `Hidden`.
    pub async fn list_parts(
        &self,
        cx: &Cx,
        at: At,
        upload: UploadId,
        after: Option<PartNumber>,
        limit: usize,
    ) -> Result<PartsPage> {
        let (action, key) = (Action::ListMultipartUploadParts, Some(at.key.as_str()));
        let bucket = self.allowed_bucket(cx, &at.bucket, action, key, None).await?.value;
        let record = self.allowed_upload(cx, action, &bucket, &at.key, upload).await?.value;
        let limit = limit.min(PAGE_MAX);
        let first = after.map_or(1, |after| after.get() + 1);
        let scan = Scan::forward(parts_from(upload, first));
        let rows = self.inner.kv().rows(scan, limit + 1).await?;
        let mut parts = Vec::with_capacity(rows.len());
        for (row, entry) in rows {
            let (_, number) = parse_part(&row)?;
            parts.push(PartRecord::decode(&entry.value)?.part(PartNumber::try_from(i64::from(number))?));
        }
        let has_more = limit > 0 && parts.len() > limit;
        parts.truncate(limit);
        let next_after = parts.last().filter(|_| has_more).map(|part| part.number);
        Ok(PartsPage { upload: record.upload(upload, at), parts, next_after })
    }

    /// A page of a bucket's uploads.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn list_uploads(&self, cx: &Cx, list: ListUploads) -> Result<UploadsPage> {
        let (action, prefix) = (Action::ListBucketMultipartUploads, Some(list.prefix.as_str()));
        let bucket = self.allowed_bucket(cx, &list.bucket, action, prefix, None).await?.value;
        let shown = bucket.place.is_some().then(|| {
            let (store, cx, bucket) = (self.clone(), cx.clone(), bucket.clone());
            let shown: ShownUpload = Box::new(move |key, initiator| {
                store.ask_upload(&cx, Action::ListMultipartUploadParts, &bucket, key, initiator).is_ok()
            });
            shown
        });
        uploads_page(&**self.inner.kv(), &bucket, &list, shown).await
    }
}

/// Whether an upload is shown, by its key and initiator: in the built-in buckets those that the caller could read
/// the parts of.
type ShownUpload = Box<dyn Fn(&ObjectKey, Option<UserId>) -> bool + Send>;

/// A page while it is read.
struct Reading {
    page: UploadsPage,
    walk: Walk,
    /// The last unit.
    last: Option<(String, Option<UploadId>)>,
}

/// A page of uploads, as rows of an engine.
pub(super) async fn uploads_page(
    kv: &dyn Kv,
    bucket: &Bucket,
    list: &ListUploads,
    shown: Option<ShownUpload>,
) -> Result<UploadsPage> {
    let limit = list.limit.min(PAGE_MAX);
    if limit == 0 {
        return Ok(UploadsPage::default());
    }
    let after_upload = list.after_upload.filter(|_| !list.after_key.is_empty());
    let walk = Walk::new(&list.prefix, &list.delimiter, &list.after_key, after_upload.is_some(), limit);
    let Some(mut range) = walk.range(bucket.id, keys::uploads_prefix, &[0, 0]) else {
        return Ok(UploadsPage::default());
    };
    if let Some(after) = after_upload.filter(|_| walk.is_within()) {
        let start = Key::of(keys::UPLOAD).bucket(bucket.id).escaped(&list.after_key).raw(&after.0).raw(&[0]);
        range.start = range.start.max(start.done());
    }
    let (name, id) = (list.bucket.clone(), bucket.id);
    let reading = Reading { page: UploadsPage::default(), walk, last: None };
    let reading = kv
        .scan_into(Scan::forward(range), reading, move |reading, row| {
            reading.step(id, &name, shown.as_ref(), row).unwrap_or_else(|error| {
                tracing::error!(row = hex::encode(row.key), %error, "an upload that cannot be read is left out of a list");
                Step::Next
            })
        })
        .await?;
    let mut page = reading.page;
    page.next = reading.last.filter(|_| reading.walk.has_more());
    Ok(page)
}

impl Reading {
    fn step(
        &mut self,
        bucket: BucketId,
        name: &crate::BucketName,
        shown: Option<&ShownUpload>,
        row: Row<'_>,
    ) -> Result<Step> {
        let (_, text, upload) = keys::parse_upload(row.key)?;
        let look = self.walk.look(&text);
        match look {
            Look::Behind => return Ok(Step::Next),
            Look::Rolled(common) => return Ok(seek_past(bucket, keys::uploads_prefix, common)),
            Look::Common(_) | Look::Entry => {}
        }
        let record = UploadRecord::decode(&Bytes::copy_from_slice(row.value))?;
        let key: ObjectKey = text.parse()?;
        if shown.is_some_and(|shown| !shown(&key, record.initiator)) {
            return Ok(Step::Next);
        }
        if let Look::Common(common) = look {
            if !self.walk.take(Some(common)) {
                return Ok(Step::Stop);
            }
            self.page.common_prefixes.push(common.to_owned());
            self.last = Some((common.to_owned(), None));
            return Ok(seek_past(bucket, keys::uploads_prefix, common));
        }
        if !self.walk.take(None) {
            return Ok(Step::Stop);
        }
        self.last = Some((text, Some(upload)));
        let upload: Upload = record.upload(upload, At { bucket: name.clone(), key });
        self.page.uploads.push(upload);
        Ok(Step::Next)
    }
}
