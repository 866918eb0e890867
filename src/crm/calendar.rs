//! The hotline's calendar: China Standard Time, UTC+8 the whole year round (no summer time since 1991).

use crate::clock::UtcMs;
use time::OffsetDateTime;

/// China Standard Time's lead over UTC, in milliseconds.
const CST_MS: i64 = 8 * 3_600_000;

/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * 3_600_000;

/// Year, month (1-12) and day (1-31) in China at a moment. Moments beyond the years 1-9999 become 1970-01-01.
pub fn local_date(at: UtcMs) -> (i32, u8, u8) {
    let seconds = at.0.saturating_add(CST_MS).div_euclid(1000);
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    (date.year(), u8::from(date.month()), date.day())
}

/// `2026-11-20`
pub fn date_dashed(at: UtcMs) -> String {
    let (y, m, d) = local_date(at);
    format!("{y:04}-{m:02}-{d:02}")
}

/// `20261120`
pub fn date_compact(at: UtcMs) -> String {
    let (y, m, d) = local_date(at);
    format!("{y:04}{m:02}{d:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_turns_at_sixteen_hundred_utc() {
        // 2026-11-20T15:59:59.999Z is still the 20th in China, a millisecond later it is the 21st.
        let last = UtcMs(1_795_190_399_999);
        assert_eq!(date_dashed(last), "2026-11-20");
        assert_eq!(date_compact(UtcMs(last.0 + 1)), "20261121");
    }

    #[test]
    fn impossible_moments_do_not_panic() {
        assert_eq!(local_date(UtcMs(i64::MAX)), (1970, 1, 1));
        assert_eq!(local_date(UtcMs(i64::MIN)), (1970, 1, 1));
        assert_eq!(date_dashed(UtcMs(-1)), "1970-01-01");
    }
}
