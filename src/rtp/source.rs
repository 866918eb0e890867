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
/// - The first one taken stays: until a new description names another address, all else is dropped. When only the
///   host that signals is another (a phone that moved to another network), the one taken counts on until another is
///   learned from the hosts of then.
#[derive(Debug, Clone)]
pub struct SourceLatch {
    described: SocketAddr,
    signalling: IpAddr,
    opened: Mono,
    latched: Option<SocketAddr>,
    /// The peer signals from elsewhere now: what is learned next takes the place of `latched`.
    moved: bool,
}

impl SourceLatch {
    /// Opens at `now` for a description's address and the host that signals.
    pub fn new(described: SocketAddr, signalling: IpAddr, now: Mono) -> Self {
        SourceLatch {
            described: canonical(described),
            signalling: signalling.to_canonical(),
            opened: now,
            latched: None,
            moved: false,
        }
    }

    /// A new description, signalled from this host. The same address again (a session refresh, a codec change) or
    /// none (hold the old way) opens nothing, unless the signalling comes from elsewhere than before.
    pub fn redescribe(&mut self, described: SocketAddr, signalling: IpAddr, now: Mono) {
        let (described, signalling) = (canonical(described), signalling.to_canonical());
        if signalling != self.signalling {
            *self = SourceLatch { signalling, opened: now, moved: self.latched.is_some(), ..*self };
        }
        if described != self.described && !described.ip().is_unspecified() {
            *self = SourceLatch { described, opened: now, latched: None, moved: false, ..*self };
        }
    }

    /// Whether a packet from there counts; learns from it when that is allowed.
    pub fn admit(&mut self, from: SocketAddr, now: Mono) -> bool {
        let admitted = self.would_admit(from, now);
        if admitted && self.latched != Some(canonical(from)) {
            (self.latched, self.moved) = (Some(canonical(from)), false);
        }
        admitted
    }

    /// Whether a packet from there may count, before anything is known of the packet; learns nothing.
    pub fn would_admit(&self, from: SocketAddr, now: Mono) -> bool {
        let from = canonical(from);
        if self.latched == Some(from) {
            return true;
        }
        if self.latched.is_some() && !self.moved {
            return false;
        }
        let host = from.ip() == self.described.ip() || from.ip() == self.signalling;
        let learnable = host && now.since(self.opened) <= LEARNING;
        (from == self.described && self.latched.is_none()) || learnable
    }

    /// Whether a report (RTCP) may come from this host: its port is not known beforehand.
    pub fn admits_host(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self.latched {
            Some(latched) => ip == latched.ip() || (self.moved && ip == self.signalling),
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
        let signalling = "203.0.113.9".parse().unwrap();
        latch.redescribe(at("192.168.1.5:4000"), signalling, LATE);
        latch.redescribe(at("0.0.0.0:4000"), signalling, LATE);
        assert!(!latch.admit(at("203.0.113.9:62000"), LATE));
        latch.redescribe(at("192.168.1.5:4002"), signalling, LATE);
        assert!(latch.admit(at("203.0.113.9:62000"), LATE));
    }

    #[test]
    fn a_phone_that_moved_is_learned_where_it_signals_from_now() {
        let mut latch = latch();
        assert!(latch.admit(at("203.0.113.9:61000"), T0));
        latch.redescribe(at("192.168.1.5:4000"), "198.51.100.4".parse().unwrap(), LATE);
        assert!(!latch.admit(at("203.0.113.9:61002"), LATE), "the host it signalled from before");
        assert!(latch.admit(at("203.0.113.9:61000"), LATE), "what was taken counts on");
        assert!(latch.admits_host("198.51.100.4".parse().unwrap()));
        assert!(latch.admit(at("198.51.100.4:5000"), LATE));
        assert!(!latch.admit(at("203.0.113.9:61000"), LATE), "until another is learned");
        assert!(!latch.admit(at("198.51.100.4:5002"), LATE));
        let mut slow = self::latch();
        assert!(slow.admit(at("203.0.113.9:61000"), T0));
        slow.redescribe(at("192.168.1.5:4000"), "198.51.100.4".parse().unwrap(), T0);
        assert!(!slow.admit(at("198.51.100.4:5000"), LATE), "the window is closed");
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
