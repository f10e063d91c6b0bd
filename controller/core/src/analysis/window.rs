//! What both sides had in one window, and the one observation that is made of it.

/// What the hosts of both sides had of one metric in one window. A host without a figure is left out, or `NaN`.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// A figure for each host.
    Level {
        /// Of the hosts on the new release.
        canary: Vec<f64>,
        /// Of those on the old one.
        baseline: Vec<f64>,
    },
    /// Events and chances for each host.
    Events {
        /// Of the hosts on the new release.
        canary: Vec<Count>,
        /// Of those on the old one.
        baseline: Vec<Count>,
    },
}

/// So many events out of so many chances: failed of all requests, restarts of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// What happened.
    pub events: u64,
    /// How often it could have.
    pub of: u64,
}

/// A figure of the canaries beside one of the baseline, or which of them is missing.
pub(super) enum Pair<T> {
    Both { canary: T, baseline: T },
    NoCanary,
    NoBaseline,
    Neither,
}

impl<T> Pair<T> {
    fn of(canary: Option<T>, baseline: Option<T>) -> Self {
        match (canary, baseline) {
            (Some(canary), Some(baseline)) => Self::Both { canary, baseline },
            (None, Some(_)) => Self::NoCanary,
            (Some(_), None) => Self::NoBaseline,
            (None, None) => Self::Neither,
        }
    }
}

/// The median over the hosts of a side: one baseline host that is ill must not hide an ill canary, and a median of few
/// hosts is above one of many as often as below, whatever their distribution is, where a mean is not.
pub(super) fn levels(canary: &[f64], baseline: &[f64]) -> Pair<f64> {
    Pair::of(median(canary), median(baseline))
}

/// All hosts of a side together.
pub(super) fn counts(canary: &[Count], baseline: &[Count]) -> Pair<Count> {
    Pair::of(together(canary), together(baseline))
}

fn together(hosts: &[Count]) -> Option<Count> {
    let all = hosts.iter().fold(Count::default(), |sum, host| sum.and(*host));
    Some(all).filter(|all| all.of > 0)
}

impl Window {
    /// The same with one figure of the hosts on the new release, and none of others.
    pub(super) fn reduced(&self) -> Self {
        Self::Level { canary: self.of_canary().into_iter().collect(), baseline: Vec::new() }
    }

    /// The one figure of the hosts on the new release: a median over them, or their rate.
    pub(super) fn of_canary(&self) -> Option<f64> {
        match self {
            Self::Level { canary, .. } => median(canary),
            Self::Events { canary, .. } => together(canary).map(Count::rate),
        }
    }
}

/// Of what is a number; of an even count what lies between the two in the middle, in proportion where both are above
/// zero, as latencies and sizes vary.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut figures: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    // A root that is squared is not always what it was, and one host's figure at its tolerance is not beyond it.
    if lower.total_cmp(&upper).is_eq() {
        return Some(lower);
    }
    match lower > 0.0 {
        true => Some(lower.sqrt() * upper.sqrt()),
        false => Some(lower + (upper - lower) / 2.0),
    }
}

impl Count {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { events: self.events.saturating_add(other.events), of: self.of.saturating_add(other.of) }
    }

    /// Events for each chance; 0 where there was none.
    #[must_use]
    pub fn rate(self) -> f64 {
        match self.of {
            0 => 0.0,
            of => number(self.events) / number(of),
        }
    }
}

/// Counts are compared in proportion: what a float cannot tell apart makes no difference.
#[expect(clippy::cast_precision_loss, reason = "a proportion of counts beyond 2^53 is as good")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
