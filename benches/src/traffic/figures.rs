//! From requests to figures; pure.

use std::time::{Duration, Instant};

use landfall_e2e::load::{End, Sample};

use crate::table::median;

/// One change of the release.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// From here to [`Switch::began`] nothing else was done: what the requests take otherwise.
    pub quiet_since: Instant,
    /// When the command was given.
    pub began: Instant,
    /// When the command had ended and the new release alone had been answering for a while.
    pub ended: Instant,
    /// What the command took.
    pub command: Duration,
}

/// What came out of one run.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Requests sent.
    pub requests: usize,
    /// Releases changed to.
    pub switches: usize,
    /// Requests on new connections that failed.
    pub failed_new: usize,
    /// Requests on kept-alive connections that failed.
    pub failed_kept: usize,
    /// Kept-alive connections closed before an answer, whose request was answered on a second one.
    pub repeated: usize,
    /// In milliseconds: of requests that were due in the quiet times.
    pub p99_before: f64,
    /// In milliseconds: of requests that were due while the release changed.
    pub p99_during: f64,
    /// For each change, in milliseconds: the longest time in which nothing was answered.
    pub silences: Vec<f64>,
    /// For each change, in seconds: what the command took.
    pub commands: Vec<f64>,
    /// What the first failures were.
    pub failures: Vec<String>,
}

impl Figures {
    /// Of all requests of a run and the changes in it.
    #[must_use]
    pub fn of(samples: &[Sample], switches: &[Switch]) -> Self {
        let failed =
            |kept| samples.iter().filter(|sample| sample.end == End::Failed && sample.kept == kept).count();
        let due_in = |from: Instant, to: Instant| {
            samples.iter().filter(move |sample| sample.due >= from && sample.due < to)
        };
        let took = |sample: &Sample| sample.took;
        let before =
            switches.iter().flat_map(|switch| due_in(switch.quiet_since, switch.began)).map(took).collect();
        let during =
            switches.iter().flat_map(|switch| due_in(switch.began, switch.ended)).map(took).collect();
        let mut answers: Vec<_> = samples
            .iter()
            .filter(|sample| sample.end != End::Failed)
            .map(|sample| sample.due + sample.took)
            .collect();
        answers.sort_unstable();
        Self {
            requests: samples.len(),
            switches: switches.len(),
            failed_new: failed(false),
            failed_kept: failed(true),
            repeated: samples.iter().filter(|sample| sample.end == End::Repeated).count(),
            p99_before: milliseconds(percentile(before, 99)),
            p99_during: milliseconds(percentile(during, 99)),
            silences: switches.iter().map(|switch| milliseconds(silence(&answers, switch))).collect(),
            commands: switches.iter().map(|switch| switch.command.as_secs_f64()).collect(),
            failures: Vec::new(),
        }
    }

    /// How many times the 99th percentile of the quiet times that of the changes is.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.p99_during / self.p99_before
    }
}

/// Of the same row, measured several times: its cells. The head of the table is [`HEAD`].
#[must_use]
pub fn cells(runs: &[Figures]) -> Vec<String> {
    let sum = |of: fn(&Figures) -> usize| runs.iter().map(of).sum::<usize>().to_string();
    let all = |of: fn(&Figures) -> &Vec<f64>| runs.iter().flat_map(of).copied().collect::<Vec<_>>();
    let each = |of: fn(&Figures) -> f64| runs.iter().map(of).collect::<Vec<_>>();
    vec![
        sum(|run| run.requests),
        sum(|run| run.switches),
        sum(|run| run.failed_new),
        sum(|run| run.failed_kept),
        sum(|run| run.repeated),
        middle_and_worst(&each(|run| run.p99_before), 1),
        middle_and_worst(&each(|run| run.p99_during), 1),
        middle_and_worst(&each(Figures::ratio), 2),
        middle_and_worst(&all(|run| &run.silences), 0),
        middle_and_worst(&all(|run| &run.commands), 1),
    ]
}

/// What [`cells`] are.
pub const HEAD: [&str; 10] = [
    "requests",
    "releases",
    "failed, new connection",
    "failed, kept",
    "kept, repeated",
    "p99 before, ms",
    "p99 during, ms",
    "ratio",
    "silence, ms",
    "command, s",
];

