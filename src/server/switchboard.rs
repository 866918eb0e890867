//! The switchboard: the one task that knows which SIP dialog belongs to which call. It turns signalling into call
//! inputs and call outputs into signalling, database work and records. It never waits: what takes time is a task
//! of its own that reports back to the call's shard.

use super::bus::{Bus, News, Notice};
use super::hotline::{HotlineSettings, TestRoute};
use super::line::Line;
use super::mos::MosFigures;
use super::outbound::Outbound;
use super::ports::{MediaSockets, PortPool};
use super::recorder::Recorder;
use super::routes::{Listening, Route, RouteKind, RouteParts};
use super::seats::Roster;
use super::secure::{self, Secured};
use super::shard::{App, NewCall, NewLeg, ShardCommand, ShardHandle, ShardReport};
use super::time::{now, today, utc};
use super::trunks::{Trunks, rewrite};
use super::why::{AwayLimit, Knock, TurnedAway, no_agreement};
use crate::call::{Call, CallEvent, CallInput, CallOutput, CallSettings, EndReason, Facts, Phrases, Why};
use crate::dialplan::{ActionCall, FlowSet, Run, Session as FlowSession, TicketDraft, Value};
use crate::ids::{CallId, Leg, RequestId};
use crate::pii::Pii;
use crate::sdp::{self, Capabilities, Codec, MediaPlan, Srtp};
use crate::sip::trace::Role;
use crate::sip::{DialogId, EndWhy, Identity, SipAgent, SipError, SipEvent};
use crate::store::{CallExtras, NewCall as NewCallRow, Store, WriteJob, WriterHandle};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a caller's profile may take before the call goes on without it.
const PROFILE_WAIT: Duration = Duration::from_millis(400);
/// Seconds after which a refused caller may try again.
const RETRY_S: u32 = 5;
/// Events kept of dialogs that are just being dialled.
const EARLY: usize = 1024;

/// What a switchboard is made of.
pub struct SwitchboardParts {
    /// SIP.
    pub agent: SipAgent,
    /// Database.
    pub store: Store,
    /// Write-behind for records.
    pub writer: WriterHandle,
    /// Who watches.
    pub bus: Bus,
    /// Media threads.
    pub shards: Vec<ShardHandle>,
    /// Flows that new calls get.
    pub flows: Arc<RwLock<Arc<FlowSet>>>,
    /// Lines to carriers.
    pub trunks: Trunks,
    /// Who may call out.
    pub outbound: Arc<Mutex<Outbound>>,
    /// RTP ports.
    pub ports: PortPool,
    /// Recordings, when calls are recorded.
    pub recorder: Option<Recorder>,
    /// Settings.
    pub settings: HotlineSettings,
    /// Sound of test routes, by file.
    pub prompts: HashMap<Option<PathBuf>, Arc<[i16]>>,
    /// What callers hear who are held or wait, when it is not the made chime.
    pub hold_music: Option<Arc<[i16]>>,
    /// How the legs sounded.
    pub(super) mos: Arc<MosFigures>,
    /// Counts calls refused for want of room.
    pub refused: Arc<AtomicU64>,
    /// Who we are to browsers; none where there are no browser legs.
    pub identity: Option<Arc<crate::browser::Identity>>,
    /// Ids and seeds.
    pub rng: ChaCha8Rng,
}

/// A caller whose profile has been looked up.
struct Arrival {
    call: CallId,
    profile: Value,
}

/// What became of dialling a seat.
pub(super) struct Dialled {
    pub call: CallId,
    pub attempt: u64,
    pub result: Result<DialogId, SipError>,
}

/// The switchboard.
pub struct Switchboard {
    pub(super) p: SwitchboardParts,
    pub(super) lines: HashMap<CallId, Line>,
    pub(super) dialogs: HashMap<DialogId, (CallId, Leg)>,
    pub(super) roster: Roster,
    /// Seats being dialled, the last one's name, and where their tasks report.
    pub(super) dialling: usize,
    pub(super) attempts: u64,
    pub(super) dialled: (mpsc::Sender<Dialled>, mpsc::Receiver<Dialled>),
    /// What SIP told of a dialog before its dialling was reported.
    pub(super) early: VecDeque<SipEvent>,
    pub(super) away: AwayLimit,
    arrivals: (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>),
    waiting: HashMap<CallId, (MediaSockets, Option<MediaPlan>, IpAddr)>,
}

