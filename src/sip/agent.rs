//! The agent: what the rest of the program sees of SIP.

use super::alive;
use super::asking::{ask, outcome};
use super::compose::Content;
use super::counters::{SipCounters, bump};
use super::dialog::Stage;
use super::event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
use super::gate::{Gate, lock};
use super::hub::{self, Addresses, Asked, Hub, Ports};
use super::refer::ReferLimits;
use super::registrar::Contact;
use super::settings::{Listeners, Served, SipSettings};
use super::sockets;
use super::time::now;
use super::tls::{self, Tls};
use super::trace::{Ending, Role, TraceFigures, Tracer};
use super::transactions::Transactions;
use super::transport::Transport;
use super::{dial, inside, refer, stream, timed, udp, websocket};
use crate::ids::CallId;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A SIP user agent: UDP and TCP on one address, TLS and WebSocket on others. Cheap to clone; all clones are the same agent.
#[derive(Clone)]
pub struct SipAgent {
    hub: Arc<Hub>,
}

/// What connections come to besides the port of UDP and TCP.
struct Doors {
    secure: Option<TcpListener>,
    web: Option<TcpListener>,
    secure_web: Option<TcpListener>,
}

impl Doors {
    async fn open(listeners: &Listeners) -> Result<Doors, SipError> {
        Ok(Doors {
            secure: sockets::listen(listeners.tls, Transport::Tls).await?,
            web: sockets::listen(listeners.ws, Transport::Ws).await?,
            secure_web: sockets::listen(listeners.wss, Transport::Wss).await?,
        })
    }

    fn ports(&self) -> Ports {
        let port = |l: &Option<TcpListener>| l.as_ref().and_then(|l| l.local_addr().ok()).map(|a| a.port());
        Ports { tls: port(&self.secure), ws: port(&self.web), wss: port(&self.secure_web) }
    }

    /// Takes connections until the agent stops.
    fn serve(self, hub: &Arc<Hub>) {
        for (listener, transport) in [(self.secure, Transport::Tls), (self.secure_web, Transport::Wss)] {
            if let Some(listener) = listener {
                let shake = move |hub, stream, peer| tls::serve(hub, stream, peer, transport);
                tokio::spawn(stream::listen(hub.clone(), listener, shake));
            }
        }
        if let Some(listener) = self.web {
            let upgrade = |hub, stream, peer| websocket::serve(hub, stream, peer, Transport::Ws);
            tokio::spawn(stream::listen(hub.clone(), listener, upgrade));
        }
        tokio::spawn(tls::watch(hub.clone()));
    }
}

impl SipAgent {
    /// Opens the sockets and starts. The receiver must be read: when `event_queue` events wait, new calls
    /// get 503.
    pub async fn start(settings: SipSettings) -> Result<(SipAgent, mpsc::Receiver<SipEvent>), SipError> {
        let tls = Tls::new(settings.listeners.certificate.as_ref())?;
        let (socket, listener) = sockets::open(settings.bind).await?;
        let doors = Doors::open(&settings.listeners).await?;
        let ports = doors.ports();
        let bound = socket.local_addr().map_err(|e| SipError::Bind(settings.bind, e.to_string()))?;
        let local = sockets::advertised(bound, settings.public_host);
        let token = CancellationToken::new();
        let tracer = Tracer::start(settings.trace.as_ref()).map_err(|e| {
            let dir = settings.trace.as_ref().map(|t| t.dir.clone()).unwrap_or_default();
            SipError::Trace(dir, e.to_string())
        })?;
        let addresses = Addresses { public: settings.public_host, local, bound, ports };
        tracer.bound(Transport::ALL.map(|t| addresses.bound_for(t)));
        let gate = Arc::new(Gate::new(settings, tracer, rand::random()));
        let settings = &gate.settings;
        let (events, receiver) = mpsc::channel(settings.event_queue.max(1));
        let hub = Arc::new(Hub {
            transactions: Mutex::new(Transactions::new(settings.t1)),
            gate,
            udp: socket.clone(),
            events,
            waiting: Mutex::default(),
            waits: Notify::new(),
            entries: Mutex::default(),
            due: Notify::new(),
            renewals: Mutex::default(),
            flows: Mutex::default(),
            deaf: Mutex::default(),
            crowd: stream::Crowd::default(),
            tls,
            token,
            addresses,
        });
        tokio::spawn(hub::keep_time(hub.clone()));
        tokio::spawn(hub::bring(hub.clone()));
        tokio::spawn(alive::serve(hub.clone(), socket.clone()));
        tokio::spawn(udp::serve(hub.clone(), socket));
        let plain = |hub, stream, peer| stream::serve(hub, stream, peer, Transport::Tcp, None);
        tokio::spawn(stream::listen(hub.clone(), listener, plain));
        doors.serve(&hub);
        tokio::spawn(tidy(hub.clone()));
        Ok((SipAgent { hub }, receiver))
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Address of both sockets, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.hub.addresses.bound
    }

