//! Sizes, times and shares as people read them.

use std::time::Duration;

use landfall_common::Timestamp;

/// `1.5 GiB`, `340 KiB`, `12 B`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // In tenths, so that nothing is lost in a float.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths >= 1000 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// `1 file`, `3 files`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `2m 05s`, `3h 10m`, `4d 2h`, `12s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `2026-11-21 16:04:05`, UTC.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.whole_seconds().to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// `3m 02s ago`, or `in 4d 2h`.
#[must_use]
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    if time > now {
        format!("in {}", duration(time.since(now)))
    } else {
        format!("{} ago", duration(now.since(time)))
    }
}

/// A cell for what may be absent.
#[must_use]
pub fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600, "1.5 KiB"),
            (340 * 1024, "340 KiB"),
            (2 << 30, "2.0 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (s, text) in [(0, "0s"), (125, "2m 05s"), (11_400, "3h 10m"), (352_800, "4d 2h")] {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
        let now = "2026-11-21T16:04:05.5Z".parse().unwrap();
        assert_eq!(time(now), "2026-11-21 16:04:05");
        assert_eq!(relative("2026-11-21T16:00:05.5Z".parse().unwrap(), now), "4m 00s ago");
    }
}
