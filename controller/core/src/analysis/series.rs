//! One metric through all windows: what was seen, and the wealth of those who bet on it.

use super::doubt::Doubt;
use super::metric::{Metric, OnMissing, Tolerance, Worse};
use super::report::{Evidence, Finding, Missing, Outcome};
use super::settings::{Thresholds, lengthened};
use super::wealth::Wealth;
use super::window::{self, Count, Pair, Window, median, number};

/// From so many windows on, figures that are missing in more than half of them are missing: an application that has
/// just started has none yet.
const MISSING_AFTER: u32 = 5;

#[derive(Debug, Clone)]
pub(super) struct Series {
    pub metric: Metric,
    persistence: f64,
    /// That the next window is within the tolerance is said to be no likelier than two to one (or what persistence
    /// says): who bets on it wins when the canary is well.
    within: Wealth,
    doubts: Doubts,
    /// In how many windows the canaries were worse than the tolerance.
    worse_in: u32,
    /// Windows in which both sides had figures.
    paired: u32,
    no_canary: u32,
    no_baseline: u32,
}

/// Who bets against the canary.
#[derive(Debug, Clone)]
enum Doubts {
    /// That the next window is worse than the tolerance is said to be no likelier than two to one.
    Level { worse: Doubt, pairs: Vec<(f64, f64)> },
    /// Two things are said, and the canary fails only when both are disproved, each of them at the full rate: that
    /// the canaries' part of the next window's events is no more than their part of the chances, and that the rate
    /// of their events is no more than what may be in any case.
    Events { share: Doubt, above: Doubt, canary: Count, baseline: Count },
}

impl Series {
    pub fn new(metric: Metric, persistence: f64) -> Self {
        let doubts = match metric.tolerance {
            Tolerance::Level { .. } | Tolerance::Limit { .. } => {
                Doubts::Level { worse: Doubt::default(), pairs: Vec::new() }
            }
            Tolerance::Events { .. } => Doubts::Events {
                share: Doubt::default(),
                above: Doubt::default(),
                canary: Count::default(),
                baseline: Count::default(),
            },
        };
        Self {
            metric,
            persistence,
            within: Wealth::default(),
            doubts,
            worse_in: 0,
            paired: 0,
            no_canary: 0,
            no_baseline: 0,
        }
    }

    /// Figures of the wrong kind are none.
    pub fn observe(&mut self, window: Option<&Window>) {
        match (window, self.metric.tolerance) {
            (Some(window), Tolerance::Limit { most }) => match window.of_canary() {
                Some(figure) => self.level(figure, most, 1.0, 0.0),
                None => (self.no_canary, self.no_baseline) = (self.no_canary + 1, self.no_baseline + 1),
            },
            (Some(Window::Level { canary, baseline }), Tolerance::Level { ratio, slack }) => {
                if let Some((canary, baseline)) = self.both(window::levels(canary, baseline)) {
                    self.level(canary, baseline, ratio, slack);
                }
            }
            (Some(Window::Events { canary, baseline }), Tolerance::Events { ratio, floor }) => {
                if let Some((canary, baseline)) = self.both(window::counts(canary, baseline)) {
                    self.events(canary, baseline, ratio, floor);
                }
            }
            _ => (self.no_canary, self.no_baseline) = (self.no_canary + 1, self.no_baseline + 1),
        }
    }

    fn both<T>(&mut self, pair: Pair<T>) -> Option<(T, T)> {
        let (no_canary, no_baseline, both) = match pair {
            Pair::Both { canary, baseline } => (0, 0, Some((canary, baseline))),
            Pair::NoCanary => (1, 0, None),
            Pair::NoBaseline => (0, 1, None),
            Pair::Neither => (1, 1, None),
        };
        self.no_canary += no_canary;
        self.no_baseline += no_baseline;
        both
    }

    fn level(&mut self, canary: f64, baseline: f64, ratio: f64, slack: f64) {
        let (high, low) = match self.metric.worse {
            Worse::Higher => (canary, baseline),
            Worse::Lower => (baseline, canary),
        };
        let is_worse = high - low > slack.max(low.abs() * (ratio - 1.0));
        self.look(is_worse);
        let mean = lengthened(0.5, self.persistence);
        if let Doubts::Level { worse, pairs } = &mut self.doubts {
            worse.observe(if is_worse { 1.0 } else { 0.0 }, mean);
            pairs.push((canary, baseline));
        }
    }

    fn events(&mut self, of_canary: Count, of_baseline: Count, ratio: f64, floor: f64) {
        let (is_worse, suspect, other) = match self.metric.worse {
            Worse::Higher => {
                (of_canary.rate() > floor.max(of_baseline.rate() * ratio), of_canary, of_baseline)
            }
            // What falls short at the canaries is too much at the baseline.
            Worse::Lower => (of_baseline.rate() > of_canary.rate() * ratio, of_baseline, of_canary),
        };
        self.look(is_worse);
        let (worse, persistence) = (self.metric.worse, self.persistence);
        let Doubts::Events { share, above, canary, baseline } = &mut self.doubts else { return };
        (*canary, *baseline) = (canary.and(of_canary), baseline.and(of_baseline));
        let events = suspect.and(other).events;
        if events > 0 {
            let chances = ratio * number(suspect.of);
            let mean = chances / (chances + number(other.of));
            share.observe(number(suspect.events) / number(events), lengthened(mean, persistence));
        }
        if worse == Worse::Higher {
            above.observe(of_canary.rate(), lengthened(floor, persistence));
        }
    }

