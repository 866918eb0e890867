//! A media shard: one thread that owns its calls, their RTP sockets and one clock.
//!
//! Every 5 ms it reads what has arrived and serves a quarter of its calls, so that each call is served every 20 ms and
//! the work is spread. Sockets are read when the kernel says so (epoll, level-triggered, one receive for each ready
//! socket); only those of bridged legs wake the thread at once, because their packets are relayed on arrival.

use super::door::is_news;
pub use super::door::{App, NewCall, NewLeg, ShardCommand, ShardCounters, ShardHandle, ShardReport, ShardSettings};
use super::inference::Utterance;
use super::keys::{Keys, Way};
use super::pace::{PHASES, Pace};
use super::recorder::Tap;
use super::time::now;
use crate::audio::AudioFrame;
use crate::call::{CallInput, CallOutput, Heard, LegFailure};
use crate::clock::Mono;
use crate::dialplan::FlowSet;
use crate::ids::{CallId, Leg};
use crate::rtp::{Carried, Received, RtpSession, RtpView};
use crate::sdp::MediaPlan;
use crossbeam_channel::{Receiver, bounded};
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Commands a shard may have waiting.
const COMMANDS: usize = 8192;
/// Reports that may wait for the switchboard before mere news is dropped.
const UNSENT: usize = 8192;
/// Longest datagram that is read whole.
const DATAGRAM: usize = 2048;
/// Rounds of reading in one sub-tick: more packets than this wait for the next.
const READ_ROUNDS: usize = 4;

