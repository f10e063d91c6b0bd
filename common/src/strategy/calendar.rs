//! When rollouts may begin, by the clock on the wall of a time zone: windows of a week, and freezes.
//!
//! The zones are those of the library's own copy of the IANA database, so that the same definition means the same
//! on every machine, and on one that has none.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A window that is not named here occurs every week; a change of the clock may swallow it once.
const AHEAD_DAYS: i32 = 16;

/// Freezes that follow each other, or calendars that never agree, are looked at so often.
const LOOKS: usize = 400;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone by its IANA name; UTC unless said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ZoneName(String);

/// A name that no time zone has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone; write a name of the IANA database such as \"Europe/Berlin\"")]
pub struct UnknownZone(String);

impl Default for ZoneName {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl ZoneName {
    /// Whether it is UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        self.0 == "UTC"
    }

    /// The zone.
    ///
    /// # Errors
    /// [`UnknownZone`] for one that a newer version may know.
    pub(super) fn zone(&self) -> Result<TimeZone, UnknownZone> {
        ZONES.get(&self.0).map_err(|_| UnknownZone(self.0.clone()))
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ZoneName {
    type Err = UnknownZone;
    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        let zone = ZONES.get(text).map_err(|_| UnknownZone(text.to_owned()))?;
        Ok(Self(zone.iana_name().unwrap_or(text).to_owned()))
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Some hours of some days of each week. A window is open while the clock on the wall is within it: not at all on a
/// day whose clock leaps over it, and twice on a day whose clock shows it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseWindow {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes since midnight.
    start: u16,
    /// Minutes since midnight, at most 1440; up to `start` it is on the day after.
    end: u16,
}

/// A text that is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a release window: {why}; write days and hours such as \"Mon-Thu 09:00-17:00\"")]
pub struct InvalidWindow {
    text: String,
    why: &'static str,
}

impl FromStr for ReleaseWindow {
    type Err = InvalidWindow;
    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        let not = |why| InvalidWindow { text: text.to_owned(), why };
        let (days, hours) = text.trim().split_once(' ').ok_or(not("it has no days or no hours"))?;
        let day = |name: &str| DAYS.iter().position(|day| *day == name);
        let mut set = 0;
        for part in days.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (day(first), day(last)) else {
                return Err(not("the days are Mon, Tue, Wed, Thu, Fri, Sat and Sun"));
            };
            // From Saturday to Monday is three days.
            (0..=(last + 7 - first) % 7).for_each(|more| set |= 1 << ((first + more) % 7));
        }
        let (start, end) = hours.trim().split_once('-').ok_or(not("the hours have no end"))?;
        let (Some(start), Some(end)) = (minutes(start), minutes(end)) else {
            return Err(not("the hours are from 00:00 to 24:00"));
        };
        if start == end || start == 1440 {
            return Err(not("it ends when it begins"));
        }
        Ok(Self { days: set, start, end })
    }
}

/// `09:30`, up to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    };
    let (hour, minute): (u16, u16) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= 1440).then_some(hour * 60 + minute)
}

impl fmt::Display for ReleaseWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for day in (0..7).filter(|day| self.has(*day)) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == day => *last = day,
                _ => runs.push((day, day)),
            }
        }
        let run = |(first, last): &(usize, usize)| match first == last {
            true => DAYS[*first].to_owned(),
            false => format!("{}-{}", DAYS[*first], DAYS[*last]),
        };
        let days: Vec<String> = runs.iter().map(run).collect();
        let hours = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        f.pad(&format!("{} {}-{}", days.join(","), hours(self.start), hours(self.end)))
    }
}

impl TryFrom<String> for ReleaseWindow {
    type Error = InvalidWindow;
    fn try_from(text: String) -> Result<Self, InvalidWindow> {
        text.parse()
    }
}

impl From<ReleaseWindow> for String {
    fn from(window: ReleaseWindow) -> Self {
        window.to_string()
    }
}

impl ReleaseWindow {
    fn has(self, day: usize) -> bool {
        self.days & (1 << day) != 0
    }

