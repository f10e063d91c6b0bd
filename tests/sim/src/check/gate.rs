//! P5, the gate is honest, and P6, bad releases go back: a batch begins only on evidence of the one before;
//! success means that every host really runs the release; what is bad is never a success.

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::Health;
use landfall_common::strategy::{Canary, StrategyKind};
use landfall_common::{Duration, HostId, ReleaseName, Sha256, Timestamp};
use landfall_controller_core::member::{Left, Member, MemberState};
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Stage, Status};

use super::{Checks, Violation};
use crate::artifact::Quality;

/// A host that was silent for so long is passed over, unless it was touched.
const UNREACHABLE_MS: u64 = 120_000;
/// Three heartbeats.
const HEARD_WITHIN_MS: u64 = 30_000;

impl Checks {
    /// The last batch that has begun. One of which nobody can be heard of may begin and be over in one decision, and the
    /// next waits for its gates then.
    pub fn begun(rollout: &Rollout) -> Option<u32> {
        match rollout.status.stage()? {
            Stage::Running { batch } => Some(*batch),
            Stage::Gated { at } => Some(at.next - 1).filter(|batch| *batch > 0),
            // The second of two groups: its requests are led to the first. Where that has the release already, in the same
            // decision.
            Stage::Switching => Some(2),
            Stage::Watching { .. } if rollout.groups.is_some() => Some(2),
            _ => None,
        }
    }

