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
}

/// The proxy: both ends send to its one socket.
pub struct Proxy {
    address: SocketAddr,
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

struct Parcel(Instant, SocketAddr, Vec<u8>);

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
        tokio::spawn(carry(socket, ends.clone(), weather, ChaCha8Rng::seed_from_u64(seed)));
        Arc::new(Proxy { address, ends })
    }
}

async fn carry(
    socket: UdpSocket,
    ends: Arc<Mutex<Option<(SocketAddr, SocketAddr)>>>,
    weather: Weather,
    mut rng: ChaCha8Rng,
) {
    let mut waiting: BinaryHeap<Parcel> = BinaryHeap::new();
    let mut buffer = vec![0u8; 2048];
    loop {
        let next = waiting.peek().map_or(Instant::now() + Duration::from_secs(3600), |p| p.0);
        tokio::select! {
            got = socket.recv_from(&mut buffer) => {
                let Ok((len, from)) = got else { continue };
                let Some((phone, peer)) = *ends.lock().expect("nobody panics with it") else { continue };
                let to = if from == phone { peer } else { phone };
                if rng.random_bool(weather.loss) {
                    continue;
                }
                let copies = if rng.random_bool(weather.twice) { 2 } else { 1 };
                for _ in 0..copies {
                    let late = Duration::from_millis(rng.random_range(0..=weather.jitter_ms));
                    waiting.push(Parcel(Instant::now() + late, to, buffer[..len].to_vec()));
                }
            }
            () = tokio::time::sleep_until(next) => {
                while waiting.peek().is_some_and(|p| p.0 <= Instant::now()) {
                    if let Some(Parcel(_, to, bytes)) = waiting.pop() {
                        let _lost = socket.send_to(&bytes, to).await;
                    }
                }
            }
        }
    }
}
