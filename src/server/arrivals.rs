//! A call that comes: who it is from, what may be agreed with it, and the machine that it gets.

use super::hotline::TestRoute;
use super::line::Line;
use super::outward::{ANONYMOUS, origin_of};
use super::ports::MediaSockets;
use super::routes::{Listening, Route, RouteKind, RouteParts};
use super::secure;
use super::shard::{App, NewCall, NewLeg, ShardCommand, ShardHandle};
use super::switchboard::{Arrival, Located, RETRY_S, Switchboard};
use super::time::{now, today, utc};
use super::trunks::{Trunk, rewrite};
use super::why::{Knock, TurnedAway, no_agreement};
use crate::call::{Call, CallSettings, EndReason, Facts, Phrases, Why};
use crate::dialplan::{FlowSet, Run, Session as FlowSession, Value};
use crate::ids::{CallId, Leg};
use crate::pii::Pii;
use crate::sdp::MediaPlan;
use crate::sip::trace::Role;
use crate::sip::{Identity, SipEvent};
use crate::store::{Called, NewCall as NewCallRow, Origin, WriteJob};
use rand::RngExt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the flow may ask of the call's origin, beside what is known of the customer.
fn with_origin(profile: Value, origin: &Origin, anonymous: bool) -> Value {
    let mut known = match profile {
        Value::Map(known) => known,
        _ => Default::default(),
    };
    known.insert("anonymous".into(), Value::Bool(anonymous));
    let diverted = origin.diverted.as_ref().map_or(Value::Null, |(number, _)| Value::text(number.expose()));
    known.insert("diverted_from".into(), diverted);
    Value::Map(known)
}

impl Switchboard {
    /// The caller's number: what a trunk vouches for goes before what the caller says, written as we write numbers. A seat
    /// is who it proved to be, also where it hides its number from those it calls.
    pub(super) fn caller_of(&self, from: String, seat: Option<&str>, identity: &Identity) -> String {
        if let Some(seat) = seat {
            return seat.to_owned();
        }
        if identity.private || from.eq_ignore_ascii_case(ANONYMOUS) {
            return ANONYMOUS.into(); // not kept, not said, not shown
        }
        let Some(trunk) = identity.trunk.as_deref().and_then(|name| self.p.trunks.named(name)) else { return from };
        rewrite(&trunk.caller_in, identity.asserted.as_ref().unwrap_or(&from))
    }

    /// Somebody calls: he gets a machine, or is refused with a record of why.
    pub(super) fn called(&mut self, event: SipEvent) {
        let SipEvent::Invite {
            dialog, from_user, to_user, source, transport, sdp, call_id, seat, hops, identity, ..
        } = event
        else {
            return;
        };
        let from = self.caller_of(from_user, seat.as_deref(), &identity);
        let trunk = identity.trunk.as_deref();
        let outward = self.outward(seat.as_deref(), &to_user);
        let origin = Origin { outward: outward.is_some(), ..origin_of(&identity) };
        let knock = Knock { dialog, from: &from, to: &to_user, call_id: &call_id, trunk, origin: &origin };
        // SIP lets seats dial any number, so that it is judged here; who is no seat but has a password dials ours only.
        if seat.is_some() && outward.is_none() && !self.is_ours(&to_user) {
            return self.turn_away(&knock, TurnedAway::with((404, None)));
        }
        if let Err(away) = self.invite(&knock, (source, transport), sdp, (seat.as_deref(), hops, outward)) {
            self.turn_away(&knock, away);
        }
    }

    /// The media thread that takes one more call, or why none is taken.
    fn room(&self, trunk: Option<&Trunk>) -> Result<ShardHandle, TurnedAway> {
        if let Some(trunk) = trunk.filter(|t| !t.inbound) {
            tracing::warn!("a call was refused: trunk {} takes calls out only ([[trunk]] direction)", trunk.name);
            return Err(TurnedAway { code: 403, retry: None, reason: EndReason::of(Why::OutOnly, &Facts::default()) });
        }
        // Seats' legs are not counted: the agent counts both, and takes more.
        if self.lines.len() >= self.p.settings.max_calls {
            return Err(self.no_room(Why::LinesFull));
        }
        if self.p.writer.is_behind() {
            return Err(self.no_room(Why::DiskSlow));
        }
        self.p.shards.iter().min_by_key(|s| s.load()).cloned().ok_or_else(|| self.no_room(Why::NoMediaThread))
    }

    fn no_room(&self, why: Why) -> TurnedAway {
        self.p.refused.fetch_add(1, Ordering::Relaxed);
        let limit = self.p.settings.max_calls as u64;
        let reason = EndReason::of(why, &Facts { limit, ..Facts::default() });
        tracing::warn!("a call was refused: {}", reason.sentence);
        TurnedAway { code: 503, retry: Some(RETRY_S), reason }
    }

