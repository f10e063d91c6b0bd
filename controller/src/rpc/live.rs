//! What connected hosts say of themselves for people to see: figures, facts, versions. In memory only, and
//! bounded for each host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use landfall_common::assignment::ReleaseRef;
use landfall_common::{HostId, Timestamp};
use landfall_proto::v1 as pb;

/// Facts of one host, and the bytes of each: a few dozen are usual.
const MAX_FACTS: usize = 64;
const MAX_TEXT_BYTES: usize = 256;

/// Checks of one host whose latencies are shown.
pub const MAX_CHECKS: usize = 64;

/// Services of one host whose use is shown.
pub const MAX_SERVICES: usize = 64;

/// Metrics of one application that are shown.
pub const MAX_METRICS: usize = landfall_common::manifest::metric::MAX_METRICS;

/// One host's findings that are shown, their bytes, and the most kinds, notes and failures beside them.
const MAX_FINDINGS: usize = 50;
const MAX_FINDINGS_BYTES: usize = 16 * 1024;
const MAX_SENTENCES: usize = 20;

/// What one host says of its drift.
#[derive(Debug, Clone)]
pub struct Drift {
    /// Its words, bounded.
    pub message: Arc<pb::Drift>,
    /// When it looked, by this controller's clock.
    pub looked: Timestamp,
    /// When it last read everything.
    pub read: Option<Timestamp>,
}

impl Drift {
    /// How many things are not as they were applied.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.message.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether the host looked at this release.
    #[must_use]
    pub fn is_of(&self, release: Option<&ReleaseRef>) -> bool {
        let looked_at = self.message.release.as_ref().map(|release| release.digest.as_str());
        looked_at == release.map(|release| release.digest.to_string()).as_deref()
    }
}

/// What one host says of itself.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Kernel, distribution, architecture…
    pub facts: BTreeMap<String, String>,
    /// The agent's version.
    pub version: String,
    /// The newest figures.
    pub figures: Option<Box<pb::HostFigures>>,
    /// When the certificate of its session expires.
    pub certificate_expires: Timestamp,
    /// What is not as it was applied, as of its last look.
    pub drift: Option<Drift>,
    /// The repair that it was asked for and has not answered.
    repairing: Option<String>,
}

/// What every host says of itself.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<BTreeMap<HostId, Said>>>);

impl Live {
    /// A host has connected.
    pub fn hello(&self, host: HostId, hello: pb::Hello, certificate_expires: Timestamp) {
        let facts =
            hello.facts.into_iter().take(MAX_FACTS).map(|(key, value)| (cut(key), cut(value))).collect();
        let mut all = self.lock();
        // An agent that connects anew has not looked again, and may be in the middle of a repair.
        let before = all.remove(&host).unwrap_or_default();
        let said = Said {
            facts,
            version: cut(hello.version),
            figures: None,
            certificate_expires,
            drift: before.drift,
            repairing: before.repairing,
        };
        all.insert(host, said);
    }

    /// What a host has seen of its drift. Gives the repair that has ended by it, if one was awaited.
    pub fn drift(&self, host: &HostId, drift: pb::Drift, now: Timestamp) -> Option<pb::DriftRepair> {
        let ago = |ms: u64| Timestamp::from_ms(now.ms().saturating_sub(ms));
        let (looked, read) = (ago(drift.looked_ago_ms), drift.read_ago_ms.map(ago));
        let message = Arc::new(bounded(drift));
        let mut all = self.lock();
        let said = all.get_mut(host)?;
        let repair = message.repair.clone();
        said.drift = Some(Drift { message, looked, read });
        let ended = repair.filter(|repair| said.repairing.as_ref() == Some(&repair.request_id));
        if ended.is_some() {
            said.repairing = None;
        }
        ended
    }

    /// A host is asked for a repair; its end is awaited.
    pub fn repairing(&self, host: &HostId, request: String) {
        if let Some(said) = self.lock().get_mut(host) {
            said.repairing = Some(request);
        }
    }

    /// New figures of a host.
    pub fn figures(&self, host: &HostId, mut figures: pb::HostFigures) {
        figures.checks.truncate(MAX_CHECKS);
        for check in &mut figures.checks {
            check.check = cut(std::mem::take(&mut check.check));
        }
        figures.services.truncate(MAX_SERVICES);
        for service in &mut figures.services {
            service.service = cut(std::mem::take(&mut service.service));
        }
        figures.metrics.truncate(MAX_METRICS);
        for metric in &mut figures.metrics {
            metric.metric = cut(std::mem::take(&mut metric.metric));
            metric.missing = cut(std::mem::take(&mut metric.missing));
        }
        if let Some(said) = self.lock().get_mut(host) {
            said.figures = Some(Box::new(figures));
        }
    }

