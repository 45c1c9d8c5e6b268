//! What filing calls things and how it writes sizes and times (contract §5.4, D5, D24, D25): pure.

use coffre_store::scheme::{Category, slug};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Longest extension that is taken for one, bytes without the dot. Ours: beyond it a dot is punctuation.
const EXTENSION_BYTES_MAX: usize = 16;
/// Extensions of scratch files, which are never filing's (contract D6).
const SCRATCH: [&str; 2] = ["tmp", "swp"];

/// The zone of filing's dates and stored names.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// By its IANA name; `None`: there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("utc") {
            return Some(Self(TimeZone::UTC));
        }
        TimeZone::get(name).ok().map(Self)
    }

    /// `2024-12-01 10:30:45`.
    pub(crate) fn date_time(&self, ms: u64) -> String {
        self.format(ms, "%Y-%m-%d %H:%M:%S")
    }

    /// `2024_12_01_10_30_45`, for names.
    pub(crate) fn stamp(&self, ms: u64) -> String {
        self.format(ms, "%Y_%m_%d_%H_%M_%S")
    }

    /// When a day begins and when the next one does, ms since 1970.
    pub(crate) fn day(&self, date: Date) -> Option<(u64, u64)> {
        let begins = |date: Date| {
            let begin = date.to_zoned(self.0.clone()).ok()?;
            Some(u64::try_from(begin.timestamp().as_millisecond()).unwrap_or(0))
        };
        Some((begins(date)?, begins(date.tomorrow().ok()?)?))
    }

    fn format(&self, ms: u64, format: &str) -> String {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        time.to_zoned(self.0.clone()).strftime(format).to_string()
    }
}

/// A date as callers write it: `YYYY-MM-DD` and nothing else.
pub(crate) fn date(text: &str) -> Option<Date> {
    let is_plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if is_plain { text.parse().ok() } else { None }
}

/// Stem and extension of a file's name. What has no letter in it is a number, not an extension (`v1.2`).
pub(crate) fn divide(name: &str) -> (&str, Option<&str>) {
    let is_extension = |text: &str| {
        (1..=EXTENSION_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric())
            && text.bytes().any(|b| b.is_ascii_alphabetic())
    };
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && is_extension(extension) => (stem, Some(extension)),
        _ => (name, None),
    }
}

/// The last segment of a name as a client sent it: some send whole paths, of either kind.
pub(crate) fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Stem and extension of the name a file is stored under: `DEVIS_{stamp}` and `FACT_{stamp}` without a subcategory,
/// else the slug of what it is called.
pub(crate) fn stored_name(
    category: Category,
    has_subcategory: bool,
    called: &str,
    uploaded: &str,
    stamp: &str,
) -> (String, Option<String>) {
    let prefix = match category {
        Category::Devis if !has_subcategory => "DEVIS".to_owned(),
        Category::Facture if !has_subcategory => "FACT".to_owned(),
        _ => slug(divide(called).0),
    };
    let extension = divide(uploaded).1.filter(|e| !SCRATCH.iter().any(|s| e.eq_ignore_ascii_case(s)));
    (format!("{prefix}_{stamp}"), extension.map(str::to_owned))
}

/// A size as filing writes it: 1024 to the unit, two decimals; bytes as they are.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut unit, mut name) = (1024_u128, "KB");
    for next in UNITS {
        name = next;
        if next == "TB" || u128::from(bytes) < unit * 1024 {
            break;
        }
        unit *= 1024;
    }
    let hundredths = (u128::from(bytes) * 200 + unit) / (2 * unit);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1_024_000, "1000.00 KB"),
            (1_048_575, "1024.00 KB"),
            (1_048_576, "1.00 MB"),
            (15_360_000, "14.65 MB"),
            (1_073_741_824, "1.00 GB"),
            (1 << 40, "1.00 TB"),
            (5 << 50, "5120.00 TB"),
            (u64::MAX, "16777216.00 TB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn names_divide() {
        for (name, stem, extension) in [
            ("document.pdf", "document", Some("pdf")),
            ("a.tar.gz", "a.tar", Some("gz")),
            ("Rapport v1.2", "Rapport v1.2", None),
            ("clip.mp4", "clip", Some("mp4")),
            (".hidden", ".hidden", None),
            ("x.", "x.", None),
            ("x.é", "x.é", None),
            ("", "", None),
        ] {
            assert_eq!(divide(name), (stem, extension), "{name}");
        }
        assert_eq!(base_name("C:\\docs\\a.pdf"), "a.pdf");
        assert_eq!(base_name("/tmp/a.pdf"), "a.pdf");
    }

    #[test]
    fn stored_names() {
        let stamp = "2024_12_01_10_30_45";
        let table = [
            (Category::Devis, false, "document.pdf", "document.pdf", "DEVIS_2024_12_01_10_30_45.pdf"),
            (Category::Facture, false, "x", "scan.JPG", "FACT_2024_12_01_10_30_45.JPG"),
            (Category::Devis, true, "document.pdf", "document.pdf", "document_2024_12_01_10_30_45.pdf"),
            (Category::Contrat, false, "Été à Nîmes.docx", "a.docx", "ete-a-nimes_2024_12_01_10_30_45.docx"),
            (Category::Autre, false, "...", "noext", "fichier_2024_12_01_10_30_45"),
            (Category::Autre, false, "a.tmp", "a.tmp", "a_2024_12_01_10_30_45"),
            (Category::Image, false, "photo", "IMG.png", "photo_2024_12_01_10_30_45.png"),
        ];
        for (category, has_subcategory, called, uploaded, expected) in table {
            let (stem, extension) = stored_name(category, has_subcategory, called, uploaded, stamp);
            let name = extension.map_or(stem.clone(), |extension| format!("{stem}.{extension}"));
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn times_and_days() {
        let (utc, paris) = (Zone::named("UTC").unwrap(), Zone::named("Europe/Paris").unwrap());
        assert!(Zone::named("Mars/Olympus").is_none());
        let ms = 1_733_049_045_999;
        assert_eq!(utc.date_time(ms), "2024-12-01 10:30:45");
        assert_eq!(utc.stamp(ms), "2024_12_01_10_30_45");
        assert_eq!(paris.date_time(ms), "2024-12-01 11:30:45");
        let day = |zone: &Zone, text| zone.day(date(text).unwrap()).unwrap();
        assert_eq!(day(&utc, "1970-01-02"), (86_400_000, 172_800_000));
        let (begin, end) = day(&paris, "2024-03-31");
        assert_eq!(end - begin, 23 * 3_600_000, "the day the clocks go forward");
        assert_eq!(day(&utc, "1960-01-01"), (0, 0));
        for wrong in
            ["2024-02-30", "2024-1-1", "20240101", "2024-13-01", "hier", "2024-01-01T00", "+0024-1-01"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }
}