fn middle_and_worst(values: &[f64], digits: usize) -> String {
    let worst = values.iter().copied().fold(0.0, f64::max);
    format!("{:.digits$} ({worst:.digits$})", median(values).unwrap_or(f64::NAN))
}

/// The nearest-rank percentile: the smallest value that at least `percent` of a hundred are not above.
fn percentile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The longest time between two answers, one of which came during the change; the answers are sorted.
fn silence(answers: &[Instant], switch: &Switch) -> Duration {
    let from = answers.partition_point(|at| *at < switch.began).saturating_sub(1);
    let to = (answers.partition_point(|at| *at <= switch.ended) + 1).min(answers.len());
    let gaps = answers.get(from..to).unwrap_or_default().windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_else(|| switch.ended - switch.began)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A request each 10 ms for a second, answered after `took`.
    fn steady(began: Instant, took: impl Fn(u64) -> (u64, End)) -> Vec<Sample> {
        let sample = |number: u64| {
            let (took, end) = took(number);
            Sample { due: began + ms(number * 10), took: ms(took), kept: number % 2 == 1, end }
        };
        (0..100).map(sample).collect()
    }

    fn switch(began: Instant) -> Switch {
        Switch { quiet_since: began, began: began + ms(500), ended: began + ms(1000), command: ms(300) }
    }

    #[test]
    fn a_percentile_is_a_measured_value_of_the_nearest_rank() {
        let values = |count| (1..=count).map(ms).collect();
        assert_eq!(percentile(values(100), 99), ms(99));
        assert_eq!(percentile(values(101), 99), ms(100));
        assert_eq!(percentile(values(1), 99), ms(1));
        assert_eq!(percentile(Vec::new(), 99), ms(0));
    }

    #[test]
    fn a_steady_service_is_the_same_before_and_during_a_change() {
        let began = Instant::now();
        let figures = Figures::of(&steady(began, |_| (2, End::Answered)), &[switch(began)]);
        assert_eq!((figures.requests, figures.switches), (100, 1));
        assert_eq!((figures.failed_new, figures.failed_kept, figures.repeated), (0, 0, 0));
        assert!((figures.ratio() - 1.0).abs() < 1e-9, "{figures:?}");
        assert_eq!(figures.silences, [10.0]);
    }

    #[test]
    fn what_waits_for_a_stall_counts_from_when_it_was_due() {
        let began = Instant::now();
        // Those of 600 to 690 ms wait until 700.
        let stalled = steady(began, |number| {
            (if (60..70).contains(&number) { 700 - number * 10 } else { 2 }, End::Answered)
        });
        let figures = Figures::of(&stalled, &[switch(began)]);
        assert!(
            (figures.p99_before - 2.0).abs() < 1e-9 && (figures.p99_during - 100.0).abs() < 1e-9,
            "{figures:?}"
        );
        // The last answer before came at 592.
        assert_eq!(figures.silences, [108.0]);
    }

    #[test]
    fn failures_are_no_answers_and_are_counted_by_connection() {
        let began = Instant::now();
        let away = |number| match number {
            60..75 => (0, End::Failed),
            80 => (2, End::Repeated),
            _ => (2, End::Answered),
        };
        let figures = Figures::of(&steady(began, away), &[switch(began)]);
        assert_eq!((figures.failed_new, figures.failed_kept, figures.repeated), (8, 7, 1));
        assert_eq!(figures.silences, [160.0]);
    }

    #[test]
    fn of_several_runs_the_middle_and_the_worst_are_shown() {
        let run = |p99_during, silences: &[f64]| Figures {
            requests: 10,
            p99_before: 2.0,
            p99_during,
            silences: silences.to_vec(),
            commands: vec![1.0],
            ..Figures::default()
        };
        let cells = cells(&[run(2.0, &[1.0]), run(3.0, &[5.0, 2.0]), run(8.0, &[])]);
        assert_eq!(cells[0], "30");
        assert_eq!(cells[5..9], ["2.0 (2.0)", "3.0 (8.0)", "1.50 (4.00)", "2 (5)"]);
        assert_eq!(cells.len(), HEAD.len());
    }
}
