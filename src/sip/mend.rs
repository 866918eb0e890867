//! What the SIP library writes otherwise than others expect it, set right on its way out, and what it reads by itself.

use super::gate::{Gate, Outcome};
use super::hub::Addresses;
use super::time::now;
use super::transport::Transport;
use rsipstack::sip::{Header, HeadersExt, Method, Param, Request, Response, SipMessage, ToTypedHeader};
use rsipstack::transaction::endpoint::{MessageInspector, TransportEventInspector};
use rsipstack::transport::{SipAddr, TransportEvent};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Mends what the library writes.
pub(super) struct Mend(pub Arc<Gate>, pub Addresses);

impl Mend {
    /// One To-tag for all answers of a call that was cancelled (RFC 3261 section 9.2): the library makes up another.
    fn tag(&self, response: &mut Response) -> Option<()> {
        let cseq = response.cseq_header().ok()?;
        let (number, method) = (cseq.seq().ok()?, cseq.method().ok()?);
        if method != Method::Cancel && !(method == Method::Invite && response.status_code.code() == 487) {
            return None;
        }
        let call_id = response.call_id_header().ok()?.value().to_string();
        let from = response.from_header().ok()?.tag().ok()??.value().to_string();
        let tag = self.0.calls(|c| c.tag_of(&call_id, &from, number))?;
        response.to_header_mut().ok()?.mut_tag(tag.as_str().into()).ok()?;
        Some(())
    }
}

impl Mend {
    /// Our address in the top Via, as the other side should see it: the library writes the same one to everybody.
    fn via(&self, request: &mut Request, to: Option<&SipAddr>) -> Option<()> {
        let peer = to?.get_socketaddr().ok()?;
        let via = request.via_header_mut().ok()?;
        let typed = via.first_value().ok()?.typed().ok()?;
        let at = self.1.seen_by(peer, Transport::from_library(typed.transport)?);
        if SocketAddr::try_from(typed.uri.host_with_port.clone()).ok() != Some(at) {
            let old = typed.uri.host_with_port.to_string();
            via.0 = via.0.replacen(&old, &at.to_string(), 1);
        }
        Some(())
    }
}

/// A Contact of ours as others expect it: the library writes transports in capitals.
fn plain(contact: &str) -> String {
    let Some(at) = contact.find(";transport=") else { return contact.to_string() };
    let (before, value) = contact.split_at(at + ";transport=".len());
    let end = value.find([';', '>', '?']).unwrap_or(value.len());
    let transport = value[..end].to_ascii_lowercase();
    let transport = if transport == Transport::Wss.name() { Transport::Ws.name() } else { &transport };
    format!("{before}{transport}{}", &value[end..])
}

/// Both kinds of WebSocket are `ws` in a URI (RFC 7118 section 5.2.1).
fn web(params: &mut [Param]) {
    for param in params {
        if *param == Param::Transport(Transport::Wss.library()) {
            *param = Param::Transport(Transport::Ws.library());
        }
    }
}

impl Mend {
    /// The number of a request inside a dialog: the library does not know of the PRACKs between.
    fn number(&self, request: &mut Request) -> Option<()> {
        if matches!(request.method, Method::Ack | Method::PRack | Method::Cancel) {
            return None;
        }
        request.to_header().ok()?.tag().ok()??;
        let call_id = request.call_id_header().ok()?.value();
        let from = request.from_header().ok()?.tag().ok()??;
        let number = request.cseq_header().ok()?.seq().ok()?;
        let number = self.0.calls(|c| c.on_the_wire(call_id, from.value(), number))?;
        request.cseq_header_mut().ok()?.mut_seq(number).ok().map(|_| ())
    }

    /// Notes that an INVITE goes out.
    fn inviting(&self, request: &Request) -> Option<()> {
        if request.method != Method::Invite {
            return None;
        }
        let call_id = request.call_id_header().ok()?.value();
        let from = request.from_header().ok()?.tag().ok()??;
        let branch = request.via_header().ok()?.typed().ok()?.branch()?.value().to_string();
        let first = request.to_header().ok()?.tag().ok()?.is_none();
        self.0.calls(|c| c.inviting(call_id, from.value(), &branch, first));
        Some(())
    }

