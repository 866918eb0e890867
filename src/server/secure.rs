//! Legs over DTLS-SRTP at the switchboard, browsers' and phones': which legs are some, where they are reached, and what
//! their descriptions agree on. All others are left to `line`.

use super::line::{Agreed, accepted, answer_to, negotiate_caller as negotiate_caller_plainly};
use super::ports::MediaSockets;
use super::stun;
use super::switchboard::{Located, Switchboard, local_address};
use crate::browser::{self, Negotiator};
use crate::ids::Leg;
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
        let over_dtls = match body {
            Some(body) => sdp::parse(body.as_bytes()).is_ok_and(|d| browser::is_over_dtls(&d)),
            None => is_web,
        };
        over_dtls.then(|| self.side(caps, towards)).flatten()
    }

    /// The side of a leg over DTLS-SRTP, if this program can have any: reached at the address its descriptions say, and at
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

    /// What has to be asked before a leg is described: nothing without a STUN server, or where no address is named.
    pub(super) fn ask_where(&self, side: Option<&Negotiator>, sockets: &MediaSockets) -> Option<AskWhere> {
        let server = self.p.settings.stun.as_deref().filter(|_| side.is_some_and(Negotiator::does_ice))?;
        AskWhere::new(&sockets.rtp, server)
    }

    /// A STUN server told where it sees a leg, or did not in time: later descriptions say so, and a caller's call begins.
    pub(super) fn located(&mut self, Located { call, leg, mapped, route, picked }: Located) {
        let Some(line) = self.lines.get_mut(&call) else {
            // The call went while its socket was asked about.
            return self.rest(picked.map(super::transfers::PickedUp::into_sockets));
        };
        let side = match leg {
            Leg::Caller => line.side.as_mut(),
            Leg::Seat => line.seat.as_mut().and_then(|s| s.side.as_mut()),
            Leg::Supervisor => line.supervisor.as_mut().and_then(|s| s.side.as_mut()),
        };
        if let (Some(side), Some(at)) = (side, mapped) {
            side.mapped(at);
        }
        if leg != Leg::Caller {
            if let Some(dialog) = picked.and_then(|p| self.pick_up(call, p)) {
                self.end_dialog(dialog);
            }
            return;
        }
        if let Some(at) = mapped {
            line.answer = browser::with_mapped(&line.answer, at);
        }
        if let Some((sockets, plan, signalling)) = self.waiting.remove(&call) {
            self.begin_call(call, route, sockets, plan, signalling);
        }
    }
}

/// Where a leg's sound goes by its description; one over DTLS-SRTP finds its way itself.
pub(super) fn place(plan: &MediaPlan) -> Option<SocketAddr> {
    Some(plan.remote).filter(|place| *place != browser::THROUGH)
}

/// Longest wait for a STUN server: a call or a dialling may take so much longer.
const STUN_PATIENCE: Duration = Duration::from_millis(800);

/// A question to be asked from a leg's socket before it is described: where does a STUN server see it?
pub(super) struct AskWhere {
    socket: std::net::UdpSocket,
    server: String,
}

impl AskWhere {
    /// None when the socket cannot be shared.
    pub fn new(socket: &std::net::UdpSocket, server: &str) -> Option<AskWhere> {
        Some(AskWhere { socket: socket.try_clone().ok()?, server: server.to_owned() })
    }

    /// The address, if the server tells one in time. Whatever else comes by then is dropped: the peer does not know the
    /// socket yet.
    pub async fn mapped(self) -> Option<SocketAddr> {
        let mapped = tokio::time::timeout(STUN_PATIENCE, self.ask()).await.ok().flatten();
        if mapped.is_none() {
            tracing::warn!("the STUN server {} does not answer ([rtp] stun)", self.server);
        }
        mapped
    }

    /// The same, and the description with it.
    pub async fn add_to(self, described: String) -> (String, Option<SocketAddr>) {
        let mapped = self.mapped().await;
        (mapped.map_or_else(|| described.clone(), |at| browser::with_mapped(&described, at)), mapped)
    }

    async fn ask(&self) -> Option<SocketAddr> {
        let own = self.socket.local_addr().ok()?;
        let mut servers = tokio::net::lookup_host(&self.server).await.ok()?;
        let server = servers.find(|s| s.is_ipv4() == own.is_ipv4())?;
        let socket = tokio::net::UdpSocket::from_std(self.socket.try_clone().ok()?).ok()?;
        Some(stun::ask(&socket, server).await.ok()?.mapped)
    }
}

/// Our offer, over DTLS-SRTP where the leg is.
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
        tracing::warn!("a DTLS-SRTP offer was refused: {e}");
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
    let refused = |e| tracing::warn!("an answer over DTLS-SRTP is unusable: {e}");
    let (plan, agreed) = side.accept(offer, &answer).map_err(refused).ok()?;
    Some((plan, Some(Box::new(agreed))))
}
