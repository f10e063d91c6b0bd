//! What becomes of a container that a service has already, when the release that it is of is to run.

use jiff::Timestamp;

use super::client::{Health, Phase, Seen};

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs, or is to be started.
    Keep,
    /// It is removed, and made anew.
    Renew,
    /// This attempt made it, and it ended: that is how the attempt ended.
    Failed,
}

/// `is_new`: it was made by this attempt. `was_cut`: it may have ended because Docker, or the host, did.
pub(super) fn fate(container: &Seen, is_new: bool, was_cut: bool) -> Fate {
    match container.phase {
        Phase::Up if is_new || !matches!(container.health, Some(Health::Unhealthy(_))) => Fate::Keep,
        Phase::Created if is_new => Fate::Keep,
        Phase::Ended | Phase::Restarting if is_new && !was_cut => Fate::Failed,
        _ => Fate::Renew,
    }
}

/// Whether the host was booted since: it may have lost its power, which is no fault of a release.
pub(super) fn is_of_an_earlier_boot(started_at: Option<Timestamp>) -> bool {
    let booted_s = sysinfo::System::boot_time().ok().and_then(|seconds| i64::try_from(seconds).ok());
    booted_s.zip(started_at).is_some_and(|(booted_s, at)| at.as_second() < booted_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_by_itself_in_this_attempt_is_how_the_attempt_ended() {
        use Fate::{Failed, Keep, Renew};
        let sick = || Some(Health::Unhealthy("503".to_owned()));
        // New and not cut, new and cut, from before.
        for (phase, health, expected) in [
            (Phase::Created, None, [Keep, Keep, Renew]),
            (Phase::Up, None, [Keep, Keep, Keep]),
            (Phase::Up, Some(Health::Starting), [Keep, Keep, Keep]),
            // Whoever waits for it finds out; one that was proven once is made anew.
            (Phase::Up, sick(), [Keep, Keep, Renew]),
            (Phase::Ended, None, [Failed, Renew, Renew]),
            (Phase::Restarting, None, [Failed, Renew, Renew]),
        ] {
            let seen = Seen { phase, health, ..Seen::named("tenants.web.v1.0") };
            let found = [(true, false), (true, true), (false, false)]
                .map(|(is_new, was_cut)| fate(&seen, is_new, was_cut));
            assert_eq!(found, expected, "{seen:?}");
        }
    }

    #[test]
    fn what_ran_before_the_host_was_booted_did_not_end_by_itself() {
        let at = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        assert!(is_of_an_earlier_boot(at(1_000_000_000)));
        assert!(!is_of_an_earlier_boot(Some(Timestamp::now())));
        assert!(!is_of_an_earlier_boot(None));
    }
}
