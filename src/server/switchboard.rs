//! The switchboard: the one task that knows which SIP dialog belongs to which call. It turns signalling into call
//! inputs and call outputs into signalling, database work and records. It never waits: what takes time is a task
//! of its own that reports back to the call's shard.

use super::bus::{Bus, News, Notice};
use super::hotline::{HotlineSettings, TestRoute};
use super::ports::{MediaSockets, PortPool};
use super::recorder::Recorder;
use super::routes::{Listening, Route, RouteParts};
use super::shard::{App, NewCall, NewLeg, ShardCommand, ShardHandle, ShardReport};
use super::time::{now, today, utc};
use crate::call::{Call, CallSettings, Flow, FlowCounters};
use crate::call::{CallEvent, CallInput, CallOutput, CallRecord, LegFailure, TransferStage};
use crate::clock::UtcMs;
use crate::dialplan::{
    ActionCall, FlowSet, Outcome, Reply, Run, Session as FlowSession, TicketDraft, TransferOrder, TransferResult, Value,
};
use crate::ids::{CallId, Leg, RequestId};
use crate::pii::Pii;
use crate::rtp::session::Stats;
use crate::sdp::{self, Capabilities, Codec, MediaPlan, Session as Sdp};
use crate::sip::{Dial, DialogId, SipAgent, SipEvent};
use crate::store::{CallExtras, NewCall as NewCallRow, NewTransfer, Store, WriteJob, WriterHandle};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a caller's profile may take before the call goes on without it.
const PROFILE_WAIT: Duration = Duration::from_millis(400);

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
    /// RTP ports.
    pub ports: PortPool,
    /// Recordings, when calls are recorded.
    pub recorder: Option<Recorder>,
    /// Settings.
    pub settings: HotlineSettings,
    /// Ids and seeds.
    pub rng: ChaCha8Rng,
}

/// One call as the switchboard knows it.
struct Line {
    dialog: DialogId,
    shard: ShardHandle,
    from: Pii,
    caps: Capabilities,
    codec: Option<Codec>,
    answer: String,
    /// Our own offer, when the INVITE had none; media begins with the ACK.
    our_offer: Option<Sdp>,
    /// Waits for the media of a late offer.
    parked: Option<(App, Option<Arc<FlowSet>>, MediaSockets, IpAddr)>,
    answered: Option<UtcMs>,
    recording: Option<PathBuf>,
    hotline: bool,
    recorded_route: bool,
    flow_set: String,
    seat: Option<SeatLine>,
    transfer: Option<NewTransfer>,
    seat_failure: TransferResult,
    finished: Option<Box<CallRecord>>,
    stats: Option<Box<Stats>>,
}

struct SeatLine {
    user: String,
    dialog: DialogId,
    caps: Capabilities,
    offer: Sdp,
    sockets: Option<MediaSockets>,
    order: TransferOrder,
    tried: Vec<String>,
    answered: bool,
}

/// Where a seat can be called.
struct Reach {
    uri: String,
    source: Option<SocketAddr>,
    tcp: bool,
}

/// A caller whose profile has been looked up.
struct Arrival {
    call: CallId,
    profile: Value,
}

/// The switchboard.
pub struct Switchboard {
    p: SwitchboardParts,
    lines: HashMap<CallId, Line>,
    dialogs: HashMap<DialogId, (CallId, Leg)>,
    busy_seats: HashSet<String>,
    last_seats: VecDeque<String>,
    arrivals: (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>),
    waiting: HashMap<CallId, (MediaSockets, Option<MediaPlan>, IpAddr)>,
    prompts: HashMap<String, Arc<[i16]>>,
}