    /// Whether it is open while the clock on the wall shows this.
    fn is_open(self, wall: DateTime) -> bool {
        let today = day_of(wall.weekday());
        let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        if self.start < self.end {
            return self.has(today) && (self.start..self.end).contains(&minute);
        }
        self.has(today) && minute >= self.start || self.has((today + 6) % 7) && minute < self.end
    }
}

fn day_of(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).expect("from 0 to 6")
}

/// A time in which no rollout begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// By the clock on the wall. Where that shows it twice, the first time.
    pub from: DateTime,
    /// Until then, and no longer. Where the clock shows it twice, the second time.
    pub until: DateTime,
    /// What for.
    pub reason: String,
}

/// When rollouts may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Whose clock is meant.
    #[serde(default, skip_serializing_if = "ZoneName::is_utc")]
    pub zone: ZoneName,
    /// They may begin while one of these is open; none for always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<ReleaseWindow>,
    /// And not during these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
}

/// Why no rollout may begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// As the end of a sentence: `is outside of its release windows (…)`.
    pub why: String,
    /// When one may; `None` if not as far as can be seen.
    pub opens: Option<Timestamp>,
    /// The same by the clock on the wall, with its zone.
    pub opens_there: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opens {
            None => write!(f, "{}; no moment to come is known at which a rollout may begin", self.why),
            Some(opens) => {
                let utc = opens.whole_seconds().to_string().replace('T', " ");
                let utc = format!("{} UTC", utc.trim_end_matches('Z'));
                let both = format!("{} ({utc})", self.opens_there);
                let there = if self.opens_there.is_empty() { &utc } else { &both };
                write!(f, "{}; the next rollout may begin on {there}", self.why)
            }
        }
    }
}

impl Calendar {
    /// Whether rollouts may always begin.
    #[must_use]
    pub fn is_open_always(&self) -> bool {
        self.windows.is_empty() && self.freezes.is_empty()
    }

    /// Checks what must hold.
    ///
    /// # Errors
    /// A sentence naming what does not.
    pub fn check(&self) -> Result<(), String> {
        self.zone.zone().map_err(|error| format!("time_zone: {error}"))?;
        match self.freezes.iter().find(|freeze| freeze.until <= freeze.from) {
            Some(freeze) => {
                Err(format!("freezes: one ends on {} and begins on {}", freeze.until, freeze.from))
            }
            None => Ok(()),
        }
    }

