//! OPTIONS to others (RFC 3261 section 11): is this server there, and does it take calls?

use super::agent::SipAgent;
use super::calls::Kind;
use super::event::SipError;
use super::hub::Hub;
use super::locate::Found;
use super::sockets::{self, Way};
use super::time::now;
use super::transport::Transport;
use super::uri::for_library;
use rsipstack::sip::typed::{From, To};
use rsipstack::sip::{Header, Method, SipMessage, Uri};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

impl SipAgent {
    /// Asks `to` (`sip:host`, `sip:host:port;transport=tls`) whether it is there; the status of its answer.
    ///
    /// # Errors
    /// An address that cannot be read, found or connected to; [`SipError::Timeout`] without an answer within `limit`.
    pub async fn options(&self, to: &str, limit: Duration) -> Result<u16, SipError> {
        self.options_at(to, None, limit).await
    }

    /// The same to one server of several that `to` has.
    ///
    /// # Errors
    /// As [`SipAgent::options`].
    pub async fn options_at(
        &self,
        to: &str,
        at: Option<(SocketAddr, Transport)>,
        limit: Duration,
    ) -> Result<u16, SipError> {
        let asking = async {
            let (peer, transport) = at.unzip();
            let way = sockets::resolve(&self.hub().gate.settings.names, to, peer, transport).await?;
            super::register::connected(self.hub(), &way).await?;
            ask(self.hub(), to, &way).await
        };
        tokio::time::timeout(limit, asking).await.unwrap_or(Err(SipError::Timeout))
    }

    /// Every server of `to` (RFC 3263): NAPTR and SRV for a name without a port, else its addresses. Empty when the name
    /// is not found.
    ///
    /// # Errors
    /// An address that cannot be read.
    pub async fn servers_of(&self, to: &str) -> Result<Vec<Found>, SipError> {
        sockets::servers_of(&self.hub().gate.settings.names, to).await
    }

    /// Where messages for `to` go: its first server by SRV for a name without a port, else its address.
    pub async fn server_of(&self, to: &str) -> Result<(SocketAddr, Transport), SipError> {
        sockets::resolve(&self.hub().gate.settings.names, to, None, None).await.map(|way| (way.peer, way.transport))
    }
}

/// Takes the Call-ID off the list when the question is answered or given up.
struct Known<'h>(&'h Hub, super::DialogId);

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.0.gate.calls(|c| c.end(self.1, now()));
    }
}

async fn ask(hub: &Arc<Hub>, to: &str, way: &Way) -> Result<u16, SipError> {
    let bad = || SipError::BadAddress(to.to_string(), "not a SIP address");
    let target: Uri = to.try_into().map(for_library).map_err(|_| bad())?;
    let at = hub.address_by(way.peer, way.transport);
    let me: Uri = format!("sip:zongji@{at}{}", way.transport.param()).as_str().try_into().map_err(|_| bad())?;
    let destination = SipAddr { r#type: Some(way.transport.library()), addr: way.peer.into() };
    let stack = |e: rsipstack::Error| SipError::Stack(e.to_string());
    let via =
        hub.endpoint.get_via(Some(SipAddr { r#type: destination.r#type, addr: at.into() }), None).map_err(stack)?;
    let from = From { display_name: None, uri: me.clone(), params: vec![] }
        .with_tag(format!("{:016x}", rand::random::<u64>()).into());
    let to = To { display_name: None, uri: target.clone(), params: vec![] };
    let call_id = format!("{:032x}@zongji", rand::random::<u128>());
    let known = Known(hub, hub.gate.calls(|c| c.add(&call_id, Kind::Register, None)));
    let mut request = hub.endpoint.make_request(Method::Options, target, via, from, to, 1, Some(call_id.into()));
    request.headers.push(Header::Contact(format!("<{me}>").into()));
    request.headers.push(Header::Accept("application/sdp".into()));
    let key = TransactionKey::from_request(&request, TransactionRole::Client).map_err(stack)?;
    let mut tx = Transaction::new_client(key, request, hub.endpoint.clone(), None);
    tx.destination = Some(destination);
    tx.send().await.map_err(stack)?;
    while let Some(message) = tx.receive().await {
        if let SipMessage::Response(response) = message
            && response.status_code.code() >= 200
        {
            drop(known);
            return Ok(response.status_code.code());
        }
    }
    Err(SipError::Timeout)
}
