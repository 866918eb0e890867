//! What all tasks of an agent share, and the road of a message from socket to SIP library.

use super::counters::bump;
use super::event::{DialogId, EndWhy, SipEvent};
use super::gate::{Gate, Outcome, lock};
use super::refused::RefusedFor;
use super::stream::{Crowd, Flow};
use super::time::now;
use super::timed::Timed;
use super::tls::Tls;
use super::transport::Transport;
use crate::clock::Mono;
use rsipstack::dialog::dialog::TransactionHandle;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::untyped::Contact;
use rsipstack::sip::{Header, Response, SipMessage, StatusCode, Uri};
use rsipstack::transaction::endpoint::EndpointInnerRef;
use rsipstack::transaction::key::TransactionKey;
use rsipstack::transaction::transaction::{Transaction, TransactionEvent, TransactionEventSender};
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipAddr, SipConnection};
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A dialog as the agent sees it.
pub(super) struct Entry {
    pub dialog: InviteDialog,
    /// Transaction of the incoming INVITE.
    pub invite: Option<Invite>,
    /// Takes the requests inside the dialog. Boxed: the channel has the room for its first 32 from the beginning.
    pub inbox: mpsc::Sender<Box<Transaction>>,
    /// A final response went out or came in.
    pub answered: bool,
    /// The last event was sent.
    pub over: bool,
    /// What waits for the answer to an INVITE of ours.
    pub inviting: Option<tokio::task::AbortHandle>,
    /// We have a re-INVITE of our own under way.
    pub asking: bool,
    /// Their re-INVITEs waiting for our answer.
    pub asked: HashMap<u64, Asked>,
    /// CSeq of the last ACK that was told.
    pub acked: Option<u32>,
    /// What it does by itself as time passes.
    pub timed: Timed,
    /// A first INVITE that a 422 refuses is sent again: that 422 is not the end.
    pub again: bool,
    /// Our REFER waits for what becomes of it: status codes of its NOTIFYs.
    pub referring: Option<mpsc::Sender<u16>>,
    /// NOTIFYs of ours go out one after the other.
    pub notices: Arc<tokio::sync::Mutex<()>>,
}

/// The server transaction of an INVITE.
#[derive(Clone)]
pub(super) struct Invite {
    pub key: TransactionKey,
    pub sender: TransactionEventSender,
}

impl Invite {
    /// Sends a response the library's own calls cannot make.
    pub fn respond(&self, response: Response) {
        self.sender.send(TransactionEvent::Respond(response)).ok();
    }

    /// Ends the transaction; twice does no harm.
    fn end(self) {
        self.sender.send(TransactionEvent::Terminate(self.key)).ok();
    }
}

/// Where requests inside a dialog go.
pub(super) struct Target {
    pub uri: Uri,
    pub contact: Contact,
}

/// How a request is answered.
pub(super) enum Reply {
    /// By the library (re-INVITE: it waits for the ACK).
    Library(TransactionHandle),
    /// By us.
    Own(Box<Transaction>),
}

impl Reply {
    /// Answers; a success of our own names our Contact.
    pub async fn respond(
        self,
        code: StatusCode,
        mut headers: Vec<Header>,
        body: Option<Vec<u8>>,
        dialog: &InviteDialog,
    ) {
        match self {
            Reply::Library(handle) => drop(handle.respond(code, Some(headers), body).await),
            Reply::Own(mut tx) => {
                headers.extend(contact_of(dialog));
                if let Err(error) = tx.reply_with(code, headers, body).await {
                    tracing::debug!(%error, "a request inside a dialog could not be answered");
                }
            }
        }
    }
}

/// Our Contact in a dialog.
pub(super) fn contact_of(dialog: &InviteDialog) -> Option<Header> {
    let uri = dialog.snapshot().local_contact?;
    Some(rsipstack::sip::typed::Contact { display_name: None, uri, params: Vec::new() }.into())
}

/// A re-INVITE or UPDATE waiting for our answer, the remote target it brings if we accept it, and the session timer
/// it asks for.
pub(super) struct Asked {
    pub reply: Reply,
    pub target: Option<Target>,
    pub timer: super::session_timer::Asked,
    /// Where it came from.
    pub source: Option<IpAddr>,
}

