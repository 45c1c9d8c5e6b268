//! Putting the question to [`crate::Authority`], and what its answers mean as errors.

use crate::error::{Error, Missing, Result};
use crate::name::{BucketName, ObjectKey};
use crate::object::{Bucket, Door, Version};
use crate::plan::Placed;
use crate::{Action, Ask, Cx, Decision, Store};

impl Store {
    /// May they? `Denied` or `Hidden` if not.
    pub(crate) fn ask(
        &self,
        cx: &Cx,
        action: Action,
        bucket: &Bucket,
        key: Option<&ObjectKey>,
        existing: Option<&Version>,
    ) -> Result<()> {
        let key = key.map(ObjectKey::as_str);
        self.ask_prefix(cx, action, bucket, key, existing)
    }

    /// The same for a listing, whose key is a prefix.
    pub(crate) fn ask_prefix(
        &self,
        cx: &Cx,
        action: Action,
        bucket: &Bucket,
        key: Option<&str>,
        existing: Option<&Version>,
    ) -> Result<()> {
        match self.inner.options.authority.decide(&Ask { cx, action, bucket: Some(bucket), key, existing }) {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(Error::Denied),
            Decision::Hide => Err(Error::Hidden),
        }
    }

    /// The bucket, if they may do this in it to this key or below this prefix.
    pub(crate) async fn allowed_bucket(
        &self,
        cx: &Cx,
        name: &BucketName,
        action: Action,
        key: Option<&str>,
        existing: Option<&Version>,
    ) -> Result<Placed<Bucket>> {
        let bucket = self.find_bucket(name).await?;
        self.ask_prefix(cx, action, &bucket.value, key, existing)?;
        Ok(bucket)
    }

    /// May they write here? Writing tags is an action of its own (S3).
    pub(crate) fn ask_write(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        key: &ObjectKey,
        existing: Option<&Version>,
        has_tags: bool,
    ) -> Result<()> {
        self.ask(cx, Action::PutObject, bucket, Some(key), existing)?;
        if has_tags {
            self.ask(cx, Action::PutObjectTagging, bucket, Some(key), existing)?;
        }
        Ok(())
    }

    /// What is answered for something that is not there: only who may list the bucket learns that (contract D36).
    pub(crate) fn missing(&self, cx: &Cx, bucket: &Bucket, key: &ObjectKey, missing: Missing) -> Error {
        match self.ask(cx, Action::ListBucket, bucket, Some(key), None) {
            Ok(()) => Error::NotFound(missing),
            Err(_) if cx.door == Door::S3 => Error::Denied,
            Err(_) => Error::Hidden,
        }
    }
}