    /// A rollout's record changes: if that opens the gate to a batch, the one before must be proven.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn rollout_moves<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let Some(batch) = Self::begun(rollout) else { return Ok(()) };
        let before = self.open_batch.insert(rollout.id.clone(), batch).unwrap_or(1);
        if batch <= before {
            return Ok(());
        }
        let strategy = &rollout.strategy;
        let has_canary = matches!(rollout.kind, RolloutKind::Forward | RolloutKind::Restart)
            && strategy.kind != StrategyKind::AllAtOnce
            && (strategy.canary != Canary::Count(0) || strategy.kind == StrategyKind::BlueGreen);
        if before == 1 && has_canary && !strategy.auto_promote && !self.promoted.contains(&rollout.id) {
            let what =
                format!("batch {batch} of rollout {} begins, and nobody promoted its canary", rollout.id);
            return Err(Violation::new("P5", what));
        }
        let members: Vec<&Member> =
            members.filter(|member| member.batch >= before && member.batch < batch).collect();
        let (alone, members): (Vec<&Member>, Vec<&Member>) =
            members.into_iter().partition(|member| self.alone.holds(&member.host));
        let gone = members.iter().all(|member| member.batch > 1) && alone.iter().any(|m| m.batch == 1);
        if before == 1 && has_canary && gone && !self.promoted.contains(&rollout.id) {
            let what =
                format!("batch {batch} of rollout {} begins, and nobody is left of its canary", rollout.id);
            return Err(Violation::new("P5", what));
        }
        for member in members {
            let hold = if has_canary && member.batch == 1 { strategy.canary_hold } else { Duration::ZERO };
            self.passes(rollout, member, hold, now).map_err(|why| {
                let what = format!(
                    "batch {batch} of rollout {} begins, and {} of batch {}: {why}",
                    rollout.id, member.host, member.batch
                );
                Violation::new("P5", what)
            })?;
        }
        Ok(())
    }

    fn passes(
        &self,
        rollout: &Rollout,
        member: &Member,
        hold: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        match &member.state {
            MemberState::Failed { .. } => Ok(()),
            MemberState::Committed { .. } => {
                let healthy = rollout.strategy.min_healthy.max(hold);
                self.is_evident(&member.host, rollout.release.digest, healthy, now)
            }
            // Of the first of two groups, where nothing ran: with the change of requests it is let go, as those that are proven
            // get them.
            _ if rollout.status.stage() == Some(&Stage::Switching)
                && member.since >= rollout.since
                && self.runs_nothing(&member.host) =>
            {
                Ok(())
            }
            other if was_let_go(other) => Err(format!("was let go and has not answered: {other:?}")),
            other => {
                let heard = self.heard.get(&member.host).map_or(0, |heard| heard.at.ms());
                let silent_ms = now.ms().saturating_sub(heard.max(self.started_at.ms()));
                if silent_ms >= UNREACHABLE_MS { Ok(()) } else { Err(format!("is {other:?}")) }
            }
        }
    }

    fn runs_nothing(&self, host: &HostId) -> bool {
        self.heard.get(host).is_some_and(|heard| heard.report.active.is_none())
    }

    /// Whether what was heard of a host says that it runs a release and is well, and whether it is true.
    pub(super) fn is_evident(
        &self,
        host: &HostId,
        digest: Sha256,
        min_healthy: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        if !self.proven.contains(&(host.clone(), digest)) {
            return Err("never proved the release".to_owned());
        }
        let heard = self.heard.get(host).ok_or("was never heard of")?;
        let age_ms = now.ms().saturating_sub(heard.at.ms());
        if age_ms > HEARD_WITHIN_MS || self.sessions.get(host) != Some(&heard.connection) {
            return Err(format!("was last heard of {age_ms} ms ago"));
        }
        let active = heard.report.active.as_ref();
        if active.is_none_or(|active| active.release.digest != digest || !active.proven) {
            return Err(format!(
                "says that {:?} is active",
                active.map(|active| active.release.name.as_str())
            ));
        }
        match &heard.report.health {
            Health::Healthy { period } if *period >= min_healthy => Ok(()),
            health => Err(format!("says {health:?}, and {min_healthy:?} are asked for")),
        }
    }

    /// A rollout has ended. `runs` tells what really is current on a host, `index` its number.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn rollout_ended<'m>(
        &self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member>,
        runs: impl Fn(&HostId) -> Option<(usize, Option<ReleaseName>)>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let Status::Ended { end } = &rollout.status else { return Ok(()) };
        let name = &rollout.release.name;
        let id = &rollout.id;
        for member in members {
            let Some((index, really)) = runs(&member.host) else { continue };
            if self.alone.holds(&member.host) {
                continue;
            }
            let host = &member.host;
            match end {
                End::Succeeded => {
                    if really.as_ref() != Some(name) {
                        let what = format!("rollout {id} of {name} succeeded, and {host} runs {really:?}");
                        return Err(Violation::new("P5", what));
                    }
                    self.is_evident(host, rollout.release.digest, rollout.strategy.min_healthy, now)
                        .map_err(|why| {
                            Violation::new(
                                "P5",
                                format!("rollout {id} of {name} succeeded, and {host} {why}"),
                            )
                        })?;
                    let quality = self.releases[&rollout.release.digest].plan.quality(index);
                    if matches!(quality, Quality::Sick | Quality::Crashes) {
                        let what =
                            format!("rollout {id} of {name} succeeded, and it is {quality:?} on {host}");
                        return Err(Violation::new("P6", what));
                    }
                }
                End::RolledBack { .. } => {
                    let was_let_go = self.sent.values().any(|sent| {
                        sent.host == *host
                            && sent.rollout == *id
                            && matches!(sent.order, Order::Activate { .. })
                            && sent.release == rollout.release
                    });
                    let differs = rollout.previous.as_ref().is_none_or(|previous| previous.name != *name);
                    if really.as_ref() == Some(name) && differs && was_let_go {
                        let what = format!("rollout {id} of {name} was rolled back, and {host} runs it");
                        return Err(Violation::new("P6", what));
                    }
                }
                End::Rehearsed { .. } | End::Failed { .. } | End::Aborted { .. } | End::Superseded { .. } => {
                }
            }
        }
        Ok(())
    }

    /// A host is let go: for a release on its way, only in a batch that has begun.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn in_turn<'m>(
        &self,
        assignment: &Assignment,
        rollout: Option<&Rollout>,
        mut members: impl Iterator<Item = &'m Member>,
    ) -> Result<(), Violation> {
        let Some(rollout) = rollout.filter(|rollout| rollout.release == assignment.release) else {
            return Ok(());
        };
        if !assignment.order.takes_out() {
            return Ok(());
        }
        let batch = match rollout.status.stage() {
            Some(Stage::Running { batch }) => batch,
            Some(Stage::Canary { .. } | Stage::Switching) => &1,
            Some(Stage::Watching { .. }) if rollout.groups.is_some() => &1,
            _ => return Ok(()),
        };
        let Some(member) = members.find(|member| member.host == assignment.host) else { return Ok(()) };
        if member.batch <= *batch {
            return Ok(());
        }
        let what = format!("{} of batch {} was let go in batch {batch}", assignment.host, member.batch);
        Err(Violation::new("P5", what))
    }
}

