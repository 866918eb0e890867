//! What the switchboard knows of a call's end that its machine does not: addresses, codecs, limits, what a leg answered.

use super::callee::{Callee, Reach};
use super::line::Line;
use super::switchboard::Switchboard;
use super::time::{now, utc};
use crate::browser;
use crate::call::why::of_status;
use crate::call::{CallEvent, CallRecord, EndReason, Facts, HungUpBy, Why};
use crate::clock::Mono;
use crate::dialplan::Outcome;
use crate::ids::{CallId, Leg};
use crate::pii::{Pii, mask_number};
use crate::sdp::{self, Capabilities};
use crate::sip::DialogId;
use crate::sip::trace::{Ending, Role, formats};
use crate::store::{CallExtras, Called, NewCall as NewCallRow, Origin, WriteJob};
use rand::RngExt;
use std::net::SocketAddr;

/// Records a second of calls that found no room: a flood of them must not become a flood of rows.
const RECORDS_A_SECOND: u32 = 10;

/// A call that is refused before it begins.
pub(super) struct TurnedAway {
    pub code: u16,
    pub retry: Option<u32>,
    pub reason: EndReason,
}

/// The INVITE it is about.
pub(super) struct Knock<'a> {
    pub dialog: DialogId,
    pub from: &'a str,
    pub to: &'a str,
    pub call_id: &'a str,
    /// The trunk it came by, if by one.
    pub trunk: Option<&'a str>,
    /// What the network says of its origin.
    pub origin: &'a Origin,
}

/// How many calls that were turned away have been written in this second.
#[derive(Debug, Default)]
pub(super) struct AwayLimit {
    since: Mono,
    written: u32,
}

impl TurnedAway {
    /// With a status alone.
    pub fn with((code, retry): (u16, Option<u32>)) -> TurnedAway {
        let status = of_status(code);
        let reason = EndReason::other(
            status.cause,
            HungUpBy::Us,
            &format!("refused with {code} {}", status.phrase),
            &format!("以 {code} {} 拒绝", status.phrase),
        );
        TurnedAway { code, retry, reason }
    }
}

impl AwayLimit {
    fn admit(&mut self, at: Mono) -> bool {
        if at.ms_since(self.since) >= 1000 {
            (self.since, self.written) = (at, 0);
        }
        self.written += 1;
        self.written <= RECORDS_A_SECOND
    }
}

/// A session description that cannot be agreed on: what was offered beside what we can do, or what of its transport
/// cannot be done.
pub(super) fn no_agreement(code: u16, body: Option<&str>, caps: &Capabilities) -> EndReason {
    let offer = body.and_then(|b| sdp::parse(b.as_bytes()).ok());
    if let Some(why) = offer.as_ref().and_then(browser::obstacle).filter(|_| code == 488) {
        let english = format!("refused with 488, the offer over DTLS-SRTP cannot be taken: {why}");
        return EndReason::other(65, HungUpBy::Us, &english, &format!("以 488 拒绝，无法接受 DTLS-SRTP：{}", why.zh()));
    }
    let offered = offer.map(|s| formats(&s)).unwrap_or_default();
    let ours = caps.codecs.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
    match code {
        488 => EndReason::of(Why::NoCodec, &Facts { offered, ours, ..Facts::default() }),
        _ => EndReason::of(Why::BadOffer, &Facts::default()),
    }
}

/// How a trace tells a call's end.
fn ending(from: &str, to: &str, reason: &EndReason) -> Ending {
    Ending {
        from: mask_number(from),
        to: mask_number(to),
        cause: reason.cause,
        why: reason.sentence.clone(),
        why_zh: reason.zh.clone(),
    }
}

impl Switchboard {
    /// Refuses a call that never begins. It has a record and a trace like any other.
    pub(super) fn turn_away(&mut self, knock: &Knock<'_>, away: TurnedAway) {
        let call = CallId::new(utc().0, self.p.rng.random());
        self.p.agent.trace_leg(knock.dialog, call, Role::Caller);
        self.p.agent.trace_end(call, ending(knock.from, knock.to, &away.reason));
        let is_route = self.p.settings.routes.iter().any(|r| r.user == knock.to);
        if !is_route && !self.p.writer.is_behind() && self.away.admit(now()) {
            let (from, at) = (Pii::new(knock.from), utc());
            let to = Called::new(knock.to, knock.origin.outward);
            let (sip_call_id, origin) = (knock.call_id.into(), Box::new(knock.origin.clone()));
            self.write(WriteJob::Begin(NewCallRow { id: call, from, to, sip_call_id, at, origin }));
            let at = now();
            let record = CallRecord {
                offered: at,
                answered: None,
                ended: at,
                reason: away.reason,
                outcome: Outcome::Failed,
                steps: 0,
                retries: 0,
                verify_questions: 0,
                turns: 0,
                flows: Vec::new(),
                bridged: false,
            };
            self.write(WriteJob::End(call, Box::new(record), CallExtras::default()));
        }
        self.reject(knock.dialog, away.code, away.retry);
    }

