//! Names to nodes: what stands at a name in a directory, new files first, then the store.

use std::ffi::OsStr;

use coffre_store::dir::Look;
use coffre_store::list::List;
use coffre_store::object::{At, Version};
use coffre_store::{BucketName, Cx, Error};
use rustix::io::Errno;

use crate::attr::Attr;
use crate::door::{Door, at};
use crate::errno::{Result, errno};
use crate::inode::{Piece, Spot};
use crate::name::{self, Form, NAME_BYTES_MAX};

/// Rows looked at in one go for a name longer than 255 bytes.
const PAGE: usize = 100;

/// A name in a directory, read.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) form: Form,
    /// The text of the key that this name adds.
    pub(crate) text: String,
}

/// A directory as the keys have it.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    pub(crate) id: u64,
    pub(crate) bucket: BucketName,
    /// What keys of the directory begin with.
    pub(crate) prefix: String,
    /// How much of the prefix is the beginning of a longer segment.
    pub(crate) begin_len: usize,
}

impl Dir {
    /// The key that a name in it stands for.
    pub(crate) fn key(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    /// As the store takes it.
    pub(crate) fn at(&self, text: &str) -> Result<At> {
        at(self.bucket.clone(), &self.key(text))
    }

    /// The whole segment that a name in it ends.
    pub(crate) fn segment(&self, text: &str) -> String {
        let begin = self.prefix.len().checked_sub(self.begin_len).and_then(|at| self.prefix.get(at..));
        format!("{}{text}", begin.unwrap_or_default())
    }

    /// The names of a segment, as far as they are inside this directory.
    pub(crate) fn shown(&self, text: &str, is_beside: bool) -> Option<String> {
        let names = name::encode(&self.segment(text), is_beside);
        // the names before this directory's depth, read, are its own beginning
        let mut begin_len = 0;
        let mut names = names.into_iter();
        while begin_len < self.begin_len {
            let outer = names.next()?;
            begin_len += name::decode(&outer).filter(|outer| outer.form == Form::Begin)?.text.len();
        }
        (begin_len == self.begin_len).then(|| names.next()).flatten()
    }

    /// The text of a name that is to be made. Escapes are for what other doors made.
    pub(crate) fn new_name(&self, name: &OsStr) -> Result<String> {
        let shown = name.to_str().ok_or(Errno::ILSEQ)?;
        if shown.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let decoded = name::decode(shown).ok_or(Errno::INVAL)?;
        if decoded.form != Form::Segment || self.shown(&decoded.text, false).as_deref() != Some(shown) {
            return Err(Errno::INVAL);
        }
        Ok(decoded.text.into_owned())
    }
}

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Target {
    /// A file that was not committed yet, or is open here.
    Known(u64),
    /// An object.
    Object(Box<Version>),
    /// A directory, and its marker.
    Dir(Option<Box<Version>>),
    /// The beginning of longer names.
    Begin,
}

impl Door {
    /// The directory behind a node.
    pub(crate) fn dir(&self, id: u64) -> Result<Dir> {
        match self.spot(id)? {
            Spot::Dir { bucket, prefix, begin_len } => Ok(Dir { id, bucket, prefix, begin_len }),
            // buckets are not made and removed here
            Spot::Buckets => Err(Errno::PERM),
            Spot::File { .. } => Err(Errno::NOTDIR),
        }
    }

    /// Looks a name up; `None`: nothing is there. The kernel holds what is found once more.
    pub(crate) async fn lookup(&self, parent: u64, name: &OsStr) -> Result<Option<Attr>> {
        let _still = self.still().await;
        let Some(text) = name.to_str() else { return Ok(None) };
        let cx = self.cx()?;
        if let Spot::Buckets = self.spot(parent)? {
            return self.lookup_bucket(&cx, parent, text).await;
        }
        let dir = self.dir(parent)?;
        let decoded = name::decode(text);
        let looked = decoded.and_then(|decoded| self.table.lock().begin_look(parent, decoded.text.as_ref()));
        let found = match self.target(&cx, &dir, text).await {
            Ok(Some((name, target))) => self.enter(&cx, &dir, &name.text, target).await,
            Ok(None) => Ok(None),
            Err(errno) => Err(errno),
        };
        if let Some(id) = looked {
            self.table.lock().end_look(id, !matches!(found, Ok(None)));
        }
        found
    }

