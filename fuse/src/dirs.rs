//! Directories: listing, making, removing.
//!
//! A handle reads the store a page at a time and keeps one page. An entry's offset is its place in the stream; where
//! pages began is kept, so that a program may go back to a place it has been at.

use std::collections::HashSet;
use std::ffi::OsStr;

use coffre_store::object::Version;
use coffre_store::{Cx, Wait};
use rustix::io::Errno;

use crate::attr::{self, Attr};
use crate::door::{Caller, Door, at_of_dir};
use crate::errno::{Result, errno, errno_of_new};
use crate::inode::{Piece, ROOT, Spot};
use crate::lookup::{Dir, Target};
use crate::name::Form;

/// Entries read from the store at a time.
const PAGE: usize = 1000;

/// An open directory.
#[derive(Debug)]
pub(crate) struct DirHandle {
    pub(crate) node: u64,
    stream: tokio::sync::Mutex<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Where each page that was read began: its first entry's number, and the key after which it was read.
    pages: Vec<(u64, String)>,
    /// The page at hand.
    begin: u64,
    entries: Vec<Entry>,
    /// After which key the next page begins; `None`: there is none.
    next: Option<String>,
    /// Beginnings of long names, shown once.
    begins: HashSet<String>,
}

/// One entry, ready to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As it is shown.
    pub(crate) shown: String,
    /// As the key has it.
    text: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// `.` and `..`, with the node they lead to.
    Dot(u64),
    Object(Box<Version>),
    Known(u64),
    Dir(Option<Box<Version>>),
    Begin,
    Bucket,
}

/// What is shown of an entry.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) name: &'a str,
    pub(crate) offset: u64,
    pub(crate) id: u64,
    pub(crate) mode: u32,
    /// `None`: `.` or `..`, or only names were asked for.
    pub(crate) attr: Option<Attr>,
}

impl Door {
    pub(crate) fn opendir(&self, id: u64) -> Result<u64> {
        let mut table = self.table.lock();
        if !table.get(id).ok_or(Errno::STALE)?.is_dir() {
            return Err(Errno::NOTDIR);
        }
        table.keep(id);
        drop(table);
        Ok(self.handles.add_dir(DirHandle { node: id, stream: tokio::sync::Mutex::default() }))
    }

    pub(crate) fn releasedir(&self, number: u64) {
        if let Some(handle) = self.handles.dir(number) {
            self.handles.remove_dir(number);
            self.table.lock().let_go(handle.node);
        }
    }

