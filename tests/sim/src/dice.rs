//! Every choice of a world comes from here, and so from its seed.

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore, SeedableRng as _};

/// The dice of one world.
#[derive(Debug, Clone)]
pub struct Dice(StdRng);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Dice of their own for one part of the world, so that what another part draws changes nothing here.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// Whether something happens that happens in `ppm` of a million cases.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.0.random_range(0..1_000_000) < ppm
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// An index below `len`, which must not be zero.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.index(of.len());
        &of[at]
    }

    /// The generator itself, for whoever wants one.
    pub fn raw(&mut self) -> &mut dyn RngCore {
        &mut self.0
    }
}
