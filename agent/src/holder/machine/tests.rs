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
        hold: None,
        renewal: None,
    }
}

/// One that may not run beside others; connections wait for ten seconds.
fn alone(release: &str) -> ChildSpec {
    ChildSpec { hold: Some(10 * SECOND), ..child(release) }
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
        self.ask_for(child(release), attempt)
    }

    /// For one that may not run beside others.
    fn ask_alone(&mut self, release: &str, attempt: &str) -> Reply {
        self.ask_for(alone(release), attempt)
    }

    fn ask_for(&mut self, child: ChildSpec, attempt: &str) -> Reply {
        let (key, child) = (child.key(), Box::new(child));
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
                Effect::Refuse { address } => Some(format!("refuse {address}")),
                Effect::Admit => Some("admit".to_owned()),
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
        let end = status.end_of(child(release).key(), attempt);
        let end = end.or_else(|| status.end_of(alone(release).key(), attempt))?;
        Some(end.failure.as_ref().map(|note| note.reason.clone()))
    }

    fn life(&self) -> spec::Life {
        self.machine.status(self.now).serving.unwrap().life
    }

    fn is_refusing(&self) -> Option<bool> {
        self.machine.status(self.now).out.map(|out| out.refusing)
    }

    /// v1, which may not run beside others, serves as process 1.
    fn alone_v1() -> Self {
        let mut world = Self::new();
        world.ask_alone("v1", "a");
        world.step(Event::Ready { serial: 1 });
        assert_eq!(world.done(), ["start 1 v1"]);
        world
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

#[test]
fn what_may_not_run_beside_another_is_started_when_that_has_ended() {
    let mut world = World::alone_v1();
    world.ask_alone("v2", "b");
    assert_eq!((world.done(), world.is_refusing()), (vec!["end 1".to_owned()], Some(false)));
    // Asked again, as by an agent that was killed meanwhile: it joins.
    world.ask_alone("v2", "b");
    world.pass(2 * SECOND);
    assert!(world.done().is_empty());
    world.pass(SECOND);
    assert_eq!(world.done(), ["kill 1"]);
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert_eq!(world.done(), ["start 2 v2"]);
    world.step(Event::Ready { serial: 2 });
    assert!(world.done().is_empty());
    assert_eq!((world.serving(), world.is_refusing()), ("v2".to_owned(), None));
    assert_eq!(world.end_of("v2", "b"), Some(None));
}

#[test]
fn one_that_fails_makes_way_for_what_served_before_it() {
    let mut world = World::alone_v1();
    world.ask_alone("v2", "b");
    world.step(Event::Ended { serial: 1, note: note(0) });
    world.step(Event::Ended { serial: 2, note: note(3) });
    world.pass(Duration::ZERO);
    assert_eq!(world.done(), ["end 1", "start 2 v2", "start 3 v1"]);
    assert_eq!(world.end_of("v2", "b"), Some(Some("it exited with code 3".to_owned())));
    // The agent goes back, and is told when it serves.
    world.ask_alone("v1", "back");
    world.step(Event::Ready { serial: 3 });
    assert_eq!((world.end_of("v1", "back"), world.is_refusing()), (Some(None), None));
    assert!(world.done().is_empty());
}

#[test]
fn the_way_back_waits_until_what_failed_has_ended() {
    let mut world = World::alone_v1();
    world.ask_alone("v2", "b");
    world.step(Event::Ended { serial: 1, note: note(0) });
    // It is not ready in its five seconds, and takes its time to end.
    world.pass(5 * SECOND);
    assert_eq!(world.done(), ["end 1", "start 2 v2", "end 2"]);
    assert!(world.end_of("v2", "b").unwrap().unwrap().contains("within 5s"));
    world.ask_alone("v1", "back");
    world.pass(SECOND);
    assert!(world.done().is_empty(), "beside v2");
    world.step(Event::Ended { serial: 2, note: note(0) });
    assert_eq!(world.done(), ["start 3 v1"]);
    // The connections of the first outage still wait, and not for longer than they may.
    world.pass(3 * SECOND);
    assert_eq!(world.is_refusing(), Some(false));
    world.pass(SECOND);
    assert_eq!(world.done(), ["refuse 127.0.0.1:80", "end 3"]);
    world.step(Event::Ended { serial: 3, note: note(0) });
    world.pass(Duration::ZERO);
    world.step(Event::Ready { serial: 4 });
    assert_eq!(world.done(), ["start 4 v1", "admit"]);
    assert_eq!(world.is_refusing(), None);
}

#[test]
fn connections_that_have_waited_for_as_long_as_they_may_are_refused_and_that_is_told() {
    let mut world = World::alone_v1();
    let slow = ChildSpec { ready: Ready::Notify { timeout: 60 * SECOND }, ..alone("v2") };
    let key = slow.key();
    world.ask_for(slow, "b");
    world.pass(2 * SECOND);
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert_eq!(world.machine.wake_at(), Some(10 * SECOND));
    world.pass(8 * SECOND);
    assert_eq!(world.done(), ["end 1", "start 2 v2", "refuse 127.0.0.1:80", "end 2"]);
    let status = world.machine.status(world.now);
    let failure = status.end_of(key, "b").unwrap().failure.clone().unwrap();
    assert!(failure.reason.contains("within the 10s for which connections are held"), "{failure:?}");
    assert_eq!(world.is_refusing(), Some(true));
    world.step(Event::Ended { serial: 2, note: note(0) });
    world.pass(Duration::ZERO);
    world.step(Event::Ready { serial: 3 });
    assert_eq!(world.done(), ["start 3 v1", "admit"]);
}

#[test]
fn what_does_not_end_is_not_waited_for_for_ever_and_nothing_starts_beside_it() {
    let mut world = World::alone_v1();
    world.ask_alone("v2", "b");
    for _ in 0..30 {
        world.pass(SECOND);
    }
    assert_eq!(world.done(), ["end 1", "kill 1", "refuse 127.0.0.1:80"]);
    assert!(world.end_of("v2", "b").unwrap().unwrap().starts_with("what served before did not end"));
    // Neither does the way back wait for ever, and the holder does not turn in place.
    world.ask_alone("v1", "back");
    assert_eq!(world.machine.wake_at(), Some(40 * SECOND));
    world.pass(10 * SECOND);
    assert!(world.end_of("v1", "back").unwrap().unwrap().contains("did not end within 10s"));
    assert_eq!((world.done(), world.machine.wake_at()), (vec![], None));
    world.step(Event::Ended { serial: 1, note: note(0) });
    world.pass(Duration::ZERO);
    assert_eq!(world.done(), ["start 4 v1"]);
}

#[test]
fn a_service_that_is_stopped_while_it_is_out_starts_nothing() {
    let mut world = World::alone_v1();
    world.ask_alone("v2", "b");
    world.step(Event::Request(Request::Stop));
    world.step(Event::Ended { serial: 1, note: note(0) });
    assert_eq!(world.done(), ["end 1", "exit, forget true"]);
    assert!(world.end_of("v2", "b").unwrap().unwrap().contains("is being stopped"));
}

#[test]
fn what_a_dead_holder_left_ending_is_waited_for() {
    let mut world = World::new();
    let v1 = alone("v1");
    let key = v1.key();
    world.machine.resume(v1, key, world.now);
    let serial = world.machine.adopt_ending(key, 7, 3 * SECOND);
    world.pass(SECOND);
    assert!(world.done().is_empty());
    assert_eq!(world.machine.wake_at(), Some(3 * SECOND));
    world.step(Event::Ended { serial, note: note(0) });
    world.pass(Duration::ZERO);
    assert_eq!(world.done(), ["start 2 v1"]);
    assert!(matches!(world.life(), spec::Life::Starting { .. }));
}

proptest::proptest! {
    /// Whatever happens in whatever order to programs that may not run beside others: there is never more than
    /// one process, connections are refused only while nothing serves, and once everything that was asked to end
    /// has ended and time has passed, something runs or is being started.
    #[test]
    fn what_may_not_run_beside_others_never_does(script in proptest::collection::vec((0u8..9, 0u64..8), 0..80)) {
        let mut world = World::new();
        let (mut running, mut refusing, mut asked) = (std::collections::BTreeSet::new(), false, false);
        let settle = std::iter::repeat_n((9, 0), 60);
        for (what, number) in script.into_iter().chain(settle) {
            match what {
                0..=2 => {
                    world.ask_alone(&format!("v{what}"), &format!("a{}", number % 3));
                    asked = true;
                }
                3 | 4 => {
                    let serial = running.first().copied();
                    if let Some(serial) = serial { world.step(Event::Ready { serial }); }
                }
                5 => if let Some(serial) = running.pop_first() {
                    world.step(Event::Ended { serial, note: note(1) });
                },
                6..=8 => world.pass(Duration::from_millis(number * 900)),
                // In the end what is asked to end does, and what starts is ready.
                _ => {
                    let serial = running.first().copied();
                    let ending = world.machine.status(world.now).ending;
                    match serial {
                        Some(serial) if ending.iter().any(|e| u64::from(e.pid) == serial + 100) => {
                            running.remove(&serial);
                            world.step(Event::Ended { serial, note: note(0) });
                        }
                        Some(serial) => world.step(Event::Ready { serial }),
                        None => world.pass(Duration::from_secs(2)),
                    }
                }
            }
            for effect in std::mem::take(&mut world.effects) {
                match effect {
                    Effect::Start { serial, .. } => proptest::prop_assert!(running.insert(serial)),
                    Effect::Refuse { .. } => { proptest::prop_assert!(!refusing); refusing = true; }
                    Effect::Admit => { proptest::prop_assert!(refusing); refusing = false; }
                    _ => {}
                }
            }
            proptest::prop_assert!(running.len() <= 1, "{running:?} run beside each other");
            let serves = matches!(
                world.machine.status(world.now).serving.map(|serving| serving.life),
                Some(spec::Life::Running { .. })
            );
            proptest::prop_assert!(!(serves && refusing), "it serves, and its connections are refused");
            proptest::prop_assert_eq!(refusing, world.is_refusing() == Some(true));
        }
        let status = world.machine.status(world.now);
        let is_up = matches!(status.serving.as_ref().map(|s| &s.life), Some(spec::Life::Running { .. }));
        // One that never served and has failed is not started again by itself.
        proptest::prop_assert!(is_up || status.serving.is_none() || !asked, "{status:?}");
        proptest::prop_assert!(status.serving.is_none() || status.out.is_none());
    }

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
