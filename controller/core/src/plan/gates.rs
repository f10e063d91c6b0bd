//! The gates that others hold: before a batch begins somebody outside says yes, by himself or because he was asked. What
//! was said before the batch before was proven does not count, no answer opens nothing, and whoever says no has the
//! release go back, in the watch as well.

use landfall_common::Duration;
use landfall_common::time::human;

use crate::gate::{self, AtGates, GateVerdict, Standing};
use crate::log::LogEvent;
use crate::reason::{AtGate, Wait};
use crate::refusal::seconds;
use crate::rollout::{Rollout, Stage};

use super::Turn;
use super::blue_green;
use super::canary;
use super::run;
use super::stage;
use super::table::Table;

/// A batch may begin as far as the hosts are concerned: it does, or its gates are asked from now on. `without_canary` if
/// somebody has let it go although nobody is left of the canary.
pub(super) fn before(table: &mut Table<'_>, batch: u32, without_canary: bool) -> Turn {
    if gate::held(table.state, table.rollout(), batch).is_empty() {
        return begin(table, batch);
    }
    let now = table.now;
    let at = AtGates { without_canary, ..AtGates::before(batch) };
    table.rollout_mut().enter(Stage::Gated { at }, now);
    Turn::Taken
}

fn begin(table: &mut Table<'_>, batch: u32) -> Turn {
    match batch {
        1 => stage::leave(table),
        2 if table.rollout().groups.is_some() => blue_green::switch(table),
        _ => run::open(table, batch),
    }
}

/// Lets the batch begin once every gate is open, or somebody has overruled them.
pub(super) fn advance(table: &mut Table<'_>, at: &AtGates) -> Turn {
    let done = at.next - 1;
    let standings = standings(table, at);
    if let Some(turn) = refused(table, at, &standings) {
        return turn;
    }
    if let Err(turn) = run::begin(table, done) {
        return turn;
    }
    let open = are_open(at, &standings);
    // The hosts are asked anew: what they had shown when the gates were asked may be over.
    let (healthy, patience) = shown_again(table.rollout(), done);
    let look = (done > 0).then(|| run::look(table, done, healthy));
    // Its hosts were left out or removed since: whether the others follow without its evidence is for a person to say.
    let is_gone = look.as_ref().is_some_and(|look| look.empty) && done == 1 && table.rollout().has_canary();
    if is_gone && !at.without_canary {
        return canary::gone(table);
    }
    let kept = look.as_ref().is_none_or(|look| look.settled && (look.proven > 0 || done > 1 || look.empty));
    if open && kept {
        log(table, at, &standings);
        return begin(table, at.next);
    }
    if let Some(turn) = unanswered(table, at, &standings) {
        return turn;
    }
    let waits = look.map_or_else(Vec::new, |look| look.waits);
    if open && opened_for(table, &standings) >= patience {
        let healthy = human::format(healthy);
        let why = waits.first().map_or_else(String::new, ToString::to_string);
        return table.pause(format!(
            "the gates before batch {} are open, and batch {done} was not healthy for {healthy} since: {why}. `ctl \
             resume` waits on, {}",
            at.next,
            table.way_out()
        ));
    }
    report(table, at, &standings);
    run::report(table, waits);
    Turn::None
}

/// For how long the hosts of a batch are to be healthy again, and how long that is waited for: of a canary for as long as
/// it is held.
fn shown_again(rollout: &Rollout, batch: u32) -> (Duration, Duration) {
    let strategy = &rollout.strategy;
    let is_held = batch == 1 && rollout.has_canary() && strategy.holds_canary();
    let hold = if is_held { strategy.canary_hold } else { Duration::ZERO };
    (strategy.min_healthy.max(hold), strategy.progress_deadline + hold)
}

/// The gates that hold on while the release is watched: whether the watch may end as far as they are concerned. Nobody
/// else is let go, and nothing ends, for what one has just said no to.
pub(super) fn in_watch(table: &mut Table<'_>, at: &AtGates) -> Result<bool, Turn> {
    let standings = standings(table, at);
    if let Some(turn) = refused(table, at, &standings).or_else(|| unanswered(table, at, &standings)) {
        return Err(turn);
    }
    report(table, at, &standings);
    table.held_until = table.held_until.max(opened_at(table, &standings));
    Ok(are_open(at, &standings))
}

fn standings<'s>(table: &Table<'s>, at: &'s AtGates) -> Vec<Standing<'s>> {
    let state = table.state;
    let gates = gate::held(state, table.rollout(), at.next).into_iter();
    gates.map(|gate| Standing::of(state, table.rollout(), at, gate, table.now)).collect()
}