/// Shared by all tasks of an agent.
pub(super) struct Hub {
    pub gate: Arc<Gate>,
    pub endpoint: EndpointInnerRef,
    pub layer: Arc<DialogLayer>,
    pub udp: UdpConnection,
    pub events: mpsc::Sender<SipEvent>,
    pub entries: Mutex<HashMap<DialogId, Entry>>,
    /// Transactions of INVITEs whose dialogs are over: they may still repeat an answer and take its ACK, until then.
    pub lingering: Mutex<VecDeque<(Mono, Invite)>>,
    /// Connections right now.
    pub streams: Mutex<HashSet<(Transport, SocketAddr)>>,
    pub crowd: Crowd,
    pub tls: Tls,
    /// What keeps our registrations elsewhere fresh, by server and user.
    pub renewals: Mutex<HashMap<(SocketAddr, String), CancellationToken>>,
    /// Servers that took no connection when a request was too long for a datagram, and when that was.
    pub deaf: Mutex<HashMap<SocketAddr, Mono>>,
    pub token: CancellationToken,
    pub addresses: Addresses,
}

/// Where we are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    /// As configured, behind address translation.
    pub public: Option<IpAddr>,
    /// Bound address, as advertised to peers without a better one.
    pub local: SocketAddr,
    /// Address the sockets are bound to; may be unspecified.
    pub bound: SocketAddr,
    /// Ports of the other transports that are open.
    pub ports: Ports,
}

impl Addresses {
    /// The address that a transport's socket is bound to.
    pub fn bound_for(&self, transport: Transport) -> SocketAddr {
        SocketAddr::new(self.bound.ip(), self.ports.of(transport).unwrap_or(self.bound.port()))
    }

    /// Our address for a transport as `peer` should see it.
    pub fn seen_by(&self, peer: SocketAddr, transport: Transport) -> SocketAddr {
        let ip: IpAddr = match self.public {
            Some(ip) => ip,
            None if !self.bound.ip().is_unspecified() => self.bound.ip(),
            None => super::gate::local_ip_for(peer).unwrap_or(self.local.ip()),
        };
        SocketAddr::new(ip, self.ports.of(transport).unwrap_or(self.bound.port()))
    }
}

/// Ports beside that of UDP and TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub tls: Option<u16>,
    pub ws: Option<u16>,
    pub wss: Option<u16>,
}

impl Ports {
    /// Where we listen for a transport; where we do not, nobody can call back but on the connection itself.
    fn of(self, transport: Transport) -> Option<u16> {
        match transport {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls => self.tls,
            Transport::Ws => self.ws,
            Transport::Wss => self.wss,
        }
    }
}

/// Bytes to send back at once.
pub(super) struct Answer {
    pub bytes: Vec<u8>,
    pub close: bool,
}

impl Hub {
    /// Takes one message from a socket through the gate to the SIP library; returns what to answer at once.
    pub async fn received(self: &Arc<Self>, data: &[u8], source: SocketAddr, flow: Option<&Flow>) -> Option<Answer> {
        let gate = self.gate.clone();
        let transport = flow.map_or(Transport::Udp, |f| f.transport);
        let judged = catch_unwind(AssertUnwindSafe(|| gate.inspect(data, source, transport, now(), rand::random())));
        let why = judged.as_ref().ok().and_then(Outcome::why);
        gate.tracer.heard(transport, source, data, why);
        let (bytes, call) = match judged {
            Ok(Outcome::Pass { bytes, call }) => (bytes, call),
            Ok(Outcome::Reply { bytes, close, event, .. }) => {
                if let Some(event) = event {
                    self.tell_or_lose(*event);
                }
                gate.tracer.sent(Some(transport), Some(source), || bytes.clone());
                return Some(Answer { bytes, close });
            }
            Ok(Outcome::Drop { close, .. }) => return close.then_some(Answer { bytes: Vec::new(), close }),
            Err(_) => {
                bump(&self.gate.counters.panics);
                return None;
            }
        };
        if self.deliver(&bytes, source, flow).await {
            return None;
        }
        if let Some(call) = call {
            self.gate.calls(|c| c.end(call, now()));
        }
        let bytes = gate.refuse_bytes(data, source, now())?;
        gate.tracer.sent(Some(transport), Some(source), || bytes.clone());
        Some(Answer { bytes, close: false })
    }

