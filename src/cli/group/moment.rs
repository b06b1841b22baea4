//! Times and durations as they are typed: `2026-11-21T13:00:00.000`, `P1DT2H`.

/// Milliseconds since 1970 of a time in the form of ISO 8601: date, `T`, hours and minutes, and
/// when wanted seconds with a fraction and an offset (`Z`, `+02:00`). Without one it is UTC.
pub fn moment_millis(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next()?)?, number(date.next()?)?, number(date.next()?)?);
    if date.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let (time, offset_minutes) = split_offset(time)?;
    let mut time = time.split(':');
    let (hour, minute) = (number(time.next()?)?, number(time.next()?)?);
    let millis = time.next().map_or(Some(0), seconds_millis)?;
    if time.next().is_some() || hour > 23 || minute > 59 || millis >= 60_000 {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(minutes * 60_000 + millis)
}

/// Milliseconds of a duration in the form of ISO 8601: days, hours, minutes and seconds.
pub fn duration_millis(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut millis = 0_i64;
    if !days.is_empty() {
        millis = number(days.strip_suffix('D')?)?.checked_mul(86_400_000)?;
    }
    let mut rest = time;
    let mut units = [('H', 3_600_000), ('M', 60_000), ('S', 1000)].into_iter();
    while !rest.is_empty() {
        let at = rest.find(|letter: char| letter.is_ascii_uppercase())?;
        let (value, letter) = (&rest[..at], rest[at..].chars().next()?);
        let (_, size) = units.find(|(unit, _)| *unit == letter)?;
        let part = if letter == 'S' {
            seconds_millis(value)?
        } else {
            number(value)?.checked_mul(size)?
        };
        millis = millis.checked_add(part)?;
        rest = &rest[at + 1..];
    }
    Some(millis)
}

/// The time of day, and the minutes that its zone is ahead of UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (time, offset) = text.split_at(at);
    let digits = offset[1..].replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 if digits.is_ascii() => (number(&digits[..2])?, number(&digits[2..])?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    let ahead = hours * 60 + minutes;
    Some((time, if offset.starts_with('-') { -ahead } else { ahead }))
}

/// `12` or `12.345` in milliseconds.
fn seconds_millis(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut fraction = fraction.to_owned();
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    fraction.push_str("00");
    number(whole)?.checked_mul(1000)?.checked_add(number(&fraction[..3])?)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    let leap_days_1970 = 1969 / 4 - 1969 / 100 + 1969 / 400;
    let months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    (year - 1970) * 365 + leap_days - leap_days_1970 + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_since_1970() {
        let cases = [
            ("1970-01-01T00:00:00", Some(0)),
            ("2000-02-29T12:30", Some(951_827_400_000)),
            ("2023-11-14T22:13:20.000", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000)),
            ("2023-11-14T16:43:20-0530", Some(1_700_000_000_000)),
            ("2023-02-29T00:00:00", None),
            ("2023-13-01T00:00:00", None),
            ("2023-01-01T24:00:00", None),
            ("2023-01-01", None),
            ("2023-01-01T00:00:60", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(moment_millis(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_iso_8601() {
        let cases = [
            ("P1D", Some(86_400_000)),
            ("PT1H", Some(3_600_000)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("PT0S", Some(0)),
            ("PT3M2H", None),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1D", None),
            ("PT-5S", None),
            ("PT5", None),
            ("P99999999999999999999D", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration_millis(text), expected, "{text}");
        }
    }
}
