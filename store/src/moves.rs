//! Moving names: a file or a directory with everything in it to another name, or two changing places, in one commit.
//!
//! Ids, inode numbers, references and bytes go along (contract D5). What is planned is a list of keys that become
//! others; where a key is both left and taken, the one that comes replaces the one that goes.

use std::collections::{BTreeMap, BTreeSet};

use coffre_kv::{Check, KvExt, Scan, WRITES_MAX};

use crate::codec::keys;
use crate::codec::object::decode_version;
use crate::commit::{Need, Turn, note};
use crate::dir::{inside, marker_of, parent_of, within};
use crate::error::{Error, Missing, Result};
use crate::object::{At, Bucket, Version, Versioning};
use crate::plan::{Placed, Plan, Standing};
use crate::rename::leaves_nothing;
use crate::{Action, BucketName, Cx, ObjectKey, Store, VersionId, Wait};

/// Most objects of one move: each is at least two writes.
const OBJECTS_MAX: usize = WRITES_MAX / 2;

/// What to move.
#[derive(Clone, Copy, Debug)]
pub struct MoveName<'a> {
    /// In which bucket.
    pub bucket: &'a BucketName,
    /// From, without a trailing `/`.
    pub from: &'a ObjectKey,
    /// `from` is a directory.
    pub is_dir: bool,
    /// To, without a trailing `/`.
    pub to: &'a ObjectKey,
    /// What happens to what is there.
    pub how: How,
}

/// What a move does with what is at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is replaced.
    Replace,
    /// It must not be.
    NoReplace,
    /// The two change places; both have to be there. Each may be a file or a directory.
    Exchange {
        /// The target is a directory.
        to_is_dir: bool,
    },
}

/// What a move did.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// For a file: its version at the new name.
    pub version: Option<Box<Version>>,
    /// The file that was replaced.
    pub replaced: Option<Box<Version>>,
    /// How many objects changed their key.
    pub objects: u64,
}

/// An object on its way.
struct Going {
    from: ObjectKey,
    to: ObjectKey,
    standing: Standing,
    version: Version,
}

