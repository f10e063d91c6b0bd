//! One run: a steady load, and the release that changes under it.

use std::time::{Duration, Instant};

use anyhow::bail;
use landfall_e2e::load::{Counts, Load};

use super::figures::{Figures, Switch};

/// Before anything is counted: connections are opened, caches filled.
const WARM: Duration = Duration::from_secs(2);

/// Before each change, and after the last answer of an old release.
const QUIET: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(1);

/// How long the old release may go on answering after the command that replaced it has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run is.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Where the requests go, `host:port`.
    pub target: String,
    /// What they ask for.
    pub path: String,
    /// How many each second; half of them on kept-alive connections.
    pub rate_per_s: u32,
    /// How many in all, at least; the last change is not cut short.
    pub requests: u64,
}

impl Trial {
    /// Changes the release by `switch`, which gives the name of the new one, until enough requests have been sent.
    ///
    /// # Errors
    /// If a change fails, or the new release does not take over.
    pub fn run(&self, mut switch: impl FnMut() -> anyhow::Result<String>) -> anyhow::Result<Figures> {
        let load = Load::start(vec![self.target.clone()], &self.path, self.rate_per_s)?;
        std::thread::sleep(WARM);
        let _ = load.take();
        let (mut all, mut switches) = (Counts::default(), Vec::new());
        while all.sent < self.requests {
            let quiet_since = Instant::now();
            std::thread::sleep(QUIET);
            let began = Instant::now();
            let release = switch()?;
            let command = began.elapsed();
            self.taken_over(&load, &release, &mut all)?;
            std::thread::sleep(AFTER);
            all.add(&load.take());
            switches.push(Switch { quiet_since, began, ended: Instant::now(), command });
        }
        all.add(&load.stop());
        Ok(Figures { failures: all.failures, ..Figures::of(&all.samples, &switches) })
    }

    /// Waits until nobody but the new release has answered for a tenth of a second.
    fn taken_over(&self, load: &Load, release: &str, all: &mut Counts) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            all.add(&load.take());
            std::thread::sleep(Duration::from_millis(100));
            let last = load.take();
            let by: Vec<_> = last.by_release.keys().cloned().collect();
            all.add(&last);
            if by == [release] {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{release} has not taken over at {}: {by:?} answer; {:?}", self.target, last.failures);
            }
        }
    }
}