impl Switchboard {
    /// A switchboard, not yet running.
    pub fn new(parts: SwitchboardParts) -> Self {
        Switchboard {
            p: parts,
            lines: HashMap::new(),
            dialogs: HashMap::new(),
            busy_seats: HashSet::new(),
            last_seats: VecDeque::new(),
            arrivals: mpsc::channel(1024),
            waiting: HashMap::new(),
            prompts: HashMap::new(),
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
                Some(event) = sip.recv() => self.signal(event).await,
                Some(arrival) = self.arrivals.1.recv() => self.arrived(arrival),
                else => break,
            }
        }
        for line in self.lines.values() {
            let call = self.dialogs.get(&line.dialog).map(|(call, _)| *call);
            if let Some(call) = call {
                line.shard.send(ShardCommand::Input { call, input: CallInput::Terminate });
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

    async fn signal(&mut self, event: SipEvent) {
        match event {
            SipEvent::Invite { dialog, from_user, to_user, source, sdp, call_id, .. } => {
                if let Err((code, retry)) = self.invite(dialog, &from_user, &to_user, source, sdp, &call_id).await {
                    self.p.agent.reject(dialog, code, retry).await;
                }
            }
            SipEvent::Ack { dialog, sdp } => self.acknowledged(dialog, sdp),
            SipEvent::Cancelled { dialog } | SipEvent::Bye { dialog } | SipEvent::Ended { dialog, .. } => {
                self.hung_up(dialog);
            }
            SipEvent::Reinvite { dialog, request, sdp } => {
                let answer = self.renegotiate(dialog, sdp);
                self.p.agent.answer_reinvite(dialog, request, answer).await;
            }
            SipEvent::Info { dialog, key: Some(key) } => {
                if let Some(&(call, leg)) = self.dialogs.get(&dialog) {
                    self.tell(call, CallInput::Key { leg, key });
                }
            }
            SipEvent::Progress { dialog, .. } => {
                if let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) {
                    self.tell(call, CallInput::SeatRinging);
                }
            }
            SipEvent::Answered { dialog, sdp } => self.seat_answered(dialog, &sdp.unwrap_or_default()).await,
            SipEvent::Failed { dialog, code, .. } => self.seat_failed(dialog, code).await,
            _ => {}
        }
    }

    async fn invite(
        &mut self,
        dialog: DialogId,
        from: &str,
        to: &str,
        source: SocketAddr,
        body: Option<String>,
        call_id: &str,
    ) -> Result<(), (u16, Option<u32>)> {
        let route = self.p.settings.routes.iter().find(|r| r.user == to).cloned();
        let sockets = self.p.ports.take(now()).map_err(|e| {
            tracing::warn!("a call was refused: {e}");
            (503, Some(5))
        })?;
        let port = sockets.port;
        let caps = self.capabilities(source.ip(), port, None);
        let negotiated = negotiate_caller(&caps, body.as_deref());
        let (answer, plan, our_offer) = match negotiated {
            Ok(n) => n,
            Err(code) => {
                drop(sockets);
                self.p.ports.give_back(port, now());
                return Err((code, None));
            }
        };
        let call = CallId::new(utc().0, self.p.rng.random());
        let Some(shard) = self.p.shards.iter().min_by_key(|s| s.load()).cloned() else { return Err((503, Some(5))) };
        self.dialogs.insert(dialog, (call, Leg::Caller));
        self.lines.insert(
            call,
            Line {
                dialog,
                shard,
                from: Pii::new(from),
                codec: plan.as_ref().map(|p| p.codec),
                caps,
                answer,
                our_offer,
                parked: None,
                answered: None,
                recording: None,
                hotline: route.is_none(),
                recorded_route: route.as_ref().is_some_and(|r| r.record),
                flow_set: String::new(),
                seat: None,
                transfer: None,
                seat_failure: TransferResult::Closed,
                finished: None,
                stats: None,
            },
        );
        match route {
            Some(route) => self.begin_route(call, &route, sockets, plan, source.ip()),
            None => {
                self.waiting.insert(call, (sockets, plan, source.ip()));
                let (number, to, sip_call_id) = (Pii::new(from), to.into(), call_id.into());
                self.write(WriteJob::Begin(NewCallRow { id: call, from: number, to, sip_call_id, at: utc() }));
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
            let port = sockets.port;
            drop(sockets);
            self.p.ports.give_back(port, now());
            return;
        };
        let flows = match self.p.flows.read() {
            Ok(f) => f.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        line.flow_set = flows.hash().to_owned();
        let session =
            FlowSession { caller: line.from.expose().into(), profile, today: today(), ..FlowSession::default() };
        let run = RunFlow(Run::new(flows.clone(), session));
        let settings = CallSettings {
            speech: self.p.settings.speech,
            answer_delay_ms: self.p.settings.answer_delay_ms,
            max_call_s: self.p.settings.max_call_s,
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
        let prompt = self.route_prompt(route);
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

    fn route_prompt(&mut self, route: &TestRoute) -> Arc<[i16]> {
        let key = route.file.as_ref().map(|f| f.display().to_string()).unwrap_or_default();
        self.prompts
            .entry(key)
            .or_insert_with(|| match &route.file {
                Some(file) => match super::sound::read(file) {
                    Ok(pcm) => pcm.into(),
                    Err(e) => {
                        tracing::error!("test route {}: {e}", route.user);
                        Arc::from([])
                    }
                },
                None => super::routes::made_prompt().into(),
            })
            .clone()
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
        let recorded = if line.hotline { self.p.settings.record } else { line.recorded_route };
        let tap = self.p.recorder.as_ref().filter(|_| recorded).map(|r| r.open(call, today()));
        line.recording = tap.as_ref().map(|t| t.path().to_path_buf());
        let caller = NewLeg { sockets, plan, signalling, seed };
        line.shard.send(ShardCommand::Begin(Box::new(NewCall { call, app, flows, caller, tap })));
    }

    fn acknowledged(&mut self, dialog: DialogId, body: Option<String>) {
        let Some(&(call, leg)) = self.dialogs.get(&dialog) else { return };
        if leg != Leg::Caller {
            return;
        }
        let Some(line) = self.lines.get_mut(&call) else { return };
        if let (Some(offer), Some((app, flows, sockets, signalling))) = (&line.our_offer, line.parked.take()) {
            let plan = body
                .as_deref()
                .and_then(|s| sdp::parse(s.as_bytes()).ok())
                .and_then(|answer| sdp::accept(offer, &answer).ok());
            match plan {
                Some(plan) => {
                    line.codec = Some(plan.codec);
                    self.begin_media(call, app, flows, sockets, plan, signalling);
                }
                None => {
                    // The ACK cannot be refused: the call is answered, so it is ended.
                    let agent = self.p.agent.clone();
                    tokio::spawn(async move { agent.hangup(dialog).await });
                    let port = sockets.port;
                    drop(sockets);
                    self.p.ports.give_back(port, now());
                    self.forget(call);
                    return;
                }
            }
        }
        self.tell(call, CallInput::Established);
    }

    fn hung_up(&mut self, dialog: DialogId) {
        let Some((call, leg)) = self.dialogs.remove(&dialog) else { return };
        if leg == Leg::Seat
            && let Some(line) = self.lines.get_mut(&call)
            && let Some(seat) = line.seat.take()
        {
            self.busy_seats.remove(&seat.user);
            self.rest(seat.sockets);
        }
        if leg == Leg::Caller && self.waiting.contains_key(&call) {
            // Gone before the machine began: a record all the same.
            if let Some((sockets, _, _)) = self.waiting.remove(&call) {
                self.rest(Some(sockets));
            }
            self.abandoned_early(call);
            return;
        }
        self.tell(call, CallInput::HungUp(leg));
    }

    fn abandoned_early(&mut self, call: CallId) {
        let at = now();
        let reason = crate::call::EndReason {
            cause: 16,
            by: crate::call::HungUpBy::Caller,
            sentence: "the caller gave up before we answered".into(),
        };
        let record = CallRecord {
            offered: at,
            answered: None,
            ended: at,
            reason,
            outcome: Outcome::Abandoned,
            steps: 0,
            retries: 0,
            verify_questions: 0,
            turns: 0,
            flows: Vec::new(),
            bridged: false,
        };
        if let Some(line) = self.lines.get_mut(&call) {
            line.finished = Some(Box::new(record));
        }
        self.close(call);
    }

    fn renegotiate(&mut self, dialog: DialogId, body: Option<String>) -> Result<String, u16> {
        let &(call, leg) = self.dialogs.get(&dialog).ok_or(481u16)?;
        let line = self.lines.get_mut(&call).ok_or(481u16)?;
        let caps = match (leg, line.seat.as_mut()) {
            (Leg::Caller, _) => &mut line.caps,
            (Leg::Seat, Some(seat)) => &mut seat.caps,
            (Leg::Seat, None) => return Err(481),
        };
        caps.session_version += 1;
        let Some(body) = body else {
            return Ok(sdp::offer(caps).to_string()); // a re-INVITE without offer asks for ours
        };
        let offer = sdp::parse(body.as_bytes()).map_err(|_| 400u16)?;
        let (answer, plan) = sdp::answer(&offer, caps).map_err(|_| 488u16)?;
        let held = plan.held_by_remote;
        if leg == Leg::Caller {
            line.codec = Some(plan.codec);
        }
        line.shard.send(ShardCommand::Replan { call, leg, plan });
        self.tell(call, CallInput::Hold { leg, held });
        Ok(answer.to_string())
    }

    // ---- call outputs

    async fn report(&mut self, report: ShardReport) {
        match report {
            ShardReport::Output { call, output } => self.output(call, output).await,
            ShardReport::Released { call, ports, stats } => {
                for port in ports {
                    self.p.ports.give_back(port, now());
                }
                if let Some(line) = self.lines.get_mut(&call) {
                    let over = line.finished.is_some();
                    line.stats.get_or_insert(stats);
                    if over {
                        self.close(call);
                    }
                }
            }
        }
    }

    async fn output(&mut self, call: CallId, output: CallOutput) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let dialog = line.dialog;
        match output {
            CallOutput::Ring if line.our_offer.is_none() => self.p.agent.ring(dialog).await,
            CallOutput::Answer => {
                line.answered = Some(utc());
                if line.our_offer.is_none() {
                    let answer = line.answer.clone();
                    self.p.agent.answer(dialog, answer).await;
                }
            }
            CallOutput::Reject(code) => self.p.agent.reject(dialog, code, (code == 503).then_some(5)).await,
            CallOutput::Hangup(leg) => self.hang_up(call, leg),
            CallOutput::Act { request, call: action } => self.act(call, request, action),
            CallOutput::MakeTicket { request, draft } => self.make_ticket(call, request, draft),
            CallOutput::DialSeat { order } => self.dial_seat(call, order, Vec::new()).await,
            CallOutput::Event(event) => self.event(call, event),
            CallOutput::Finished(record) => line.finished = Some(record),
            _ => {}
        }
    }

    fn hang_up(&mut self, call: CallId, leg: Leg) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let dialog = match leg {
            Leg::Caller => Some(line.dialog),
            Leg::Seat => line.seat.take().map(|seat| {
                self.busy_seats.remove(&seat.user);
                if let Some(s) = seat.sockets {
                    let port = s.port;
                    drop(s);
                    self.p.ports.give_back(port, now());
                }
                seat.dialog
            }),
        };
        if let Some(dialog) = dialog
            && self.dialogs.remove(&dialog).is_some()
        {
            let agent = self.p.agent.clone();
            tokio::spawn(async move { agent.hangup(dialog).await });
        }
    }

    fn act(&self, call: CallId, request: RequestId, action: ActionCall) {
        let Some(line) = self.lines.get(&call) else { return };
        let (store, shard) = (self.p.store.clone(), line.shard.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(u64::from(action.timeout_ms));
            let done = tokio::time::timeout(limit, store.act(&action.name, &action.args, call, utc())).await;
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

    fn event(&mut self, call: CallId, event: CallEvent) {
        let Some(line) = self.lines.get(&call) else { return };
        if !line.hotline {
            return;
        }
        let at = utc();
        let at_ms = line.answered.map_or(0, |a| (at.0 - a.0).max(0) as u64);
        self.p.bus.publish(Notice { call, from: line.from.clone(), at, what: News::Event(event.clone()) });
        if let CallEvent::Transfer { stage, .. } = &event {
            self.follow_transfer(call, *stage);
        }
        self.write(WriteJob::of_event(call, at_ms, event));
    }

    /// The transfer's row follows its stages.
    fn follow_transfer(&mut self, call: CallId, stage: TransferStage) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let seat = line.seat.as_ref().map(|s| s.user.clone());
        let Some(transfer) = &mut line.transfer else { return };
        if seat.is_some() {
            transfer.seat = seat;
        }
        match stage {
            TransferStage::Bridged => transfer.bridged_at = Some(utc()),
            TransferStage::Returned => {
                transfer.returned_at = Some(utc());
                transfer.result = Some(TransferResult::Connected);
            }
            TransferStage::Failed => transfer.result = Some(line.seat_failure),
            TransferStage::Dialling | TransferStage::Ringing | TransferStage::Briefing => {}
        }
        let row = Box::new(transfer.clone());
        self.write(WriteJob::Transfer(call, row));
    }

    fn write(&self, job: WriteJob) {
        if self.p.writer.try_send(job).is_err() {
            tracing::error!("the disk is too slow: a record was not taken; look at the data folder's disk");
        }
    }

    // ---- the seat's leg

    async fn dial_seat(&mut self, call: CallId, order: TransferOrder, tried: Vec<String>) {
        if tried.is_empty()
            && let Some(line) = self.lines.get_mut(&call)
            && line.hotline
        {
            let seq = line.transfer.as_ref().map_or(1, |t| t.seq + 1);
            line.transfer = Some(NewTransfer {
                seq,
                queue: order.queue.clone(),
                skill: order.skill.clone(),
                warm: order.warm,
                briefing: order.briefing.shown.clone(),
                seat: None,
                asked_at: utc(),
                bridged_at: None,
                returned_at: None,
                result: None,
            });
        }
        let outcome = self.try_seat(call, order, tried).await;
        if let Err(failure) = outcome {
            self.fail_seat(call, failure);
        }
    }

    fn fail_seat(&mut self, call: CallId, failure: LegFailure) {
        if let Some(line) = self.lines.get_mut(&call) {
            line.seat_failure = match failure {
                LegFailure::Busy => TransferResult::Busy,
                LegFailure::NoAnswer => TransferResult::Timeout,
                LegFailure::Nobody | LegFailure::Failed(_) => TransferResult::Closed,
            };
        }
        self.tell(call, CallInput::SeatFailed(failure));
    }

    async fn try_seat(&mut self, call: CallId, order: TransferOrder, mut tried: Vec<String>) -> Result<(), LegFailure> {
        let (user, contact) = self.choose_seat(&order, &tried)?;
        let Some(line) = self.lines.get(&call) else { return Err(LegFailure::Failed(481)) };
        let (codec, from) = (line.codec, line.from.clone());
        let sockets = self.p.ports.take(now()).map_err(|_| LegFailure::Failed(503))?;
        let towards = contact.source.map_or(IpAddr::from([127, 0, 0, 1]), |d| d.ip());
        let caps = self.capabilities(towards, sockets.port, codec);
        let offer = sdp::offer(&caps);
        let dial = Dial {
            to: contact.uri,
            from: from.expose().into(),
            display: Some(format!("{from} {}", order.queue)),
            sdp: offer.to_string(),
            headers: vec![("X-Zongji-Call".into(), call.to_string())],
            destination: contact.source,
            tcp: contact.tcp,
            ..Dial::default()
        };
        let dialog = self.p.agent.dial(dial).await.map_err(|_| LegFailure::Failed(500))?;
        self.dialogs.insert(dialog, (call, Leg::Seat));
        self.busy_seats.insert(user.clone());
        tried.push(user.clone());
        if let Some(line) = self.lines.get_mut(&call) {
            let sockets = Some(sockets);
            line.seat = Some(SeatLine { user, dialog, caps, offer, sockets, order, tried, answered: false });
        }
        Ok(())
    }

    /// A registered, free seat of the queue that has not been tried; the one that rested longest.
    fn choose_seat(&self, order: &TransferOrder, tried: &[String]) -> Result<(String, Reach), LegFailure> {
        if order.queue.starts_with("sip:") {
            let name = format!("{}#{}", order.queue, self.dialogs.len());
            return Ok((name, Reach { uri: order.queue.clone(), source: None, tcp: false }));
        }
        let mut any = false;
        let mut best: Option<(usize, String, Reach)> = None;
        for seat in &self.p.settings.seats {
            if !seat.queues.is_empty() && !seat.queues.contains(&order.queue) {
                continue;
            }
            let Some(contact) = self.p.agent.contacts(&seat.user).into_iter().next() else { continue };
            any = true;
            if tried.contains(&seat.user) || self.busy_seats.contains(&seat.user) {
                continue;
            }
            let rested = self.last_seats.iter().rev().position(|s| *s == seat.user).unwrap_or(usize::MAX);
            if best.as_ref().is_none_or(|b| rested > b.0) {
                let reach = Reach { uri: contact.uri, source: Some(contact.source), tcp: contact.tcp };
                best = Some((rested, seat.user.clone(), reach));
            }
        }
        match best {
            Some((_, user, reach)) => Ok((user, reach)),
            None if any => Err(LegFailure::Busy),
            None => Err(LegFailure::Nobody),
        }
    }

    async fn seat_answered(&mut self, dialog: DialogId, body: &str) {
        let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) else { return };
        let seed = self.p.rng.random();
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(seat) = line.seat.as_mut() else { return };
        let plan = sdp::parse(body.as_bytes()).ok().and_then(|answer| sdp::accept(&seat.offer, &answer).ok());
        let (Some(plan), Some(sockets)) = (plan, seat.sockets.take()) else {
            self.hang_up(call, Leg::Seat);
            self.fail_seat(call, LegFailure::Failed(488));
            return;
        };
        seat.answered = true;
        self.last_seats.push_back(seat.user.clone());
        if self.last_seats.len() > 1000 {
            self.last_seats.pop_front();
        }
        let signalling = plan.remote.ip();
        let leg = Box::new(NewLeg { sockets, plan, signalling, seed });
        line.shard.send(ShardCommand::SeatLeg { call, leg });
        self.tell(call, CallInput::SeatAnswered);
    }

    /// A seat that is busy or does not answer: the next one, or the call is told.
    async fn seat_failed(&mut self, dialog: DialogId, code: u16) {
        let Some((call, Leg::Seat)) = self.dialogs.remove(&dialog) else { return };
        let Some(seat) = self.lines.get_mut(&call).and_then(|l| l.seat.take()) else { return };
        self.busy_seats.remove(&seat.user);
        self.rest(seat.sockets);
        if self.choose_seat(&seat.order, &seat.tried).is_ok() && !seat.order.queue.starts_with("sip:") {
            self.dial_seat(call, seat.order, seat.tried).await;
            return;
        }
        let failure = match code {
            486 | 600 | 603 => LegFailure::Busy,
            408 | 480 | 487 => LegFailure::NoAnswer,
            other => LegFailure::Failed(other),
        };
        self.fail_seat(call, failure);
    }

    // ---- ends

    fn rest(&mut self, sockets: Option<MediaSockets>) {
        if let Some(s) = sockets {
            let port = s.port;
            drop(s);
            self.p.ports.give_back(port, now());
        }
    }

    /// A call is over and its media is gone: write its record, forget it.
    fn close(&mut self, call: CallId) {
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
                    let ms = record.answered.map_or(0, |a| record.ended.ms_since(a));
                    (p.display().to_string(), ms as u32)
                }),
                rtp: line.stats.take().map(|s| rtp_figures(&s)),
            };
            self.write(WriteJob::End(call, record, extras));
        }
        self.hang_up(call, Leg::Seat);
        self.hang_up(call, Leg::Caller);
        self.forget(call);
    }

    fn forget(&mut self, call: CallId) {
        if let Some(line) = self.lines.remove(&call) {
            self.dialogs.remove(&line.dialog);
        }
    }

    fn tell(&self, call: CallId, input: CallInput) {
        if let Some(line) = self.lines.get(&call) {
            line.shard.send(ShardCommand::Input { call, input });
        }
    }

    fn capabilities(&self, towards: IpAddr, port: u16, first: Option<Codec>) -> Capabilities {
        let addr = self.p.settings.public.unwrap_or_else(|| match self.p.settings.rtp_bind {
            bound if !bound.is_unspecified() => bound,
            _ => local_address(towards),
        });
        let mut codecs = vec![Codec::Pcma, Codec::Pcmu];
        if let Some(first) = first {
            codecs.retain(|c| *c != first);
            codecs.insert(0, first);
        }
        super::phone::capabilities(addr, port, codecs)
    }
}

