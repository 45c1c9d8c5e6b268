//! Putting the question to [`crate::Authority`], and what its answers mean as errors.

use crate::error::{Error, Missing, Result};
use crate::name::{BucketName, ObjectKey, UserId};
use crate::object::{Bucket, Door, Version};
use crate::plan::Placed;
use crate::{Action, Ask, Cx, Decision, Store};

impl Store {
    /// May they do what concerns no bucket yet, or all of them? `Denied` if not: there is nothing to hide.
    pub(crate) fn ask_at_all(&self, cx: &Cx, action: Action) -> Result<()> {
        let ask = Ask { cx, action, bucket: None, key: None, existing: None, initiator: None };
        self.put_question(&ask).map_err(|_| Error::Denied)
    }

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
        self.put_question(&Ask { cx, action, bucket: Some(bucket), key, existing, initiator: None })
    }

    /// May they list, complete or abort this upload, or add parts to it? Where keys belong to who puts something
    /// there, an upload is its initiator's as an object is its owner's.
    pub(crate) fn ask_upload(
        &self,
        cx: &Cx,
        action: Action,
        bucket: &Bucket,
        key: &ObjectKey,
        initiator: Option<UserId>,
    ) -> Result<()> {
        let key = Some(key.as_str());
        self.put_question(&Ask { cx, action, bucket: Some(bucket), key, existing: None, initiator })
    }

    fn put_question(&self, ask: &Ask<'_>) -> Result<()> {
        match self.inner.options.authority.decide(ask) {
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
        // In a built-in bucket everyone may list what is theirs; whether a key of others is there is not told.
        let answer = match bucket.place {
            None => self.ask(cx, Action::ListBucket, bucket, Some(key), None),
            Some(_) => self
                .ask(cx, Action::ListBucket, bucket, Some(key), None)
                .and_then(|()| self.ask(cx, Action::GetObject, bucket, Some(key), None)),
        };
        match answer {
            Ok(()) => Error::NotFound(missing),
            Err(_) if cx.door == Door::S3 => Error::Denied,
            Err(_) => Error::Hidden,
        }
    }
}