fn are_open(at: &AtGates, standings: &[Standing<'_>]) -> bool {
    counting(at, standings).all(Standing::is_open)
}

/// Those that nobody has overruled.
fn counting<'s, 'g>(
    at: &'s AtGates,
    standings: &'s [Standing<'g>],
) -> impl Iterator<Item = &'s Standing<'g>> {
    standings.iter().filter(|standing| at.counts(&standing.gate.name))
}

/// The release goes back that somebody has said no to.
fn refused(table: &mut Table<'_>, at: &AtGates, standings: &[Standing<'_>]) -> Option<Turn> {
    if let Some(turn) = run::without_anybody(table) {
        return Some(turn);
    }
    let says_no = |standing: &&Standing<'_>| standing.verdict() == Some(GateVerdict::Failed);
    let standing = counting(at, standings).find(says_no)?;
    Some(run::turn_back(table, format!("gate {standing}"), "`ctl promote` overrules the gates"))
}

/// A rollout pauses of which nobody has said anything for too long.
fn unanswered(table: &mut Table<'_>, at: &AtGates, standings: &[Standing<'_>]) -> Option<Turn> {
    let silent_for = |standing: &Standing<'_>| standing.silent_for(table.seen_for(), table.now);
    let is_late =
        |standing: &&Standing<'_>| standing.is_silent() && silent_for(standing) >= standing.gate.deadline;
    let silent = counting(at, standings).find(is_late)?;
    let (name, period) = (&silent.gate.name, seconds(silent_for(silent)));
    let waits = gate::what_waits(at.next, table.rollout().batches);
    let after = format!("`ctl promote` overrules the gates, {}", table.way_out());
    Some(table.pause(match &silent.gate.ask {
        None => format!(
            "gate {name} has had no answer for {period}, and {waits} waits for it: `ctl gate open {name} --reason …` and \
             `ctl resume` go on, {after}"
        ),
        Some(ask) => {
            let last = silent.error.map_or_else(String::new, |error| format!(" ({error})"));
            format!(
                "gate {name} has had no answer from {} for {period}{last}, and {waits} waits for it: `ctl resume` asks \
                 again, {after}",
                ask.url
            )
        }
    }))
}

/// For how long the gates have been open under the eyes of this controller.
fn opened_for(table: &Table<'_>, standings: &[Standing<'_>]) -> Duration {
    let since = opened_at(table, standings).max(table.state.started_at);
    table.seen_for().min(table.now.since(since))
}

/// When the last of them was said to be what it is.
fn opened_at(table: &Table<'_>, standings: &[Standing<'_>]) -> landfall_common::Timestamp {
    let said = standings.iter().filter_map(|standing| standing.said);
    said.map(|said| table.state.counted(said.since, table.now)).max().unwrap_or_default()
}

fn report(table: &mut Table<'_>, at: &AtGates, standings: &[Standing<'_>]) {
    let (rollout, of) = (table.rollout().id.clone(), table.rollout().batches);
    for standing in counting(at, standings).filter(|standing| !standing.is_open()) {
        let (gate, period) = (standing.gate, standing.silent_for(table.seen_for(), table.now));
        let why = match (&standing.said, &gate.ask) {
            (None, None) => AtGate::NoAnswer { period, deadline: gate.deadline },
            (None, Some(ask)) => AtGate::Unanswered {
                url: ask.url.clone(),
                period,
                deadline: gate.deadline,
                error: standing.error.unwrap_or_default().to_owned(),
            },
            (Some(said), None) => AtGate::Said {
                verdict: said.verdict,
                by: said.by.to_string(),
                since: said.since,
                reason: said.reason.to_owned(),
            },
            (Some(said), Some(ask)) => AtGate::Answered {
                url: ask.url.clone(),
                verdict: said.verdict,
                reason: said.reason.to_owned(),
                every: ask.every,
            },
        };
        table.wait(Wait::Gate { rollout: rollout.clone(), gate: gate.name.clone(), next: at.next, of, why });
    }
}

/// Writes down on whose word the batch begins.
fn log(table: &mut Table<'_>, at: &AtGates, standings: &[Standing<'_>]) {
    let event = LogEvent::GatesPassed {
        rollout: table.rollout().id.clone(),
        batch: u64::from(at.next),
        gates: standings.iter().map(ToString::to_string).collect(),
        overruled: at.overruled,
    };
    table.log(event);
}
