//! Who may begin beside whom: how many hosts change at once, of which group, and how soon after each other. The
//! budget is another matter: it counts what is out, whoever took it out.

use std::collections::BTreeSet;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::Strategy;
use landfall_common::{Duration, HostId, LabelKey, RolloutId, Sha256, Timestamp};

use crate::group::Group;
use crate::member::{Member, MemberState};
use crate::reason::{Hosts, Wait};

use super::evidence;
use super::room::weight;
use super::table::{Seat, Table};

/// What bounds who may begin.
pub(super) struct Pace {
    rollout: RolloutId,
    /// Whether anything is.
    bounded: bool,
    most: Option<usize>,
    spread: Option<LabelKey>,
    stagger: Duration,
    /// Those that were let go and are not proven yet.
    in_change: Hosts,
    groups: BTreeSet<Group>,
    last: Option<Timestamp>,
    /// Those that wait for a place in the window, or for another group.
    full: Hosts,
    elsewhere: Hosts,
    next: Option<(HostId, Duration)>,
}

/// Whether a host may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Begin,
    /// Not beside those that are in change.
    Not,
    /// Not yet, and no other either.
    NotYet,
}

impl Pace {
    /// As it is now. Where nothing is bounded, it costs nothing.
    pub fn of(table: &mut Table<'_>) -> Self {
        let rollout = table.rollout();
        let strategy = &rollout.strategy;
        let mut pace = Self {
            rollout: rollout.id.clone(),
            bounded: bounded(strategy),
            most: strategy.at_once(table.seats.len()),
            spread: strategy.spreads().cloned(),
            stagger: strategy.staggers(),
            in_change: Hosts::default(),
            groups: BTreeSet::new(),
            last: None,
            full: Hosts::default(),
            elsewhere: Hosts::default(),
            next: None,
        };
        if !pace.bounded {
            return pace;
        }
        settle(table);
        let release = table.rollout().release.clone();
        for seat in &table.seats {
            let changing = match seat.member.as_deref() {
                Some(member) => in_change(member),
                // Outside of the rollout, on its way to what is in force; or left out of it since it was let go.
                None => seat.host.grant_open(table.now),
            };
            if changing {
                pace.note(seat);
            }
            pace.last = pace.last.max(let_go_at(seat, &pace.rollout, &release));
        }
        pace.last = pace.last.map(|last| table.state.counted(last, table.now));
        pace
    }

    fn note(&mut self, seat: &Seat<'_>) {
        if seat.member.is_some() || seat.left_out.is_some() {
            self.in_change.add(&seat.host.record.id);
        }
        self.groups.extend(self.spread.as_ref().map(|label| Group::of(seat.host, label)));
    }

    /// Whether a host may begin now.
    pub fn ask(&mut self, seat: &Seat<'_>, now: Timestamp) -> Verdict {
        let host = &seat.host.record.id;
        if self.most.is_some_and(|most| self.in_change.count() >= most) {
            self.full.add(host);
            return Verdict::Not;
        }
        if !self.beside(seat) {
            self.elsewhere.add(host);
            return Verdict::Not;
        }
        if let Some(last) = self.last.filter(|_| !self.stagger.is_zero()) {
            let due = last + self.stagger + jitter(&self.rollout, host, self.stagger);
            if now < due {
                self.next = Some((host.clone(), due.since(now)));
                return Verdict::NotYet;
            }
        }
        Verdict::Begin
    }

    /// Whether nothing of another group is in change.
    pub fn beside(&self, seat: &Seat<'_>) -> bool {
        let Some(label) = &self.spread else { return true };
        let own = Group::of(seat.host, label);
        self.groups.iter().all(|group| *group == own)
    }

    /// The group that is in change.
    pub fn group(&self) -> Option<String> {
        self.groups.first().map(Group::to_string)
    }

    /// A host runs the release already: it never was in change.
    pub fn passes(&self, seat: &mut Seat<'_>) {
        if let Some(member) = seat.member.as_mut().filter(|_| self.bounded) {
            member.to_mut().settled = true;
        }
    }

    /// A host begins.
    pub fn begun(&mut self, seat: &Seat<'_>, now: Timestamp) {
        self.note(seat);
        self.last = Some(now);
    }

    /// Why those wait that may not begin.
    pub fn report(self, table: &mut Table<'_>) {
        let in_change = self.in_change;
        if let (Some(most), false) = (self.most, self.full.is_empty()) {
            table.wait(Wait::Window { most, in_change, waiting: self.full });
        }
        if let (Some(group), false) = (self.groups.first(), self.elsewhere.is_empty()) {
            table.wait(Wait::Group { in_change: group.to_string(), waiting: self.elsewhere });
        }
        if let Some((host, period)) = self.next {
            table.wait(Wait::Stagger { host, period, stagger: self.stagger });
        }
    }
}

/// Whether a strategy bounds who may begin beside whom.
fn bounded(strategy: &Strategy) -> bool {
    strategy.at_once(1).is_some() || strategy.spreads().is_some() || !strategy.staggers().is_zero()
}

fn in_change(member: &Member) -> bool {
    match member.state {
        MemberState::Granted { .. } | MemberState::Returning { .. } => true,
        MemberState::Committed { .. } => !member.settled,
        _ => false,
    }
}

/// Once there was evidence of a host, its place is free, whatever becomes of it: that is the gate's matter.
fn settle(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let (release, min_healthy) = (rollout.release.clone(), rollout.strategy.min_healthy);
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        let Some(Member { state: MemberState::Committed { generation }, settled: false, .. }) =
            seat.member.as_deref()
        else {
            continue;
        };
        let missing = evidence::missing(table, seat, &release, *generation, min_healthy);
        let bytes = seat.member.as_deref().map_or(0, weight);
        if missing.is_some() {
            continue;
        }
        if !table.room.take(bytes) {
            table.in_parts = true;
            return;
        }
        if let Some(member) = &mut table.seats[at].member {
            member.to_mut().settled = true;
        }
    }
}

/// When a host was let go for the release of the rollout, if that was the last that it was asked.
fn let_go_at(seat: &Seat<'_>, rollout: &RolloutId, release: &ReleaseRef) -> Option<Timestamp> {
    let issued = seat.issued.as_ref().unwrap_or(&seat.host.issued);
    let assignment = issued.assignment.as_ref()?;
    // A member may have been let go for a stop on its way there.
    let is_this = assignment.rollout == *rollout && (assignment.release == *release || seat.member.is_some());
    (is_this && assignment.order.takes_out()).then_some(assignment.issued_at)
}

/// Up to half of the stagger, the same for the same host in the same rollout: what hosts do together at a full
/// minute shall not meet what the rollout does at one.
fn jitter(rollout: &RolloutId, host: &HostId, stagger: Duration) -> Duration {
    let digest = Sha256::of(format!("{rollout}/{host}").as_bytes());
    let [high, low, ..] = *digest.as_bytes();
    stagger * u32::from(u16::from_be_bytes([high, low])) / (2 * (u32::from(u16::MAX) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_is_the_same_again_and_at_most_half_of_the_stagger() {
        let stagger = Duration::from_secs(30);
        let rollout = RolloutId::new("r-1").unwrap();
        let of = |host: u32| jitter(&rollout, &HostId::new(format!("web-{host}")).unwrap(), stagger);
        let all: BTreeSet<Duration> = (0..100).map(of).collect();
        assert!(all.len() > 90 && all.iter().all(|jitter| *jitter <= stagger / 2));
        assert_eq!(of(7), of(7));
    }
}