    /// Why nothing may begin at this moment; `None` if it may.
    fn bar(&self, at: Timestamp) -> Option<String> {
        let zone = match self.zone.zone() {
            Ok(zone) => zone,
            // Of a newer version: what is not known is not open.
            Err(error) => return Some(format!("has a calendar that cannot be read: {error}")),
        };
        if let Some(freeze) = self.freezes.iter().find(|freeze| freeze.holds(&zone, at)) {
            let (until, of) = (short(freeze.until), &self.zone);
            return Some(format!("is frozen until {until} {of}: {}", freeze.reason));
        }
        let wall = zone.to_datetime(moment(at));
        let is_open = self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(wall));
        (!is_open).then(|| {
            let windows: Vec<String> = self.windows.iter().map(ToString::to_string).collect();
            format!("is outside of its release windows ({} {})", windows.join(", "), self.zone)
        })
    }

    /// The first moment from `at` on at which something may begin.
    fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let zone = self.zone.zone().ok()?;
        let mut at = at;
        for _ in 0..LOOKS {
            match self.freezes.iter().find(|freeze| freeze.holds(&zone, at)) {
                Some(freeze) => at = freeze.over(&zone)?,
                None => match self.window_opens(&zone, at)? {
                    opens if opens == at => return Some(at),
                    opens => at = opens,
                },
            }
        }
        None
    }

    /// The first moment from `at` on at which a window is open: now, when one begins, or when the clock leaps into
    /// one.
    fn window_opens(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let is_open = |at: jiff::Timestamp| {
            let wall = zone.to_datetime(at);
            self.windows.iter().any(|window| window.is_open(wall))
        };
        let now = moment(at);
        if self.windows.is_empty() || is_open(now) {
            return Some(at);
        }
        let today = zone.to_datetime(now).date();
        let ends = now.checked_add(SignedDuration::from_hours(24 * i64::from(AHEAD_DAYS))).ok()?;
        let mut candidates: Vec<jiff::Timestamp> =
            zone.following(now).map(|leap| leap.timestamp()).take_while(|leap| *leap <= ends).collect();
        for day in 0..=AHEAD_DAYS {
            let Ok(date) = today.checked_add(Span::new().days(day)) else { break };
            for window in self.windows.iter().filter(|window| window.has(day_of(date.weekday()))) {
                let Ok(wall) = DateTime::from_parts(date, jiff::civil::Time::midnight())
                    .checked_add(i64::from(window.start).minutes())
                else {
                    continue;
                };
                match zone.to_ambiguous_timestamp(wall).offset() {
                    AmbiguousOffset::Unambiguous { offset } => candidates.extend(offset.to_timestamp(wall)),
                    AmbiguousOffset::Fold { before, after } => {
                        candidates.extend(before.to_timestamp(wall));
                        candidates.extend(after.to_timestamp(wall));
                    }
                    // The clock leaps over it: where it lands is among the candidates.
                    AmbiguousOffset::Gap { .. } => {}
                }
            }
        }
        candidates.retain(|candidate| *candidate >= now);
        candidates.sort_unstable();
        let opens = candidates.into_iter().find(|candidate| is_open(*candidate))?;
        u64::try_from(opens.as_millisecond()).ok().map(Timestamp::from_ms)
    }

    /// A moment by the clock on the wall.
    fn there(&self, at: Timestamp) -> String {
        let Ok(zone) = self.zone.zone() else { return String::new() };
        let wall = zone.to_datetime(moment(at));
        format!("{} {} {}", DAYS[day_of(wall.weekday())], short(wall), self.zone)
    }
}

/// Why no rollout may begin at this moment by any of these calendars, of which all must be open; `None` if one may.
#[must_use]
pub fn closed(calendars: &[&Calendar], at: Timestamp) -> Option<Closed> {
    let (calendar, why) = calendars.iter().find_map(|calendar| Some((calendar, calendar.bar(at)?)))?;
    let opens = opens(calendars, at);
    let opens_there = match opens {
        Some(opens) if !calendar.zone.is_utc() => calendar.there(opens),
        _ => String::new(),
    };
    Some(Closed { why, opens, opens_there })
}

/// The first moment from `at` on at which all of them are open.
fn opens(calendars: &[&Calendar], at: Timestamp) -> Option<Timestamp> {
    let mut at = at;
    for _ in 0..LOOKS {
        let later = calendars.iter().try_fold(at, |at, calendar| calendar.next(at))?;
        if later == at {
            return Some(at);
        }
        at = later;
    }
    None
}

impl Freeze {
    fn holds(&self, zone: &TimeZone, at: Timestamp) -> bool {
        let from = zone.to_ambiguous_timestamp(self.from).earlier();
        let until = zone.to_ambiguous_timestamp(self.until).later();
        let at = moment(at);
        from.is_ok_and(|from| from <= at) && until.is_ok_and(|until| at < until)
    }

    fn over(&self, zone: &TimeZone) -> Option<Timestamp> {
        let until = zone.to_ambiguous_timestamp(self.until).later().ok()?;
        u64::try_from(until.as_millisecond()).ok().map(Timestamp::from_ms)
    }
}

/// `2026-12-20 18:00`.
fn short(wall: DateTime) -> String {
    wall.strftime("%Y-%m-%d %H:%M").to_string()
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    let ms = i64::try_from(at.ms()).expect("bounded by the last moment with a four-digit year");
    jiff::Timestamp::from_millisecond(ms).expect("bounded by the last moment with a four-digit year")
}

#[cfg(test)]
mod tests;
