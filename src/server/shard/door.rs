//! The door of a media shard: what it is told, what it tells, and the handle that both pass through.

use crate::audio::Progress;
use crate::browser::Agreed;
use crate::call::{Call, CallEvent, CallInput, CallOutput, Supervision, Why};
use crate::dialplan::FlowSet;
use crate::ids::{CallId, Leg};
use crate::rtp::Stats;
use crate::sdp::MediaPlan;
use crate::server::inference::Inference;
use crate::server::ports::MediaSockets;
use crate::server::recorder::Tap;
use crate::server::routes::Route;
use crate::server::voices::Voices;
use crossbeam_channel::Sender;
use rustix::fd::OwnedFd;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// What runs on a call's media.
pub enum App {
    /// The hotline's call machine.
    Hotline(Box<Call>),
    /// A test route of the configuration.
    Route(Box<Route>),
}

/// A call handed to a shard.
pub struct NewCall {
    /// Its id.
    pub call: CallId,
    /// What runs on it.
    pub app: App,
    /// The flows it began with (none for test routes).
    pub flows: Option<Arc<FlowSet>>,
    /// The caller's media.
    pub caller: NewLeg,
    /// The recording, when calls are recorded.
    pub tap: Option<Tap>,
}

/// A leg's media.
pub struct NewLeg {
    /// Bound sockets.
    pub sockets: MediaSockets,
    /// What was negotiated.
    pub plan: MediaPlan,
    /// Where the signalling came from.
    pub signalling: IpAddr,
    /// Randomness for SSRC, sequence and timestamp.
    pub seed: u64,
    /// Of a leg over DTLS-SRTP: what its transport was agreed to be.
    pub secured: Option<Box<Agreed>>,
}

/// What a shard can be told.
pub enum ShardCommand {
    /// A call begins.
    Begin(Box<NewCall>),
    /// Something happened to a call.
    Input {
        /// Which.
        call: CallId,
        /// What.
        input: CallInput,
    },
    /// Something happened to a seat's leg. Dropped when the call has given up that order.
    Seat {
        /// Which call.
        call: CallId,
        /// Which of the call's `DialSeat` orders it is about; the first is 1.
        order: u32,
        /// What.
        input: CallInput,
    },
    /// A seat's leg has media. Given back when the call has given up that order.
    SeatLeg {
        /// Which call.
        call: CallId,
        /// Which of the call's `DialSeat` orders it is about; the first is 1.
        order: u32,
        /// Its media.
        leg: Box<NewLeg>,
        /// Before the seat answered (early media).
        early: bool,
        /// Called by a trunk or at another exchange: the network may play a tone on it in place of a person.
        outside: bool,
    },
    /// The leg of a seat that will not answer goes; another one is tried.
    SeatGone {
        /// The call.
        call: CallId,
        /// Which of its orders for a seat.
        order: u32,
    },
    /// A re-INVITE changed a leg's media.
    Replan {
        /// Which call.
        call: CallId,
        /// Which leg.
        leg: Leg,
        /// The new plan.
        plan: MediaPlan,
        /// Where it was signalled from, when that is known.
        signalling: Option<IpAddr>,
        /// Of a leg over DTLS-SRTP: what its transport was agreed to be.
        secured: Option<Box<Agreed>>,
    },
    /// A supervisor takes part in a call. One who was there before leaves.
    Supervise {
        /// Which call.
        call: CallId,
        /// His user, for the record.
        user: String,
        /// How he begins.
        mode: Supervision,
        /// His media.
        leg: Box<NewLeg>,
    },
    /// A call's supervisor takes part in another way.
    SuperviseAs {
        /// Which call.
        call: CallId,
        /// How.
        mode: Supervision,
    },
    /// A call's supervisor hung up.
    SupervisorLeft {
        /// Which call.
        call: CallId,
    },
    /// The thread ends when its calls are gone.
    Stop,
}