    fn look(&mut self, is_worse: bool) {
        self.paired += 1;
        self.worse_in += u32::from(is_worse);
        self.within.observe(if is_worse { 0.0 } else { 1.0 }, lengthened(0.5, self.persistence));
    }

    pub fn finding(&self, thresholds: Thresholds, windows: u32) -> Finding {
        let evidence = match &self.doubts {
            Doubts::Level { pairs, .. } => {
                let typical = |of: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(of).collect::<Vec<_>>());
                Evidence::Level {
                    canary: typical(|pair| pair.0),
                    baseline: typical(|pair| pair.1),
                    times: self.is_compared().then(|| self.times(pairs, thresholds.fail)).flatten(),
                }
            }
            Doubts::Events { canary, baseline, .. } => {
                Evidence::Events { canary: *canary, baseline: *baseline }
            }
        };
        Finding {
            metric: self.metric.clone(),
            outcome: match self.outcome(thresholds, windows) {
                Outcome::Inconclusive { .. } => Outcome::Inconclusive { more: self.more(thresholds) },
                decided => decided,
            },
            evidence,
            worse_in: self.worse_in,
            paired: self.paired,
            windows,
            p: 1.0 / self.doubt(),
            note: None,
        }
    }

    /// How it stands, without an estimate of what is left where it is open.
    pub fn outcome(&self, thresholds: Thresholds, windows: u32) -> Outcome {
        if self.doubt() >= thresholds.fail {
            return Outcome::Fail;
        }
        if windows >= MISSING_AFTER && self.paired * 2 < windows {
            return match (self.metric.on_missing, self.missing()) {
                (OnMissing::Inconclusive, missing) => Outcome::NoData(missing),
                (OnMissing::Pass, missing) => Outcome::Ignored(missing),
                (OnMissing::Fail, missing) => Outcome::Absent(missing),
            };
        }
        // As it stands, and not its highest: a canary that was well and is not any more does not pass.
        match self.within.now() >= thresholds.pass && self.on_the_whole() {
            true => Outcome::Pass,
            false => Outcome::Inconclusive { more: None },
        }
    }

    /// How many more windows it would take until it passes or fails, whichever is sooner.
    fn more(&self, thresholds: Thresholds) -> Option<u32> {
        let passes = self.within.more(self.paired, thresholds.pass).filter(|_| self.on_the_whole());
        let fails = match &self.doubts {
            Doubts::Level { worse, .. } => worse.more(self.paired, thresholds.fail),
            Doubts::Events { share, above, .. } => {
                let share = share.more(self.paired, thresholds.fail);
                let above = self.floor().map_or(Some(0), |_| above.more(self.paired, thresholds.fail));
                share.zip(above).map(|(share, above)| share.max(above))
            }
        };
        passes.into_iter().chain(fails).min()
    }

    /// The wealth that counts against the canary, at its highest.
    fn doubt(&self) -> f64 {
        match &self.doubts {
            Doubts::Level { worse, .. } => worse.highest(),
            Doubts::Events { share, above, .. } => match self.floor() {
                Some(_) => share.highest().min(above.highest()),
                None => share.highest(),
            },
        }
    }

    /// What may be in any case, if anything may.
    fn floor(&self) -> Option<f64> {
        match (self.metric.tolerance, self.metric.worse) {
            (Tolerance::Events { floor, .. }, Worse::Higher) => Some(floor).filter(|floor| *floor > 0.0),
            _ => None,
        }
    }

    /// Whether all events together are within the tolerance: few windows with very many of them are no pass.
    fn on_the_whole(&self) -> bool {
        match (&self.doubts, self.metric.tolerance) {
            (Doubts::Events { canary, baseline, .. }, Tolerance::Events { ratio, floor }) => {
                match self.metric.worse {
                    Worse::Higher => canary.rate() <= floor.max(baseline.rate() * ratio),
                    Worse::Lower => baseline.rate() <= canary.rate() * ratio,
                }
            }
            _ => true,
        }
    }

    /// Whether it stands beside others, and not against a figure that is given.
    fn is_compared(&self) -> bool {
        !matches!(self.metric.tolerance, Tolerance::Limit { .. })
    }

    fn missing(&self) -> Missing {
        match (self.no_canary > self.no_baseline, self.no_canary < self.no_baseline) {
            (true, _) => Missing::Canary,
            (_, true) => Missing::Baseline,
            _ => Missing::Both,
        }
    }

    /// The canaries' figure in times the baseline's, from and to: a confidence sequence for the median over the
    /// windows, by asking the same test of each ratio that was seen instead of the tolerance (Howard and Ramdas 2022
    /// for quantiles). Half of the rate for each end.
    fn times(&self, pairs: &[(f64, f64)], fail: f64) -> Option<(f64, f64)> {
        let both_positive = pairs.iter().all(|(canary, baseline)| *canary > 0.0 && *baseline > 0.0);
        let mut times: Vec<_> =
            pairs.iter().filter(|_| both_positive).map(|(canary, base)| canary / base).collect();
        times.sort_by(f64::total_cmp);
        let mean = lengthened(0.5, self.persistence);
        let disproves = |ones: usize| {
            let mut wealth = Wealth::default();
            (0..times.len()).for_each(|at| wealth.observe(if at < ones { 1.0 } else { 0.0 }, mean));
            wealth.now() >= 2.0 * fail
        };
        // The fewest windows above a ratio that disprove that the median is below it.
        let all: Vec<usize> = (1..=times.len()).collect();
        let ones = *all.get(all.partition_point(|ones| !disproves(*ones)))?;
        Some((*times.get(times.len() - ones)?, *times.get(ones - 1)?))
    }
}