impl Switchboard {
    /// A switchboard, not yet running.
    pub fn new(parts: SwitchboardParts) -> Self {
        Switchboard {
            lines: HashMap::new(),
            dialogs: HashMap::new(),
            roster: Roster::default(),
            dialling: 0,
            attempts: 0,
            dialled: mpsc::channel(1024),
            early: VecDeque::new(),
            away: AwayLimit::default(),
            arrivals: mpsc::channel(1024),
            waiting: HashMap::new(),
            p: parts,
        }
    }

    /// Runs until told to stop, then ends every call.
    pub async fn run(
        mut self,
        mut sip: mpsc::Receiver<SipEvent>,
        mut shards: mpsc::Receiver<ShardReport>,
        mut stop: oneshot::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(report) = shards.recv() => self.report(report).await,
                Some(dialled) = self.dialled.1.recv() => self.dialled(dialled),
                Some(event) = sip.recv() => self.signal(event),
                Some(arrival) = self.arrivals.1.recv() => self.arrived(arrival),
                else => break,
            }
        }
        for call in self.lines.keys().copied().collect::<Vec<_>>() {
            let begun = self.lines.get(&call).is_some_and(|l| l.parked.is_none()) && !self.waiting.contains_key(&call);
            match begun {
                true => self.tell(call, CallInput::Terminate),
                false => self.end_early(call, Why::Stopping),
            }
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        while !self.lines.is_empty() {
            match tokio::time::timeout_at(deadline, shards.recv()).await {
                Ok(Some(report)) => self.report(report).await,
                _ => break,
            }
        }
    }

    // ---- signalling in

    pub(super) fn signal(&mut self, event: SipEvent) {
        let dialog = dialog_of(&event);
        if self.dialling > 0
            && !matches!(event, SipEvent::Invite { .. })
            && dialog.is_some_and(|d| !self.dialogs.contains_key(&d))
        {
            if self.early.len() >= EARLY {
                self.early.pop_front();
            }
            self.early.push_back(event);
            return;
        }
        match event {
            SipEvent::Invite { dialog, replaces: Some(old), source, sdp, seat, .. } => {
                if let Err(code) = self.take_place(dialog, old, seat, source.ip(), sdp.as_deref()) {
                    self.reject(dialog, code, None);
                }
            }
            SipEvent::Invite {
                dialog,
                from_user,
                to_user,
                source,
                transport,
                sdp,
                call_id,
                seat,
                hops,
                identity,
                ..
            } => {
                let from = self.caller_of(from_user, &identity);
                let trunk = identity.trunk.as_deref();
                let knock = Knock { dialog, from: &from, to: &to_user, call_id: &call_id, trunk };
                if let Err(away) = self.invite(&knock, (source, transport), sdp, (seat.as_deref(), hops)) {
                    self.turn_away(&knock, away);
                }
            }
            SipEvent::Refer { dialog, request, seat, to_user, replaces } => {
                let answer = self.refer(dialog, &seat, &to_user, replaces);
                let agent = self.p.agent.clone();
                tokio::spawn(async move { agent.answer_refer(dialog, request, answer).await });
            }
            SipEvent::Message { .. } => {} // nobody reads texts here yet
            SipEvent::Ack { dialog, sdp } => self.acknowledged(dialog, sdp.as_deref()),
            SipEvent::Cancelled { dialog } | SipEvent::Bye { dialog } => self.gone(dialog, None),
            SipEvent::Ended { dialog, why } => self.gone(dialog, Some(why)),
            SipEvent::Reinvite { dialog, request, sdp, source } => {
                let answer = self.renegotiate(dialog, sdp.as_deref(), source.ip());
                let agent = self.p.agent.clone();
                tokio::spawn(async move { agent.answer_reinvite(dialog, request, answer).await });
            }
            SipEvent::Info { dialog, key: Some(key), .. } => match self.dialogs.get(&dialog) {
                Some(&(call, leg @ (Leg::Caller | Leg::Supervisor))) => self.tell(call, CallInput::Key { leg, key }),
                Some(&(call, leg @ Leg::Seat)) => self.tell_seat(call, CallInput::Key { leg, key }),
                None => {}
            },
            SipEvent::Progress { dialog, sdp, .. } => {
                self.seat_sounds(dialog, sdp.as_deref());
                if let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) {
                    if let Some(seat) = self.lines.get_mut(&call).and_then(|l| l.seat.as_mut()) {
                        seat.rang = true;
                    }
                    self.tell_seat(call, CallInput::SeatRinging);
                }
            }
            SipEvent::Answered { dialog, sdp } => self.seat_answered(dialog, sdp.as_deref()),
            SipEvent::Failed { dialog, code, .. } => self.seat_failed(dialog, code),
            SipEvent::Info { dialog, record: Some(on), .. } => {
                if let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) {
                    self.tell_seat(call, CallInput::Record(on));
                }
            }
            SipEvent::Info { .. } | SipEvent::Registered { .. } => {}
        }
    }

    pub(super) fn outbound(&self) -> MutexGuard<'_, Outbound> {
        self.p.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A dialog is known now: what came of it before is heard.
    pub(super) fn replay(&mut self, dialog: DialogId) {
        let (mine, others) = self.early.drain(..).partition(|e| dialog_of(e) == Some(dialog));
        self.early = others;
        let mine: VecDeque<SipEvent> = mine;
        mine.into_iter().for_each(|event| self.signal(event));
    }

    /// Tasks, because the agent tells of a dialog's end in the queue that is read here.
    pub(super) fn reject(&mut self, dialog: DialogId, code: u16, retry: Option<u32>) {
        self.dialogs.remove(&dialog);
        let agent = self.p.agent.clone();
        tokio::spawn(async move { agent.reject(dialog, code, retry).await });
    }

    pub(super) fn end_dialog(&self, dialog: DialogId) {
        let agent = self.p.agent.clone();
        tokio::spawn(async move { agent.hangup(dialog).await });
    }

    /// The caller's number: what a trunk vouches for goes before what the caller says, written as we write numbers.
    fn caller_of(&self, from: String, identity: &Identity) -> String {
        let Some(trunk) = identity.trunk.as_deref().and_then(|name| self.p.trunks.named(name)) else { return from };
        rewrite(&trunk.caller_in, identity.asserted.as_ref().unwrap_or(&from))
    }

    fn invite(
        &mut self,
        knock: &Knock<'_>,
        (source, transport): (SocketAddr, crate::sip::Transport),
        body: Option<String>,
        (seat, hops): (Option<&str>, u8),
    ) -> Result<(), TurnedAway> {
        let &Knock { dialog, from, to, call_id, trunk } = knock;
        if let Some(wish) = self.supervises(to) {
            return self.admit_supervisor(dialog, from, wish, source, body.as_deref()).map_err(TurnedAway::with);
        }
        let no_room = |why: Why| {
            self.p.refused.fetch_add(1, Ordering::Relaxed);
            let limit = self.p.settings.max_calls as u64;
            let reason = EndReason::of(why, &Facts { limit, ..Facts::default() });
            tracing::warn!("a call was refused: {}", reason.sentence);
            TurnedAway { code: 503, retry: Some(RETRY_S), reason }
        };
        let trunk = trunk.and_then(|name| self.p.trunks.named(name)).cloned();
        if let Some(trunk) = trunk.as_ref().filter(|t| !t.inbound) {
            tracing::warn!("a call was refused: trunk {} takes calls out only ([[trunk]] direction)", trunk.name);
            return Err(TurnedAway { code: 403, retry: None, reason: EndReason::of(Why::OutOnly, &Facts::default()) });
        }
        // Seats' legs are not counted: the agent counts both, and takes more.
        if self.lines.len() >= self.p.settings.max_calls {
            return Err(no_room(Why::LinesFull));
        }
        if self.p.writer.is_behind() {
            return Err(no_room(Why::DiskSlow));
        }
        let Some(shard) = self.p.shards.iter().min_by_key(|s| s.load()).cloned() else {
            return Err(no_room(Why::NoMediaThread));
        };
        let sockets = self.p.ports.take(now()).map_err(|_| no_room(Why::NoPort))?;
        let mut caps = self.capabilities(source.ip(), sockets.port, None);
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
        let route = route.or_else(|| self.instead(seat, to));
        let call = CallId::new(utc().0, self.p.rng.random());
        let plan = agreed.plan.clone();
        self.dialogs.insert(dialog, (call, Leg::Caller));
        self.p.agent.trace_leg(dialog, call, Role::Caller);
        let ends = (from, to, source);
        let mut line = Line::new(dialog, shard, ends, (caps, agreed), route.as_ref(), now());
        line.hops = hops;
        line.seat_calling = seat.map(String::from);
        line.known = knock.trunk.is_some() || transport != crate::sip::Transport::Udp;
        (line.side, line.secured) = (side, secured);
        let hotline = line.hotline;
        self.lines.insert(call, line);
        seat.into_iter().for_each(|s| self.roster.engage(s));
        if hotline {
            let (number, to, sip_call_id) = (Pii::new(from), to.into(), call_id.into());
            self.write(WriteJob::Begin(NewCallRow { id: call, from: number, to, sip_call_id, at: utc() }));
        }
        match route {
            Some(route) => self.begin_route(call, &route, sockets, plan, source.ip()),
            None => {
                self.waiting.insert(call, (sockets, plan, source.ip()));
                self.look_up(call, from.to_owned());
            }
        }
        Ok(())
    }

    fn look_up(&self, call: CallId, phone: String) {
        let (store, arrivals) = (self.p.store.clone(), self.arrivals.0.clone());
        tokio::spawn(async move {
            let profile = match tokio::time::timeout(PROFILE_WAIT, store.profile(&phone)).await {
                Ok(Ok(profile)) => profile,
                Ok(Err(e)) => {
                    tracing::warn!(%call, "no profile: {e}");
                    Value::Null
                }
                Err(_) => Value::Null,
            };
            let _shutting_down = arrivals.send(Arrival { call, profile }).await;
        });
    }

    /// The profile is here (or never will be): the call machine begins.
    fn arrived(&mut self, arrival: Arrival) {
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
        let session =
            FlowSession { caller: line.from.expose().into(), profile, today: today(), lang: flows.hotline().lang };
        let run = Run::new(flows.clone(), session);
        let settings = CallSettings {
            speech: self.p.settings.speech,
            answer_delay_ms: self.p.settings.answer_delay_ms,
            max_call_s: self.p.settings.max_call_s,
            hold_music: self.p.hold_music.clone(),
            phrases: Phrases::of(flows.hotline().lang),
            ..CallSettings::default()
        };
        let machine = Call::new(call, Box::new(run), crate::engines::new_vad(), settings, now());
        self.begin(call, App::Hotline(Box::new(machine)), Some(flows), sockets, plan, signalling);
    }

    fn begin_route(
        &mut self,
        call: CallId,
        route: &TestRoute,
        sockets: MediaSockets,
        plan: Option<MediaPlan>,
        signalling: IpAddr,
    ) {
        let mut prompt = self.p.prompts.get(&route.file).cloned().unwrap_or_default();
        if route.kind == RouteKind::Notice {
            let Some(plan) = &plan else {
                // Our offer could only go out in an answer.
                self.waiting.insert(call, (sockets, None, signalling));
                return self.end_early(call, Why::NotTaken);
            };
            // Before the ACK a datagram's sender may have written anybody's address into the description.
            let known = self.lines.get(&call).is_some_and(|l| l.known) || plan.remote.ip() == signalling;
            if !known {
                prompt = Arc::default();
            }
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

    fn begin_media(
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
        let recorded = if line.notice {
            false
        } else if line.hotline {
            self.p.settings.record
        } else {
            line.recorded_route
        };
        let tap = self.p.recorder.as_ref().filter(|r| recorded && !r.is_halted()).map(|r| r.open(call, today()));
        line.recording = tap.as_ref().map(|t| t.path().to_path_buf());
        let begun = line.recording.as_ref().filter(|_| line.hotline).map(|p| p.display().to_string());
        let (shard, secured) = (line.shard.clone(), line.secured.take());
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

    fn acknowledged(&mut self, dialog: DialogId, body: Option<&str>) {
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

    /// A dialog is over: the other side hung up, or `why` it ended without that.
    fn gone(&mut self, dialog: DialogId, why: Option<EndWhy>) {
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
            None => CallInput::HungUp(leg),
            Some(EndWhy::NoAck | EndWhy::Lost | EndWhy::Expired) => CallInput::CallerLost,
            Some(EndWhy::HungUp | EndWhy::Rejected) => CallInput::Terminate,
        };
        self.tell(call, input);
    }

    /// Writes the end of a call whose machine never began, or broke before it could.
    fn record_broken(&mut self, call: CallId, why: Why) {
        let Some(line) = self.lines.get(&call) else { return };
        let record = line.record_without_machine(now(), self.explain(line, &EndReason::of(why, &Facts::default())));
        let Some(line) = self.lines.get_mut(&call) else { return };
        let ended = CallEvent::Ended(record.reason.clone());
        line.finished = Some(Box::new(record));
        self.event(call, ended);
    }

    /// Ends a call that no shard has: its ports rest, its record is written all the same.
    fn end_early(&mut self, call: CallId, why: Why) {
        let waiting = self.waiting.remove(&call).map(|(sockets, ..)| sockets);
        self.rest(waiting);
        let Some(line) = self.lines.get_mut(&call) else { return };
        let parked = line.parked.take().map(|(_, _, sockets, _)| sockets);
        let dialog = line.dialog;
        self.rest(parked);
        self.event(call, CallEvent::Offered);
        self.record_broken(call, why);
        if self.dialogs.remove(&dialog).is_some() {
            let agent = self.p.agent.clone();
            tokio::spawn(async move {
                agent.reject(dialog, 503, Some(RETRY_S)).await;
                agent.hangup(dialog).await; // where it was answered already
            });
        }
        self.close(call);
    }

    fn renegotiate(&mut self, dialog: DialogId, body: Option<&str>, source: IpAddr) -> Result<String, u16> {
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

    // ---- call outputs

    async fn report(&mut self, report: ShardReport) {
        match report {
            ShardReport::Output { call, output } => self.output(call, output).await,
            ShardReport::Toned { call, order, tone } => self.toned(call, order, tone),
            ShardReport::Released { call, ports, last, seat } => {
                for port in ports {
                    self.rest_port(port);
                }
                for stats in [&last, &seat].into_iter().flatten() {
                    self.p.mos.add(stats);
                }
                if let (Some(line), Some(_)) = (self.lines.get_mut(&call), &seat) {
                    line.seat_stats = seat;
                }
                let Some(stats) = last else { return };
                if let Some(line) = self.lines.get_mut(&call) {
                    line.stats = Some(stats);
                    if line.finished.is_none() {
                        self.record_broken(call, Why::Broke);
                    }
                    self.close(call);
                }
            }
        }
    }

    async fn output(&mut self, call: CallId, output: CallOutput) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let dialog = line.dialog;
        match output {
            CallOutput::Ring if line.our_offer.is_none() => self.p.agent.ring(dialog).await,
            CallOutput::Progress => {
                let answer = line.answer.clone();
                self.p.agent.progress(dialog, answer).await;
            }
            CallOutput::Answer => {
                if line.our_offer.is_none() {
                    let answer = line.answer.clone();
                    self.p.agent.answer(dialog, answer).await;
                } else {
                    self.tell(call, CallInput::Established); // the ACK was there before the machine
                }
            }
            CallOutput::Reject(code) if line.our_offer.is_none() => {
                self.reject(dialog, code, (code == 503).then_some(RETRY_S));
            }
            CallOutput::Reject(_) => self.hang_up(call, Leg::Caller),
            CallOutput::Hangup(leg) => self.hang_up(call, leg),
            CallOutput::Act { request, call: action } => self.act(call, request, action),
            CallOutput::MakeTicket { request, draft } => self.make_ticket(call, request, draft),
            CallOutput::DialSeat { order } => self.dial_seat(call, order),
            CallOutput::Event(event) => self.event(call, self.explained(call, event)),
            CallOutput::Finished(mut record) => {
                if let Some(line) = self.lines.get(&call) {
                    record.reason = self.explain(line, &record.reason);
                }
                if let Some(line) = self.lines.get_mut(&call) {
                    line.finished = Some(record);
                }
            }
            _ => {}
        }
    }

    pub(super) fn hang_up(&mut self, call: CallId, leg: Leg) {
        if leg != Leg::Caller {
            self.end_supervisor(call); // he is there for the seat
        }
        let Some(line) = self.lines.get_mut(&call) else { return };
        let dialog = match leg {
            Leg::Caller => Some(line.dialog),
            Leg::Seat => line.seat.take().and_then(|mut seat| {
                self.release(&mut seat);
                seat.dialog
            }),
            Leg::Supervisor => None,
        };
        if let Some(dialog) = dialog
            && self.dialogs.remove(&dialog).is_some()
        {
            self.end_dialog(dialog);
        }
    }

    fn act(&self, call: CallId, request: RequestId, action: ActionCall) {
        let Some(line) = self.lines.get(&call) else { return };
        let (store, shard) = (self.p.store.clone(), line.shard.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(u64::from(action.timeout_ms));
            let done =
                tokio::time::timeout(limit, store.act(&action.name, &action.args, action.proved, call, utc())).await;
            let (outcome, data) = match done {
                Ok(done) => (done.outcome, done.data),
                Err(_) => ("timeout".into(), Value::Null),
            };
            shard.send(ShardCommand::Input { call, input: CallInput::ActionDone { request, outcome, data } });
        });
    }

    fn make_ticket(&self, call: CallId, request: RequestId, draft: TicketDraft) {
        let Some(line) = self.lines.get(&call) else { return };
        let (store, shard, from) = (self.p.store.clone(), line.shard.clone(), line.from.clone());
        tokio::spawn(async move {
            let limit = Duration::from_secs(5);
            let made = tokio::time::timeout(limit, store.make_ticket(&draft, call, &from, request, utc())).await;
            let ticket = match made {
                Ok(Ok(ticket)) => Some(ticket),
                Ok(Err(e)) => {
                    tracing::error!(%call, "a ticket could not be written: {e}");
                    None
                }
                Err(_) => None,
            };
            shard.send(ShardCommand::Input { call, input: CallInput::TicketDone { request, ticket } });
        });
    }

    pub(super) fn event(&mut self, call: CallId, event: CallEvent) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        if event == CallEvent::Answered {
            line.answered = Some(now());
        }
        if !line.hotline {
            return;
        }
        let at = utc();
        let at_ms = now().ms_since(line.since);
        self.p.bus.publish(Notice { call, from: line.from.clone(), at, what: News::Event(event.clone()) });
        if let CallEvent::Transfer { stage, .. } = &event {
            self.follow_transfer(call, *stage);
        }
        self.write(WriteJob::of_event(call, at_ms, event));
    }

    pub(super) fn write(&self, job: WriteJob) {
        if self.p.writer.try_send(job).is_err() {
            tracing::error!("the disk is too slow: a record was not taken; look at the data folder's disk");
        }
    }

    // ---- ends

    pub(super) fn rest(&mut self, sockets: Option<MediaSockets>) {
        if let Some(s) = sockets {
            let port = s.port;
            drop(s);
            self.rest_port(port);
        }
    }

    fn rest_port(&mut self, port: u16) {
        self.p.ports.give_back(port, now());
    }

    /// A call is over and its media is gone: write its record, forget it.
    fn close(&mut self, call: CallId) {
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
            self.dialogs.remove(&line.dialog);
            line.seat_calling.iter().for_each(|s| self.roster.free(s));
        }
    }

    fn tell(&self, call: CallId, input: CallInput) {
        if let Some(line) = self.lines.get(&call) {
            line.shard.send(ShardCommand::Input { call, input });
        }
    }

    pub(super) fn capabilities(&self, towards: IpAddr, port: u16, first: Option<Codec>) -> Capabilities {
        let addr = self.p.settings.public.unwrap_or_else(|| match self.p.settings.rtp_bind {
            bound if !bound.is_unspecified() => bound,
            _ => local_address(towards),
        });
        let mut codecs = self.p.settings.codecs.clone();
        if let Some(first) = first {
            codecs.retain(|c| *c != first);
            codecs.insert(0, first);
        }
        let mut caps = super::phone::capabilities(addr, port, codecs);
        caps.dtx = self.p.settings.dtx;
        caps.srtp = Srtp::new(self.p.settings.srtp, rand::fill);
        caps
    }
}

/// Our address as a peer sees it: what the system would send from.
pub fn local_address(towards: IpAddr) -> IpAddr {
    let any: SocketAddr = match towards {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    UdpSocket::bind(any).and_then(|s| s.connect((towards, 9)).and_then(|()| s.local_addr())).map_or(towards, |a| a.ip())
}

/// Which dialog an event is about.
fn dialog_of(event: &SipEvent) -> Option<DialogId> {
    match event {
        SipEvent::Invite { dialog, .. }
        | SipEvent::Ack { dialog, .. }
        | SipEvent::Cancelled { dialog }
        | SipEvent::Bye { dialog }
        | SipEvent::Reinvite { dialog, .. }
        | SipEvent::Info { dialog, .. }
        | SipEvent::Progress { dialog, .. }
        | SipEvent::Answered { dialog, .. }
        | SipEvent::Failed { dialog, .. }
        | SipEvent::Refer { dialog, .. }
        | SipEvent::Ended { dialog, .. } => Some(*dialog),
        SipEvent::Message { dialog, .. } => *dialog,
        SipEvent::Registered { .. } => None,
    }
}
