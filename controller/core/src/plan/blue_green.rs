//! Blue-green across two groups of hosts: which of them gets the requests. One group is led away from and takes the
//! release, the other goes on serving; once the first is proven, and promoted where that is asked, requests change over to
//! it. The other group keeps the release before until the watch is over: for so long the way back is to lead requests
//! back.
//!
//! Requests are led away from a group only while enough of the other one serve, as this controller has just heard it.
//! Nothing is concluded from silence, and requests are never led to a release that nobody has let get them: where the
//! group that serves is lost, a person decides.

use landfall_common::report::{Health, Traffic};

use crate::groups::{self, Groups, Side};
use crate::log::LogEvent;
use crate::member::MemberState;
use crate::reason::{Doing, Hosts, Wait, WayOut, Why};
use crate::record::Convergence;
use crate::rollout::{Back, Rollout, RolloutKind, Stage, Status};
use crate::timing::UNREACHABLE_GRACE;

use super::Turn;
use super::run;
use super::stops;
use super::table::{Seat, Table};
use super::watch;

/// Where requests are to go in a rollout by two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// To the second group: the first takes the release.
    Before,
    /// To the first group, which runs the release.
    After,
    /// To those that run the release before.
    Back,
}

fn phase(rollout: &Rollout) -> Option<Phase> {
    rollout.groups.as_ref()?;
    match rollout.status.stage()? {
        Stage::Running { batch: 1 } | Stage::Canary { .. } => Some(Phase::Before),
        Stage::Gated { at } => (at.next > 1).then_some(Phase::Before),
        Stage::Switching | Stage::Running { .. } | Stage::Watching { .. } | Stage::Contracting { .. } => {
            Some(Phase::After)
        }
        Stage::RollingBack { back: Back::Hosts, .. } => Some(Phase::Back),
        // Nothing changes on the hosts there.
        Stage::InLine { .. }
        | Stage::Staging
        | Stage::Migrating { .. }
        | Stage::RollingBack { back: Back::Schema { .. }, .. } => None,
    }
}

/// The rollout by two groups that is under way and may decide something, with where requests are to go.
fn active<'t>(table: &'t Table<'_>) -> Option<(&'t Groups, Phase)> {
    let rollout = table.rollout.as_deref()?;
    let Status::Active { .. } = rollout.status else { return None };
    Some((rollout.groups.as_ref()?, phase(rollout)?))
}

/// The group that a host belongs to: that of its batch, or else of its label.
fn side(seat: &Seat<'_>, groups: &Groups) -> Option<Side> {
    match seat.member.as_deref() {
        Some(member) => Some(Side::of_batch(member.batch)),
        None => groups.side(&seat.host.record.labels),
    }
}

/// How many hosts of a group get requests and serve, how many have to, and how many there are.
#[derive(Debug, Clone, Copy, Default)]
struct Carried {
    serve: usize,
    needed: usize,
    of: usize,
}

impl Carried {
    fn by(table: &Table<'_>, groups: &Groups, group: Side) -> Self {
        let own = || table.seats.iter().filter(|seat| side(seat, groups) == Some(group));
        let of = own().count();
        // A host that is told to take its requests back does not serve before it says so.
        let serve = own().filter(|seat| !seat.out).count();
        Self { serve, of, needed: groups::needed(table.rollout().strategy.max_unavailable, of) }
    }

    /// The same once requests have come back to those that run the release before, and are well.
    fn expected(table: &Table<'_>, groups: &Groups, group: Side) -> Self {
        let previous = table.rollout().previous.as_ref();
        let own = table.seats.iter().filter(|seat| side(seat, groups) == Some(group));
        let comes = |seat: &&Seat<'_>| {
            let well = seat.fresh.is_some_and(|heard| matches!(heard.report.health, Health::Healthy { .. }));
            let comes = !matches!(seat.member_state(), Some(MemberState::ReturnFailed));
            let runs = previous.is_some_and(|previous| seat.runs(previous));
            well && comes && runs && seat.host.record.drain.is_none()
        };
        Self { serve: own.filter(comes).count(), ..Self::by(table, groups, group) }
    }

    fn suffices(self) -> bool {
        self.serve >= self.needed
    }
}

/// The group of a host that has a part in the rollout.
fn own_side(seat: &Seat<'_>) -> Option<Side> {
    seat.member.as_deref().map(|member| Side::of_batch(member.batch))
}

/// Whether it has just said that it is not healthy: to lead requests away from it takes nothing from anybody.
fn ails(seat: &Seat<'_>) -> bool {
    seat.fresh.is_some_and(|received| matches!(received.report.health, Health::Unhealthy { .. }))
}

