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
use super::referring::Referred;
use super::roster::Roster;
use super::shard::{ShardCommand, ShardHandle, ShardReport};
use super::time::{now, utc};
use super::trunks::Trunks;
use super::why::AwayLimit;
use crate::call::{CallEvent, CallInput, CallOutput, Why};
use crate::dialplan::{FlowSet, Value};
use crate::ids::{CallId, Leg};
use crate::sdp::{Capabilities, Codec, MediaPlan, Srtp};
use crate::sip::{DialogId, SipAgent, SipError, SipEvent};
use crate::store::{Store, WriteJob, WriterHandle};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Seconds after which a refused caller may try again.
pub(super) const RETRY_S: u32 = 5;
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
pub(super) struct Arrival {
    pub call: CallId,
    pub profile: Value,
}

/// What became of dialling a seat.
pub(super) struct Dialled {
    pub call: CallId,
    pub attempt: u64,
    /// Where a STUN server saw its socket, if one was asked and told.
    pub mapped: Option<SocketAddr>,
    pub result: Result<DialogId, SipError>,
}

/// Where a STUN server saw the socket of a leg that is about to be described; none if it did not tell in time.
pub(super) struct Located {
    pub call: CallId,
    pub leg: Leg,
    pub mapped: Option<SocketAddr>,
    /// Of a caller: what was dialled, if not the hotline.
    pub route: Option<TestRoute>,
    /// Of a phone that takes another's place: it is answered now.
    pub picked: Option<super::transfers::PickedUp>,
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
    /// What trunks say of transfers that they were asked to make.
    pub(super) referred: (mpsc::Sender<Referred>, mpsc::Receiver<Referred>),
    /// What SIP told of a dialog before its dialling was reported.
    pub(super) early: VecDeque<SipEvent>,
    pub(super) away: AwayLimit,
    pub(super) arrivals: (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>),
    pub(super) located: (mpsc::Sender<Located>, mpsc::Receiver<Located>),
    pub(super) waiting: HashMap<CallId, (MediaSockets, Option<MediaPlan>, IpAddr)>,
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
            referred: mpsc::channel(1024),
            early: VecDeque::new(),
            away: AwayLimit::default(),
            arrivals: mpsc::channel(1024),
            located: mpsc::channel(1024),
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
                Some(news) = self.referred.1.recv() => self.referred(news),
                Some(event) = sip.recv() => self.signal(event),
                Some(arrival) = self.arrivals.1.recv() => self.arrived(arrival),
                Some(located) = self.located.1.recv() => self.located(located),
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
            SipEvent::Invite { dialog, replaces: Some(old), source, transport, sdp, seat, .. } => {
                if let Err(code) = self.take_place(dialog, old, seat, (source, transport), sdp.as_deref()) {
                    self.reject(dialog, code, None);
                }
            }
            SipEvent::Invite { .. } => self.called(event),
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
            SipEvent::Info { dialog, key, record } => self.told_inside(dialog, key, record),
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
            SipEvent::Registered { .. } => {}
        }
    }

    /// A key or a seat's record key, by SIP INFO.
    fn told_inside(&self, dialog: DialogId, key: Option<char>, record: Option<bool>) {
        let Some(&(call, leg)) = self.dialogs.get(&dialog) else { return };
        let outward = self.lines.get(&call).is_some_and(|l| l.outward);
        let seat = if outward { Leg::Caller } else { Leg::Seat };
        let input = match (key, record) {
            (Some(key), _) => CallInput::Key { leg, key },
            (None, Some(on)) if leg == seat => CallInput::Record(on),
            (None, _) => return,
        };
        match leg {
            Leg::Caller | Leg::Supervisor => self.tell(call, input),
            Leg::Seat => self.tell_seat(call, input),
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

    // ---- call outputs

    async fn report(&mut self, report: ShardReport) {
        match report {
            ShardReport::Output { call, output } => self.output(call, output).await,
            ShardReport::Toned { call, order, tone } => self.toned(call, order, tone),
            ShardReport::NotBegun { call, port, why } => {
                self.rest_port(port);
                self.end_early(call, why);
            }
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
            CallOutput::Ring if line.our_offer.is_none() && !line.progressed => self.p.agent.ring(dialog).await,
            CallOutput::Progress => {
                let answer = line.answer.clone();
                self.p.agent.progress(dialog, answer).await;
                self.prove(call);
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

    pub(super) fn event(&mut self, call: CallId, event: CallEvent) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        if event == CallEvent::Answered {
            line.answered = Some(now());
        }
        if !line.has_record {
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

    pub(super) fn tell(&self, call: CallId, input: CallInput) {
        let Some(line) = self.lines.get(&call) else { return };
        // Sound begins with a tick, and ends with one.
        let waits = matches!(input, CallInput::Established | CallInput::HungUp(_));
        let command = ShardCommand::Input { call, input };
        if waits {
            line.shard.send_for_tick(command)
        } else {
            line.shard.send(command)
        };
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
