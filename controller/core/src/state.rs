//! Everything the planner decides upon: the durable records, and what was seen of hosts.

use std::collections::BTreeMap;

use landfall_common::assignment::{Assignment, Order};
use landfall_common::{AppName, HostId, ReleaseName, RequestId, RolloutId, Timestamp};

use crate::asked::Asking;
use crate::comparison::{Comparison, On, Subjects};
use crate::evidence::{EvidenceRecord, Statements};
use crate::member::Member;
use crate::observation::{Attention, Figures, Host, Observation};
use crate::record::{Change, Issued, Key, Lock, Place, PlaceRecord, Record, ReleaseRecord, RequestRecord};
use crate::rollout::{Lease, Looks, MigrationRun, Rollout, Status};
use crate::timing::CLOCK_SKEW;

/// Everything the planner decides upon. It changes through [`State::apply`], once a change is durable, and
/// through [`State::observe`], whose content is volatile.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) places: BTreeMap<Place, PlaceState>,
    pub(crate) host_place: BTreeMap<HostId, Place>,
    pub(crate) releases: BTreeMap<AppName, BTreeMap<ReleaseName, ReleaseRecord>>,
    pub(crate) rollouts: BTreeMap<RolloutId, Rollout>,
    pub(crate) members: BTreeMap<RolloutId, BTreeMap<HostId, Member>>,
    pub(crate) requests: BTreeMap<RequestId, RequestRecord>,
    pub(crate) evidence: BTreeMap<AppName, Statements>,
    /// Of each place whose canary is being compared. Volatile.
    comparisons: BTreeMap<Place, Comparison>,
    /// Of each place whose rollout waits for gates, what they have answered. Volatile.
    pub(crate) asking: Asking,
    /// When this controller started to listen: silence is counted from here at the earliest. A clock that
    /// was set back begins anew.
    pub(crate) started_at: Timestamp,
    /// The latest moment at which something was seen.
    latest: Timestamp,
}

/// A place with its hosts.
#[derive(Debug, Clone)]
pub(crate) struct PlaceState {
    pub record: PlaceRecord,
    pub hosts: BTreeMap<HostId, Host>,
}

