//! Where a leg's datagrams go to and may come from: as ICE found out, or, with a phone that does no ICE, as its description
//! says.

use super::Dropped;
use super::description::Agreed;
use super::ice::Agent;
use super::identity::Identity;
use crate::clock::Mono;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The way to the peer of one leg.
pub(super) enum Path {
    /// ICE checks it.
    Checked(Box<Agent>),
    /// The description names it.
    Described(Described),
}

/// An address without proof of its own: DTLS proves who is there (RFC 5763). Only the described host and the one that the
/// signalling comes from are listened to, so a stranger elsewhere can begin no handshake. The address may be translated on
/// the way: until there are keys it follows who says hello, and from then on what is authentic.
#[derive(Debug)]
pub(super) struct Described {
    /// As the peer said last, and where it is by all we know.
    said: SocketAddr,
    place: SocketAddr,
    hosts: [Option<IpAddr>; 2],
    moves: u32,
}

impl Path {
    /// As agreed.
    pub fn new(identity: Arc<Identity>, agreed: &Agreed, now: Mono) -> Path {
        match agreed.described {
            Some(place) => {
                let hosts = [Some(place.ip()), agreed.signalling];
                Path::Described(Described { said: place, place, hosts, moves: 0 })
            }
            None => {
                let agent = Agent::new(identity, agreed.role, agreed.both.clone(), &agreed.remotes, now);
                Path::Checked(Box::new(agent))
            }
        }
    }

    /// A new agreement within the call.
    pub fn agree(&mut self, identity: &Arc<Identity>, agreed: &Agreed, now: Mono) {
        match (&mut *self, agreed.described) {
            (Path::Checked(agent), None) if agreed.restarted => {
                agent.restart(agreed.both.clone(), agreed.role, &agreed.remotes, now);
            }
            (Path::Checked(agent), None) => agent.add(&agreed.remotes, now),
            // The old way of holding a call names no address (RFC 3264, 8.4): it stays where it was.
            (Path::Described(_), Some(place)) if place.ip().is_unspecified() => {}
            // What was learnt of the way to it holds as long as it does not say that it has moved.
            (Path::Described(path), Some(place)) if path.said == place => {}
            _ => *self = Path::new(identity.clone(), agreed, now),
        }
    }

    /// The address in use, whether or not anything may be sent there.
    pub fn selected(&self) -> Option<SocketAddr> {
        match self {
            Path::Checked(agent) => agent.selected(),
            Path::Described(path) => Some(path.place),
        }
    }

    /// How often that address changed after the first.
    pub fn moves(&self) -> u32 {
        match self {
            Path::Checked(agent) => agent.moves(),
            Path::Described(path) => path.moves,
        }
    }

    /// Where to send at `now`.
    pub fn destination(&self, now: Mono) -> Option<SocketAddr> {
        match self {
            Path::Checked(agent) => agent.destination(now),
            Path::Described(path) => Some(path.place).filter(|p| !p.ip().is_unspecified() && p.port() != 0),
        }
    }

    /// Where what proves the peer's certificate may go, while no address is agreed on.
    pub fn answering(&self) -> Option<SocketAddr> {
        match self {
            Path::Checked(agent) => agent.answering(),
            Path::Described(_) => None,
        }
    }

    /// Whether DTLS and media from there are looked at.
    pub fn admits(&self, from: SocketAddr) -> bool {
        match self {
            Path::Checked(agent) => agent.admits(from),
            Path::Described(path) => path.hosts.contains(&Some(from.ip())),
        }
    }

    /// Whether a handshake may go on from there that began where the peer is now.
    pub fn goes_on(&self, from: SocketAddr) -> bool {
        match self {
            Path::Checked(_) => true,
            Path::Described(path) => path.place == from,
        }
    }

    /// Takes a STUN message. A peer without ICE has no password that could prove one.
    pub fn receive(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Result<(), Dropped> {
        match self {
            Path::Checked(agent) => agent.receive(now, from, datagram),
            Path::Described(_) => Err(Dropped::Unproven),
        }
    }

    /// Whether it proved to be the peer's by ICE: it knows a password of the descriptions.
    pub fn is_proven(&self, to: SocketAddr) -> bool {
        match self {
            Path::Checked(agent) => agent.admits(to),
            Path::Described(_) => false,
        }
    }

    /// What was not sent there before the call was confirmed is sent now.
    pub fn confirmed(&mut self, now: Mono) {
        if let Path::Checked(agent) = self {
            agent.begin_again(now);
        }
    }

    /// The peer, whose keys are not known yet, begins its handshake from there.
    pub fn greeted(&mut self, from: SocketAddr) {
        if let Path::Described(path) = self {
            path.place = from;
        }
    }

    /// Authentic media came from there.
    pub fn media(&mut self, now: Mono, from: SocketAddr) {
        match self {
            Path::Checked(agent) => agent.media(now, from),
            Path::Described(path) if path.place != from => (path.place, path.moves) = (from, path.moves + 1),
            Path::Described(_) => {}
        }
    }

    /// What is due at `now`.
    pub fn timeout(&mut self, now: Mono) {
        if let Path::Checked(agent) = self {
            agent.timeout(now);
        }
    }

    /// The next datagram of its own, and where it goes.
    pub fn poll(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        match self {
            Path::Checked(agent) => agent.poll(),
            Path::Described(_) => None,
        }
    }
}
