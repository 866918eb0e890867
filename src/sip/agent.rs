//! The agent: what the rest of the program sees of SIP.

use super::alive;
use super::calls::{Kind, Pin};
use super::counters::{SipCounters, bump};
use super::dialogs::{self, contact, insert, response_to, sdp_headers, text};
use super::event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
use super::gate::{Gate, lock};
use super::hub::{Addresses, Asked, Hub, Mend, Ports, Strays};
use super::registrar::Contact;
use super::settings::{Served, SipSettings};
use super::sockets::{self, Way};
use super::time::now;
use super::tls::{self, Tls};
use super::transport::Transport;
use super::{inside, stream, udp, uri, websocket};
use rsipstack::dialog::authenticate::Credential as LibraryCredential;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::dialog::registration::Registration;
use rsipstack::sip::{Header, Response, StatusCode};
use rsipstack::transaction::endpoint::{EndpointBuilder, EndpointOption};
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipAddr, TransportLayer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What an INVITE of ours is long without its session description, at most in ordinary use.
const HEADERS: usize = 700;
/// Longest request that is sent as a datagram where there is a choice (RFC 3261 section 18.1.1).
const LONGEST_DATAGRAM: usize = 1300;

/// Name and password for a server that challenges us.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub user: String,
    /// Password; shown (as a digest) only to the server dialled.
    pub password: String,
    /// Only to this realm, when given.
    pub realm: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.user)
    }
}

/// A call to place.
#[derive(Debug, Clone, Default)]
pub struct Dial {
    /// Whom: `sip:8001@192.0.2.7:5060`, with `;transport=tcp` or `tls` for those; `sips:` is TLS.
    pub to: String,
    /// Our number: a user part, or a whole `sip:` address.
    pub from: String,
    /// Display name of From.
    pub display: Option<String>,
    /// The offer.
    pub sdp: String,
    /// For a challenge of the server dialled.
    pub credential: Option<Credential>,
    /// More headers of the INVITE.
    pub headers: Vec<(String, String)>,
    /// Send there instead of to the host in `to` (a registered phone's source, a proxy).
    pub destination: Option<SocketAddr>,
    /// By this, whatever `to` says.
    pub transport: Option<Transport>,
    /// Fails with 408 when not even a provisional answer came within this; without it, after 64*T1.
    pub patience: Option<Duration>,
}

impl Dial {
    /// A call to a registered phone.
    pub fn to_contact(contact: &Contact, from: impl Into<String>, sdp: impl Into<String>) -> Dial {
        Dial {
            to: contact.target(),
            from: from.into(),
            sdp: sdp.into(),
            destination: Some(contact.source),
            transport: Some(contact.transport),
            ..Dial::default()
        }
    }
}

/// A SIP user agent: UDP and TCP on one address, TLS and WebSocket on others. Cheap to clone; all clones are the same agent.
#[derive(Clone)]
pub struct SipAgent {
    hub: Arc<Hub>,
}

