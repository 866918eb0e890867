//! Time as values: layers 0-4 are handed it and never ask for it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds on the process's monotonic clock (its zero is the program's start). Never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// A point from whole milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Mono(ms * 1000)
    }

    /// Whole milliseconds since the clock's zero.
    pub const fn as_ms(self) -> u64 {
        self.0 / 1000
    }

    /// Time gone by since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds gone by since `earlier`; zero when `earlier` is later.
    pub fn ms_since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, by: Duration) -> Mono {
        Mono(self.0 + by.as_micros() as u64)
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    fn sub(self, by: Duration) -> Mono {
        Mono(self.0.saturating_sub(by.as_micros() as u64))
    }
}

/// Milliseconds since 1970-01-01 UTC: what records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UtcMs(pub i64);
