//! The planted defects of the controller: what it decided is changed before it becomes durable.

use landfall_common::assignment::{Direction, OnFailure, Order};
use landfall_common::evidence::Verdict;
use landfall_common::strategy::{Amount, ZoneName};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::member::MemberState;
use landfall_controller_core::record::{Change, Convergence, Issued, Record, WayBackKind};
use landfall_controller_core::rollout::{End, Schema, Stage, Status};
use landfall_controller_core::{Effect, Output};

use super::World;
use crate::hostile::is_before_winter;
use crate::sabotage::Sabotage;

impl World {
    pub(super) fn sabotage_output(&mut self, output: &mut Output) {
        match self.scenario.sabotage {
            Some(Sabotage::BudgetIgnored) => self.let_all_go(output),
            Some(Sabotage::FailuresIgnored) => self.ignore_failures(output),
            Some(Sabotage::GateIgnored) => change_rollouts(output, |rollout| {
                let last = rollout.batches;
                if let Status::Active { stage: Stage::Running { batch } } = &mut rollout.status {
                    *batch = last;
                }
            }),
            Some(Sabotage::CanaryIgnored) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Canary { .. } } = &rollout.status {
                    rollout.status = Status::Active { stage: Stage::Running { batch: 2 } };
                }
            }),
            Some(Sabotage::SwitchEarly) => change_rollouts(output, |rollout| {
                let stage = rollout.status.stage();
                if rollout.groups.is_some() && matches!(stage, Some(Stage::Running { batch: 1 })) {
                    rollout.status = Status::Active { stage: Stage::Switching };
                }
            }),
            Some(Sabotage::NobodyCarries) => change_rollouts(output, |rollout| {
                if rollout.groups.is_some() {
                    rollout.strategy.max_unavailable = Amount::Percent(100);
                }
            }),
            Some(Sabotage::GatesForgotten) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Gated { at } } = &rollout.status {
                    rollout.status = Status::Active { stage: Stage::Running { batch: at.next } };
                }
            }),
            Some(Sabotage::GateWordsKept) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Gated { at } } = &mut rollout.status
                    && at.answers.is_empty()
                {
                    at.overruled = at.next > 1;
                }
            }),
            Some(Sabotage::WatchOverruled) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Watching { at, .. } } = &mut rollout.status {
                    at.overruled = true;
                }
            }),
            Some(Sabotage::WatchIgnored) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Watching { .. } } = &rollout.status {
                    rollout.status = Status::Ended { end: End::Succeeded };
                }
            }),
            Some(Sabotage::DrillStays) => change_rollouts(output, |rollout| {
                if let (Some(there), Status::Active { stage: Stage::RollingBack { .. } }) =
                    (rollout.there, &rollout.status)
                {
                    rollout.status = Status::Ended { end: End::Rehearsed { there, back: there } };
                }
            }),
            Some(Sabotage::LateUndone) => change_rollouts(output, |rollout| {
                rollout.strategy.late_rollback = true;
            }),
            Some(Sabotage::FalseSuccess) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Running { .. } } = &rollout.status {
                    rollout.status = Status::Ended { end: End::Succeeded };
                }
            }),
            Some(Sabotage::MigrationSkipped) => change_rollouts(output, |rollout| {
                if let Status::Active { stage: Stage::Migrating { .. } } = &rollout.status {
                    rollout.schema = Schema::Fits { reason: "it is not needed".to_owned() };
                    rollout.status = Status::Active { stage: Stage::Running { batch: 1 } };
                    // And the order to migrate is forgotten as well.
                }
            }),
            Some(Sabotage::ContractEarly) => {
                let contract = |order: &mut Order| {
                    if let Order::Migrate { direction, .. } = order {
                        *direction = Direction::Contract;
                    }
                };
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Issued(issued) } = changed
                        && let Some(assignment) = &mut issued.assignment
                    {
                        contract(&mut assignment.order);
                    }
                }
                for effect in &mut output.effects {
                    if let Effect::Send { assignment, .. } = effect {
                        contract(&mut assignment.order);
                    }
                }
            }
            Some(Sabotage::ContractForgotten) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Place(place) } = changed {
                        place.contracts.clear();
                    }
                }
            }
            Some(Sabotage::SchemaForgotten) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Release(release) } = changed
                        && let Some(migration) = &mut release.migration
                    {
                        migration.way_back = WayBackKind::Compatible;
                    }
                }
            }
            Some(Sabotage::ApprovalsIgnored) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Release(release) } = changed {
                        release.environments.values_mut().for_each(|strategy| strategy.entry.approvals = 0);
                    }
                }
            }
            Some(Sabotage::WindowsIgnored) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Release(release) } = changed {
                        release.environments.values_mut().for_each(|strategy| {
                            strategy.entry.calendar.windows.clear();
                        });
                    }
                }
            }
            Some(Sabotage::ZoneIgnored) => keep_zone(output, &ZoneName::default()),
            Some(Sabotage::SummerTimeIgnored) => {
                // As it is before the change.
                let zone = if is_before_winter(self.scenario.epoch_ms) { "Etc/GMT-2" } else { "Etc/GMT-1" };
                keep_zone(output, &zone.parse().expect("a zone"));
            }
            Some(Sabotage::ProofsIgnored) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Release(release) } = changed {
                        release.environments.values_mut().for_each(|strategy| strategy.entry.after.clear());
                    }
                }
            }
            Some(Sabotage::EvidenceIgnored) => {
                for changed in &mut output.changes {
                    if let Change::Put { record: Record::Release(release) } = changed {
                        release
                            .environments
                            .values_mut()
                            .for_each(|strategy| strategy.entry.evidence.clear());
                    }
                }
            }
            Some(Sabotage::EvidenceUntold) => {
                for entry in &mut output.log {
                    if let LogEvent::RolloutStarted { evidence, .. } = &mut entry.event {
                        evidence.clear();
                    }
                }
            }
            Some(Sabotage::EvidenceForgotten) => output.changes.retain(|change| match change {
                Change::Put { record: Record::Evidence(record) } => {
                    record.statement.result == Verdict::Passed
                }
                _ => true,
            }),
            Some(Sabotage::EndUntold) => {
                output.log.retain(|entry| !matches!(entry.event, LogEvent::RolloutFinished { .. }));
            }
            Some(Sabotage::GenerationReused) => reuse_generation(output),
            Some(Sabotage::LabelsForgotten) => self.forget_labels(output),
            Some(Sabotage::LeftOutForgotten) => {
                for changed in &mut output.changes {
                    match changed {
                        Change::Put { record: Record::Member(member) } => member.left_out = None,
                        Change::Put { record: Record::Host(host) } => host.cordon = None,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if self.scenario.sabotage == Some(Sabotage::MigrationSkipped) {
            let is_order = |order: &Order| matches!(order, Order::Migrate { .. });
            output
                .effects
                .retain(|e| !matches!(e, Effect::Send { assignment, .. } if is_order(&assignment.order)));
        }
    }

    /// With the first host that is let go, all others are that could be.
    fn let_all_go(&self, output: &mut Output) {
        let Some(controller) = &self.controller.running else { return };
        let grant = output.effects.iter().find_map(|effect| match effect {
            Effect::Send { assignment, .. } if matches!(assignment.order, Order::Activate { .. }) => {
                Some(assignment.clone())
            }
            _ => None,
        });
        let Some(grant) = grant else { return };
        for member in controller.state.members(&grant.rollout) {
            let taken = output.changes.iter().any(|change| match change {
                Change::Put { record: Record::Issued(issued) } => issued.host == member.host,
                _ => false,
            });
            if !matches!(member.state, MemberState::Staged) || taken {
                continue;
            }
            let Some(host) = controller.state.host(&member.host) else { continue };
            let mut assignment = grant.clone();
            assignment.host = member.host.clone();
            assignment.generation = host.next_generation();
            let issued = Issued {
                highest: assignment.generation,
                assignment: Some((*assignment).clone()),
                ..Issued::nothing(member.host.clone())
            };
            output.changes.push(Change::Put { record: Record::Issued(Box::new(issued)) });
            output.effects.push(Effect::Send { host: member.host.clone(), assignment });
        }
    }
}

impl World {
    /// What failed is to be tried again by itself, and its rollout goes on as if nothing were.
    fn ignore_failures(&self, output: &mut Output) {
        let Some(controller) = &self.controller.running else { return };
        for changed in &mut output.changes {
            match changed {
                Change::Put { record: Record::Member(member) }
                    if matches!(member.state, MemberState::Failed { .. }) =>
                {
                    member.state = MemberState::Staged;
                }
                Change::Put { record: Record::Place(place) } => place.convergence = Convergence::On,
                Change::Put { record: Record::Rollout(rollout) } => {
                    let running =
                        |status: &Status| matches!(status, Status::Active { stage: Stage::Running { .. } });
                    let before = controller.state.rollout(&rollout.id).map(|before| before.status.clone());
                    let ends_well = matches!(rollout.status, Status::Ended { end: End::Succeeded });
                    if let Some(before) = before.filter(running)
                        && !running(&rollout.status)
                        && !ends_well
                    {
                        rollout.status = before;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Release windows are by this zone.
fn keep_zone(output: &mut Output, zone: &ZoneName) {
    for changed in &mut output.changes {
        if let Change::Put { record: Record::Release(release) } = changed {
            let own = release.environments.values_mut().map(|strategy| &mut strategy.entry.calendar.zone);
            own.for_each(|own| *own = zone.clone());
        }
    }
}

fn change_rollouts(output: &mut Output, change: impl Fn(&mut landfall_controller_core::rollout::Rollout)) {
    for changed in &mut output.changes {
        if let Change::Put { record: Record::Rollout(rollout) } = changed {
            change(rollout);
        }
    }
}

/// The order to activate goes out under the number of the order to stage.
fn reuse_generation(output: &mut Output) {
    for effect in &mut output.effects {
        if let Effect::Send { assignment, .. } = effect
            && let Order::Activate { on_failure, .. } = &mut assignment.order
        {
            *on_failure = OnFailure::Hold;
            assignment.generation = landfall_common::Generation(assignment.generation.0 - 1);
        }
    }
}