    /// What a host says of itself.
    #[must_use]
    pub fn of(&self, host: &HostId) -> Option<Said> {
        self.lock().get(host).cloned()
    }

    /// A host is gone for good.
    pub fn forget(&self, host: &HostId) {
        self.lock().remove(host);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Said>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whatever a host says, it takes so much of memory and no more.
fn bounded(mut drift: pb::Drift) -> pb::Drift {
    let mut left = MAX_FINDINGS_BYTES;
    drift.findings.truncate(MAX_FINDINGS);
    drift.findings.retain(|finding| {
        let bytes = finding.path.len() + finding.kind.len() + finding.detail.len() + finding.by_hand.len();
        left = left.saturating_sub(bytes);
        left > 0
    });
    drift.counts =
        drift.counts.into_iter().take(MAX_SENTENCES).map(|(kind, count)| (cut(kind), count)).collect();
    drift.digest = cut(drift.digest);
    drift.notes = sentences(drift.notes);
    if let Some(release) = &mut drift.release {
        release.name = cut(std::mem::take(&mut release.name));
        release.digest = cut(std::mem::take(&mut release.digest));
    }
    if let Some(repair) = &mut drift.repair {
        repair.request_id = cut(std::mem::take(&mut repair.request_id));
        repair.failed = sentences(std::mem::take(&mut repair.failed));
    }
    drift
}

fn sentences(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().take(MAX_SENTENCES).map(|text| cut_at(text, 4 * MAX_TEXT_BYTES)).collect()
}

/// As much of a text as one field is shown with.
pub fn cut(text: String) -> String {
    cut_at(text, MAX_TEXT_BYTES)
}

fn cut_at(mut text: String, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path: String) -> pb::DriftFinding {
        pb::DriftFinding { path, kind: "added".into(), detail: "a file".into(), by_hand: String::new() }
    }

    #[test]
    fn whatever_a_host_says_of_its_drift_takes_so_much_room_and_no_more() {
        let long = "ä".repeat(100_000);
        let drift = pb::Drift {
            digest: long.clone(),
            counts: (0..1000).map(|kind| (format!("{kind}{long}"), u64::MAX)).collect(),
            findings: vec![pb::DriftFinding::default(); 100_000],
            notes: vec![long.clone(); 1000],
            repair: Some(pb::DriftRepair {
                request_id: long.clone(),
                restored: 1,
                failed: vec![long.clone(); 1000],
            }),
            ..Default::default()
        };
        let kept = bounded(drift.clone());
        assert_eq!((kept.findings.len(), kept.counts.len(), kept.notes.len()), (50, 20, 20));
        assert!(prost::Message::encoded_len(&kept) < 64 * 1024);
        let large = pb::Drift { findings: vec![finding(long), finding("media".into())], ..drift.clone() };
        assert_eq!(bounded(large).findings, []);
        let usual = pb::Drift { findings: vec![finding("media".into()); 3], ..Default::default() };
        assert_eq!(bounded(usual.clone()), usual);

        let (live, host) = (Live::default(), "web-1".parse::<HostId>().unwrap());
        live.hello(host.clone(), pb::Hello::default(), Timestamp::default());
        let now = Timestamp::from_ms(10_000);
        live.drift(&host, pb::Drift { looked_ago_ms: u64::MAX, ..drift }, now);
        let said = live.of(&host).unwrap().drift.unwrap();
        assert_eq!((said.total(), said.looked), (u64::MAX, Timestamp::default()));
    }

    #[test]
    fn the_end_of_a_repair_is_told_once_and_only_of_the_one_that_was_asked_for() {
        let (live, host) = (Live::default(), "web-1".parse::<HostId>().unwrap());
        let said = |request: &str| {
            let repair = pb::DriftRepair { request_id: request.into(), restored: 2, failed: Vec::new() };
            let drift = pb::Drift { repair: Some(repair), ..Default::default() };
            live.drift(&host, drift, Timestamp::default()).map(|repair| repair.restored)
        };
        live.hello(host.clone(), pb::Hello::default(), Timestamp::default());
        live.repairing(&host, "one".into());
        assert_eq!(said("another"), None);
        // The connection was lost meanwhile.
        live.hello(host.clone(), pb::Hello::default(), Timestamp::default());
        assert_eq!(said("one"), Some(2));
        assert_eq!(said("one"), None);
    }
}
