//! One call as the switchboard knows it: which dialogs, what was described, what its record will need.

use super::callee::Reach;
use super::hotline::TestRoute;
use super::ports::MediaSockets;
use super::referring::Referring;
use super::routes::RouteKind;
use super::secure::{Secured, place};
use super::shard::{App, ShardHandle};
use super::supervisors::SupervisorLine;
use super::trunks::Way;
use crate::browser::Negotiator;
use crate::call::{CallRecord, EndReason, HungUpBy, Why};
use crate::clock::Mono;
use crate::dialplan::{FlowSet, Outcome, TransferOrder, TransferResult};
use crate::pii::Pii;
use crate::rtp::session::Stats;
use crate::sdp::{self, Capabilities, Codec, MediaPlan, Session as Sdp};
use crate::sip::DialogId;
use crate::store::{NewTransfer, Origin};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// One call as the switchboard knows it.
pub(super) struct Line {
    pub dialog: DialogId,
    pub shard: ShardHandle,
    pub from: Pii,
    /// The number dialled.
    pub to: String,
    /// Where the INVITE came from, and where the caller said that its sound is.
    pub source: SocketAddr,
    pub media: Option<SocketAddr>,
    pub caps: Capabilities,
    pub codec: Option<Codec>,
    /// Our last description: the answer to the INVITE, later what followed it.
    pub answer: String,
    /// Our own offer, when the INVITE had none; media begins with the ACK.
    pub our_offer: Option<Sdp>,
    /// Our offer in the answer to a re-INVITE that had none; its answer comes with the ACK.
    pub asked: Option<Sdp>,
    /// Of a leg over DTLS-SRTP.
    pub side: Option<Negotiator>,
    /// What was agreed for its transport, until its media begins.
    pub secured: Secured,
    /// Waits for the media of a late offer.
    pub parked: Option<(App, Option<Arc<FlowSet>>, MediaSockets, IpAddr)>,
    /// When it came.
    pub since: Mono,
    /// When it was answered, if it was.
    pub answered: Option<Mono>,
    pub recording: Option<PathBuf>,
    /// It has a record: a call of the hotline, or of a seat to a number outside.
    pub has_record: bool,
    /// A seat calls outside; the other leg is the number called.
    pub outward: bool,
    /// The calling phone has been told of early media (183).
    pub progressed: bool,
    /// What the network says of its origin.
    pub origin: Origin,
    /// A notice instead of the hotline.
    pub notice: bool,
    /// The caller may want a notice at another address than the call comes from.
    pub known: bool,
    /// The caller's own address answered us: it came by a connection.
    pub connected: bool,
    pub recorded_route: bool,
    pub flow_set: String,
    pub seat: Option<SeatLine>,
    pub supervisor: Option<SupervisorLine>,
    /// Orders for a seat so far; the shard counts them too.
    pub orders: u32,
    pub transfer: Option<NewTransfer>,
    /// How the transfer under way ends if no seat is joined.
    pub seat_failure: TransferResult,
    /// Why the last leg that we called failed.
    pub leg_failure: Option<EndReason>,
    pub finished: Option<Box<CallRecord>>,
    pub stats: Option<Box<Stats>>,
    /// Of the last seat's leg.
    pub seat_stats: Option<Box<Stats>>,
    /// The seat that called, when a seat did.
    pub seat_calling: Option<String>,
    /// The dialog of the seat that handed the caller on: it waits for what becomes of it.
    pub referrer: Option<DialogId>,
    /// Whom to call next instead of choosing, and which dialog that phone shall end for it.
    pub attended: Option<(String, Reach, DialogId)>,
    /// The trunk that the caller came by.
    pub trunk: Option<String>,
    /// A transfer that this trunk was asked to make.
    pub referring: Option<Referring>,
    /// It made one: the caller is no longer here, and this is what the record says of it.
    pub taken_over: Option<Why>,
    /// Hops left for the calls that follow from this one.
    pub hops: u8,
}

/// A seat that is being called or has answered.
pub(super) struct SeatLine {
    pub user: String,
    /// How it is called: one of its phones, an address, a number.
    pub reach: Reach,
    /// None while the dialling is under way.
    pub dialog: Option<DialogId>,
    /// Names this dialling.
    pub attempt: u64,
    pub caps: Capabilities,
    pub offer: Sdp,
    /// Of a leg over DTLS-SRTP.
    pub side: Option<Negotiator>,
    /// Our last description after that, once there is one.
    pub described: Option<String>,
    pub asked: Option<Sdp>,
    /// The way out that is being tried, when it is called by a trunk, and those left.
    pub way: Option<Way>,
    pub ways: VecDeque<Way>,
    /// It rang.
    pub rang: bool,
    /// Until it answers.
    pub sockets: Option<MediaSockets>,
    pub order: TransferOrder,
    /// Users and addresses that could not be had for this order.
    pub tried: Vec<String>,
    pub answered: bool,
}

