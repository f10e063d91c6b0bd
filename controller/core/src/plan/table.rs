//! The working copy of one planner run: a place, its rollout, and a seat for each of its hosts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Order, ReleaseRef};
use landfall_common::report::{Failure, Health};
use landfall_common::{Duration, Generation, HostId, ReleaseName, RolloutId, Timestamp};

use crate::log::{Actor, LogEvent, NewEntry};
use crate::member::{Left, Member, MemberState, Out, first_failed};
use crate::observation::{Host, Received};
use crate::output::{Effect, Output, Planned};
use crate::reason::{Hosts, PlaceReport, PlanningReport, Wait, WayOut, Why};
use crate::record::{Change, HostRecord, Issued, Place, PlaceRecord, Record};
use crate::rollout::{End, HostFailure, Rollout, Status};
use crate::state::State;
use crate::timing::{CONVERGE_EVERY, PLAN_EVERY};
use crate::turn::{self, Fleet};

use super::Turn;
use super::room::{self, Room};

/// The working copy of one planner run.
pub(super) struct Table<'a> {
    pub now: Timestamp,
    pub state: &'a State,
    pub place: Cow<'a, PlaceRecord>,
    /// The rollout that holds the place.
    pub rollout: Option<Cow<'a, Rollout>>,
    /// One for each host of the place, in order.
    pub seats: Vec<Seat<'a>>,
    /// How many hosts are out (P4), those counted that this run takes out.
    pub out: usize,
    /// What still fits into this decision.
    pub room: &'a mut Room,
    /// Whether there was something that did not.
    pub in_parts: bool,
    /// Until when it was others that held the rollout where it is: nothing was to get on for so long.
    pub held_until: Timestamp,
    pub report: PlaceReport,
    /// Whether the report is to leave nothing out.
    pub in_full: bool,
    pub log: Vec<NewEntry>,
    pub effects: Vec<Effect>,
}

/// A host in the working copy.
pub(super) struct Seat<'a> {
    pub host: &'a Host,
    /// Its newest report, if that is fresh.
    pub fresh: Option<&'a Received>,
    /// Its part in the rollout that holds the place.
    pub member: Option<Cow<'a, Member>>,
    /// Its part in that rollout, if it was left out of it.
    pub left_out: Option<&'a Member>,
    /// By which kind of word it is to be left alone, if it is.
    pub alone: Option<Out>,
    /// What this run asks of it.
    pub issued: Option<Issued>,
    /// Whether it is out, or may be (P4).
    pub out: bool,
    /// Whether it serves: to let it go costs something. One that may still take an order serves, and counts as out.
    pub serves: bool,
    /// What it was told of where its requests are to go, and has not answered: away, or back.
    pub drain_asked: Option<bool>,
    /// Whether it has refused to have its requests led back.
    pub refused_return: bool,
    /// The rollout that has requests led away from it, while one does.
    pub led_away: Option<Cow<'a, RolloutId>>,
}

/// By which kind of word a host is to be left alone. `excluded` are those that the last rollout has left out, while
/// there is no other.
fn alone(host: &Host, member: Option<&Member>, excluded: &BTreeSet<&HostId>) -> Option<Out> {
    let cordoned = host.record.cordon.as_ref().map(|_| Out::Cordoned);
    let left_out = member.and_then(|member| member.left_out.as_ref()).map(|left_out| left_out.how);
    cordoned.or(left_out).or_else(|| excluded.contains(&host.record.id).then_some(Out::Excluded))
}

