//! HTTP-date (RFC 9110 §5.6.7), read as RFC 9111 §4.2 asks of caches: in any case, GMT only.
//!
//! Its name of the day is not held against its date: it says nothing that the date does not, and servers get it wrong. All
//! else that is not in the grammar is no date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date(i64);

impl Date {
    /// The whole second that this moment is in.
    pub(crate) fn at(time: SystemTime) -> Self {
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s - 1),
        })
    }

    /// All three formats. `now` tells the century where a year has two digits only.
    pub(crate) fn parse(text: &[u8], now: Self) -> Option<Self> {
        let text = text.trim_ascii();
        let formats = [imf_fixdate, rfc850, asctime];
        formats
            .into_iter()
            .find_map(|format| format(&mut Text(text), now))
    }

    /// The date in a field of which there must be one line. `None` if there are more, or it is no date.
    pub(crate) fn only(headers: &HeaderMap, name: &HeaderName, now: Self) -> Option<Self> {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        Self::parse(line.as_bytes(), now)
    }

    /// From an earlier date to this one; zero if it is none.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let seconds = self.0.saturating_sub(earlier.0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// As a field value.
    pub(crate) fn to_field(self) -> HeaderValue {
        let seconds = u64::try_from(self.0.clamp(0, LATEST)).unwrap_or(0);
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        HeaderValue::try_from(text).expect("a date is letters, digits and spaces")
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &mut Text<'_>, _: Date) -> Option<Date> {
    text.one_of(&DAYS)?;
    text.skip(b", ")?;
    let day = text.digits(2)?;
    text.skip(b" ")?;
    let month = text.one_of(&MONTHS)?;
    text.skip(b" ")?;
    let year = text.digits(4)?;
    text.skip(b" ")?;
    let time = text.time()?;
    text.skip(b" GMT")?;
    text.end()?;
    date(year, month, day, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &mut Text<'_>, now: Date) -> Option<Date> {
    text.one_of(&LONG_DAYS)?;
    text.skip(b", ")?;
    let day = text.digits(2)?;
    text.skip(b"-")?;
    let month = text.one_of(&MONTHS)?;
    text.skip(b"-")?;
    let year = text.digits(2)?;
    text.skip(b" ")?;
    let time = text.time()?;
    text.skip(b" GMT")?;
    text.end()?;
    // The latest year that may be meant; what is more than 50 years ahead is in the past.
    let now = now.0.clamp(0, LATEST);
    let latest = 1970 + now / YEAR + 51;
    let year = latest - (latest - year).rem_euclid(100);
    let read = date(year, month, day, time);
    match read {
        Some(read) if read.0 - now <= 50 * YEAR => Some(read),
        _ => date(year - 100, month, day, time),
    }
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &mut Text<'_>, _: Date) -> Option<Date> {
    text.one_of(&DAYS)?;
    text.skip(b" ")?;
    let month = text.one_of(&MONTHS)?;
    text.skip(b" ")?;
    let day = match text.skip(b" ") {
        Some(()) => text.digits(1)?,
        None => text.digits(2)?,
    };
    text.skip(b" ")?;
    let time = text.time()?;
    text.skip(b" ")?;
    let year = text.digits(4)?;
    text.end()?;
    date(year, month, day, time)
}

/// In the proleptic Gregorian calendar. Months from 0, days from 1, `time` in seconds.
fn date(year: i64, month: usize, day: i64, time: i64) -> Option<Date> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    lengths[1] += i64::from(leap);
    if day < 1 || day > *lengths.get(month)? {
        return None;
    }
    let before = year - 1;
    let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let days = before * 365 + leaps + lengths.iter().take(month).sum::<i64>() + day - 1;
    Some(Date((days - DAYS_BEFORE_1970) * 86_400 + time))
}

/// What is not read yet.
struct Text<'t>(&'t [u8]);

