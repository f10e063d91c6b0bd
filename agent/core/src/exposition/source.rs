//! One place where an application shows its metrics, read again and again: what it has shown since it was last told.
//!
//! What cannot be read is missing and never zero. A process that has started anew counts from zero; where it cannot be told
//! from one whose clock was set, the time between two readings is left out. One that is older than the one before it means
//! that several answer there by turns, each with counters of its own: then nothing is believed.

use std::collections::BTreeMap;

use landfall_common::manifest::metric::{AppMetric, Asked, MAX_METRICS};
use landfall_common::{Duration, MetricName};

use super::series::{Figure, Missing, Reading, may_be_asked, read};
use super::{Sample, samples};

/// What was read longer ago is nothing that could be grown from: the host slept, or the application was away.
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// For so long nothing is believed after processes were seen to answer by turns: those before and after a graceful restart
/// do so for a moment.
const DOUBT: Duration = Duration::from_secs(60);

/// By which a process that has started anew is known; every client library shows it.
const STARTED: &str = "process_start_time_seconds";

/// What one metric was like since it was last told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Which.
    pub metric: MetricName,
    /// The time that its figure covers.
    pub period: Duration,
    /// The figure, or why there is none.
    pub figure: Result<Figure, String>,
}

/// One URL, and the metrics that are read there.
#[derive(Debug, Clone)]
pub struct Source {
    url: String,
    meters: Vec<(MetricName, Meter)>,
    /// When the process began that answered last, as it says.
    started: Option<f64>,
    doubted_until: Option<Duration>,
}

/// Which process answered, beside the one that did before.
#[derive(Debug, Clone, Copy)]
enum Process {
    /// As far as one can tell.
    Same,
    /// It says that it began later, and counts less.
    Another,
    /// It says that it began later, and has lost nothing of what was counted. Somebody may have set the clock: many client
    /// libraries reckon the beginning from that, and all that the process ever counted would be taken for new.
    Unsure,
}

/// What is gathered of one metric.
#[derive(Debug, Clone)]
struct Meter {
    asked: Asked,
    before: Option<(Reading, Duration)>,
    period: Duration,
    /// Levels, each as often as it counts, and how often that is.
    weighted: f64,
    weight: f64,
    /// What was counted, of how many.
    counted: Option<(f64, f64)>,
    missing: Option<String>,
}

impl Source {
    /// One for each URL.
    #[must_use]
    pub fn all(metrics: &[AppMetric]) -> Vec<Self> {
        let mut by_url: BTreeMap<&str, Vec<(MetricName, Meter)>> = BTreeMap::new();
        for metric in metrics.iter().take(MAX_METRICS) {
            by_url
                .entry(&metric.url)
                .or_default()
                .push((metric.name.clone(), Meter::new(metric.asked.clone())));
        }
        let source = |(url, meters): (&str, _)| Self {
            url: url.to_owned(),
            meters,
            started: None,
            doubted_until: None,
        };
        by_url.into_iter().map(source).collect()
    }

    /// Where it is; with words.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes in what was read there at `at`, on a clock that only grows; or why nothing could be read.
    pub fn saw(&mut self, text: Result<&str, &str>, at: Duration) {
        let kept = text.map_err(str::to_owned).and_then(|text| self.kept(text));
        let kept = kept.and_then(|kept| match self.by_turns(&kept, at) {
            true => Err(format!(
                "several processes answer at {} by turns, each with figures of its own: it has to show those of all \
                 together",
                self.url
            )),
            false => Ok(kept),
        });
        match kept {
            Ok(kept) => {
                let started = started(&kept);
                let is_later = matches!((self.started, started), (Some(before), Some(now)) if now > before);
                self.started = started.or(self.started);
                let readings: Vec<_> =
                    self.meters.iter().map(|(_, meter)| read(&meter.asked, &kept)).collect();
                let fell = readings.iter().zip(&self.meters).any(|(reading, (_, meter))| meter.fell(reading));
                let process = match (is_later, fell) {
                    (false, _) => Process::Same,
                    (true, true) => Process::Another,
                    (true, false) => Process::Unsure,
                };
                for ((_, meter), reading) in self.meters.iter_mut().zip(readings) {
                    meter.read(reading, process, at);
                }
            }
            Err(why) => self.meters.iter_mut().for_each(|(_, meter)| meter.missing = Some(why.clone())),
        }
    }

