//! What an application shows of itself on a host: the text that its agent reads, by the agent's own reader.

use std::collections::BTreeMap;

use landfall_agent_core::exposition::series::Figure;
use landfall_agent_core::exposition::source::{Source, Told};
use landfall_common::manifest::AppMetric;
use landfall_common::manifest::metric::{Asked, Direction, Series};
use landfall_common::strategy::{Missing, Share};
use landfall_common::{Duration, MetricName, ReleaseName};
use landfall_controller_core::observation::{MetricFigures, Shown};

/// Requests between two readings.
pub const REQUESTS: u64 = 400;

/// How a release does by what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// One request in four hundred fails.
    Well,
    /// One in four, and no check sees it.
    Failing,
    /// It shows other things.
    Nothing,
    /// What it shows cannot be read.
    Rubbish,
}

impl Shows {
    /// Whether nothing can be learnt from it.
    #[must_use]
    pub fn is_missing(self) -> bool {
        matches!(self, Self::Nothing | Self::Rubbish)
    }
}

/// The requests that fail, of all requests; it decides, and may not be missing.
#[must_use]
pub fn errors() -> AppMetric {
    let series = |labels: &[(&str, &str)]| Series {
        name: "requests_total".to_owned(),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    AppMetric {
        name: MetricName::new("errors").expect("a valid name"),
        url: "http://127.0.0.1:80/metrics".to_owned(),
        asked: Asked::Ratio { events: series(&[("code", "5*")]), of: series(&[]), floor: Share::percent(1) },
        worse: Direction::Higher,
        tolerance_percent: 50,
        critical: true,
        missing: Missing::Pause,
    }
}

/// The process that answers on a host, and the agent's reader.
#[derive(Debug, Clone)]
pub struct Application {
    release: ReleaseName,
    started_ms: u64,
    requests: BTreeMap<u32, u64>,
    reader: Vec<Source>,
}

impl Application {
    /// A process that has just started, and that nobody has read.
    #[must_use]
    pub fn new(release: ReleaseName, now: u64) -> Self {
        Self { release, started_ms: now, requests: BTreeMap::new(), reader: Source::all(&[errors()]) }
    }

    /// Which release it is.
    #[must_use]
    pub fn release(&self) -> &ReleaseName {
        &self.release
    }

    /// It ends by itself and is started again: it counts from zero.
    pub fn restart(&mut self, now: u64) {
        (self.started_ms, self.requests) = (now, BTreeMap::new());
    }

    /// Some requests later, the agent reads it; `noise` more or fewer.
    pub fn read(&mut self, shows: Shows, noise: u64, now: u64) -> Vec<MetricFigures> {
        let failed = if shows == Shows::Failing { REQUESTS / 4 } else { 1 };
        *self.requests.entry(200).or_default() += REQUESTS + noise - failed;
        *self.requests.entry(503).or_default() += failed;
        let text = self.text(shows);
        for source in &mut self.reader {
            source.saw(Ok(&text), Duration::from_millis(now));
        }
        self.reader.iter_mut().flat_map(Source::take).map(figures).collect()
    }

    fn text(&self, shows: Shows) -> String {
        let begun = format!("process_start_time_seconds {}\n", self.started_ms / 1000);
        let counted = self.requests.iter();
        let counters: String =
            counted.map(|(code, count)| format!("requests_total{{code=\"{code}\"}} {count}\n")).collect();
        match shows {
            Shows::Well | Shows::Failing => begun + &counters,
            Shows::Nothing => begun,
            Shows::Rubbish => begun + &counters + "<html>it is down for maintenance</html>\n",
        }
    }
}

/// As they come to the controller.
fn figures(told: Told) -> MetricFigures {
    let figure = told.figure.map(|figure| match figure {
        Figure::Level(level) => Shown::Level(level),
        Figure::Events { events, of } => Shown::Events { events: whole(events), of: whole(of) },
    });
    MetricFigures { metric: told.metric, period: told.period, figure }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred requests")]
fn whole(count: f64) -> u64 {
    count.round() as u64
}
