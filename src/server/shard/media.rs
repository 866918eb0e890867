//! A call's sound: packets in, 20 ms served, packets out, and straight across when two legs are joined.

use super::slot::{MediaLeg, Slot, relayed, silent_for};
use super::{App, Shard, token};
use crate::audio::AudioFrame;
use crate::call::{CallInput, CallOutput};
use crate::clock::Mono;
use crate::ids::Leg;
use crate::rtp::{Carried, Received, RtpView};
use crate::server::keys::Way;
use crate::server::time::now;
use rustix::event::epoll;
use std::sync::atomic::Ordering;

impl Shard {
    pub(super) fn receive(&mut self, slot: &mut Slot, leg: Leg, control: bool) {
        let at = now();
        let mut datagram = std::mem::take(&mut self.datagram);
        let mut plain = std::mem::take(&mut self.plain);
        let got = match slot.leg(leg) {
            Some(l) if control => l.control.recv_from(&mut datagram),
            Some(l) => l.socket.recv_from(&mut datagram),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        if let (Ok((len, from)), Some(l)) = (got, slot.leg(leg))
            && let Some((from, bytes)) = self.opened(l, at, (from, &datagram[..len]), &mut plain)
        {
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
        (self.datagram, self.plain) = (datagram, plain);
    }

    /// A press. What came by SIP only goes on to the other leg of a bridge too.
    pub(super) fn key(&mut self, slot: &mut Slot, at: Mono, leg: Leg, way: Way, key: char) {
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
    pub(super) fn relay(&mut self, slot: &mut Slot, at: Mono, from: Leg, received: Received, bytes: &[u8]) {
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
            sink.transmit(at, &self.packet, to, false, &mut self.sealed);
        }
    }

    /// A call's 20 ms.
    pub(super) fn serve(&mut self, slot: &mut Slot) {
        let at = now();
        slot.ticks += 1;
        slot.caller.keep_up(at);
        if let Some(seat) = &mut slot.seat {
            seat.keep_up(at);
        }
        let heard = slot.caller.rtp.pull(at);
        slot.app.hear(at, Leg::Caller, &heard);
        let from_seat = slot.seat.as_mut().map(|s| s.rtp.pull(at));
        if let Some(frame) = &from_seat {
            slot.app.hear(at, Leg::Seat, frame);
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
        if slot.app.deadline().is_some_and(|d| at >= d) {
            slot.app.timeout(at);
        }
        self.watch_for_silence(slot, at);
        if slot.ticks.is_multiple_of(25) {
            let caller = slot.established.then_some(&mut slot.caller);
            for leg in [caller, slot.seat.as_mut()].into_iter().flatten() {
                if let Some(to) = leg.rtp.rtcp_due(at, &mut self.packet) {
                    leg.transmit(at, &self.packet, to, true, &mut self.sealed);
                }
            }
        }
        self.outputs(slot, at);
    }

    pub(super) fn serve_apart(&mut self, slot: &mut Slot, at: Mono) -> AudioFrame {
        let told = slot.app.speak(at, Leg::Caller);
        if slot.answered && slot.established {
            self.send(&mut slot.caller, &told);
        }
        if let Some(seat) = &mut slot.seat {
            let briefing = slot.app.speak(at, Leg::Seat);
            self.send(seat, &briefing);
        }
        told
    }

    /// Legs of one codec are relayed on arrival; others are decoded and sent on the tick, and so is what the other leg
    /// would not understand, and keys that came by SIP.
    pub(super) fn serve_bridged(
        &mut self,
        slot: &mut Slot,
        heard: &AudioFrame,
        from_seat: Option<&AudioFrame>,
    ) -> AudioFrame {
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
