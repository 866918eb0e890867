//! The agent: what the rest of the program sees of SIP.

use super::alive;
use super::calls::{Kind, Pin, SeatEnd};
use super::counters::{SipCounters, bump};
use super::dialogs::{self, contact, insert, response_to, sdp_headers, text};
use super::event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
use super::gate::{Gate, lock};
use super::hub::{Addresses, Asked, Hub, Mend, Ports, Strays};
use super::refer::ReferLimits;
use super::refused::RefusedFor;
use super::registrar::Contact;
use super::settings::{Listeners, Served, SipSettings};
use super::sockets::{self, Way};
use super::time::now;
use super::tls::{self, Tls};
use super::trace::{Ending, Role, TraceFigures, Tracer};
use super::transport::Transport;
use super::{inside, refer, stream, timed, udp, uri, websocket};
use crate::ids::CallId;
use rsipstack::dialog::authenticate::Credential as LibraryCredential;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::dialog::registration::Registration;
use rsipstack::sip::{Header, HeadersExt, Response, StatusCode};
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
/// How often one looks whether a PRACK has come.
const LOOK: Duration = Duration::from_millis(50);

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
    /// The seat whose phone this is: only then it may transfer the call, after it has proved its password.
    pub seat: Option<String>,
    /// The dialog that the called phone shall end for this one (RFC 3891).
    pub replaces: Option<DialogId>,
    /// Max-Forwards: what the call that this one follows from has left. `None`: 70.
    pub hops: Option<u8>,
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
        let option = self.invite(&dial, &way, hub.gate.settings.session_min_s)?;
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
        if let Some(user) = dial.seat.clone() {
            hub.gate.calls(|c| c.set_seat(id, SeatEnd { user, proved: false }));
        }
        if let Err(e) = self.place(id, option, Some((dial, way))) {
            hub.gate.calls(|c| c.end(id, now()));
            return Err(e);
        }
        bump(&hub.gate.counters.calls_out);
        Ok(id)
    }

    /// Sends the INVITE of a dialog. `again` is what it takes to send it once more after a 422.
    fn place(&self, id: DialogId, option: InviteOption, again: Option<(Dial, Way)>) -> Result<(), SipError> {
        let hub = &self.hub;
        let call_id = option.call_id.clone();
        let described = option.offer.as_deref().and_then(text);
        let target = option.destination.clone();
        let (states, receiver) = hub.layer.new_dialog_state_channel();
        let (dialog, invite) = hub.layer.do_invite_async(option, states).map_err(|e| SipError::Stack(e.to_string()))?;
        hub.gate.calls(|c| c.set_tag(id, &dialog.id().local_tag));
        let requests = insert(hub, id, &dialog, None);
        hub.entry(id, |e| {
            e.again = again.is_some();
            e.timed.describe(described, target);
        });
        tokio::spawn(dialogs::watch(hub.clone(), id, dialog.clone(), receiver, requests, 0));
        if let Some(patience) = again.as_ref().and_then(|(dial, _)| dial.patience) {
            tokio::spawn(lose_patience(self.clone(), id, dialog.clone(), patience));
        }
        let (agent, hub) = (self.clone(), hub.clone());
        tokio::spawn(async move {
            let outcome = invite.await;
            let min =
                matches!(&outcome, Ok(Ok((_, Some(r)))) if r.status_code.code() == 422).then(|| outcome_min(&outcome));
            let still = hub.entry(id, |e| !e.over).unwrap_or(false);
            if let (Some(min), Some((dial, way)), true) = (min, again, still) {
                hub.layer.remove_dialog(&dialog.id());
                let option = agent.invite(&dial, &way, min);
                let sent = option.and_then(|o| agent.place(id, InviteOption { call_id, ..o }, None));
                if sent.is_err() && hub.close(id) {
                    hub.tell(SipEvent::Failed { dialog: id, code: 422, reason: "Session Interval Too Small".into() })
                        .await;
                    hub.forget(id);
                }
                return;
            }
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
        Ok(())
    }

    /// Where the call goes, with a connection open where it takes one.
    async fn way(&self, dial: &Dial) -> Result<Way, SipError> {
        let names = &self.hub.gate.settings.names;
        let all = sockets::resolve_all(names, &dial.to, dial.destination, dial.transport).await?;
        let mut way = first_connected(&self.hub, all).await?;
        if !way.transport.is_stream() && !way.fixed && dial.sdp.len() + HEADERS > LONGEST_DATAGRAM {
            // RFC 3261 section 18.1.1: too long for a datagram that must not be cut. Who takes no TCP gets it anyway.
            let limit = Duration::from_secs(1);
            let connecting = stream::connect(&self.hub, way.peer, Transport::Tcp, &way.host);
            if let Ok(Ok(())) = tokio::time::timeout(limit, connecting).await {
                way.transport = Transport::Tcp;
            }
        }
        Ok(way)
    }

    /// `min`: the shortest session, s.
    fn invite(&self, dial: &Dial, way: &Way, min: u32) -> Result<InviteOption, SipError> {
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
        let replaces = dial.replaces.and_then(|d| refer::replaces(&self.hub, d));
        let hops = dial.hops.map(|n| Header::MaxForwards(u32::from(n).into()));
        let headers = headers.chain(replaces.map(|v| Header::Other("Replaces".into(), v))).chain(hops);
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
            headers: Some(headers.chain(dialogs::capabilities()).chain(timed::asking(&self.hub, min)).collect()),
            call_id: Some(format!("{random:032x}@zongji")),
            ..InviteOption::default()
        })
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
                inside::refresh(&dialog, target);
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

    /// The same with limits and with news of its progress (202: it was accepted; 100-199: what it tells then), and without the hang-up: the final status that the
    /// other side tells. An error: it refused the REFER, or told nothing in time.
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

    /// Registers at `server` as `credential.user` and keeps that fresh until the agent stops; returns the
    /// seconds granted. With `expires` 0 the registration is taken back. The latest call for a user counts.
    pub async fn register(&self, server: SocketAddr, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        self.register_at(&format!("sip:{server}"), credential, expires).await
    }

    /// The same, at an address (`sip:host`, `sip:host:port;transport=tls`).
    pub async fn register_at(&self, to: &str, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        let all = sockets::resolve_all(&self.hub.gate.settings.names, to, None, None).await?;
        let mut last = Err(SipError::Timeout);
        for way in all {
            last = self.register_by(way, credential, expires).await;
            // A server that answers has said what there is to say (RFC 3263 section 4.3).
            if !matches!(last, Err(SipError::Timeout | SipError::Unreachable(..) | SipError::Refused(503))) {
                break;
            }
        }
        last
    }

    async fn register_by(&self, way: Way, credential: &Credential, expires: u32) -> Result<u32, SipError> {
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
        let least = hub.gate.settings.renew_least;
        let mut wait = granted.clone().unwrap_or(60);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_secs(u64::from(wait / 2)).max(least)) => {}
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

/// The shortest session that a 422 allows, s.
fn outcome_min<E, F>(outcome: &Result<Result<(rsipstack::dialog::DialogId, Option<Response>), E>, F>) -> u32 {
    let response = outcome.as_ref().ok().and_then(|o| o.as_ref().ok()).and_then(|(_, r)| r.as_ref());
    response.and_then(|r| r.header_value("Min-SE")?.split(';').next()?.trim().parse().ok()).unwrap_or(0)
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

/// A connection to there is open, where it takes one.
pub(super) async fn connected(hub: &Arc<Hub>, way: &Way) -> Result<(), SipError> {
    if !way.transport.is_stream() {
        return Ok(());
    }
    let opened = stream::connect(hub, way.peer, way.transport, &way.host).await;
    opened.map_err(|e| SipError::Unreachable(way.peer, way.transport.name(), e.to_string()))
}

/// The first of several ways that a connection can be opened by, where it takes one.
async fn first_connected(hub: &Arc<Hub>, ways: Vec<Way>) -> Result<Way, SipError> {
    let mut last = SipError::Timeout;
    for way in ways {
        match connected(hub, &way).await {
            Ok(()) => return Ok(way),
            Err(why) => last = why,
        }
    }
    Err(last)
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
