//! One daemon for each data directory: an advisory lock on `DIR/lock`, held until the process ends.
//!
//! The kernel drops the lock with the process, however it dies; the file itself stays and means nothing.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};

/// The lock; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct DataLock {
    #[expect(dead_code, reason = "the open file is the lock")]
    file: File,
}

/// Makes the data directory (mode 0700) when it is not there, and locks it.
///
/// # Errors
/// `InUse` with the holder's process id when another holds it.
pub(crate) fn take(data: &Path) -> Result<DataLock> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(Error::io("making the data directory"))?;
    let path = data.join("lock");
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("opening the data directory's lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::InUse { data: data.to_owned(), pid });
        }
        Err(e) => return Err(Error::Io { doing: "locking the data directory", source: e.into() }),
    }
    // The holder's id is for the message above only.
    let told =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    told.map_err(Error::io("writing the data directory's lock"))?;
    Ok(DataLock { file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let first = take(&data).unwrap();
        let refused = take(&data).unwrap_err();
        assert!(
            matches!(&refused, Error::InUse { pid: Some(pid), .. } if *pid == std::process::id()),
            "{refused}"
        );
        drop(first);
        assert!(take(&data).is_ok());
    }
}
