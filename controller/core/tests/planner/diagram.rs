//! docs/rollouts.md is held against the planner: its diagram of states, and its table of defaults.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::strategy::{Amount, Before, Calendar, Entry, Strategy};
use landfall_common::time::human;
use landfall_common::{Duration, GateName};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::contract::ContractFacts;
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;

use crate::world::{World, host_id, migration, name, strategy};

/// From which status to which; from none where a rollout begins.
pub type Moves = BTreeSet<(Option<StatusWord>, StatusWord)>;

const PAGE: &str = include_str!("../../../../docs/rollouts.md");
/// What stands for the beginning.
const BEGINNING: &str = "[*]";

/// The diagram: the arrows, and which states are inside of which.
struct Diagram {
    arrows: Vec<(String, String)>,
    inside: BTreeMap<String, BTreeSet<String>>,
}

impl Diagram {
    fn read() -> Self {
        let block = PAGE.split("```mermaid\n").nth(1).unwrap().split("```").next().unwrap();
        let mut diagram = Self { arrows: Vec::new(), inside: BTreeMap::new() };
        let mut around: Option<String> = None;
        for line in block.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("state ").and_then(|rest| rest.strip_suffix(" {")) {
                around = Some(name.to_owned());
            } else if line == "}" {
                around = None;
            } else if let Some((from, to)) = line.split_once(" --> ") {
                let to = to.split(" : ").next().unwrap();
                if let Some(around) = &around {
                    diagram
                        .inside
                        .entry(around.clone())
                        .or_default()
                        .extend([from.to_owned(), to.to_owned()]);
                }
                diagram.arrows.push((from.to_owned(), to.to_owned()));
            }
        }
        diagram
    }

    /// The states that a name stands for.
    fn each(&self, name: &str) -> BTreeSet<String> {
        self.inside.get(name).cloned().unwrap_or_else(|| BTreeSet::from([name.to_owned()]))
    }

    fn after(&self, state: &str) -> BTreeSet<String> {
        let leaving = self.arrows.iter().filter(|(from, _)| self.each(from).contains(state));
        leaving.flat_map(|(_, to)| self.each(to)).collect()
    }

    /// Whether there is a way from one to the other; what is durable may be several arrows on. Nobody is paused, or
    /// waits for a word, on the way, nor is what has ended a way to anything.
    fn leads(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut ahead = self.after(from);
        while let Some(state) = ahead.pop_first() {
            if state == to {
                return true;
            }
            if seen.insert(state.clone()) && !["paused", "waiting", BEGINNING].contains(&&*state) {
                ahead.extend(self.after(&state));
            }
        }
        false
    }
}

fn word(status: StatusWord) -> String {
    status.as_str().replace(' ', "_")
}

/// What the simulation did is on the diagram, and all of the diagram was done, there or in the scenes below.
pub fn holds(mut moves: Moves) {
    moves.extend(scenes());
    let diagram = Diagram::read();
    let moves: BTreeSet<(String, String)> = moves
        .into_iter()
        .map(|(from, to)| (from.map_or_else(|| BEGINNING.to_owned(), word), word(to)))
        .collect();
    for (from, to) in &moves {
        assert!(diagram.leads(from, to), "docs/rollouts.md knows no way from {from} to {to}");
    }
    for (from, to) in diagram.arrows.iter().filter(|(_, to)| to != BEGINNING) {
        let (froms, tos) = (diagram.each(from), diagram.each(to));
        let gone = moves.iter().any(|(from, to)| froms.contains(from) && tos.contains(to));
        assert!(gone, "nobody goes from {from} to {to}, as docs/rollouts.md has it");
    }
}