/// What was agreed with a caller: our description, and the plan or our own offer.
pub(super) struct Agreed {
    pub answer: String,
    pub plan: Option<MediaPlan>,
    pub our_offer: Option<Sdp>,
}

impl Line {
    /// A call that has just come.
    pub fn new(
        dialog: DialogId,
        shard: ShardHandle,
        (from, to, source): (&str, &str, SocketAddr),
        (caps, agreed): (Capabilities, Agreed),
        route: Option<&TestRoute>,
        since: Mono,
    ) -> Line {
        Line {
            dialog,
            shard,
            from: Pii::new(from),
            to: to.to_owned(),
            source,
            media: agreed.plan.as_ref().and_then(place),
            codec: agreed.plan.as_ref().map(|p| p.codec),
            caps,
            answer: agreed.answer,
            our_offer: agreed.our_offer,
            asked: None,
            side: None,
            secured: None,
            parked: None,
            since,
            answered: None,
            recording: None,
            has_record: route.is_none_or(|r| r.kind == RouteKind::Notice),
            notice: route.is_some_and(|r| r.kind == RouteKind::Notice),
            known: false,
            connected: false,
            outward: false,
            progressed: false,
            origin: Origin::default(),
            recorded_route: route.is_some_and(|r| r.record),
            flow_set: String::new(),
            seat: None,
            supervisor: None,
            orders: 0,
            transfer: None,
            seat_failure: TransferResult::Timeout,
            leg_failure: None,
            finished: None,
            stats: None,
            seat_stats: None,
            seat_calling: None,
            referrer: None,
            attended: None,
            trunk: None,
            referring: None,
            taken_over: None,
            hops: 70,
        }
    }

    /// The record of a call whose machine never began, or broke.
    pub fn record_without_machine(&self, at: Mono, reason: EndReason) -> CallRecord {
        let caller = reason.by == HungUpBy::Caller;
        CallRecord {
            offered: self.since,
            answered: self.answered,
            ended: at,
            reason,
            outcome: if caller { Outcome::Abandoned } else { Outcome::Failed },
            steps: 0,
            retries: 0,
            verify_questions: 0,
            turns: 0,
            flows: Vec::new(),
            bridged: false,
        }
    }
}

/// The answer to a caller's offer, or an offer of ours; else the status that refuses it.
pub(super) fn negotiate_caller(caps: &mut Capabilities, body: Option<&str>) -> Result<Agreed, u16> {
    let Some(body) = body else {
        let offer = sdp::offer(caps);
        return Ok(Agreed { answer: offer.to_string(), plan: None, our_offer: Some(offer) });
    };
    let (answer, plan) = answer_to(caps, body)?;
    Ok(Agreed { answer, plan: Some(plan), our_offer: None })
}

/// Our answer to an offer, or the status that refuses it.
pub(super) fn answer_to(caps: &mut Capabilities, body: &str) -> Result<(String, MediaPlan), u16> {
    let offer = sdp::parse(body.as_bytes()).map_err(|_| 400u16)?;
    let (answer, plan) = sdp::answer(&offer, caps).map_err(|_| 488u16)?;
    caps.srtp.agreed(plan.srtp.as_ref(), rand::fill);
    Ok((answer.to_string(), plan))
}

/// What an answer to our offer agrees on, if anything.
pub(super) fn accepted(offer: &Sdp, body: Option<&str>) -> Option<MediaPlan> {
    let answer = sdp::parse(body?.as_bytes()).ok()?;
    sdp::accept(offer, &answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_offer_is_refused_with_the_status_that_says_why() {
        let mut caps = super::super::phone::capabilities([127, 0, 0, 1].into(), 4000, vec![Codec::Pcma]);
        assert_eq!(negotiate_caller(&mut caps, Some("no description")).err(), Some(400));
        let video =
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 4002 RTP/AVP 99\r\n";
        assert_eq!(negotiate_caller(&mut caps, Some(video)).err(), Some(488));
        let late = negotiate_caller(&mut caps, None).ok().unwrap();
        assert!(late.plan.is_none());
        let offer = late.our_offer.unwrap();
        assert!(accepted(&offer, None).is_none(), "an ACK without an answer agrees on nothing");
        let mut theirs = caps.clone();
        theirs.port = 5000;
        let (answer, _) = answer_to(&mut theirs, &late.answer).unwrap();
        assert_eq!(accepted(&offer, Some(&answer)).unwrap().remote.port(), 5000);
    }
}
