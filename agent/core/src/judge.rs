//! Whether a release is healthy: answers of checks in, a standing and a verdict out.
//!
//! No answer is not health, an answer grows stale, and one failing answer begins the window anew.

use std::collections::BTreeMap;

use landfall_common::report::Health;
use landfall_common::time::human;
use landfall_common::{Duration, StepName};

use crate::outline::CheckOutline;

/// What the checks of one release have said since they were begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    began: Duration,
    checks: BTreeMap<StepName, Seen>,
    /// Since when every check passes; kept only while that is so.
    healthy_since: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    max_age: Duration,
    last: Option<(Duration, Result<(), String>)>,
}

/// How a release stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Some check has never answered, and none has failed.
    Unknown,
    /// Every check passes, without a break for so long.
    Healthy(Duration),
    /// These fail, or have not answered for too long.
    Unhealthy(BTreeMap<StepName, String>),
}

/// What follows from it for a release that is to be proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Healthy for so long; not yet long enough.
    Waiting(Duration),
    /// Healthy for as long as was asked.
    Proven,
    /// The deadline passed first.
    TimedOut {
        /// The check to name.
        check: StepName,
        /// What happened, as one sentence.
        reason: String,
    },
}

impl Judge {
    /// Nothing has been seen yet.
    #[must_use]
    pub fn new(checks: &[CheckOutline], now: Duration) -> Self {
        let checks: BTreeMap<_, _> =
            checks.iter().map(|c| (c.name.clone(), Seen { max_age: c.max_age, last: None })).collect();
        // A release without any check counts as healthy as long as its services could be started.
        let healthy_since = checks.is_empty().then_some(now);
        Self { began: now, checks, healthy_since }
    }

    /// Takes the answer of a check. One that the release does not have is ignored.
    pub fn observe(&mut self, check: &StepName, answer: Result<(), String>, now: Duration) {
        let Some(seen) = self.checks.get_mut(check) else { return };
        let gap = seen.last.as_ref().is_some_and(|(at, _)| now.saturating_sub(*at) > seen.max_age);
        let failed = answer.is_err();
        seen.last = Some((now, answer));
        if failed || gap {
            self.healthy_since = None;
        }
        if matches!(self.look(now), Look::Well) {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
        }
    }

    /// How the release stands.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        match (self.look(now), self.healthy_since) {
            (Look::Well, Some(since)) => Standing::Healthy(now.saturating_sub(since)),
            (Look::Failing(failing), _) => Standing::Unhealthy(failing),
            (Look::Unseen | Look::Well, _) => Standing::Unknown,
        }
    }

    /// Whether the release is proven, or can no longer be.
    pub fn verdict(&self, min_healthy: Duration, deadline: Duration, now: Duration) -> Verdict {
        let standing = self.standing(now);
        if let Standing::Healthy(period) = &standing
            && *period >= min_healthy
        {
            return Verdict::Proven;
        }
        if now.saturating_sub(self.began) < deadline {
            return Verdict::Waiting(match standing {
                Standing::Healthy(period) => period,
                Standing::Unknown | Standing::Unhealthy(_) => Duration::ZERO,
            });
        }
        let (window, deadline) = (human::format(min_healthy), human::format(deadline));
        let (check, saw) = match standing {
            Standing::Unhealthy(failing) => {
                let (check, saw) = failing.into_iter().next().expect("an unhealthy standing names a check");
                (check.clone(), format!("check {check} fails: {saw}"))
            }
            Standing::Healthy(period) => {
                let short = Duration::from_secs(period.as_secs());
                (crate::step("health"), format!("healthy for {} only", human::format(short)))
            }
            Standing::Unknown => {
                let silent = self.checks.iter().find(|(_, seen)| seen.last.is_none());
                let check = silent.map_or_else(|| crate::step("health"), |(name, _)| name.clone());
                (check.clone(), format!("check {check} never answered"))
            }
        };
        Verdict::TimedOut { check, reason: format!("{saw}; not healthy for {window} within {deadline}") }
    }

    fn look(&self, now: Duration) -> Look {
        let mut failing = BTreeMap::new();
        let mut unseen = false;
        for (name, seen) in &self.checks {
            match &seen.last {
                None => unseen = true,
                Some((_, Err(saw))) => {
                    failing.insert(name.clone(), saw.clone());
                }
                Some((at, Ok(()))) if now.saturating_sub(*at) > seen.max_age => {
                    let age = Duration::from_secs(now.saturating_sub(*at).as_secs());
                    failing.insert(name.clone(), format!("no answer for {}", human::format(age)));
                }
                Some((_, Ok(()))) => {}
            }
        }
        match (failing.is_empty(), unseen) {
            (false, _) => Look::Failing(failing),
            (true, true) => Look::Unseen,
            (true, false) => Look::Well,
        }
    }
}

