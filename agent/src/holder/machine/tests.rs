use std::path::PathBuf;

use landfall_common::Sha256;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn child(release: &str) -> ChildSpec {
    ChildSpec {
        release: Sha256::of(release.as_bytes()),
        release_name: release.parse().unwrap(),
        argv: vec!["serve".into()],
        environment: BTreeMap::new(),
        directory: PathBuf::from("/srv"),
        listen: Some("127.0.0.1:80".into()),
        ready: Ready::Notify { timeout: 5 * SECOND },
        stop_timeout: 3 * SECOND,
    }
}

fn note(code: i32) -> EndNote {
    EndNote { reason: format!("it exited with code {code}"), exit_code: Some(code), tail: Vec::new() }
}

/// Drives a machine as the shell would, with a process for every start.
struct World {
    machine: Machine,
    now: Mono,
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        Self { machine: Machine::new(1), now: Mono::ZERO, effects: Vec::new() }
    }

    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.step(event, self.now) {
                if let Effect::Start { serial, .. } = &effect {
                    let pid = u32::try_from(*serial).unwrap() + 100;
                    events.push_back(Event::Started { serial: *serial, pid });
                }
                self.effects.push(effect);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step(Event::Tick);
    }

    fn ask(&mut self, release: &str, attempt: &str) -> Reply {
        let (child, key) = (Box::new(child(release)), child(release).key());
        let request = Request::Handover { child, key, attempt: attempt.into() };
        self.step(Event::Request(request));
        self.effects
            .iter()
            .rev()
            .find_map(|effect| match effect {
                Effect::Answer(reply) => Some(reply.clone()),
                _ => None,
            })
            .unwrap()
    }

    /// The starts, ends and kills since the last look.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Start { serial, child } => Some(format!("start {serial} {}", child.release_name)),
                Effect::Terminate { serial } => Some(format!("end {serial}")),
                Effect::Kill { serial } => Some(format!("kill {serial}")),
                Effect::Exit { forget } => Some(format!("exit, forget {forget}")),
                Effect::ReadTail { .. } | Effect::Answer(_) => None,
            })
            .collect()
    }

    fn serving(&self) -> String {
        let status = self.machine.status(self.now);
        status.serving.map_or_else(String::new, |serving| serving.release_name.to_string())
    }

    fn end_of(&self, release: &str, attempt: &str) -> Option<Option<String>> {
        let status = self.machine.status(self.now);
        let end = status.end_of(child(release).key(), attempt)?;
        Some(end.failure.as_ref().map(|note| note.reason.clone()))
    }

    /// v1 serves as process 1.
    fn serving_v1() -> Self {
        let mut world = Self::new();
        world.ask("v1", "a");
        world.step(Event::Ready { serial: 1 });
        world.done();
        world
    }
}

#[test]
fn the_old_one_ends_only_when_the_new_one_is_ready() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    assert_eq!((world.done(), world.serving()), (vec!["start 2 v2".to_owned()], "v1".to_owned()));
    world.step(Event::Ready { serial: 2 });
    assert_eq!((world.done(), world.serving()), (vec!["end 1".to_owned()], "v2".to_owned()));
    assert_eq!(world.end_of("v2", "b"), Some(None));
    world.pass(3 * SECOND);
    assert_eq!(world.done(), ["kill 1"]);
    world.pass(3 * SECOND);
    assert!(world.done().is_empty(), "it was killed twice");
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert!(world.machine.status(world.now).ending.is_empty());
}

#[test]
fn a_new_one_that_is_never_ready_ends_and_the_old_one_stays() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.done();
    world.pass(5 * SECOND);
    assert_eq!((world.done(), world.serving()), (vec!["end 2".to_owned()], "v1".to_owned()));
    assert!(world.end_of("v2", "b").unwrap().unwrap().contains("within 5s"));
}

#[test]
fn a_new_one_that_ends_at_once_fails_the_handover_with_its_code() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.done();
    world.step(Event::Ended { serial: 2, note: note(3) });
    assert!(world.done().is_empty());
    assert_eq!(world.end_of("v2", "b"), Some(Some("it exited with code 3".to_owned())));
    assert_eq!(world.serving(), "v1");
}

#[test]
fn asking_again_for_the_same_changes_nothing() {
    let mut world = World::serving_v1();
    world.ask("v1", "z");
    assert!(world.done().is_empty(), "what serves was started again");
    world.ask("v2", "b");
    world.done();
    world.ask("v2", "b");
    assert!(world.done().is_empty(), "what is starting was started again");
    world.step(Event::Ended { serial: 2, note: note(1) });
    world.ask("v2", "b");
    assert!(world.done().is_empty(), "an attempt that had failed was made again");
    world.ask("v2", "c");
    assert_eq!(world.done(), ["start 3 v2"], "another attempt was not made");
}

#[test]
fn a_second_handover_waits_for_the_first() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.done();
    assert!(matches!(world.ask("v3", "c"), Reply::Busy { .. }));
    assert!(world.done().is_empty());
    world.step(Event::Ready { serial: 2 });
    assert!(matches!(world.ask("v3", "c"), Reply::Status(_)));
    assert_eq!(world.done(), ["end 1", "start 3 v3"]);
}

#[test]
fn asking_for_what_serves_gives_up_what_is_starting() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.done();
    world.ask("v1", "undo");
    assert_eq!((world.done(), world.serving()), (vec!["end 2".to_owned()], "v1".to_owned()));
    assert!(world.end_of("v2", "b").unwrap().unwrap().contains("given up"));
    assert_eq!(world.end_of("v1", "undo"), Some(None));
    assert!(matches!(world.ask("v2", "b"), Reply::Status(_)), "a late repetition began it again");
    assert!(world.done().is_empty());
}

