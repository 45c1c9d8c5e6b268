//! Buckets and their settings.

use bytes::Bytes;
use coffre_kv::{Check, Commit, KvExt, Range, Scan, Step, Write};

use crate::codec::keys;
use crate::codec::object::{decode_bucket, encode_bucket};
use crate::object::{Bucket, BuiltIn, Versioning};
use crate::pages::Pages;
use crate::plan::Placed;
use crate::usage::{self, Measure};
use crate::watch::Note;
use crate::{Action, BucketId, BucketName, Cx, Error, Result, Store};

/// A change of one setting, with the action it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `PutBucketVersioning`; never back to `Off`.
    Versioning(Versioning),
    /// `PutBucketTagging`, `DeleteBucketTagging` (empty).
    Tags(Vec<(String, String)>),
    /// `PutBucketPolicy`, `DeleteBucketPolicy` (`None`). The text is checked by who gives it.
    Policy(Option<String>),
    /// `PutPublicAccessBlock`.
    BlocksPublic(bool),
}

/// A page of buckets.
#[derive(Clone, Debug, Default)]
pub struct BucketsPage {
    /// By name.
    pub buckets: Vec<Bucket>,
    /// What to give as `after` for the next page; `None`: no more.
    pub next_after: Option<String>,
}

/// Most buckets of one page.
pub const BUCKETS_PAGE_MAX: usize = 10_000;
/// Most tags of a bucket, largest policy in bytes (S3).
const TAGS_MAX: usize = 50;
const POLICY_BYTES_MAX: usize = 20 * 1024;

impl Store {
    /// Makes a bucket that belongs to the caller (`owner` for the command line).
    ///
    /// # Errors
    /// `Exists` (the error's reader asks [`Store::bucket`] whether it is the caller's own), `Denied`.
    pub async fn create_bucket(
        &self,
        cx: &Cx,
        name: BucketName,
        owner: Option<crate::UserId>,
    ) -> Result<Bucket> {
        self.ask_at_all(cx, Action::CreateBucket)?;
        let owner = owner.or(cx.principal.user());
        let note = Note::of(cx, "CreateBucket", Some(name.as_str()), None);
        let bucket = self.make_bucket(name, owner, None, &note).await?;
        self.tell_bucket(cx, &bucket.name).await;
        Ok(bucket)
    }