    /// The metrics of which the last reading said nothing, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&MetricName, &str)> {
        self.meters.iter().filter_map(|(metric, meter)| Some((metric, meter.missing.as_deref()?)))
    }

    /// What was gathered since the last call. A metric that has not been read twice yet is not told of.
    pub fn take(&mut self) -> Vec<Told> {
        self.meters.iter_mut().filter_map(|(metric, meter)| meter.take(metric)).collect()
    }

    /// The samples that somebody asks for, of a text that is whole.
    fn kept<'t>(&self, text: &'t str) -> Result<Vec<Sample<'t>>, String> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("what it shows breaks off in its last line".to_owned());
        }
        let mut kept = Vec::new();
        for sample in samples(text) {
            let sample = sample.map_err(|rubbish| rubbish.to_string())?;
            let is_asked = |(_, meter): &(_, Meter)| may_be_asked(&meter.asked, &sample);
            if sample.name == STARTED || self.meters.iter().any(is_asked) {
                kept.push(sample);
            }
        }
        Ok(kept)
    }

    /// Whether processes answer by turns, or did so a moment ago.
    fn by_turns(&mut self, kept: &[Sample<'_>], at: Duration) -> bool {
        let is_older = matches!((self.started, started(kept)), (Some(before), Some(now)) if now < before);
        if is_older {
            self.doubted_until = Some(at + DOUBT);
        }
        let doubted = self.doubted_until.is_some_and(|until| at < until);
        if doubted {
            self.started = started(kept);
            self.meters.iter_mut().for_each(|(_, meter)| meter.forget());
        } else {
            self.doubted_until = None;
        }
        doubted
    }
}

