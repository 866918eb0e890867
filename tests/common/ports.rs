//! Ports for programs that must be told theirs before they start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports of a row.
const ROW: u16 = 100;
/// Rows there are: below what a system gives to those who ask for any port, and below the hotlines of the tests.
const ROWS: u16 = 100;
const FIRST: u16 = 10_000;

/// A row of ports on loopback that is nobody else's as long as this lives: no other test of this run has it, and none of
/// a run beside it on the same machine.
pub struct Ports {
    first: u16,
    /// Listening at the row's last port is the claim.
    _claim: TcpListener,
}

impl Ports {
    /// Some that are free.
    pub fn claim() -> Ports {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let begin = std::process::id() as u16 % ROWS;
        for _ in 0..ROWS {
            let first = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % ROWS * ROW;
            let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, first + ROW - 1));
            // What has not ended yet of those who had it before.
            let is_free = UdpSocket::bind((Ipv4Addr::LOCALHOST, first)).is_ok();
            if let Ok(claim) = claim
                && is_free
            {
                return Ports { first, _claim: claim };
            }
        }
        panic!("no row of ports is free");
    }

    /// The first one, with its address: where a program listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.first))
    }

    /// Others, for its media.
    pub fn media(&self) -> RangeInclusive<u16> {
        self.first + 2..=self.first + ROW - 3
    }
}
