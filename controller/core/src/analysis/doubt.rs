//! Somebody who may begin to doubt late: a canary that is well at first and turns bad (a leak, a pool that runs dry).
//!
//! Who bets from the beginning that a canary is worse loses while it is well, and has to win all that back before he
//! wins anything. So a quarter of the coin is kept in the pocket, in fifteen parts, and every so often another part
//! begins to be bet with. What is in the pocket does not change, so all of it together is a wealth as before, of which
//! Ville's inequality holds.

use super::wealth::Wealth;

/// Another part of the coin comes into play after so many observations.
const EVERY: usize = 8;

/// So many parts begin late: a comparison takes two hours at most, in windows of a minute.
const LATE: u32 = 15;

/// What begins at once.
const AT_ONCE: f64 = 0.75;

/// A wealth of several beginnings, and the highest that it ever was.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    /// The first one has begun at once.
    begun: Vec<Wealth>,
    seen: usize,
    highest: f64,
}

impl Default for Doubt {
    fn default() -> Self {
        Self { begun: vec![Wealth::default()], seen: 0, highest: 1.0 }
    }
}

impl Doubt {
    /// As [`Wealth::observe`].
    pub fn observe(&mut self, figure: f64, mean: f64) {
        self.begun.iter_mut().for_each(|wealth| wealth.observe(figure, mean));
        self.seen += 1;
        if self.seen.is_multiple_of(EVERY) && self.begun.len() <= LATE as usize {
            self.begun.push(Wealth::default());
        }
        self.highest = self.highest.max(self.now());
    }

    /// As [`Wealth::now`].
    pub fn now(&self) -> f64 {
        let of_parts: f64 = self.begun.iter().zip(parts()).map(|(wealth, part)| wealth.now() * part).sum();
        of_parts + parts().skip(self.begun.len()).sum::<f64>()
    }

    /// As [`Wealth::highest`].
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// As [`Wealth::more`], of the part that gets there first by itself: an upper bound.
    pub fn more(&self, seen: u32, wanted: f64) -> Option<u32> {
        let begun = self.begun.iter().zip(parts()).enumerate();
        let alone = begun.filter_map(|(at, (wealth, part))| {
            let late = u32::try_from(at * EVERY).unwrap_or(u32::MAX);
            wealth.more(seen.saturating_sub(late), wanted / part)
        });
        alone.min()
    }
}

/// Of the coin, in the order in which they begin.
fn parts() -> impl Iterator<Item = f64> {
    std::iter::once(AT_ONCE).chain((0..LATE).map(|_| (1.0 - AT_ONCE) / f64::from(LATE)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Also where another part comes into play.
        #[test]
        fn no_bet_has_an_expected_gain(
            seen in proptest::collection::vec(any::<bool>(), 0..130),
            mean in 0.1..0.9_f64,
        ) {
            let figure = |worse| if worse { 1.0 } else { 0.0 };
            let mut doubt = Doubt::default();
            seen.iter().for_each(|worse| doubt.observe(figure(*worse), mean));
            let then = |worse| {
                let mut then = doubt.clone();
                then.observe(figure(worse), mean);
                then.now()
            };
            let expected = mean * then(true) + (1.0 - mean) * then(false);
            prop_assert!((expected - doubt.now()).abs() <= 1e-9 * doubt.now(), "{expected} after {}", doubt.now());
        }
    }

    #[test]
    fn all_parts_are_one_coin_and_no_more_than_that_begin() {
        assert!((parts().sum::<f64>() - 1.0).abs() < 1e-12);
        let mut doubt = Doubt::default();
        (0..1000).for_each(|_| doubt.observe(0.0, 0.5));
        assert_eq!(doubt.begun.len(), 16);
        assert!(doubt.now() < 0.05);
    }
}
