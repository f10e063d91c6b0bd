//! Which batch a host changes with once its labels are others, while a rollout is under way.
//!
//! A host that was not let go yet changes with its new group; what was let go, or has changed, stays where it is. Who
//! may begin beside whom is no matter of batches, and goes by the labels as they are ([`crate::group`]).

use std::collections::BTreeMap;

use landfall_common::strategy::{Canary, Window};

use crate::group::Group;
use crate::label::Labels;
use crate::member::{Left, Member, MemberState, Out};
use crate::observation::Host;
use crate::rollout::{Rollout, RolloutKind, Stage};
use crate::state::State;

/// The batches of a rollout that are to come.
pub(crate) struct ToCome<'s> {
    rollout: &'s Rollout,
    /// How many have begun.
    begun: u32,
    /// How many there are, those that were added here included.
    last: u32,
    /// How many hosts one holds.
    size: usize,
    /// Of which groups their hosts are, and how many of each.
    hosts: BTreeMap<u32, BTreeMap<Option<Group>, usize>>,
}

impl<'s> ToCome<'s> {
    /// Those of a rollout; `None` where nobody changes to another one. A drill has only its canary, the way back has no
    /// batches, and of two groups requests are led to the one or the other as it was when the rollout began.
    pub fn of(state: &'s State, rollout: &'s Rollout) -> Option<Self> {
        if rollout.kind == RolloutKind::Drill || rollout.groups.is_some() {
            return None;
        }
        let begun = match rollout.status.stage()? {
            Stage::Staging | Stage::Migrating { .. } => 0,
            Stage::Running { batch } => *batch,
            Stage::Canary { .. } => 1,
            Stage::Gated { at } => at.next.saturating_sub(1),
            Stage::InLine { .. }
            | Stage::Switching
            | Stage::Watching { .. }
            | Stage::Contracting { .. }
            | Stage::RollingBack { .. } => return None,
        };
        let members = state.members.get(&rollout.id)?;
        let size = match rollout.strategy.window {
            // As it was planned: of those that are not cordoned.
            Window::Batch => rollout.strategy.batch_of(members.values().filter(|m| !is_cordoned(m)).count()),
            Window::Sliding => usize::MAX,
        };
        let mut to_come = Self { rollout, begun, last: rollout.batches, size, hosts: BTreeMap::new() };
        for member in members.values().filter(|member| member.batch > begun) {
            if let Some(host) = state.host(&member.host) {
                let group = to_come.group(&host.record.labels);
                *to_come.hosts.entry(member.batch).or_default().entry(group).or_default() += 1;
            }
        }
        Some(to_come)
    }

    /// How many batches there are now.
    pub fn batches(&self) -> u32 {
        self.last
    }

    /// The batch with which a host changes from now on, if that is another one.
    pub fn place(&mut self, host: &Host, member: &Member, labels: &Labels) -> Option<u32> {
        let before = &host.record.labels;
        let (was, is) = (self.group(before), self.group(labels));
        if let Some(hosts) = self.hosts.get_mut(&member.batch)
            && let Some(count) = hosts.get_mut(&was)
        {
            *count -= 1;
            hosts.retain(|_, count| *count > 0);
        }
        let batch = self.batch_of(member, (before, labels), (&was, &is));
        if batch > self.begun {
            *self.hosts.entry(batch).or_default().entry(is).or_default() += 1;
        }
        (batch != member.batch).then_some(batch)
    }

    fn batch_of(
        &mut self,
        member: &Member,
        (before, labels): (&Labels, &Labels),
        (was, is): (&Option<Group>, &Option<Group>),
    ) -> u32 {
        if !is_to_come(member) {
            return member.batch;
        }
        let strategy = &self.rollout.strategy;
        let has_canary = self.rollout.has_canary();
        let by_labels = has_canary && matches!(strategy.canary, Canary::Labels { .. });
        let (was_named, is_named) = (strategy.canary.names(before), strategy.canary.names(labels));
        if has_canary && member.batch == 1 {
            // Whoever takes the label away means that it is not to go first.
            return if by_labels && was_named && !is_named { self.with_its_group(is) } else { 1 };
        }
        // Once it has begun, a canary gets no other hosts.
        if by_labels && is_named && !was_named && self.begun == 0 {
            return 1;
        }
        if was == is { member.batch } else { self.with_its_group(is) }
    }

    /// The first batch to come of a group that has a place, or one of its own, in the end.
    fn with_its_group(&mut self, group: &Option<Group>) -> u32 {
        let first = self.begun + 1 + u32::from(self.rollout.has_canary() && self.begun == 0);
        let none = BTreeMap::new();
        let of = |batch: &u32| self.hosts.get(batch).unwrap_or(&none);
        let holds = |batch: &u32| {
            let hosts = of(batch);
            hosts.keys().all(|other| other == group) && hosts.values().sum::<usize>() < self.size
        };
        let begun = (first..=self.last).filter(|batch| !of(batch).is_empty()).find(holds);
        let empty = || (first..=self.last).rev().find(|batch| of(batch).is_empty());
        begun.or_else(empty).unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }

    fn group(&self, labels: &Labels) -> Option<Group> {
        self.rollout.strategy.spreads().map(|label| Group::by(labels, label))
    }
}

fn is_cordoned(member: &Member) -> bool {
    member.left_out.as_ref().is_some_and(|left_out| left_out.how == Out::Cordoned)
}

/// Whether a host has not been let go for the release, and may be.
fn is_to_come(member: &Member) -> bool {
    match member.state {
        MemberState::Pending
        | MemberState::Staging { .. }
        | MemberState::Staged
        | MemberState::Failed { left: Left::Untouched | Left::Barred } => true,
        MemberState::Failed { .. }
        | MemberState::Granted { .. }
        | MemberState::Committed { .. }
        | MemberState::ReturnDue
        | MemberState::Returning { .. }
        | MemberState::Returned { .. }
        | MemberState::ReturnFailed => false,
    }
}
