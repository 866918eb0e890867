//! Legs of browsers at the switchboard: which legs are some, and what their descriptions agree on. All others are left to
//! `line`.

use super::line::{Agreed, accepted, answer_to, negotiate_caller as negotiate_caller_plainly};
use super::stun;
use super::switchboard::{Switchboard, local_address};
use crate::browser::{self, Negotiator};
use crate::sdp::{self, Capabilities, MediaPlan, Session as Sdp};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a leg's transport needs to know beside its plan; nothing for plain RTP.
pub(super) type Secured = Option<Box<browser::Agreed>>;

impl Switchboard {
    /// The side of a leg that came with this description, or over a browser's transport without one.
    pub(super) fn side_of_caller(
        &self,
        body: Option<&str>,
        is_web: bool,
        caps: &Capabilities,
        towards: IpAddr,
    ) -> Option<Negotiator> {
        let browsers = match body {
            Some(body) => sdp::parse(body.as_bytes()).is_ok_and(|d| browser::is_browsers(&d)),
            None => is_web,
        };
        browsers.then(|| self.side(caps, towards)).flatten()
    }

    /// The side of a leg to a browser, if this program can have any: reached at the address its descriptions say, and at
    /// that of its socket where the two differ.
    pub(super) fn side(&self, caps: &Capabilities, towards: IpAddr) -> Option<Negotiator> {
        let own = match self.p.settings.rtp_bind {
            bound if !bound.is_unspecified() => bound,
            _ => local_address(towards),
        };
        let mut addresses = vec![SocketAddr::new(caps.addr, caps.port)];
        if own != caps.addr {
            addresses.push(SocketAddr::new(own, caps.port));
        }
        self.p.identity.as_ref().map(|identity| Negotiator::new(identity, addresses).signalled_from(towards))
    }
}

/// Where a leg's sound goes by its description; a browser's says nothing of it.
pub(super) fn place(plan: &MediaPlan) -> Option<SocketAddr> {
    Some(plan.remote).filter(|place| *place != browser::THROUGH)
}

/// Longest wait for a STUN server, of which a dialling may take so much longer.
const STUN_PATIENCE: Duration = Duration::from_millis(800);

/// A question to be asked from a leg's socket before its offer goes out: where does a STUN server see it?
pub(super) struct AskWhere {
    socket: std::net::UdpSocket,
    server: String,
}

impl AskWhere {
    /// None when the socket cannot be shared.
    pub fn new(socket: &std::net::UdpSocket, server: &str) -> Option<AskWhere> {
        Some(AskWhere { socket: socket.try_clone().ok()?, server: server.to_owned() })
    }

    /// The offer with the address added, if the server told one in time. Whatever else comes by then is dropped: the
    /// peer does not know the socket yet.
    pub async fn add_to(self, offer: String) -> String {
        match tokio::time::timeout(STUN_PATIENCE, self.ask()).await {
            Ok(Some(mapped)) => browser::with_mapped(&offer, mapped),
            Ok(None) | Err(_) => {
                tracing::warn!("the STUN server {} does not answer ([rtp] stun)", self.server);
                offer
            }
        }
    }

    async fn ask(&self) -> Option<SocketAddr> {
        let own = self.socket.local_addr().ok()?;
        let mut servers = tokio::net::lookup_host(&self.server).await.ok()?;
        let server = servers.find(|s| s.is_ipv4() == own.is_ipv4())?;
        let socket = tokio::net::UdpSocket::from_std(self.socket.try_clone().ok()?).ok()?;
        Some(stun::ask(&socket, server).await.ok()?.mapped)
    }
}

/// Our offer, made one to a browser where the leg is one's.
pub(super) fn offer(side: Option<&Negotiator>, offer: Sdp) -> Sdp {
    match side {
        Some(side) => side.offer(offer),
        None => offer,
    }
}

/// The answer to a caller's offer, or an offer of ours; else the status that refuses it.
pub(super) fn negotiate_caller(
    side: &mut Option<Negotiator>,
    caps: &mut Capabilities,
    body: Option<&str>,
) -> Result<(Agreed, Secured), u16> {
    let Some(own) = side else { return negotiate_caller_plainly(caps, body).map(|agreed| (agreed, None)) };
    let Some(body) = body else {
        let offer = own.offer(sdp::offer(caps));
        return Ok((Agreed { answer: offer.to_string(), plan: None, our_offer: Some(offer) }, None));
    };
    let (answer, plan, secured) = answer_leg(side, caps, body)?;
    Ok((Agreed { answer, plan: Some(plan), our_offer: None }, secured))
}

/// Our answer to an offer, or the status that refuses it.
pub(super) fn answer_leg(
    side: &mut Option<Negotiator>,
    caps: &mut Capabilities,
    body: &str,
) -> Result<(String, MediaPlan, Secured), u16> {
    let Some(side) = side else {
        let (answer, plan) = answer_to(caps, body)?;
        return Ok((answer, plan, None));
    };
    let offer = sdp::parse(body.as_bytes()).map_err(|_| 400u16)?;
    let (answer, plan, agreed) = side.answer(&offer, caps).map_err(|e| {
        tracing::warn!("a browser's offer was refused: {e}");
        488u16
    })?;
    Ok((answer.to_string(), plan, Some(Box::new(agreed))))
}

/// What an answer to our offer agrees on, if anything.
pub(super) fn accept_leg(
    side: &mut Option<Negotiator>,
    offer: &Sdp,
    body: Option<&str>,
) -> Option<(MediaPlan, Secured)> {
    let Some(side) = side else { return accepted(offer, body).map(|plan| (plan, None)) };
    let answer = sdp::parse(body?.as_bytes()).ok()?;
    let refused = |e| tracing::warn!("a browser's answer is unusable: {e}");
    let (plan, agreed) = side.accept(offer, &answer).map_err(refused).ok()?;
    Some((plan, Some(Box::new(agreed))))
}
