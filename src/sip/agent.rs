//! The agent: what the rest of the program sees of SIP.

use super::alive;
use super::counters::{SipCounters, bump};
use super::dialogs::{self, response_to, sdp_headers, text};
use super::event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
use super::gate::{Gate, lock};
use super::hub::{Addresses, Asked, Hub, Ports};
use super::mend::{Mend, Strays};
use super::refer::ReferLimits;
use super::refused::RefusedFor;
use super::registrar::Contact;
use super::settings::{Listeners, Served, SipSettings};
use super::sockets;
use super::time::now;
use super::tls::{self, Tls};
use super::trace::{Ending, Role, TraceFigures, Tracer};
use super::transport::Transport;
use super::{inside, refer, stream, timed, udp, websocket};
use crate::ids::CallId;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Response, StatusCode};
use rsipstack::transaction::endpoint::{EndpointBuilder, EndpointOption};
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often one looks whether a PRACK has come.
const LOOK: Duration = Duration::from_millis(50);

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
        let sends = Arc::new(udp::SendOnly(socket.clone(), tracer.clone()));
        let udp = UdpConnection::from_socket(sends, Some(local), Some(token.clone()))
            .await
            .map_err(|e| SipError::Stack(e.to_string()))?;
        let transport = TransportLayer::new(token.clone());
        transport.add_transport(udp.clone().into());
        let addresses = Addresses { public: settings.public_host, local, bound, ports };
        tracer.bound(Transport::ALL.map(|t| addresses.bound_for(t)));
        let gate = Arc::new(Gate::new(settings, tracer, rand::random()));
        let settings = &gate.settings;
        let t1 = settings.t1;
        let option = EndpointOption {
            t1,
            t2: t1 * 8,
            t4: t1 * 10,
            t1x64: t1 * 64,
            callid_suffix: Some("zongji".into()),
            ..EndpointOption::default()
        };
        let endpoint = EndpointBuilder::new()
            .with_user_agent(&settings.user_agent)
            .with_cancel_token(token.clone())
            .with_transport_layer(transport)
            .with_option(option)
            .with_inspector(Box::new(Mend(gate.clone(), addresses)))
            .with_transport_inspector(Box::new(Strays(gate.clone())))
            .build();
        let incoming = endpoint.incoming_transactions().map_err(|e| SipError::Stack(e.to_string()))?;
        let (events, receiver) = mpsc::channel(settings.event_queue.max(1));
        let hub = Arc::new(Hub {
            layer: Arc::new(DialogLayer::new(endpoint.inner.clone())),
            endpoint: endpoint.inner,
            gate,
            udp,
            events,
            entries: Mutex::default(),
            lingering: Mutex::default(),
            renewals: Mutex::default(),
            streams: Mutex::default(),
            deaf: Mutex::default(),
            crowd: stream::Crowd::default(),
            tls,
            token,
            addresses,
        });
        let library = hub.endpoint.clone();
        tokio::spawn(async move { library.serve().await.ok() });
        tokio::spawn(dialogs::serve(hub.clone(), incoming));
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
        let end = tokio::time::Instant::now() + limit;
        loop {
            let known = self.hub.entry(d, |e| e.timed.progress_acknowledged().filter(|_| !e.over)).flatten();
            match known {
                Some(false) if tokio::time::Instant::now() < end => tokio::time::sleep(LOOK).await,
                known => return known == Some(true),
            }
        }
    }

    /// Takes the call: 200 with our answer (or, after a late offer, our offer).
    pub async fn answer(&self, d: DialogId, sdp: String) {
        timed::answer(&self.hub, d, sdp);
    }

    /// Refuses the call with a code of 300-699 (others become 480); `retry_after` in seconds.
    pub async fn reject(&self, d: DialogId, code: u16, retry_after: Option<u32>) {
        self.count_refusal(d, code);
        self.refuse(d, code, retry_after, EndWhy::Rejected).await;
    }

    fn count_refusal(&self, d: DialogId, code: u16) {
        let Some(dialog) = unanswered(&self.hub, d) else { return };
        let source = dialogs::origin(&dialog.initial_request()).map(|(_, at)| at.ip());
        if let (Some(why), Some(source)) = (RefusedFor::of_status(code), source) {
            self.hub.gate.counters.refused.note(why, source, "INVITE", now());
        }
    }

    async fn refuse(&self, d: DialogId, code: u16, retry_after: Option<u32>, why: EndWhy) {
        refuse(&self.hub, d, code, retry_after, why).await;
    }

    /// Ends a call in whatever state it is: BYE, CANCEL, or 487 to an INVITE not answered yet. The call counts
    /// as over at once.
    pub async fn hangup(&self, d: DialogId) {
        if unanswered(&self.hub, d).is_some() {
            self.refuse(d, 487, None, EndWhy::HungUp).await;
            return;
        }
        let Some(dialog) = self.hub.entry(d, |e| (!e.over).then(|| e.dialog.clone())).flatten() else { return };
        self.hub.finish(d, EndWhy::HungUp).await;
        if matches!(dialog.state(), DialogState::Calling(_) | DialogState::Trying(_) | DialogState::Early(..)) {
            return timed::cancel(&self.hub, d, &dialog);
        }
        let hub = self.hub.clone();
        // The BYE takes a round trip, or 64*T1 if the other side is gone: nobody waits for that.
        tokio::spawn(async move {
            if let Err(error) = dialog.hangup().await {
                tracing::debug!(%error, "hang-up failed");
            }
            hub.forget(d);
        });
    }

    /// Sends a re-INVITE with a new offer; returns the answer.
    ///
    /// When both sides ask at once (491) it waits a random time and asks again (RFC 3261 section 14.1), three times
    /// in all.
    pub async fn reinvite(&self, d: DialogId, sdp: String) -> Result<String, SipError> {
        let response = timed::offer(&self.hub, d, sdp).await?;
        text(&response.body).ok_or(SipError::Refused(488))
    }

    /// Answers a re-INVITE of the other side: with a session description, or a code (488 ...).
    pub async fn answer_reinvite(&self, d: DialogId, request: ReinviteId, answer: Result<String, u16>) {
        let asked = self.hub.entry(d, |e| e.asked.remove(&request.0).map(|a| (a, e.dialog.clone()))).flatten();
        let Some((Asked { reply, target, timer, source }, dialog)) = asked else { return };
        match answer {
            Ok(sdp) => {
                inside::retarget(&dialog, target);
                let mut headers = sdp_headers();
                headers.extend(timed::agree(&self.hub, d, &timer));
                self.hub.entry(d, |e| e.timed.describe(Some(sdp.clone()), None));
                reply.respond(StatusCode::OK, headers, Some(sdp.into_bytes()), &dialog).await;
            }
            Err(code) => {
                let code = if (300..700).contains(&code) { code } else { 488 };
                self.hub.count_refusal(code, None, source, "re-INVITE");
                reply.respond(StatusCode::from(code), Vec::new(), None, &dialog).await;
            }
        }
    }

    /// Answers a REFER: 202, and news of it as NOTIFY (`refer_progress`), or a code that refuses it.
    pub async fn answer_refer(&self, d: DialogId, request: ReinviteId, answer: Result<(), u16>) {
        let asked = self.hub.entry(d, |e| e.asked.remove(&request.0).map(|a| (a, e.dialog.clone()))).flatten();
        let Some((asked, dialog)) = asked else { return };
        match answer {
            Ok(()) => {
                asked.reply.respond(StatusCode::Accepted, Vec::new(), None, &dialog).await;
                tokio::spawn(refer::tell(self.hub.clone(), d, 100));
            }
            Err(code) => {
                if code == 403 {
                    bump(&self.hub.gate.counters.not_allowed);
                }
                let code = if (300..700).contains(&code) { code } else { 403 };
                self.hub.count_refusal(code, None, asked.source, "REFER");
                asked.reply.respond(StatusCode::from(code), Vec::new(), None, &dialog).await;
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
        let dialog = self.hub.entry(d, |e| (!e.over).then(|| e.dialog.clone())).flatten().ok_or(SipError::Gone)?;
        let headers = vec![Header::ContentType("application/dtmf-relay".into())];
        let body = format!("Signal={key}\r\nDuration=160\r\n").into_bytes();
        let limit = self.hub.gate.settings.t1 * 70;
        outcome(tokio::time::timeout(limit, dialog.info(Some(headers), Some(body))).await).map(|_| ())
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
        let stats = self.hub.endpoint.get_stats();
        SipCounters {
            calls: self.hub.gate.calls(|c| c.active()) as u64,
            dialogs: self.hub.layer.len().max(lock(&self.hub.entries).len()) as u64,
            transactions: stats.running_transactions as u64,
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

/// A live incoming dialog that has no final response yet.
pub(super) fn unanswered(hub: &Hub, d: DialogId) -> Option<InviteDialog> {
    hub.entry(d, |e| (e.invite.is_some() && !e.answered && !e.over).then(|| e.dialog.clone())).flatten()
}

/// Refuses a call that came in.
pub(super) async fn refuse(hub: &Hub, d: DialogId, code: u16, retry_after: Option<u32>, why: EndWhy) {
    let Some(dialog) = unanswered(hub, d) else { return };
    let code = StatusCode::from(if (300..700).contains(&code) { code } else { 480 });
    let wait = retry_after.map(|s| Header::RetryAfter(s.to_string().into()));
    let invite = hub.entry(d, |e| {
        e.answered = true;
        e.timed.stop();
        e.invite.clone()
    });
    let response = response_to(hub, &dialog, code.clone(), wait.into_iter().collect());
    hub.finish(d, why).await;
    if let (Some(Some(invite)), Some(response)) = (invite, response) {
        invite.respond(response);
    }
    // Brings the library's dialog to its end; the response it sends itself comes second and is dropped. An
    // ACK that was quicker than this makes it believe in a call, so it is taken off the list either way.
    dialog.reject(Some(code), None).ok();
    hub.forget(d);
}

pub(super) type Sent = Result<rsipstack::Result<Option<Response>>, tokio::time::error::Elapsed>;

/// A success, or why not.
pub(super) fn outcome(sent: Sent) -> Result<Response, SipError> {
    match sent {
        Err(_) => Err(SipError::Timeout),
        Ok(Err(e)) => Err(SipError::Stack(e.to_string())),
        Ok(Ok(None)) => Err(SipError::Gone),
        Ok(Ok(Some(r))) if (200..300).contains(&r.status_code.code()) => Ok(r),
        Ok(Ok(Some(r))) => Err(SipError::Refused(r.status_code.code())),
    }
}

/// Twice a second: forgets what is over, tells of registrations that ran out.
async fn tidy(hub: Arc<Hub>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = hub.token.cancelled() => return,
            _ = tick.tick() => {}
        }
        hub.end_lingering();
        for (user, contacts) in hub.gate.tidy(now()) {
            hub.tell_or_lose(SipEvent::Registered { user, contacts });
        }
    }
}
