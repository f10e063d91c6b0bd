//! Hosts that requests are led away from, without a release: what runs there goes on.

use std::collections::BTreeSet;

use landfall_common::HostId;
use landfall_common::report::Traffic;

use crate::command::Answer;
use crate::drain;
use crate::log::LogEvent;
use crate::observation::Host;
use crate::reason::Hosts;
use crate::record::{Drain, HostRecord, Place, Record, Word};
use crate::refusal::Refusal;
use crate::rollout::Rollout;

use super::Draft;

impl Draft<'_> {
    /// Has requests led away from hosts, and cordons them. All of them, or none.
    pub(super) fn drain(
        &mut self,
        hosts: &BTreeSet<HostId>,
        reason: &str,
        beyond_budget: &str,
    ) -> Result<Answer, Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::WithoutReason { what: "drains" });
        }
        let known = hosts.iter().map(|host| self.known_host(host)).collect::<Result<Vec<_>, _>>()?;
        let same = |drain: &Drain| drain.word.by == self.command.by && drain.word.reason == reason;
        let known: Vec<Host> =
            known.into_iter().filter(|host| !host.record.drain.as_ref().is_some_and(same)).cloned().collect();
        let new = || known.iter().filter(|host| host.record.drain.is_none());
        for host in new() {
            self.can_be_drained(host)?;
        }
        let places: BTreeSet<&Place> = new().map(|host| &host.record.place).collect();
        for place in places.into_iter().filter(|_| beyond_budget.trim().is_empty()) {
            self.within_budget(place, new().filter(|host| host.record.place == *place))?;
        }
        for host in known {
            let before = host.record.drain.as_ref();
            let since = before.map_or(self.now, |drain| drain.word.since);
            let word = Word { by: self.command.by.clone(), reason: reason.to_owned(), since };
            let cordoned = before.map_or(host.record.cordon.is_some(), |drain| drain.cordoned);
            if host.record.cordon.is_none() {
                self.is_cordoned(&host, &word);
            }
            let cordon = host.record.cordon.clone().or_else(|| Some(word.clone()));
            let Place { application, environment } = host.record.place.clone();
            self.log(LogEvent::HostDrained {
                host: host.record.id.clone(),
                application,
                environment,
                reason: reason.to_owned(),
                beyond_budget: beyond_budget.trim().to_owned(),
            });
            let drain = Some(Drain { word, cordoned });
            self.put(Record::Host(HostRecord { cordon, drain, ..host.record }));
        }
        Ok(Answer::Accepted)
    }

    /// Has requests led back. The cordon ends with it, unless somebody has cordoned the host by a word of its own.
    pub(super) fn undrain(&mut self, hosts: &BTreeSet<HostId>, reason: &str) -> Result<Answer, Refusal> {
        let known = hosts.iter().map(|host| self.known_host(host)).collect::<Result<Vec<_>, _>>()?;
        let known: Vec<Host> = known.into_iter().filter(|host| host.record.is_led_away()).cloned().collect();
        for host in &known {
            self.is_not_led_by_a_rollout(host)?;
        }
        for host in known {
            let Place { application, environment } = host.record.place.clone();
            let (id, reason) = (host.record.id.clone(), reason.to_owned());
            self.log(LogEvent::HostUndrained {
                host: id.clone(),
                application,
                environment,
                reason: reason.clone(),
            });
            // What a rollout by two groups has left behind is over with a person's word. Of one that is under way, taking a
            // drain back says nothing.
            let is_led = self.leader_of(&host, host.record.drain.is_some()).is_some();
            let led_away = host.record.led_away.clone().filter(|_| is_led);
            let stays = host.record.drain.as_ref().is_none_or(|drain| drain.cordoned);
            if stays {
                self.put(Record::Host(HostRecord { drain: None, led_away, ..host.record }));
            } else {
                self.gives_free(Host { record: HostRecord { led_away, ..host.record }, ..host }, &reason);
            }
        }
        Ok(Answer::Accepted)
    }

    /// While a rollout by two groups is under way, it says which of them gets requests; what an operator has drained it
    /// leaves to him.
    fn is_not_led_by_a_rollout(&self, host: &Host) -> Result<(), Refusal> {
        let leader = self
            .leader_of(host, false)
            .filter(|_| host.record.led_away.is_some() && host.record.drain.is_none());
        leader.map_or(Ok(()), |rollout| {
            Err(Refusal::LedByRollout { host: host.record.id.clone(), rollout: rollout.id.clone() })
        })
    }

    /// The rollout by two groups that a host has a part in. Of one that was left out it says nothing any more, unless that is
    /// the cordon of a drain, which ends with it.
    fn leader_of(&self, host: &Host, is_drained: bool) -> Option<&Rollout> {
        let (rollout, member) = self.state.part_of(host)?;
        let takes_part = is_drained || member.left_out.is_none();
        (!rollout.ended() && rollout.groups.is_some() && takes_part).then_some(rollout)
    }

    /// What its own agent says decides: it knows what is active, and what leads requests to it.
    fn can_be_drained(&self, host: &Host) -> Result<(), Refusal> {
        let id = &host.record.id;
        let cordon = format!("`ctl hosts cordon {id}` has it left alone by rollouts meanwhile");
        let refuse = |reason: String| Err(Refusal::NotDrained { host: id.clone(), reason });
        let Some(received) = host.fresh(self.now) else {
            return refuse(format!(
                "it cannot be heard of, so that nobody would know when its requests have ended; {cordon}"
            ));
        };
        match received.report.traffic {
            Traffic::Unknown => {
                refuse(format!("its agent is of a version that cannot; upgrade it first, or {cordon}"))
            }
            Traffic::Ungated if received.report.active.is_none() => {
                refuse(format!("nothing runs there, so that no request is led to it; {cordon}"))
            }
            Traffic::Ungated => refuse(format!(
                "what runs there has no `[traffic]` with which its agent could lead requests to other hosts; take it out \
                 of what stands before the hosts by hand, and {cordon}"
            )),
            Traffic::Led | Traffic::Draining | Traffic::Drained | Traffic::Returning => Ok(()),
        }
    }

    fn within_budget<'h>(&self, place: &Place, asked: impl Iterator<Item = &'h Host>) -> Result<(), Refusal> {
        let takes_out = asked.filter(|host| host.available(self.now)).count();
        let out: Hosts = (self.state.hosts(place))
            .filter(|host| !host.available(self.now))
            .map(|host| host.record.id.clone())
            .collect();
        let (would, most) = (out.count() + takes_out, drain::may_be_out(self.state, place));
        if takes_out == 0 || would <= most {
            return Ok(());
        }
        let out = if out.is_empty() { "none".to_owned() } else { out.to_string() };
        Err(Refusal::DrainBeyondBudget { place: Box::new(place.clone()), would, most, out })
    }
}
