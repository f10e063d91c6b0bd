//! Approvals: how many people must say yes before a rollout begins, who has, and to what.

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::Amount;
use landfall_common::time::human;
use landfall_common::{Duration, Sha256, Timestamp, canonical};
use serde::{Deserialize, Serialize};

use crate::command::{Overrides, RollRequest};
use crate::entry;
use crate::log::Actor;
use crate::reason::InLine;
use crate::record::{Place, PlaceRecord};
use crate::rollout::Rollout;
use crate::state::State;

/// Somebody's yes to a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whose.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
    /// In whose words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What is approved: which release, with which knobs, and whether its migration may have no way back. Whoever
/// approves names it as he saw it. `None` for a rollout that has begun.
#[must_use]
pub fn content(rollout: &Rollout) -> Option<Sha256> {
    #[derive(Serialize)]
    struct Content<'a> {
        place: &'a Place,
        release: &'a ReleaseRef,
        overrides: &'a Overrides,
        no_way_back: bool,
        #[serde(skip_serializing_if = "str::is_empty")]
        outside_window: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        unproven: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        without_evidence: &'a str,
    }
    let request = rollout.in_line()?;
    let content = Content {
        place: &rollout.place,
        release: &rollout.release,
        overrides: &request.overrides,
        no_way_back: request.no_way_back,
        outside_window: &request.outside_window,
        unproven: &request.unproven,
        without_evidence: &request.without_evidence,
    };
    Some(Sha256::of(&canonical::to_vec(&content).expect("made of names, numbers and digests only")))
}

/// What was asked for otherwise than the release itself says, a phrase each: an approval is of these too.
#[must_use]
pub fn terms(request: &RollRequest) -> Vec<String> {
    let Overrides {
        kind,
        canary,
        canary_hold,
        auto_promote,
        analysis,
        batch,
        window,
        spread,
        stagger,
        max_unavailable,
        min_healthy,
        healthy_deadline,
        progress_deadline,
        rollout_deadline,
        failure_budget,
        auto_rollback,
        watch,
    } = &request.overrides;
    let period = |period: &Option<Duration>| period.map(human::format);
    let text = |amount: &Option<Amount>| amount.map(|amount| amount.to_string());
    let flag = |flag: &Option<bool>| flag.map(|flag| flag.to_string());
    let spread = spread.as_ref().map(|s| s.label().map_or_else(|| "none".to_owned(), |l| l.to_string()));
    let set = [
        ("strategy", kind.map(|kind| kind.word().to_owned())),
        ("canary", canary.as_ref().map(ToString::to_string)),
        ("canary_hold", period(canary_hold)),
        ("auto_promote", flag(auto_promote)),
        ("analysis", flag(analysis)),
        ("batch", text(batch)),
        ("window", window.map(|window| window.word().to_owned())),
        ("spread", spread),
        ("stagger", period(stagger)),
        ("max_unavailable", text(max_unavailable)),
        ("min_healthy", period(min_healthy)),
        ("healthy_deadline", period(healthy_deadline)),
        ("progress_deadline", period(progress_deadline)),
        ("rollout_deadline", period(rollout_deadline)),
        ("failure_budget", text(failure_budget)),
        ("auto_rollback", flag(auto_rollback)),
        ("watch", period(watch)),
    ];
    let no_way_back = request.no_way_back.then(|| "a migration without a way back is accepted".to_owned());
    let set = set.into_iter().filter_map(|(knob, value)| Some(format!("{knob} = {}", value?)));
    let outside = (!request.outside_window.is_empty())
        .then(|| format!("windows and freezes do not hold it: {}", request.outside_window));
    let unproven =
        (!request.unproven.is_empty()).then(|| format!("it may be unproven elsewhere: {}", request.unproven));
    let without = (!request.without_evidence.is_empty())
        .then(|| format!("it may begin without evidence: {}", request.without_evidence));
    set.chain(no_way_back).chain(outside).chain(unproven).chain(without).collect()
}

/// How many people other than the one who asks must approve a release here: as many as it says itself, or as the
/// release in force says, whichever are more. A release does not lift what holds until it is in force.
#[must_use]
pub fn needed(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> u32 {
    entry::entries(state, place, release).map(|entry| entry.approvals).max().unwrap_or_default()
}

/// What a rollout in line waits for, where it lacks approvals.
pub(crate) fn missing(state: &State, place: &PlaceRecord, rollout: &Rollout) -> Option<InLine> {
    let needed = needed(state, place, &rollout.release);
    let given = u32::try_from(rollout.approvals.len()).unwrap_or(u32::MAX);
    (given < needed).then(|| InLine::Unapproved {
        rollout: rollout.id.clone(),
        needed,
        asked_by: rollout.by.to_string(),
        approved_by: rollout.approvals.iter().map(|approval| approval.by.to_string()).collect(),
    })
}
