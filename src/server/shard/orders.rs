//! What a shard is told to do, and what its calls' machines tell it to do.

use super::slot::{MediaLeg, SeatOrder, Slot};
use super::{App, NewCall, NewLeg, Shard, ShardCommand, ShardReport, token};
use crate::browser::Transport;
use crate::call::{CallInput, CallOutput, Heard, LegFailure, Why};
use crate::clock::Mono;
use crate::ids::{CallId, Leg};
use crate::rtp::RtpSession;
use crate::server::inference::Utterance;
use crate::server::keys::{Keys, Way};
use crate::server::pace::PHASES;
use crate::server::time::now;
use rustix::event::epoll;
use std::sync::atomic::Ordering;

/// Sub-ticks from a call's beginning to the earliest one that should be its own: by then its answer has been acknowledged.
const AFTER_ANSWER: usize = 1;
/// Calls that one sub-tick may serve more than another.
const UNEVEN: usize = 8;

impl Shard {
    pub(super) fn commands(&mut self) {
        // Bounded, so that a flood of commands cannot hold back a tick.
        for _ in 0..256 {
            match self.inbox.try_recv() {
                Ok(command) => self.command(command),
                Err(_) => return,
            }
        }
        let _again = rustix::io::write(&*self.me.wake, &1u64.to_ne_bytes());
    }

