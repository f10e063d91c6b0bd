//! Labels are changed: what they decide goes by them from now on, in the rollout under way as well.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{HostId, LabelKey, RolloutId};

use crate::command::Answer;
use crate::label::{self, Labels, MAX_LABELS};
use crate::log::LogEvent;
use crate::member::Member;
use crate::observation::Host;
use crate::record::{HostRecord, Place, Record};
use crate::refusal::Refusal;
use crate::regroup::ToCome;
use crate::rollout::Rollout;

use super::Draft;

impl Draft<'_> {
    /// Sets labels of hosts, and takes others away. What a host has already, or has not, is no change.
    pub(super) fn label(
        &mut self,
        hosts: &BTreeSet<HostId>,
        (set, removed): (&Labels, &BTreeSet<LabelKey>),
        reason: &str,
    ) -> Result<Answer, Refusal> {
        if hosts.is_empty() {
            return Err(Refusal::WithoutHosts);
        }
        if set.is_empty() && removed.is_empty() {
            return Err(Refusal::WithoutLabels);
        }
        if let Some(label) = removed.iter().find(|label| set.contains_key(*label)) {
            return Err(Refusal::LabelTwice { label: label.clone() });
        }
        for (key, value) in set {
            label::check(key.as_str(), value).map_err(|rule| Refusal::LabelValue { rule })?;
        }
        let mut changed = Vec::new();
        for host in hosts {
            let known = self.known_host(host)?;
            let mut labels = known.record.labels.clone();
            labels.retain(|label, _| !removed.contains(label));
            labels.extend(set.clone());
            if labels.len() > MAX_LABELS {
                return Err(Refusal::TooManyLabels { host: host.clone(), labels: labels.len() });
            }
            if labels != known.record.labels {
                self.keeps_its_group(known, &labels)?;
                changed.push((known.clone(), labels));
            }
        }
        for (host, labels) in &changed {
            let Place { application, environment } = host.record.place.clone();
            self.log(LogEvent::HostLabelled {
                host: host.record.id.clone(),
                application,
                environment,
                changes: label::changes(&host.record.labels, labels),
                reason: reason.to_owned(),
            });
            self.put(Record::Host(HostRecord { labels: labels.clone(), ..host.record.clone() }));
        }
        self.regroup(&changed);
        Ok(Answer::Accepted)
    }

    /// Which of two groups a host belongs to decides where requests go, and does not change while they are led.
    fn keeps_its_group(&self, host: &Host, labels: &Labels) -> Result<(), Refusal> {
        let under_way = self.state.part_of(host).filter(|(rollout, _)| !rollout.ended());
        let Some((rollout, groups)) =
            under_way.and_then(|(rollout, _)| Some((rollout, rollout.groups.as_ref()?)))
        else {
            return Ok(());
        };
        if host.record.labels.get(&groups.label) == labels.get(&groups.label) {
            return Ok(());
        }
        let (host, label) = (host.record.id.clone(), groups.label.clone());
        Err(Refusal::GroupInUse { host, label, rollout: rollout.id.clone() })
    }

    /// Hosts that have other labels from now on change with their new groups in the rollouts under way.
    pub(super) fn regroup(&mut self, changed: &[(Host, Labels)]) {
        let state = self.state;
        let mut rollouts: BTreeMap<&RolloutId, (&Rollout, ToCome<'_>)> = BTreeMap::new();
        let mut moved: Vec<(&RolloutId, Member)> = Vec::new();
        for (host, labels) in changed {
            let Some((rollout, member)) = state.part_of(host).filter(|(rollout, _)| !rollout.ended()) else {
                continue;
            };
            if !rollouts.contains_key(&rollout.id) {
                let Some(to_come) = ToCome::of(state, rollout) else { continue };
                rollouts.insert(&rollout.id, (rollout, to_come));
            }
            let Some((_, to_come)) = rollouts.get_mut(&rollout.id) else { continue };
            if let Some(batch) = to_come.place(host, member, labels) {
                moved.push((&rollout.id, Member { batch, ..member.clone() }));
            }
        }
        for (rollout, member) in moved {
            let of = rollouts.get(rollout).map_or(0, |(_, to_come)| to_come.batches());
            self.log(LogEvent::HostRegrouped {
                rollout: rollout.clone(),
                host: member.host.clone(),
                batch: u64::from(member.batch),
                of: u64::from(of),
            });
            self.put(Record::Member(Box::new(member)));
        }
        for (rollout, to_come) in rollouts.into_values() {
            if to_come.batches() != rollout.batches {
                let batches = to_come.batches();
                self.put(Record::Rollout(Box::new(Rollout { batches, ..rollout.clone() })));
            }
        }
    }
}
