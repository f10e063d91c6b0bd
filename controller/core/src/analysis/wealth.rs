//! The wealth of somebody who bets that a mean is higher than is said.
//!
//! Of a figure between 0 and 1 it is said that its mean, given all that was seen before, is at most `m`. A bet of
//! the fraction `c` pays `1 + c (x / m - 1)` for each coin. If what is said is true, no fraction has an expected gain,
//! so the mean wealth over a fixed choice of fractions is a non-negative supermartingale that starts at 1, and by
//! Ville's inequality the probability that it *ever* reaches `1 / alpha` is at most `alpha`. Nothing else is
//! assumed: no distribution, no variance, no independence beyond the word "given".
//!
//! Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*, Journal of the Royal
//! Statistical Society B 86 (2024) 1–27, there as diversified betting on a grid. For a figure that is 0 or 1 this is the
//! Bayes factor with an even prior over all means above `m`.

/// How many fractions the first coin is divided among: the smallest finds a mean that is a little too high, the largest
/// one that is far too high, and with 32 of them neither waits longer than with a prior without gaps.
const BETS: u32 = 32;

/// A wealth beyond this is not told apart: less than was won is still a wealth, and no number overflows.
const AT_MOST: f64 = 1e250;

/// A wealth, and the highest that it ever was.
#[derive(Debug, Clone, PartialEq)]
pub struct Wealth {
    bets: Vec<f64>,
    highest: f64,
}

impl Default for Wealth {
    fn default() -> Self {
        Self { bets: fractions().map(|_| 1.0).collect(), highest: 1.0 }
    }
}

impl Wealth {
    /// Takes in a figure between 0 and 1 whose mean is said to be at most `mean`. This may differ from one to the
    /// next, if it is known before the figure is. What is said of a mean of 0, or of 1 and more, is not bet on.
    pub fn observe(&mut self, figure: f64, mean: f64) {
        if !(mean > 0.0 && mean < 1.0) {
            return;
        }
        let gain = figure.clamp(0.0, 1.0) / mean - 1.0;
        for (bet, fraction) in self.bets.iter_mut().zip(fractions()) {
            *bet = (*bet * (1.0 + fraction * gain)).min(AT_MOST);
        }
        self.highest = self.highest.max(self.now());
    }

    /// As it stands.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.bets.iter().sum::<f64>() / f64::from(BETS)
    }

    /// The highest that it ever was; its inverse is a p-value that holds at all times.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// How many more observations until it is at `wanted`, if they are as the `seen` were on average; `None` if it will
    /// not get there within ten thousand.
    #[must_use]
    pub fn more(&self, seen: u32, wanted: f64) -> Option<u32> {
        if self.now() >= wanted {
            return Some(0);
        }
        let growth = |bet: f64| bet.ln() / f64::from(seen.max(1));
        let after = |more: u32| {
            let bets = self
                .bets
                .iter()
                .map(|bet| (bet.ln() + growth(*bet) * f64::from(more)).min(AT_MOST.ln()).exp());
            bets.sum::<f64>() / f64::from(BETS)
        };
        let (mut short, mut enough) = (0, 10_000);
        // The mean of exponentials is convex: below `wanted` now and above it then, it crosses once.
        if after(enough) < wanted {
            return None;
        }
        while enough - short > 1 {
            let middle = short + (enough - short) / 2;
            match after(middle) >= wanted {
                true => enough = middle,
                false => short = middle,
            }
        }
        Some(enough)
    }
}

fn fractions() -> impl Iterator<Item = f64> {
    (0..BETS).map(|bet| (f64::from(bet) + 0.5) / f64::from(BETS))
}
