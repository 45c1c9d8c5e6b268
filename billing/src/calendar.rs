//! When a period begins: months and years counted from an anchor, pure (contract D21).
//!
//! A period that would begin on a day that its month does not have begins on the month's last day, as Stripe counts:
//! from 31 January to 28 February to 31 March.

use time::util::days_in_month;
use time::{Date, Month, OffsetDateTime};

use crate::plan::Period;

/// When the period began in which `now_ms` lies, ms since 1970, counted from the anchor (without one from the
/// calendar's months and years, UTC). The one period that never ends begins at 0.
pub(crate) fn period_start(period: Period, anchor_ms: Option<u64>, now_ms: u64) -> u64 {
    let step = match period {
        Period::None => return 0,
        Period::Month => 1,
        Period::Year => 12,
    };
    let (anchor, now) = (instant(anchor_ms.unwrap_or(0)), instant(now_ms));
    let months = months_of(now) - months_of(anchor);
    let steps = months.div_euclid(step);
    // The month is right; its day or hour may not have come yet.
    let start = [steps, steps - 1].map(|steps| later(anchor, steps * step)).into_iter().find(|at| *at <= now);
    let start = start.unwrap_or(anchor);
    u64::try_from(start.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

fn instant(ms: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Months since the year 0.
fn months_of(at: OffsetDateTime) -> i32 {
    at.year() * 12 + i32::from(u8::from(at.month())) - 1
}

/// So many months later, or earlier.
fn later(anchor: OffsetDateTime, months: i32) -> OffsetDateTime {
    let total = months_of(anchor) + months;
    let year = total.div_euclid(12);
    let number = u8::try_from(total.rem_euclid(12) + 1).unwrap_or(1);
    let month = Month::try_from(number).unwrap_or(Month::January);
    let day = anchor.day().min(days_in_month(month, year));
    Date::from_calendar_date(year, month, day).map_or(anchor, |date| anchor.replace_date(date))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn ms(text: &str) -> u64 {
        let at = OffsetDateTime::parse(text, &Rfc3339).unwrap();
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
    }

    #[test]
    fn periods_begin_where_stripe_begins_them() {
        for (period, anchor, now, start) in [
            (Period::Month, None, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z"),
            (Period::Month, None, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Period::Year, None, "2024-12-31T23:59:59Z", "2024-01-01T00:00:00Z"),
            (Period::Month, Some("2024-01-31T10:00:00Z"), "2024-02-29T09:59:59Z", "2024-01-31T10:00:00Z"),
            (Period::Month, Some("2024-01-31T10:00:00Z"), "2024-02-29T10:00:00Z", "2024-02-29T10:00:00Z"),
            (Period::Month, Some("2024-01-31T10:00:00Z"), "2024-03-30T10:00:00Z", "2024-02-29T10:00:00Z"),
            (Period::Month, Some("2024-01-31T10:00:00Z"), "2024-03-31T10:00:00Z", "2024-03-31T10:00:00Z"),
            (Period::Month, Some("2023-11-15T00:00:00Z"), "2024-01-14T23:59:59Z", "2023-12-15T00:00:00Z"),
            (Period::Year, Some("2024-02-29T00:00:00Z"), "2025-02-28T00:00:00Z", "2025-02-28T00:00:00Z"),
            (Period::Year, Some("2024-02-29T00:00:00Z"), "2025-02-27T23:00:00Z", "2024-02-29T00:00:00Z"),
            // a trial: the anchor is to come
            (Period::Month, Some("2024-05-10T00:00:00Z"), "2024-04-20T00:00:00Z", "2024-04-10T00:00:00Z"),
        ] {
            let found = period_start(period, anchor.map(ms), ms(now));
            assert_eq!(found, ms(start), "{period:?} from {anchor:?} at {now}");
        }
        assert_eq!(period_start(Period::None, Some(5), ms("2024-01-01T00:00:00Z")), 0);
    }

    proptest! {
        #[test]
        fn now_lies_in_its_period(anchor in 0u64..4_000_000_000_000, now in 0u64..4_000_000_000_000, is_year: bool) {
            let period = if is_year { Period::Year } else { Period::Month };
            let start = period_start(period, Some(anchor), now);
            let longest = if is_year { 366 } else { 31 } * 86_400_000;
            prop_assert!(start <= now || start == 0);
            prop_assert!(start == 0 || now - start < longest, "{start} {now}");
            // the same for all of the period
            prop_assert_eq!(period_start(period, Some(anchor), start.max(1)), start);
        }
    }
}