    fn invite(
        &mut self,
        knock: &Knock<'_>,
        (source, transport): (SocketAddr, crate::sip::Transport),
        body: Option<String>,
        (seat, hops, outward): (Option<&str>, u8, Option<TestRoute>),
    ) -> Result<(), TurnedAway> {
        let &Knock { dialog, from, to, call_id, trunk, origin } = knock;
        if let Some(wish) = self.supervises(to) {
            return self.admit_supervisor(dialog, from, wish, source, body.as_deref()).map_err(TurnedAway::with);
        }
        let trunk = trunk.and_then(|name| self.p.trunks.named(name)).cloned();
        let shard = self.room(trunk.as_ref())?;
        let sockets = self.p.ports.take(now()).map_err(|_| self.no_room(Why::NoPort))?;
        let mut caps = self.capabilities(source.ip(), sockets.port, None);
        let trunk_name = trunk.as_ref().map(|t| t.name.clone());
        if let Some(trunk) = trunk.filter(|t| !t.codecs.is_empty()) {
            caps.codecs.clone_from(&trunk.codecs);
        }
        let mut side = self.side_of_caller(body.as_deref(), transport.is_web(), &caps, source.ip());
        let (agreed, secured) = match secure::negotiate_caller(&mut side, &mut caps, body.as_deref()) {
            Ok(agreed) => agreed,
            Err(code) => {
                self.rest(Some(sockets));
                let reason = no_agreement(code, body.as_deref(), &caps);
                return Err(TurnedAway { code, retry: None, reason });
            }
        };
        let route = self.p.settings.routes.iter().find(|r| r.user == to).cloned();
        let route = route.or_else(|| self.instead(seat, to)).or(outward);
        let seat_out = seat.filter(|_| route.as_ref().is_some_and(|r| r.kind == RouteKind::Outside));
        if let Some(away) = seat_out.and_then(|seat| self.let_out(seat, to).err()) {
            self.rest(Some(sockets));
            return Err(away);
        }
        let call = CallId::new(utc().0, self.p.rng.random());
        let plan = agreed.plan.clone();
        self.dialogs.insert(dialog, (call, Leg::Caller));
        self.p.agent.trace_leg(dialog, call, Role::Caller);
        let ends = (from, to, source);
        let mut line = Line::new(dialog, shard, ends, (caps, agreed), route.as_ref(), now());
        (line.hops, line.trunk, line.origin) = (hops, trunk_name, origin.clone());
        line.outward = seat_out.is_some();
        line.has_record |= line.outward;
        let recorded = line.has_record;
        line.seat_calling = seat.map(String::from);
        line.connected = transport != crate::sip::Transport::Udp;
        line.known = knock.trunk.is_some() || line.connected;
        (line.side, line.secured) = (side, secured);
        self.lines.insert(call, line);
        seat.into_iter().for_each(|s| self.roster.engage(s));
        if recorded {
            let (from, to) = (Pii::new(from), Called::new(to, origin.outward));
            let (sip_call_id, origin) = (call_id.into(), origin.clone());
            self.write(WriteJob::Begin(NewCallRow {
                id: call,
                from,
                to,
                sip_call_id,
                at: utc(),
                origin: Box::new(origin),
            }));
        }
        let side = self.lines.get(&call).and_then(|l| l.side.as_ref());
        let Some(ask) = self.ask_where(side, &sockets) else {
            self.begin_call(call, route, sockets, plan, source.ip());
            return Ok(());
        };
        self.waiting.insert(call, (sockets, plan, source.ip()));
        let told = self.located.0.clone();
        tokio::spawn(async move {
            let located = Located { call, leg: Leg::Caller, mapped: ask.mapped().await, route, picked: None };
            let _shutting_down = told.send(located).await;
        });
        Ok(())
    }

    /// A call whose description can be given begins: with a test route, or with what is known of its caller.
    pub(super) fn begin_call(
        &mut self,
        call: CallId,
        route: Option<TestRoute>,
        sockets: MediaSockets,
        plan: Option<MediaPlan>,
        signalling: IpAddr,
    ) {
        match route {
            Some(route) => self.begin_route(call, &route, sockets, plan, signalling),
            None => {
                self.waiting.insert(call, (sockets, plan, signalling));
                let from = self.lines.get(&call).map(|l| l.from.expose().to_owned());
                self.look_up(call, from.unwrap_or_default());
            }
        }
    }

    /// The profile is here (or never will be): the call machine begins.
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        let Arrival { call, profile } = arrival;
        let Some((sockets, plan, signalling)) = self.waiting.remove(&call) else { return };
        let Some(line) = self.lines.get_mut(&call) else {
            self.rest(Some(sockets));
            return;
        };
        let flows = match self.p.flows.read() {
            Ok(f) => f.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        line.flow_set = flows.hash().to_owned();
        let caller = if line.from.expose() == ANONYMOUS { String::new() } else { line.from.expose().into() };
        let profile = with_origin(profile, &line.origin, caller.is_empty());
        let session = FlowSession { caller, profile, today: today(), lang: flows.hotline().lang };
        let run = Run::new(flows.clone(), session);
        let settings = CallSettings {
            speech: self.p.settings.speech,
            echo_guard: self.p.settings.echo_guard,
            answer_delay_ms: self.p.settings.answer_delay_ms,
            max_call_s: self.p.settings.max_call_s,
            hold_music: self.p.hold_music.clone(),
            phrases: Phrases::of(flows.hotline().lang),
            ..CallSettings::default()
        };
        let machine = Call::new(call, Box::new(run), crate::engines::new_vad(), settings, now());
        self.begin(call, App::Hotline(Box::new(machine)), Some(flows), sockets, plan, signalling);
    }

