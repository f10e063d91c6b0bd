//! Whether an assignment may be accepted: identity, ranges, fences, expiry.

use landfall_common::assignment::{Assignment, MAX_HEALTHY_DEADLINE, MAX_LEASE, Order};
use landfall_common::time::human;
use landfall_common::{Duration, Generation, Sha256, Timestamp};

use crate::record::Record;

/// What an assignment is to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Acceptance {
    /// New, and to be carried out.
    New,
    /// The one that was accepted already: nothing changes.
    Same,
}

/// Why an assignment is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not for this host, application or environment.
    #[error("it is for {what} {theirs}, and this is {what} {ours}")]
    Stranger {
        /// `host`, `application` or `environment`.
        what: &'static str,
        /// What the assignment names.
        theirs: String,
        /// What was pinned at enrolment.
        ours: String,
    },
    /// Its number is below one that was accepted.
    #[error("generation {offered} is older than generation {accepted}, which was accepted already")]
    Older {
        /// Its number.
        offered: Generation,
        /// The newest accepted.
        accepted: Generation,
    },
    /// Its number was accepted with other content.
    #[error("generation {0} was accepted already with other content")]
    OtherContent(Generation),
    /// Its number, or that of its lease, is so large that soon none would be left: accepted, it would shut out every
    /// later one.
    #[error("{what} {number} is none that is given out")]
    OutOfRange {
        /// `generation` or `migration lease`.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// A duration in it that no definition can have: accepted, the host would wait for it.
    #[error("{what} is {}, and must be {must}", human::format(*duration))]
    Duration {
        /// Which.
        what: &'static str,
        /// Its value.
        duration: Duration,
        /// Its range.
        must: String,
    },
    /// It came too late.
    #[error("it expired at {expired}, and it is {now}")]
    Expired {
        /// When.
        expired: Timestamp,
        /// The host's clock.
        now: Timestamp,
    },
    /// Its lease is not newer than one that was used here.
    #[error("migration lease {offered} is not newer than lease {seen}, which was used already")]
    StaleLease {
        /// Its number.
        offered: u64,
        /// The newest used.
        seen: u64,
    },
    /// A release of this name is on the disk, or active, with another manifest.
    #[error("release {name} is on this host with manifest {ours}, and the assignment names {theirs}")]
    OtherRelease {
        /// The name.
        name: String,
        /// The digest here.
        ours: String,
        /// The digest in the assignment.
        theirs: String,
    },
}

/// Holds an assignment against the record. Nothing is changed.
///
/// # Errors
/// [`Refusal`].
pub fn accept(
    record: &Record,
    assignment: &Assignment,
    digest: Sha256,
    now: Timestamp,
) -> Result<Acceptance, Refusal> {
    let identity = &record.identity;
    for (what, theirs, ours) in [
        ("host", assignment.host.as_str(), identity.host.as_str()),
        ("application", assignment.application.as_str(), identity.application.as_str()),
        ("environment", assignment.environment.as_str(), identity.environment.as_str()),
    ] {
        if theirs != ours {
            return Err(Refusal::Stranger { what, theirs: theirs.to_owned(), ours: ours.to_owned() });
        }
    }
    let fence = match assignment.order {
        Order::Migrate { fence, .. } => fence,
        _ => 0,
    };
    for (what, number) in [("generation", assignment.generation.0), ("migration lease", fence)] {
        if number > Generation::MAX.0 {
            return Err(Refusal::OutOfRange { what, number });
        }
    }
    durations(&assignment.order)?;
    if let Some(accepted) = record.accepted {
        if assignment.generation < accepted.generation {
            let offered = assignment.generation;
            return Err(Refusal::Older { offered, accepted: accepted.generation });
        }
        if assignment.generation == accepted.generation {
            return if digest == accepted.digest {
                Ok(Acceptance::Same)
            } else {
                Err(Refusal::OtherContent(assignment.generation))
            };
        }
    }
    if assignment.expires_at <= now {
        return Err(Refusal::Expired { expired: assignment.expires_at, now });
    }
    if let Order::Migrate { fence, .. } = assignment.order
        && fence <= record.fence
    {
        return Err(Refusal::StaleLease { offered: fence, seen: record.fence });
    }
    let name = &assignment.release.name;
    if let Some(installed) = record.installed.get(name)
        && installed.release.digest != assignment.release.digest
    {
        return Err(Refusal::OtherRelease {
            name: name.to_string(),
            ours: installed.release.digest.short(),
            theirs: assignment.release.digest.short(),
        });
    }
    Ok(Acceptance::New)
}

/// Holds the durations of an order against their ranges.
fn durations(order: &Order) -> Result<(), Refusal> {
    let at_most = |what, duration: Duration, most| {
        let must = || format!("above 0s, and at most {}", human::format(most));
        let wrong = duration.is_zero() || duration > most;
        if wrong { Err(Refusal::Duration { what, duration, must: must() }) } else { Ok(()) }
    };
    match order {
        Order::Stage | Order::Drain { .. } => Ok(()),
        &Order::Migrate { lease, .. } => at_most("the lease", lease, MAX_LEASE),
        &Order::Activate { min_healthy, healthy_deadline, .. }
        | &Order::Restart { min_healthy, healthy_deadline, .. } => {
            at_most("the deadline of health", healthy_deadline, MAX_HEALTHY_DEADLINE)?;
            if min_healthy >= healthy_deadline {
                let must = format!("shorter than its deadline, {}", human::format(healthy_deadline));
                return Err(Refusal::Duration { what: "the time of health", duration: min_healthy, must });
            }
            Ok(())
        }
    }
}
