//! Who may ask how often: a token bucket per source, in a table that cannot grow.

use crate::clock::Mono;
use std::collections::HashMap;
use std::net::IpAddr;

/// Sources remembered at once.
const MAX_SOURCES: usize = 16_384;
/// Time in which a bucket refills, µs.
const WINDOW_US: u64 = 2_000_000;
/// A full table is looked through at most this often, ms.
const SWEEP_MS: u64 = 100;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Tokens in millionths.
    tokens: u64,
    at: Mono,
}

/// Token buckets of sources that are not trusted. IPv6 sources count by their /64.
#[derive(Debug)]
pub(super) struct Admission {
    per_window: u64,
    buckets: HashMap<IpAddr, Bucket>,
    /// Shared by all sources the table has no room for.
    overflow: Bucket,
    /// Last time the whole table was looked through.
    swept: Mono,
}

impl Admission {
    /// `per_window` requests per 2 s and source.
    pub fn new(per_window: u32) -> Admission {
        let per_window = u64::from(per_window.max(1));
        let overflow = Bucket { tokens: per_window * 1_000_000, at: Mono(0) };
        Admission { per_window, buckets: HashMap::new(), overflow, swept: Mono(0) }
    }

    /// Takes one token of `source`; false when it has none left.
    pub fn admit(&mut self, source: IpAddr, now: Mono) -> bool {
        let full = self.per_window * 1_000_000;
        let key = network(source);
        if !self.buckets.contains_key(&key) && self.buckets.len() >= MAX_SOURCES && now.ms_since(self.swept) >= SWEEP_MS
        {
            self.forget_idle(now); // not for every new source: a flood of them would make each message cost a table
        }
        let fits = self.buckets.contains_key(&key) || self.buckets.len() < MAX_SOURCES;
        let bucket = match fits {
            true => self.buckets.entry(key).or_insert(Bucket { tokens: full, at: now }),
            false => &mut self.overflow,
        };
        let gained = now.0.saturating_sub(bucket.at.0).min(WINDOW_US) * self.per_window * 1_000_000 / WINDOW_US;
        bucket.tokens = (bucket.tokens + gained).min(full);
        bucket.at = now;
        if bucket.tokens < 1_000_000 {
            return false;
        }
        bucket.tokens -= 1_000_000;
        true
    }

    /// Drops buckets that are full again: they say nothing.
    pub fn forget_idle(&mut self, now: Mono) {
        self.swept = now;
        self.buckets.retain(|_, b| now.0.saturating_sub(b.at.0) < WINDOW_US);
    }
}

/// How many new calls a second are taken of one kind of caller: a token bucket that holds a second's worth.
#[derive(Debug)]
pub(super) struct Rate {
    per_s: u64,
    bucket: Bucket,
}

impl Rate {
    /// `per_s` calls a second; 0: any number.
    pub fn new(per_s: u32) -> Rate {
        let per_s = u64::from(per_s);
        Rate { per_s, bucket: Bucket { tokens: per_s * 1_000_000, at: Mono(0) } }
    }

    /// Takes one; false when this second's are used up.
    pub fn admit(&mut self, now: Mono) -> bool {
        if self.per_s == 0 {
            return true;
        }
        let gained = now.0.saturating_sub(self.bucket.at.0).min(1_000_000) * self.per_s;
        self.bucket = Bucket { tokens: (self.bucket.tokens + gained).min(self.per_s * 1_000_000), at: now };
        let admitted = self.bucket.tokens >= 1_000_000;
        self.bucket.tokens -= if admitted { 1_000_000 } else { 0 };
        admitted
    }
}

/// What counts as one source: an address, or an IPv6 network of 64 bits.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    // An IPv4 sender at a socket of both families is not his neighbours' neighbour.
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(a) => IpAddr::V6((u128::from(a) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_its_share_and_no_more_while_another_is_untouched() {
        let mut a = Admission::new(16);
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let passed = (0..100).filter(|_| a.admit(one, Mono::from_ms(0))).count();
        assert_eq!(passed, 16);
        assert!(a.admit(two, Mono::from_ms(0)));
        assert!(!a.admit(one, Mono::from_ms(100)));
        assert_eq!((0..100).filter(|_| a.admit(one, Mono::from_ms(1100))).count(), 8);
        assert_eq!((0..100).filter(|_| a.admit(one, Mono::from_ms(60_000))).count(), 16);
    }

    #[test]
    fn a_flood_from_many_addresses_neither_grows_the_table_nor_locks_out_who_comes_later() {
        let mut a = Admission::new(16);
        for i in 0..100_000u32 {
            a.admit(IpAddr::V4(i.into()), Mono::from_ms(0));
        }
        assert!(a.buckets.len() <= MAX_SOURCES);
        assert!(a.admit("203.0.113.9".parse().unwrap(), Mono::from_ms(2_000)));
    }

    #[test]
    fn a_full_table_is_looked_through_ten_times_a_second_at_most() {
        let mut a = Admission::new(16);
        for i in 0..MAX_SOURCES as u32 {
            a.admit(IpAddr::V4(i.into()), Mono::from_ms(1000));
        }
        a.forget_idle(Mono::from_ms(2950));
        a.admit(IpAddr::V4(u32::MAX.into()), Mono::from_ms(3010));
        assert_eq!(a.buckets.len(), MAX_SOURCES, "60 ms after the last look nothing is scanned");
        a.admit(IpAddr::V4(u32::MAX.into()), Mono::from_ms(3051));
        assert_eq!(a.buckets.len(), 1);
    }

    #[test]
    fn no_more_calls_a_second_than_the_rate_and_they_come_back_with_time() {
        let mut rate = Rate::new(150);
        assert_eq!((0..1500).filter(|_| rate.admit(Mono::from_ms(0))).count(), 150);
        assert_eq!((0..1500).filter(|_| rate.admit(Mono::from_ms(100))).count(), 15);
        assert_eq!((0..1500u64).filter(|i| rate.admit(Mono::from_ms(100 + i))).count(), 224);
        let mut any = Rate::new(0);
        assert!((0..10_000).all(|_| any.admit(Mono(0))));
    }

    #[test]
    fn hosts_of_one_ipv6_network_share_a_bucket() {
        let mut a = Admission::new(4);
        let passed = (0..100u128).filter(|i| a.admit(IpAddr::V6((0x2001_0db8u128 << 96 | i).into()), Mono(0))).count();
        assert_eq!(passed, 4);
    }
}
