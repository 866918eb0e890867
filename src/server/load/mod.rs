//! A light caller for load tests: many calls with real RTP from three threads, and figures of what came back.
//!
//! ```text
//! signalling: one socket, bare SIP ──▶ which legs there are ──▶ sender: a slot of legs each millisecond, one system call
//!                                                        └────▶ listener: counts, gaps, evenness, replies
//! ```
//!
//! The generator watches itself: packets to itself go the same way as a call's, and the busiest of its threads is
//! known. What it cannot do cleanly is never put down to the server.

mod callers;
mod figures;
mod sound;

pub use callers::Generator;
pub use figures::{Figures, Flaw, Histogram, Limit, flaws, limit};

use crate::clock::Mono;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What callers do.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    /// The hotline.
    pub server: SocketAddr,
    /// Number dialled.
    pub user: String,
    /// New calls a second.
    pub rate: f64,
    /// Calls that the hotline places to us are answered at this address (bridges); port 0 for any.
    pub bind: SocketAddr,
    /// What callers say, in A-law, one after the other, each when the prompt before has ended; empty: a steady sound.
    pub says: Vec<Arc<[u8]>>,
    /// A call that the hotline ends is followed by another one.
    pub renew: bool,
    /// Whether what is sent comes back on another leg: its delay is measured.
    pub crosses: bool,
}

/// Legs at most: slots of the table by port.
const MOST_LEGS: usize = 8192;
/// Sockets, and slots of a millisecond in the 20 ms of a packet.
const SLOTS: usize = 20;

/// Seen by all three threads.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Calls wanted.
    aim: AtomicUsize,
    /// CPU time of signalling, sender and listener, in microseconds.
    cpu: [AtomicU64; 3],
}

/// What a caller is about to say, between listener and sender.
#[derive(Debug, Default)]
struct Mouth {
    /// Number of the utterance, from 1; 0: none.
    says: AtomicU32,
    /// When it was over, in microseconds; 0: not yet.
    ended: AtomicU64,
}

/// One leg.
#[derive(Debug, Clone)]
struct Leg {
    /// Which one: also decides socket and slot.
    id: u32,
    /// The hotline's port.
    peer: SocketAddr,
    mouth: Arc<Mouth>,
}

#[derive(Debug)]
enum Order {
    Add(Leg),
    /// Leg and the hotline's port.
    Remove(u32, u16),
    /// Counts begin anew.
    Reset,
    /// Counts so far.
    Tell(crossbeam_channel::Sender<sound::Heard>),
}

/// CPU time of the calling thread so far.
fn thread_cpu_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

impl Shared {
    fn spent(&self, thread: usize) {
        self.cpu[thread].store(thread_cpu_us(), Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Sleeps until a moment; not at all when it is past.
fn sleep_until(due: Mono) {
    std::thread::sleep(due.since(super::time::now()));
}
