//! The segments of the audit log: one file a day, lines only appended.
//!
//! A line stands in the segment of its day or, when a later one has begun, in that: segments are in the order of the
//! feed, so the log ends in one place.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::macros::format_description;

use super::{Line, Place, Writer};
use crate::error::{Error, Result};

const DOING: &str = "writing the audit log";
const MS_A_DAY: u64 = 86_400_000;
const SUFFIX: &str = ".jsonl";

/// Days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(pub(super) u32);

impl Day {
    pub(super) fn of_ms(time_ms: u64) -> Self {
        Self(u32::try_from(time_ms / MS_A_DAY).unwrap_or(u32::MAX))
    }

    pub(super) fn minus(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    fn file_name(self) -> String {
        let date = OffsetDateTime::UNIX_EPOCH.date().saturating_add(time::Duration::days(i64::from(self.0)));
        format!("{:04}-{:02}-{:02}{SUFFIX}", date.year(), u8::from(date.month()), date.day())
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let date = name.strip_suffix(SUFFIX)?;
        let date = time::Date::parse(date, format_description!("[year]-[month]-[day]")).ok()?;
        u32::try_from(date.to_julian_day() - OffsetDateTime::UNIX_EPOCH.date().to_julian_day()).ok().map(Self)
    }
}

/// The directory of segments.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    dir: PathBuf,
}

fn fail(source: std::io::Error) -> Error {
    Error::io(DOING, source)
}

impl Segments {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn path(&self, day: Day) -> PathBuf {
        self.dir.join(day.file_name())
    }