    /// Our address as `peer` should see it: for the `c=` line of a session description.
    pub fn address_for(&self, peer: SocketAddr) -> SocketAddr {
        self.hub.address_for(peer)
    }

    /// Sends 180 Ringing; reliably when the caller can (RFC 3262).
    pub async fn ring(&self, d: DialogId) {
        timed::provisional(&self.hub, d, None);
    }

    /// Sends 183 Session Progress with our answer to the offer: early media. The answer that follows must describe the
    /// same. After an INVITE without an offer it is a mere 180: there is nothing to answer yet.
    pub async fn progress(&self, d: DialogId, sdp: String) {
        timed::provisional(&self.hub, d, Some(sdp));
    }

    /// Waits for the PRACK of a 183 with our answer, which shows that the caller has read it. False where the caller does
    /// not do that, or did not within `limit`.
    pub async fn progress_acknowledged(&self, d: DialogId, limit: Duration) -> bool {
        let (tell, told) = oneshot::channel();
        let known = self.hub.entry(d, |e| {
            let known = e.timed.progress_acknowledged().filter(|_| !e.over);
            if known == Some(false) {
                e.timed.acknowledged = Some(tell);
            }
            known
        });
        match known.flatten() {
            Some(false) => matches!(tokio::time::timeout(limit, told).await, Ok(Ok(()))),
            known => known == Some(true),
        }
    }

    /// Takes the call: 200 with our answer (or, after a late offer, our offer).
    pub async fn answer(&self, d: DialogId, sdp: String) {
        timed::answer(&self.hub, d, sdp);
    }

    /// Refuses the call with a code of 300-699 (others become 480); `retry_after` in seconds.
    pub async fn reject(&self, d: DialogId, code: u16, retry_after: Option<u32>) {
        if let Some(Some(source)) = self.hub.entry(d, |e| e.unanswered().map(|_| e.dialog.hop.at.ip())) {
            self.hub.count_refusal(code, None, source, "INVITE");
        }
        refuse(&self.hub, d, code, retry_after, EndWhy::Rejected);
    }

    /// Ends a call in whatever state it is: BYE, CANCEL, or 487 to an INVITE not answered yet. The call counts
    /// as over at once.
    pub async fn hangup(&self, d: DialogId) {
        if refuse(&self.hub, d, 487, None, EndWhy::HungUp) {
            return;
        }
        // In one go: an answer may come at this very moment.
        let end =
            |e: &mut hub::Entry| (!std::mem::replace(&mut e.over, true)).then_some((e.dialog.placed, e.dialog.stage));
        let Some(Some((placed, stage))) = self.hub.entry(d, end) else { return };
        self.hub.gate.calls(|c| c.end(d, now()));
        self.hub.tell(SipEvent::Ended { dialog: d, why: EndWhy::HungUp });
        match stage {
            Stage::Begun | Stage::Early if placed => dial::cancel(&self.hub, d),
            // The answer is on its way: it is hung up with its ACK, or when that never comes (RFC 3261 section 15).
            Stage::Answered => {}
            _ => inside::say_goodbye(&self.hub, d),
        }
    }

