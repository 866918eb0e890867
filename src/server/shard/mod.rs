//! A media shard: one thread that owns its calls, their RTP sockets and one clock.
//!
//! Every 5 ms it reads what has arrived and serves a quarter of its calls, so that each call is served every 20 ms and
//! the work is spread. Sockets are read when the kernel says so (epoll, level-triggered, one receive for each ready
//! socket); only those of bridged legs wake the thread at once, because their packets are relayed on arrival.

mod door;
mod media;
mod orders;
mod slot;
mod supervise;
mod wire;

pub use door::{App, NewCall, NewLeg, ShardCommand, ShardCounters, ShardHandle, ShardReport, ShardSettings};

use crate::call::CallOutput;
use crate::ids::{CallId, Leg};
use crate::server::pace::{PHASES, Pace};
use crate::server::time::now;
use crossbeam_channel::{Receiver, bounded};
use door::is_news;
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use slot::Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Commands a shard may have waiting.
const COMMANDS: usize = 8192;
/// Reports that may wait for the switchboard before mere news is dropped.
const UNSENT: usize = 8192;
/// Longest datagram that is read whole.
const DATAGRAM: usize = 2048;
/// Foreign datagrams thrown away to come to one of the peer's: a flood must not keep its sound waiting in the socket.
const MOST_FOREIGN: usize = 32;
/// Rounds of reading in one sub-tick: more packets than this wait for the next.
const READ_ROUNDS: usize = 4;

/// Starts a shard's thread.
pub fn start(name: &str, settings: ShardSettings) -> std::io::Result<ShardHandle> {
    let (commands, inbox) = bounded(COMMANDS);
    let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (called, load, counters) = Default::default();
    let handle = ShardHandle { commands, wake, called, load, counters };
    let me = handle.clone();
    let (built, outcome) = bounded(1);
    std::thread::Builder::new().name(name.into()).spawn(move || match Shard::new(me, inbox, settings) {
        Ok(mut shard) => {
            let _starter_waits = built.send(Ok(()));
            shard.run();
        }
        Err(e) => {
            let _starter_waits = built.send(Err(e));
        }
    })?;
    outcome.recv().map_err(std::io::Error::other)??;
    Ok(handle)
}

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

fn token(slot: usize, leg: Leg, control: bool) -> u64 {
    let leg = match leg {
        Leg::Caller => 0,
        Leg::Seat => 1,
        Leg::Supervisor => 2,
    };
    (slot as u64) << 3 | leg << 1 | u64::from(control)
}

struct Shard {
    me: ShardHandle,
    inbox: Receiver<ShardCommand>,
    settings: ShardSettings,
    /// Boxed: a slot is taken out and put back for every packet and tick.
    slots: Vec<Option<Box<Slot>>>,
    index: HashMap<CallId, usize>,
    /// Waited on: commands, the clock, bridged sockets.
    waking: OwnedFd,
    /// Only looked at: all other sockets.
    quiet: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    /// Of their own: the quiet sockets are read while an event of the waking ones is handled.
    quiet_events: Vec<epoll::Event>,
    /// Reports the switchboard had no room for; each call has only a handful, so it stays short.
    unsent: VecDeque<ShardReport>,
    datagram: Vec<u8>,
    packet: Vec<u8>,
    /// Of a leg over DTLS-SRTP: the packet in a datagram, and the datagram made of a packet.
    plain: Vec<u8>,
    sealed: Vec<u8>,
    phase: u64,
    pace: Pace,
    stopping: bool,
}

impl Shard {
    fn new(me: ShardHandle, inbox: Receiver<ShardCommand>, settings: ShardSettings) -> std::io::Result<Shard> {
        let waking = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let quiet = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = Timespec { tv_sec: 0, tv_nsec: 20_000_000 / PHASES as i64 };
        let spec = Itimerspec { it_interval: every, it_value: every };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        epoll::add(&waking, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        epoll::add(&waking, &*me.wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Shard {
            me,
            inbox,
            settings,
            slots: Vec::new(),
            index: HashMap::new(),
            waking,
            quiet,
            timer,
            events: Vec::with_capacity(256),
            quiet_events: Vec::with_capacity(1024),
            unsent: VecDeque::new(),
            datagram: vec![0; DATAGRAM],
            packet: Vec::with_capacity(DATAGRAM),
            plain: Vec::with_capacity(DATAGRAM),
            sealed: Vec::with_capacity(DATAGRAM),
            phase: 0,
            pace: Pace::new(now()),
            stopping: false,
        })
    }

    fn run(&mut self) {
        while !(self.stopping && self.index.is_empty()) {
            let mut events = std::mem::take(&mut self.events);
            events.clear();
            let waited = epoll::wait(&self.waking, rustix::buffer::spare_capacity(&mut events), None);
            if waited.is_err() {
                events.clear(); // EINTR: the timer fires again
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    TIMER => {
                        let mut expired = [0u8; 8];
                        let _nothing_expired = rustix::io::read(&self.timer, &mut expired);
                        for _ in 0..self.pace.expired(u64::from_ne_bytes(expired)) {
                            self.tick();
                        }
                    }
                    WAKE => {
                        let _count = rustix::io::read(&*self.me.wake, &mut [0u8; 8]);
                        // Before the queue is emptied: what comes after this wakes the thread anew.
                        self.me.called.swap(false, Ordering::AcqRel);
                        self.commands();
                    }
                    socket => self.read(socket),
                }
            }
            self.events = events;
        }
    }

