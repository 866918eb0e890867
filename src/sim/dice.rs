//! The only randomness of a simulation: a seeded generator with the few throws that are needed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seeded dice.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high.saturating_sub(low) + 1)
    }

    /// True in `per_mille` of 1000 throws.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.0.next_u64() % 1000 < per_mille
    }

    /// True in one of `n` throws.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.next_u64().is_multiple_of(n.max(1))
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.between(0, of.len() as u64 - 1) as usize]
    }

    /// Dice that fall independently of these.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.0.next_u64())
    }
}