    /// Why no notice can be played to a call, if none can.
    fn no_notice(&self, call: CallId, plan: Option<&MediaPlan>, signalling: IpAddr) -> Option<Why> {
        // Our offer could only go out in an answer.
        let Some(plan) = plan else { return Some(Why::NoticeWithoutOffer) };
        // Before the ACK a datagram's sender may have written anybody's address into the description. (A transport of its
        // own takes care of that.)
        let known = self.lines.get(&call).is_some_and(|l| l.known || l.secured.is_some());
        let known = known || plan.remote.ip() == signalling;
        (!known).then_some(Why::NoticeElsewhere)
    }

    fn begin_route(
        &mut self,
        call: CallId,
        route: &TestRoute,
        sockets: MediaSockets,
        plan: Option<MediaPlan>,
        signalling: IpAddr,
    ) {
        let prompt = self.p.prompts.get(&route.file).cloned().unwrap_or_default();
        if route.kind == RouteKind::Notice
            && let Some(why) = self.no_notice(call, plan.as_ref(), signalling)
        {
            self.waiting.insert(call, (sockets, None, signalling));
            return self.end_early(call, why);
        }
        let flows = self.p.flows.read().map(|f| f.clone()).ok();
        let listen = match (route.listening, &flows) {
            (Listening::Speech, Some(f)) => Some(Arc::new(super::hotline::opening_question(f))),
            _ => None,
        };
        let vad = (route.listening != Listening::Keys).then(|| crate::engines::new_vad());
        let target = route.target.clone();
        let parts = RouteParts { kind: route.kind, listening: route.listening, target, prompt, vad, listen };
        let app = App::Route(Box::new(Route::new(parts, now())));
        self.begin(call, app, flows, sockets, plan, signalling);
    }

    fn begin(
        &mut self,
        call: CallId,
        app: App,
        flows: Option<Arc<FlowSet>>,
        sockets: MediaSockets,
        plan: Option<MediaPlan>,
        signalling: IpAddr,
    ) {
        match plan {
            Some(plan) => self.begin_media(call, app, flows, sockets, plan, signalling),
            None => {
                if let Some(line) = self.lines.get_mut(&call) {
                    line.parked = Some((app, flows, sockets, signalling));
                    let (agent, dialog, offer) = (self.p.agent.clone(), line.dialog, line.answer.clone());
                    tokio::spawn(async move { agent.answer(dialog, offer).await });
                }
            }
        }
    }

    pub(super) fn begin_media(
        &mut self,
        call: CallId,
        app: App,
        flows: Option<Arc<FlowSet>>,
        sockets: MediaSockets,
        plan: MediaPlan,
        signalling: IpAddr,
    ) {
        let seed = self.p.rng.random();
        let Some(line) = self.lines.get_mut(&call) else { return };
        let recorded = match line.notice {
            true => false,
            false if line.has_record => self.p.settings.record,
            false => line.recorded_route,
        };
        let tap = self.p.recorder.as_ref().filter(|r| recorded && !r.is_halted()).map(|r| r.open(call, today()));
        line.recording = tap.as_ref().map(|t| t.path().to_path_buf());
        let begun = line.recording.as_ref().filter(|_| line.has_record).map(|p| p.display().to_string());
        let (shard, known) = (line.shard.clone(), line.known);
        let secured = line.secured.take().map(|agreed| if known { Box::new(agreed.known()) } else { agreed });
        if let Some(path) = begun {
            self.write(WriteJob::Recording(call, path));
        }
        let port = sockets.port;
        let caller = NewLeg { sockets, plan, signalling, seed, secured };
        let begin = ShardCommand::Begin(Box::new(NewCall { call, app, flows, caller, tap }));
        if !shard.send(begin) {
            self.rest_port(port);
            self.end_early(call, Why::NoMediaThread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_may_ask_whether_the_caller_hides_and_whom_the_call_was_meant_for() {
        let origin = Origin { diverted: Some((Pii::new("4009"), Some("no-answer".into()))), ..Origin::default() };
        let known = with_origin(Value::map([("name", Value::text("张"))]), &origin, false);
        assert_eq!(known.get("name"), &Value::text("张"));
        assert_eq!((known.get("anonymous"), known.get("diverted_from")), (&Value::Bool(false), &Value::text("4009")));
        let known = with_origin(Value::Null, &Origin::default(), true);
        assert_eq!((known.get("anonymous"), known.get("diverted_from")), (&Value::Bool(true), &Value::Null));
    }
}