impl<'a> Table<'a> {
    /// `None` if nothing is there that could be planned.
    pub fn lay(state: &'a State, place: &Place, now: Timestamp, room: &'a mut Room) -> Option<Self> {
        let found = state.places.get(place)?;
        let rollout = found.record.holder.as_ref().and_then(|id| state.rollouts.get(id));
        let drained = || found.hosts.values().any(|host| host.drain_due(now).is_some());
        let led_away = || found.hosts.values().any(|host| host.record.led_away.is_some());
        let nothing_proven = found.record.proven.is_empty() && found.record.line.is_empty();
        if rollout.is_none() && nothing_proven && !drained() && !led_away() {
            return None;
        }
        let members = rollout.and_then(|rollout| state.members.get(&rollout.id));
        // Whoever was excluded is left alone until the next rollout.
        let last = found.record.last.as_ref().filter(|_| rollout.is_none());
        let last = last.and_then(|last| state.members.get(last)).into_iter().flat_map(BTreeMap::values);
        let excluded: BTreeSet<&HostId> =
            last.filter(|member| member.is_excluded()).map(|member| &member.host).collect();
        let mut members = members.into_iter().flatten().peekable();
        let mut out = 0;
        let seats = found.hosts.iter().map(|(id, host)| {
            // Both are in the order of hosts; a member whose host is gone is passed over.
            while members.next_if(|(member, _)| *member < id).is_some() {}
            let member = members.next_if(|(member, _)| *member == id).map(|(_, member)| member);
            let is_out = !host.available(now);
            out += usize::from(is_out);
            let alone = alone(host, member, &excluded);
            let (left_out, member) = match member {
                Some(member) if member.left_out.is_some() => (Some(member), None),
                member => (None, member.map(Cow::Borrowed)),
            };
            Seat {
                host,
                fresh: host.fresh(now),
                member,
                left_out,
                alone,
                issued: None,
                out: is_out,
                serves: host.serves(now),
                drain_asked: host.drain_asked(now),
                refused_return: host.refused_return(now),
                led_away: host.record.led_away.as_ref().map(Cow::Borrowed),
            }
        });
        Some(Self {
            now,
            state,
            seats: seats.collect(),
            out,
            place: Cow::Borrowed(&found.record),
            rollout: rollout.map(Cow::Borrowed),
            room,
            in_parts: false,
            held_until: Timestamp::default(),
            report: PlaceReport::new(place, rollout.map(|rollout| &rollout.id)),
            in_full: false,
            log: Vec::new(),
            effects: Vec::new(),
        })
    }

    /// The rollout; only stages of a rollout ask.
    pub fn rollout(&self) -> &Rollout {
        self.rollout.as_ref().expect("asked by a stage of a rollout")
    }

    /// The rollout, to be changed.
    pub fn rollout_mut(&mut self) -> &mut Rollout {
        self.rollout.as_mut().expect("asked by a stage of a rollout").to_mut()
    }

    /// What may be done by somebody who does not want to wait for the rollout any longer.
    pub fn way_out(&self) -> WayOut {
        turn::way_out(self.state, self.rollout(), &self.place)
    }

    /// The members of the rollout.
    pub fn members(&self) -> impl Iterator<Item = (&Seat<'a>, &Member)> {
        self.seats.iter().filter_map(|seat| Some((seat, seat.member.as_deref()?)))
    }

    pub fn wait(&mut self, wait: Wait) {
        if self.in_full {
            self.report.waits.push(wait);
        } else {
            self.report.add(wait);
        }
    }

    pub fn log(&mut self, event: LogEvent) {
        self.log.push(NewEntry::by_controller(self.now, event));
    }

    /// How many hosts may be out at the same time.
    pub fn max_unavailable(&self) -> usize {
        self.rollout().strategy.max_unavailable.at_least_one(self.seats.len())
    }

    /// Whether a host may be let go as far as the budget is concerned (P4): what does not serve costs nothing, and what
    /// does may go beside fewer others than may be out.
    pub fn within_the_budget(&self, seat: &Seat<'_>, max_unavailable: usize) -> bool {
        !seat.serves || self.out - usize::from(seat.out) < max_unavailable
    }

    /// Whether a rollout has begun that has not ended.
    pub fn is_under_way(&self) -> bool {
        self.rollout.as_deref().is_some_and(|rollout| !rollout.ended())
    }

    /// How long nothing has got on: no member, no host, not the rollout.
    pub fn idle_for(&self) -> Duration {
        let rollout = self.rollout();
        let newest = self.members().map(|(seat, member)| {
            let seen = seat.host.seen.progressed_at.unwrap_or_default();
            self.counted(member.since).max(seen)
        });
        let began = self.counted(rollout.since) + rollout.watched_for();
        let newest = newest.max().unwrap_or_default().max(began).max(self.held_until);
        self.now.since(newest.max(self.state.started_at))
    }

    /// How long the rollout has been where it is.
    pub fn held_for(&self) -> Duration {
        self.now.since(self.counted(self.rollout().since))
    }

    /// The same, as far as this controller has seen it.
    pub fn seen_for(&self) -> Duration {
        self.now.since(self.counted(self.rollout().since).max(self.state.started_at))
    }

    /// How long ago a host was asked something, by what has passed: what was issued by a clock that has been set back
    /// since counts from then on.
    pub fn since_issued(&self, asked: &Assignment) -> Duration {
        self.now.since(self.counted(asked.issued_at))
    }

    fn counted(&self, at: Timestamp) -> Timestamp {
        self.state.counted(at, self.now)
    }

