//! When to look, how deep, and how slowly.
//!
//! A *quick* look asks each file for its size, permissions and time of change (`ctime`), and reads those that were
//! changed since everything was last known to be good. Nobody can set `ctime`, so that a byte changed under the same
//! size and the same `mtime` is found by it. A *full* look reads everything: it also finds what a disk has done by
//! itself. Nothing is remembered of single files, however many there are, but of those that were found changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use landfall_common::{Duration, Timestamp};

use super::finding::Kind;
use super::scan::Summary;
use crate::Now;

/// Half a per cent of a core at the most: for each moment of work, so many of rest.
const REST_PER_CPU: u32 = 199;

/// A disk that is slow, or a machine that is loaded, is given so many times as long as it took.
const REST_PER_WALL: u32 = 4;

/// One moment that took strangely long must not put the look off for ever.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The kernel's time of change lags behind the clock by a tick at most; clocks of network file systems by more.
const SLACK: Duration = Duration::from_secs(2);

/// How long to rest after a piece of work that took so much of a core, and so long.
#[must_use]
pub fn rest(cpu: Duration, wall: Duration) -> Duration {
    (cpu * REST_PER_CPU).max(wall * REST_PER_WALL).min(LONGEST_REST)
}

/// How often a host is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// From the end of one look to the next.
    pub quick: Duration,
    /// From the end of one look that read everything to the next such.
    pub full: Duration,
}

/// What a look reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// Every file.
    All,
    /// Files that were changed since, and those that were found changed before.
    Since {
        /// Everything that was not changed since then is known to be good.
        since: Timestamp,
        /// Found changed: it stays reported until it is good again.
        also: BTreeSet<PathBuf>,
    },
}

/// What the last look at a release leaves for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    ended: Duration,
    full_ended: Duration,
    known: Option<(Timestamp, BTreeSet<PathBuf>)>,
}

impl Looked {
    /// After a look of this depth that began at `began` and has ended now.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        depth: &Depth,
        began: Timestamp,
        summary: &Summary,
        now: Now,
    ) -> Self {
        let full_ended = match (depth, before) {
            (Depth::Since { .. }, Some(before)) => before.full_ended,
            (Depth::All, _) | (_, None) => now.mono,
        };
        let findings = &summary.findings;
        let is_doubtful = |kind| matches!(kind, Kind::Changed | Kind::Unreadable);
        let listed = findings.listed.iter().filter(|finding| is_doubtful(finding.kind));
        let also: BTreeSet<PathBuf> = listed.map(|finding| finding.path.clone()).collect();
        let all: u64 =
            findings.counts.iter().filter(|(kind, _)| is_doubtful(**kind)).map(|(_, count)| count).sum();
        // What was not seen, or is not listed, must be read again, whenever it was changed.
        let known = if !summary.is_blind && also.len() as u64 == all {
            Some((Timestamp::from_ms(began.ms().saturating_sub(millis(SLACK))), also))
        } else {
            before.and_then(|before| before.known.clone())
        };
        Self { ended: now.mono, full_ended, known }
    }
}

impl Rhythm {
    /// When to look next, counted from now, and how deep. The first look after a start reads everything.
    #[must_use]
    pub fn next(&self, looked: Option<&Looked>, now: Now) -> (Duration, Depth) {
        let Some(looked) = looked else { return (self.quick.min(FIRST_WAIT), Depth::All) };
        let wait = (looked.ended + self.quick).saturating_sub(now.mono);
        let full_due = now.mono + wait >= looked.full_ended + self.full;
        match &looked.known {
            // A time of good that lies ahead came from a clock that was wrong.
            Some((since, also)) if !full_due && *since <= now.wall => {
                (wait, Depth::Since { since: *since, also: also.clone() })
            }
            _ => (wait, Depth::All),
        }
    }
}

/// An agent that has just started, or a release that was just activated, has other things to do.
const FIRST_WAIT: Duration = Duration::from_secs(60);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
