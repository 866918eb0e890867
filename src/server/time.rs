//! The one place that reads the clocks, and what keeps the media clock even.

use crate::clock::{Mono, UtcMs};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, on the monotonic clock that starts with the first call of this function.
#[allow(clippy::disallowed_methods)] // this is the place the ban points to
pub fn now() -> Mono {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    // The zero lies one hour back, so that subtracting a grace period never underflows.
    Mono(3_600_000_000 + start.elapsed().as_micros() as u64)
}

/// One moment on both monotonic clocks: ours, and the system's, in which some libraries count.
#[allow(clippy::disallowed_methods)] // this is the place the ban points to
pub fn anchor() -> (Mono, Instant) {
    (now(), Instant::now())
}

/// Now, for records.
#[allow(clippy::disallowed_methods)] // this is the place the ban points to
pub fn utc() -> UtcMs {
    UtcMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64))
}

/// Today's date (year, month, day) at the hotline's place: China Standard Time, UTC+8 all year.
pub fn today() -> (i32, u8, u8) {
    let local = time::OffsetDateTime::from_unix_timestamp(utc().0 / 1000 + 8 * 3600)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    (local.year(), u8::from(local.month()), local.day())
}

/// Lowers the calling thread's priority a little: models may take a core for tens of milliseconds, a media tick may
/// not wait that long.
pub fn give_way_to_media() {
    let _not_every_system_lets_us = rustix::process::nice(5);
}