    /// Whether nothing has got on for longer than the progress deadline.
    pub fn stalled(&self) -> bool {
        self.idle_for() >= self.rollout().strategy.progress_deadline
    }

    /// Why a rollout has nobody, and what it leaves behind: what hosts were let do went with those that were removed,
    /// and stays with those that were left out.
    pub fn nobody(&self) -> (String, Fleet) {
        let left_out = self.seats.iter().filter_map(|seat| seat.left_out);
        let touched = left_out.clone().any(|member| member.touched);
        let reason = match left_out.count() {
            0 => "all of its hosts were removed",
            _ => "all of its hosts were left out or removed",
        };
        (reason.to_owned(), self.rollout().left_half_way(touched))
    }

    /// The first thing that went wrong in the rollout.
    pub fn first_failure(&self) -> Option<HostFailure> {
        let (member, failure) = first_failed(self.members().map(|(_, member)| member))?;
        Some(HostFailure { host: member.host.clone(), failure: failure.clone() })
    }

    /// How long a host has been silent, as far as that can be held against it.
    pub fn silent_for(&self, seat: &Seat<'_>) -> Duration {
        let since =
            self.rollout.as_ref().map_or(self.state.started_at, |rollout| self.counted(rollout.since));
        seat.host.silent_for(since.max(self.state.started_at), self.now)
    }

    /// Why nothing can be expected of a silent host, for the report.
    pub fn unheard(&self, seat: &Seat<'_>) -> Why {
        Why::Unheard { period: seat.host.silent_for(self.state.started_at, self.now) }
    }

    /// Says that hosts, by their seats, wait for others that are out. One that may still take an earlier order counts as
    /// out and waits all the same; it is told of once.
    pub fn wait_for_the_budget(&mut self, max_unavailable: usize, blocked: &[usize]) {
        if blocked.is_empty() {
            return;
        }
        let (mut out, mut led_away, mut waiting) = (Hosts::default(), Hosts::default(), Hosts::default());
        let by_groups = self.rollout.as_deref().is_some_and(|rollout| rollout.groups.is_some());
        for (at, seat) in self.seats.iter().enumerate() {
            if blocked.contains(&at) {
                waiting.add(&seat.host.record.id);
            } else if seat.out {
                out.add(&seat.host.record.id);
                // By two groups it is a part of the rollout, and no word of an operator takes it back.
                let is_led_away = seat.host.record.drain.is_some() || (seat.led_away.is_some() && !by_groups);
                if is_led_away && seat.fresh.is_some_and(|heard| heard.report.traffic.is_away()) {
                    led_away.add(&seat.host.record.id);
                }
            }
        }
        self.wait(Wait::Budget { max_unavailable, out, led_away, waiting });
    }

    /// Takes the room that it takes to ask something of a host; whether there is any.
    #[must_use]
    pub fn has_room(&mut self, at: usize) -> bool {
        let bytes = self.seats[at].member.as_deref().map_or(0, room::weight);
        let fits = self.room.take(bytes);
        self.in_parts |= !fits;
        fits
    }

    /// Asks something of a host, under a new generation.
    pub fn issue(
        &mut self,
        at: usize,
        release: ReleaseRef,
        rollout: RolloutId,
        order: Order,
        accept: Duration,
    ) -> Generation {
        let place = &self.place.place;
        let seat = &mut self.seats[at];
        let generation = seat.next_generation();
        let assignment = Assignment {
            host: seat.host.record.id.clone(),
            application: place.application.clone(),
            environment: place.environment.clone(),
            generation,
            issued_at: self.now,
            expires_at: self.now + accept,
            rollout,
            release,
            order,
        };
        if assignment.order.takes_out() && !seat.out {
            seat.out = true;
            self.out += 1;
        }
        let host = assignment.host.clone();
        let newest = Some(assignment.clone());
        let issued = Issued { highest: generation, ..Issued::nothing(host.clone()) };
        seat.issued = Some(match assignment.order {
            Order::Drain { .. } => {
                let before = seat.issued.as_ref().unwrap_or(&seat.host.issued).clone();
                let came_to = before.assignment.as_ref().and_then(|order| seat.host.ended(order, self.now));
                Issued { highest: generation, requests: newest, came_to: came_to.cloned(), ..before }
            }
            _ => Issued { assignment: newest, ..issued },
        });
        self.effects.push(Effect::Send { host, assignment: Box::new(assignment) });
        generation
    }

