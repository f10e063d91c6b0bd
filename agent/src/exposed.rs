//! What the application of the active release shows to Prometheus: read every few seconds, and told with each heartbeat.
//!
//! What a reading says is decided in [`landfall_agent_core::exposition`]. A reading is bounded in time and in bytes and
//! follows no redirect; what goes wrong is logged when it is another thing than before.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfall_agent_core::exposition::source::{Source, Told};
use landfall_common::manifest::AppMetric;
use landfall_common::{Duration, MetricName};

use crate::clock;
use crate::probes;
use crate::steps::Words;

/// From one reading to the next: two at least in the shortest window.
const INTERVAL: Duration = Duration::from_secs(5);

/// An application that needs longer for its figures has none.
const TIMEOUT: Duration = Duration::from_secs(4);

/// More is not what one application shows: some twenty thousand lines.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Collects what was read, until someone takes it.
#[derive(Debug, Default)]
pub struct Exposed(Mutex<Of>);

/// Of which watch, and what is read during it.
#[derive(Debug, Default)]
struct Of {
    watch: u64,
    sources: Vec<Source>,
}

impl Exposed {
    /// Only these are read from now on, and each from the beginning: they may be of another release. Gives the URLs, with
    /// their words.
    pub fn begin(&self, watch: u64, metrics: &[AppMetric]) -> Vec<String> {
        let sources = Source::all(metrics);
        let urls = sources.iter().map(|source| source.url().to_owned()).collect();
        *self.lock() = Of { watch, sources };
        urls
    }

    /// What was shown since the last call.
    pub fn take(&self) -> Vec<Told> {
        self.lock().sources.iter_mut().flat_map(Source::take).collect()
    }

    /// Gives why metrics are missing. What was read for a watch that has ended is nothing any more.
    fn saw(&self, watch: u64, url: &str, read: &Result<String, String>) -> BTreeMap<MetricName, String> {
        let mut of = self.lock();
        let is_current = of.watch == watch;
        let source = of.sources.iter_mut().find(|source| is_current && source.url() == url);
        let Some(source) = source else { return BTreeMap::new() };
        source.saw(read.as_deref().map_err(String::as_str), clock::mono());
        source.missing().map(|(metric, why)| (metric.clone(), why.to_owned())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Of> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one URL again and again.
pub async fn read(exposed: &Exposed, watch: u64, url: String, words: &Words) {
    let mut missing = BTreeMap::new();
    loop {
        let begun = tokio::time::Instant::now();
        let now = exposed.saw(watch, &url, &once(&url, words).await);
        for (metric, why) in now.iter().filter(|(metric, why)| missing.get(*metric) != Some(*why)) {
            tracing::warn!(%metric, why, "a metric of the application is missing");
        }
        missing = now;
        tokio::time::sleep_until(begun + INTERVAL).await;
    }
}

async fn once(url: &str, words: &Words) -> Result<String, String> {
    let url = words.expand(url).map_err(|error| error.to_string())?;
    let read = tokio::time::timeout(TIMEOUT, probes::fetch(&url, MAX_BYTES)).await;
    let body =
        read.unwrap_or_else(|_| Err(format!("{url} gave no answer within {} s", TIMEOUT.as_secs())))?;
    String::from_utf8(body).map_err(|_| format!("{url} answered with what is no text"))
}
