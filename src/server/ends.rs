//! How calls and their legs end: what is told, hung up, written and given back.

use super::bus::{News, Notice};
use super::ports::{MediaSockets, PortPool};
use super::shard::{NewLeg, ShardCommand, ShardHandle};
use super::switchboard::{RETRY_S, Switchboard};
use super::time::{now, utc};
use crate::call::why::refusal_of;
use crate::call::{CallEvent, CallInput, EndReason, Facts, Why};
use crate::ids::{CallId, Leg};
use crate::sdp::Codec;
use crate::sip::{DialogId, EndWhy};
use crate::store::{CallExtras, WriteJob};

/// What a shard does not take is closed, and its port rests.
fn given(
    shard: Option<&ShardHandle>,
    ports: &mut PortPool,
    leg: Box<NewLeg>,
    as_what: impl FnOnce(Box<NewLeg>) -> ShardCommand,
) -> bool {
    let port = leg.sockets.port;
    let given = shard.is_some_and(|shard| shard.send(as_what(leg)));
    if !given {
        ports.give_back(port, now());
    }
    given
}

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
                Some(EndWhy::Expired) => Why::LostEarly,
                Some(EndWhy::HungUp | EndWhy::Rejected) => Why::EndedEarly,
            };
            self.end_early(call, why);
            return;
        }
        let input = match why {
            None if self.is_taken_over(call) => CallInput::TakenOver,
            None => CallInput::HungUp(leg),
            Some(EndWhy::NoAck | EndWhy::Expired) => CallInput::CallerLost,
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

    /// Gives a leg's media to the call's shard. False where that takes no more: then its port rests.
    pub(super) fn give_leg(
        &mut self,
        call: CallId,
        leg: Box<NewLeg>,
        as_what: impl FnOnce(Box<NewLeg>) -> ShardCommand,
    ) -> bool {
        let shard = self.lines.get(&call).map(|l| l.shard.clone());
        given(shard.as_ref(), &mut self.p.ports, leg, as_what)
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
            && line.has_record
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{MediaPlan, accept, answer, offer};
    use rand::SeedableRng;

    fn plan() -> MediaPlan {
        let caps = super::super::phone::capabilities([127, 0, 0, 1].into(), 4000, vec![Codec::Pcma]);
        let asked = offer(&caps);
        let (answered, _) = answer(&asked, &caps).unwrap();
        accept(&asked, &answered).unwrap()
    }

    #[test]
    fn the_port_of_a_leg_that_no_media_thread_has_room_for_comes_back() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(13);
        let mut ports = PortPool::new([127, 0, 0, 1].into(), 28_120..=28_123, &mut rng);
        let call = CallId::new(1, 2);
        for room in [0, 1] {
            let (shard, inbox) = ShardHandle::with_room(room);
            let sockets = ports.take(now()).unwrap();
            let free = ports.gauge().load(std::sync::atomic::Ordering::Relaxed);
            let leg =
                Box::new(NewLeg { sockets, plan: plan(), signalling: [127, 0, 0, 1].into(), seed: 1, secured: None });
            let as_what = |leg| ShardCommand::SeatLeg { call, order: 1, leg, early: false, outside: false };
            assert_eq!(given(Some(&shard), &mut ports, leg, as_what), room == 1);
            let back = ports.gauge().load(std::sync::atomic::Ordering::Relaxed) - free;
            assert_eq!((back, inbox.len()), (1 - room, room));
        }
    }
}