impl SipAgent {
    /// Opens the sockets and starts. The receiver must be read: when `event_queue` events wait, new calls
    /// get 503.
    pub async fn start(settings: SipSettings) -> Result<(SipAgent, mpsc::Receiver<SipEvent>), SipError> {
        let tls = Tls::new(settings.listeners.certificate.as_ref())?;
        let (socket, listener) = sockets::open(settings.bind).await?;
        let secure = sockets::listen(settings.listeners.tls, Transport::Tls).await?;
        let web = sockets::listen(settings.listeners.ws, Transport::Ws).await?;
        let secure_web = sockets::listen(settings.listeners.wss, Transport::Wss).await?;
        let port = |l: &Option<TcpListener>| l.as_ref().and_then(|l| l.local_addr().ok()).map(|a| a.port());
        let ports = Ports { tls: port(&secure), ws: port(&web), wss: port(&secure_web) };
        let bound = socket.local_addr().map_err(|e| SipError::Bind(settings.bind, e.to_string()))?;
        let local = sockets::advertised(bound, settings.public_host);
        let token = CancellationToken::new();
        let udp = UdpConnection::from_socket(Arc::new(udp::SendOnly(socket.clone())), Some(local), Some(token.clone()))
            .await
            .map_err(|e| SipError::Stack(e.to_string()))?;
        let transport = TransportLayer::new(token.clone());
        transport.add_transport(udp.clone().into());
        let addresses = Addresses { public: settings.public_host, local, bound, ports };
        let gate = Arc::new(Gate::new(settings, rand::random()));
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
        for (listener, transport) in [(secure, Transport::Tls), (secure_web, Transport::Wss)] {
            if let Some(listener) = listener {
                let shake = move |hub, stream, peer| tls::serve(hub, stream, peer, transport);
                tokio::spawn(stream::listen(hub.clone(), listener, shake));
            }
        }
        if let Some(listener) = web {
            let upgrade = |hub, stream, peer| websocket::serve(hub, stream, peer, Transport::Ws);
            tokio::spawn(stream::listen(hub.clone(), listener, upgrade));
        }
        tokio::spawn(tls::watch(hub.clone()));
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

    /// Sends 180 Ringing.
    pub async fn ring(&self, d: DialogId) {
        if let Some(dialog) = self.unanswered(d) {
            dialog.ringing(None, None).ok();
        }
    }

    /// Takes the call: 200 with our answer (or, after a late offer, our offer).
    pub async fn answer(&self, d: DialogId, sdp: String) {
        let Some(dialog) = self.unanswered(d) else { return };
        self.hub.entry(d, |e| e.answered = true);
        if let Err(error) = dialog.accept(Some(sdp_headers()), Some(sdp.into_bytes())) {
            tracing::debug!(%error, "the call was over before its answer");
        }
    }

    /// Refuses the call with a code of 300-699 (others become 480); `retry_after` in seconds.
    pub async fn reject(&self, d: DialogId, code: u16, retry_after: Option<u32>) {
        self.refuse(d, code, retry_after, EndWhy::Rejected).await;
    }

    async fn refuse(&self, d: DialogId, code: u16, retry_after: Option<u32>, why: EndWhy) {
        let Some(dialog) = self.unanswered(d) else { return };
        let code = StatusCode::from(if (300..700).contains(&code) { code } else { 480 });
        let wait = retry_after.map(|s| Header::RetryAfter(s.to_string().into()));
        let invite = self.hub.entry(d, |e| {
            e.answered = true;
            e.invite.clone()
        });
        let response = response_to(&self.hub, &dialog, code.clone(), wait.into_iter().collect());
        self.hub.finish(d, why).await;
        if let (Some(Some(invite)), Some(response)) = (invite, response) {
            invite.respond(response);
        }
        // Brings the library's dialog to its end; the response it sends itself comes second and is dropped. An
        // ACK that was quicker than this makes it believe in a call, so it is taken off the list either way.
        dialog.reject(Some(code), None).ok();
        self.hub.forget(d);
    }

    /// A live incoming dialog that has no final response yet.
    fn unanswered(&self, d: DialogId) -> Option<InviteDialog> {
        let open = |e: &mut super::hub::Entry| (e.invite.is_some() && !e.answered && !e.over).then(|| e.dialog.clone());
        self.hub.entry(d, open).flatten()
    }

    /// Ends a call in whatever state it is: BYE, CANCEL, or 487 to an INVITE not answered yet. The call counts
    /// as over at once.
    pub async fn hangup(&self, d: DialogId) {
        if self.unanswered(d).is_some() {
            self.refuse(d, 487, None, EndWhy::HungUp).await;
            return;
        }
        let Some(dialog) = self.hub.entry(d, |e| (!e.over).then(|| e.dialog.clone())).flatten() else { return };
        self.hub.finish(d, EndWhy::HungUp).await;
        let hub = self.hub.clone();
        // The BYE takes a round trip, or 64*T1 if the other side is gone: nobody waits for that.
        tokio::spawn(async move {
            if let Err(error) = dialog.hangup().await {
                tracing::debug!(%error, "hang-up failed");
            }
            // A CANCEL leaves the ending to the INVITE's final response; anything else is over now.
            if !matches!(dialog.state(), DialogState::Calling(_) | DialogState::Trying(_) | DialogState::Early(..)) {
                hub.forget(d);
            }
        });
    }

    /// Places a call. What becomes of it comes as events of the returned dialog.
    pub async fn dial(&self, dial: Dial) -> Result<DialogId, SipError> {
        let hub = &self.hub;
        let way = self.way(&dial).await?;
        let peer = way.peer;
        let option = self.invite(&dial, &way)?;
        let call_id = option.call_id.clone().unwrap_or_default();
        let pin = Pin {
            server: peer.ip(),
            realm: dial.credential.as_ref().and_then(|c| c.realm.clone()),
            secret: dial.credential.is_some(),
        };
        let most = hub.gate.settings.max_calls;
        let draining = hub.gate.draining();
        let id = hub
            .gate
            .calls(|c| (!draining && c.active() < most).then(|| c.add(&call_id, Kind::Out, Some(pin))))
            .ok_or(SipError::Busy)?;
        let (states, receiver) = hub.layer.new_dialog_state_channel();
        let (dialog, invite) = match hub.layer.do_invite_async(option, states) {
            Ok(started) => started,
            Err(e) => {
                hub.gate.calls(|c| c.end(id, now()));
                return Err(SipError::Stack(e.to_string()));
            }
        };
        hub.gate.calls(|c| c.set_tag(id, &dialog.id().local_tag));
        let requests = insert(hub, id, &dialog, None);
        bump(&hub.gate.counters.calls_out);
        tokio::spawn(dialogs::watch(hub.clone(), id, dialog.clone(), receiver, requests, 0));
        if let Some(patience) = dial.patience {
            tokio::spawn(lose_patience(self.clone(), id, dialog.clone(), patience));
        }
        let hub = hub.clone();
        tokio::spawn(async move {
            let outcome = invite.await;
            let lost = !matches!(outcome, Ok(Ok(_)));
            if lost && hub.close(id) {
                let reason = "Call failed".to_string();
                hub.tell(SipEvent::Failed { dialog: id, code: 500, reason }).await;
            }
            // The library lists a confirmed dialog after telling of it: a dialog that ended in between stays
            // listed unless we look again.
            if lost || hub.entry(id, |_| ()).is_none() {
                hub.forget(id);
                hub.layer.remove_dialog(&dialog.id());
            }
        });
        Ok(id)
    }

    /// Where the call goes, with a connection open where it takes one.
    async fn way(&self, dial: &Dial) -> Result<Way, SipError> {
        let mut way = sockets::resolve(&dial.to, dial.destination, dial.transport).await?;
        if way.transport.is_stream() {
            connected(&self.hub, &way).await?;
        } else if !way.fixed && dial.sdp.len() + HEADERS > LONGEST_DATAGRAM {
            // RFC 3261 section 18.1.1: too long for a datagram that must not be cut. Who takes no TCP gets it anyway.
            let limit = Duration::from_secs(1);
            let connecting = stream::connect(&self.hub, way.peer, Transport::Tcp, &way.host);
            if let Ok(Ok(())) = tokio::time::timeout(limit, connecting).await {
                way.transport = Transport::Tcp;
            }
        }
        Ok(way)
    }

    fn invite(&self, dial: &Dial, way: &Way) -> Result<InviteOption, SipError> {
        let Way { peer, transport, .. } = *way;
        let bad = |what: &str, why| SipError::BadAddress(what.to_string(), why);
        let at = self.hub.address_by(peer, transport);
        let from = if dial.from.starts_with("sip:") {
            dial.from.clone()
        } else {
            format!("sip:{}@{at}", uri::escape_user(&dial.from))
        };
        let user = uri::SipUri::parse(&from).map_err(|_| bad(&from, "not a SIP address"))?.user.unwrap_or_default();
        let clean = |s: &str| s.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').collect::<String>();
        let token = |n: &str| !n.is_empty() && n.bytes().all(super::wire::is_token_byte);
        let headers = dial
            .headers
            .iter()
            .filter(|(n, _)| token(n))
            .map(|(n, v)| Header::Other(n.clone(), v.chars().filter(|c| !c.is_control()).collect()));
        let for_library =
            |text: &str| text.try_into().map(uri::for_library).map_err(|_| bad(text, "not a SIP address"));
        let random: u128 = rand::random();
        Ok(InviteOption {
            caller_display_name: dial.display.as_deref().map(clean).filter(|d| !d.is_empty()),
            caller: for_library(&from)?,
            callee: for_library(&dial.to)?,
            destination: Some(SipAddr { r#type: Some(transport.library()), addr: peer.into() }),
            content_type: Some("application/sdp".into()),
            offer: Some(dial.sdp.clone().into_bytes()),
            contact: contact(&self.hub, if user.is_empty() { "zongji" } else { &user }, peer, transport)
                .ok_or_else(|| bad(&from, "not a SIP address"))?,
            credential: dial.credential.as_ref().map(library_credential),
            headers: Some(headers.chain([Header::Allow(super::sanity::ALLOW.into())]).collect()),
            call_id: Some(format!("{random:032x}@zongji")),
            ..InviteOption::default()
        })
    }

    /// Sends a re-INVITE with a new offer; returns the answer.
    pub async fn reinvite(&self, d: DialogId, sdp: String) -> Result<String, SipError> {
        let begin = |e: &mut super::hub::Entry| {
            let free = !e.over && !e.asking && e.asked.is_empty();
            e.asking |= free;
            (free, e.dialog.clone())
        };
        let (free, dialog) = self.hub.entry(d, begin).ok_or(SipError::Gone)?;
        if !free {
            return Err(SipError::Refused(491));
        }
        let limit = self.hub.gate.settings.t1 * 70;
        let sent = tokio::time::timeout(limit, dialog.reinvite(Some(sdp_headers()), Some(sdp.into_bytes()))).await;
        self.hub.entry(d, |e| e.asking = false);
        let response = outcome(sent)?;
        text(&response.body).ok_or(SipError::Refused(488))
    }

    /// Answers a re-INVITE of the other side: with a session description, or a code (488 ...).
    pub async fn answer_reinvite(&self, d: DialogId, request: ReinviteId, answer: Result<String, u16>) {
        let asked = self.hub.entry(d, |e| e.asked.remove(&request.0).map(|a| (a, e.dialog.clone()))).flatten();
        let Some((Asked { handle, target }, dialog)) = asked else { return };
        if answer.is_ok() {
            inside::refresh(&dialog, target);
        }
        let sent = match answer {
            Ok(sdp) => handle.respond(StatusCode::OK, Some(sdp_headers()), Some(sdp.into_bytes())).await,
            Err(code) => {
                let code = if (300..700).contains(&code) { code } else { 488 };
                handle.respond(StatusCode::from(code), None, None).await
            }
        };
        sent.ok();
    }

    /// Sends a key as SIP INFO (`application/dtmf-relay`).
    pub async fn info_dtmf(&self, d: DialogId, key: char) -> Result<(), SipError> {
        let dialog = self.hub.entry(d, |e| (!e.over).then(|| e.dialog.clone())).flatten().ok_or(SipError::Gone)?;
        let headers = vec![Header::ContentType("application/dtmf-relay".into())];
        let body = format!("Signal={key}\r\nDuration=160\r\n").into_bytes();
        let limit = self.hub.gate.settings.t1 * 70;
        outcome(tokio::time::timeout(limit, dialog.info(Some(headers), Some(body))).await).map(|_| ())
    }

    /// Registers at `server` as `credential.user` and keeps that fresh until the agent stops; returns the
    /// seconds granted. With `expires` 0 the registration is taken back. The latest call for a user counts.
    pub async fn register(&self, server: SocketAddr, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        self.register_at(&format!("sip:{server}"), credential, expires).await
    }

    /// The same, at an address (`sip:host`, `sip:host:port;transport=tls`).
    pub async fn register_at(&self, to: &str, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        let way = sockets::resolve(to, None, None).await?;
        let server = way.peer;
        let hub = self.hub.clone();
        connected(&hub, &way).await?;
        let mut registration = Registration::new(hub.endpoint.clone(), Some(library_credential(credential)));
        let uri = contact(&hub, &credential.user, server, way.transport)
            .ok_or_else(|| SipError::BadAddress(credential.user.clone(), "not a user name"))?;
        registration.contact = Some(rsipstack::sip::typed::Contact { display_name: None, uri, params: Vec::new() });
        registration.outbound_proxy = Some(server);
        let pin = Pin { server: server.ip(), realm: credential.realm.clone(), secret: true };
        let leg = hub.gate.calls(|c| c.add(registration.call_id.value(), Kind::Register, Some(pin)));
        let stop = hub.token.child_token();
        let before = lock(&hub.renewals).insert((server, credential.user.clone()), stop.clone());
        if let Some(before) = before {
            before.cancel();
        }
        let granted = register_once(&hub, &mut registration, &way, expires).await;
        if !matches!(granted, Ok(seconds) if seconds > 0) {
            hub.gate.calls(|c| c.end(leg, now()));
            return granted;
        }
        let mut wait = granted.clone().unwrap_or(60);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_secs(u64::from(wait / 2).max(5))) => {}
                }
                match register_once(&hub, &mut registration, &way, expires).await {
                    Ok(seconds) => wait = seconds.max(10),
                    Err(error) => {
                        tracing::warn!(%error, "registration was not refreshed");
                        wait = 20;
                    }
                }
            }
            hub.gate.calls(|c| c.end(leg, now()));
        });
        granted
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
        self.hub.token.cancel();
    }
}

