//! A file comes in: bytes that have been received go to a place that has a free name, once (contract §5.4, D4, D5).

use coffre_kv::{Check, KvExt, Range, Scan};

use super::Filed;
use crate::codec::corrupt;
use crate::codec::keys;
use crate::commit::note;
use crate::condition::{Conditions, ETagCondition};
use crate::error::{Error, Result};
use crate::incoming::Incoming;
use crate::name::UserId;
use crate::object::{Attributes, Bucket};
use crate::put::{StagedObject, check_tags, settle};
use crate::scheme::{Category, Filing, Place};
use crate::{Action, Cx, ObjectKey, Store, views};

/// Most names tried: `_2` to this. More files of one name in one second are not met.
const NAMES_MAX: u32 = 1000;
/// Most rows looked at for the same bytes. More than one is there only when other doors made them.
const SAME_MAX: usize = 16;

/// A file on its way in.
#[derive(Debug)]
pub struct NewFile {
    /// Whose; `None`: `general/…`.
    pub client: Option<String>,
    /// Its category.
    pub category: Category,
    /// Its subcategory, a slug; `None`: none.
    pub subcategory: Option<String>,
    /// What its stored name begins with; `_2`, `_3` … follow where that is taken.
    pub stem: String,
    /// The stored name's extension, without the dot.
    pub extension: Option<String>,
    /// The name shown, where that is not the stored one.
    pub label: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Open to everyone.
    pub is_public: bool,
    /// Its bytes.
    pub staged: StagedObject,
}

/// What became of a file on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(Filed),
    /// The caller has put the same bytes at the same place before; nothing was changed.
    Same(Filed),
}

impl Store {
    /// Puts a file where it belongs, under a name that is free. Durable on return; dropped before, nothing is stored.
    /// Its MIME type is what its bytes and its extension say (contract D17).
    ///
    /// # Errors
    /// `Denied`, `Hidden` (a client that is not granted), `Invalid { what: "name" }` (what the place is made of is no
    /// key), `Invalid { what: "tags" }`, `TooLarge`, `QuotaExceeded`, `NoSpace`, `Busy`.
    pub async fn add_file(&self, cx: &Cx, new: NewFile) -> Result<Added> {
        check_tags(&new.tags)?;
        let StagedObject(mut staged) = new.staged;
        let extension = new.extension.as_deref().map(|extension| format!(".{extension}"));
        let extension = extension.unwrap_or_default();
        let place = |n: u32| {
            let number = if n == 1 { String::new() } else { format!("_{n}") };
            let name = format!("{}{number}{extension}", new.stem);
            let (client, subcategory) = (new.client.clone(), new.subcategory.clone());
            Filing { client, category: new.category, subcategory, name }
        };
        let mime = crate::sniff::sniff(&staged.head, &extension).unwrap_or("application/octet-stream");
        let attributes = Attributes {
            content_type: Some(mime.to_owned()),
            tags: new.tags,
            label: new.label,
            description: new.description,
            is_public: new.is_public,
            ..Attributes::default()
        };
        let is_free = Conditions { if_none_match: Some(ETagCondition::Any), ..Conditions::default() };
        let writer = cx.principal.user();
        let folder = place(1).folder();
        let same = writer.map(|writer| (writer, views::filing_same_prefix(&folder, writer, &staged.sha256)));
        let checks: Vec<Check> = same.iter().map(|(_, row)| Check::PrefixEmpty(row.clone())).collect();
        let (mut n, mut races) = (1, 0);
        while n <= NAMES_MAX && races <= NAMES_MAX {
            let key = Place::Filing(place(n)).key().ok_or(Error::Invalid { what: "name" })?;
            let bucket = self.find_bucket(&self.inner.options.built_in.filing).await?.value;
            self.ask(cx, Action::PutObject, &bucket, Some(&key), None)?;
            if let Some((writer, row)) = &same
                && let Some(filed) = self.find_same(&bucket, &folder, *writer, row, &staged).await?
            {
                staged.settle(false);
                return Ok(Added::Same(filed));
            }
            let at = self.filing_at(key);
            let admitted = match self.admit(cx, &at, &is_free, !attributes.tags.is_empty()).await {
                Err(Error::Precondition { .. }) => {
                    n += 1;
                    continue;
                }
                other => other?,
            };
            self.inner.blobs.publish(&mut staged).await?;
            let incoming = Incoming {
                at: &at,
                version: self.version_of(cx, &at.key, attributes.clone(), &staged),
                blobs: staged.new_blob().into_iter().collect(),
                conditions: &is_free,
                note: note(cx, "PutObject", &at),
                checks: checks.clone(),
                writes: Vec::new(),
                extend: None,
            };
            match self.make_current(cx, admitted, incoming).await {
                Err(Error::Precondition { .. }) => n += 1,
                // the same bytes came to the same place meanwhile
                Err(Error::Busy) => races += 1,
                other => {
                    let stored = settle(staged, other)?;
                    let filed = Filed::of(&bucket, &at.key, stored.version);
                    return filed.map(Added::New).ok_or_else(|| corrupt("a file of filing has no number"));
                }
            }
        }
        Err(Error::Busy)
    }

    /// A file of the same bytes, folder and writer (contract D4), the oldest number first.
    async fn find_same(
        &self,
        bucket: &Bucket,
        folder: &str,
        writer: UserId,
        row: &bytes::Bytes,
        staged: &crate::blob::Staged,
    ) -> Result<Option<Filed>> {
        let scan = Scan::forward(Range::prefix(row.clone())).keys_only();
        for (key, _) in self.inner.kv().rows(scan, SAME_MAX).await? {
            let (serial, _) = keys::split(key.get(row.len()..).unwrap_or_default())?;
            let Some(filed) = self.find_filed(bucket, u64::from_be_bytes(serial)).await? else { continue };
            let is_same = filed.version.sha256 == crate::object::Digest::Known(staged.sha256)
                && filed.version.writer == Some(writer)
                && filed.place.folder() == folder;
            if is_same {
                return Ok(Some(filed));
            }
        }
        Ok(None)
    }

    /// A key for a file in a folder, of a name that is free, `name` if that is.
    pub(super) async fn free_key(&self, bucket: &Bucket, place: Filing) -> Result<ObjectKey> {
        let (stem, extension) = match place.name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
            _ => (place.name.as_str(), String::new()),
        };
        for n in 1..=NAMES_MAX {
            let name = if n == 1 { place.name.clone() } else { format!("{stem}_{n}{extension}") };
            let key = Place::Filing(Filing { name, ..place.clone() }).key();
            let key = key.ok_or(Error::Invalid { what: "name" })?;
            if self.find_head(bucket, &key).await?.is_none() {
                return Ok(key);
            }
        }
        Err(Error::Busy)
    }
}
