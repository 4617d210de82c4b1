//! Time as the backend sees it: milliseconds since the Unix epoch, given by the caller, so that state machines read
//! no clock and deadlines survive a restart.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

/// Read in the place of the system's clock where it has an answer.
static CLOCK: OnceLock<fn() -> Option<Timestamp>> = OnceLock::new();

impl Timestamp {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Reads the system clock. For callers at the edge (connections, listeners); never inside state machines.
    #[must_use]
    pub fn now() -> Self {
        if let Some(now) = CLOCK.get().and_then(|clock| clock()) {
            return now;
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// From here on [`Self::now`] asks this clock first, in the whole process: for simulations, whose time is not that of
    /// the system. False if there is one already.
    pub fn set_clock(clock: fn() -> Option<Self>) -> bool {
        CLOCK.set(clock).is_ok()
    }

    /// This point plus `seconds`, saturating.
    #[must_use]
    pub const fn plus_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// This point plus `millis`, saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this point; 0 if it lies before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-20T14:00:00.000Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(i64::try_from(days).unwrap_or(i64::MAX / 2));
        let (seconds, millis) = (rest / 1000, rest % 1000);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }

    /// Reads RFC 3339 with `Z` or an offset, of the years 1970 to 9999.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
            digits.parse().ok()
        };
        let bytes = text.as_bytes();
        let mark = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
        if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":"))
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut at = 19;
        let mut millis = 0;
        if mark(at, b".") {
            let end = (at + 1..bytes.len()).find(|at| !bytes[*at].is_ascii_digit())?;
            if end == at + 1 {
                return None;
            }
            let digits = text.get(at + 1..end.min(at + 4))?;
            millis =
                digits.parse::<u64>().ok()? * 10_u64.pow(3 - u32::try_from(digits.len()).ok()?);
            at = end;
        }
        let offset_minutes = match bytes.get(at)? {
            b'Z' | b'z' if bytes.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if bytes.len() == at + 6 && mark(at + 3, b":") => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                let offset = i64::try_from(hours * 60 + minutes).ok()?;
                if *sign == b'+' { offset } else { -offset }
            }
            _ => return None,
        };
        let days = days_of(i64::try_from(year).ok()?, month, day)?;
        let seconds = u64::try_from(days).ok()? * 86_400 + hour * 3600 + minute * 60 + second;
        let seconds = i64::try_from(seconds).ok()? - offset_minutes * 60;
        Some(Self(u64::try_from(seconds).ok()? * 1000 + millis))
    }
}

/// The date of a day since 1970-01-01, in the Gregorian calendar. A year is counted from March, so that the day a leap
/// year has more is its last.
const fn civil(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468; // From 0000-03-01.
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month as u64, day as u64)
}

/// The day since 1970-01-01 of a date; `None` if that month has no such day.
fn days_of(year: i64, month: u64, day: u64) -> Option<i64> {
    let month = i64::try_from(month).ok()?;
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + i64::try_from(day).ok()? - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // The 31st of a month of thirty days is the next month's first.
    (civil(days).1 == u64::try_from(month).ok()? && civil(days).2 == day).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn times_are_written_and_read_in_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_183_200_123, "2026-11-20T14:00:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(ms).to_rfc3339(), text);
            assert_eq!(Timestamp::from_rfc3339(text), Some(Timestamp(ms)), "{text}");
        }
        assert_eq!(
            Timestamp::from_rfc3339("2026-11-20T16:00:00.5+02:00"),
            Some(Timestamp(1_795_183_200_500))
        );
        for wrong in [
            "",
            "2026",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-20T14:00:00",
            "2026-11-20T25:00:00Z",
            "2026-11-20T14:00:00.Z",
            "2026-11-20T14:00:00Zx",
            "1969-12-31T23:59:59Z",
            "2026-11-20T14:00:00+2:00",
            "2026-1é-20T14:00:00Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(wrong), None, "{wrong}");
        }
    }
}
