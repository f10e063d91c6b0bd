//! Laws of draining: what holds in whatever order things happen, and fail.

use landfall_agent_core::placement::TrafficOutline;
use landfall_agent_core::{Action, Aim, Effect, Event, Target};
use landfall_common::assignment::{Order, RestartKind};
use landfall_common::report::{Health, OutcomeKind, Traffic};

use crate::harness::{Harness, S, activate, assignment, stage};
use crate::restart::restart;

/// A host, and what stands before it.
struct World {
    host: Harness,
    generation: u64,
    /// Which orders to drain were given, and which way.
    given: Vec<(u64, bool)>,
    /// Whether the host has answered that it is drained, and not yet that it is not.
    drained: bool,
    /// What the proxy was asked for and has not answered.
    asked: Option<Aim>,
    /// Where the proxy leads requests.
    led: Target,
}

impl World {
    fn new() -> Self {
        let mut host = Harness::new();
        host.traffic = Some(TrafficOutline::Gate);
        host.commit(1, "v1");
        Self { host, generation: 1, given: Vec::new(), drained: false, asked: None, led: Target::Open }
    }

    fn order(&mut self, of: impl FnOnce(u64) -> landfall_common::assignment::Assignment) {
        self.generation += 1;
        let assignment = of(self.generation);
        if let Order::Drain { away } = assignment.order {
            self.given.push((self.generation, away));
        }
        self.host.assign(assignment);
    }

    fn drain(&mut self, away: bool) {
        let active = self.host.record().active().unwrap().release.name.to_string();
        self.order(|generation| assignment(generation, &active, Order::Drain { away }));
    }

    fn run_one(&mut self, fails: bool) {
        // What changes the host is done one after the other, in the order in which it was asked for.
        self.answer(!fails, !fails);
        let Some(awaited) = self.host.record().state.awaits() else { return };
        if fails {
            let name = match &awaited {
                Effect::Fetch { .. } => "fetch".to_owned(),
                Effect::Unpack { .. } => "unpack".to_owned(),
                Effect::Smoke { step, .. } => format!("smoke {step}"),
                Effect::Act { action, .. } => action.name().to_string(),
                _ => return,
            };
            self.host.fail_next(&name);
        }
        if let Effect::Act { action: Action::Lead { aim }, .. } = &awaited
            && !fails
        {
            self.led = aim.to.clone();
        }
        self.host.run_one();
    }

    /// The proxy answers, or it does not; then nobody knows whether it has heard.
    fn answer(&mut self, well: bool, heard: bool) {
        let Some(aim) = self.asked.take() else { return };
        if well || heard {
            self.led = aim.to.clone();
        }
        let result = if well { Ok(()) } else { Err("it does not answer".to_owned()) };
        self.host.send(Event::Aimed { aim, result });
    }

    /// What has followed from something; the host must not bring requests to itself while it is drained.
    fn follows(&mut self) -> Result<(), proptest::test_runner::TestCaseError> {
        let before = self.drained;
        let outcome = self.host.record().outcome.as_ref();
        if let Some(outcome) = outcome.filter(|outcome| outcome.result == OutcomeKind::Committed)
            && let Some((_, away)) = self.given.iter().find(|(given, _)| *given == outcome.generation.0)
        {
            self.drained = *away;
        }
        let opens = |effect: &Effect| match effect {
            Effect::Aim { aim } | Effect::Act { action: Action::Lead { aim }, .. } => aim.to == Target::Open,
            _ => false,
        };
        let effects = self.host.effects().to_vec();
        self.host.clear();
        let opened = effects.iter().find(|effect| opens(effect));
        proptest::prop_assert!(!(before && self.drained) || opened.is_none(), "it is drained: {opened:?}");
        let newest = effects.into_iter().rev().find_map(|effect| match effect {
            Effect::Aim { aim } => Some(aim),
            _ => None,
        });
        self.asked = newest.or(self.asked.take());
        let says = self.host.report().traffic;
        proptest::prop_assert!(says != Traffic::Drained || self.led == Target::Nowhere, "it only says so");
        proptest::prop_assert!(!self.drained || says != Traffic::Led, "it is drained, and says {says:?}");
        Ok(())
    }
}

proptest::proptest! {
    /// A host that has said that it is drained leads no request to itself, whatever it is asked, whatever fails, and however
    /// often its agent is killed; it says that it is drained only where that is so; and once it is given free, and healthy,
    /// requests come back.
    #[test]
    fn requests_stay_away_until_somebody_says_otherwise_and_then_come_back(
        moves in proptest::collection::vec((0..14u8, 0..12u64), 1..100),
    ) {
        let mut world = World::new();
        for (what, number) in moves {
            match what {
                0 | 1 => world.drain(true),
                2 => world.drain(false),
                3 => {
                    world.host.traffic = (!number.is_multiple_of(4)).then_some(TrafficOutline::Gate);
                    world.order(|generation| activate(generation, &format!("v{}", number % 4)));
                }
                4 => world.order(|generation| stage(generation, &format!("v{}", number % 4))),
                5 => {
                    let active = world.host.record().active().unwrap().release.name.to_string();
                    world.order(|generation| restart(generation, &active, &["web"], RestartKind::Restart));
                }
                6..=8 => world.run_one(number == 0),
                9 => {
                    // What it was about to tell the proxy may have been told.
                    if let Some(aim) = world.asked.take().filter(|_| number.is_multiple_of(2)) {
                        world.led = aim.to;
                    }
                    world.host.restart();
                }
                10 => world.host.checks_answer(if number < 4 { Err("status 500") } else { Ok(()) }),
                11 => world.host.wait(S(number)),
                12 => world.host.send(Event::Misled),
                _ => world.answer(number > 3, number > 1),
            }
            world.follows()?;
        }
        world.drain(false);
        for _ in 0..30 {
            world.follows()?;
            world.answer(true, true);
            world.follows()?;
            world.run_one(false);
            world.follows()?;
            world.host.checks_answer(Ok(()));
            world.follows()?;
            world.host.wait(S(5));
        }
        let record = world.host.record().clone();
        let report = world.host.report();
        // What was left in place although it failed never becomes healthy by itself.
        if record.in_doubt && report.traffic == Traffic::Returning {
            proptest::prop_assert!(matches!(report.health, Health::Unhealthy { .. }), "{:?}", report.health);
            return Ok(());
        }
        proptest::prop_assert_eq!(record.led_away, None);
        let is_gated = record.active().unwrap().outline.traffic.is_some();
        proptest::prop_assert_eq!(world.host.report().traffic, if is_gated { Traffic::Led } else { Traffic::Ungated });
        if !record.in_doubt {
            proptest::prop_assert_eq!(world.led, Target::Open);
        }
    }
}