impl State {
    /// A controller that has never seen anything.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self::load([], now)
    }

    /// What a controller knows after a start: the records, in any order, and nothing of the hosts.
    #[must_use]
    pub fn load(records: impl IntoIterator<Item = Record>, now: Timestamp) -> Self {
        let mut state = Self {
            places: BTreeMap::new(),
            host_place: BTreeMap::new(),
            releases: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            members: BTreeMap::new(),
            requests: BTreeMap::new(),
            evidence: BTreeMap::new(),
            comparisons: BTreeMap::new(),
            asking: Asking::default(),
            started_at: now,
            latest: now,
        };
        // What was asked of a host is kept with the host, so hosts come first.
        let (hosts, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| matches!(record, Record::Host(_)));
        for record in hosts.into_iter().chain(others) {
            state.put(record);
        }
        state
    }

    /// All durable records, in a fixed order: `load(records())` is the same state without observations.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let hosts = || self.places.values().flat_map(|place| place.hosts.values());
        let issued = hosts().filter(|host| host.issued.highest.0 > 0);
        (self.releases.values().flat_map(BTreeMap::values))
            .map(|release| Record::Release(Box::new(release.clone())))
            .chain(hosts().map(|host| Record::Host(host.record.clone())))
            .chain(self.places.values().map(|place| Record::Place(Box::new(place.record.clone()))))
            .chain(issued.map(|host| Record::Issued(Box::new(host.issued.clone()))))
            .chain(self.rollouts.values().map(|rollout| Record::Rollout(Box::new(rollout.clone()))))
            .chain(
                (self.members.values().flat_map(BTreeMap::values))
                    .map(|member| Record::Member(Box::new(member.clone()))),
            )
            .chain(self.requests.values().map(|request| Record::Request(request.clone())))
            .chain(
                (self.evidence.values().flat_map(BTreeMap::values))
                    .map(|record| Record::Evidence(Box::new(record.clone()))),
            )
    }

    /// Takes in a change that has become durable.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { record } => self.put(record.clone()),
            Change::Delete { key } => self.delete(key),
        }
    }

    /// Whether this request was answered before, and is still on record.
    #[must_use]
    pub fn has_answered(&self, request: &RequestId) -> bool {
        self.requests.contains_key(request)
    }

    /// Takes in what was seen of a host. Nothing of it is durable.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) -> Attention {
        self.sees(now);
        if let Observation::Measured { host, connection, figures } = &observation {
            self.measured(host, *connection, figures, now);
            return Attention::Noted;
        }
        let Some(place) = self.host_place.get(observation.host()) else { return Attention::Ignored };
        let Some(place) = self.places.get_mut(place) else { return Attention::Ignored };
        let Some(host) = place.hosts.get_mut(observation.host()) else { return Attention::Ignored };
        let stable_after = host.stable_after();
        let attention = host.seen.take(observation, stable_after, now);
        // While a rollout holds the place, how long a host has been healthy matters too.
        match attention {
            Attention::Noted if place.record.holder.is_some() => Attention::Plan,
            other => other,
        }
    }

    /// The clock has leapt: no longer does what it says prove that so much time has passed.
    pub fn leapt(&mut self, now: Timestamp) {
        self.begin_anew(now);
    }

    /// Something was seen now.
    pub(crate) fn sees(&mut self, now: Timestamp) {
        if self.latest > now + CLOCK_SKEW {
            self.begin_anew(now);
        }
        self.latest = self.latest.max(now);
    }

    /// The clock was set back: no moment that was seen may lie ahead, or nothing would be overdue until then.
    fn begin_anew(&mut self, now: Timestamp) {
        self.latest = now;
        self.started_at = now;
        for host in self.places.values_mut().flat_map(|place| place.hosts.values_mut()) {
            host.seen.none_after(now);
        }
        self.comparisons.values_mut().for_each(Comparison::forget_window);
        self.asking.begin_anew();
    }

    /// What a host has measured, while the canary of its place is compared with others.
    fn measured(&mut self, host: &HostId, connection: u64, figures: &Figures, now: Timestamp) {
        let Some(place) = self.host_place.get(host) else { return };
        let Some(found) = self.places.get(place) else { return };
        let Some(rollout) = found.record.holder.as_ref().and_then(|id| self.rollouts.get(id)) else { return };
        let Some(looks) = rollout.looks_at_figures() else { return };
        let Some(seen) = found.hosts.get(host).filter(|host| host.seen.connection == Some(connection)) else {
            return;
        };
        let Some(report) = seen.fresh(now).map(|received| &received.report) else { return };
        let Some(active) = &report.active else { return };
        // What no request reaches does not compare with what serves.
        if seen.record.is_led_away() || report.traffic.is_away() {
            return;
        }
        let member = self.members.get(&rollout.id).and_then(|members| members.get(host));
        let runs_it = active.release.digest == rollout.release.digest;
        let stands = |member: &Member| member.left_out.is_none() && member.state.committed();
        let has_it = member.filter(|member| stands(member) && runs_it);
        let on = match (looks, member.filter(|member| member.batch == 1)) {
            (Looks::Watch(_), _) if has_it.is_some() => On::Canary,
            (Looks::Canary(..), Some(_)) if has_it.is_some() => On::Canary,
            (Looks::Canary(_, previous), None) if active.release.digest == previous.digest => On::Baseline,
            _ => return,
        };
        let (id, place) = (rollout.id.clone(), place.clone());
        let known = self.comparisons.get(&place).is_some_and(|comparison| *comparison.rollout() == id);
        if !known {
            let comparison = self.compare_anew(rollout, looks, false);
            self.comparisons.insert(place.clone(), comparison);
        }
        let members = self.members.get(&rollout.id);
        let all = || members.map_or(0, |members| members.values().filter(|member| stands(member)).count());
        let watched = matches!(looks, Looks::Watch(_));
        if let Some(comparison) = self.comparisons.get_mut(&place) {
            if watched && comparison.is_over(now) {
                comparison.expect(all());
            }
            comparison.take(host, on, figures, now);
        }
    }

    /// A comparison begins when a canary begins to be held, or a release to be watched, and ends with that.
    fn compare(&mut self, rollout: &Rollout) {
        let watches = |rollout: &Rollout| Some(matches!(rollout.looks_at_figures()?, Looks::Watch(_)));
        let known = self.rollouts.get(&rollout.id);
        // Whoever resumes what the limits have paused wants to see what it is like by now.
        let paused = |rollout: &Rollout| matches!(rollout.status, Status::Paused { .. });
        let resumed = watches(rollout) == Some(true) && known.is_some_and(paused) && !paused(rollout);
        if known.and_then(watches) == watches(rollout) && !resumed {
            return;
        }
        let begins = rollout.looks_at_figures().filter(|_| known.is_some());
        if self.comparison(&rollout.id).is_some() {
            self.comparisons.remove(&rollout.place);
        }
        // One that is held as the controller starts is compared from its first figures on.
        if let Some(looks) = begins {
            let comparison = self.compare_anew(rollout, looks, true);
            self.comparisons.insert(rollout.place.clone(), comparison);
        }
    }

    fn compare_anew(&self, rollout: &Rollout, looks: Looks<'_>, whole: bool) -> Comparison {
        let id = rollout.id.clone();
        match looks {
            Looks::Canary(asked, _) => Comparison::new(id, asked, self.compared(rollout), whole),
            Looks::Watch(limits) => {
                let release = self.release(&rollout.place.application, &rollout.release.name);
                Comparison::within(id, (limits, rollout.strategy.watch), Subjects::alone(release), whole)
            }
        }
    }

    /// What is compared in a rollout.
    pub(crate) fn compared(&self, rollout: &Rollout) -> Subjects {
        let record = |name: &ReleaseName| self.release(&rollout.place.application, name);
        let before = rollout.previous.as_ref().and_then(|previous| record(&previous.name));
        Subjects::of(record(&rollout.release.name), before)
    }

    /// How the canary of a rollout does beside the others, once there are figures of it.
    #[must_use]
    pub fn comparison(&self, rollout: &RolloutId) -> Option<&Comparison> {
        let place = &self.rollouts.get(rollout)?.place;
        self.comparisons.get(place).filter(|comparison| comparison.rollout() == rollout)
    }

    /// From when on to count what the records say happened `at`. A moment that lies ahead is of a clock that
    /// has been set back since: counted from it, nothing would be overdue for as long as the clock was ahead.
    pub(crate) fn counted(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        if at > now + CLOCK_SKEW { self.started_at } else { at }
    }

    /// The lock that holds a place now, until the moment at which it really ends: by a clock that was set back since,
    /// what it says may lie hours ahead.
    #[must_use]
    pub fn lock(&self, place: &PlaceRecord, now: Timestamp) -> Option<Lock> {
        let lock = place.lock.as_ref()?;
        let until = self.counted(lock.since, now) + lock.until.since(lock.since);
        (now < until).then(|| Lock { until, ..lock.clone() })
    }

    /// When a lease is surely over: the whole of it has passed under the eyes of this controller. What a clock
    /// says that leapt while nobody looked is no proof that the host's own has gone on as far.
    pub(crate) fn over_at(&self, lease: &Lease, now: Timestamp) -> Timestamp {
        let whole = lease.over_at.since(lease.issued_at);
        self.counted(lease.issued_at, now).max(self.started_at) + whole
    }

    /// The assignment that should be sent to the host (again): ask after it has connected and after each
    /// of its reports. Sending one twice does no harm.
    #[must_use]
    pub fn pending(&self, host: &HostId, now: Timestamp) -> Option<&Assignment> {
        let host = self.host(host)?;
        // Of one that is left alone nothing more is asked but where its requests go; what it has taken it ends.
        let pending = host.pending(now);
        pending.filter(|asked| match asked.order {
            // A word that was taken back is not said any more, nor is one said again that a rollout gave upon what was so
            // then: once it has lapsed the planner looks who serves.
            Order::Drain { away: true } => host.record.drain.is_some(),
            Order::Drain { away: false } => !host.record.is_led_away(),
            _ => !self.is_left_alone(host) && self.is_awaited(asked),
        })
    }

    /// Whether the rollout of an order waits for its answer. For one that was seen to lapse it does not, and may have given
    /// others what that host did not take: a clock that was set back since makes no order young again.
    fn is_awaited(&self, asked: &Assignment) -> bool {
        let under_way = self.rollout(&asked.rollout).filter(|rollout| !rollout.ended());
        if let Order::Migrate { .. } = asked.order {
            // Numbers are each host's own: another one may have the lease under the same.
            let run = under_way.and_then(|rollout| rollout.status.stage()?.migration());
            return matches!(
                run,
                Some(MigrationRun::Leased { lease })
                    if lease.host == asked.host && lease.generation == asked.generation
            );
        }
        let Some(rollout) = under_way else { return true };
        let member = self.members.get(&rollout.id).and_then(|members| members.get(&asked.host));
        member.is_none_or(|member| member.state.awaits() == Some(asked.generation))
    }

    /// A host's part in the rollout that holds its place, or, if none does, in the last one.
    #[must_use]
    pub fn part_of(&self, host: &Host) -> Option<(&Rollout, &Member)> {
        let place = self.place(&host.record.place)?;
        let rollout = self.rollouts.get(place.holder.as_ref().or(place.last.as_ref())?)?;
        Some((rollout, self.members.get(&rollout.id)?.get(&host.record.id)?))
    }

    /// Whether an operator has said that a host is to be left alone: by all, or by the rollout that holds its place,
    /// or held it last.
    #[must_use]
    pub fn is_left_alone(&self, host: &Host) -> bool {
        host.record.cordon.is_some()
            || self.part_of(host).is_some_and(|(rollout, member)| {
                member.is_excluded() || (member.left_out.is_some() && !rollout.ended())
            })
    }

    /// A host.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.places.get(self.host_place.get(id)?)?.hosts.get(id)
    }

    /// The hosts of a place, in order.
    pub fn hosts(&self, place: &Place) -> impl Iterator<Item = &Host> + use<'_> {
        self.places.get(place).into_iter().flat_map(|place| place.hosts.values())
    }

    /// All hosts, place by place.
    pub fn all_hosts(&self) -> impl Iterator<Item = &Host> + use<'_> {
        self.places.values().flat_map(|place| place.hosts.values())
    }

    /// What is known of a place.
    #[must_use]
    pub fn place(&self, place: &Place) -> Option<&PlaceRecord> {
        self.places.get(place).map(|place| &place.record)
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = &PlaceRecord> {
        self.places.values().map(|place| &place.record)
    }

    /// A release.
    #[must_use]
    pub fn release(&self, application: &AppName, name: &ReleaseName) -> Option<&ReleaseRecord> {
        self.releases.get(application)?.get(name)
    }

    /// What CI has said of the commits of an application, commit by commit.
    pub fn evidence(&self, application: &AppName) -> impl Iterator<Item = &EvidenceRecord> + use<'_> {
        self.evidence.get(application).into_iter().flat_map(BTreeMap::values)
    }

    /// The releases of an application, by name.
    pub fn releases(&self, application: &AppName) -> impl Iterator<Item = &ReleaseRecord> + use<'_> {
        self.releases.get(application).into_iter().flat_map(BTreeMap::values)
    }

    /// The releases of all applications.
    pub fn all_releases(&self) -> impl Iterator<Item = &ReleaseRecord> + use<'_> {
        self.releases.values().flat_map(BTreeMap::values)
    }

    /// A rollout.
    #[must_use]
    pub fn rollout(&self, id: &RolloutId) -> Option<&Rollout> {
        self.rollouts.get(id)
    }

    /// All rollouts.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.values()
    }

    /// The members of a rollout, in the order of hosts; kept until the one after the next of its place begins.
    pub fn members(&self, id: &RolloutId) -> impl Iterator<Item = &Member> + use<'_> {
        self.members.get(id).into_iter().flat_map(BTreeMap::values)
    }

    fn put(&mut self, record: Record) {
        match record {
            Record::Host(record) => {
                let id = record.id.clone();
                if let Some(old) = self.host_place.get(&id)
                    && *old != record.place
                {
                    self.delete(&Key::Host(id.clone()));
                }
                self.host_place.insert(id.clone(), record.place.clone());
                let place = self.place_mut(&record.place);
                match place.hosts.get_mut(&id) {
                    Some(host) => host.record = record,
                    None => {
                        place.hosts.insert(id, Host::new(record));
                    }
                }
            }
            Record::Release(release) => {
                let of_application = self.releases.entry(release.application.clone()).or_default();
                of_application.insert(release.release.name.clone(), *release);
            }
            Record::Place(record) => {
                let place = record.place.clone();
                self.place_mut(&place).record = *record;
            }
            Record::Rollout(rollout) => {
                self.compare(&rollout);
                self.asking.moved(self.rollouts.get(&rollout.id), &rollout);
                self.rollouts.insert(rollout.id.clone(), *rollout);
            }
            Record::Member(member) => {
                let members = self.members.entry(member.rollout.clone()).or_default();
                members.insert(member.host.clone(), *member);
            }
            Record::Issued(issued) => self.set_issued(*issued),
            Record::Request(request) => {
                self.requests.insert(request.id.clone(), request);
            }
            Record::Evidence(record) => {
                let statements = self.evidence.entry(record.statement.application.clone()).or_default();
                statements.insert((&record.statement).into(), *record);
            }
        }
    }

    fn set_issued(&mut self, issued: Issued) {
        let place = self.host_place.get(&issued.host).and_then(|place| self.places.get_mut(place));
        if let Some(host) = place.and_then(|place| place.hosts.get_mut(&issued.host)) {
            host.issued = issued;
        }
    }

    fn delete(&mut self, key: &Key) {
        match key {
            Key::Host(id) => {
                if let Some(place) = self.host_place.remove(id)
                    && let Some(place) = self.places.get_mut(&place)
                {
                    place.hosts.remove(id);
                }
            }
            Key::Release(application, name) => {
                if let Some(releases) = self.releases.get_mut(application) {
                    releases.remove(name);
                }
            }
            Key::Place(place) => {
                if let Some(state) = self.places.get_mut(place) {
                    state.record = PlaceRecord::new(place.clone());
                }
            }
            Key::Rollout(id) => {
                self.rollouts.remove(id);
            }
            Key::Member(rollout, host) => {
                if let Some(members) = self.members.get_mut(rollout) {
                    members.remove(host);
                    if members.is_empty() {
                        self.members.remove(rollout);
                    }
                }
            }
            Key::Issued(host) => self.set_issued(Issued::nothing(host.clone())),
            Key::Request(id) => {
                self.requests.remove(id);
            }
            Key::Evidence(application, said) => {
                if let Some(statements) = self.evidence.get_mut(application) {
                    statements.remove(said);
                }
            }
        }
    }

    fn place_mut(&mut self, place: &Place) -> &mut PlaceState {
        self.places
            .entry(place.clone())
            .or_insert_with(|| PlaceState { record: PlaceRecord::new(place.clone()), hosts: BTreeMap::new() })
    }
}