/// Our address as a peer sees it: what the system would send from.
fn local_address(towards: IpAddr) -> IpAddr {
    let any: SocketAddr = match towards {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    UdpSocket::bind(any).and_then(|s| s.connect((towards, 9)).and_then(|()| s.local_addr())).map_or(towards, |a| a.ip())
}

type Negotiated = (String, Option<MediaPlan>, Option<Sdp>);

fn negotiate_caller(caps: &Capabilities, body: Option<&str>) -> Result<Negotiated, u16> {
    let Some(body) = body else {
        let offer = sdp::offer(caps);
        return Ok((offer.to_string(), None, Some(offer)));
    };
    let offer = sdp::parse(body.as_bytes()).map_err(|_| 400u16)?;
    let (answer, plan) = sdp::answer(&offer, caps).map_err(|_| 488u16)?;
    Ok((answer.to_string(), Some(plan), None))
}

fn rtp_figures(s: &Stats) -> serde_json::Value {
    serde_json::json!({
        "packets_in": s.packets_in, "packets_out": s.packets_out, "lost": s.lost, "late": s.late,
        "duplicates": s.duplicates, "jitter_ms": s.jitter_ms, "delay_ms": s.delay_ms, "rtt_ms": s.rtt_ms,
        "concealed_ms": s.concealed_ms, "remote_loss": s.remote_loss,
    })
}

/// A flow's run, as the call machine drives it.
pub struct RunFlow(pub Run);

impl Flow for RunFlow {
    fn step(&mut self, input: crate::dialplan::Input) -> Reply {
        let reply = self.0.step(input);
        for trouble in self.0.take_troubles() {
            tracing::warn!("dialplan: {trouble}");
        }
        reply
    }

    fn counters(&self) -> FlowCounters {
        let c = self.0.counters();
        FlowCounters {
            steps: c.steps,
            retries: c.retries,
            verify_questions: c.verify_questions,
            flows: self.0.flows().to_vec(),
        }
    }

    fn outcome_if_left(&self) -> Option<Outcome> {
        Some(self.0.outcome_on_hangup())
    }
}
