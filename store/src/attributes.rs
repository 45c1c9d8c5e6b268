//! Changing what belongs to an object beside its bytes, in place: the same version, another record.
//!
//! [`AttributeChange`] is a difference, so that changes through different doors meet without one undoing the other.

use crate::commit::{Turn, check_size, note};
use crate::error::{Error, Missing, Result};
use crate::object::{At, Attributes, Posix, Version};
use crate::plan::Plan;
use crate::put::check_tags;
use crate::{Action, Cx, Store, Wait};

/// What has to hold of an extended attribute that is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Must {
    /// Nothing.
    #[default]
    Any,
    /// It is there (`XATTR_REPLACE`).
    Exist,
    /// It is not there (`XATTR_CREATE`).
    BeAbsent,
}

/// One extended attribute set (`Some`) or removed (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrChange {
    /// Its whole name, `user.` and all.
    pub name: String,
    /// Its value; `None` removes it.
    pub value: Option<Vec<u8>>,
    /// What has to hold of it.
    pub must: Must,
}

/// A difference between two states of an object's attributes. What is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// Permission bits and type as in `st_mode`.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time, ns since 1970.
    pub accessed_ns: Option<i64>,
    /// Modification time, ns since 1970.
    pub modified_ns: Option<i64>,
    /// Status change time, ns since 1970.
    pub changed_ns: Option<i64>,
    /// Extended attributes.
    pub xattrs: Vec<XattrChange>,
    /// Declared MIME type; `Some(None)` takes it away.
    pub content_type: Option<Option<String>>,
    /// Object tags, all of them.
    pub tags: Option<Vec<(String, String)>>,
}

impl AttributeChange {
    /// It changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it may be made of these attributes.
    ///
    /// # Errors
    /// `Precondition { condition: "xattr" }` when an extended attribute is there, or is not, against what must be;
    /// `Invalid` for tags that S3 would refuse.
    pub fn check(&self, attributes: &Attributes) -> Result<()> {
        if let Some(tags) = &self.tags {
            check_tags(tags)?;
        }
        let there = attributes.posix.as_ref().map(|posix| posix.xattrs.as_slice()).unwrap_or_default();
        for change in &self.xattrs {
            let is_there = there.iter().any(|(name, _)| *name == change.name);
            let holds = match change.must {
                Must::Any => true,
                Must::Exist => is_there,
                Must::BeAbsent => !is_there,
            };
            if !holds {
                return Err(Error::Precondition { condition: "xattr" });
            }
        }
        Ok(())
    }

    /// Makes the change, whatever [`AttributeChange::check`] says. Removing what is not there does nothing.
    pub fn apply(&self, attributes: &mut Attributes) {
        if let Some(content_type) = &self.content_type {
            attributes.content_type.clone_from(content_type);
        }
        if let Some(tags) = &self.tags {
            attributes.tags.clone_from(tags);
        }
        if !self.is_posix() {
            return;
        }
        let posix = attributes.posix.get_or_insert_default();
        let Posix { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, symlink: _ } = &mut **posix;
        *mode = self.mode.or(*mode);
        *uid = self.uid.or(*uid);
        *gid = self.gid.or(*gid);
        *accessed_ns = self.accessed_ns.or(*accessed_ns);
        *modified_ns = self.modified_ns.or(*modified_ns);
        *changed_ns = self.changed_ns.or(*changed_ns);
        for change in &self.xattrs {
            let at = xattrs.iter().position(|(name, _)| *name == change.name);
            match (at, &change.value) {
                (None, None) => {}
                (None, Some(value)) => xattrs.push((change.name.clone(), value.clone())),
                (Some(at), None) => drop(xattrs.remove(at)),
                (Some(at), Some(value)) => {
                    if let Some((_, old)) = xattrs.get_mut(at) {
                        old.clone_from(value);
                    }
                }
            }
        }
    }

    /// Adds a later change to this one: both together do what one after the other would.
    pub fn then(&mut self, later: Self) {
        let Self { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, content_type, tags } = later;
        self.mode = mode.or(self.mode);
        self.uid = uid.or(self.uid);
        self.gid = gid.or(self.gid);
        self.accessed_ns = accessed_ns.or(self.accessed_ns);
        self.modified_ns = modified_ns.or(self.modified_ns);
        self.changed_ns = changed_ns.or(self.changed_ns);
        self.content_type = content_type.or(self.content_type.take());
        self.tags = tags.or(self.tags.take());
        for change in xattrs {
            // what came before it decides whether it may be; only the last value counts
            let before = self.xattrs.iter().position(|earlier| earlier.name == change.name);
            match before.and_then(|at| self.xattrs.get_mut(at)) {
                Some(earlier) => earlier.value = change.value,
                None => self.xattrs.push(change),
            }
        }
    }