    /// A reason of the call machine, said with the addresses that it does not know.
    pub(super) fn explain(&self, line: &Line, reason: &EndReason) -> EndReason {
        let facts = match reason.why {
            Why::NoMedia => Facts {
                media: line.media.map(|m| m.to_string()),
                silent_s: self.p.settings.dead_after_s,
                ..Facts::default()
            },
            Why::NoAck => Facts { contact: Some(self.contact(line.source)), ..Facts::default() },
            Why::TakenOver => return EndReason::of(line.taken_over.unwrap_or(reason.why), &Facts::default()),
            Why::Leg => return line.leg_failure.clone().unwrap_or_else(|| reason.clone()),
            _ => return reason.clone(),
        };
        EndReason::of(reason.why, &facts)
    }

    /// Our address as a peer is told it.
    pub(super) fn contact(&self, peer: SocketAddr) -> String {
        self.p.agent.address_for(peer).to_string()
    }

    /// An event of the call machine, with what the switchboard adds to it.
    pub(super) fn explained(&self, call: CallId, event: CallEvent) -> CallEvent {
        match (event, self.lines.get(&call)) {
            (CallEvent::Ended(reason), Some(line)) => CallEvent::Ended(self.explain(line, &reason)),
            (event, _) => event,
        }
    }

    /// A leg that we called failed with a status: the call's events say so, whatever becomes of the call.
    pub(super) fn leg_failed(&mut self, call: CallId, code: u16) {
        self.leg_failed_as(call, |who| EndReason::of_leg(who, code));
    }

    /// The same for any reason, which is told who was called.
    pub(super) fn leg_failed_as(&mut self, call: CallId, why: impl FnOnce(&str) -> EndReason) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(seat) = line.seat.as_ref() else { return };
        let trunk = seat.way.as_ref().and_then(|w| self.p.trunks.get(w.trunk));
        let name = match Callee::of(&seat.user) {
            Callee::Outside(Reach::Number { number, .. }) => mask_number(&number),
            Callee::Outside(reach) => {
                let name = reach.name();
                let user = name.split_once(':').map_or(name.as_str(), |(_, rest)| rest);
                mask_number(user.split(['@', ';']).next().unwrap_or_default())
            }
            Callee::Seat(_) | Callee::Queue(_) if trunk.is_some() => seat.user.clone(),
            Callee::Seat(_) | Callee::Queue(_) => format!("seat {}", seat.user),
        };
        let who = trunk.map_or_else(|| name.clone(), |trunk| format!("{name} by trunk {}", trunk.name));
        let reason = why(&who);
        tracing::info!(%call, "{}", reason.sentence);
        line.leg_failure = Some(reason.clone());
        self.event(call, CallEvent::LegFailed { leg: Leg::Seat, reason });
    }

    /// A call's trace is complete but for the goodbyes.
    pub(super) fn end_trace(&self, call: CallId, line: &Line, record: &CallRecord) {
        self.p.agent.trace_end(call, ending(line.from.expose(), &line.to, &record.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Codec;

    #[test]
    fn a_refused_offer_is_told_beside_what_we_can_do() {
        let caps = super::super::phone::capabilities([127, 0, 0, 1].into(), 4000, vec![Codec::Pcma, Codec::Pcmu]);
        let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
            m=audio 4002 RTP/SAVP 18 96\r\na=rtpmap:96 AMR/8000\r\nm=video 4004 RTP/AVP 99\r\n";
        let reason = no_agreement(488, Some(offer), &caps);
        assert_eq!(
            reason.sentence,
            "refused with 488, no codec in common: offered were audio G729, AMR (RTP/SAVP), video 99; we can do PCMA, PCMU"
        );
        assert_eq!(no_agreement(400, Some("nonsense"), &caps).why, Why::BadOffer);
    }

    #[test]
    fn a_flood_of_refused_calls_is_not_a_flood_of_rows() {
        let mut limit = AwayLimit::default();
        let written = |limit: &mut AwayLimit, ms| (0..1000).filter(|_| limit.admit(Mono::from_ms(ms))).count();
        assert_eq!((written(&mut limit, 5000), written(&mut limit, 5999), written(&mut limit, 6000)), (10, 0, 10));
    }
}