    /// Sends a re-INVITE with a new offer; returns the answer.
    ///
    /// When both sides ask at once (491) it waits a random time and asks again (RFC 3261 section 14.1), three times
    /// in all.
    pub async fn reinvite(&self, d: DialogId, sdp: String) -> Result<String, SipError> {
        timed::offer(&self.hub, d, sdp).await?.text().ok_or(SipError::Refused(488))
    }

    /// Answers a re-INVITE of the other side: with a session description, or a code (488 ...).
    pub async fn answer_reinvite(&self, d: DialogId, request: ReinviteId, answer: Result<String, u16>) {
        let Some(asked) = self.hub.entry(d, |e| e.asked.remove(&request.0)).flatten() else { return };
        match answer {
            Ok(sdp) => inside::agree(&self.hub, d, asked, sdp),
            Err(code) => self.decline(&asked, if (300..700).contains(&code) { code } else { 488 }, "re-INVITE"),
        }
    }

    fn decline(&self, asked: &Asked, code: u16, method: &str) {
        self.hub.count_refusal(code, None, asked.source, method);
        self.hub.respond(&asked.key, code, &Content::default());
    }

    /// Answers a REFER: 202, and news of it as NOTIFY (`refer_progress`), or a code that refuses it.
    pub async fn answer_refer(&self, d: DialogId, request: ReinviteId, answer: Result<(), u16>) {
        let asked = self.hub.entry(d, |e| e.asked.remove(&request.0).map(|a| (a, e.dialog.contact.clone())));
        let Some((asked, contact)) = asked.flatten() else { return };
        match answer {
            Ok(()) => {
                self.hub.respond(&asked.key, 202, &Content::default().with("Contact", contact));
                tokio::spawn(refer::tell(self.hub.clone(), d, 100));
            }
            Err(code) => {
                if code == 403 {
                    bump(&self.hub.gate.counters.not_allowed);
                }
                self.decline(&asked, if (300..700).contains(&code) { code } else { 403 }, "REFER");
            }
        }
    }

    /// Tells the one who sent a REFER how far its call is (100-199).
    pub fn refer_progress(&self, d: DialogId, code: u16) {
        tokio::spawn(refer::tell(self.hub.clone(), d, code));
    }

    /// Tells it the end of that (a final status), and hangs up.
    pub async fn refer_over(&self, d: DialogId, code: u16) {
        refer::tell(self.hub.clone(), d, code).await;
        self.hangup(d).await;
    }

    /// Asks the other side to call `target` in our place (RFC 3515), waits up to a minute for what becomes of it, and
    /// hangs up when it is connected. An error: the call is still here; bridge it instead.
    pub async fn refer(&self, d: DialogId, target: &str) -> Result<(), SipError> {
        match refer::send(&self.hub, d, target, ReferLimits::default(), |_| {}).await? {
            200..=299 => self.hangup(d).await,
            code => return Err(SipError::Refused(code)),
        }
        Ok(())
    }

    /// The same with limits and with news of its progress (202: it was accepted; 100-199: what it tells then), and
    /// without the hang-up: the final status that the other side tells. An error: it refused the REFER (a challenge is a
    /// refusal), or told nothing in time.
    pub async fn ask_to_refer(
        &self,
        d: DialogId,
        target: &str,
        limits: ReferLimits,
        progress: impl FnMut(u16),
    ) -> Result<u16, SipError> {
        refer::send(&self.hub, d, target, limits, progress).await
    }

    /// Sends a key as SIP INFO (`application/dtmf-relay`).
    pub async fn info_dtmf(&self, d: DialogId, key: char) -> Result<(), SipError> {
        self.hub.entry(d, |e| (!e.over).then_some(())).flatten().ok_or(SipError::Gone)?;
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        let content = Content::default().body("application/dtmf-relay", body);
        outcome(ask(&self.hub, d, "INFO", content).await).map(|_| ())
    }