fn traffic(seat: &Seat<'_>) -> Option<Traffic> {
    seat.fresh.map(|received| received.report.traffic)
}

/// Whether it gets no requests as it is, and is not about to: to leave it so takes nothing from anybody.
fn is_dark(seat: &Seat<'_>) -> bool {
    let is_away = matches!(traffic(seat), Some(Traffic::Draining | Traffic::Drained));
    is_away && seat.drain_asked != Some(false)
}

/// Whether something runs there from which nothing could lead requests away.
fn is_tied(seat: &Seat<'_>) -> bool {
    !is_bare(seat) && matches!(traffic(seat), Some(Traffic::Unknown | Traffic::Ungated))
}

/// Whether nothing runs there yet, so that there are no requests to lead anywhere.
fn is_bare(seat: &Seat<'_>) -> bool {
    seat.fresh.is_some_and(|received| received.report.active.is_none())
}

/// Why a host waits for others of its group to be proven, if it does, and these do not wait for it: nothing could keep
/// requests away from what it would activate, or they have changed over to its group already.
pub(super) fn comes_later(table: &Table<'_>, seat: &Seat<'_>) -> Option<Why> {
    let rollout = table.rollout();
    let is_first = own_side(seat) == Some(Side::First);
    match phase(rollout)? {
        Phase::Before if rollout.kind == RolloutKind::Forward && is_bare(seat) => Some(Why::Bare),
        Phase::After if is_first && !second_follows(rollout) && is_to_come(seat) && !is_bare(seat) => {
            Some(Why::Loaded)
        }
        _ => None,
    }
}

/// Whether the second group takes the release already.
fn second_follows(rollout: &Rollout) -> bool {
    !matches!(rollout.status.stage(), Some(Stage::Switching | Stage::Watching { .. }))
}

/// Whether a host that can be heard of has not been let go.
fn is_to_come(seat: &Seat<'_>) -> bool {
    let state = seat.member_state();
    let waits =
        matches!(state, Some(MemberState::Pending | MemberState::Staging { .. } | MemberState::Staged));
    seat.fresh.is_some() && waits
}

/// Whether a host may activate the release as far as its requests are concerned: none reach it, so that they reach the
/// release only once somebody has let them.
pub(super) fn may_take(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let rollout = table.rollout();
    if rollout.groups.is_none() {
        return true;
    }
    if is_bare(seat) {
        return comes_later(table, seat).is_none();
    }
    let is_away = seat.led_away.is_some() && traffic(seat) == Some(Traffic::Drained);
    // What was proven before may get requests at any time, and a way back must move.
    is_away || (rollout.kind == RolloutKind::Rollback && !seat.serves && ails(seat))
}

/// On the way back, by groups: which of them can have the requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    first: bool,
    second: bool,
}

impl Expected {
    /// `None` where requests stay where they are.
    pub fn of(table: &Table<'_>) -> Option<Self> {
        let groups = table.rollout().groups.as_ref()?;
        let can = |group| Carried::expected(table, groups, group).suffices();
        Some(Self { first: can(Side::First), second: can(Side::Second) })
    }

    /// Whether those that a host does not belong to can.
    fn others(self, seat: &Seat<'_>) -> bool {
        match own_side(seat) {
            Some(Side::First) => self.second,
            Some(Side::Second) => self.first,
            None => false,
        }
    }
}

/// The same of a host that is to go back. One that does not serve goes back as it is, unless the other group can have its
/// requests before.
pub(super) fn may_return(seat: &Seat<'_>, expected: Option<Expected>) -> bool {
    let Some(expected) = expected else { return true };
    let is_led = matches!(traffic(seat), Some(Traffic::Led | Traffic::Draining));
    !seat.serves && (!is_led || (ails(seat) && !expected.others(seat)))
}

/// Why it is its requests that keep a host from the release, if they do.
pub(super) fn holds(table: &Table<'_>, seat: &Seat<'_>) -> Option<Why> {
    why_held(table, seat, may_take(table, seat))
}

/// The same of one that is to go back.
pub(super) fn holds_back(table: &Table<'_>, seat: &Seat<'_>, expected: Option<Expected>) -> Option<Why> {
    why_held(table, seat, may_return(seat, expected))
}

fn why_held(table: &Table<'_>, seat: &Seat<'_>, may: bool) -> Option<Why> {
    if may && seat.knows_its_traffic() {
        return None;
    }
    let by_groups = table.rollout().groups.is_some();
    Some(if by_groups && is_tied(seat) { Why::Tied } else { Why::Loaded })
}