#[test]
fn a_late_repetition_of_an_ended_handover_has_no_effect() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.step(Event::Ready { serial: 2 });
    world.ask("v3", "c");
    world.done();
    world.ask("v2", "b");
    assert!(world.done().is_empty(), "it gave up what was asked for after it");
    world.step(Event::Ready { serial: 3 });
    world.done();
    world.ask("v2", "b");
    assert_eq!((world.done(), world.serving()), (vec![], "v3".to_owned()));
}

#[test]
fn a_way_back_need_not_wait_until_the_old_one_has_ended() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.step(Event::Ready { serial: 2 });
    world.done();
    world.ask("v1", "undo");
    world.step(Event::Ready { serial: 3 });
    assert_eq!((world.done(), world.serving()), (vec!["start 3 v1".into(), "end 2".into()], "v1".to_owned()));
}

#[test]
fn what_ends_by_itself_is_started_again_at_growing_intervals() {
    let mut world = World::serving_v1();
    let mut pauses = Vec::new();
    for serial in 1..=12 {
        world.step(Event::Ended { serial, note: note(1) });
        let pause = world.machine.wake_at().unwrap() - world.now;
        pauses.push(pause.as_millis());
        world.pass(pause);
        world.step(Event::Ready { serial: serial + 1 });
    }
    assert_eq!(pauses[..4], [100, 200, 400, 800]);
    assert_eq!(pauses[11], 30_000);
    assert_eq!(world.machine.status(world.now).serving.unwrap().restarts, 12);
    world.pass(WELL_AFTER);
    world.step(Event::Ended { serial: 13, note: note(1) });
    assert_eq!(world.machine.wake_at().unwrap() - world.now, FIRST_PAUSE);
}

#[test]
fn a_release_that_cannot_stay_up_is_replaced_like_any_other() {
    let mut world = World::serving_v1();
    world.step(Event::Ended { serial: 1, note: note(1) });
    world.done();
    world.ask("v2", "b");
    world.step(Event::Ready { serial: 2 });
    assert_eq!((world.done(), world.serving()), (vec!["start 2 v2".to_owned()], "v2".to_owned()));
    world.pass(60 * SECOND);
    assert!(world.done().is_empty(), "the old one came back");
}

#[test]
fn staying_alive_is_readiness_if_nothing_else_was_asked() {
    let mut world = World::new();
    let mut alive = child("v1");
    alive.ready = Ready::Alive { period: SECOND };
    let request = Request::Handover { key: alive.key(), child: Box::new(alive), attempt: "a".into() };
    world.step(Event::Request(request));
    world.pass(SECOND / 2);
    assert_eq!(world.serving(), "");
    world.pass(SECOND / 2);
    assert_eq!(world.serving(), "v1");
}

#[test]
fn stopping_ends_everything_and_then_the_holder() {
    let mut world = World::serving_v1();
    world.ask("v2", "b");
    world.done();
    world.step(Event::Request(Request::Stop));
    assert_eq!(world.done(), ["end 2", "end 1"]);
    assert!(matches!(world.ask("v3", "c"), Reply::Refused { .. }));
    world.step(Event::Ended { serial: 2, note: note(0) });
    assert!(world.done().is_empty());
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert_eq!(world.done(), ["exit, forget true"]);
}

#[test]
fn a_host_that_goes_down_remembers_what_to_run() {
    let mut world = World::serving_v1();
    world.step(Event::Terminate);
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert_eq!(world.done(), ["end 1", "exit, forget false"]);
    assert_eq!(world.machine.remembered().serving.unwrap().child.release_name.as_str(), "v1");
}

proptest::proptest! {
    /// Whatever happens in whatever order: no process is lost (each that was started serves, starts, ends or
    /// has ended), and while anything serves, only a ready successor or a stop ends it.
    #[test]
    fn no_process_is_ever_forgotten(script in proptest::collection::vec((0u8..9, 0u64..8), 0..80)) {
        let mut world = World::new();
        let mut running = std::collections::BTreeSet::new();
        for (what, number) in script {
            match what {
                0..=2 => { world.ask(&format!("v{what}"), &format!("a{}", number % 3)); }
                3 | 4 => {
                    let serial = number + 1;
                    if running.contains(&serial) { world.step(Event::Ready { serial }); }
                }
                5 => {
                    let serial = number + 1;
                    if running.remove(&serial) { world.step(Event::Ended { serial, note: note(1) }); }
                }
                6 | 7 => world.pass(Duration::from_millis(number * 700)),
                _ => if number == 0 { world.step(Event::Request(Request::Stop)); },
            }
            for effect in std::mem::take(&mut world.effects) {
                if let Effect::Start { serial, .. } = effect { proptest::prop_assert!(running.insert(serial)); }
            }
            let status = world.machine.status(world.now);
            let mut known: Vec<u64> = status.ending.iter().map(|ending| u64::from(ending.pid) - 100).collect();
            known.extend(status.starting.and_then(|starting| starting.pid).map(|pid| u64::from(pid) - 100));
            if let Some(spec::Life::Running { pid, .. } | spec::Life::Starting { pid }) = status.serving.map(|s| s.life) {
                known.push(u64::from(pid) - 100);
            }
            known.sort_unstable();
            let running: Vec<u64> = running.iter().copied().collect();
            proptest::prop_assert_eq!(known, running);
        }
    }
}