    /// The days there are, oldest first.
    pub(super) fn days(&self) -> Result<Vec<Day>> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(fail)? {
            days.extend(entry.map_err(fail)?.file_name().to_str().and_then(Day::of_file_name));
        }
        days.sort_unstable();
        Ok(days)
    }

    /// Brings the files to the recorded place and says where to go on, see the module above.
    /// `feed_lacks`: the feed no longer has what comes after the place, so that what is cut could not be written again.
    pub(super) fn recover(&self, recorded: Option<Place>, applied: u64, feed_lacks: bool) -> Result<Place> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.and_then(|()| sync_dir(self.dir.parent().unwrap_or(&self.dir))).map_err(fail)?;
        match recorded {
            Some(place) if place.position <= applied => {
                let last = self.last_after(place)?;
                if last > applied {
                    tracing::warn!("the audit log is newer than the rows: it is kept, and goes on from here");
                    return self.end(applied);
                }
                if feed_lacks {
                    return self.end(last);
                }
                self.cut(place)
            }
            // The rows began anew (an import), or this is the first start.
            Some(_) | None => self.end(0),
        }
    }

    /// The last position that a line after the place tells of; the place's own when there is none.
    fn last_after(&self, place: Place) -> Result<u64> {
        let mut last = place.position;
        for day in self.days()?.into_iter().filter(|day| day.0 >= place.day) {
            let from = if day.0 == place.day { place.len } else { 0 };
            self.lines(day, from, |line| last = last.max(line.position))?;
        }
        Ok(last)
    }

    /// Removes what was written after the place.
    fn cut(&self, place: Place) -> Result<Place> {
        for day in self.days()?.into_iter().filter(|day| day.0 > place.day) {
            std::fs::remove_file(self.path(day)).map_err(fail)?;
        }
        let mut place = place;
        if place.len > 0 {
            let file = self.open(Day(place.day))?;
            let len = file.metadata().map_err(fail)?.len();
            if len < place.len {
                tracing::error!(missing_bytes = place.len - len, "lines of the audit log are gone");
                return self.end(place.position);
            }
            file.set_len(place.len).and_then(|()| file.sync_all()).map_err(fail)?;
        } else if self.path(Day(place.day)).exists() {
            std::fs::remove_file(self.path(Day(place.day))).map_err(fail)?;
        }
        sync_dir(&self.dir).map_err(fail)?;
        place.len = if self.path(Day(place.day)).exists() { place.len } else { 0 };
        Ok(place)
    }

    /// The place after the last whole line there is; a torn one behind it is cut.
    fn end(&self, position: u64) -> Result<Place> {
        let Some(day) = self.days()?.pop() else { return Ok(Place { position, day: 0, len: 0 }) };
        let len = self.whole_len(day)?;
        let file = self.open(day)?;
        file.set_len(len).and_then(|()| file.sync_all()).map_err(fail)?;
        Ok(Place { position, day: day.0, len })
    }

    /// Up to the last newline.
    fn whole_len(&self, day: Day) -> Result<u64> {
        let mut reader = BufReader::new(File::open(self.path(day)).map_err(fail)?);
        let (mut at, mut whole) = (0, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(fail)?;
            if n == 0 {
                return Ok(whole);
            }
            at += u64::try_from(n).unwrap_or_default();
            if line.ends_with(b"\n") {
                whole = at;
            }
        }
    }

    /// Appends lines after the place and makes them durable; the new place.
    pub(super) fn append(&self, place: Place, lines: &[Line], writer: &mut Writer) -> Result<Place> {
        #[cfg(not(test))]
        let _ = &writer;
        let mut place = place;
        let mut rest = lines;
        while let Some(first) = rest.first() {
            let day = |line: &Line| Day::of_ms(line.note.time_ms).0.max(place.day);
            let today = day(first);
            let count = rest.iter().take_while(|line| day(line) == today).count();
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let is_new = today != place.day || place.len == 0;
            let mut text = Vec::new();
            for line in now {
                serde_json::to_writer(&mut text, line)
                    .map_err(|e| Error::Internal { doing: DOING, source: e.into() })?;
                text.push(b'\n');
            }
            let start = if is_new { 0 } else { place.len };
            let mut file = self.open(Day(today))?;
            file.seek(SeekFrom::Start(start)).map_err(fail)?;
            #[cfg(test)]
            writer.faults.write(&mut file, &text)?;
            file.write_all(&text).map_err(fail)?;
            #[cfg(test)]
            writer.faults.at(super::tests::Point::Written)?;
            // Each segment is durable before the next begins: the log has no hole inside.
            file.sync_data().map_err(fail)?;
            if is_new {
                sync_dir(&self.dir).map_err(fail)?;
            }
            #[cfg(test)]
            writer.faults.at(super::tests::Point::Synced)?;
            place = Place { day: today, len: start + u64::try_from(text.len()).unwrap_or_default(), ..place };
            rest = later;
        }
        Ok(place)
    }

    fn open(&self, day: Day) -> Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(self.path(day)).map_err(fail)
    }

    /// Removes whole segments of days before `oldest`, never the last one.
    pub(super) fn prune(&self, oldest: Option<Day>) -> Result<()> {
        let Some(oldest) = oldest else { return Ok(()) };
        let mut days = self.days()?;
        days.pop();
        for day in days.into_iter().filter(|day| *day < oldest) {
            std::fs::remove_file(self.path(day)).map_err(fail)?;
        }
        Ok(())
    }

    /// Calls `visit` for each whole, readable line of a segment from byte `from` on. A segment that is gone has none.
    /// Answers how many lines were not readable.
    pub(super) fn lines(&self, day: Day, from: u64, mut visit: impl FnMut(Line)) -> Result<u64> {
        let reading = |e| Error::io("reading the audit log", e);
        let mut file = match File::open(self.path(day)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(reading)?,
        };
        file.seek(SeekFrom::Start(from)).map_err(reading)?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let (mut text, mut damaged) = (Vec::new(), 0);
        loop {
            text.clear();
            let n = reader.read_until(b'\n', &mut text).map_err(reading)?;
            // A line without its end is being written, or was torn.
            if n == 0 || !text.ends_with(b"\n") {
                return Ok(damaged);
            }
            match serde_json::from_slice(&text) {
                Ok(line) => visit(line),
                Err(_) => damaged += 1,
            }
        }
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