/// A server that says nothing at all is given up before the transaction would.
async fn lose_patience(agent: SipAgent, id: DialogId, dialog: InviteDialog, patience: Duration) {
    tokio::time::sleep(patience).await;
    if !matches!(dialog.state(), DialogState::Calling(_)) || !agent.hub.close(id) {
        return;
    }
    let reason = "No answer of any kind".to_string();
    agent.hub.tell(SipEvent::Failed { dialog: id, code: 408, reason }).await;
    // Should it come to life after all, it finds the call cancelled.
    if let Err(error) = dialog.hangup().await {
        tracing::debug!(%error, "a call to a silent server could not be cancelled");
    }
}

fn library_credential(c: &Credential) -> LibraryCredential {
    LibraryCredential {
        username: c.user.clone(),
        password: c.password.clone(),
        realm: c.realm.clone(),
        auth_username: None,
    }
}

type Sent = Result<rsipstack::Result<Option<Response>>, tokio::time::error::Elapsed>;

/// A success, or why not.
fn outcome(sent: Sent) -> Result<Response, SipError> {
    match sent {
        Err(_) => Err(SipError::Timeout),
        Ok(Err(e)) => Err(SipError::Stack(e.to_string())),
        Ok(Ok(None)) => Err(SipError::Gone),
        Ok(Ok(Some(r))) if (200..300).contains(&r.status_code.code()) => Ok(r),
        Ok(Ok(Some(r))) => Err(SipError::Refused(r.status_code.code())),
    }
}