    /// Has requests led away from a host by the rollout; whether there was room for it. It counts as out from now on.
    #[must_use]
    pub fn lead_away(&mut self, at: usize) -> bool {
        let id = self.rollout().id.clone();
        if !self.has_room(at) {
            return false;
        }
        let seat = &mut self.seats[at];
        seat.led_away = Some(Cow::Owned(id));
        if !seat.out {
            seat.out = true;
            self.out += 1;
        }
        true
    }

    /// Has requests led back to a host; whether there was room for it. It counts as out until it says that it is back.
    #[must_use]
    pub fn lead_back(&mut self, at: usize) -> bool {
        let fits = self.has_room(at);
        if fits {
            let seat = &mut self.seats[at];
            seat.led_away = None;
            // The word that it was to have none may never have reached it.
            let asked = seat.drain_asked.is_some() || seat.issued.is_some();
            if seat.out && seat.serves && !asked && !seat.host.grant_open(self.now) {
                seat.out = false;
                self.out -= 1;
            }
        }
        fits
    }

    /// Pauses the rollout, for a reason of its own.
    pub fn pause(&mut self, reason: String) -> Turn {
        let now = self.now;
        let rollout = self.rollout_mut();
        let Status::Active { stage } = rollout.status.clone() else { return Turn::None };
        rollout.status = Status::Paused { stage, reason: reason.clone(), by: Actor::Controller };
        rollout.since = now;
        let event = LogEvent::RolloutPaused { rollout: rollout.id.clone(), reason };
        self.log(event);
        // Once more, so that the report says that it is paused.
        Turn::Taken
    }

    pub fn report_paused(&mut self) {
        let rollout = self.rollout();
        let Status::Paused { reason, by, .. } = &rollout.status else { return };
        let wait = Wait::Paused { reason: reason.clone(), by: by.to_string(), since: rollout.since };
        self.wait(wait);
    }

    /// Ends the rollout.
    pub fn end(&mut self, end: End, fleet: Fleet) -> Turn {
        let Some(mut rollout) = self.rollout.take() else { return Turn::None };
        let members = self.seats.iter().filter_map(|seat| seat.member.as_deref().or(seat.left_out));
        let event = turn::end(rollout.to_mut(), self.place.to_mut(), end.clone(), fleet, members, self.now);
        let id = rollout.id.clone();
        self.rollout = Some(rollout);
        self.log(event);
        self.effects.push(Effect::Ended { rollout: id, end });
        Turn::Taken
    }

    /// Ends the rollout as failed, with the first failure that was seen.
    pub fn fail(&mut self, reason: String, fleet: Fleet) -> Turn {
        let failure = self.first_failure();
        self.end(End::Failed { reason, failure }, fleet)
    }

    /// After how long something may have to be decided here although nothing happens.
    pub fn wake_after(&self) -> Option<Duration> {
        let paused = |rollout: &Rollout| matches!(&rollout.status, Status::Paused { stage, .. } if stage.open_lease().is_none());
        if self.rollout.as_deref().is_some_and(|rollout| !rollout.ended() && !paused(rollout)) {
            return Some(PLAN_EVERY);
        }
        (!self.report.waits.is_empty()).then_some(CONVERGE_EVERY)
    }

    /// What has changed on the table.
    pub fn clear(self, wake_at: Option<Timestamp>) -> Planned {
        let mut records = Vec::new();
        if let Cow::Owned(place) = self.place {
            records.push(Record::Place(Box::new(place)));
        }
        if let Some(Cow::Owned(rollout)) = self.rollout {
            records.push(Record::Rollout(Box::new(rollout)));
        }
        for seat in self.seats {
            if let Some(Cow::Owned(member)) = seat.member {
                records.push(Record::Member(Box::new(member)));
            }
            let led_away = seat.led_away.as_deref();
            if led_away != seat.host.record.led_away.as_ref() {
                let led_away = led_away.cloned();
                records.push(Record::Host(HostRecord { led_away, ..seat.host.record.clone() }));
            }
            if let Some(issued) = seat.issued {
                records.push(Record::Issued(Box::new(issued)));
            }
        }
        let changes = records.into_iter().map(|record| Change::Put { record }).collect();
        let output = Output { changes, log: self.log, effects: self.effects };
        let silent = self.report.rollout.is_none() && self.report.waits.is_empty();
        let places = if silent { Vec::new() } else { vec![self.report] };
        Planned { output, report: PlanningReport { places }, wake_at }
    }
}