    pub(super) fn command(&mut self, command: ShardCommand) {
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
            ShardCommand::SeatLeg { call, order, leg, early, outside } => {
                self.seat_leg(call, order, *leg);
                self.with(call, |_, slot| {
                    let Some(seat) = slot.seat.as_mut().filter(|_| slot.order.is(order)) else { return };
                    slot.early = early;
                    seat.progress = outside.then(Box::default);
                });
            }
            ShardCommand::SeatGone { call, order } => self.with(call, |shard, slot| {
                if slot.order.is(order) {
                    shard.drop_seat(slot);
                }
            }),
            ShardCommand::Replan { call, leg, plan, signalling, secured } => self.with(call, |_, slot| {
                if let Some(l) = slot.leg(leg) {
                    let at = now();
                    let signalling = signalling.unwrap_or(l.signalling);
                    l.signalling = signalling;
                    l.rtp.replan(plan, signalling, at);
                    if let (Some(transport), Some(agreed)) = (&mut l.transport, secured) {
                        transport.agree(*agreed, at);
                    }
                    l.listen_for_tones();
                    l.since = at;
                }
            }),
            ShardCommand::Supervise { call, user, mode, leg } => self.supervise(call, user, mode, *leg),
            ShardCommand::SuperviseAs { call, mode } => {
                self.with(call, |shard, slot| shard.supervise_as(slot, mode));
            }
            ShardCommand::SupervisorLeft { call } => self.with(call, |shard, slot| shard.drop_supervisor(slot)),
            ShardCommand::Stop => self.stopping = true,
        }
    }

    /// A place whose tick comes soon after the caller's ACK can be here, unless that sub-tick has more calls to serve
    /// than another by [`UNEVEN`].
    fn free_slot(&mut self) -> usize {
        let taken =
            |phase: usize| self.slots.iter().skip(phase).step_by(PHASES as usize).filter(|s| s.is_some()).count();
        let loads: [usize; PHASES as usize] = std::array::from_fn(taken);
        let least = loads.iter().min().copied().unwrap_or(0);
        let soon = |n: usize| (self.phase as usize + AFTER_ANSWER + n) % PHASES as usize;
        let phase = (0..PHASES as usize).map(soon).find(|p| loads[*p] <= least + UNEVEN).unwrap_or(0);
        let free = (phase..self.slots.len()).step_by(PHASES as usize).find(|i| self.slots[*i].is_none());
        free.unwrap_or_else(|| {
            let index = self.slots.len().next_multiple_of(PHASES as usize) + phase;
            self.slots.resize_with(index + PHASES as usize - phase, || None);
            index
        })
    }

    pub(super) fn begin(&mut self, new: NewCall) {
        let index = self.free_slot();
        let NewCall { call, app, flows, caller, tap } = new;
        let port = caller.sockets.port;
        let Some(caller) = self.open_leg(index, Leg::Caller, caller) else {
            return self.report(ShardReport::NotBegun { call, port, why: Why::NoSocket });
        };
        self.slots[index] = Some(Box::new(Slot {
            call,
            app,
            flows,
            caller,
            seat: None,
            supervisor: None,
            order: SeatOrder::default(),
            tap,
            bridged: false,
            early: false,
            answered: false,
            sounding: false,
            established: false,
            holed: None,
            finished: false,
            ticks: 0,
        }));
        self.index.insert(call, index);
        self.me.load.store(self.index.len(), Ordering::Relaxed);
        self.guarded(index, |shard, slot| shard.outputs(slot, now()));
    }

    /// A seat's media, unless nobody waits for that seat any more: then its port goes back.
    pub(super) fn seat_leg(&mut self, call: CallId, order: u32, leg: NewLeg) {
        let port = leg.sockets.port;
        let slot = self.index.get(&call).copied();
        let wanted = slot.filter(|&i| self.slots[i].as_ref().is_some_and(|s| s.order.is(order)));
        let Some(index) = wanted else {
            drop(leg);
            self.report(ShardReport::Released { call, ports: vec![port], last: None, seat: None });
            return;
        };
        match self.open_leg(index, Leg::Seat, leg) {
            Some(leg) => self.with(call, |shard, slot| {
                shard.drop_seat(slot);
                slot.seat = Some(leg);
                if slot.bridged {
                    shard.bridge(slot, true); // another phone takes the place of the seat's
                }
            }),
            None => {
                self.report(ShardReport::Released { call, ports: vec![port], last: None, seat: None });
                self.with(call, |shard, slot| {
                    shard.carry_out(slot, now(), CallOutput::Hangup(Leg::Seat));
                    shard.input(slot, now(), CallInput::SeatFailed(LegFailure::Failed(500)));
                });
            }
        }
    }

    /// Closes the seat's media and gives its port back.
    pub(super) fn drop_seat(&mut self, slot: &mut Slot) {
        slot.early = false;
        if let Some(mut seat) = slot.seat.take() {
            self.say_goodbye(&mut seat);
            let ports = vec![seat.port];
            let stats = Some(Box::new(seat.rtp.stats()));
            drop(seat);
            self.report(ShardReport::Released { call: slot.call, ports, last: None, seat: stats });
        }
    }

    pub(super) fn open_leg(&mut self, index: usize, leg: Leg, new: NewLeg) -> Option<Box<MediaLeg>> {
        let NewLeg { sockets, plan, signalling, seed, secured } = new;
        for (socket, control) in [(&sockets.rtp, false), (&sockets.rtcp, true)] {
            let data = epoll::EventData::new_u64(token(index, leg, control));
            if let Err(e) = epoll::add(&self.quiet, socket, data, epoll::EventFlags::IN) {
                tracing::error!("cannot watch RTP port {}: {e}; raise the limit of open files", sockets.port);
                return None;
            }
        }
        let at = now();
        let rtp = RtpSession::new(plan, signalling, seed, at);
        let mut transport = match secured {
            Some(agreed) => Some(Box::new(Transport::new(*agreed, at)?)),
            None => None,
        };
        // Seats we called ourselves, or know by their password; a supervisor's leg begins with his ACK.
        if let Some(transport) = transport.as_mut().filter(|_| leg != Leg::Caller) {
            transport.confirm(at);
        }
        let mut leg = Box::new(MediaLeg {
            signalling,
            rtp,
            socket: sockets.rtp,
            control: sockets.rtcp,
            transport,
            port: sockets.port,
            since: at,
            other_codec: false,
            keys: Keys::default(),
            tones: None,
            progress: None,
        });
        leg.listen_for_tones();
        Some(leg)
    }

    /// What signalling, models and the back office tell.
    pub(super) fn told(&mut self, slot: &mut Slot, input: CallInput) {
        match input {
            CallInput::Key { leg, key } => self.key(slot, now(), leg, Way::Info, key),
            input => self.input(slot, now(), input),
        }
    }

    pub(super) fn input(&mut self, slot: &mut Slot, at: Mono, input: CallInput) {
        if matches!(input, CallInput::HungUp(Leg::Seat) | CallInput::SeatFailed(_)) {
            // The machine asks for no hang-up of a leg that is gone; its media goes here.
            slot.order.end();
            self.drop_seat(slot);
        }
        if input == CallInput::Established {
            slot.established = true;
            slot.caller.transport.iter_mut().for_each(|transport| transport.confirm(at));
        }
        slot.early &= input != CallInput::SeatAnswered;
        match &mut slot.app {
            App::Hotline(call) => call.handle(at, input),
            App::Route(route) => route.handle(at, input),
        }
        self.outputs(slot, at);
    }

    pub(super) fn outputs(&mut self, slot: &mut Slot, at: Mono) {
        while let Some(output) = match &mut slot.app {
            App::Hotline(call) => call.poll_output(),
            App::Route(route) => route.poll_output(),
        } {
            self.carry_out(slot, at, output);
        }
    }

    pub(super) fn carry_out(&mut self, slot: &mut Slot, at: Mono, output: CallOutput) {
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
            CallOutput::Record(on) => slot.tap.iter_mut().for_each(|tap| tap.silence(!on)),
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
                slot.sounding |= output == CallOutput::Progress;
                slot.finished |= matches!(output, CallOutput::Finished(_));
                self.report(ShardReport::Output { call: slot.call, output });
            }
        }
    }

    pub(super) fn speech(&mut self, slot: &mut Slot, at: Mono, turn: crate::ids::TurnId, what: Utterance) {
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
}