/// Starts a shard's thread.
pub fn start(name: &str, settings: ShardSettings) -> std::io::Result<ShardHandle> {
    let (commands, inbox) = bounded(COMMANDS);
    let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let handle = ShardHandle { commands, wake, load: Arc::default(), counters: Arc::default() };
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

struct MediaLeg {
    rtp: RtpSession,
    socket: UdpSocket,
    control: UdpSocket,
    port: u16,
    /// Where its signalling comes from.
    signalling: IpAddr,
    /// Silence counts from here at the earliest: the leg's beginning, or its last new agreement.
    since: Mono,
    /// Its sound came last in the other curve of G.711 than the leg beside it takes: relaying it would be noise.
    other_law: bool,
    keys: Keys,
}

/// Which of a call's orders for a seat is in force. A seat's answer may cross the call's giving up on it; what comes
/// for an older order must not be taken for the next seat's.
#[derive(Debug, Default)]
struct SeatOrder {
    count: u32,
    wanted: bool,
}

impl SeatOrder {
    fn place(&mut self) {
        self.count += 1;
        self.wanted = true;
    }

    fn end(&mut self) {
        self.wanted = false;
    }

    fn is(&self, order: u32) -> bool {
        self.wanted && self.count == order
    }
}

struct Slot {
    call: CallId,
    app: App,
    flows: Option<Arc<FlowSet>>,
    caller: MediaLeg,
    seat: Option<MediaLeg>,
    order: SeatOrder,
    tap: Option<Tap>,
    bridged: bool,
    answered: bool,
    /// The caller acknowledged our answer. Before that the address in the description may be anybody's, and nothing is
    /// sent there.
    established: bool,
    /// The turn whose speech the recogniser did not get whole.
    holed: Option<crate::ids::TurnId>,
    finished: bool,
    ticks: u64,
}

impl Slot {
    fn leg(&mut self, leg: Leg) -> Option<&mut MediaLeg> {
        match leg {
            Leg::Caller => Some(&mut self.caller),
            Leg::Seat => self.seat.as_mut(),
        }
    }
}

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

fn token(slot: usize, leg: Leg, control: bool) -> u64 {
    (slot as u64) << 2 | u64::from(leg == Leg::Seat) << 1 | u64::from(control)
}

struct Shard {
    me: ShardHandle,
    inbox: Receiver<ShardCommand>,
    settings: ShardSettings,
    slots: Vec<Option<Slot>>,
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

    /// Reads one datagram from the socket a token names.
    fn read(&mut self, socket: u64) {
        let index = (socket >> 2) as usize;
        let leg = if socket & 2 != 0 { Leg::Seat } else { Leg::Caller };
        let control = socket & 1 != 0;
        if self.slots.get(index).is_some_and(Option::is_some) {
            self.guarded(index, |shard, slot| shard.receive(slot, leg, control));
        }
    }

    fn receive(&mut self, slot: &mut Slot, leg: Leg, control: bool) {
        let at = now();
        let mut datagram = std::mem::take(&mut self.datagram);
        let got = match slot.leg(leg) {
            Some(l) if control => l.control.recv_from(&mut datagram),
            Some(l) => l.socket.recv_from(&mut datagram),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        if let (Ok((len, from)), Some(l)) = (got, slot.leg(leg)) {
            let bytes = &datagram[..len];
            if control {
                if !l.rtp.receive_rtcp(at, from, bytes) {
                    self.me.counters.ignored.fetch_add(1, Ordering::Relaxed);
                }
            } else {
                let received = l.rtp.receive(at, from, bytes);
                if slot.bridged && received.is_media() {
                    self.relay(slot, at, leg, received, bytes);
                }
                match received {
                    Received::Key(key) => self.key(slot, at, leg, Way::Rtp, key),
                    Received::Ignored(why) if why.is_foreign() => {
                        self.me.counters.ignored.fetch_add(1, Ordering::Relaxed);
                    }
                    Received::Audio | Received::Ignored(_) => {}
                }
            }
        }
        self.datagram = datagram;
    }

    /// A press. What came by SIP only goes on to the other leg of a bridge too.
    fn key(&mut self, slot: &mut Slot, at: Mono, leg: Leg, way: Way, key: char) {
        let Some(l) = slot.leg(leg) else { return };
        if !l.keys.is_new(way, key, at) {
            return;
        }
        let by_sip_only = way == Way::Info && l.rtp.plan().dtmf_pt.is_none();
        if slot.bridged
            && by_sip_only
            && let Some(other) = slot.leg(leg.other())
        {
            other.rtp.send_key(key);
        }
        self.input(slot, at, CallInput::Key { leg, key });
    }

    /// A packet of a bridged leg, sound or key, goes to the other leg at once when the two agreed on the same; else
    /// sound goes with the tick and a key is pressed anew.
    fn relay(&mut self, slot: &mut Slot, at: Mono, from: Leg, received: Received, bytes: &[u8]) {
        let Some(seat) = slot.seat.as_mut() else { return };
        let (source, sink) = match from {
            Leg::Caller => (&mut slot.caller, seat),
            Leg::Seat => (seat, &mut slot.caller),
        };
        if !relayed(source, sink) {
            if let Received::Key(key) = received {
                sink.rtp.send_key(key);
            }
            return;
        }
        let Ok(view) = RtpView::parse(bytes) else { return };
        let Some(carried) = source.rtp.carries(&view) else { return };
        if let Carried::Sound(law) = carried {
            source.other_law = law != sink.rtp.law();
        }
        // What the tick sends to this leg now is not sent twice.
        if source.other_law || sink.rtp.has_keys() {
            if let Received::Key(key) = received {
                sink.rtp.send_key(key);
            }
            return;
        }
        if let Some(to) = sink.rtp.relay(at, &view, carried, &mut self.packet) {
            let _lost_like_any_packet = sink.socket.send_to(&self.packet, to);
        }
    }

    /// A call's 20 ms.
    fn serve(&mut self, slot: &mut Slot) {
        let at = now();
        slot.ticks += 1;
        let heard = slot.caller.rtp.pull(at);
        hear(&mut slot.app, at, Leg::Caller, &heard);
        let from_seat = slot.seat.as_mut().map(|s| s.rtp.pull(at));
        if let Some(frame) = &from_seat {
            hear(&mut slot.app, at, Leg::Seat, frame);
        }
        let told = if slot.bridged {
            self.serve_bridged(slot, &heard, from_seat.as_ref())
        } else {
            self.serve_apart(slot, at)
        };
        // From the first tick, so that positions on the caller's media clock are positions in the file.
        if let Some(tap) = &mut slot.tap {
            tap.add(&heard, &told);
        }
        if deadline(&slot.app).is_some_and(|d| at >= d) {
            timeout(&mut slot.app, at);
        }
        self.watch_for_silence(slot, at);
        if slot.ticks.is_multiple_of(25) {
            let caller = slot.established.then_some(&mut slot.caller);
            for leg in [caller, slot.seat.as_mut()].into_iter().flatten() {
                if let Some(to) = leg.rtp.rtcp_due(at, &mut self.packet) {
                    let _lost_like_any_packet = leg.control.send_to(&self.packet, to);
                }
            }
        }
        self.outputs(slot, at);
    }

    fn serve_apart(&mut self, slot: &mut Slot, at: Mono) -> AudioFrame {
        let told = speak(&mut slot.app, at, Leg::Caller);
        if slot.answered && slot.established {
            self.send(&mut slot.caller, &told);
        }
        if let Some(seat) = &mut slot.seat {
            let briefing = speak(&mut slot.app, at, Leg::Seat);
            self.send(seat, &briefing);
        }
        told
    }

    /// Legs of one codec are relayed on arrival; others are decoded and sent on the tick, and so is what the other leg
    /// would not understand, and keys that came by SIP.
    fn serve_bridged(&mut self, slot: &mut Slot, heard: &AudioFrame, from_seat: Option<&AudioFrame>) -> AudioFrame {
        let told = from_seat.copied().unwrap_or_else(|| AudioFrame::silence(heard.at));
        if let Some(seat) = &mut slot.seat {
            let apart = !relayed(&slot.caller, seat);
            if apart || seat.other_law || slot.caller.rtp.has_keys() {
                self.send(&mut slot.caller, &told);
            }
            if apart || slot.caller.other_law || seat.rtp.has_keys() {
                self.send(seat, heard);
            }
        }
        told
    }

    /// Goes by when the tick was due: one that is served late is no gap in the sound.
    fn send(&mut self, leg: &mut MediaLeg, frame: &AudioFrame) {
        let mut to = leg.rtp.push(self.pace.due(), frame, &mut self.packet);
        while let Some(there) = to {
            let _lost_like_any_packet = leg.socket.send_to(&self.packet, there);
            to = leg.rtp.push_more(&mut self.packet);
        }
    }

    /// The peer is told that the sound is over.
    fn say_goodbye(&mut self, leg: &mut MediaLeg) {
        if let Some(to) = leg.rtp.goodbye(now(), &mut self.packet) {
            let _lost_like_any_packet = leg.control.send_to(&self.packet, to);
        }
    }

    /// A leg whose packets stopped has hung up without saying so. (The machine's own limit counts calls of `hear`,
    /// which gets silence too where nothing came.)
    fn watch_for_silence(&mut self, slot: &mut Slot, at: Mono) {
        if !slot.answered || !slot.ticks.is_multiple_of(50) {
            return;
        }
        let limit = self.settings.dead_after_ms;
        let silent = |l: &MediaLeg| {
            let (plan, stats) = (l.rtp.plan(), l.rtp.stats());
            // A phone that sends nothing while its person is silent still reports.
            let last = stats.last_packet.max(stats.last_report);
            plan.we_receive && !plan.held_by_remote && silent_for(l.since, last, at) > limit
        };
        if silent(&slot.caller) {
            match &mut slot.app {
                App::Hotline(call) => call.no_media(at),
                App::Route(route) => route.handle(at, CallInput::CallerLost),
            }
            self.outputs(slot, at);
        } else if slot.bridged && slot.seat.as_ref().is_some_and(silent) {
            // Its dialog first: what the machine does next may be to order another seat.
            self.carry_out(slot, at, CallOutput::Hangup(Leg::Seat));
            self.input(slot, at, CallInput::HungUp(Leg::Seat));
        }
    }

    fn commands(&mut self) {
        // Bounded, so that a flood of commands cannot hold back a tick.
        for _ in 0..256 {
            match self.inbox.try_recv() {
                Ok(command) => self.command(command),
                Err(_) => return,
            }
        }
        let _again = rustix::io::write(&*self.me.wake, &1u64.to_ne_bytes());
    }

    fn command(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Begin(new) => self.begin(*new),
            ShardCommand::Input { call, input } => {
                self.with(call, |shard, slot| shard.told(slot, input));
            }
            ShardCommand::Seat { call, order, input } => self.with(call, |shard, slot| {
                if slot.order.is(order) {
                    shard.told(slot, input);
                }
            }),
            ShardCommand::SeatLeg { call, order, leg } => self.seat_leg(call, order, *leg),
            ShardCommand::Replan { call, leg, plan, signalling } => self.with(call, |_, slot| {
                if let Some(l) = slot.leg(leg) {
                    let at = now();
                    let signalling = signalling.unwrap_or(l.signalling);
                    l.signalling = signalling;
                    l.rtp.replan(plan, signalling, at);
                    l.since = at;
                }
            }),
            ShardCommand::Stop => self.stopping = true,
        }
    }

    fn begin(&mut self, new: NewCall) {
        // The emptiest phase, so that sub-ticks stay even.
        let index = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let NewCall { call, app, flows, caller, tap } = new;
        let port = caller.sockets.port;
        let Some(caller) = self.open_leg(index, Leg::Caller, caller) else {
            self.report(ShardReport::Output { call, output: CallOutput::Reject(503) });
            self.report(ShardReport::Released { call, ports: vec![port], last: Some(Box::default()) });
            return;
        };
        self.slots[index] = Some(Slot {
            call,
            app,
            flows,
            caller,
            seat: None,
            order: SeatOrder::default(),
            tap,
            bridged: false,
            answered: false,
            established: false,
            holed: None,
            finished: false,
            ticks: 0,
        });
        self.index.insert(call, index);
        self.me.load.store(self.index.len(), Ordering::Relaxed);
        self.guarded(index, |shard, slot| shard.outputs(slot, now()));
    }

    /// A seat's media, unless nobody waits for that seat any more: then its port goes back.
    fn seat_leg(&mut self, call: CallId, order: u32, leg: NewLeg) {
        let port = leg.sockets.port;
        let slot = self.index.get(&call).copied();
        let wanted = slot.filter(|&i| self.slots[i].as_ref().is_some_and(|s| s.order.is(order)));
        let Some(index) = wanted else {
            drop(leg);
            self.report(ShardReport::Released { call, ports: vec![port], last: None });
            return;
        };
        match self.open_leg(index, Leg::Seat, leg) {
            Some(leg) => self.with(call, |shard, slot| {
                shard.drop_seat(slot);
                slot.seat = Some(leg);
            }),
            None => {
                self.report(ShardReport::Released { call, ports: vec![port], last: None });
                self.with(call, |shard, slot| {
                    shard.carry_out(slot, now(), CallOutput::Hangup(Leg::Seat));
                    shard.input(slot, now(), CallInput::SeatFailed(LegFailure::Failed(500)));
                });
            }
        }
    }

    /// Closes the seat's media and gives its port back.
    fn drop_seat(&mut self, slot: &mut Slot) {
        if let Some(mut seat) = slot.seat.take() {
            self.say_goodbye(&mut seat);
            let ports = vec![seat.port];
            drop(seat);
            self.report(ShardReport::Released { call: slot.call, ports, last: None });
        }
    }

    fn open_leg(&mut self, index: usize, leg: Leg, new: NewLeg) -> Option<MediaLeg> {
        let NewLeg { sockets, plan, signalling, seed } = new;
        for (socket, control) in [(&sockets.rtp, false), (&sockets.rtcp, true)] {
            let data = epoll::EventData::new_u64(token(index, leg, control));
            if let Err(e) = epoll::add(&self.quiet, socket, data, epoll::EventFlags::IN) {
                tracing::error!("cannot watch RTP port {}: {e}; raise the limit of open files", sockets.port);
                return None;
            }
        }
        let at = now();
        let rtp = RtpSession::new(plan, signalling, seed, at);
        Some(MediaLeg {
            signalling,
            rtp,
            socket: sockets.rtp,
            control: sockets.rtcp,
            port: sockets.port,
            since: at,
            other_law: false,
            keys: Keys::default(),
        })
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
            self.report(ShardReport::Output { call: slot.call, output: CallOutput::Hangup(Leg::Caller) });
            self.report(ShardReport::Output { call: slot.call, output: CallOutput::Hangup(Leg::Seat) });
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

    fn release(&mut self, mut slot: Slot) {
        let caller = slot.established.then_some(&mut slot.caller);
        for leg in [caller, slot.seat.as_mut()].into_iter().flatten() {
            self.say_goodbye(leg);
        }
        let stats = Box::new(slot.caller.rtp.stats());
        let mut ports = vec![slot.caller.port];
        ports.extend(slot.seat.as_ref().map(|s| s.port));
        let call = slot.call;
        drop(slot); // closes the sockets (which leaves epoll) and the recording, before the ports are given back
        self.index.remove(&call);
        self.me.load.store(self.index.len(), Ordering::Relaxed);
        self.report(ShardReport::Released { call, ports, last: Some(stats) });
    }

    /// What signalling, models and the back office tell.
    fn told(&mut self, slot: &mut Slot, input: CallInput) {
        match input {
            CallInput::Key { leg, key } => self.key(slot, now(), leg, Way::Info, key),
            input => self.input(slot, now(), input),
        }
    }

    fn input(&mut self, slot: &mut Slot, at: Mono, input: CallInput) {
        if matches!(input, CallInput::HungUp(Leg::Seat) | CallInput::SeatFailed(_)) {
            // The machine asks for no hang-up of a leg that is gone; its media goes here.
            slot.order.end();
            self.drop_seat(slot);
        }
        slot.established |= input == CallInput::Established;
        match &mut slot.app {
            App::Hotline(call) => call.handle(at, input),
            App::Route(route) => route.handle(at, input),
        }
        self.outputs(slot, at);
    }

    fn outputs(&mut self, slot: &mut Slot, at: Mono) {
        while let Some(output) = match &mut slot.app {
            App::Hotline(call) => call.poll_output(),
            App::Route(route) => route.poll_output(),
        } {
            self.carry_out(slot, at, output);
        }
    }

    fn carry_out(&mut self, slot: &mut Slot, at: Mono, output: CallOutput) {
        match output {
            CallOutput::SpeechStart { turn, listen } => {
                let Some(flows) = slot.flows.clone() else { return };
                self.speech(slot, at, turn, Utterance::Start { listen, flows });
            }
            CallOutput::SpeechAudio { turn, pcm } => self.speech(slot, at, turn, Utterance::Audio(pcm)),
            CallOutput::SpeechEnd { turn } => self.speech(slot, at, turn, Utterance::End),
            CallOutput::SpeechCancel { turn } => self.speech(slot, at, turn, Utterance::Cancel),
            CallOutput::Synthesise { prompt, request } => {
                if let Err(why) = self.settings.voices.submit(&self.me, slot.call, prompt, request) {
                    self.input(slot, at, CallInput::PromptFailed { prompt, why: why.into() });
                }
            }
            // Making a prompt takes milliseconds: what is no longer wanted is dropped by the machine.
            CallOutput::StopSynthesis(_) => {}
            CallOutput::Bridge(on) => self.bridge(slot, on),
            CallOutput::Hangup(Leg::Seat) => {
                slot.order.end();
                self.report(ShardReport::Output { call: slot.call, output: CallOutput::Hangup(Leg::Seat) });
                self.drop_seat(slot);
            }
            CallOutput::DialSeat { order } => {
                slot.order.place();
                self.report(ShardReport::Output { call: slot.call, output: CallOutput::DialSeat { order } });
            }
            output => {
                slot.answered |= output == CallOutput::Answer;
                slot.finished |= matches!(output, CallOutput::Finished(_));
                self.report(ShardReport::Output { call: slot.call, output });
            }
        }
    }

    fn speech(&mut self, slot: &mut Slot, at: Mono, turn: crate::ids::TurnId, what: Utterance) {
        let (sound, end) = (matches!(what, Utterance::Audio(_)), matches!(what, Utterance::End));
        let awaited = end || matches!(what, Utterance::Start { .. });
        // An utterance with a hole in it would be understood as something else.
        let what = if slot.holed == Some(turn) { Utterance::Cancel } else { what };
        let refused = match &self.settings.inference {
            Some(inference) => inference.submit(&self.me, slot.call, turn, what).err(),
            None => Some("no recogniser is loaded"),
        };
        if sound && refused.is_some() {
            slot.holed = Some(turn);
        }
        let refused = match slot.holed == Some(turn) {
            true => end.then_some("the recogniser is too far behind"),
            false => refused.filter(|_| awaited),
        };
        if let Some(why) = refused {
            let heard = Heard { result: Err(why.into()), engine: String::new(), recognise_ms: 0, understand_ms: 0 };
            self.input(slot, at, CallInput::Heard { turn, heard });
        }
    }

    /// Sockets of bridged legs wake the thread; others are looked at on the tick.
    fn bridge(&mut self, slot: &mut Slot, on: bool) {
        slot.bridged = on;
        let Some(&index) = self.index.get(&slot.call) else { return };
        let (from, to) = if on { (&self.quiet, &self.waking) } else { (&self.waking, &self.quiet) };
        for (leg, socket) in
            [(Leg::Caller, Some(&slot.caller.socket)), (Leg::Seat, slot.seat.as_ref().map(|s| &s.socket))]
        {
            if let Some(socket) = socket
                && epoll::delete(from, socket).is_ok()
            {
                let data = epoll::EventData::new_u64(token(index, leg, false));
                let _stays_unwatched_only_without_memory = epoll::add(to, socket, data, epoll::EventFlags::IN);
            }
        }
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

/// Milliseconds without a packet, from `since` at the earliest: a leg that was on hold may have sent nothing for long
/// and still be there.
fn silent_for(since: Mono, last: Option<Mono>, at: Mono) -> u64 {
    at.ms_since(last.map_or(since, |l| l.max(since)))
}

/// Whether packets of one leg may go to the other untouched.
fn relayed(a: &MediaLeg, b: &MediaLeg) -> bool {
    alike(a.rtp.plan(), b.rtp.plan())
}

/// Whether two legs speak the same on the wire, keys included: a peer without RFC 4733 needs tones made for it.
fn alike(a: &MediaPlan, b: &MediaPlan) -> bool {
    a.codec == b.codec && a.ptime_ms == b.ptime_ms && a.dtmf_pt.is_some() == b.dtmf_pt.is_some()
}

fn hear(app: &mut App, at: Mono, leg: Leg, frame: &AudioFrame) {
    match app {
        App::Hotline(call) => call.hear(at, leg, frame),
        App::Route(route) => route.hear(at, leg, frame),
    }
}

fn speak(app: &mut App, at: Mono, leg: Leg) -> AudioFrame {
    match app {
        App::Hotline(call) => call.speak(at, leg),
        App::Route(route) => route.speak(at, leg),
    }
}

fn deadline(app: &App) -> Option<Mono> {
    match app {
        App::Hotline(call) => call.deadline(),
        App::Route(route) => Some(route.deadline()),
    }
}

fn timeout(app: &mut App, at: Mono) {
    match app {
        App::Hotline(call) => call.timeout(at),
        App::Route(route) => route.handle(at, CallInput::Terminate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Codec;

    #[test]
    fn what_comes_for_an_old_order_is_not_taken_for_the_next_seat() {
        let mut order = SeatOrder::default();
        assert!(!order.is(0), "nobody is called before the first order");
        order.place();
        assert!(order.is(1));
        order.end();
        assert!(!order.is(1), "given up");
        order.place();
        assert!(order.is(2) && !order.is(1));
    }

    #[test]
    fn a_leg_back_from_a_long_hold_has_its_full_time_to_be_heard() {
        let at = Mono::from_ms(100_000);
        let resumed = Mono::from_ms(99_900);
        assert_eq!(silent_for(resumed, Some(Mono::from_ms(10_000)), at), 100);
        assert_eq!(silent_for(Mono::from_ms(1_000), Some(Mono::from_ms(70_000)), at), 30_000);
        assert_eq!(silent_for(Mono::from_ms(1_000), None, at), 99_000);
    }

    #[test]
    fn legs_are_relayed_only_when_sound_and_keys_mean_the_same_on_both() {
        let plan = MediaPlan {
            remote: ([127, 0, 0, 1], 4000).into(),
            remote_rtcp: ([127, 0, 0, 1], 4001).into(),
            codec: Codec::Pcma,
            payload_type: 8,
            dtmf_pt: Some(101),
            receive: crate::sdp::Formats { pcma: Some(8), pcmu: None, events: Some(101) },
            ptime_ms: 20,
            we_send: true,
            we_receive: true,
            held_by_remote: false,
        };
        assert!(alike(&plan, &MediaPlan { dtmf_pt: Some(96), payload_type: 98, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { codec: Codec::Pcmu, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { ptime_ms: 30, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { dtmf_pt: None, ..plan.clone() }));
    }
}
