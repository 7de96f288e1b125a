//! Points in time as `before` and `after` compare them.
// HOT: no allocation.

use crate::model::attribute::Attribute;

/// Nanoseconds since 1970, in UTC.
pub(crate) type Nanos = i128;

const NANOS_PER_SECOND: Nanos = 1_000_000_000;
const NANOS_PER_MILLISECOND: Nanos = 1_000_000;
const FRACTION_DIGITS_MAX: usize = 9;

/// Reads a value as a point in time: a number of milliseconds since 1970, whose fraction is cut off, or an RFC 3339 text.
pub(crate) fn point_in_time(attribute: Attribute<'_>) -> Option<Nanos> {
    match attribute {
        Attribute::Text(text) => rfc3339(text.as_bytes()),
        #[expect(clippy::cast_possible_truncation, reason = "cuts the fraction off; saturates")]
        Attribute::Number(number) => Some(Nanos::from(number as i64) * NANOS_PER_MILLISECOND),
        _ => None,
    }
}

/// Reads date, `T`, time with seconds, and zone.
///
/// Beyond RFC 3339, an hour may have one digit, a zone's hours go up to 99, and a day that its month does not have is one of the
/// next month. A fraction has at most nine digits.
///
/// Source: launchdarkly/go-server-sdk-evaluation v3, `ldmodel/parse_time.go`; unlike there, nothing may follow the `Z`.
fn rfc3339(text: &[u8]) -> Option<Nanos> {
    let (year, text) = field(text, b"-", 4..=4, 0..=9_999)?;
    let (month, text) = field(text, b"-", 2..=2, 1..=12)?;
    let (day, text) = field(text, b"tT", 2..=2, 1..=31)?;
    let (hour, text) = field(text, b":", 1..=2, 0..=23)?;
    let (minute, text) = field(text, b":", 2..=2, 0..=59)?;
    let seconds = text.split_at_checked(2)?;
    // A minute with a leap second has 61.
    let second = number(seconds.0, 2..=2, 0..=60)?;
    let (nanos, zone) = match seconds.1.split_first()? {
        (b'.', rest) => fraction(rest)?,
        _ => (0, seconds.1),
    };
    let offset_minutes = match zone.split_first()? {
        (b'z' | b'Z', []) => 0,
        (sign @ (b'+' | b'-'), rest) => {
            let (hours, minutes) = field(rest, b":", 2..=2, 0..=99)?;
            let minutes = hours * 60 + number(minutes, 2..=2, 0..=59)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(Nanos::from(minutes * 60 + second) * NANOS_PER_SECOND + nanos)
}

/// A number of so many digits in a range, up to one of the terminators, and what comes after that.
fn field<'a>(
    text: &'a [u8],
    terminators: &[u8],
    digits: std::ops::RangeInclusive<usize>,
    range: std::ops::RangeInclusive<i64>,
) -> Option<(i64, &'a [u8])> {
    let end = text.iter().position(|byte| terminators.contains(byte))?;
    let (text, rest) = text.split_at_checked(end)?;
    Some((number(text, digits, range)?, rest.get(1..)?))
}

fn number(
    text: &[u8],
    digits: std::ops::RangeInclusive<usize>,
    range: std::ops::RangeInclusive<i64>,
) -> Option<i64> {
    if !digits.contains(&text.len()) {
        return None;
    }
    let mut number = 0;
    for byte in text {
        number = number * 10 + i64::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
    }
    range.contains(&number).then_some(number)
}

/// The nanoseconds of a fraction, and what comes after it.
fn fraction(text: &[u8]) -> Option<(Nanos, &[u8])> {
    let n_digits = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(n_digits)?;
    let number = number(digits, 1..=FRACTION_DIGITS_MAX, 0..=999_999_999)?;
    let n_missing = u32::try_from(FRACTION_DIGITS_MAX - n_digits).ok()?;
    Some((Nanos::from(number * 10_i64.pow(n_missing)), rest))
}

/// Days from 1970-01-01 in the Gregorian calendar; a day beyond its month counts on.
///
/// Years are counted from March, so that the leap day is the last of its year, in cycles of 400 years, which have 146,097 days.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    let day_of_cycle = year * 365 + year / 4 - year / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> Option<Nanos> {
        rfc3339(text.as_bytes())
    }

    #[test]
    fn texts_are_rfc_3339_and_a_little_more() {
        let midday = nanos("2024-02-29T12:00:00Z");
        assert_eq!(midday, Some(1_709_208_000 * NANOS_PER_SECOND));
        for same in [
            "2024-02-29t12:00:00z",
            "2024-02-29T12:00:00.0Z",
            "2024-02-29T13:30:00+01:30",
            "2024-02-28T21:00:00-15:00",
            "2024-02-25T09:00:00-99:00",
            "2024-02-29T11:59:60Z",
        ] {
            assert_eq!(nanos(same), midday, "{same}");
        }
        assert_eq!(nanos("2023-02-31T00:00:00Z"), nanos("2023-03-03T00:00:00Z"));
        assert_eq!(nanos("2024-01-01T1:00:00Z"), nanos("2024-01-01T01:00:00Z"));
        assert_eq!(nanos("1970-01-01T00:00:00.000000001Z"), Some(1));
        assert_eq!(nanos("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
    }

    #[test]
    fn other_texts_are_no_points_in_time() {
        for bad in [
            "",
            "2024-02-29",
            "2024-02-29T12:00:00",
            "2024-02-29 12:00:00Z",
            "2024-02-29T12:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.0123456789Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+01:60",
            "2024-01-01T00:00:00Zx",
            "2024-02-29T/2:00:00Z",
            "2024-02-29T12:00:00.!Z",
            "20 4-02-29T12:00:00+0*:00",
            "24-01-01T00:00:00Z",
            "1709208000000",
            "٢٠٢٤-01-01T00:00:00Z",
        ] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_milliseconds() {
        for (number, expected) in
            [(0.0, 0), (1.9, 1), (-1.9, -1), (1_709_208_000_123.0, 1_709_208_000_123)]
        {
            let expected = expected * NANOS_PER_MILLISECOND;
            assert_eq!(point_in_time(Attribute::Number(number)), Some(expected), "{number}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_point_in_time_or_none(text in "([ -:TtZz+.]|[0-9]{2}[-:TZ.]){0,12}") {
            let _ = nanos(&text);
        }

        /// What becomes of a time in which one character is another.
        #[test]
        fn a_spoiled_time_is_none_or_another(place in 0..20_usize, by in any::<u8>()) {
            let mut text = *b"2024-02-29T12:00:00Z";
            text[place] = by;
            let is_other = rfc3339(&text) != nanos("2024-02-29T12:00:00Z");
            prop_assert!(is_other || b"2024-02-29T12:00:00Z"[place].eq_ignore_ascii_case(&by));
        }

        #[test]
        fn a_library_reads_the_same(second in -62_000_000_000_i64..250_000_000_000, nano in 0..1_000_000_000_i32) {
            let time = jiff::Timestamp::new(second, nano).unwrap();
            prop_assert_eq!(nanos(&time.to_string()), Some(time.as_nanosecond()));
        }
    }
}
