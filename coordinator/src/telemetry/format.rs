//! Numbers as a person reads them. One place, so that bars, lines and tables agree.

/// `1234567` → `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Images per second: whole above 100, one decimal below, `-` where there is none yet.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        "-".into()
    } else if per_second >= 99.95 {
        thousands(per_second.round() as u64)
    } else {
        format!("{per_second:.1}")
    }
}

/// A fraction as `59.83%`.
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.2}%", fraction * 100.0) } else { "-".into() }
}

/// A loss with four decimals; a large one with fewer, a diverged one as `NaN` or `inf`.
pub fn loss(loss: f64) -> String {
    if loss.abs() < 1000.0 || !loss.is_finite() { format!("{loss:.4}") } else { format!("{loss:.3e}") }
}

/// Seconds as `0:07`, `12:05`, `3:02:01` or `2d 03:02:01`.
pub fn clock(seconds: f64) -> String {
    // `as` saturates: a nonsensical time shows as a huge one, not as a panic.
    let whole = seconds.max(0.0).round() as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// `812 B`, `12.3 MB`, `4.12 GB`: powers of a thousand, as networks count.
pub fn bytes(number: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| number as f64 >= *unit) {
        Some((unit, name)) => {
            let value = number as f64 / unit;
            let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
            format!("{value:.decimals$} {name}")
        }
        None => format!("{number} B"),
    }
}

/// `1 worker`, `2 workers`; a plural that is more than an s is a word of its own.
pub fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", thousands(number))
}

/// One line without control characters: text from another machine must not move the cursor.
pub fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_have_as_many_digits_as_they_deserve() {
        let cases = [(5123.4, "5,123"), (99.96, "100"), (99.94, "99.9"), (0.05, "0.1"), (f64::NAN, "-")];
        for (number, text) in cases {
            assert_eq!(rate(number), text);
        }
        assert_eq!(rate(f64::INFINITY), "-");
    }

    #[test]
    fn bytes_have_three_digits() {
        let cases = [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (56_789_000, "56.8 MB"), (u64::MAX, "18446744 TB")];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn clocks() {
        let cases = [
            (0.0, "0:00"),
            (7.4, "0:07"),
            (59.6, "1:00"),
            (725.0, "12:05"),
            (3661.0, "1:01:01"),
            (90_061.0, "1d 01:01:01"),
        ];
        for (seconds, text) in cases {
            assert_eq!(clock(seconds), text);
        }
        assert_eq!(clock(f64::NAN), "0:00");
        assert!(clock(f64::INFINITY).starts_with("213503982334601d"), "{}", clock(f64::INFINITY));
    }

    #[test]
    fn losses_and_percents() {
        assert_eq!(loss(1.23456), "1.2346");
        assert_eq!(loss(123_456.0), "1.235e5");
        assert_eq!(loss(f64::NAN), "NaN");
        assert_eq!(loss(f64::INFINITY), "inf");
        assert_eq!(percent(0.59834), "59.83%");
        assert_eq!(percent(1.0), "100.00%");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(1, "worker"), "1 worker");
        assert_eq!(count(0, "worker"), "0 workers");
    }

    #[test]
    fn text_from_elsewhere_stays_a_line() {
        assert_eq!(clean("gone\r\n\x1b[2Jaway\n"), "gone   [2Jaway");
    }
}