    /// Makes the node of what was found, held by the kernel once more.
    pub(crate) async fn enter(&self, cx: &Cx, dir: &Dir, text: &str, target: Target) -> Result<Option<Attr>> {
        let (id, attr) = match target {
            Target::Known(id) => {
                let id = {
                    let mut table = self.table.lock();
                    let node = table.get(id).ok_or(Errno::STALE)?;
                    let (parent, name, ino) = (node.parent, node.name.clone(), node.ino);
                    table.enter(parent, Piece::File, &name, ino)
                };
                return self.attr(id).await.map(Some);
            }
            Target::Object(version) => {
                let id = self.table.lock().enter(dir.id, Piece::File, text, version.ino);
                (id, self.defaults.version(id, &version))
            }
            Target::Dir(marker) => {
                let ino = marker.as_ref().map_or(0, |marker| marker.ino);
                let made_ms = if marker.is_some() { 0 } else { self.made_ms(cx, &dir.bucket).await };
                let id = self.table.lock().enter(dir.id, Piece::Dir, text, ino);
                (id, self.defaults.dir(id, marker.as_deref(), made_ms))
            }
            Target::Begin => {
                let made_ms = self.made_ms(cx, &dir.bucket).await;
                let id = self.table.lock().enter(dir.id, Piece::Begin, text, 0);
                (id, self.defaults.dir(id, None, made_ms))
            }
        };
        Ok(Some(self.with_times(id, attr)))
    }

