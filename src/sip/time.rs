//! The one place of this room that reads a clock.

use crate::clock::Mono;
use std::sync::OnceLock;
use std::time::Instant;

/// Now, on a monotonic clock whose zero is this room's first use.
#[allow(clippy::disallowed_methods)] // the room's single reading of the clock
pub(super) fn now() -> Mono {
    static ZERO: OnceLock<Instant> = OnceLock::new();
    let zero = *ZERO.get_or_init(Instant::now);
    Mono(zero.elapsed().as_micros() as u64)
}