    /// The ACK of a 2xx goes to the Contact as it was written (the library escapes an escaped user again), with the
    /// number that its INVITE had on the wire.
    fn ack(&self, request: &mut Request) -> Option<()> {
        if request.method != Method::Ack {
            return None;
        }
        let call_id = request.call_id_header().ok()?.value();
        let to = request.to_header().ok()?.tag().ok()??;
        let from = request.from_header().ok()?.tag().ok()??;
        let branch = request.via_header().ok()?.typed().ok()?.branch()?.value().to_string();
        let number = request.cseq_header().ok()?.seq().ok()?;
        let mended = self.0.calls(|c| c.mend_ack(call_id, (from.value(), to.value()), &branch, number))?;
        if let Some(target) = mended.target {
            request.uri = super::uri::for_library(target.as_str().try_into().ok()?);
        }
        request.cseq_header_mut().ok()?.mut_seq(mended.number).ok().map(|_| ())
    }
}

/// By what an answer goes out, as its Via says.
fn answered_by(message: &SipMessage) -> Option<Transport> {
    let SipMessage::Response(response) = message else { return None };
    let via = response.via_header().ok()?.value();
    Transport::from_name(via.strip_prefix("SIP/2.0/")?.split(' ').next()?)
}

impl MessageInspector for Mend {
    fn before_send(&self, mut message: SipMessage, to: Option<&SipAddr>) -> SipMessage {
        if let SipMessage::Request(request) = &mut message {
            self.via(request, to);
            web(&mut request.uri.params);
            self.inviting(request);
            self.number(request);
            self.ack(request);
            for header in request.headers.iter_mut() {
                match header {
                    Header::Authorization(h) => h.0 = mend_authorization(&h.0),
                    Header::ProxyAuthorization(h) => h.0 = mend_authorization(&h.0),
                    _ => {}
                }
            }
        }
        if let SipMessage::Response(response) = &mut message {
            self.tag(response);
        }
        let headers = match &mut message {
            SipMessage::Request(request) => &mut request.headers,
            SipMessage::Response(response) => &mut response.headers,
        };
        for header in headers.iter_mut() {
            if let Header::Contact(contact) = header {
                contact.0 = plain(&contact.0);
            }
        }
        // What is not known here (an answer goes to its Via) is read from the message itself.
        let at = to.and_then(|a| SocketAddr::try_from(a.addr.clone()).ok());
        let transport = to.and_then(|a| Transport::from_library(a.r#type?));
        // Datagrams are tapped at their socket, where they are bytes already.
        if transport.or_else(|| answered_by(&message)) != Some(Transport::Udp) {
            self.0.tracer.sent(transport, at, || message.to_bytes().to_vec());
        }
        message
    }

    fn after_received(&self, message: SipMessage, _: Option<&SipAddr>) -> SipMessage {
        message
    }
}

/// qop is a bare token in an answer (RFC 3261 section 25.1), and RFC 8760 writes SHA-256 with a hyphen; strict
/// registrars insist on both.
fn mend_authorization(value: &str) -> String {
    value.replace("qop=\"auth\"", "qop=auth").replace("algorithm=SHA256", "algorithm=SHA-256")
}

/// Connections the library opens by itself (a dialog whose own one broke) are read by it, not by our listeners: what
/// they bring goes through the gate all the same, and only what belongs to a call of ours gets further.
pub(super) struct Strays(pub Arc<Gate>);

impl Strays {
    fn judged(&self, bytes: &[u8], source: SocketAddr, transport: Transport) -> Option<Outcome> {
        let ours = super::wire::Wire::parse(bytes)
            .is_ok_and(|wire| self.0.calls(|c| c.knows(wire.get("call-id").unwrap_or_default())));
        let judge = || self.0.inspect(bytes, source, transport, now(), rand::random());
        let outcome = ours.then(|| catch_unwind(AssertUnwindSafe(judge)).ok()).flatten()?;
        self.0.tracer.heard(transport, source, bytes, outcome.why());
        Some(outcome)
    }
}

#[async_trait::async_trait]
impl TransportEventInspector for Strays {
    async fn handle(&self, event: TransportEvent) -> Option<TransportEvent> {
        let TransportEvent::Incoming(message, connection, from) = event else { return Some(event) };
        let source = from.get_socketaddr().ok()?;
        let transport = from.r#type.and_then(Transport::from_library).unwrap_or(Transport::Tcp);
        match self.judged(&message.to_bytes(), source, transport)? {
            Outcome::Pass { bytes, .. } => {
                let message = catch_unwind(|| SipMessage::try_from(&bytes[..])).ok()?.ok()?;
                Some(TransportEvent::Incoming(message, connection, from))
            }
            Outcome::Reply { bytes, .. } => {
                let answer = SipMessage::try_from(&bytes[..]).ok()?;
                if let Err(error) = connection.send(answer, Some(&from)).await {
                    tracing::debug!(%error, "a message on a connection of the library's could not be refused");
                }
                None
            }
            Outcome::Drop { .. } => None,
        }
    }
}
