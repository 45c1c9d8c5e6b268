//! A file changes what it is called or where it belongs, or goes (contract §5.4, D5): by its number, in one commit.

use super::Filed;
use crate::codec::keys;
use crate::commit::{Need, Turn, check_size, note};
use crate::error::{Error, Result};
use crate::object::{Attributes, Bucket, Version};
use crate::plan::{Placed, Plan, Standing};
use crate::put::check_tags;
use crate::rename::leaves_nothing;
use crate::scheme::{Category, Filing};
use crate::views::Pointer;
use crate::{Action, Cx, ObjectKey, Store, VersionId};

/// Where a file shall belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Whose; `None`: `general/…`.
    pub client: Option<String>,
    /// Its category.
    pub category: Category,
    /// Its subcategory, a slug; `None`: none.
    pub subcategory: Option<String>,
}

/// What shall be different. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileChange {
    /// The name shown; an empty one is the stored name.
    pub label: Option<String>,
    /// The description; `Some(None)` takes it away.
    pub description: Option<Option<String>>,
    /// The tags, all of them.
    pub tags: Option<Vec<(String, String)>>,
    /// Open to everyone.
    pub is_public: Option<bool>,
    /// The client; `Some(None)`: none any more.
    pub client: Option<Option<String>>,
    /// The category.
    pub category: Option<Category>,
    /// The subcategory, a slug; `Some(None)`: none any more.
    pub subcategory: Option<Option<String>>,
}

/// A file as it stands, for a change.
struct Here {
    bucket: Placed<Bucket>,
    filed: Filed,
    standing: Standing,
}

impl FileChange {
    /// Where a file shall belong that is there.
    pub fn folder(&self, there: &Filing) -> Folder {
        Folder {
            client: self.client.clone().unwrap_or_else(|| there.client.clone()),
            category: self.category.unwrap_or(there.category),
            subcategory: self.subcategory.clone().unwrap_or_else(|| there.subcategory.clone()),
        }
    }

    fn apply(&self, attributes: &mut Attributes, name: &str) {
        if let Some(label) = &self.label {
            attributes.label = Some(label.clone()).filter(|label| !label.is_empty() && label != name);
        }
        if let Some(description) = &self.description {
            attributes.description.clone_from(description);
        }
        if let Some(tags) = &self.tags {
            attributes.tags.clone_from(tags);
        }
        attributes.is_public = self.is_public.unwrap_or(attributes.is_public);
    }
}