/// What a shard tells the switchboard.
pub enum ShardReport {
    /// An output of a call that is not the shard's own work.
    Output {
        /// Which call.
        call: CallId,
        /// What it asks for.
        output: CallOutput,
    },
    /// The network plays a tone on the leg that was called for an order: nobody is there.
    Toned {
        /// Which call.
        call: CallId,
        /// Which of its `DialSeat` orders.
        order: u32,
        /// What the tone means.
        tone: Progress,
    },
    /// A call could not begin.
    NotBegun {
        /// Which call.
        call: CallId,
        /// Its RTP port, which may rest.
        port: u16,
        /// Why.
        why: Why,
    },
    /// Media is gone; its ports may rest.
    Released {
        /// Which call.
        call: CallId,
        /// The RTP ports.
        ports: Vec<u16>,
        /// The caller's RTP figures when the whole call has left the shard; none for a seat's leg.
        last: Option<Box<Stats>>,
        /// The RTP figures of a seat's leg that had media.
        seat: Option<Box<Stats>>,
    },
}

/// A shard's door. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) commands: Sender<ShardCommand>,
    pub(super) wake: Arc<OwnedFd>,
    /// It is to be woken, and has not looked yet: waking it costs a system call.
    pub(super) called: Arc<AtomicBool>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) counters: Arc<ShardCounters>,
}

/// Figures of a shard.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Sub-ticks that began more than 5 ms late.
    pub late: AtomicU64,
    /// Calls whose machine panicked.
    pub panics: AtomicU64,
    /// Datagrams that were not ours.
    pub ignored: AtomicU64,
    /// Commands lost because the shard was far behind.
    pub untold: AtomicU64,
    /// Events of calls dropped because the switchboard was far behind.
    pub unreported: AtomicU64,
}

impl ShardHandle {
    /// A door with room for so many commands, and nobody behind it.
    #[cfg(test)]
    pub(crate) fn with_room(room: usize) -> (ShardHandle, crossbeam_channel::Receiver<ShardCommand>) {
        let (commands, inbox) = crossbeam_channel::bounded(room);
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).expect("an eventfd");
        let (called, load, counters) = Default::default();
        (ShardHandle { commands, wake: Arc::new(wake), called, load, counters }, inbox)
    }

    /// Gives a command without waiting. False when the shard is gone or so far behind that its queue is full: what is
    /// lost then is counted. A call that misses its hang-up that way ends when no sound comes any more.
    pub fn send(&self, command: ShardCommand) -> bool {
        let sent = self.send_for_tick(command);
        self.wake();
        sent
    }

    /// The same, for what need not be known before the next sub-tick, at most 5 ms from now: it costs no waking.
    pub fn send_for_tick(&self, command: ShardCommand) -> bool {
        let sent = self.commands.try_send(command).is_ok();
        if !sent {
            self.counters.untold.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Gives a command from a thread that may wait, up to a second.
    pub fn send_patiently(&self, command: ShardCommand) -> bool {
        let sent = self.commands.send_timeout(command, std::time::Duration::from_secs(1)).is_ok();
        if !sent {
            self.counters.untold.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
        sent
    }

    fn wake(&self) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        let _only_fails_when_full_and_then_it_is_awake = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Calls on the shard.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Its figures.
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }
}

/// What all shards share.
#[derive(Clone)]
pub struct ShardSettings {
    /// Recognition, when there is any.
    pub inference: Option<Inference>,
    /// Voices.
    pub voices: Voices,
    /// The switchboard's inbox.
    pub reports: mpsc::Sender<ShardReport>,
    /// A caller whose RTP stops for this long has gone, in milliseconds.
    pub dead_after_ms: u64,
}

/// Whether a report may be lost when the switchboard is far behind: an event that no record is made of.
pub(super) fn is_news(report: &ShardReport) -> bool {
    match report {
        ShardReport::Output { output: CallOutput::Event(event), .. } => !matches!(
            event,
            CallEvent::TurnDone(_)
                | CallEvent::Transfer { .. }
                | CallEvent::Supervisor { .. }
                | CallEvent::Recording { .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_without_a_record_may_be_lost() {
        let call = CallId::new(1, 2);
        let output = |output| ShardReport::Output { call, output };
        assert!(is_news(&output(CallOutput::Event(CallEvent::Key('1')))));
        assert!(!is_news(&output(CallOutput::Hangup(Leg::Caller))));
        assert!(!is_news(&ShardReport::Released { call, ports: vec![4000], last: None, seat: None }));
    }
}
