//! Making a version current: the last step that put, copy and completing an upload share.

use coffre_kv::{Check, Write};

use crate::codec::keys;
use crate::commit::{Committed, Need, Turn, check_size};
use crate::condition::{Conditions, decide_write};
use crate::error::{Error, Result};
use crate::object::{At, BlobId, Bucket, Digest, Version};
use crate::plan::{Placed, Plan, Standing};
use crate::put::Stored;
use crate::refs::NewBlob;
use crate::watch::Note;
use crate::{Cx, Store};

/// A version on its way to being current.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    /// Where to.
    pub(crate) at: &'a At,
    /// Its record. Sequence, nullness, inode number, ids, organisation and time are set on the way.
    pub(crate) version: Version,
    /// Blobs of its content that this commit makes known.
    pub(crate) blobs: Vec<(BlobId, NewBlob)>,
    /// What has to hold of what is there.
    pub(crate) conditions: &'a Conditions,
    /// The audit line.
    pub(crate) note: Note,
    /// Further checks of the same commit. If one of them fails the answer is `Busy`: who gave them decides again.
    pub(crate) checks: Vec<Check>,
    /// Further writes.
    pub(crate) writes: Vec<Write>,
    /// Further references that go, and counters.
    pub(crate) extend: Option<Extend<'a>>,
}

/// Adds to each try's plan.
pub(crate) struct Extend<'a>(pub(crate) Box<dyn Fn(&mut Plan) + Send + Sync + 'a>);

impl std::fmt::Debug for Extend<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extend")
    }
}

/// What a write was decided on before its bytes came.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) bucket: Placed<Bucket>,
    pub(crate) standing: Standing,
}

impl Store {
    /// Decides whether a write may begin: authority and conditions, on what stands now.
    pub(crate) async fn admit(
        &self,
        cx: &Cx,
        at: &At,
        conditions: &Conditions,
        has_tags: bool,
    ) -> Result<Admitted> {
        let bucket = self.find_bucket(&at.bucket).await?;
        let standing = self.standing(&bucket.value, &at.key, Need::Write).await?;
        self.ask_write(cx, &bucket.value, &at.key, standing.current(), has_tags)?;
        decide_write(conditions, &at.key, standing.current())?;
        Ok(Admitted { bucket, standing })
    }

    /// Makes a version current in one commit. What was decided before stands in the commit's checks; if it has
    /// changed since, authority and conditions are decided again.
    pub(crate) async fn make_current(
        &self,
        cx: &Cx,
        admitted: Admitted,
        incoming: Incoming<'_>,
    ) -> Result<(Stored, Committed)> {
        let Incoming { at, version, blobs, conditions, note, checks, writes, extend } = incoming;
        check_size(&version)?;
        let has_tags = !version.attributes.tags.is_empty();
        let head = keys::head(admitted.bucket.value.id, &at.key);
        let mut tries = self.inner.turns.tries(vec![head]);
        let mut admitted = Some(admitted);
        loop {
            tries.begin().await;
            let Admitted { bucket, standing } = match admitted.take() {
                Some(admitted) => admitted,
                None => self.admit(cx, at, conditions, has_tags).await?,
            };
            let mut next = version.clone();
            next.modified_ms = self.now_ms();
            self.settle_in(&bucket.value, &at.key, standing.current(), &mut next).await?;
            let mut plan = Plan::new(&bucket);
            let next = plan.put(&at.key, &standing, next, &blobs);
            plan.checks.extend(checks.iter().cloned());
            plan.writes.extend(writes.iter().cloned());
            if let Some(Extend(extend)) = &extend {
                extend(&mut plan);
            }
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(committed) => {
                    if next.sha256 == Digest::Pending {
                        self.inner.background.wake_digests();
                    }
                    let stored = Stored { version: next, versioning: bucket.value.versioning };
                    return Ok((stored, committed));
                }
                // not a race at this key: what the version is made of, or the caller's own checks
                Turn::Lost(row) if is_content(&row) || checks.iter().any(|check| check.key() == &row) => {
                    return Err(Error::Busy);
                }
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }
}

/// Whether a lost row is one that holds content which was to be shared: it has gone.
fn is_content(row: &[u8]) -> bool {
    row.first().is_none_or(|table| *table == keys::MANIFEST)
}
