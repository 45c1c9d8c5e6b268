use std::fs::File;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Writing,
    Written,
    Synced,
    Recorded,
}

/// Where a step breaks off, as a crash would.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) crash: Option<Point>,
    /// The canary: believe the file, not the place.
    pub(super) trusts_file: bool,
}

impl Faults {
    pub(super) fn at(&mut self, point: Point) -> Result<()> {
        if self.crash == Some(point) { Err(Error::Stopped) } else { Ok(()) }
    }

    pub(super) fn write(&mut self, file: &mut File, text: &[u8]) -> Result<()> {
        use std::io::Write as _;
        if self.crash == Some(Point::Writing) {
            file.write_all(&text[..text.len() / 2]).unwrap();
            return Err(Error::Stopped);
        }
        Ok(())
    }

    pub(super) fn sabotaged(&self, recorded: Option<Place>) -> Option<Place> {
        recorded.map(|place| Place { len: if self.trusts_file { u64::MAX } else { place.len }, ..place })
    }
}
