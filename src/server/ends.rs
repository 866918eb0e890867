//! How calls and their legs end: what is told, hung up, written and given back.

use super::bus::{News, Notice};
use super::ports::MediaSockets;
use super::switchboard::{RETRY_S, Switchboard};
use super::time::{now, utc};
use crate::call::why::refusal_of;
use crate::call::{CallEvent, CallInput, EndReason, Facts, Why};
use crate::ids::{CallId, Leg};
use crate::sdp::Codec;
use crate::sip::{DialogId, EndWhy};
use crate::store::{CallExtras, WriteJob};

impl Switchboard {
    /// A dialog is over: the other side hung up, or `why` it ended without that.
    pub(super) fn gone(&mut self, dialog: DialogId, why: Option<EndWhy>) {
        let Some((call, leg)) = self.dialogs.remove(&dialog) else { return };
        match leg {
            Leg::Caller => {}
            Leg::Seat => return self.seat_left(call),
            Leg::Supervisor => return self.end_supervisor(call),
        }
        let parked = self.lines.get(&call).is_some_and(|l| l.parked.is_some());
        if parked || self.waiting.contains_key(&call) {
            let why = match why {
                None => Why::GaveUpEarly,
                Some(EndWhy::NoAck) => Why::NoAck,
                Some(EndWhy::Lost | EndWhy::Expired) => Why::LostEarly,
                Some(EndWhy::HungUp | EndWhy::Rejected) => Why::EndedEarly,
            };
            self.end_early(call, why);
            return;
        }
        let input = match why {
            None if self.is_taken_over(call) => CallInput::TakenOver,
            None => CallInput::HungUp(leg),
            Some(EndWhy::NoAck | EndWhy::Lost | EndWhy::Expired) => CallInput::CallerLost,
            Some(EndWhy::HungUp | EndWhy::Rejected) => CallInput::Terminate,
        };
        self.tell(call, input);
    }

    /// Writes the end of a call whose machine never began, or broke before it could.
    pub(super) fn record_broken(&mut self, call: CallId, why: Why) {
        let Some(line) = self.lines.get(&call) else { return };
        let record = line.record_without_machine(now(), self.explain(line, &EndReason::of(why, &Facts::default())));
        let Some(line) = self.lines.get_mut(&call) else { return };
        let ended = CallEvent::Ended(record.reason.clone());
        line.finished = Some(Box::new(record));
        self.event(call, ended);
    }

    /// Ends a call that no shard has: its ports rest, its record is written all the same.
    pub(super) fn end_early(&mut self, call: CallId, why: Why) {
        let waiting = self.waiting.remove(&call).map(|(sockets, ..)| sockets);
        self.rest(waiting);
        let Some(line) = self.lines.get_mut(&call) else { return };
        let parked = line.parked.take().map(|(_, _, sockets, _)| sockets);
        let dialog = line.dialog;
        self.rest(parked);
        self.event(call, CallEvent::Offered);
        self.record_broken(call, why);
        if self.dialogs.remove(&dialog).is_some() {
            let (agent, code) = (self.p.agent.clone(), refusal_of(why));
            tokio::spawn(async move {
                agent.reject(dialog, code, (code == 503).then_some(RETRY_S)).await;
                agent.hangup(dialog).await; // where it was answered already
            });
        }
        self.close(call);
    }

    pub(super) fn hang_up(&mut self, call: CallId, leg: Leg) {
        if leg != Leg::Caller {
            self.end_supervisor(call); // he is there for the seat
        }
        let Some(line) = self.lines.get_mut(&call) else { return };
        let dialog = match leg {
            Leg::Caller => Some(line.dialog),
            Leg::Seat => {
                if let Some(asked) = line.referring.take() {
                    self.let_go(&asked.trying.user, &asked.trying.reach);
                }
                let seat = self.lines.get_mut(&call).and_then(|l| l.seat.take());
                seat.and_then(|mut seat| {
                    self.release(&mut seat);
                    seat.dialog
                })
            }
            Leg::Supervisor => None,
        };
        if let Some(dialog) = dialog
            && self.dialogs.remove(&dialog).is_some()
        {
            self.end_dialog(dialog);
        }
    }

    pub(super) fn rest(&mut self, sockets: Option<MediaSockets>) {
        if let Some(s) = sockets {
            let port = s.port;
            drop(s);
            self.rest_port(port);
        }
    }

    pub(super) fn rest_port(&mut self, port: u16) {
        self.p.ports.give_back(port, now());
    }

    /// A call is over and its media is gone: write its record, forget it.
    pub(super) fn close(&mut self, call: CallId) {
        self.end_transfer(call);
        if let Some((line, record)) = self.lines.get(&call).and_then(|l| Some((l, l.finished.as_ref()?))) {
            self.end_trace(call, line, record);
        }
        let Some(line) = self.lines.get_mut(&call) else { return };
        if let Some(record) = line.finished.take()
            && line.hotline
        {
            self.p.bus.publish(Notice {
                call,
                from: line.from.clone(),
                at: utc(),
                what: News::Finished(record.clone()),
            });
            let extras = CallExtras {
                flow_set: Some(line.flow_set.clone()),
                recording: line.recording.as_ref().map(|p| {
                    // It began with the media, before the answer.
                    let ms = record.ended.ms_since(record.offered);
                    (p.display().to_string(), ms as u32)
                }),
                media: line.stats.take().map(|s| crate::store::CallMedia {
                    codec: line.codec.map_or("", Codec::name),
                    caller: s,
                    seat: line.seat_stats.take(),
                }),
            };
            self.write(WriteJob::End(call, record, extras));
        }
        self.handed_on(call, 487);
        self.hang_up(call, Leg::Seat);
        self.hang_up(call, Leg::Caller);
        self.forget(call);
    }

    fn forget(&mut self, call: CallId) {
        if let Some(line) = self.lines.remove(&call) {
            self.outward_over(&line);
            self.dialogs.remove(&line.dialog);
            line.seat_calling.iter().for_each(|s| self.roster.free(s));
        }
    }
}