    /// One sub-tick: read what has come, serve a quarter of the calls.
    fn tick(&mut self) {
        if now().ms_since(self.pace.tick()) > 5 {
            self.me.counters.late.fetch_add(1, Ordering::Relaxed);
        }
        self.commands();
        self.read_quiet();
        let phase = self.phase;
        self.phase = (self.phase + 1) % PHASES;
        for index in (phase as usize..self.slots.len()).step_by(PHASES as usize) {
            if self.slots[index].is_some() {
                self.guarded(index, |shard, slot| shard.serve(slot));
            }
        }
        while let Some(report) = self.unsent.pop_front() {
            if let Err(e) = self.settings.reports.try_send(report) {
                match e {
                    mpsc::error::TrySendError::Full(report) => self.unsent.push_front(report),
                    mpsc::error::TrySendError::Closed(_) => {}
                }
                break;
            }
        }
    }

    fn read_quiet(&mut self) {
        for _ in 0..READ_ROUNDS {
            let mut events = std::mem::take(&mut self.quiet_events);
            events.clear();
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let _interrupted = epoll::wait(&self.quiet, rustix::buffer::spare_capacity(&mut events), Some(&none));
            let count = events.len();
            for event in events.drain(..) {
                self.read(event.data.u64());
            }
            self.quiet_events = events;
            if count == 0 {
                break;
            }
        }
    }

    /// Reads one datagram from the socket a token names, past those that are nobody's.
    fn read(&mut self, socket: u64) {
        let index = (socket >> 3) as usize;
        let leg = match socket >> 1 & 3 {
            0 => Leg::Caller,
            1 => Leg::Seat,
            _ => Leg::Supervisor,
        };
        let control = socket & 1 != 0;
        for _ in 0..MOST_FOREIGN {
            let mut foreign = false;
            if self.slots.get(index).is_some_and(Option::is_some) {
                self.guarded(index, |shard, slot| foreign = shard.receive(slot, leg, control));
            }
            if !foreign {
                return;
            }
        }
    }

    fn with(&mut self, call: CallId, f: impl FnOnce(&mut Shard, &mut Slot)) {
        if let Some(&index) = self.index.get(&call) {
            self.guarded(index, f);
        }
    }

    /// Runs `f` on a slot. A panic ends that call only; a finished call leaves.
    fn guarded(&mut self, index: usize, f: impl FnOnce(&mut Shard, &mut Slot)) {
        let Some(mut slot) = self.slots[index].take() else { return };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(self, &mut slot)));
        if ran.is_err() {
            self.me.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(call = %slot.call, "the call's machine broke; this call ends, others go on");
            for leg in [Leg::Caller, Leg::Seat, Leg::Supervisor] {
                self.report(ShardReport::Output { call: slot.call, output: CallOutput::Hangup(leg) });
            }
            slot.finished = true;
            // The panic may have taken the buffer with it, and an empty one would read every call's packets as nothing.
            self.datagram.resize(DATAGRAM, 0);
        }
        if slot.finished {
            self.release(slot);
        } else {
            self.slots[index] = Some(slot);
        }
    }

    fn release(&mut self, mut slot: Box<Slot>) {
        self.drop_supervisor(&mut slot);
        let caller = slot.established.then_some(&mut *slot.caller);
        for leg in [caller, slot.seat.as_deref_mut()].into_iter().flatten() {
            self.say_goodbye(leg);
        }
        let stats = Box::new(slot.caller.rtp.stats());
        let seat = slot.seat.as_ref().map(|s| Box::new(s.rtp.stats()));
        let mut ports = vec![slot.caller.port];
        ports.extend(slot.seat.as_ref().map(|s| s.port));
        let call = slot.call;
        drop(slot); // closes the sockets (which leaves epoll) and the recording, before the ports are given back
        self.index.remove(&call);
        self.me.load.store(self.index.len(), Ordering::Relaxed);
        self.report(ShardReport::Released { call, ports, last: Some(stats), seat });
    }

    /// Tells the switchboard, in order. While it stands still, what ends calls and frees ports is kept (a handful for
    /// each call) and mere news only up to a limit.
    fn report(&mut self, report: ShardReport) {
        let report = if self.unsent.is_empty() {
            match self.settings.reports.try_send(report) {
                Err(mpsc::error::TrySendError::Full(report)) => report,
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        } else {
            report
        };
        if self.unsent.len() >= UNSENT && is_news(&report) {
            self.me.counters.unreported.fetch_add(1, Ordering::Relaxed);
        } else {
            self.unsent.push_back(report);
        }
    }
}
