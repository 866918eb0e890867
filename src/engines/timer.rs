//! How long a computation took: the only clock of this room, for records.

use std::time::Instant;

/// A running stopwatch.
#[derive(Debug, Clone, Copy)]
pub struct Timer(Instant);

impl Timer {
    /// Starts it.
    #[allow(clippy::disallowed_methods)] // measures our own computing; no decision hangs on it
    pub fn start() -> Self {
        Timer(Instant::now())
    }

    /// Microseconds since the start.
    pub fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
