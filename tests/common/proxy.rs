//! A seeded bad network for one call's RTP: loses, delays, reorders and repeats datagrams both ways.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use zongji::server::phone::Relay;

/// How bad the network is.
#[derive(Clone, Copy)]
pub struct Weather {
    /// Share of datagrams lost, 0.0..=1.0.
    pub loss: f64,
    /// Delay is uniform between zero and this, in milliseconds; so packets overtake each other.
    pub jitter_ms: u64,
    /// Share of datagrams sent twice.
    pub twice: f64,
    /// Mean length of the rows that are lost; 1: each by chance.
    pub burst: f64,
}

impl Weather {
    /// A network without fault.
    pub const GOOD: Weather = Weather { loss: 0.0, jitter_ms: 0, twice: 0.0, burst: 1.0 };

    /// Whether the next one is lost, after one that was or was not: two states, as Gilbert had them.
    fn loses(&self, after_loss: bool, rng: &mut ChaCha8Rng) -> bool {
        if self.burst <= 1.0 {
            return rng.random_bool(self.loss);
        }
        let end = 1.0 / self.burst;
        rng.random_bool(if after_loss { 1.0 - end } else { end * self.loss / (1.0 - self.loss) })
    }
}

/// What befell one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Suffered {
    /// Datagrams that came to it.
    pub sent: u64,
    /// Datagrams lost.
    pub lost: u64,
    /// Datagrams sent twice.
    pub doubled: u64,
    /// Datagrams that arrived before one that was sent earlier.
    pub overtaken: u64,
}

/// The proxy: both ends send to its one socket.
pub struct Proxy {
    address: SocketAddr,
    suffered: Arc<Mutex<[Suffered; 2]>>,
    ends: Arc<Mutex<Option<(SocketAddr, SocketAddr)>>>,
}

impl Relay for Proxy {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn join(&self, phone: SocketAddr, peer: SocketAddr) {
        *self.ends.lock().expect("nobody panics with it") = Some((phone, peer));
    }
}

/// When it is due, its direction, its number in that direction, where it goes, and what it is.
struct Parcel(Instant, usize, u64, SocketAddr, Vec<u8>);

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Parcel {}
impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0) // the earliest comes first out of the heap
    }
}

impl Proxy {
    /// A proxy on loopback with this weather; the same seed loses the same datagrams.
    pub async fn start(weather: Weather, seed: u64) -> Arc<Proxy> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        let ends = Arc::new(Mutex::new(None));
        let suffered = Arc::new(Mutex::new([Suffered::default(); 2]));
        tokio::spawn(carry(socket, ends.clone(), suffered.clone(), weather, seed));
        Arc::new(Proxy { address, ends, suffered })
    }

    /// What befell what the phone sent, and what was sent to it.
    pub fn suffered(&self) -> [Suffered; 2] {
        *self.suffered.lock().expect("nobody panics with it")
    }
}

/// One direction: its own dice, so that what one side sends does not change what the other loses.
struct Way {
    rng: ChaCha8Rng,
    sent: u64,
    /// The newest that has arrived.
    arrived: u64,
    /// The last one was lost.
    losing: bool,
}

async fn carry(
    socket: UdpSocket,
    ends: Arc<Mutex<Option<(SocketAddr, SocketAddr)>>>,
    suffered: Arc<Mutex<[Suffered; 2]>>,
    weather: Weather,
    seed: u64,
) {
    let mut ways = [0, 1].map(|n| Way { rng: ChaCha8Rng::seed_from_u64(seed + n), sent: 0, arrived: 0, losing: false });
    let mut waiting: BinaryHeap<Parcel> = BinaryHeap::new();
    let mut buffer = vec![0u8; 2048];
    let note = |n: usize, change: fn(&mut Suffered)| change(&mut suffered.lock().expect("nobody panics with it")[n]);
    loop {
        let next = waiting.peek().map_or(Instant::now() + Duration::from_secs(3600), |p| p.0);
        tokio::select! {
            got = socket.recv_from(&mut buffer) => {
                let Ok((len, from)) = got else { continue };
                let Some((phone, peer)) = *ends.lock().expect("nobody panics with it") else { continue };
                let (n, to) = if from == phone { (0, peer) } else { (1, phone) };
                let way = &mut ways[n];
                way.sent += 1;
                note(n, |s| s.sent += 1);
                way.losing = weather.loses(way.losing, &mut way.rng);
                if way.losing {
                    note(n, |s| s.lost += 1);
                    continue;
                }
                let twice = way.rng.random_bool(weather.twice);
                if twice {
                    note(n, |s| s.doubled += 1);
                }
                for _ in 0..1 + u8::from(twice) {
                    let late = Duration::from_millis(way.rng.random_range(0..=weather.jitter_ms));
                    waiting.push(Parcel(Instant::now() + late, n, way.sent, to, buffer[..len].to_vec()));
                }
            }
            () = tokio::time::sleep_until(next) => {
                while waiting.peek().is_some_and(|p| p.0 <= Instant::now()) {
                    if let Some(Parcel(_, n, number, to, bytes)) = waiting.pop() {
                        if number < ways[n].arrived {
                            note(n, |s| s.overtaken += 1);
                        }
                        ways[n].arrived = ways[n].arrived.max(number);
                        let _lost = socket.send_to(&bytes, to).await;
                    }
                }
            }
        }
    }
}