impl Store {
    /// Changes a file. Its number, its bytes and its date stay; the key's last segment as well, unless it is taken at
    /// the new place: then `_2`, `_3` … follow it. Needs to write the file; to move it, to delete it here and to write
    /// there. Durable on return.
    ///
    /// # Errors
    /// `Hidden` when there is no such file or the caller may not read it, or may not write where it shall go; `Denied`;
    /// `Invalid { what: "name" }` (what the place is made of is no key), `Invalid { what: "tags" }`, `TooLarge`.
    pub async fn change_file(&self, cx: &Cx, serial: u64, change: &FileChange) -> Result<Filed> {
        if let Some(tags) = &change.tags {
            check_tags(tags)?;
        }
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let Here { bucket, filed, standing } = self.file_here(cx, serial).await?;
            let key = &filed.key;
            self.ask_write(cx, &bucket.value, key, Some(&filed.version), change.tags.is_some())?;
            let Folder { client, category, subcategory } = change.folder(&filed.place);
            let there = Filing { client, category, subcategory, name: filed.place.name.clone() };
            let mut version = filed.version.clone();
            change.apply(&mut version.attributes, &filed.place.name);
            let to = if there.folder() == filed.place.folder() {
                key.clone()
            } else {
                self.ask(cx, Action::DeleteObject, &bucket.value, Some(key), Some(&filed.version))?;
                self.free_key(&bucket.value, there).await?
            };
            let action = if to == *key { "SetAttributes" } else { "RenameObject" };
            let note = note(cx, action, &self.filing_at(key.clone()));
            let (plan, version) = if to == *key {
                if version == filed.version {
                    return Ok(filed);
                }
                check_size(&version)?;
                let mut plan = Plan::new(&bucket);
                let head = Placed { value: filed.version, position: position_of(&standing)? };
                plan.replace(key, &head, &version, true, &[]);
                (plan, version)
            } else {
                self.plan_move(cx, &bucket, (key, &standing), &to, version).await?
            };
            match self.commit(&bucket.value.name, plan, Some(&note)).await? {
                Turn::Done(_) => return Filed::of(&bucket.value, &to, version).ok_or(Error::Hidden),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Deletes a file; what it was. Durable on return.
    ///
    /// # Errors
    /// `Hidden` when there is no such file or the caller may not read it; `Denied`.
    pub async fn delete_file(&self, cx: &Cx, serial: u64) -> Result<Filed> {
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let Here { bucket, filed, standing } = self.file_here(cx, serial).await?;
            self.ask(cx, Action::DeleteObject, &bucket.value, Some(&filed.key), Some(&filed.version))?;
            let mut plan = Plan::new(&bucket);
            plan.may_use_reserve = true;
            plan.delete(&filed.key, &standing, self.new_marker(cx));
            let note = note(cx, "DeleteObject", &self.filing_at(filed.key.clone()));
            match self.commit(&bucket.value.name, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(filed),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// The file with this number and what stands at its key, if the caller may read it.
    async fn file_here(&self, cx: &Cx, serial: u64) -> Result<Here> {
        let bucket = self.find_bucket(&self.inner.options.built_in.filing).await?;
        for _ in 0..crate::commit::RESTARTS_MAX {
            let row = self.inner.kv().get(&keys::file_filing(serial)).await?.ok_or(Error::Hidden)?;
            let key: ObjectKey = Pointer::decode(&row.value)?.key.parse()?;
            let standing = self.standing(&bucket.value, &key, Need::Write).await?;
            let version = standing.current().filter(|version| version.ids.filing == Some(serial)).cloned();
            // moved or replaced between the two rows: look again
            let Some(version) = version else { continue };
            self.ask(cx, Action::GetObject, &bucket.value, Some(&key), Some(&version))?;
            let filed = Filed::of(&bucket.value, &key, version).ok_or(Error::Hidden)?;
            return Ok(Here { bucket, filed, standing });
        }
        Err(Error::Busy)
    }

    /// Plans that a file goes to a key that is free.
    async fn plan_move(
        &self,
        cx: &Cx,
        bucket: &Placed<Bucket>,
        (from, standing): (&ObjectKey, &Standing),
        to: &ObjectKey,
        mut version: Version,
    ) -> Result<(Plan, Version)> {
        let target = self.standing(&bucket.value, to, Need::Write).await?;
        self.ask_write(cx, &bucket.value, to, target.current(), !version.attributes.tags.is_empty())?;
        let moving = version.clone();
        if !leaves_nothing(bucket.value.versioning, &moving) {
            version.id = VersionId(self.inner.options.ids.next());
        }
        self.settle_in(&bucket.value, to, Some(&moving), &mut version).await?;
        if from.last_segment() != to.last_segment() && version.attributes.label.is_none() {
            // the stored name had to change: the name shown does not
            version.attributes.label = Some(from.last_segment().to_owned());
        }
        check_size(&version)?;
        let mut plan = Plan::new(bucket);
        plan.move_away(from, standing, self.new_marker(cx));
        let version = plan.put(to, &target, version, &[]);
        Ok((plan, version))
    }
}

/// Where the head row of what stands was written.
fn position_of(standing: &Standing) -> Result<coffre_kv::Position> {
    let head = standing.head.as_ref().ok_or(Error::Hidden)?;
    Ok(head.position)
}
