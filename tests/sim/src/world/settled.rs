//! Whether the world has come to rest, and if not, what it still waits for.

use landfall_controller_core::record::{Convergence, Place};

use super::World;
use crate::check::current;
use crate::controller::Running;

impl World {
    /// What is not settled yet; `None` if every rollout has ended and every host runs what it should, or
    /// there is a sentence that says why not.
    pub(super) fn unsettled(&self) -> Option<String> {
        let Some(controller) = &self.controller.running else {
            return Some("the controller does not run".to_owned());
        };
        [Self::staging(), Self::production()].iter().find_map(|place| self.unsettled_in(controller, place))
    }

    fn unsettled_in(&self, controller: &Running, place: &Place) -> Option<String> {
        let record = controller.state.place(place)?;
        let sentences: Vec<String> =
            controller.report.places.iter().flat_map(|report| report.sentences()).collect();
        if let Some(holder) = &record.holder {
            let word = controller.state.rollout(holder).map(|rollout| rollout.status.word().as_str());
            return Some(format!(
                "rollout {holder} is still {}: {}",
                word.unwrap_or("there"),
                sentences.join("; ")
            ));
        }
        if let Some(first) = record.line.first() {
            return Some(format!("rollout {first} still stands in line: {}", sentences.join("; ")));
        }
        let in_force = record.in_force()?;
        for host in self.hosts.iter().filter(|host| host.enrolled && self.place_of(host.index) == *place) {
            let really = current::active(&host.app_disk).unwrap_or_default();
            let runs = really.as_ref() == Some(&in_force.release.name)
                && self.runs_whole(host.index, &in_force.release.name);
            let is_gated = self.releases.iter().any(|release| {
                release.reference.name == in_force.release.name && release.plan.gate && !release.plan.slots
            });
            let has_reason = sentences.iter().any(|sentence| sentence.contains(host.id.as_str()))
                || !matches!(record.convergence, Convergence::On);
            // Beyond twenty sentences, and five hosts in one, they are only counted.
            let counted = sentences.iter().any(|sentence| counts_the_rest(sentence));
            // Requests come back to a host that is healthy, and whose release is proven there: to no other.
            let seen = controller.state.host(&host.id).and_then(|host| host.seen.report.as_ref());
            let active = seen.and_then(|received| received.report.active.as_ref());
            let unfit = self.never_answers_well(host.index, &in_force.release.name)
                || active.is_some_and(|active| !active.proven);
            let waits =
                unfit && (counted || sentences.iter().any(|sentence| sentence.contains(host.id.as_str())));
            if runs && is_gated && host.led_away && !waits {
                return Some(format!(
                    "{} runs what it should, and gets no requests: {}",
                    host.id,
                    sentences.join("; ")
                ));
            }
            if !runs && !has_reason && !counted {
                return Some(format!(
                    "{} runs {really:?} with {:?} and not {}, and nobody says why: {}",
                    host.id,
                    host.services,
                    in_force.release.name,
                    sentences.join("; ")
                ));
            }
        }
        None
    }

    /// Whether all services of a release run on a host, and nothing else serves.
    pub(super) fn runs_whole(&self, host: usize, release: &landfall_common::ReleaseName) -> bool {
        let host = &self.hosts[host];
        // A slot that requests are not led to may be kept for a while.
        let kept = |service: &landfall_common::ServiceName| {
            super::tasks::is_slot(service) && host.led_to.as_ref() != Some(service)
        };
        let serving = || host.services.iter().filter(|(service, _)| !kept(service));
        serving().all(|(_, runs)| runs == release) && serving().count() == self.releases_services(release)
    }

    fn releases_services(&self, name: &landfall_common::ReleaseName) -> usize {
        let release = self.releases.iter().find(|release| release.reference.name == *name);
        release.map_or(0, |release| release.manifest.program.services.len())
    }
}

/// Whether a sentence ends with, or names hosts as, `and 7 more`.
fn counts_the_rest(sentence: &str) -> bool {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    words.windows(3).any(|window| {
        window[0] == "and" && window[1].parse::<usize>().is_ok() && window[2].trim_end_matches(',') == "more"
    })
}

#[cfg(test)]
mod tests {
    use super::counts_the_rest;

    #[test]
    fn only_a_number_of_hosts_stands_for_hosts() {
        assert!(counts_the_rest("and 3 more"));
        assert!(counts_the_rest("a, b, c, d, e and 12 more are out, f waits"));
        for sentence in [
            "the migration was refused and runs no more",
            "it is handed out once more",
            "it lies more than one reversible migration back",
            "and more",
        ] {
            assert!(!counts_the_rest(sentence), "{sentence}");
        }
    }
}