/// Whether there can be evidence of a host although no request reaches it: before they change over, of the group that they
/// are led away from.
pub(super) fn proves_without_requests(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let Some(rollout) = table.rollout.as_deref() else { return false };
    phase(rollout) == Some(Phase::Before)
        && seat.led_away.is_some()
        && seat.member.as_deref().is_some_and(|member| Side::of_batch(member.batch) == Side::First)
}

/// From whom requests may be led away now because a rollout has decided so. What was decided a while ago, or before a
/// start, is held against what is so now.
pub(super) struct MayLeave {
    groups: Groups,
    phase: Phase,
    first: bool,
    second: bool,
}

impl MayLeave {
    /// `None` if from nobody.
    pub fn of(table: &Table<'_>) -> Option<Self> {
        let (groups, phase) = active(table)?;
        let carries = |group| Carried::by(table, groups, group).suffices();
        Some(Self {
            phase,
            first: carries(Side::Second),
            second: carries(Side::First),
            groups: groups.clone(),
        })
    }

    /// Whether from this host.
    pub fn holds(&self, seat: &Seat<'_>) -> bool {
        let others_carry = match side(seat, &self.groups) {
            Some(Side::First) => self.first,
            Some(Side::Second) => self.second,
            None => return false,
        };
        others_carry || is_dark(seat) || (ails(seat) && self.phase == Phase::Before)
    }
}

/// Decides from which hosts requests are to be led away, and to which back.
pub(super) fn lead(table: &mut Table<'_>) {
    match table.rollout.as_deref() {
        Some(rollout) if !rollout.ended() && rollout.groups.is_none() => left_behind(table),
        Some(rollout) if !rollout.ended() => {
            joined(table);
            given_up(table);
            by_groups(table);
            stays(table).into_iter().for_each(|wait| table.wait(wait));
        }
        _ => at_rest(table),
    }
}

/// The same of a rollout by two groups, before it lets hosts go.
pub(super) fn by_groups(table: &mut Table<'_>) {
    let Some((groups, phase)) = active(table) else { return };
    // Whoever gets them back comes first: that takes nothing from anybody, and may be all that the others wait for.
    for at in decide(table, groups, phase).back {
        if !table.lead_back(at) {
            return;
        }
    }
    let Some((groups, phase)) = active(table) else { return };
    for at in decide(table, groups, phase).away {
        if !table.lead_away(at) {
            return;
        }
    }
}

/// Why requests stay where they are although they are to be led away, if they do.
pub(super) fn stays(table: &Table<'_>) -> Option<Wait> {
    let (groups, phase) = active(table)?;
    decide(table, groups, phase).stays
}

/// What is to change of where requests go, by seats.
struct Decided {
    back: Vec<usize>,
    away: Vec<usize>,
    stays: Option<Wait>,
}

fn decide(table: &Table<'_>, groups: &Groups, phase: Phase) -> Decided {
    let carried = [Side::First, Side::Second].map(|group| Carried::by(table, groups, group));
    let carried = |group: Side| carried[usize::from(group == Side::Second)];
    // On the way back one group goes after the other, first the one that took the release last, unless it waits for the other
    // one itself.
    let second_waits = carried(Side::Second).suffices() && !carried(Side::First).suffices();
    let goes_back = if second_is_due(table) && !second_waits { Side::Second } else { Side::First };
    let (mut back, mut away) = (Vec::new(), Vec::new());
    let mut kept: Option<(Side, Hosts)> = None;
    for (at, seat) in table.seats.iter().enumerate() {
        let Some(own) = side(seat, groups) else { continue };
        let others = carried(own.other());
        let Some(is_away) = wanted(table, seat, phase, (own, goes_back), others.suffices()) else { continue };
        // It waits for the others with its requests.
        if phase == Phase::Before && own == Side::First && !is_away && is_to_come(seat) {
            kept.get_or_insert((own.other(), Hosts::default())).1.add(&seat.host.record.id);
        }
        if is_away == seat.led_away.is_some() {
            continue;
        }
        if !is_away {
            back.push(at);
            continue;
        }
        if is_bare(seat) || is_tied(seat) {
            continue;
        }
        // That the others do not serve yet is no reason for a host to hold the release up that does not either. Where the
        // release has just been let, and on the way back, the others are expected.
        let costs_nothing = is_dark(seat) || (ails(seat) && phase == Phase::Before);
        if costs_nothing || others.suffices() {
            away.push(at);
        } else {
            kept.get_or_insert((own.other(), Hosts::default())).1.add(&seat.host.record.id);
        }
    }
    let stays = kept.map(|(to, hosts)| {
        let Carried { serve, needed, of } = carried(to);
        Wait::Carried { group: groups.name(to), serve, needed, of, hosts }
    });
    Decided { back, away, stays }
}

