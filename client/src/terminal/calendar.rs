//! Days and minutes of a time, in UTC.

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// Whole days since 1970.
pub(super) fn day(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}

/// `HH:MM`.
pub(super) fn time(unix_ms: u64) -> String {
    let minutes = unix_ms % DAY_MS / MINUTE_MS;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `YYYY-MM-DD HH:MM`.
pub(super) fn moment(unix_ms: u64) -> String {
    format!("{} {}", date(day(unix_ms)), time(unix_ms))
}

/// `YYYY-MM-DD` of a day since 1970, by the rules of the Gregorian calendar.
pub(super) fn date(day: u64) -> String {
    /// Days of 400, 100, 4 years and 1 year, counted from 1 March.
    const ERA: u64 = 146_097;
    // 1970-01-01 is day 719,468 counted from 0000-03-01.
    let days = day + 719_468;
    let (era, of_era) = (days / ERA, days % ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{date, day, time};

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(19_783), "2024-03-01");
        assert_eq!(date(day(1_795_478_400_000)), "2026-11-24");
        assert_eq!(time(1_795_478_400_000 + 61_000 * 60), "01:01");
    }
}