/// When the process began, where it says so, and only one does.
fn started(kept: &[Sample<'_>]) -> Option<f64> {
    let mut all = kept.iter().filter(|sample| sample.name == STARTED).map(|sample| sample.value);
    all.next().filter(|value| value.is_finite() && all.next().is_none())
}

impl Meter {
    fn new(asked: Asked) -> Self {
        Self {
            asked,
            before: None,
            period: Duration::ZERO,
            weighted: 0.0,
            weight: 0.0,
            counted: None,
            missing: None,
        }
    }

    /// Whether something that was counted before is less now, or gone.
    fn fell(&self, reading: &Result<Reading, Missing>) -> bool {
        matches!((&self.before, reading), (Some((before, _)), Ok(now)) if now.fell_from(before))
    }

    fn read(&mut self, reading: Result<Reading, Missing>, process: Process, at: Duration) {
        let reading = match reading {
            Ok(reading) => reading,
            Err(why) => {
                self.missing = Some(why.to_string());
                return;
            }
        };
        self.missing = None;
        let before = self.before.take().filter(|(_, then)| at.saturating_sub(*then) <= LONGEST_GAP);
        let took = before.as_ref().map_or(Duration::ZERO, |(_, then)| at.saturating_sub(*then));
        let before = before.and_then(|(before, _)| match process {
            Process::Same => Some(before),
            Process::Another => Some(before.at_its_start()),
            Process::Unsure => None,
        });
        match reading.since(before.as_ref(), took.as_secs_f64()) {
            Some(Figure::Level(level)) => {
                // A gauge is read at a moment, a rate is that of all the time between.
                let weight = if matches!(reading, Reading::Gauge(_)) { 1.0 } else { took.as_secs_f64() };
                self.weighted += level * weight;
                self.weight += weight;
                self.period += took;
            }
            Some(Figure::Events { events, of }) => {
                let (had, had_of) = self.counted.unwrap_or_default();
                self.counted = Some((had + events, had_of + of));
                self.period += took;
            }
            None => {}
        }
        self.before = Some((reading, at));
    }

    /// What was gathered may have been of another process.
    fn forget(&mut self) {
        *self = Self { missing: self.missing.take(), ..Self::new(self.asked.clone()) };
    }

    fn take(&mut self, metric: &MetricName) -> Option<Told> {
        let figure = match self.counted.take() {
            Some((events, of)) => Some(Figure::Events { events, of }),
            None => (self.weight > 0.0).then(|| Figure::Level(self.weighted / self.weight)),
        };
        (self.weighted, self.weight) = (0.0, 0.0);
        let period = std::mem::take(&mut self.period);
        let missing = self.missing.take();
        let figure = figure.map(Ok).or(missing.map(Err))?;
        Some(Told { metric: metric.clone(), period, figure })
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::manifest::metric::{Decimal, Direction, Series};
    use landfall_common::strategy::{Missing as WhenMissing, Share};

    use super::*;

    fn metric(name: &str, asked: Asked) -> AppMetric {
        AppMetric {
            name: MetricName::new(name).unwrap(),
            url: "http://127.0.0.1:1/metrics".to_owned(),
            asked,
            worse: Direction::Higher,
            tolerance_percent: 50,
            critical: true,
            missing: WhenMissing::Pause,
        }
    }

    fn series(name: &str) -> Series {
        Series { name: name.to_owned(), labels: [].into() }
    }

    fn source() -> Source {
        let floor = Share::percent(1);
        let errors = Asked::Ratio { events: series("failed_total"), of: series("requests_total"), floor };
        let queue = Asked::Gauge { of: series("queue"), slack: Decimal::zero() };
        let done = Asked::Counter { of: series("requests_total"), slack: Decimal::zero() };
        let metrics = [metric("errors", errors), metric("queue", queue), metric("done", done)];
        let [source] = &mut Source::all(&metrics)[..] else { panic!("one URL") };
        source.clone()
    }

    fn text(started: u64, requests: u64, failed: u64, queue: u64) -> String {
        format!(
            "process_start_time_seconds {started}\nrequests_total {requests}\nfailed_total {failed}\nqueue {queue}\nother 1\n"
        )
    }

    /// What is told, as one text.
    fn told(source: &mut Source) -> String {
        let one = |told: Told| match told.figure {
            Ok(Figure::Level(level)) => format!("{} {level} in {} s", told.metric, told.period.as_secs()),
            Ok(Figure::Events { events, of }) => {
                format!("{} {events} of {of} in {} s", told.metric, told.period.as_secs())
            }
            Err(why) => format!("{}: {why}", told.metric),
        };
        source.take().into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn what_came_between_two_readings_is_told_once() {
        let mut source = source();
        source.saw(Ok(&text(7, 100, 1, 4)), at(0));
        assert_eq!(told(&mut source), "queue 4 in 0 s", "since when the others were counted is not known");
        source.saw(Ok(&text(7, 110, 2, 4)), at(5));
        source.saw(Ok(&text(7, 140, 2, 8)), at(10));
        assert_eq!(told(&mut source), "errors 1 of 40 in 10 s; queue 6 in 10 s; done 4 in 10 s");
        assert_eq!(told(&mut source), "");
        source.saw(Ok(&text(7, 140, 2, 8)), at(15));
        assert_eq!(told(&mut source), "errors 0 of 0 in 5 s; queue 8 in 5 s; done 0 in 5 s");
    }

    #[test]
    fn a_process_that_starts_anew_counts_from_zero_even_if_it_has_counted_more_since() {
        let mut source = source();
        source.saw(Ok(&text(7, 100, 1, 4)), at(0));
        told(&mut source);
        source.saw(Ok(&text(9, 120, 0, 4)), at(5));
        assert_eq!(told(&mut source), "errors 0 of 120 in 5 s; queue 4 in 5 s; done 24 in 5 s");
        // Of one that does not say when it began it is seen by what it counts.
        source.saw(Ok("requests_total 30\nfailed_total 3\nqueue 1\n"), at(10));
        assert_eq!(told(&mut source), "errors 3 of 30 in 5 s; queue 1 in 5 s; done 6 in 5 s");
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_new_of_what_was_counted_long_ago() {
        let mut source = source();
        source.saw(Ok(&text(7, 100, 1, 4)), at(0));
        told(&mut source);
        source.saw(Ok(&text(3607, 110, 1, 4)), at(5));
        assert_eq!(told(&mut source), "queue 4 in 5 s", "of five seconds nothing is known");
        source.saw(Ok(&text(3607, 120, 2, 4)), at(10));
        assert_eq!(told(&mut source), "errors 1 of 10 in 5 s; queue 4 in 5 s; done 2 in 5 s");
    }

    #[test]
    fn what_cannot_be_read_is_missing_with_the_reason_and_is_made_up_for_later() {
        let mut source = source();
        source.saw(Ok(&text(7, 100, 1, 4)), at(0));
        told(&mut source);
        source.saw(Err("it answered 404"), at(5));
        insta::assert_snapshot!(told(&mut source), @"errors: it answered 404; queue: it answered 404; done: it answered 404");
        source.saw(Ok("<html>"), at(10));
        source.saw(Ok("requests_total 1"), at(15));
        insta::assert_snapshot!(told(&mut source), @"errors: what it shows breaks off in its last line; queue: what it shows breaks off in its last line; done: what it shows breaks off in its last line");
        source.saw(Ok("requests_total NaN\n"), at(20));
        insta::assert_snapshot!(told(&mut source), @"errors: requests_total has a value that is no number; queue: there is no queue; done: requests_total has a value that is no number");
        source.saw(Ok(&text(7, 150, 2, 4)), at(25));
        assert_eq!(told(&mut source), "errors 1 of 50 in 25 s; queue 4 in 25 s; done 2 in 25 s");
        source.saw(Ok(&text(7, 950, 2, 4)), at(95));
        assert_eq!(told(&mut source), "queue 4 in 0 s", "too long ago");
    }

    #[test]
    fn processes_that_answer_by_turns_are_told_and_nothing_of_them_is_counted() {
        let mut source = source();
        for (second, started) in [(0, 7), (5, 8), (10, 7), (15, 8)] {
            source.saw(Ok(&text(started, 100 * started, 0, 4)), at(second));
        }
        insta::assert_snapshot!(told(&mut source), @"errors: several processes answer at http://127.0.0.1:1/metrics by turns, each with figures of its own: it has to show those of all together; queue: several processes answer at http://127.0.0.1:1/metrics by turns, each with figures of its own: it has to show those of all together; done: several processes answer at http://127.0.0.1:1/metrics by turns, each with figures of its own: it has to show those of all together");
        // After a graceful restart only the new one answers, in the end.
        source.saw(Ok(&text(8, 1000, 0, 4)), at(70));
        assert_eq!(told(&mut source), "queue 4 in 0 s");
        source.saw(Ok(&text(8, 1010, 0, 4)), at(75));
        assert_eq!(told(&mut source), "errors 0 of 10 in 5 s; queue 4 in 5 s; done 2 in 5 s");
    }

    proptest::proptest! {
        /// Whatever it shows, a figure is a number, and no more is counted than there was.
        #[test]
        fn a_figure_is_always_a_number(texts in proptest::collection::vec("(requests_total|failed_total|queue|x) [0-9.+InfNa-]{0,4}\n", 0..12)) {
            let mut source = source();
            for (second, text) in texts.iter().enumerate() {
                source.saw(Ok(text), at(second as u64));
                for told in source.take() {
                    match told.figure {
                        Ok(Figure::Level(level)) => proptest::prop_assert!(level.is_finite()),
                        Ok(Figure::Events { events, of }) => proptest::prop_assert!((0.0..=of).contains(&events)),
                        Err(why) => proptest::prop_assert!(!why.is_empty()),
                    }
                }
            }
        }
    }
}