/// Whether requests are to be led away from a host; none if that stays as it is.
fn wanted(
    table: &Table<'_>,
    seat: &Seat<'_>,
    phase: Phase,
    (own, goes_back): (Side, Side),
    others_carry: bool,
) -> Option<bool> {
    let rollout = table.rollout();
    let runs_previous = rollout.previous.as_ref().is_some_and(|previous| seat.runs(previous));
    // Whoever was left out may have been let go before: his requests are where they are until somebody says otherwise.
    let state = seat.member_state()?;
    // Who cannot come to the release, or back from it, goes on with what he had before.
    let stands = state.barred() && seat.member.as_deref().is_some_and(|member| !member.touched);
    let stays =
        phase == Phase::Back && matches!(state, MemberState::ReturnFailed) && is_at_a_stop(table, seat);
    if stands || stays {
        return Some(false);
    }
    match (phase, own) {
        // What it would be led away to is gone, and it has not changed yet.
        (Phase::Before, Side::First) if runs_previous && is_to_come(seat) && !others_carry && !ails(seat) => {
            Some(false)
        }
        (Phase::Before, Side::First) => Some(true),
        (Phase::Before, Side::Second) => runs_previous.then_some(false),
        (Phase::After, _) if matches!(state, MemberState::Committed { .. }) => Some(false),
        // It is about it.
        (Phase::After, _) if matches!(state, MemberState::Granted { .. }) => None,
        // It comes late, and changes once the second group serves beside its own.
        (Phase::After, Side::First) if !second_follows(rollout) => {
            (traffic(seat) == Some(Traffic::Led)).then_some(false)
        }
        // It has it already, and need not be led away from first.
        (Phase::After, Side::Second) if seat.runs(&rollout.release) && seat.led_away.is_none() => None,
        (Phase::After, _) => Some(true),
        (Phase::Back, own) if is_due(seat) => (own == goes_back).then_some(true),
        (Phase::Back, _) => runs_previous.then_some(false),
    }
}

/// Whether a host could not go back for a stop before the release that was in force, and runs what it had proven before.
fn is_at_a_stop(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let proven = seat.host.proven_digest().is_some_and(|digest| digest != table.rollout().release.digest);
    proven && stops::stands_before_one(table, seat)
}

/// Whether a host has to go back.
fn is_due(seat: &Seat<'_>) -> bool {
    matches!(
        seat.member_state(),
        Some(MemberState::ReturnDue | MemberState::Returning { .. } | MemberState::ReturnFailed)
    )
}

/// Whether hosts of the second group have to go back. Whoever cannot be heard of, or has failed to, holds nobody up.
fn second_is_due(table: &Table<'_>) -> bool {
    table.members().any(|(seat, member)| {
        let can = seat.fresh.is_some() && !matches!(member.state, MemberState::ReturnFailed);
        Side::of_batch(member.batch) == Side::Second && is_due(seat) && can
    })
}

/// A word that was not carried out when its rollout ended, and is not any more.
fn is_moot(seat: &Seat<'_>) -> bool {
    traffic(seat).is_some_and(|traffic| !traffic.is_away()) && seat.drain_asked.is_none()
}

/// Whether a host that has no part in the rollout gets its requests: one that has joined since, and runs what is in force.
fn is_free(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let has_part = seat.member.is_some() || seat.left_out.is_some();
    seat.led_away.is_some() && !has_part && (is_moot(seat) || runs_what_is_in_force(table, seat))
}

fn runs_what_is_in_force(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let in_force = table.place.in_force();
    seat.fresh.is_some() && in_force.is_some_and(|in_force| seat.runs(&in_force.release))
}

/// Requests come back to hosts that have joined during the rollout.
fn joined(table: &mut Table<'_>) {
    for at in 0..table.seats.len() {
        if is_free(table, &table.seats[at]) && !table.lead_back(at) {
            return;
        }
    }
}

/// While the schema is taken back nobody gets requests with what is given up: that they were to come back to it was decided
/// before. The hosts go back after it.
fn given_up(table: &mut Table<'_>) {
    let rollout = table.rollout();
    if !matches!(rollout.status.stage(), Some(Stage::RollingBack { back: Back::Schema { .. }, .. })) {
        return;
    }
    let release = rollout.release.clone();
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        let has_it = seat.member.is_some() && seat.active() == Some(&release);
        let comes_back = matches!(traffic(seat), Some(Traffic::Draining | Traffic::Drained));
        if has_it && comes_back && seat.led_away.is_none() && !table.lead_away(at) {
            return;
        }
    }
}