fn was_let_go(state: &MemberState) -> bool {
    match state {
        MemberState::Pending | MemberState::Staging { .. } | MemberState::Staged => false,
        MemberState::Failed { left } => *left != Left::Untouched,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::assignment::ReleaseRef;
    use landfall_common::report::{HostReport, Phase};
    use landfall_common::strategy::Strategy;
    use landfall_common::{Generation, ReleaseCounter, RolloutId};
    use landfall_controller_core::log::Actor;
    use landfall_controller_core::record::Place;
    use landfall_controller_core::rollout::Schema;

    use super::*;

    fn rollout(batch: u32) -> Rollout {
        let name = ReleaseName::new("v2").unwrap();
        let digest = Sha256::of(b"v2");
        Rollout {
            id: RolloutId::new("r-1").unwrap(),
            place: Place {
                application: crate::artifact::application(),
                environment: crate::artifact::environment(),
            },
            kind: RolloutKind::Forward,
            release: ReleaseRef { name, counter: ReleaseCounter(2), digest, length: 1 },
            previous: None,
            strategy: Strategy::default(),
            by: Actor::Controller,
            requested_at: Timestamp::default(),
            turn_came_at: None,
            resumed_at: None,
            groups: None,
            approvals: Vec::new(),
            batches: 2,
            contract: None,
            schema: Schema::Fits { reason: String::new() },
            status: Status::Active { stage: Stage::Running { batch } },
            since: Timestamp::default(),
            there: None,
            left_out: String::new(),
            restart: None,
        }
    }

    /// A gate that opened after half a minute of silence went unnoticed.
    #[test]
    fn a_host_is_passed_over_after_two_minutes_of_silence_and_no_sooner() {
        let host = HostId::new("web-1").unwrap();
        let member = Member {
            rollout: RolloutId::new("r-1").unwrap(),
            host: host.clone(),
            batch: 1,
            state: MemberState::Staged,
            since: Timestamp::default(),
            unheeded: 0,
            touched: false,
            settled: false,
            failure: None,
            failed_at: None,
            return_failure: None,
            left_out: None,
        };
        let report = HostReport {
            incarnation: 1,
            sequence: 1,
            at: Timestamp::default(),
            generation: Generation(1),
            phase: Phase::Idle,
            active: None,
            outcome: None,
            health: Health::Unknown,
            restarts: true,
            traffic: landfall_common::report::Traffic::Ungated,
        };
        for (silent_ms, passes) in [(31_000, false), (119_000, false), (120_000, true)] {
            let mut checks = Checks::new(0, &[]);
            checks.connected(&host, 1);
            checks.heard(&host, 1, &report, Timestamp::from_ms(1_000_000));
            let now = Timestamp::from_ms(1_000_000 + silent_ms);
            checks.rollout_moves(&rollout(1), [&member].into_iter(), now).unwrap();
            let moved = checks.rollout_moves(&rollout(2), [&member].into_iter(), now);
            assert_eq!(moved.is_ok(), passes, "{silent_ms}: {moved:?}");
        }
    }
}