/// A connection to there is open, where it takes one.
pub(super) async fn connected(hub: &Arc<Hub>, way: &Way) -> Result<(), SipError> {
    if !way.transport.is_stream() {
        return Ok(());
    }
    let opened = stream::connect(hub, way.peer, way.transport, &way.host).await;
    opened.map_err(|e| SipError::Unreachable(way.peer, way.transport.name(), e.to_string()))
}

async fn register_once(
    hub: &Arc<Hub>,
    registration: &mut Registration,
    way: &Way,
    expires: u32,
) -> Result<u32, SipError> {
    connected(hub, way).await?;
    // Its domain by name, as a carrier's registrar wants it; the datagrams go to the address found for it.
    let host = if way.host.contains(':') { format!("[{}]", way.host) } else { way.host.clone() };
    let uri = format!("sip:{host}:{}{}", way.peer.port(), way.transport.param());
    let uri: rsipstack::sip::Uri =
        uri.as_str().try_into().map_err(|_| SipError::BadAddress(uri.clone(), "not an address"))?;
    let limit = hub.gate.settings.t1 * 70;
    let response = tokio::time::timeout(limit, registration.register(uri, Some(expires)))
        .await
        .map_err(|_| SipError::Timeout)?
        .map_err(|e| SipError::Stack(e.to_string()))?;
    match response.status_code.code() {
        200 => Ok(registration.expires().min(expires)),
        code => Err(SipError::Refused(code)),
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