    /// Where a registered user can be called; empty when nowhere.
    pub fn contacts(&self, user: &str) -> Vec<Contact> {
        self.hub.gate.contacts(user, now())
    }

    /// Changes which numbers are served, from the next call on.
    pub fn serve(&self, served: Served) {
        self.hub.gate.serve(served);
    }

    /// Counters and gauges.
    pub fn counters(&self) -> SipCounters {
        SipCounters {
            calls: self.hub.gate.calls(|c| c.active()) as u64,
            dialogs: lock(&self.hub.entries).len() as u64,
            transactions: lock(&self.hub.transactions).under_way() as u64,
            ..self.hub.gate.counters.snapshot()
        }
    }

    /// What was refused since the start, by the word of its reason ([`RefusedFor::label`]).
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.hub.gate.counters.refused.snapshot()
    }

    /// A dialog is a leg of this call: its messages belong into the call's trace.
    pub fn trace_leg(&self, d: DialogId, call: CallId, role: Role) {
        if let Some(call_id) = self.hub.gate.calls(|c| c.call_id(d)) {
            self.hub.gate.tracer.join(call, &call_id, role);
        }
    }

    /// A call is over: its trace is written, a moment later.
    pub fn trace_end(&self, call: CallId, ending: Ending) {
        self.hub.gate.tracer.end(call, ending);
    }

    /// What became of the traces of calls.
    pub fn trace_figures(&self) -> TraceFigures {
        self.hub.gate.tracer.figures()
    }

    /// Address of another transport's port, if it is open.
    pub fn listens_on(&self, transport: Transport) -> Option<SocketAddr> {
        let ports = self.hub.addresses.ports;
        let port = match transport {
            Transport::Udp | Transport::Tcp => Some(self.hub.addresses.bound.port()),
            Transport::Tls => ports.tls,
            Transport::Ws => ports.ws,
            Transport::Wss => ports.wss,
        };
        port.map(|p| SocketAddr::new(self.hub.addresses.bound.ip(), p))
    }

    /// Connections right now (TCP, TLS, WebSocket).
    pub fn tcp_connections(&self) -> usize {
        self.hub.crowd.count()
    }

    /// Takes no more calls (503; OPTIONS says 503 too); those there are go on.
    pub fn drain(&self) {
        self.hub.gate.drain();
    }

    /// Hangs up everything, waits up to 2 s for the goodbyes, closes the sockets.
    pub async fn shutdown(&self) {
        self.drain();
        let all: Vec<DialogId> = lock(&self.hub.entries).keys().copied().collect();
        let events_unread = Duration::from_millis(500);
        for id in all {
            tokio::time::timeout(events_unread, self.hangup(id)).await.ok();
        }
        let end = tokio::time::Instant::now() + Duration::from_secs(2);
        while !lock(&self.hub.entries).is_empty() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.hub.gate.tracer.stop().await;
        self.hub.token.cancel();
    }
}

/// Refuses a call that came in; false where it is none, or was answered before.
pub(super) fn refuse(hub: &Hub, d: DialogId, code: u16, retry_after: Option<u32>, why: EndWhy) -> bool {
    let code = if (300..700).contains(&code) { code } else { 480 };
    let content = match retry_after {
        Some(seconds) => Content::default().with("Retry-After", seconds.to_string()),
        None => Content::default(),
    };
    let claimed = hub.entry(d, |e| {
        let invite = e.unanswered()?;
        e.answered = true;
        e.timed.stop();
        Some(invite)
    });
    let Some(Some(invite)) = claimed else { return false };
    hub.finish(d, why);
    hub.respond(&invite, code, &content);
    hub.forget(d);
    true
}

/// Twice a second: forgets what is over, tells of registrations that ran out.
async fn tidy(hub: Arc<Hub>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = hub.token.cancelled() => return,
            _ = tick.tick() => {}
        }
        for (user, contacts) in hub.gate.tidy(now()) {
            hub.tell_or_lose(SipEvent::Registered { user, contacts });
        }
    }
}
