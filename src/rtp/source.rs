//! Whose packets count. Learning a sender's address from its packets is how calls get hijacked
//! (CVE-2025-53399 and its kin), so it is done once, for a short while, and only from two hosts.

use crate::clock::Mono;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long after a new description a sender behind address translation may still be learned.
pub const LEARNING: Duration = Duration::from_secs(10);

/// The source of one leg's media.
///
/// - The exact address of the description is taken whenever nothing else was.
/// - Within [`LEARNING`], so is any port of the description's host or of the host that signals.
/// - The first one taken stays: until a new description names another address, all else is dropped.
#[derive(Debug, Clone)]
pub struct SourceLatch {
    described: SocketAddr,
    signalling: IpAddr,
    opened: Mono,
    latched: Option<SocketAddr>,
}

impl SourceLatch {
    /// Opens at `now` for a description's address and the host that signals.
    pub fn new(described: SocketAddr, signalling: IpAddr, now: Mono) -> Self {
        SourceLatch {
            described: canonical(described),
            signalling: signalling.to_canonical(),
            opened: now,
            latched: None,
        }
    }

    /// A new description. The same address again (a session refresh, a codec change) or none (hold the old
    /// way) opens nothing.
    pub fn redescribe(&mut self, described: SocketAddr, now: Mono) {
        let described = canonical(described);
        if described != self.described && !described.ip().is_unspecified() {
            *self = SourceLatch { described, opened: now, latched: None, ..*self };
        }
    }

    /// Whether a packet from there counts; learns from it when that is allowed.
    pub fn admit(&mut self, from: SocketAddr, now: Mono) -> bool {
        let from = canonical(from);
        if let Some(latched) = self.latched {
            return from == latched;
        }
        let host = from.ip() == self.described.ip() || from.ip() == self.signalling;
        let learnable = host && now.since(self.opened) <= LEARNING;
        if from != self.described && !learnable {
            return false;
        }
        self.latched = Some(from);
        true
    }

    /// Whether a report (RTCP) may come from this host: its port is not known beforehand.
    pub fn admits_host(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self.latched {
            Some(latched) => ip == latched.ip(),
            None => ip == self.described.ip() || ip == self.signalling,
        }
    }

    /// The learned address, if there is one.
    pub fn latched(&self) -> Option<SocketAddr> {
        self.latched
    }
}

/// `::ffff:192.0.2.1`, as a socket for both families reports it, is 192.0.2.1.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Mono = Mono::from_ms(1000);
    const LATE: Mono = Mono::from_ms(12_000);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn latch() -> SourceLatch {
        SourceLatch::new(at("192.168.1.5:4000"), "203.0.113.9".parse().unwrap(), T0)
    }

    #[test]
    fn the_described_address_counts_at_any_time() {
        assert!(latch().admit(at("192.168.1.5:4000"), LATE));
        assert!(latch().admit(at("[::ffff:192.168.1.5]:4000"), LATE));
    }

    #[test]
    fn a_phone_behind_translation_is_learned_once() {
        let mut latch = latch();
        assert!(latch.admit(at("203.0.113.9:61000"), T0));
        assert_eq!(latch.latched(), Some(at("203.0.113.9:61000")));
        assert!(!latch.admit(at("203.0.113.9:61001"), T0), "another port of the same host");
        assert!(!latch.admit(at("192.168.1.5:4000"), T0), "not even the described address");
        assert!(latch.admit(at("203.0.113.9:61000"), LATE));
    }

    #[test]
    fn strangers_and_latecomers_are_never_learned() {
        let mut latch = latch();
        for port in 0..1000 {
            assert!(!latch.admit(SocketAddr::new("198.51.100.1".parse().unwrap(), port), T0));
        }
        assert!(!latch.admit(at("203.0.113.9:61000"), LATE), "the window is closed");
        assert_eq!(latch.latched(), None);
    }

    #[test]
    fn only_a_new_address_opens_the_window_again() {
        let mut latch = latch();
        assert!(latch.admit(at("203.0.113.9:61000"), T0));
        latch.redescribe(at("192.168.1.5:4000"), LATE);
        latch.redescribe(at("0.0.0.0:4000"), LATE);
        assert!(!latch.admit(at("203.0.113.9:62000"), LATE));
        latch.redescribe(at("192.168.1.5:4002"), LATE);
        assert!(latch.admit(at("203.0.113.9:62000"), LATE));
    }

    #[test]
    fn reports_come_from_the_same_host() {
        let mut latch = latch();
        assert!(latch.admits_host("192.168.1.5".parse().unwrap()));
        assert!(!latch.admits_host("198.51.100.1".parse().unwrap()));
        assert!(latch.admit(at("203.0.113.9:61000"), T0));
        assert!(!latch.admits_host("192.168.1.5".parse().unwrap()));
    }
}
