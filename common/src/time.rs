//! Time as plain data. Nothing here reads a clock: a core is told what time it is.

use std::fmt;

use serde::{Deserialize, Serialize};
pub use std::time::Duration;

/// A moment in UTC, in milliseconds since 1970; as text, RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(u64);

/// A text that is not an RFC 3339 time between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 2026-11-21T16:04:05Z")]
pub struct InvalidTimestamp(String);

/// 9999-12-31T23:59:59.999Z, the last moment with a four-digit year.
const LAST_MS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// From milliseconds since 1970; later than the year 9999 is taken as its end.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.min(LAST_MS))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0
    }

    /// How long it is since `earlier`; zero if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment without its fraction of a second, as TUF metadata writes times.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self(self.0 / 1000 * 1000)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_ms(self.0.saturating_add(ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).expect("bounded by LAST_MS");
        let time = jiff::Timestamp::from_millisecond(ms).expect("bounded by LAST_MS");
        f.pad(&time.to_string())
    }
}

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp(text.to_owned()))?;
        let ms = u64::try_from(time.as_millisecond()).map_err(|_| InvalidTimestamp(text.to_owned()))?;
        Ok(Self::from_ms(ms))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

/// A duration as people write it in `landfall.toml` and read it in tables: `250ms`, `10s`, `5m`, `1h30m`.
pub mod human {
    use super::Duration;

    /// A text that is not a duration.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("{0:?} is not a duration such as 250ms, 10s, 5m or 1h30m")]
    pub struct InvalidDuration(pub String);

    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// Reads `1h30m`; units are ms, s, m, h and d.
    ///
    /// # Errors
    /// [`InvalidDuration`] for anything else, a number without a unit included.
    pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut total_ms: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(invalid)?;
            let part = number.checked_mul(*factor).ok_or_else(invalid)?;
            total_ms = total_ms.checked_add(part).ok_or_else(invalid)?;
            rest = &rest[letters..];
        }
        if text.is_empty() { Err(invalid()) } else { Ok(Duration::from_millis(total_ms)) }
    }

    /// Writes the form that [`parse`] reads, without loss above one millisecond.
    #[must_use]
    pub fn format(duration: Duration) -> String {
        let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return "0s".to_owned();
        }
        let mut text = String::new();
        for (unit, factor) in UNITS.iter().rev() {
            let count = ms / factor;
            if count > 0 {
                text.push_str(&format!("{count}{unit}"));
                ms %= factor;
            }
        }
        text
    }
}

/// `#[serde(with = "landfall_common::time::duration_ms")]`: a duration as whole milliseconds, the form of
/// signed and stored records.
pub mod duration_ms {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole milliseconds.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads whole milliseconds.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same of a duration that may be absent: with `default` and `skip_serializing_if = "Option::is_none"`.
pub mod optional_duration_ms {
    use super::{Duration, duration_ms};
    use serde::{Deserializer, Serializer};

    /// Writes whole milliseconds.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration_ms::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads whole milliseconds.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration_ms::deserialize(deserializer).map(Some)
    }
}

/// `#[serde(deserialize_with = "…::duration_text::deserialize")]`: a duration as people write it, the form of
/// configuration files.
pub mod duration_text {
    use super::{Duration, human};
    use serde::{Deserialize as _, Deserializer, de::Error as _};

    /// Reads `1h30m`.
    ///
    /// # Errors
    /// Those of the deserializer, and a text that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        human::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_what_it_writes() {
        let time: Timestamp = "2026-11-21T16:04:05.25Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T16:04:05.25Z");
        assert_eq!(time.whole_seconds().to_string(), "2026-11-21T16:04:05Z");
        assert!("1960-01-01T00:00:00Z".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::from_ms(u64::MAX).ms(), LAST_MS);
    }

    proptest::proptest! {
        #[test]
        fn a_duration_reads_back_what_it_writes(ms in 0..10_000_000_000u64) {
            let duration = Duration::from_millis(ms);
            proptest::prop_assert_eq!(human::parse(&human::format(duration)), Ok(duration));
        }

        #[test]
        fn rubbish_is_never_a_duration_and_never_a_panic(text in "[0-9a-z .-]{0,24}") {
            let _ = human::parse(&text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_not_a_duration() {
        for text in ["10", "", "s", "10 s", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(human::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