    async fn lookup_bucket(&self, cx: &Cx, parent: u64, text: &str) -> Result<Option<Attr>> {
        let Ok(bucket) = text.parse::<BucketName>() else { return Ok(None) };
        match self.store.bucket(cx, &bucket, coffre_store::Action::ListBucket).await {
            Ok(bucket) => {
                let id = self.table.lock().enter(parent, Piece::Bucket, text, 0);
                Ok(Some(self.with_times(id, self.defaults.dir(id, None, bucket.created_ms))))
            }
            Err(Error::NotFound(_) | Error::Hidden | Error::Denied) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// What a name in a directory stands for, and what is there.
    pub(crate) async fn target(&self, cx: &Cx, dir: &Dir, shown: &str) -> Result<Option<(Name, Target)>> {
        if shown.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let Some(decoded) = name::decode(shown) else { return Ok(None) };
        let name = Name { form: decoded.form, text: decoded.text.into_owned() };
        let is_beside = name.form == Form::Beside;
        if name.form == Form::Begin {
            let is_there = self.begins_longer(cx, dir, &name.text).await?;
            return Ok(is_there.then_some((name, Target::Begin)));
        }
        // a name has one spelling
        if dir.shown(&name.text, is_beside).as_deref() != Some(shown) {
            return Ok(None);
        }
        if let Some(id) = self.known(dir.id, &name.text) {
            return Ok(Some((name, Target::Known(id))));
        }
        let found = self.look(cx, dir, &name.text).await?;
        let target = match (found.object, found.dir) {
            (Some(object), Some(_)) if is_beside => Some(Target::Object(object)),
            (_, Some(there)) if !is_beside => Some(Target::Dir(there.marker)),
            (Some(object), None) if !is_beside => Some(Target::Object(object)),
            _ if !is_beside && self.has_new_below(dir.id, &name.text) => Some(Target::Dir(None)),
            _ => None,
        };
        Ok(target.map(|target| (name, target)))
    }

    /// A file of that name that only this mount knows as it is: new, or being written.
    pub(crate) fn known(&self, dir: u64, text: &str) -> Option<u64> {
        let table = self.table.lock();
        let id = table.find(dir, Piece::File, text)?;
        let node = table.get(id)?;
        let is_known = node.is_new || node.opened.as_ref().is_some_and(|opened| opened.file().is_dirty());
        is_known.then_some(id)
    }

    /// A directory that is there because files are being written in it.
    fn has_new_below(&self, parent: u64, text: &str) -> bool {
        let table = self.table.lock();
        table.find(parent, Piece::Dir, text).is_some_and(|id| table.has_new_below(id))
    }

    /// The directory and the text of a name that is to be made there.
    pub(crate) fn free_name(&self, parent: u64, name: &OsStr) -> Result<(Dir, String)> {
        let dir = self.dir(parent)?;
        let text = dir.new_name(name)?;
        if self.known(dir.id, &text).is_some() { Err(Errno::EXIST) } else { Ok((dir, text)) }
    }

    /// What a name that has to be there stands for.
    pub(crate) async fn existing(&self, cx: &Cx, dir: &Dir, name: &OsStr) -> Result<(Name, Target)> {
        let shown = name.to_str().ok_or(Errno::NOENT)?;
        self.target(cx, dir, shown).await?.ok_or(Errno::NOENT)
    }

    /// What the store has at a name.
    pub(crate) async fn look(&self, cx: &Cx, dir: &Dir, text: &str) -> Result<Look> {
        if dir.key(text).is_empty() {
            // keys that begin with `/`: a directory with an empty name, which no key names
            let is_there = !self.is_free(cx, &dir.bucket, "/").await?;
            let marker = self.find(cx, &dir.bucket, "/").await?.map(Box::new);
            return Ok(Look { object: None, dir: is_there.then_some(coffre_store::dir::Dir { marker }) });
        }
        let mut look = self.store.look_up(cx, &dir.at(text)?).await.map_err(errno)?;
        if text.is_empty() && look.object.as_ref().is_some_and(|object| object.size_bytes == 0) {
            // the directory's own marker is not shown in it, unless it holds bytes that would be hidden
            look.object = None;
        }
        Ok(look)
    }

    /// Whether keys continue here with a segment too long for one name, of which this is the beginning.
    async fn begins_longer(&self, cx: &Cx, dir: &Dir, text: &str) -> Result<bool> {
        let inner = Dir { prefix: dir.key(text), begin_len: dir.begin_len + text.len(), ..dir.clone() };
        let mut after = String::new();
        loop {
            let page = self.page(cx, &inner.bucket, &inner.prefix, &after, PAGE).await?;
            for (rest, is_dir) in page.units(&inner.prefix) {
                if inner.shown(rest, false).is_some() || (!is_dir && inner.shown(rest, true).is_some()) {
                    return Ok(true);
                }
            }
            match page.next_after {
                Some(next) => after = next,
                None => return Ok(false),
            }
        }
    }

    /// Whether no key begins so.
    pub(crate) async fn is_free(&self, cx: &Cx, bucket: &BucketName, prefix: &str) -> Result<bool> {
        let page = self.page(cx, bucket, prefix, "", 1).await?;
        Ok(page.entries.is_empty() && page.common_prefixes.is_empty())
    }

    /// A page of the keys with a prefix, rolled up at the next `/`.
    pub(crate) async fn page(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Keys> {
        let list = List {
            bucket: bucket.clone(),
            prefix: prefix.to_owned(),
            delimiter: "/".to_owned(),
            after: after.to_owned(),
            limit,
        };
        let page = self.store.list(cx, list).await.map_err(errno)?;
        Ok(Keys { entries: page.entries, common_prefixes: page.common_prefixes, next_after: page.next_after })
    }
}

/// A page of keys.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) entries: Vec<(String, Box<Version>)>,
    pub(crate) common_prefixes: Vec<String>,
    pub(crate) next_after: Option<String>,
}

impl Keys {
    /// What follows the prefix: objects, and directories without their `/`.
    fn units<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, bool)> {
        let objects =
            self.entries.iter().filter_map(move |(key, _)| Some((key.strip_prefix(prefix)?, false)));
        let dirs = self.common_prefixes.iter().filter_map(move |key| {
            Some((key.strip_prefix(prefix)?.strip_suffix('/').unwrap_or_default(), true))
        });
        objects.chain(dirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(prefix: &str, begin_len: usize) -> Dir {
        Dir { id: 2, bucket: "files".parse().unwrap(), prefix: prefix.to_owned(), begin_len }
    }

    #[test]
    fn inside_the_beginning_of_a_name_only_its_ends_are_shown() {
        let long = "n".repeat(600);
        let (first, rest) = long.split_at(247);
        let (second, last) = rest.split_at(247);
        assert_eq!(dir("e/", 0).shown(&long, false), Some(format!("coffre%+{first}")));
        assert_eq!(dir(&format!("e/{first}"), 247).shown(rest, false), Some(format!("coffre%+{second}")));
        assert_eq!(dir(&format!("e/{first}{second}"), 494).shown(last, false), Some(last.to_owned()));
        // a name that needs no such thing is not in there
        assert_eq!(dir("e/nnn", 3).shown("x", false), None);
    }

    #[test]
    fn what_is_made_is_named_as_it_is_shown() {
        let dir = dir("e/", 0);
        assert_eq!(dir.new_name(OsStr::new("a%b")), Ok("a%b".to_owned()));
        for (name, errno) in [
            ("coffre%", Errno::INVAL),
            ("coffre%=plain", Errno::INVAL),
            ("coffre%@a", Errno::INVAL),
            (&"x".repeat(256), Errno::NAMETOOLONG),
        ] {
            assert_eq!(dir.new_name(OsStr::new(name)), Err(errno), "{name}");
        }
        let not_utf8 = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
        assert_eq!(dir.new_name(not_utf8), Err(Errno::ILSEQ));
    }
}