impl Store {
    /// Moves a file or a directory with everything in it, in one commit: ids and inode numbers go along, the source's
    /// directory stays. Both names are without a trailing `/`; `is_dir` says which is meant by `from`.
    ///
    /// A file may replace a file, a directory an empty directory. What other doors put into a directory while it is
    /// moved may be left behind.
    ///
    /// # Errors
    /// `NotFound(Key)` (source, or the target's directory), `Precondition` (`NoReplace` and something is there),
    /// `NotEmpty` (target directory), `Invalid` (a directory into itself says `what: "name"`; file over directory or
    /// the reverse `"target"`), `TooLarge` beyond 100,000 rows, and as [`Store::rename`].
    pub async fn move_name(&self, cx: &Cx, moving: MoveName<'_>, wait: Wait) -> Result<Moved> {
        let at = At { bucket: moving.bucket.clone(), key: moving.from.clone() };
        let note = note(cx, "RenameObject", &at);
        let is_in = |dir: &ObjectKey, name: &ObjectKey| name.as_str().starts_with(&format!("{dir}/"));
        let is_exchange = matches!(moving.how, How::Exchange { .. });
        if is_in(moving.from, moving.to) || (is_exchange && is_in(moving.to, moving.from)) {
            return Err(Error::Invalid { what: "name" });
        }
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(moving.bucket).await?;
            let mut going = self.going(cx, &bucket.value, moving.from, moving.is_dir, moving.to).await?;
            if moving.from == moving.to {
                return Ok(moved(&moving, &going, None));
            }
            let mut plan = Plan::new(&bucket);
            plan.wait = wait;
            let mut replaced = None;
            if let How::Exchange { to_is_dir } = moving.how {
                going.extend(self.going(cx, &bucket.value, moving.to, to_is_dir, moving.from).await?);
            } else {
                replaced = self.clear_target(cx, &bucket.value, &moving, &going, &mut plan).await?;
                let rows = rows_of(&bucket.value, moving.from, moving.is_dir);
                let parent = parent_of(moving.from);
                if parent.is_some_and(|parent| !moving.to.as_str().starts_with(&format!("{parent}/"))) {
                    self.keep_dir(cx, &bucket, &mut plan, moving.from, rows).await?;
                }
            }
            let parent = self.dir_check(cx, &bucket.value, parent_of(moving.to)).await?;
            plan.checks.extend(parent);
            self.plan_moves(cx, &bucket.value, &mut plan, &mut going).await?;
            match self.commit(moving.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(moved(&moving, &going, replaced)),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// What has to go along when a name is moved.
    async fn going(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        from: &ObjectKey,
        is_dir: bool,
        to: &ObjectKey,
    ) -> Result<Vec<Going>> {
        let mut going = Vec::new();
        if is_dir {
            let scan = Scan::forward(within(bucket, from.as_str()));
            let rows = self.inner.kv().rows(scan, OBJECTS_MAX + 1).await?;
            if rows.len() > OBJECTS_MAX {
                return Err(Error::TooLarge { what: "the directory", max: OBJECTS_MAX as u64 });
            }
            for (row, entry) in rows {
                let (_, key) = keys::parse_head(&row)?;
                let rest = key.get(from.as_str().len()..).unwrap_or_default();
                let (target, key): (ObjectKey, ObjectKey) = (format!("{to}{rest}").parse()?, key.parse()?);
                let standing = if bucket.versioning == Versioning::Off {
                    let value = decode_version(&entry.value)?;
                    Standing { head: Some(Placed { value, position: entry.position }), ..Standing::default() }
                } else {
                    self.standing(bucket, &key, Need::Write).await?
                };
                let Some(version) = standing.current().cloned() else { continue };
                going.push(Going { from: key, to: target, standing, version });
            }
        } else {
            let standing = self.standing(bucket, from, Need::Write).await?;
            if let Some(version) = standing.current().cloned() {
                going.push(Going { from: from.clone(), to: to.clone(), standing, version });
            }
        }
        if going.is_empty() {
            return Err(self.missing(cx, bucket, from, Missing::Key(from.clone())));
        }
        for one in &going {
            self.ask(cx, Action::DeleteObject, bucket, Some(&one.from), Some(&one.version))?;
        }
        Ok(going)
    }

    /// Makes sure that the target may be taken and plans that an empty directory there goes; the file replaced.
    async fn clear_target(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        moving: &MoveName<'_>,
        going: &[Going],
        plan: &mut Plan,
    ) -> Result<Option<Box<Version>>> {
        let object = self.find_head(bucket, moving.to).await?.map(|found| found.value);
        let within = within(bucket, moving.to.as_str());
        let is_dir = self.first_in(within.clone()).await?.is_some();
        let is_taken = object.is_some() || is_dir;
        if moving.how == How::NoReplace && is_taken {
            return Err(Error::Precondition { condition: "If-None-Match" });
        }
        if !moving.is_dir {
            if object.is_none() {
                if is_dir {
                    return Err(Error::Invalid { what: "target" });
                }
                plan.checks.push(Check::PrefixEmpty(within.start));
            }
            return Ok(object.map(Box::new));
        }
        if object.is_some() && !is_dir {
            return Err(Error::Invalid { what: "target" });
        }
        let inside = inside(bucket, moving.to);
        if self.first_in(inside.clone()).await?.is_some() {
            return Err(Error::NotEmpty);
        }
        plan.checks.push(Check::RangeEmpty(inside.start, inside.end.unwrap_or_default()));
        if object.is_none() {
            plan.checks.push(Check::Absent(keys::head(bucket.id, moving.to)));
        }
        let marker = marker_of(moving.to)?;
        if !going.iter().any(|one| one.to == marker) {
            let standing = self.standing(bucket, &marker, Need::Write).await?;
            if standing.head.is_some() {
                self.ask(cx, Action::DeleteObject, bucket, Some(&marker), standing.current())?;
                plan.delete(&marker, &standing, self.new_marker(cx));
            } else {
                plan.checks.push(Check::Absent(keys::head(bucket.id, &marker)));
            }
        }
        Ok(None)
    }

    /// Plans that each goes to its key.
    async fn plan_moves(&self, cx: &Cx, bucket: &Bucket, plan: &mut Plan, going: &mut [Going]) -> Result<()> {
        let left: BTreeMap<ObjectKey, Standing> =
            going.iter().map(|one| (one.from.clone(), one.standing.clone())).collect();
        for one in going.iter_mut() {
            let target = match left.get(&one.to) {
                Some(standing) => standing.clone(),
                None => self.standing(bucket, &one.to, Need::Write).await?,
            };
            self.ask_write(cx, bucket, &one.to, target.current(), false)?;
            let mut arriving = one.version.clone();
            if !leaves_nothing(bucket.versioning, &one.version) {
                arriving.id = VersionId(self.inner.options.ids.next());
            }
            self.settle_in(bucket, &one.to, Some(&one.version), &mut arriving).await?;
            if one.from.last_segment() != one.to.last_segment() {
                // the new name is the name shown (contract D5)
                arriving.attributes.label = None;
            }
            one.version = plan.put(&one.to, &target, arriving, &[]);
        }
        let taken: BTreeSet<&ObjectKey> = going.iter().map(|one| &one.to).collect();
        for (key, standing) in &left {
            if !taken.contains(key) {
                plan.move_away(key, standing, self.new_marker(cx));
            }
        }
        Ok(())
    }
}

/// The rows of a name.
fn rows_of(bucket: &Bucket, name: &ObjectKey, is_dir: bool) -> coffre_kv::Range {
    if is_dir {
        return within(bucket, name.as_str());
    }
    let row = keys::head(bucket.id, name);
    coffre_kv::Range { end: Some([row.as_ref(), &[0]].concat().into()), start: row }
}

fn moved(moving: &MoveName<'_>, going: &[Going], replaced: Option<Box<Version>>) -> Moved {
    let version = if moving.is_dir { None } else { going.first().map(|one| Box::new(one.version.clone())) };
    Moved { version, replaced, objects: going.len() as u64 }
}