impl Text<'_> {
    /// Ignores case.
    fn skip(&mut self, literal: &[u8]) -> Option<()> {
        let (read, rest) = self.0.split_at_checked(literal.len())?;
        if !read.eq_ignore_ascii_case(literal) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn one_of(&mut self, names: &[&str]) -> Option<usize> {
        let starts = |name: &&str| {
            let start = self.0.get(..name.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        let place = names.iter().position(starts)?;
        self.0 = self.0.get(names.get(place)?.len()..)?;
        Some(place)
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    }

    /// `08:49:37`, in seconds. The 61st second of a minute is a leap second.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.skip(b":")?;
        let minute = self.digits(2)?;
        self.skip(b":")?;
        let second = self.digits(2)?;
        let valid = hour < 24 && minute < 60 && second <= 60;
        valid.then_some(hour * 3600 + minute * 60 + second)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const LONG_DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A mean Gregorian year, in seconds.
const YEAR: i64 = 31_556_952;

/// From the first day of year 1.
const DAYS_BEFORE_1970: i64 = 719_162;

/// The last second of year 9999, beyond which there is no way to write a date.
const LATEST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;
    use crate::semantics::fields;

    /// In 2026.
    const NOW: Date = Date(1_790_301_600);

    fn read(text: &str) -> Option<i64> {
        Date::parse(text.as_bytes(), NOW).map(|date| date.0)
    }

    #[test]
    fn all_formats_are_read_in_any_case() {
        const THEN: i64 = 784_111_777;
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
            "SUN, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 NOV 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 gMT",
            "\tSun, 06 Nov 1994 08:49:37 GMT ",
            // The day is the 6th, whatever it is called.
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text), Some(THEN), "{text}");
        }
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Tue, 19 Jan 2038 03:14:08 GMT", 1 << 31),
            ("Fri, 31 Dec 9999 23:59:59 GMT", LATEST),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Thu Aug  8 02:01:18 2050", 2_543_536_878),
        ] {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_not_in_the_grammar_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "1790301600",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18 GMT+1",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu,18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 18 August 2050 02:01:18 GMT",
            "Thursday, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-50 02:01:18 GMT",
            "Xxx, 18 Aug 2050 02:01:18 GMT",
            "18 Aug 2050 02:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Thu, 32 Aug 2050 02:01:18 GMT",
            "Mon, 29 Feb 2100 00:00:00 GMT",
            "Thu, 18 Aug 2050 24:00:00 GMT",
            "Thu, 18 Aug 2050 02:60:18 GMT",
            "Thu, 18 Aug 2050 02:01:61 GMT",
            "Thu, 18 Aug +050 02:01:18 GMT",
            "Thu, 18 Aug 20500 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
            "\"Thu, 18 Aug 2050 02:01:18 GMT\"",
            "Thu Aug 8 02:01:18 2050",
            "Thu Aug  8 02:01:18 2050 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// RFC 9110 §5.6.7.
    #[test]
    fn two_digits_are_a_year_at_most_50_years_ahead() {
        let year = |text: &str| read(text).unwrap().div_euclid(YEAR) + 1970;
        for (digits, meant) in [(26, 2026), (50, 2050), (75, 2075), (76, 2076), (77, 1977)] {
            let text = format!("Monday, 15-Jun-{digits} 00:00:00 GMT");
            assert_eq!(year(&text), meant, "{text}");
        }
        assert_eq!(year("Monday, 15-Nov-76 00:00:00 GMT"), 1976);
        assert_eq!(year("Monday, 15-Jun-00 00:00:00 GMT"), 2000);
    }

    #[test]
    fn a_field_with_two_dates_has_none() {
        let date = ("expires", "Sun, 06 Nov 1994 08:49:37 GMT");
        let only = |lines: &[(&str, &str)]| {
            Date::only(&fields(lines), &http::header::EXPIRES, NOW).is_some()
        };
        assert!(only(&[date]));
        assert!(!only(&[date, date]));
        assert!(!only(&[date, ("expires", "")]));
        assert!(!only(&[]));
    }

    #[test]
    fn time_between_dates_never_runs_backwards() {
        assert_eq!(Date(5).since(Date(3)), Duration::from_secs(2));
        assert_eq!(Date(3).since(Date(5)), Duration::ZERO);
        let ages = Date(i64::MAX).since(Date(i64::MIN));
        assert_eq!(ages, Duration::from_secs(1 << 63) - Duration::from_secs(1));
    }

    #[test]
    fn a_moment_is_the_second_that_it_is_in() {
        let half = Duration::from_millis(1500);
        assert_eq!(Date::at(UNIX_EPOCH + half), Date(1));
        assert_eq!(Date::at(UNIX_EPOCH - half), Date(-2));
        assert_eq!(Date::at(UNIX_EPOCH), Date(0));
        assert_eq!(Date(-1).to_field(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(Date(i64::MAX).to_field(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    /// A date in one of the formats, or a piece of one, or one with a wrong letter.
    fn datelike() -> impl Strategy<Value = String> {
        let name = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun|Monday|Sunday)";
        let month = "(Jan|Feb|Mar|Jun|Aug|Dec)";
        let time = "[0-2][0-9]:[0-5][0-9]:[0-6][0-9]";
        let formats = [
            format!("{name}, [0-3][0-9] {month} (19|20|99)[0-9][0-9] {time} GMT"),
            format!("{name} {month} [ 0-3][0-9] {time} (19|20)[0-9][0-9]"),
            format!("{name}, [0-3][0-9]-{month}-[0-9][0-9] {time} (GMT|UTC)"),
        ];
        let written = (0..=LATEST).prop_map(|seconds| {
            let field = Date(seconds).to_field();
            field.to_str().unwrap().to_owned()
        });
        let whole = prop_oneof![string_regex(&formats.join("|")).unwrap(), written];
        let change = prop::option::of((0..32_usize, proptest::char::range(' ', '~')));
        (whole, change, 0..64_usize).prop_map(|(mut text, change, length)| {
            if let Some((place, letter)) = change.filter(|(place, _)| *place < text.len()) {
                text.replace_range(place..=place, &letter.to_string());
            }
            text.truncate(length);
            text
        })
    }

    proptest! {
        #[test]
        fn every_second_is_read_as_it_is_written(seconds in 0..=LATEST) {
            let date = Date(seconds);
            prop_assert_eq!(Date::parse(date.to_field().as_bytes(), NOW), Some(date));
        }

        /// But for the century of two digits.
        #[test]
        fn what_httpdate_reads_is_read_likewise(text in datelike()) {
            let theirs = httpdate::parse_http_date(&text).ok().map(Date::at);
            let ours = Date::parse(text.as_bytes(), NOW);
            if let Some(theirs) = theirs {
                let apart = ours.unwrap().0 - theirs.0;
                prop_assert!(apart == 0 || (text.contains('-') && apart == 36_525 * 86_400), "{text}");
            }
        }

        #[test]
        fn no_bytes_and_no_clock_make_it_panic(text: Vec<u8>, datelike in datelike(), now: i64) {
            let now = Date(now);
            Date::parse(&text, now);
            Date::parse(datelike.as_bytes(), now);
        }
    }
}
