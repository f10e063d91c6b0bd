//! Whether what is set otherwise for one rollout lies within what its definition lets be set.

use landfall_common::strategy::{Asked, Canary, Knob, Spread, Strategy, Window};

use crate::command::Overrides;
use crate::observation::Host;
use crate::record::{Place, ReleaseRecord};
use crate::refusal::Refusal;
use crate::state::State;

/// Holds what is asked for against the ranges of the definition; what is as the definition has it is no difference.
///
/// # Errors
/// [`Refusal::Range`].
pub(crate) fn check(
    state: &State,
    place: &Place,
    release: &ReleaseRecord,
    (base, asked): (&Strategy, &Overrides),
) -> Result<(), Refusal> {
    let Some(ranges) = &base.overrides else { return Ok(()) };
    let all: Vec<&Host> = state.hosts(place).collect();
    let hosts = Hosts {
        all: all.len(),
        window: asked.window.unwrap_or(base.window),
        targeted: all.into_iter().filter(|host| host.record.cordon.is_none()).collect(),
    };
    let refused = |knob: Knob, value: String, rule: String| Refusal::Range {
        knob: knob.word(),
        value,
        place: Box::new(place.clone()),
        release: release.release.name.clone(),
        rule,
    };
    for (knob, value, asked) in different(base, asked, &hosts) {
        match ranges.of(knob) {
            Some(range) if range.holds(&asked, hosts.of(knob)) => {}
            Some(range) => return Err(refused(knob, value, format!("lets it be {range}"))),
            None => {
                let others: Vec<&str> = ranges.knobs().map(Knob::word).collect();
                let rule = match others[..] {
                    [] => "lets nothing be set otherwise".to_owned(),
                    _ => format!("lets only {} be set otherwise", others.join(", ")),
                };
                return Err(refused(knob, value, rule));
            }
        }
    }
    Ok(())
}

/// The hosts of a place, of which a share is so many.
struct Hosts<'a> {
    all: usize,
    window: Window,
    targeted: Vec<&'a Host>,
}

impl Hosts<'_> {
    /// With how many a knob is counted: what is out counts whoever keeps it out, and so does what a window holds.
    fn of(&self, knob: Knob) -> usize {
        match knob {
            Knob::MaxUnavailable => self.all,
            Knob::Batch if self.window == Window::Sliding => self.all,
            _ => self.targeted.len(),
        }
    }
}

/// The knobs that differ, as they were asked for, and what that comes to with these hosts.
fn different(base: &Strategy, asked: &Overrides, hosts: &Hosts<'_>) -> Vec<(Knob, String, Asked)> {
    let mut found = Vec::new();
    let mut take = |knob: Knob, value: String, asked: Asked| found.push((knob, value, asked));
    let word = |word: &str| Asked::Word(word.to_owned());
    let switch = |on: bool| if on { "on" } else { "off" };
    if let Some(kind) = asked.kind.filter(|kind| *kind != base.kind) {
        take(Knob::Strategy, kind.word().to_owned(), word(kind.word()));
    }
    if let Some(canary) = asked.canary.as_ref().filter(|canary| **canary != base.canary) {
        let count = match canary {
            Canary::Labels { .. } => {
                hosts.targeted.iter().filter(|host| canary.names(&host.record.labels)).count()
            }
            Canary::Count(_) | Canary::Percent { .. } => canary.count_of(hosts.of(Knob::Canary)),
        };
        take(Knob::Canary, canary.to_string(), Asked::Hosts(count));
    }
    let times = [
        (Knob::CanaryHold, asked.canary_hold, base.canary_hold),
        (Knob::Stagger, asked.stagger, base.stagger),
        (Knob::MinHealthy, asked.min_healthy, base.min_healthy),
        (Knob::HealthyDeadline, asked.healthy_deadline, base.healthy_deadline),
        (Knob::ProgressDeadline, asked.progress_deadline, base.progress_deadline),
        (Knob::RolloutDeadline, asked.rollout_deadline, base.rollout_deadline),
        (Knob::Watch, asked.watch, base.watch),
    ];
    for (knob, asked, base) in times {
        if let Some(time) = asked.filter(|time| *time != base) {
            take(knob, landfall_common::time::human::format(time), Asked::Time(time));
        }
    }
    let switches = [
        (Knob::AutoPromote, asked.auto_promote, base.auto_promote),
        (Knob::Analysis, asked.analysis, base.analysis.is_some()),
        (Knob::AutoRollback, asked.auto_rollback, base.auto_rollback),
    ];
    for (knob, asked, base) in switches {
        if let Some(on) = asked.filter(|on| *on != base) {
            take(knob, switch(on).to_owned(), word(switch(on)));
        }
    }
    let amounts = [
        (Knob::Batch, asked.batch, base.batch),
        (Knob::MaxUnavailable, asked.max_unavailable, base.max_unavailable),
        (Knob::FailureBudget, asked.failure_budget, base.failure_budget),
    ];
    for (knob, asked, base) in amounts {
        if let Some(amount) = asked.filter(|amount| *amount != base) {
            let comes_to = match knob {
                Knob::FailureBudget => amount.at_most(hosts.of(knob)),
                _ => amount.at_least_one(hosts.of(knob)),
            };
            take(knob, amount.to_string(), Asked::Hosts(comes_to));
        }
    }
    if let Some(window) = asked.window.filter(|window| *window != base.window) {
        take(Knob::Window, window.word().to_owned(), word(window.word()));
    }
    if let Some(label) = asked.spread.as_ref().map(Spread::label).filter(|label| *label != base.spread) {
        let label = label.map_or_else(|| Spread::NONE.to_owned(), |label| label.to_string());
        take(Knob::Spread, label.clone(), Asked::Word(label));
    }
    found
}