    /// Hands entries from `offset` on to `add` until that says it is full. With attributes each entry that was taken is
    /// held by the kernel once more.
    pub(crate) async fn readdir(
        &self,
        number: u64,
        offset: u64,
        with_attr: bool,
        mut add: impl FnMut(&Shown<'_>) -> bool,
    ) -> Result<()> {
        let handle = self.handles.dir(number).ok_or(Errno::BADF)?;
        let _still = self.still().await;
        let cx = self.cx()?;
        let mut stream = handle.stream.lock().await;
        let mut at = offset;
        loop {
            if !self.seek(&cx, handle.node, &mut stream, at).await? {
                return Ok(());
            }
            let first = usize::try_from(at - stream.begin).unwrap_or(usize::MAX);
            for entry in stream.entries.iter().skip(first) {
                at += 1;
                if !self.show(handle.node, entry, at, with_attr, &mut add).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Makes the page with entry `at` the one at hand. `false`: the directory ends before.
    async fn seek(&self, cx: &Cx, dir: u64, stream: &mut Stream, at: u64) -> Result<bool> {
        if at == 0 || stream.pages.is_empty() {
            // from the beginning: as the directory is now
            *stream = Stream::default();
            self.read_page(cx, dir, stream, 0, String::new()).await?;
        } else if at < stream.begin {
            let page = stream.pages.iter().rev().find(|(begin, _)| *begin <= at).cloned();
            let (begin, after) = page.ok_or(Errno::INVAL)?;
            self.read_page(cx, dir, stream, begin, after).await?;
        }
        while at >= stream.begin + stream.entries.len() as u64 {
            let Some(after) = stream.next.take() else { return Ok(false) };
            let begin = stream.begin + stream.entries.len() as u64;
            self.read_page(cx, dir, stream, begin, after).await?;
        }
        Ok(true)
    }

    async fn read_page(
        &self,
        cx: &Cx,
        id: u64,
        stream: &mut Stream,
        begin: u64,
        after: String,
    ) -> Result<()> {
        let mut entries = Vec::new();
        if after.is_empty() {
            let parent = self.table.lock().get(id).map_or(ROOT, |node| node.parent);
            for (name, to) in [(".", id), ("..", if id == ROOT { ROOT } else { parent })] {
                entries.push(Entry { shown: name.into(), text: String::new(), what: What::Dot(to) });
            }
        }
        stream.next = match self.table.spot(id) {
            Some(Spot::Buckets) => self.page_of_buckets(cx, &after, &mut entries).await?,
            Some(Spot::Dir { bucket, prefix, begin_len }) => {
                let dir = Dir { id, bucket, prefix, begin_len };
                self.page_of_dir(cx, &dir, &after, &mut entries, &mut stream.begins).await?
            }
            // removed meanwhile: nothing is in it
            Some(Spot::File { .. }) | None => None,
        };
        if !stream.pages.iter().any(|(known, _)| *known == begin) {
            stream.pages.push((begin, after));
        }
        (stream.begin, stream.entries) = (begin, entries);
        Ok(())
    }

    async fn page_of_buckets(
        &self,
        cx: &Cx,
        after: &str,
        entries: &mut Vec<Entry>,
    ) -> Result<Option<String>> {
        let page = self.store.list_buckets(cx, "", after, PAGE).await.map_err(errno)?;
        for bucket in page.buckets {
            let name = bucket.name.to_string();
            entries.push(Entry { shown: name.clone(), text: name, what: What::Bucket });
        }
        Ok(page.next_after)
    }

    async fn page_of_dir(
        &self,
        cx: &Cx,
        dir: &Dir,
        after: &str,
        entries: &mut Vec<Entry>,
        begins: &mut HashSet<String>,
    ) -> Result<Option<String>> {
        let page = self.page(cx, &dir.bucket, &dir.prefix, after, PAGE).await?;
        let dirs: HashSet<&str> = page.common_prefixes.iter().map(String::as_str).collect();
        for (key, version) in &page.entries {
            let Some(text) = key.strip_prefix(&dir.prefix) else { continue };
            if text.is_empty() && version.size_bytes == 0 {
                continue;
            }
            let below = format!("{key}/");
            let is_beside = dirs.contains(below.as_str())
                || (page.next_after.as_ref().is_some_and(|next| below > *next)
                    && !self.is_free(cx, &dir.bucket, &below).await?);
            let what = self.known(dir.id, text).map_or_else(|| What::Object(version.clone()), What::Known);
            push(dir, text, is_beside, what, entries, begins);
        }
        for key in &page.common_prefixes {
            let Some(text) = key.strip_prefix(&dir.prefix).and_then(|text| text.strip_suffix('/')) else {
                continue;
            };
            let marker = self.find(cx, &dir.bucket, key).await?.map(Box::new);
            push(dir, text, false, What::Dir(marker), entries, begins);
        }
        if page.next_after.is_none() {
            self.push_new(cx, dir, entries, begins).await?;
        }
        Ok(page.next_after)
    }

    /// Files that are not committed yet, but for those whose name was listed already.
    async fn push_new(
        &self,
        cx: &Cx,
        dir: &Dir,
        entries: &mut Vec<Entry>,
        begins: &mut HashSet<String>,
    ) -> Result<()> {
        let new: Vec<(u64, String, bool)> = {
            let table = self.table.lock();
            let named = table.new_in(dir.id).iter().filter_map(|&id| {
                let node = table.get(id)?;
                Some((id, node.name.to_string(), node.covers))
            });
            named.collect()
        };
        for (id, text, covers) in new {
            // what it covers was met on the way
            if !(covers && self.find(cx, &dir.bucket, &dir.key(&text)).await?.is_some()) {
                push(dir, &text, false, What::Known(id), entries, begins);
            }
        }
        Ok(())
    }

    async fn show(
        &self,
        parent: u64,
        entry: &Entry,
        offset: u64,
        with_attr: bool,
        add: &mut impl FnMut(&Shown<'_>) -> bool,
    ) -> Result<bool> {
        let name = entry.shown.as_str();
        if let What::Dot(id) = entry.what {
            return Ok(add(&Shown { name, offset, id, mode: attr::DIR, attr: None }));
        }
        let (piece, ino) = match &entry.what {
            What::Object(version) => (Piece::File, version.ino),
            What::Known(id) => (Piece::File, self.table.lock().get(*id).map_or(0, |node| node.ino)),
            What::Dir(marker) => (Piece::Dir, marker.as_ref().map_or(0, |marker| marker.ino)),
            What::Begin => (Piece::Begin, 0),
            What::Bucket => (Piece::Bucket, 0),
            What::Dot(_) => return Ok(true),
        };
        // `place` for what nobody is going to hold would be kept for ever: enter, and forget again
        let id = self.table.lock().enter(parent, piece, &entry.text, ino);
        let attr = match &entry.what {
            What::Object(version) => Some(self.defaults.version(id, version)),
            What::Dir(Some(marker)) => Some(self.with_times(id, self.defaults.dir(id, Some(marker), 0))),
            What::Dir(None) | What::Begin | What::Bucket | What::Known(_) if !with_attr => None,
            _ => {
                let Ok(attr) = self.attr(id).await else {
                    // it went while the directory was read
                    self.table.lock().forget(id, 1);
                    return Ok(true);
                };
                Some(attr)
            }
        };
        let kind = if piece == Piece::File { attr::REGULAR } else { attr::DIR };
        let mode = attr.map_or(kind, |attr| attr.mode);
        let shown = Shown { name, offset, id, mode, attr: attr.filter(|_| with_attr) };
        let is_taken = add(&shown);
        if !is_taken || !with_attr {
            self.table.lock().forget(id, 1);
        }
        Ok(is_taken)
    }

    pub(crate) async fn mkdir(&self, who: Caller, parent: u64, name: &OsStr, mode: u32) -> Result<Attr> {
        self.writable()?;
        let _still = self.still().await;
        let cx = self.cx()?;
        let (dir, text) = self.free_name(parent, name)?;
        let above = self.attr(parent).await?;
        let (gid, inherited) = inherit(who, &above);
        let mode = attr::DIR | (mode & 0o7777) | inherited;
        let attributes = attr::new(mode, who.uid, gid, self.now_ns(), 0);
        let at = dir.at(&text)?;
        let marker =
            self.store.make_dir(&cx, &at, attributes, self.wait_of_close()).await.map_err(errno_of_new)?;
        self.touch(parent);
        let target = Target::Dir(Some(Box::new(marker)));
        self.enter(&cx, &dir, &text, target).await?.ok_or(Errno::NOENT)
    }

    pub(crate) async fn rmdir(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        let _still = self.tree.write().await;
        let (cx, dir) = (self.cx()?, self.dir(parent)?);
        let (name, target) = self.existing(&cx, &dir, name).await?;
        match target {
            Target::Dir(_) => {}
            Target::Begin => return Err(Errno::PERM),
            Target::Object(_) | Target::Known(_) => return Err(Errno::NOTDIR),
        }
        let id = self.table.lock().find(parent, Piece::Dir, &name.text);
        if id.is_some_and(|id| self.table.lock().has_new_below(id)) {
            return Err(Errno::NOTEMPTY);
        }
        let at = at_of_dir(&dir.bucket, &format!("{}/", dir.key(&name.text))).ok_or(Errno::PERM)?;
        self.store.remove_dir(&cx, &at, Wait::Ordered).await.map_err(errno)?;
        if let Some(id) = id {
            self.table.lock().detach(id);
        }
        self.touch(parent);
        Ok(())
    }
}

/// What something new in a set-group-id directory takes from it: its group, and a directory the bit itself.
pub(crate) fn inherit(who: Caller, above: &Attr) -> (u32, u32) {
    if above.mode & attr::SETGID == 0 { (who.gid, 0) } else { (above.gid, attr::SETGID) }
}

/// Adds an entry under the name it is shown by, or the beginning of it.
fn push(
    dir: &Dir,
    text: &str,
    is_beside: bool,
    what: What,
    entries: &mut Vec<Entry>,
    begins: &mut HashSet<String>,
) {
    let Some(shown) = dir.shown(text, is_beside) else { return };
    match crate::name::decode(&shown) {
        Some(decoded) if decoded.form == Form::Begin => {
            let text = decoded.text.into_owned();
            if begins.insert(shown.clone()) {
                entries.push(Entry { shown, text, what: What::Begin });
            }
        }
        _ => entries.push(Entry { shown, text: text.to_owned(), what }),
    }
}
