//! What the services of the active release use: processor, memory, and how often they were started again.
//!
//! Drivers tell by what a service's use can be read ([`Roots`]): a control group that holds nothing else, where there is
//! one, or else the processes at its root with all that they started, out of `/proc`. It is read with each heartbeat, and
//! reported, never stored. What the kernel does not show (a control group of version 1, processes of other users where
//! `/proc` hides them) is not known, and is not told as zero.

mod read;

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use landfall_common::ServiceName;

use read::Cpu;

pub use read::Kernel;

/// Services told of; a release with more is told of in part.
const MAX_SERVICES: usize = 64;

/// By what the use of a service can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Names that a control group of this service alone may have, below the root of all groups.
    pub groups: Vec<String>,
    /// The processes that were started as this service. Without any, and without a group, nothing is known.
    pub processes: Vec<u32>,
}

/// What one service used over a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub service: ServiceName,
    /// How long the period was.
    pub period: Duration,
    /// The processor time of its processes in it. What a process took that both began and ended within the period is not
    /// seen, unless there is a control group.
    pub cpu: Option<Duration>,
    /// What they hold at its end and is no file, in bytes.
    pub memory_bytes: Option<u64>,
    /// How often it was seen to run again after it had ended by itself.
    pub restarts: u32,
}

/// What is known of one service between two readings.
#[derive(Debug)]
struct Watched {
    roots: Option<Roots>,
    /// As its driver counts them.
    counted: Option<u32>,
    restarts: u32,
    since: Instant,
    before: Option<Cpu>,
}

/// Collects what drivers see, until someone takes it.
#[derive(Debug, Default)]
pub struct Usages {
    kernel: Kernel,
    watched: Mutex<BTreeMap<ServiceName, Watched>>,
}

impl Usages {
    /// Reads from this kernel, or what stands for one.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, watched: Mutex::default() }
    }

    /// Only these services are looked at from now on, and each from the beginning: they may be of another release.
    pub fn begin(&self, services: &BTreeSet<ServiceName>, now: Instant) {
        let begun = |service: &ServiceName| {
            let fresh = Watched { roots: None, counted: None, restarts: 0, since: now, before: None };
            (service.clone(), fresh)
        };
        *self.lock() = services.iter().take(MAX_SERVICES).map(begun).collect();
    }

    /// A service runs, as its driver sees it; `restarts` since it was activated.
    pub fn runs(&self, service: &ServiceName, roots: Option<&Roots>, restarts: u32) {
        let mut all = self.lock();
        let Some(watched) = all.get_mut(service) else { return };
        // Of a driver that begins to count anew, all of it is new.
        let more = watched.counted.map_or(0, |counted| restarts.checked_sub(counted).unwrap_or(restarts));
        watched.restarts = watched.restarts.saturating_add(more);
        watched.counted = Some(restarts);
        watched.roots = roots.cloned();
    }

    /// A service does not run just now: nothing of it can be read until it does.
    pub fn rests(&self, service: &ServiceName) {
        if let Some(watched) = self.lock().get_mut(service) {
            watched.roots = watched.roots.take().map(|_| Roots::default());
        }
    }

    /// What was used since the last call. Services whose driver knows nothing of processes are left out.
    pub fn take(&self, now: Instant) -> Vec<Usage> {
        let mut all = self.lock();
        let processes = LazyCell::new(|| self.kernel.processes());
        let told = all.iter_mut().filter_map(|(service, watched)| {
            let roots = watched.roots.as_ref()?;
            let seen = self.kernel.read(roots, || &*processes);
            let period = now.saturating_duration_since(watched.since);
            let cpu = seen.cpu.as_ref().zip(watched.before.as_ref()).map(|(now, before)| now.since(before));
            watched.since = now;
            watched.before = seen.cpu;
            let restarts = std::mem::take(&mut watched.restarts);
            Some(Usage { service: service.clone(), period, cpu, memory_bytes: seen.memory_bytes, restarts })
        });
        told.filter(|usage| !usage.period.is_zero()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn watching(now: Instant) -> Usages {
        let usages = Usages::default();
        usages.begin(&[name()].into(), now);
        usages
    }

    #[test]
    fn restarts_are_counted_from_the_first_look_and_told_once() {
        let (begun, roots) = (Instant::now(), Roots { processes: vec![1], ..Roots::default() });
        let usages = watching(begun);
        let told = |after: u64| {
            let told = usages.take(begun + Duration::from_secs(after));
            told.iter().map(|usage| (usage.period.as_secs(), usage.restarts)).collect::<Vec<_>>()
        };
        assert_eq!(told(1), [], "nothing was seen of it yet");
        usages.runs(&name(), Some(&roots), 7);
        assert_eq!(told(10), [(10, 0)]);
        usages.runs(&name(), Some(&roots), 8);
        usages.runs(&name(), Some(&roots), 10);
        assert_eq!(told(20), [(10, 3)]);
        assert_eq!(told(30), [(10, 0)]);
        usages.runs(&name(), Some(&roots), 2);
        assert_eq!(told(40), [(10, 2)], "its driver counts anew");
        usages.begin(&[name()].into(), begun + Duration::from_secs(40));
        usages.runs(&name(), Some(&roots), 9);
        assert_eq!(told(50), [(10, 0)], "another release");
        usages.begin(&BTreeSet::new(), begun);
        usages.runs(&name(), Some(&roots), 9);
        assert_eq!(told(60), []);
    }

    #[test]
    fn what_a_driver_cannot_see_is_not_told_and_what_rests_uses_nothing_that_is_known() {
        let begun = Instant::now();
        let usages = watching(begun);
        usages.runs(&name(), None, 0);
        assert_eq!(usages.take(begun + Duration::from_secs(10)), []);
        let roots = Roots { processes: vec![std::process::id()], ..Roots::default() };
        usages.runs(&name(), Some(&roots), 0);
        let [first] = &usages.take(begun + Duration::from_secs(20))[..] else { panic!("one service") };
        assert_eq!(first.cpu, None, "since when would not be known");
        assert!(first.memory_bytes > Some(0));
        let [second] = &usages.take(begun + Duration::from_secs(30))[..] else { panic!("one service") };
        assert!(second.cpu.is_some());
        usages.rests(&name());
        let [third] = &usages.take(begun + Duration::from_secs(40))[..] else { panic!("one service") };
        assert_eq!((third.cpu, third.memory_bytes), (None, None));
    }
}
