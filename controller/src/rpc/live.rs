//! What connected hosts say of themselves for people to see: figures, facts, versions. In memory only, and
//! bounded for each host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use landfall_common::{HostId, Timestamp};
use landfall_proto::v1 as pb;

/// Facts of one host, and the bytes of each: a few dozen are usual.
const MAX_FACTS: usize = 64;
const MAX_TEXT_BYTES: usize = 256;

/// Checks of one host whose latencies are shown.
const MAX_CHECKS: usize = 64;

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
}

/// What every host says of itself.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<BTreeMap<HostId, Said>>>);

impl Live {
    /// A host has connected.
    pub fn hello(&self, host: HostId, hello: pb::Hello, certificate_expires: Timestamp) {
        let facts =
            hello.facts.into_iter().take(MAX_FACTS).map(|(key, value)| (cut(key), cut(value))).collect();
        let said = Said { facts, version: cut(hello.version), figures: None, certificate_expires };
        self.lock().insert(host, said);
    }

    /// New figures of a host.
    pub fn figures(&self, host: &HostId, mut figures: pb::HostFigures) {
        figures.checks.truncate(MAX_CHECKS);
        for check in &mut figures.checks {
            check.check = cut(std::mem::take(&mut check.check));
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

fn cut(mut text: String) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