    /// Writes the row of a new bucket.
    async fn make_bucket(
        &self,
        name: BucketName,
        owner: Option<crate::UserId>,
        place: Option<BuiltIn>,
        note: &Note,
    ) -> Result<Bucket> {
        let id = self.inner.bucket_numbers.next(self.inner.kv()).await?;
        let id = u32::try_from(id)
            .map_err(|_| Error::TooLarge { what: "the number of buckets", max: u64::from(u32::MAX) })?;
        let bucket = Bucket {
            name,
            id: BucketId(id),
            place,
            owner,
            created_ms: self.now_ms(),
            versioning: Versioning::Off,
            tags: Vec::new(),
            policy: None,
            // contract D36
            blocks_public: matches!(place, Some(BuiltIn::Filing | BuiltIn::Media | BuiltIn::Companies)),
            unknown: Vec::new(),
        };
        let row = keys::bucket(&bucket.name);
        let commit = Commit {
            checks: vec![Check::Absent(row.clone())],
            writes: vec![Write::Put(row, encode_bucket(&bucket))],
            note: note.encode(),
            ..Commit::default()
        };
        match self.inner.kv().commit(commit).await {
            Ok(_) => Ok(bucket),
            Err(coffre_kv::Error::Conflict { .. }) => Err(Error::Exists(bucket.name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the built-in buckets that are not there yet.
    ///
    /// # Errors
    /// `Invalid` when a name is taken by a user's bucket, or a built-in bucket has another name already: renaming
    /// one in the configuration would hide what it holds.
    pub(crate) async fn make_built_in(&self) -> Result<()> {
        let names = &self.inner.options.built_in;
        let wanted = [
            (BuiltIn::Filing, &names.filing),
            (BuiltIn::Gateway, &names.gateway),
            (BuiltIn::Media, &names.media),
            (BuiltIn::Companies, &names.companies),
        ];
        let names: Vec<BucketName> = wanted.iter().map(|(_, name)| (*name).clone()).collect();
        let scan = Scan::forward(Range::prefix(keys::bucket_prefix("")));
        let visit = move |there: &mut Result<Vec<_>>, row: coffre_kv::Row<'_>| {
            match decode_bucket(&Bytes::copy_from_slice(row.value)) {
                Ok(bucket) if bucket.place.is_some() || names.contains(&bucket.name) => {
                    if let Ok(there) = there {
                        there.push((bucket.place, bucket.name));
                    }
                }
                Ok(_) => {}
                Err(error) => *there = Err(error),
            }
            if there.is_ok() { Step::Next } else { Step::Stop }
        };
        let there = self.inner.kv().scan_into(scan, Ok(Vec::new()), visit).await??;
        let note = Note::own(self.now_ms(), "CreateBucket");
        for (place, name) in wanted {
            let same = |(p, n): &(Option<BuiltIn>, BucketName)| (*p == Some(place), n == name);
            match there.iter().map(same).find(|(is_place, is_name)| *is_place || *is_name) {
                None => {
                    let note = Note { bucket: Some(name.to_string()), ..note.clone() };
                    self.make_bucket(name.clone(), None, Some(place), &note).await?;
                }
                Some((true, true)) => {}
                Some(_) => {
                    return Err(Error::Invalid { what: "name of a built-in bucket: another is in use" });
                }
            }
        }
        Ok(())
    }

    /// A bucket, for the action given (`HeadBucket` is `ListBucket`).
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn bucket(&self, cx: &Cx, name: &BucketName, action: crate::Action) -> Result<Bucket> {
        let bucket = self.find_bucket(name).await?.value;
        self.ask(cx, action, &bucket, None, None)?;
        Ok(bucket)
    }

    /// The buckets the caller may list, after a name, with a prefix.
    pub async fn list_buckets(
        &self,
        cx: &Cx,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<BucketsPage> {
        self.ask_at_all(cx, Action::ListAllMyBuckets)?;
        let limit = limit.min(BUCKETS_PAGE_MAX);
        if limit == 0 {
            return Ok(BucketsPage::default());
        }
        let mut range = Range::prefix(keys::bucket_prefix(prefix));
        // one beyond the name: the smallest key that is larger
        let mut next = keys::bucket_prefix(after).to_vec();
        next.push(0);
        range.start = range.start.max(Bytes::from(next));
        let mut page = BucketsPage::default();
        let mut pages = Pages::over(range);
        while let Some(rows) = pages.next(self).await? {
            for (_, entry) in rows {
                let bucket = decode_bucket(&entry.value)?;
                let is_own = bucket.owner.is_some() && bucket.owner == cx.principal.user();
                if !is_own && self.ask(cx, Action::ListBucket, &bucket, None, None).is_err() {
                    continue;
                }
                if page.buckets.len() == limit {
                    page.next_after = page.buckets.last().map(|bucket| bucket.name.to_string());
                    return Ok(page);
                }
                page.buckets.push(bucket);
            }
        }
        Ok(page)
    }

    /// Removes an empty bucket: no versions, delete markers or uploads.
    ///
    /// # Errors
    /// `NotEmpty`, `NotFound(Bucket)`, `Denied` (also for built-in ones).
    pub async fn delete_bucket(&self, cx: &Cx, name: &BucketName) -> Result<()> {
        let mut tries = self.inner.turns.tries(vec![keys::bucket(name)]);
        loop {
            tries.begin().await;
            let Placed { value: bucket, position } = self.find_bucket(name).await?;
            self.ask(cx, Action::DeleteBucket, &bucket, None, None)?;
            if bucket.place.is_some() {
                return Err(Error::Denied);
            }
            let row = keys::bucket(name);
            let counters = [Measure::Bytes, Measure::Objects, Measure::UnfinishedBytes]
                .map(|measure| Write::Delete(usage::counter(measure, &usage::Of::Bucket(bucket.id))));
            let commit = Commit {
                checks: vec![
                    Check::At(row.clone(), position),
                    Check::PrefixEmpty(keys::head_prefix(bucket.id, "")),
                    Check::PrefixEmpty(keys::versions_prefix(bucket.id, "")),
                    Check::PrefixEmpty(keys::uploads_prefix(bucket.id, "")),
                ],
                writes: counters.into_iter().chain([Write::Delete(row.clone())]).collect(),
                note: Note::of(cx, "DeleteBucket", Some(name.as_str()), None).encode(),
                may_use_reserve: true,
                ..Commit::default()
            };
            match self.inner.kv().commit(commit).await {
                Ok(_) => {
                    self.tell_bucket(cx, name).await;
                    return Ok(());
                }
                Err(coffre_kv::Error::Conflict { check: 0 }) => tries.lost(row)?,
                Err(coffre_kv::Error::Conflict { .. }) => return Err(Error::NotEmpty),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`; `Invalid` for what the setting cannot be, `TooLarge`.
    pub async fn set_bucket(&self, cx: &Cx, name: &BucketName, setting: Setting) -> Result<Bucket> {
        setting.check()?;
        let (action, word) = setting.action();
        let mut tries = self.inner.turns.tries(vec![keys::bucket(name)]);
        loop {
            tries.begin().await;
            let Placed { value: mut bucket, position } = self.find_bucket(name).await?;
            self.ask(cx, action, &bucket, None, None)?;
            match setting.clone() {
                Setting::Versioning(versioning) => bucket.versioning = versioning,
                Setting::Tags(tags) => bucket.tags = tags,
                Setting::Policy(policy) => bucket.policy = policy,
                Setting::BlocksPublic(blocks) => bucket.blocks_public = blocks,
            }
            let row = keys::bucket(name);
            let commit = Commit {
                checks: vec![Check::At(row.clone(), position)],
                writes: vec![Write::Put(row.clone(), encode_bucket(&bucket))],
                note: Note::of(cx, word, Some(name.as_str()), None).encode(),
                ..Commit::default()
            };
            match self.inner.kv().commit(commit).await {
                Ok(_) => return Ok(bucket),
                Err(coffre_kv::Error::Conflict { .. }) => tries.lost(row)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Setting {
    /// What it needs, and the audit log's word for it.
    fn action(&self) -> (Action, &'static str) {
        match self {
            Self::Versioning(_) => (Action::PutBucketVersioning, "PutBucketVersioning"),
            Self::Tags(tags) if tags.is_empty() => (Action::PutBucketTagging, "DeleteBucketTagging"),
            Self::Tags(_) => (Action::PutBucketTagging, "PutBucketTagging"),
            Self::Policy(None) => (Action::DeleteBucketPolicy, "DeleteBucketPolicy"),
            Self::Policy(Some(_)) => (Action::PutBucketPolicy, "PutBucketPolicy"),
            Self::BlocksPublic(_) => (Action::PutBucketPublicAccessBlock, "PutPublicAccessBlock"),
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Versioning(Versioning::Off) => Err(Error::Invalid { what: "versioning" }),
            Self::Tags(tags) if tags.len() > TAGS_MAX => Err(Error::Invalid { what: "tags" }),
            Self::Tags(tags) => crate::put::check_tag_texts(tags),
            Self::Policy(Some(policy)) if policy.len() > POLICY_BYTES_MAX => {
                Err(Error::TooLarge { what: "the policy", max: POLICY_BYTES_MAX as u64 })
            }
            Self::Versioning(_) | Self::Policy(_) | Self::BlocksPublic(_) => Ok(()),
        }
    }
}
