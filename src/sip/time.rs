//! The one place of this room that reads a clock.

use crate::clock::Mono;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, on a monotonic clock whose zero is this room's first use.
#[allow(clippy::disallowed_methods)] // the room's single reading of the clock
pub(super) fn now() -> Mono {
    static ZERO: OnceLock<Instant> = OnceLock::new();
    let zero = *ZERO.get_or_init(Instant::now);
    Mono(zero.elapsed().as_micros() as u64)
}

/// A point of [`now`]'s clock as microseconds since 1970 UTC. The two clocks are compared once, so that what came later
/// is never shown earlier.
#[allow(clippy::disallowed_methods)] // the room's single reading of the calendar
pub(super) fn utc_us(at: Mono) -> u64 {
    static BEFORE: OnceLock<u64> = OnceLock::new();
    let before = *BEFORE.get_or_init(|| {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        utc.saturating_sub(now().0)
    });
    before + at.0
}