    fn is_posix(&self) -> bool {
        let numbers = self.mode.or(self.uid).or(self.gid).is_some();
        let times = self.accessed_ns.or(self.modified_ns).or(self.changed_ns).is_some();
        numbers || times || !self.xattrs.is_empty()
    }
}

impl Store {
    /// Changes the current version's attributes in place: no new version, ETag and `modified_ms` stay. An open file of
    /// it that commits later keeps what is changed here. Setting tags needs `PutObjectTagging`, everything else
    /// `PutObject`.
    ///
    /// # Errors
    /// As [`Store::head`], `Precondition` and `Invalid` as [`AttributeChange::check`], `TooLarge` (the record beyond
    /// 120 KiB).
    pub async fn set_attributes(
        &self,
        cx: &Cx,
        at: &At,
        change: &AttributeChange,
        wait: Wait,
    ) -> Result<Version> {
        let note = note(cx, "SetAttributes", at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let Some(old) = self.find_head(&bucket.value, &at.key).await? else {
                let missing = Missing::Key(at.key.clone());
                return Err(self.missing(cx, &bucket.value, &at.key, missing));
            };
            self.ask_change(cx, &bucket.value, at, &old.value, change)?;
            change.check(&old.value.attributes)?;
            let mut new = old.value.clone();
            change.apply(&mut new.attributes);
            if new == old.value {
                return Ok(new);
            }
            check_size(&new)?;
            let mut plan = Plan::new(&bucket);
            plan.wait = wait;
            plan.replace(&at.key, &old, &new, true, &[]);
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(new),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// May they change these attributes of it?
    fn ask_change(
        &self,
        cx: &Cx,
        bucket: &crate::object::Bucket,
        at: &At,
        existing: &Version,
        change: &AttributeChange,
    ) -> Result<()> {
        if change.tags.is_some() {
            self.ask(cx, Action::PutObjectTagging, bucket, Some(&at.key), Some(existing))?;
        }
        if change.content_type.is_some() || change.is_posix() {
            self.ask(cx, Action::PutObject, bucket, Some(&at.key), Some(existing))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = AttributeChange> {
        let number = || prop::option::of(0..4_u32);
        let time = || prop::option::of(0..4_i64);
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
        let xattr =
            ("user\\.[ab]", value).prop_map(|(name, value)| XattrChange { name, value, must: Must::Any });
        let xattrs = prop::collection::vec(xattr, 0..3);
        let content_type = prop::option::of(prop::option::of("[ab]".prop_map(String::from)));
        (number(), number(), time(), time(), xattrs, content_type).prop_map(
            |(mode, uid, a, m, xattrs, ty)| AttributeChange {
                mode,
                uid,
                accessed_ns: a,
                modified_ns: m,
                xattrs,
                content_type: ty,
                ..AttributeChange::default()
            },
        )
    }

    fn sorted(mut attributes: Attributes) -> Attributes {
        if let Some(posix) = &mut attributes.posix {
            posix.xattrs.sort();
        }
        attributes
    }

    proptest! {
        #[test]
        fn two_changes_are_one(changes in prop::collection::vec(change(), 0..5)) {
            let (mut one_by_one, mut together) = (Attributes::default(), Attributes::default());
            let mut sum = AttributeChange::default();
            for change in changes {
                change.apply(&mut one_by_one);
                sum.then(change);
            }
            sum.apply(&mut together);
            prop_assert_eq!(sorted(one_by_one), sorted(together));
        }
    }

    #[test]
    fn what_must_be_of_an_xattr() {
        let set = |must, value: Option<&[u8]>| AttributeChange {
            xattrs: vec![XattrChange { name: "user.a".into(), value: value.map(<[u8]>::to_vec), must }],
            ..AttributeChange::default()
        };
        let mut attributes = Attributes::default();
        assert!(set(Must::Exist, Some(b"1")).check(&attributes).is_err());
        assert!(set(Must::Exist, None).check(&attributes).is_err());
        let create = set(Must::BeAbsent, Some(b"1"));
        create.check(&attributes).unwrap();
        create.apply(&mut attributes);
        assert!(create.check(&attributes).is_err());
        let remove = set(Must::Exist, None);
        remove.check(&attributes).unwrap();
        remove.apply(&mut attributes);
        assert!(attributes.posix.unwrap().xattrs.is_empty());
    }
}
