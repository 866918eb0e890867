//! A call's sound: packets in, 20 ms served, packets out, and straight across when two legs are joined.

use super::slot::{MediaLeg, Slot, relayed, silent_for};
use super::supervise::with_supervisor;
use super::wire::Foreign;
use super::{App, Shard, ShardReport, token};
use crate::audio::AudioFrame;
use crate::call::{CallEvent, CallInput, CallOutput, EndReason, Facts, Supervision, Why};
use crate::clock::Mono;
use crate::ids::Leg;
use crate::rtp::{Carried, Received, RtpView};
use crate::server::keys::Way;
use crate::server::time::now;
use rustix::event::epoll;
use std::sync::atomic::Ordering;

/// How long after its answer a leg is still listened to for tones, in milliseconds: three bursts of the slowest.
const TONES_MS: u64 = 10_000;

impl Shard {
    /// Reads one datagram. True if it was a stranger's or forged: then the next one may be the peer's.
    pub(super) fn receive(&mut self, slot: &mut Slot, leg: Leg, control: bool) -> bool {
        let at = now();
        let mut foreign = false;
        let mut datagram = std::mem::take(&mut self.datagram);
        let mut plain = std::mem::take(&mut self.plain);
        let got = match slot.leg(leg) {
            Some(l) if control => l.control.recv_from(&mut datagram),
            Some(l) => l.socket.recv_from(&mut datagram),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let opened = match (got, slot.leg(leg)) {
            (Ok((len, from)), Some(l)) => self.opened(l, at, (from, &datagram[..len]), &mut plain),
            _ => Err(Foreign(false)),
        };
        foreign |= matches!(opened, Err(Foreign(true)));
        if let (Ok((from, bytes)), Some(l)) = (opened, slot.leg(leg)) {
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
                        foreign = true;
                        self.me.counters.ignored.fetch_add(1, Ordering::Relaxed);
                    }
                    Received::Audio | Received::Ignored(_) => {}
                }
            }
        }
        (self.datagram, self.plain) = (datagram, plain);
        foreign
    }

    /// A press. What came by SIP only goes on to the other leg of a bridge too.
    pub(super) fn key(&mut self, slot: &mut Slot, at: Mono, leg: Leg, way: Way, key: char) {
        let Some(l) = slot.leg(leg) else { return };
        if !l.keys.is_new(way, key, at) {
            return;
        }
        if leg == Leg::Supervisor {
            return Supervision::of_key(key).into_iter().for_each(|mode| self.supervise_as(slot, mode));
        }
        let by_sip_only = way == Way::Info && l.rtp.plan().dtmf_pt.is_none();
        if slot.bridged
            && let Some(other) = slot.leg(leg.other())
            // Tones go on as sound to a peer that knows nothing else.
            && (by_sip_only || way == Way::Sound && other.rtp.plan().dtmf_pt.is_some())
        {
            other.rtp.send_key(key);
        }
        self.input(slot, at, CallInput::Key { leg, key });
    }

    /// Keys in the sound of a leg that sends them in no other way.
    fn tones(&mut self, slot: &mut Slot, at: Mono, leg: Leg, frame: &AudioFrame) {
        let heard = slot.leg(leg).and_then(|l| l.tones.as_mut()?.push(&frame.pcm));
        if let Some(key) = heard {
            self.key(slot, at, leg, Way::Sound, key);
        }
    }

    /// Busy and congestion tones in place of a person, while nobody has answered and in the first seconds after.
    fn progress(&mut self, slot: &mut Slot, at: Mono, frame: &AudioFrame) {
        let (call, early) = (slot.call, slot.early);
        let Some(seat) = &mut slot.seat else { return };
        if !early && at.ms_since(seat.since) > TONES_MS {
            seat.progress = None;
        }
        let heard = seat.progress.as_mut().and_then(|detector| detector.push(frame)).filter(|p| p.is_failure());
        if let (Some(tone), Some(order)) = (heard, slot.order.current()) {
            seat.progress = None;
            self.report(ShardReport::Toned { call, order, tone });
        }
    }

    /// A packet of a bridged leg, sound or key, goes to the other leg at once when the two agreed on the same; else
    /// sound goes with the tick and a key is pressed anew.
    pub(super) fn relay(&mut self, slot: &mut Slot, at: Mono, from: Leg, received: Received, bytes: &[u8]) {
        let mixed = slot.is_spoken_to(from.other());
        let Some(seat) = slot.seat.as_deref_mut() else { return };
        let (source, sink) = match from {
            Leg::Caller => (&mut *slot.caller, seat),
            Leg::Seat => (seat, &mut *slot.caller),
            Leg::Supervisor => return,
        };
        if mixed || !relayed(source, sink) {
            if let Received::Key(key) = received {
                sink.rtp.send_key(key);
            }
            return;
        }
        let Ok(view) = RtpView::parse(source.rtp.opened(bytes)) else { return };
        let Some(carried) = source.rtp.carries(&view) else { return };
        if let Carried::Sound(coding) = carried {
            source.other_codec = coding != sink.rtp.coding();
        }
        // A key lasts so many ticks of a clock: where that is another, it is pressed anew.
        let clock = |leg: &MediaLeg| leg.rtp.plan().extras.event_clock;
        let other_clock = carried == Carried::Event && clock(source) != clock(sink);
        // What the tick sends to this leg now is not sent twice.
        if source.other_codec || other_clock || sink.rtp.has_keys() {
            if let Received::Key(key) = received {
                sink.rtp.send_key(key);
            }
            return;
        }
        if let Some(to) = sink.rtp.relay(at, &view, carried, &mut self.packet) {
            sink.transmit(at, &self.packet, to, false, &mut self.sealed);
        }
    }

    /// A call's 20 ms.
    pub(super) fn serve(&mut self, slot: &mut Slot) {
        let at = now();
        slot.ticks += 1;
        let supervisor = slot.supervisor.as_mut().map(|s| &mut *s.leg);
        for leg in [Some(&mut *slot.caller), slot.seat.as_deref_mut(), supervisor].into_iter().flatten() {
            leg.keep_up(at);
        }
        if slot.sounding && !slot.established && slot.caller.rtp.stats().last_packet.is_some() {
            self.input(slot, at, CallInput::Established); // the sound goes where packets come from
        }
        let heard = slot.caller.rtp.pull(at);
        slot.app.hear(at, Leg::Caller, &heard);
        let from_seat = slot.seat.as_mut().map(|s| s.rtp.pull(at));
        if let Some(frame) = &from_seat {
            slot.app.hear(at, Leg::Seat, frame);
        }
        let from_supervisor = slot.supervisor.as_mut().map(|s| s.leg.rtp.pull(at));
        let frames = [(Leg::Caller, Some(&heard)), (Leg::Seat, from_seat.as_ref())];
        for (leg, frame) in frames.into_iter().chain([(Leg::Supervisor, from_supervisor.as_ref())]) {
            if let Some(frame) = frame {
                self.tones(slot, at, leg, frame);
            }
        }
        if let Some(frame) = &from_seat {
            self.progress(slot, at, frame);
        }
        let told = if slot.bridged {
            let seat = from_seat.unwrap_or_else(|| AudioFrame::silence(heard.at));
            self.serve_supervisor(slot, &heard, &seat);
            self.serve_bridged(slot, &heard, &seat, from_supervisor.as_ref())
        } else {
            let told = self.serve_apart(slot, at, from_seat.as_ref());
            self.serve_supervisor(slot, &heard, &told);
            told
        };
        // From the first tick, so that positions on the caller's media clock are positions in the file.
        if let Some(tap) = &mut slot.tap {
            tap.add(&heard, &told);
        }
        if slot.app.deadline().is_some_and(|d| at >= d) {
            slot.app.timeout(at);
        }
        self.watch_for_silence(slot, at);
        if slot.ticks.is_multiple_of(25) {
            let caller = slot.established.then_some(&mut *slot.caller);
            let supervisor = slot.supervisor.as_mut().map(|s| &mut *s.leg);
            for leg in [caller, slot.seat.as_deref_mut(), supervisor].into_iter().flatten() {
                if let Some(to) = leg.rtp.rtcp_due(at, &mut self.packet) {
                    leg.transmit(at, &self.packet, to, true, &mut self.sealed);
                }
            }
        }
        self.outputs(slot, at);
    }

    pub(super) fn serve_apart(&mut self, slot: &mut Slot, at: Mono, from_seat: Option<&AudioFrame>) -> AudioFrame {
        // Our own ringback goes on underneath, for the moment that the other side's stops.
        let told = slot.app.speak(at, Leg::Caller);
        let sounds = slot.early && slot.seat.as_ref().is_some_and(|s| s.rtp.stats().last_packet.is_some());
        let told = from_seat.filter(|_| sounds).map_or(told, |early| AudioFrame { at: told.at, ..*early });
        // A caller who is not answered yet hears what was passed on as early media.
        if slot.answered && slot.established && slot.app.has_voice() || sounds || slot.sounding {
            self.send(&mut slot.caller, &told);
        }
        if let Some(seat) = &mut slot.seat {
            let briefing = slot.app.speak(at, Leg::Seat);
            self.send(seat, &briefing);
        }
        told
    }

    /// Legs of one codec are relayed on arrival; others are decoded and sent on the tick, and so is what the other leg
    /// would not understand, what a supervisor has a voice in, and keys that came by SIP.
    pub(super) fn serve_bridged(
        &mut self,
        slot: &mut Slot,
        heard: &AudioFrame,
        from_seat: &AudioFrame,
        from_supervisor: Option<&AudioFrame>,
    ) -> AudioFrame {
        let told = with_supervisor(slot, Leg::Caller, from_seat, from_supervisor);
        let briefed = with_supervisor(slot, Leg::Seat, heard, from_supervisor);
        let mixed = (slot.is_spoken_to(Leg::Caller), slot.is_spoken_to(Leg::Seat));
        if let Some(seat) = &mut slot.seat {
            let apart = !relayed(&slot.caller, seat);
            if apart || mixed.0 || seat.other_codec || slot.caller.rtp.has_keys() {
                self.send(&mut slot.caller, &told);
            }
            if apart || mixed.1 || slot.caller.other_codec || seat.rtp.has_keys() {
                self.send(seat, &briefed);
            }
        }
        told
    }

    /// Goes by when the tick was due: one that is served late is no gap in the sound.
    pub(super) fn send(&mut self, leg: &mut MediaLeg, frame: &AudioFrame) {
        let mut to = leg.rtp.push(self.pace.due(), frame, &mut self.packet);
        while let Some(there) = to {
            leg.transmit(self.pace.due(), &self.packet, there, false, &mut self.sealed);
            to = leg.rtp.push_more(&mut self.packet);
        }
    }

    /// The peer is told that the sound is over.
    pub(super) fn say_goodbye(&mut self, leg: &mut MediaLeg) {
        if let Some(to) = leg.rtp.goodbye(now(), &mut self.packet) {
            leg.transmit(now(), &self.packet, to, true, &mut self.sealed);
        }
    }

    /// A leg whose packets stopped has hung up without saying so. (The machine's own limit counts calls of `hear`,
    /// which gets silence too where nothing came.)
    pub(super) fn watch_for_silence(&mut self, slot: &mut Slot, at: Mono) {
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
        if slot.supervisor.as_ref().is_some_and(|s| silent(&s.leg)) {
            self.report(ShardReport::Output { call: slot.call, output: CallOutput::Hangup(Leg::Supervisor) });
            self.drop_supervisor(slot);
        }
        if silent(&slot.caller) {
            match &mut slot.app {
                App::Hotline(call) => call.no_media(at),
                App::Route(route) => route.handle(at, CallInput::CallerLost),
            }
            self.outputs(slot, at);
        } else if slot.bridged && slot.seat.as_deref().is_some_and(silent) {
            self.tell_of_silence(slot);
            // Its dialog first: what the machine does next may be to order another seat.
            self.carry_out(slot, at, CallOutput::Hangup(Leg::Seat));
            self.input(slot, at, CallInput::HungUp(Leg::Seat));
        }
    }

    /// The call's events say why the seat is gone.
    fn tell_of_silence(&mut self, slot: &Slot) {
        let media = slot.seat.as_ref().map(|l| l.rtp.plan().remote.to_string());
        let facts = Facts { media, silent_s: self.settings.dead_after_ms / 1000, ..Facts::default() };
        let event = CallEvent::LegFailed { leg: Leg::Seat, reason: EndReason::of(Why::NoMedia, &facts) };
        self.report(ShardReport::Output { call: slot.call, output: CallOutput::Event(event) });
    }

    /// Sockets of bridged legs wake the thread; others are looked at on the tick.
    pub(super) fn bridge(&mut self, slot: &mut Slot, on: bool) {
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
}
