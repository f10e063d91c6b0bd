//! Hosts that are left out: of one rollout, or of all that follows. What they were let do they do, and stay with
//! what comes of it.

use std::collections::BTreeSet;

use landfall_common::{HostId, RolloutId};

use crate::command::Answer;
use crate::log::LogEvent;
use crate::member::{LeftOut, Member, MemberState, Out};
use crate::observation::Host;
use crate::record::{Drain, HostRecord, Place, Record, Word};
use crate::refusal::Refusal;
use crate::rollout::{Rollout, Stage};

use super::Draft;
use super::control::{ended, wrong};

impl Draft<'_> {
    /// Leaves hosts out of a rollout. Those that are out of it already stay so.
    pub(super) fn exclude(
        &mut self,
        hosts: &BTreeSet<HostId>,
        from: Option<&RolloutId>,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::WithoutReason { what: "excludes" });
        }
        let rollout = self.left_by(hosts, from)?;
        let id = rollout.id.clone();
        let mut out = Vec::new();
        for host in hosts {
            let no_part = || Refusal::NoPart { host: host.clone(), rollout: id.clone() };
            let member = self.part(&id, host).ok_or_else(no_part)?;
            if !member.is_excluded() {
                out.push(member.clone());
            }
        }
        let takes_part = |member: &&Member| member.left_out.is_none() && !hosts.contains(&member.host);
        if !out.is_empty() && !self.state.members(&id).any(|member| takes_part(&member)) {
            return Err(Refusal::NobodyLeft { rollout: id });
        }
        if !out.is_empty() {
            let hosts = out.iter().map(|member| member.host.clone()).collect();
            self.log(LogEvent::HostsExcluded { rollout: id.clone(), hosts, reason: reason.to_owned() });
        }
        for member in out {
            let left_out = Some(LeftOut { how: Out::Excluded, word: self.word(reason) });
            self.put(Record::Member(Box::new(Member { left_out, ..member })));
        }
        Ok(Answer::Rollout { id })
    }

    /// Lets excluded hosts take part again. Those that take part already go on.
    pub(super) fn include(&mut self, hosts: &BTreeSet<HostId>, reason: &str) -> Result<Answer, Refusal> {
        let mut back: Vec<(&Rollout, &Member)> = Vec::new();
        let mut about = None;
        for host in hosts {
            let known = self.known_host(host)?;
            if let Some(word) = &known.record.cordon {
                let (by, reason) = (word.by.to_string(), word.reason.clone());
                return Err(Refusal::IsCordoned { host: host.clone(), by, reason });
            }
            let Some((rollout, member)) = self.state.part_of(known) else { continue };
            about = about.or(Some(rollout.id.clone()));
            if member.left_out.is_some() {
                back.push((rollout, member));
            }
        }
        for (rollout, hosts) in by_rollout(&back) {
            self.log(LogEvent::HostsIncluded { rollout, hosts, reason: reason.to_owned() });
        }
        back.into_iter().for_each(|(rollout, member)| self.takes_part_again(rollout, member));
        Ok(about.map_or(Answer::Accepted, |id| Answer::Rollout { id }))
    }

    pub(super) fn cordon(&mut self, hosts: &BTreeSet<HostId>, reason: &str) -> Result<Answer, Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::WithoutReason { what: "cordons" });
        }
        let known = hosts.iter().map(|host| self.known_host(host)).collect::<Result<Vec<_>, _>>()?;
        // That of a drained host may be the drain's own word: this one is to stay when requests are led back.
        let same = |host: &Host| {
            let own = host.record.drain.as_ref().is_none_or(|drain| drain.cordoned);
            let word = host.record.cordon.as_ref().filter(|_| own);
            word.is_some_and(|word| word.by == self.command.by && word.reason == reason)
        };
        let known: Vec<Host> = known.into_iter().filter(|host| !same(host)).cloned().collect();
        for host in known {
            // Since when it is left alone, whoever says why anew.
            let since = host.record.cordon.as_ref().map_or(self.now, |word| word.since);
            let word = Word { since, ..self.word(reason) };
            self.is_cordoned(&host, &word);
            // By a word of its own: that stays when requests are led back.
            let drain = host.record.drain.clone().map(|drain| Drain { cordoned: true, ..drain });
            self.put(Record::Host(HostRecord { cordon: Some(word), drain, ..host.record }));
        }
        Ok(Answer::Accepted)
    }

    pub(super) fn uncordon(&mut self, hosts: &BTreeSet<HostId>, reason: &str) -> Result<Answer, Refusal> {
        let known = hosts.iter().map(|host| self.known_host(host)).collect::<Result<Vec<_>, _>>()?;
        if let Some((host, drain)) = known.iter().find_map(|host| Some((host, host.record.drain.as_ref()?))) {
            let (by, reason) = (drain.word.by.to_string(), drain.word.reason.clone());
            return Err(Refusal::IsDrained { host: host.record.id.clone(), by, reason });
        }
        let known: Vec<Host> =
            known.into_iter().filter(|host| host.record.cordon.is_some()).cloned().collect();
        known.into_iter().for_each(|host| self.gives_free(host, reason));
        Ok(Answer::Accepted)
    }

    /// It takes part again in whatever has left it out because of a cordon.
    pub(super) fn gives_free(&mut self, host: Host, reason: &str) {
        let Place { application, environment } = host.record.place.clone();
        let (id, reason) = (host.record.id.clone(), reason.to_owned());
        self.log(LogEvent::HostUncordoned { host: id, application, environment, reason });
        let under_way = self.state.part_of(&host).filter(|(rollout, _)| !rollout.ended());
        // Whoever was excluded as well stays so.
        let cordoned = |member: &Member| member.left_out.is_some() && !member.is_excluded();
        if let Some((rollout, member)) = under_way.filter(|(_, member)| cordoned(member)) {
            self.takes_part_again(rollout, member);
        }
        self.put(Record::Host(HostRecord { cordon: None, drain: None, ..host.record }));
    }

    /// It is left out of the rollout under way as well, and that is in the log.
    pub(super) fn is_cordoned(&mut self, host: &Host, word: &Word) {
        let Place { application, environment } = host.record.place.clone();
        let (id, reason) = (host.record.id.clone(), word.reason.clone());
        self.log(LogEvent::HostCordoned { host: id, application, environment, reason });
        let under_way = self.state.part_of(host).filter(|(rollout, _)| !rollout.ended());
        if let Some((_, member)) = under_way.filter(|(_, member)| !member.is_excluded()) {
            let left_out = Some(LeftOut { how: Out::Cordoned, word: word.clone() });
            let member = Member { left_out, ..member.clone() };
            self.put(Record::Member(Box::new(member)));
        }
    }

    fn word(&self, reason: &str) -> Word {
        Word { by: self.command.by.clone(), reason: reason.to_owned(), since: self.now }
    }

    pub(super) fn known_host(&self, host: &HostId) -> Result<&Host, Refusal> {
        self.state.host(host).ok_or_else(|| Refusal::NoSuchHost { host: host.clone() })
    }

    fn part(&self, rollout: &RolloutId, host: &HostId) -> Option<&Member> {
        self.state.members.get(rollout)?.get(host)
    }

    /// The rollout that hosts are to be excluded from: the one that holds the place of all of them.
    fn left_by(&self, hosts: &BTreeSet<HostId>, from: Option<&RolloutId>) -> Result<&Rollout, Refusal> {
        let mut found = None;
        for host in hosts {
            let place = &self.known_host(host)?.record.place;
            let holder = self.state.place(place).and_then(|record| record.holder.as_ref());
            let rollout = match (from.or(holder), found) {
                (Some(id), _) => {
                    let unknown = || Refusal::NoSuchRollout { rollout: id.clone() };
                    self.state.rollout(id).ok_or_else(unknown)?
                }
                (None, Some(found)) => found,
                (None, None) => {
                    return Err(Refusal::NothingUnderWay { place: place.clone(), host: host.clone() });
                }
            };
            let rollout = found.unwrap_or(rollout);
            if rollout.place != *place {
                let (place, rollout) = (Box::new(place.clone()), rollout.id.clone());
                return Err(Refusal::HostOfAnother { host: host.clone(), place, rollout });
            }
            found = Some(rollout);
        }
        let rollout = found.ok_or(Refusal::WithoutHosts)?;
        if rollout.ended() {
            return Err(ended(rollout));
        }
        if rollout.in_line().is_some() {
            return Err(wrong(
                rollout,
                "it has not begun; `ctl hosts cordon` has hosts left alone by whatever begins",
            ));
        }
        Ok(rollout)
    }

    /// It goes on as it was, but for a failure: whoever lets a host take part again wants it to be tried again.
    fn takes_part_again(&mut self, rollout: &Rollout, member: &Member) {
        let going_back = matches!(rollout.status.stage(), Some(Stage::RollingBack { .. }));
        let tried = self.retried(member, going_back).unwrap_or_else(|| member.clone());
        // That nothing was heard of it meanwhile is not held against it.
        let since = if matches!(tried.state, MemberState::Granted { .. } | MemberState::Returning { .. }) {
            tried.since
        } else {
            self.now
        };
        let mut member = Member { left_out: None, since, ..tried };
        // Once all batches are over it belongs to the last of them: no gate before another one would be asked any more.
        let is_over =
            matches!(rollout.status.stage(), Some(Stage::Watching { .. } | Stage::Contracting { .. }));
        if is_over && rollout.groups.is_none() {
            member.batch = member.batch.min(rollout.batches);
        }
        // It was to come after the last batch: that was the canary.
        let batches = member.batch;
        if batches > rollout.batches && !rollout.ended() {
            let longer = Record::Rollout(Box::new(Rollout { batches, ..rollout.clone() }));
            // Another host of the same word may have said so before.
            if !self.output.changes.iter().any(|change| change.key() == longer.key()) {
                self.put(longer);
            }
        }
        self.put(Record::Member(Box::new(member)));
    }
}

fn by_rollout(members: &[(&Rollout, &Member)]) -> Vec<(RolloutId, Vec<HostId>)> {
    let mut found: std::collections::BTreeMap<RolloutId, Vec<HostId>> = std::collections::BTreeMap::new();
    for (_, member) in members {
        found.entry(member.rollout.clone()).or_default().push(member.host.clone());
    }
    found.into_iter().collect()
}
