//! Moments as text, in UTC: what access logs print, and nothing more of a calendar.

use std::fmt::Write;
use std::time::SystemTime;

/// A moment taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    nanosecond: u32,
    unix_seconds: u64,
}

/// A moment as RFC 3339 says it, in UTC, to the millisecond: for logs.
pub fn rfc3339(time: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    Moment::new(time).write_iso(&mut text);
    text
}

impl Moment {
    /// Times before 1970 become 1970.
    pub(crate) fn new(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_seconds = since.as_secs();
        let of_day = unix_seconds % 86_400;
        // Days are counted from the first of March of year 0, so that the leap day is the last of a year; a cycle
        // of the Gregorian calendar has 146,097 days.
        let days = unix_seconds / 86_400 + 719_468;
        let (cycle, of_cycle) = (days / 146_097, days % 146_097);
        let year_of_cycle =
            (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
        let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: cycle * 400 + year_of_cycle + u64::from(month <= 2),
            month,
            day: of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanosecond: since.subsec_nanos(),
            unix_seconds,
        }
    }

    /// `2026-01-02T03:04:05.678Z`.
    pub(crate) fn write_iso(&self, out: &mut String) {
        let Self { year, month, day, hour, minute, second, .. } = self;
        let millis = self.nanosecond / 1_000_000;
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        );
    }

    /// By a pattern that [`check_pattern`] accepts.
    pub(crate) fn write_pattern(&self, pattern: &str, out: &mut String) {
        let mut rest = pattern;
        while let Some((literal, directive)) = rest.split_once('%') {
            out.push_str(literal);
            let (taken, after) = take_directive(directive);
            rest = after;
            let _ = match taken {
                Some(Directive::Fraction(digits)) => {
                    let nanos = format!("{:09}", self.nanosecond);
                    out.push_str(nanos.get(..digits).unwrap_or(&nanos));
                    Ok(())
                }
                Some(Directive::Letter('Y')) => write!(out, "{:04}", self.year),
                Some(Directive::Letter('m')) => write!(out, "{:02}", self.month),
                Some(Directive::Letter('d')) => write!(out, "{:02}", self.day),
                Some(Directive::Letter('H')) => write!(out, "{:02}", self.hour),
                Some(Directive::Letter('M')) => write!(out, "{:02}", self.minute),
                Some(Directive::Letter('S')) => write!(out, "{:02}", self.second),
                Some(Directive::Letter('F')) => {
                    write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
                }
                Some(Directive::Letter('T')) => {
                    write!(out, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
                }
                Some(Directive::Letter('s')) => write!(out, "{}", self.unix_seconds),
                Some(Directive::Letter('z')) => write!(out, "+0000"),
                Some(Directive::Letter('Z')) => write!(out, "UTC"),
                Some(Directive::Letter(other)) => write!(out, "{other}"),
                None => Ok(()),
            };
        }
        out.push_str(rest);
    }
}

enum Directive {
    /// Digits of the second's fraction: `%f`, `%3f`, `%6f`, `%9f`.
    Fraction(usize),
    Letter(char),
}

fn take_directive(text: &str) -> (Option<Directive>, &str) {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits_end);
    let mut characters = rest.chars();
    let letter = characters.next();
    let after = characters.as_str();
    match (digits, letter) {
        ("", Some('f')) => (Some(Directive::Fraction(9)), after),
        (_, Some('f')) => {
            let digits = digits.parse().ok().filter(|digits| (1..=9).contains(digits));
            (digits.map(Directive::Fraction), after)
        }
        ("", Some(letter)) => (Some(Directive::Letter(letter)), after),
        _ => (None, after),
    }
}

/// Whether every directive of a pattern is known: `%Y %m %d %H %M %S %F %T %s %z %Z %%` and `%f` with the number of
/// digits before the letter. On an error the directive that is not.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut rest = pattern;
    while let Some((_, directive)) = rest.split_once('%') {
        let (taken, after) = take_directive(directive);
        let known = match taken {
            Some(Directive::Fraction(_)) => true,
            Some(Directive::Letter(letter)) => "YmdHMSFTszZ%".contains(letter),
            None => false,
        };
        if !known {
            let length = directive.len() - after.len();
            return Err(format!("%{}", directive.get(..length).unwrap_or(directive)));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn iso(seconds: u64, millis: u32) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        let mut out = String::new();
        Moment::new(time).write_iso(&mut out);
        out
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        assert_eq!(iso(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(iso(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(951_868_800, 0), "2000-03-01T00:00:00.000Z");
        assert_eq!(iso(1_767_323_045, 678), "2026-01-02T03:04:05.678Z");
        assert_eq!(iso(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(iso(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut expected = (1970, 1, 1);
        for day in 0..100_000_u64 {
            let moment = Moment::new(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * day));
            assert_eq!((moment.year, moment.month, moment.day), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length =
                lengths[usize::try_from(month - 1).unwrap()] + u64::from(month == 2 && leap);
            expected = match (day == length, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }

    #[test]
    fn patterns_are_checked_and_filled() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_767_323_045, 678_901_234);
        let moment = Moment::new(time);
        for (pattern, expected) in [
            ("%Y/%m/%dT%H:%M:%S%z %s", "2026/01/02T03:04:05+0000 1767323045"),
            ("%F %T.%3f", "2026-01-02 03:04:05.678"),
            ("%s.%6f|%f", "1767323045.678901|678901234"),
            ("100%% %Z", "100% UTC"),
            ("none", "none"),
        ] {
            assert_eq!(check_pattern(pattern), Ok(()));
            let mut out = String::new();
            moment.write_pattern(pattern, &mut out);
            assert_eq!(out, expected);
        }
        assert_eq!(check_pattern("%Y %Q"), Err("%Q".to_owned()));
        assert_eq!(check_pattern("%0f"), Err("%0f".to_owned()));
        assert_eq!(check_pattern("%"), Err("%".to_owned()));
    }
}