/// What a rollout by groups has left behind, and one of another strategy changes: requests come back to what it has
/// brought.
fn left_behind(table: &mut Table<'_>) {
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        let is_brought =
            matches!(seat.member_state(), Some(MemberState::Committed { .. } | MemberState::Returned { .. }));
        let comes_back = seat.led_away.is_some() && (is_brought || is_moot(seat) || is_free(table, seat));
        if comes_back && !table.lead_back(at) {
            return;
        }
    }
}

/// No rollout is under way: requests come back to hosts that run what is in force. Where a rollout was ended half way,
/// they stay where they are until somebody says what is to run.
fn at_rest(table: &mut Table<'_>) {
    let is_held = matches!(table.place.convergence, Convergence::Held { .. });
    let mut kept = Hosts::default();
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        if seat.led_away.is_none() {
            continue;
        }
        if is_moot(seat) || (runs_what_is_in_force(table, seat) && !is_held) {
            if !table.lead_back(at) {
                return;
            }
        } else if is_dark(seat) {
            kept.add(&seat.host.record.id);
        }
    }
    if !kept.is_empty() {
        table.wait(Wait::KeptAway { hosts: kept, held: is_held });
    }
}

/// Whether requests have been led away from the hosts of the second group, as far as these can be heard of, and who is
/// awaited since he cannot.
fn led_over(table: &Table<'_>) -> (bool, Vec<Wait>) {
    let (mut all, mut waits) = (true, Vec::new());
    for (seat, member) in table.members().filter(|(_, member)| Side::of_batch(member.batch) == Side::Second) {
        let is_over = match traffic(seat) {
            Some(_) if is_tied(seat) => {
                let (what, host) = (Doing::Switch, member.host.clone());
                waits.push(Wait::Host { what, host, why: Why::Tied });
                false
            }
            None => {
                let (what, host) = (Doing::Switch, member.host.clone());
                waits.push(Wait::Host { what, host, why: table.unheard(seat) });
                table.silent_for(seat) >= UNREACHABLE_GRACE
            }
            Some(Traffic::Drained) => seat.led_away.is_some(),
            Some(_) => is_bare(seat) || seat.runs(&table.rollout().release),
        };
        all &= is_over;
    }
    (all, waits)
}

/// The first group is proven and let go: requests change over to it, and the second group is led away from.
pub(super) fn switch(table: &mut Table<'_>) -> Turn {
    let now = table.now;
    table.rollout_mut().enter(Stage::Switching, now);
    Turn::Taken
}

/// Nobody is left in the first group: there is nobody to lead requests to, and no word could change that.
pub(super) fn gone(table: &mut Table<'_>) -> Turn {
    let first = table.rollout().groups.as_ref().map_or_else(String::new, |groups| groups.name(Side::First));
    table.pause(format!(
        "no host of {first} is left in it, so that requests cannot be led there: `ctl include` and `ctl resume` go on where \
         one was left out, {}{}",
        WayOut::Stay,
        if table.way_out() == WayOut::Back { format!(", {}", WayOut::Back) } else { String::new() }
    ))
}

/// Goes on once all requests have changed over, and the first group is healthy with them.
pub(super) fn advance(table: &mut Table<'_>) -> Turn {
    if let Err(turn) = run::begin(table, 1) {
        return turn;
    }
    let look = run::look(table, 1, table.rollout().strategy.min_healthy);
    if look.empty {
        return gone(table);
    }
    let (is_led_over, silent) = led_over(table);
    if look.settled && look.proven > 0 && is_led_over {
        let rollout = table.rollout();
        let to = rollout.groups.as_ref().map_or_else(String::new, |groups| groups.name(Side::First));
        let event = LogEvent::RequestsSwitched { rollout: rollout.id.clone(), to };
        table.log(event);
        if watch::is_due(table.rollout()) {
            return watch::begin(table);
        }
        return run::open(table, 2);
    }
    let switch = |wait: Wait| match wait {
        Wait::Host { host, why, .. } => Wait::Host { what: Doing::Switch, host, why },
        other => other,
    };
    let waits: Vec<Wait> = look.waits.into_iter().map(switch).chain(silent).collect();
    if table.stalled() {
        return run::stalled(table, &waits);
    }
    run::report(table, waits);
    Turn::None
}
