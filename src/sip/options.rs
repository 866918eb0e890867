//! OPTIONS to others (RFC 3261 section 11): is this server there, and does it take calls?

use super::agent::SipAgent;
use super::arriving::contact;
use super::asking::{ask_outside, names, status};
use super::calls::Kind;
use super::compose::Content;
use super::dialog::Dialog;
use super::event::SipError;
use super::hub::Hub;
use super::locate::Found;
use super::sockets::{self, Way};
use super::time::now;
use super::transport::{Hop, Transport};
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
    let me = contact(hub, "zongji", way.peer, way.transport);
    let hop = Hop { transport: way.transport, at: way.peer };
    let mut dialog = Dialog::begin(names(), &me, &format!("<{to}>"), to.to_string(), me.clone(), hop);
    let _known = Known(hub, hub.gate.calls(|c| c.add(&dialog.call_id, Kind::Register, None)));
    let content = Content::default().with("Accept", "application/sdp");
    let limit = hub.gate.settings.t1 * 70;
    ask_outside(hub, &mut dialog, "OPTIONS", content, None, limit).await.map(|answer| status(&answer))
}