    /// Gives canonical bytes to the library; false when it will not have them.
    async fn deliver(&self, bytes: &[u8], source: SocketAddr, flow: Option<&Flow>) -> bool {
        let Ok(Ok(message)) = catch_unwind(AssertUnwindSafe(|| SipMessage::try_from(bytes))) else {
            return false;
        };
        let (connection, transport) = match flow {
            Some(flow) => (flow.library.clone(), flow.transport),
            None => (SipConnection::Udp(self.udp.clone()), Transport::Udp),
        };
        let from = SipAddr { r#type: Some(transport.library()), addr: source.into() };
        match guarded(self.endpoint.on_received_message(message, connection, &from)).await {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::debug!(%error, "the SIP library refused a message");
                false
            }
            None => {
                bump(&self.gate.counters.panics);
                false
            }
        }
    }

    /// Counts a request that is refused with a status; `why` where the status alone does not tell.
    pub fn count_refusal(&self, code: u16, why: Option<RefusedFor>, source: Option<IpAddr>, method: &str) {
        if let (Some(why), Some(source)) = (why.or(RefusedFor::of_status(code)), source) {
            self.gate.counters.refused.note(why, source, &format!("{method} answered {code}"), now());
        }
    }

    /// Sends an event, waiting for room; a closed receiver is nobody's loss.
    pub async fn tell(&self, event: SipEvent) {
        tokio::select! {
            () = self.token.cancelled() => {
                self.events.try_send(event).ok();
            }
            _ = self.events.send(event.clone()) => {}
        }
    }

    /// Sends an event if there is room.
    pub fn tell_or_lose(&self, event: SipEvent) {
        if self.events.try_send(event).is_err() {
            bump(&self.gate.counters.events_lost);
        }
    }

    /// Runs `f` on a live dialog's entry.
    pub fn entry<R>(&self, id: DialogId, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        lock(&self.entries).get_mut(&id).map(f)
    }

    /// Marks a dialog as over; true the first time. Its line is free from now on.
    pub fn close(&self, id: DialogId) -> bool {
        let first = self.entry(id, |e| !std::mem::replace(&mut e.over, true)).unwrap_or(false);
        if first {
            self.gate.calls(|c| c.end(id, now()));
        }
        first
    }

    /// Ends a dialog on our side: the last event goes out now, whatever the other side still says.
    pub async fn finish(&self, id: DialogId, why: EndWhy) {
        if self.close(id) {
            self.tell(SipEvent::Ended { dialog: id, why }).await;
        }
    }

    /// Forgets a dialog altogether, here and in the library.
    pub fn forget(&self, id: DialogId) {
        self.close(id);
        let entry = lock(&self.entries).remove(&id);
        if let Some(entry) = entry {
            self.layer.remove_dialog(&entry.dialog.id());
            let waits = |i: &Invite| self.endpoint.transactions.get(&i.key).is_some();
            if let Some(invite) = entry.invite.filter(waits) {
                lock(&self.lingering).push_back((now() + self.linger(), invite));
            }
        }
    }

    /// How long a transaction may still want something after its dialog: a little more than the library's own
    /// 64*T1. An answer that could not be sent (a closed connection) leaves one without any timer.
    pub fn linger(&self) -> Duration {
        self.gate.settings.t1 * 66
    }

    /// Ends transactions that lingered long enough.
    pub fn end_lingering(&self) {
        let now = now();
        let mut lingering = lock(&self.lingering);
        while let Some((_, invite)) = lingering.pop_front_if(|(due, _)| *due <= now) {
            invite.end();
        }
    }

    /// Our address for a transport as `peer` should see it.
    pub fn address_by(&self, peer: SocketAddr, transport: Transport) -> SocketAddr {
        self.addresses.seen_by(peer, transport)
    }

    /// Our address as `peer` should see it.
    pub fn address_for(&self, peer: SocketAddr) -> SocketAddr {
        self.addresses.seen_by(peer, Transport::Udp)
    }
}

/// Runs a future of the library; `None` if it panicked.
pub(super) async fn guarded<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}
