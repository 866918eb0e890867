//! OPTIONS to registered phones: keeps the way through address translation open, and tells a phone that is there from one
//! that only has not expired yet. Over UDP; a phone on TCP keeps its own connection (RFC 5626 section 3.5.1).

use super::hub::Hub;
use super::registrar::Contact;
use super::time::now;
use super::udp::as_bound;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;

/// Ends the Call-ID of every probe; what stands before it cannot be guessed.
const OURS: &str = "@alive.zongji";

/// Whether a response belongs to a probe.
pub(super) fn is_probe(call_id: &str) -> bool {
    call_id.ends_with(OURS)
}

fn call_id() -> String {
    format!("{:032x}{OURS}", rand::random::<u128>())
}

/// An OPTIONS outside any dialog (RFC 3261 section 11.1). No transaction stands behind it: one that is lost is asked
/// again next time.
fn options(contact: &Contact, call_id: &str, local: SocketAddr, agent: &str) -> String {
    let (target, tag) = (contact.target(), &call_id[..12]);
    format!(
        "OPTIONS {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{tag};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:zongji@{local}>;tag={tag}\r\nTo: <{target}>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:zongji@{local}>\r\nAccept: application/sdp\r\nUser-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Asks every phone again and again until the agent stops.
pub(super) async fn serve(hub: Arc<Hub>, socket: Arc<UdpSocket>) {
    let mut tick = tokio::time::interval(hub.gate.settings.keep_alive);
    tick.tick().await; // the first one is due at once
    loop {
        tokio::select! {
            () = hub.token.cancelled() => return,
            _ = tick.tick() => {}
        }
        let round = hub.gate.probe(now(), call_id);
        for (user, contacts) in round.lost {
            hub.tell_or_lose(super::SipEvent::Registered { user, contacts });
        }
        for (contact, call_id) in round.ask {
            let local = hub.address_for(contact.source);
            let message = options(&contact, &call_id, local, &hub.gate.settings.user_agent);
            let _asked_again_next_time = socket.send_to(message.as_bytes(), as_bound(&socket, contact.source)).await;
        }
    }
}