/// What the simulation does not do: it asks for one thing at a time.
fn scenes() -> Moves {
    let mut world = World::new(3);
    for (counter, release) in (1..).zip(["v1", "v2", "v3", "v4"]) {
        world.publish(release, counter, None, strategy());
    }
    world.must_succeed("v1");
    let queue = |release: &str| RollRequest { if_held: IfHeld::Queue, ..World::request(release) };
    let reason = String::new;
    // Two in line: one is paused, goes on, and gives up; the other has its turn.
    world.roll(queue("v2")).unwrap();
    let second = world.roll(queue("v3")).unwrap();
    world.ask(Action::Pause { rollout: second.clone(), reason: reason() }).unwrap();
    world.ask(Action::Resume { rollout: second.clone(), reason: String::new() }).unwrap();
    world.ask(Action::Abort { rollout: second, go_back: false, reason: reason() }).unwrap();
    let third = world.roll(queue("v3")).unwrap();
    assert_eq!(world.ended(&third), StatusWord::Succeeded);
    // One that is older than what has come by then.
    world.roll(queue("v4")).unwrap();
    let late = world.roll(queue("v3")).unwrap();
    assert_eq!(world.ended(&late), StatusWord::Failed);
    // One that is under way, and one in line, give way to another.
    world.publish("v5", 5, None, strategy());
    world.publish("v6", 6, None, strategy());
    world.roll(queue("v5")).unwrap();
    world.roll(queue("v5")).unwrap();
    let last = world.roll(RollRequest { if_held: IfHeld::Supersede, ..World::request("v6") }).unwrap();
    assert_eq!(world.ended(&last), StatusWord::Succeeded);
    // One whose contract waits for a host that is away when the watch is over.
    let facts = ContractFacts { lease: Duration::from_secs(60), idempotent: false };
    world.contracts.insert(name("v8"), facts);
    world.publish("v8", 8, None, Strategy { watch: Duration::from_secs(60), ..strategy() });
    let contracts = world.release("v8").unwrap();
    world.until("it is watched", |w| w.word(&contracts) == StatusWord::Watching);
    world.cut.push(host_id(2));
    world.until("it waits", |w| w.word(&contracts) == StatusWord::Waiting);
    world.cut.clear();
    assert_eq!(world.ended(&contracts), StatusWord::Succeeded);
    // Gates before the first batch: one lets a migration run, one says no.
    for (counter, release, verdict) in [(9, "v9", GateVerdict::Open), (10, "v10", GateVerdict::Failed)] {
        let gates = vec![crate::gates::gate("dba", Before::First)];
        world.publish(release, counter, migration(WayBackKind::Compatible), Strategy { gates, ..strategy() });
        let rollout = world.release(release).unwrap();
        world.until("a gate", |world| world.word(&rollout) == StatusWord::Waiting);
        let gate = GateName::new("dba").unwrap();
        let reason = "we looked".to_owned();
        world
            .ask(Action::AnswerGate { rollout: rollout.clone(), gate, batch: None, verdict, reason })
            .unwrap();
        let end = world.ended(&rollout);
        assert_eq!(end == StatusWord::Succeeded, verdict == GateVerdict::Open);
    }
    // A release that nobody can stage.
    world.publish("v11", 11, None, strategy());
    world.behaves("v11", crate::hosts::Behaviour::Unstageable);
    let never = world.release("v11").unwrap();
    assert_eq!(world.ended(&never), StatusWord::Failed);
    world.moves.extend(fails_in_the_watch());
    world.moves
}

/// It fails on one host while it is watched, and may.
fn fails_in_the_watch() -> Moves {
    let mut world = World::new(3);
    let (watch, failure_budget) = (Duration::from_secs(600), Amount::Count(1));
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { watch, failure_budget, ..strategy() });
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    world.host(2).behaviour.insert(name("v2"), crate::hosts::Behaviour::Bad);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    world.moves
}

#[test]
fn the_page_tells_the_defaults_as_they_are() {
    let rows = PAGE.split("## The knobs").nth(1).unwrap().lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim_matches('`').trim_matches('"').to_owned()))
    });
    let told: BTreeMap<String, String> = rows.collect();
    // Each of them by name, so that a new one is not forgotten.
    let Strategy {
        kind,
        canary,
        canary_hold,
        auto_promote,
        analysis,
        limits,
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
        late_rollback,
        watch,
        gates,
        overrides,
        entry: Entry { approvals, calendar: Calendar { zone, windows, freezes }, after, evidence },
    } = Strategy::default();
    let period = |period: landfall_common::Duration| {
        if period.is_zero() { "none".to_owned() } else { human::format(period) }
    };
    let among = |many: usize| if many == 0 { "none".to_owned() } else { many.to_string() };
    let are = [
        ("strategy", kind.word().to_owned()),
        ("canary", canary.to_string()),
        ("canary_hold", period(canary_hold)),
        ("auto_promote", auto_promote.to_string()),
        ("analysis", analysis.is_some().to_string()),
        ("limits", limits.map_or("none", |_| "some").to_owned()),
        ("batch", batch.to_string()),
        ("window", window.word().to_owned()),
        ("spread", spread.map_or_else(|| "none".to_owned(), |label| label.to_string())),
        ("stagger", period(stagger)),
        ("max_unavailable", max_unavailable.to_string()),
        ("min_healthy", period(min_healthy)),
        ("healthy_deadline", period(healthy_deadline)),
        ("progress_deadline", period(progress_deadline)),
        ("rollout_deadline", period(rollout_deadline)),
        ("failure_budget", failure_budget.to_string()),
        ("auto_rollback", auto_rollback.to_string()),
        ("late_rollback", late_rollback.to_string()),
        ("watch", period(watch)),
        ("gates", among(gates.len())),
        ("overrides", overrides.map_or("all", |_| "some").to_owned()),
        ("approvals", approvals.to_string()),
        ("release_windows", among(windows.len())),
        ("time_zone", zone.to_string()),
        ("freezes", among(freezes.len())),
        ("after", among(after.len())),
        ("evidence", among(evidence.len())),
    ];
    for (knob, default) in are {
        assert_eq!(told.get(knob), Some(&default), "{knob}");
    }
}