enum Look {
    Well,
    Unseen,
    Failing(BTreeMap<StepName, String>),
}

impl From<Standing> for Health {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Unknown => Self::Unknown,
            Standing::Healthy(period) => Self::Healthy { period },
            Standing::Unhealthy(failing) => Self::Unhealthy { failing },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn judge() -> Judge {
        let check = |name: &str| CheckOutline { name: crate::step(name), max_age: S(5) };
        Judge::new(&[check("http"), check("tcp")], S(100))
    }

    #[test]
    fn no_answer_is_not_health() {
        let mut judge = judge();
        judge.observe(&crate::step("http"), Ok(()), S(101));
        assert_eq!(judge.standing(S(101)), Standing::Unknown);
        assert_eq!(judge.verdict(S(0), S(60), S(101)), Verdict::Waiting(S(0)));
    }

    #[test]
    fn a_failing_check_begins_the_window_anew() {
        let mut judge = judge();
        for at in 101..=109 {
            judge.observe(&crate::step("http"), Ok(()), S(at));
            let answer = if at == 105 { Err("status 500".into()) } else { Ok(()) };
            judge.observe(&crate::step("tcp"), answer, S(at));
        }
        assert_eq!(judge.standing(S(109)), Standing::Healthy(S(3)));
        assert_eq!(judge.verdict(S(4), S(60), S(109)), Verdict::Waiting(S(3)));
        assert_eq!(judge.verdict(S(3), S(60), S(109)), Verdict::Proven);
    }

    #[test]
    fn an_answer_grows_stale_and_a_gap_begins_the_window_anew() {
        let mut judge = judge();
        for name in ["http", "tcp"] {
            judge.observe(&crate::step(name), Ok(()), S(101));
        }
        let Standing::Unhealthy(failing) = judge.standing(S(110)) else { panic!("stale answers were taken") };
        assert_eq!(failing[&crate::step("tcp")], "no answer for 9s");
        for name in ["http", "tcp"] {
            judge.observe(&crate::step(name), Ok(()), S(110));
        }
        assert_eq!(judge.standing(S(111)), Standing::Healthy(S(1)));
    }

    #[test]
    fn a_deadline_names_the_check_and_what_it_saw() {
        let mut judge = judge();
        judge.observe(&crate::step("http"), Err("status 500".into()), S(159));
        let Verdict::TimedOut { check, reason } = judge.verdict(S(10), S(60), S(160)) else { panic!() };
        assert_eq!(check.as_str(), "http");
        assert_eq!(reason, "check http fails: status 500; not healthy for 10s within 1m");
    }

    proptest::proptest! {
        /// The window never exceeds the time since the last failing answer.
        #[test]
        fn a_window_never_reaches_across_a_failure(answers in proptest::collection::vec((0..2u8, 0..8u8, 1..4u64), 1..60)) {
            let mut judge = judge();
            let (mut now, mut last_bad) = (100, 100);
            for (which, answer, wait) in answers {
                now += wait;
                let name = crate::step(if which == 0 { "http" } else { "tcp" });
                let answer = if answer == 0 { Err("no".to_owned()) } else { Ok(()) };
                if answer.is_err() { last_bad = now; }
                judge.observe(&name, answer, S(now));
                if let Standing::Healthy(period) = judge.standing(S(now)) {
                    proptest::prop_assert!(period <= S(now - last_bad));
                }
            }
        }
    }
}
