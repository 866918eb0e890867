//! Descriptions after the first one: re-INVITEs, late offers, and what their ACKs bring.

use super::secure::{self, Secured};
use super::shard::ShardCommand;
use super::switchboard::Switchboard;
use crate::call::{CallInput, Why};
use crate::ids::{CallId, Leg};
use crate::sdp::{self, MediaPlan};
use crate::sip::DialogId;
use std::net::IpAddr;

impl Switchboard {
    pub(super) fn acknowledged(&mut self, dialog: DialogId, body: Option<&str>) {
        let Some(&(call, leg)) = self.dialogs.get(&dialog) else { return };
        let Some(line) = self.lines.get_mut(&call) else { return };
        if leg == Leg::Caller
            && let Some((app, flows, sockets, signalling)) = line.parked.take()
        {
            let plan = line.our_offer.as_ref().and_then(|offer| secure::accept_leg(&mut line.side, offer, body));
            match plan {
                // The machine begins only now: it is told of this ACK when it says `Answer`.
                Some((plan, secured)) => {
                    (line.codec, line.media, line.secured) = (Some(plan.codec), secure::place(&plan), secured);
                    line.caps.srtp.agreed(plan.srtp.as_ref(), rand::fill);
                    self.begin_media(call, app, flows, sockets, plan, signalling);
                }
                // The ACK cannot be refused: the call is answered, so it is ended.
                None => {
                    self.rest(Some(sockets));
                    self.end_early(call, Why::BadAck);
                }
            }
            return;
        }
        let (asked, caps, side) = match (leg, line.seat.as_mut(), line.supervisor.as_mut()) {
            (Leg::Caller, ..) => (line.asked.take(), &mut line.caps, &mut line.side),
            (Leg::Seat, Some(seat), _) => (seat.asked.take(), &mut seat.caps, &mut seat.side),
            (Leg::Supervisor, _, Some(s)) => (s.asked.take(), &mut s.caps, &mut s.side),
            (Leg::Seat | Leg::Supervisor, ..) => return,
        };
        match asked {
            Some(offer) => {
                if let Some((plan, secured)) = secure::accept_leg(side, &offer, body) {
                    caps.srtp.agreed(plan.srtp.as_ref(), rand::fill);
                    self.replan(call, leg, (plan, secured), None);
                }
            }
            None => match leg {
                Leg::Caller => self.tell(call, CallInput::Established),
                Leg::Seat => {}
                Leg::Supervisor => self.supervisor_acknowledged(call),
            },
        }
    }

    pub(super) fn renegotiate(&mut self, dialog: DialogId, body: Option<&str>, source: IpAddr) -> Result<String, u16> {
        let &(call, leg) = self.dialogs.get(&dialog).ok_or(481u16)?;
        let line = self.lines.get_mut(&call).ok_or(481u16)?;
        let (caps, side, asked, described) = match (leg, line.seat.as_mut()) {
            (Leg::Caller, _) => (&mut line.caps, &mut line.side, &mut line.asked, &mut line.answer),
            (Leg::Seat, Some(seat)) => {
                let described = seat.described.get_or_insert_with(|| seat.offer.to_string());
                (&mut seat.caps, &mut seat.side, &mut seat.asked, described)
            }
            (Leg::Seat, None) => return Err(481),
            (Leg::Supervisor, _) => {
                let s = line.supervisor.as_mut().ok_or(481u16)?;
                (&mut s.caps, &mut s.side, &mut s.asked, &mut s.described)
            }
        };
        let mut next = caps.clone();
        next.session_version += 1;
        let Some(body) = body else {
            // It asks for our offer; the answer comes with the ACK. Every stream keeps its place.
            let offer = match sdp::parse(described.as_bytes()) {
                Ok(previous) => sdp::offer_again(&next, &previous),
                Err(_) => sdp::offer(&next),
            };
            let offer = secure::offer(side.as_ref(), offer);
            *caps = next;
            described.clone_from(&offer.to_string());
            return Ok(asked.insert(offer).to_string());
        };
        let (answer, plan, secured) = secure::answer_leg(side, &mut next, body)?;
        described.clone_from(&answer);
        *caps = next;
        self.replan(call, leg, (plan, secured), Some(source));
        Ok(answer)
    }

    fn replan(&mut self, call: CallId, leg: Leg, (plan, secured): (MediaPlan, Secured), signalling: Option<IpAddr>) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        if leg == Leg::Caller {
            (line.codec, line.media) = (Some(plan.codec), secure::place(&plan));
        }
        let held = plan.held_by_remote;
        line.shard.send(ShardCommand::Replan { call, leg, plan, signalling, secured });
        let input = CallInput::Hold { leg, held };
        match leg {
            Leg::Caller => self.tell(call, input),
            Leg::Seat => self.tell_seat(call, input),
            Leg::Supervisor => {}
        }
    }
}
