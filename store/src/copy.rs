//! Copying on the server: a new version that refers to the same blobs; no bytes move.

use crate::commit::{RESTARTS_MAX, note};
use crate::condition::{Conditions, decide_source};
use crate::digest::{Algorithm, Checksum};
use crate::hasher::Wanted;
use crate::incoming::Incoming;
use crate::object::{At, Attributes, Bucket, Version, Versioning};
use crate::put::{Stored, check_tags};
use crate::{Action, Cx, Error, Result, Store, VersionId, VersionRef};

/// What to copy. The source's conditions are those of `x-amz-copy-source-if-*`.
#[derive(Clone, Debug)]
pub struct CopyObject {
    /// From.
    pub source: At,
    /// Which version of it.
    pub source_version: Option<VersionRef>,
    /// What has to hold of the source.
    pub source_conditions: Conditions,
    /// To.
    pub target: At,
    /// What has to hold of what is at the target.
    pub target_conditions: Conditions,
    /// Attributes in place of the source's (`x-amz-metadata-directive: REPLACE`); their tags are ignored.
    pub attributes: Option<Attributes>,
    /// Tags in place of the source's (`x-amz-tagging-directive: REPLACE`).
    pub tags: Option<Vec<(String, String)>>,
    /// A checksum to compute over the whole object, in place of the source's.
    pub compute: Option<Algorithm>,
}

impl Store {
    /// Copies. Durable on return. The caller needs to read the source and write the target. Onto itself it has to
    /// change something (`Invalid`).
    ///
    /// # Errors
    /// As [`Store::head`] for the source and [`Store::put`] for the target; `TooLarge` beyond 5 GiB at the S3 door
    /// only (the door checks).
    pub async fn copy(&self, cx: &Cx, copy: CopyObject) -> Result<(Stored, Option<VersionRef>)> {
        if let Some(tags) = &copy.tags {
            check_tags(tags)?;
        }
        let id = VersionId(self.inner.options.ids.next());
        let mut computed = None;
        for _ in 0..RESTARTS_MAX {
            let source = self.copy_source(cx, &copy).await?;
            let source_ref = source.reference();
            let mut version = copied(cx, &copy, source.version, id);
            if let Some(algorithm) = copy.compute {
                if computed.as_ref().is_none_or(|(of, _)| *of != source.id) {
                    computed =
                        self.checksum_of(&version, algorithm).await?.map(|checksum| (source.id, checksum));
                }
                let Some((_, checksum)) = &computed else { continue };
                version.checksums = vec![checksum.clone()];
            }
            let has_tags = !version.attributes.tags.is_empty();
            let admitted = self.admit(cx, &copy.target, &copy.target_conditions, has_tags).await?;
            let incoming = Incoming {
                at: &copy.target,
                version,
                blobs: Vec::new(),
                conditions: &copy.target_conditions,
                note: note(cx, "CopyObject", &copy.target),
                checks: Vec::new(),
                writes: Vec::new(),
                extend: None,
            };
            match self.make_current(cx, admitted, incoming).await {
                Ok((stored, _)) => return Ok((stored, source_ref)),
                // the source's content has gone meanwhile: look what is there now
                Err(Error::Busy) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Busy)
    }

    /// The version to copy, if the caller may read it and its conditions hold.
    pub(crate) async fn source(
        &self,
        cx: &Cx,
        at: &At,
        which: Option<VersionRef>,
        conditions: &Conditions,
    ) -> Result<Source> {
        let actions = (Action::GetObject, Action::GetObjectVersion);
        let (bucket, placed, is_current) = self.version_at(cx, at, which, actions).await?;
        decide_source(conditions, &placed.value)?;
        let (id, versioning) = (placed.value.id, bucket.value.versioning);
        Ok(Source { id, version: placed.value, bucket: bucket.value, versioning, is_current })
    }

    async fn copy_source(&self, cx: &Cx, copy: &CopyObject) -> Result<Source> {
        let source = self.source(cx, &copy.source, copy.source_version, &copy.source_conditions).await?;
        let changes_something = copy.attributes.is_some() || copy.tags.is_some() || copy.compute.is_some();
        if copy.source == copy.target && source.is_current && !changes_something {
            return Err(Error::Invalid { what: "copy of an object onto itself that changes nothing" });
        }
        if copy.tags.is_none() && !source.version.attributes.tags.is_empty() {
            let action = if copy.source_version.is_some() {
                Action::GetObjectVersionTagging
            } else {
                Action::GetObjectTagging
            };
            self.ask(cx, action, &source.bucket, Some(&copy.source.key), Some(&source.version))?;
        }
        Ok(source)
    }

    /// A checksum over a version's whole content; `None`: it has gone.
    async fn checksum_of(&self, version: &Version, algorithm: Algorithm) -> Result<Option<Checksum>> {
        let wanted = Wanted { md5: false, algorithms: vec![algorithm] };
        let Some(digests) = self.digests_of(version, &wanted).await? else { return Ok(None) };
        Ok(digests.checksums.into_iter().find(|checksum| checksum.algorithm == algorithm))
    }
}

/// What is copied from.
#[derive(Debug)]
pub(crate) struct Source {
    id: VersionId,
    pub(crate) version: Version,
    bucket: Bucket,
    versioning: Versioning,
    is_current: bool,
}

impl Source {
    /// How a door names the version copied; `None` where versioning was never enabled.
    pub(crate) fn reference(&self) -> Option<VersionRef> {
        (self.versioning != Versioning::Off).then_some(if self.version.is_null {
            VersionRef::Null
        } else {
            VersionRef::Id(self.id)
        })
    }
}

/// The record of the copy.
fn copied(cx: &Cx, copy: &CopyObject, source: Version, id: VersionId) -> Version {
    let tags = copy.tags.clone().unwrap_or_else(|| source.attributes.tags.clone());
    let attributes = Attributes { tags, ..copy.attributes.clone().unwrap_or(source.attributes) };
    let (user, organisation) = (cx.principal.user(), cx.principal.organisation);
    Version { id, owner: user, organisation, writer: user, attributes, ..source }
}