impl Seat<'_> {
    fn next_generation(&self) -> Generation {
        let next = self.host.next_generation();
        self.issued.as_ref().map_or(next, |issued| next.max(issued.highest.next()))
    }

    /// How far the host is in the rollout.
    pub fn member_state(&self) -> Option<&MemberState> {
        self.member.as_ref().map(|member| &member.state)
    }

    /// Whether the host said that it runs this release, proven.
    pub fn runs(&self, release: &ReleaseRef) -> bool {
        self.host.proven_digest() == Some(release.digest)
    }

    /// What the host says that it runs.
    pub fn active(&self) -> Option<&ReleaseRef> {
        Some(&self.fresh?.report.active.as_ref()?.release)
    }

    /// Whether the host is ready for a new order: heard of, and not in the middle of one.
    ///
    /// One that was undrained takes its requests back first: what is proven there is to be proven with them.
    pub fn at_rest(&self) -> bool {
        self.idles() && self.knows_its_traffic()
    }

    /// Whether requests are to be led away from it, by whose word ever.
    pub fn is_led_away(&self) -> bool {
        self.host.record.drain.is_some() || self.led_away.is_some()
    }

    /// What the host has still to be told of where its requests go: away, or back.
    pub fn drain_due(&self) -> Option<bool> {
        self.host.drain_due_of(self.fresh, self.drain_asked, self.is_led_away())
    }

    /// Whether its requests need nobody's word before something is activated there. A host that refuses to take them back,
    /// since it does not trust its release any more, gets them with the next one.
    pub fn knows_its_traffic(&self) -> bool {
        self.drain_asked.is_none() && (self.drain_due() != Some(false) || self.refused_return)
    }

    /// Whether all that keeps it from serving is that a rollout has its requests led away.
    pub fn is_well_without_requests(&self) -> bool {
        let healthy = |received: &Received| matches!(received.report.health, Health::Healthy { .. });
        self.led_away.is_some() && self.host.record.drain.is_none() && self.fresh.is_some_and(healthy)
    }

    /// Whether it is heard of, and not in the middle of an order.
    pub fn idles(&self) -> bool {
        let idle =
            |received: &Received| matches!(received.report.phase, landfall_common::report::Phase::Idle);
        self.drain_asked.is_none() && self.fresh.is_some_and(idle)
    }

    pub fn set(&mut self, state: MemberState, now: Timestamp) {
        if let Some(member) = &mut self.member {
            let member = member.to_mut();
            member.touched |= matches!(state, MemberState::Granted { .. } | MemberState::Committed { .. });
            member.settled &= matches!(state, MemberState::Committed { .. });
            member.state = state;
            member.since = now;
            member.unheeded = 0;
        }
    }

    /// The host was given an order. One that repeats what it has not heeded is no progress.
    pub fn asked(&mut self, state: MemberState, now: Timestamp) {
        let Some(Member { since, unheeded, .. }) = self.member.as_deref().cloned() else { return };
        self.set(state, now);
        if unheeded > 0 {
            self.keep(since, unheeded);
        }
    }

    /// The host has not taken its order, and stands where it stood before.
    pub fn unheeded(&mut self, state: MemberState) {
        let Some(Member { since, unheeded, .. }) = self.member.as_deref().cloned() else { return };
        self.set(state, since);
        self.keep(since, unheeded.saturating_add(1));
    }

    fn keep(&mut self, since: Timestamp, unheeded: u32) {
        if let Some(member) = &mut self.member {
            let member = member.to_mut();
            (member.since, member.unheeded) = (since, unheeded);
        }
    }

    pub fn fail(&mut self, left: Left, failure: Failure, now: Timestamp) {
        self.set(MemberState::Failed { left }, now);
        self.blame(failure);
    }

    pub fn fail_return(&mut self, failure: Failure, now: Timestamp) {
        self.set(MemberState::ReturnFailed, now);
        if let Some(member) = &mut self.member {
            member.to_mut().return_failure = Some(failure);
        }
    }

    /// There is no way back for the host from what it runs.
    pub fn bar_return(&mut self, failure: Failure, now: Timestamp) {
        self.set(MemberState::Failed { left: Left::Barred }, now);
        if let Some(member) = &mut self.member {
            member.to_mut().return_failure = Some(failure);
        }
    }

    /// What fails on it now fails at a stop on its way.
    pub fn stumbled_at(&mut self, stop: Option<ReleaseName>) {
        if let (Some(member), Some(stop)) = (&mut self.member, stop) {
            member.to_mut().failed_at = Some(stop);
        }
    }

    /// Keeps the first failure of the host.
    pub fn blame(&mut self, failure: Failure) {
        if let Some(member) = &mut self.member
            && member.failure.is_none()
        {
            member.to_mut().failure = Some(failure);
        }
    }
}
