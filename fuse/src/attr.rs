//! What `stat` shows of objects and directories, and what new ones are given.

use coffre_store::object::{Attributes, Posix, Version};

/// The type bits of `st_mode`.
pub(crate) const TYPE: u32 = 0o170_000;
pub(crate) const DIR: u32 = 0o040_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const SYMLINK: u32 = 0o120_000;
/// Set-user-id, set-group-id, and the right that makes the latter mean what it says.
pub(crate) const SETUID: u32 = 0o4000;
pub(crate) const SETGID: u32 = 0o2000;
pub(crate) const GROUP_EXECUTE: u32 = 0o010;

/// What `stat` shows. Times in ns since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) id: u64,
    pub(crate) size: u64,
    pub(crate) accessed_ns: i64,
    pub(crate) modified_ns: i64,
    pub(crate) changed_ns: i64,
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) device: u32,
}

/// What objects are given that came by another door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: u32,
}

/// Where a device's number is kept: an attribute that nobody sees.
const DEVICE: &str = "coffre.device";

impl Defaults {
    fn of(&self, id: u64, posix: Option<&Posix>, kind: u32, permissions: u32, when_ns: i64) -> Attr {
        let mode = posix.and_then(|posix| posix.mode).unwrap_or(kind | (permissions & !self.umask));
        // what was stored without a type is what it is
        let mode = if mode & TYPE == 0 { mode | kind } else { mode };
        let modified_ns = posix.and_then(|posix| posix.modified_ns).unwrap_or(when_ns);
        Attr {
            id,
            size: 0,
            accessed_ns: posix.and_then(|posix| posix.accessed_ns).unwrap_or(modified_ns),
            modified_ns,
            changed_ns: posix.and_then(|posix| posix.changed_ns).unwrap_or(when_ns),
            mode,
            links: 1,
            uid: posix.and_then(|posix| posix.uid).unwrap_or(self.uid),
            gid: posix.and_then(|posix| posix.gid).unwrap_or(self.gid),
            device: 0,
        }
    }

    /// A file, link or node, by its attributes.
    pub(crate) fn file(&self, id: u64, size: u64, attributes: &Attributes, when_ms: u64) -> Attr {
        let posix = attributes.posix.as_deref();
        let target = posix.and_then(|posix| posix.symlink.as_ref());
        let kind = if target.is_some() { SYMLINK } else { REGULAR };
        let mut attr = self.of(id, posix, kind, 0o666, ns_of_ms(when_ms));
        if let Some(target) = target {
            attr.mode = SYMLINK | 0o777;
            attr.size = target.len() as u64;
        } else {
            attr.size = size;
            // a directory's mode on a file would make it one
            if attr.mode & TYPE == DIR || attr.mode & TYPE == SYMLINK {
                attr.mode = REGULAR | (attr.mode & 0o7777);
            }
            attr.device = posix.map_or(0, device);
        }
        attr
    }

    /// A version of an object.
    pub(crate) fn version(&self, id: u64, version: &Version) -> Attr {
        self.file(id, version.size_bytes, &version.attributes, version.modified_ms)
    }

    /// A directory, by its marker if it has one.
    pub(crate) fn dir(&self, id: u64, marker: Option<&Version>, made_ms: u64) -> Attr {
        let posix = marker.and_then(|marker| marker.attributes.posix.as_deref());
        let when_ms = marker.map_or(made_ms, |marker| marker.modified_ms);
        let mut attr = self.of(id, posix, DIR, 0o777, ns_of_ms(when_ms));
        attr.mode = DIR | (attr.mode & 0o7777);
        attr
    }
}

/// Attributes of something new.
pub(crate) fn new(mode: u32, uid: u32, gid: u32, now_ns: i64, number: u32) -> Attributes {
    let mut posix = Posix {
        mode: Some(mode),
        uid: Some(uid),
        gid: Some(gid),
        accessed_ns: Some(now_ns),
        modified_ns: Some(now_ns),
        changed_ns: Some(now_ns),
        ..Posix::default()
    };
    if number != 0 {
        posix.xattrs.push((DEVICE.into(), number.to_be_bytes().to_vec()));
    }
    Attributes { posix: Some(Box::new(posix)), ..Attributes::default() }
}

/// What is left of a mode after somebody else than root has written: who runs the file runs other bytes now.
pub(crate) fn without_privileges(mode: u32) -> u32 {
    let mode = mode & !SETUID;
    if mode & GROUP_EXECUTE == 0 { mode } else { mode & !SETGID }
}

fn device(posix: &Posix) -> u32 {
    let bytes = posix.xattrs.iter().find(|(name, _)| name == DEVICE).map(|(_, value)| value.as_slice());
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub(crate) fn ns_of_ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { uid: 7, gid: 8, umask: 0o022 };

    #[test]
    fn what_came_by_another_door_is_given_what_the_mount_says() {
        let attr = DEFAULTS.file(5, 10, &Attributes::default(), 1_000);
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.size), (REGULAR | 0o644, 7, 8, 10));
        assert_eq!(attr.modified_ns, 1_000_000_000);
        assert_eq!(DEFAULTS.dir(5, None, 0).mode, DIR | 0o755);
    }

    #[test]
    fn what_the_mount_set_is_shown() {
        let attr = DEFAULTS.file(5, 0, &new(0o020_640, 1, 2, 3, 0x0501), 9);
        assert_eq!(
            (attr.mode, attr.uid, attr.gid, attr.modified_ns, attr.device),
            (0o020_640, 1, 2, 3, 0x0501)
        );
    }

    #[test]
    fn privileges_go_with_a_write() {
        for (before, after) in [(0o6777, 0o0777), (0o4644, 0o0644), (0o2644, 0o2644), (0o2755, 0o0755)] {
            assert_eq!(without_privileges(before), after);
        }
    }
}
