//! RTP ports: handed out in pairs, oldest first, and left to rest after a call so that late packets of the last
//! caller cannot reach the next one (never under 2 s, longer the more ports there are).

use crate::clock::Mono;
use rand::seq::SliceRandom;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A rest that a used port always gets.
pub const SHORTEST_REST_MS: u64 = 2_000;

/// Two bound, non-blocking sockets.
#[derive(Debug)]
pub struct MediaSockets {
    /// RTP, on an even port.
    pub rtp: UdpSocket,
    /// RTCP, on the next port.
    pub rtcp: UdpSocket,
    /// The RTP port.
    pub port: u16,
}

/// Why no ports could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// All are in use or resting.
    #[error("no RTP port is free: widen [rtp] ports, or lower [sip] max_calls")]
    Exhausted,
    /// The address is not ours.
    #[error("cannot bind RTP ports on {addr}: {why}; set [rtp] bind to an address of this machine")]
    Bind {
        /// The address tried.
        addr: IpAddr,
        /// The system's words.
        why: String,
    },
}

/// The pool.
#[derive(Debug)]
pub struct PortPool {
    bind: IpAddr,
    free: VecDeque<(Mono, u16)>,
    gauge: Arc<AtomicUsize>,
}

impl PortPool {
    /// All even ports of a range, in an order nobody can guess.
    pub fn new(bind: IpAddr, range: RangeInclusive<u16>, rng: &mut impl rand::Rng) -> Self {
        let mut ports: Vec<u16> = range.clone().filter(|p| p % 2 == 0 && *p < *range.end()).collect();
        ports.shuffle(rng);
        let gauge = Arc::new(AtomicUsize::new(ports.len()));
        PortPool { bind, free: ports.into_iter().map(|p| (Mono(0), p)).collect(), gauge }
    }

    /// A pair of sockets. Ports that another program holds are passed over.
    pub fn take(&mut self, now: Mono) -> Result<MediaSockets, PortError> {
        let mut taken_by_others = Vec::new();
        let mut found = Err(PortError::Exhausted);
        while let Some(&(since, port)) = self.free.front() {
            if since != Mono(0) && now.ms_since(since) < SHORTEST_REST_MS {
                break;
            }
            self.free.pop_front();
            match open(self.bind, port) {
                Ok(pair) => {
                    found = Ok(pair);
                    break;
                }
                Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => taken_by_others.push(port),
                Err(e) => {
                    self.free.push_front((since, port));
                    found = Err(PortError::Bind { addr: self.bind, why: e.to_string() });
                    break;
                }
            }
        }
        self.free.extend(taken_by_others.into_iter().map(|p| (now, p)));
        self.gauge.store(self.free.len(), Ordering::Relaxed);
        found
    }

    /// Gives a port back; it rests before it is used again.
    pub fn give_back(&mut self, port: u16, now: Mono) {
        self.free.push_back((now, port));
        self.gauge.store(self.free.len(), Ordering::Relaxed);
    }

    /// Follows the number of pairs not in use.
    pub fn gauge(&self) -> Arc<AtomicUsize> {
        self.gauge.clone()
    }
}

fn open(bind: IpAddr, port: u16) -> std::io::Result<MediaSockets> {
    let rtp = UdpSocket::bind(SocketAddr::new(bind, port))?;
    let rtcp = UdpSocket::bind(SocketAddr::new(bind, port + 1))?;
    rtp.set_nonblocking(true)?;
    rtcp.set_nonblocking(true)?;
    Ok(MediaSockets { rtp, rtcp, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::net::Ipv4Addr;

    fn pool(range: RangeInclusive<u16>) -> PortPool {
        PortPool::new(Ipv4Addr::LOCALHOST.into(), range, &mut rand_chacha::ChaCha8Rng::seed_from_u64(7))
    }

    #[test]
    fn a_used_port_rests_before_the_next_call_gets_it() {
        let mut p = pool(28_100..=28_103);
        let now = Mono::from_ms(10_000);
        let (a, b) = (p.take(now).unwrap(), p.take(now).unwrap());
        assert_ne!(a.port, b.port);
        assert_eq!(p.take(now).unwrap_err(), PortError::Exhausted);
        let (pa, pb) = (a.port, b.port);
        drop((a, b));
        p.give_back(pb, now);
        p.give_back(pa, now + std::time::Duration::from_millis(10));
        assert_eq!(p.take(now + std::time::Duration::from_millis(1_999)).unwrap_err(), PortError::Exhausted);
        let again = p.take(now + std::time::Duration::from_millis(2_500)).unwrap();
        assert_eq!(again.port, pb, "the one that rested longest comes first");
    }

    /// Two calls a second of ten seconds each need 80 of 100 pairs when each rests for 30 s.
    #[test]
    fn ports_are_used_oldest_first_and_rest_half_a_minute_while_there_are_enough() {
        let mut p = pool(28_200..=28_399);
        let (mut held, mut rested) = (VecDeque::new(), std::collections::HashMap::new());
        let (mut order, mut reused) = (VecDeque::new(), 0);
        for half_second in 0..400 {
            let now = Mono::from_ms(10_000 + half_second * 500);
            if held.len() == 20
                && let Some(MediaSockets { port, .. }) = held.pop_front()
            {
                p.give_back(port, now);
                order.push_back(port);
                rested.insert(port, now);
            }
            let pair = p.take(now).unwrap();
            if let Some(since) = rested.get(&pair.port) {
                reused += 1;
                assert!(now.ms_since(*since) >= 30_000, "{} after {} ms", pair.port, now.ms_since(*since));
                assert_eq!(order.pop_front(), Some(pair.port), "the one that rested longest");
            }
            held.push_back(pair);
        }
        assert!(reused > 250, "{reused}");
    }

    #[test]
    fn a_port_held_by_another_program_is_passed_over() {
        let mut p = pool(28_110..=28_113);
        let other = UdpSocket::bind(("127.0.0.1", 28_110)).unwrap();
        let got = p.take(Mono::from_ms(5_000)).unwrap();
        assert_eq!(got.port, 28_112);
        drop(other);
    }
}
