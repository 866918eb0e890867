//! Between a leg's socket and its RTP: what comes is told apart (RFC 7983), proved and decrypted; what goes is encrypted
//! and sent to the pair in use.

use super::description::Agreed;
use super::dtls::{Dtls, is_hello};
use super::identity::Identity;
use super::path::Path;
use super::srtp::Srtp;
use super::{Arrived, Dropped, TransportStats};
use crate::clock::Mono;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The transport of one leg.
///
/// Hand every datagram of the leg's socket to [`Transport::receive`], call [`Transport::timeout`] once per 20 ms, and after
/// either send what [`Transport::poll`] gives. What the leg's RTP writes goes through [`Transport::seal`].
///
/// A description may name anybody's address. Until [`Transport::confirm`] nothing goes to a host other than the one that the
/// signalling comes from, except to who proved by ICE to have read our description.
pub struct Transport {
    identity: Arc<Identity>,
    path: Path,
    /// Whoever is described may be sent to.
    confirmed: bool,
    signalling: Option<IpAddr>,
    dtls: Dtls,
    /// What the association belongs to: another fingerprint or role is another association (RFC 8842, 4).
    peer: (Vec<String>, bool),
    /// DTLS that waits for an address.
    waiting: VecDeque<BytesMut>,
    srtp: Option<Srtp>,
    dropped: [u64; Dropped::ALL.len()],
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({:?}, {:?}, {:?})", self.path.selected(), self.dtls, self.srtp)
    }
}

impl Transport {
    /// As agreed. None when the system gives no cipher, which it did for the certificate.
    pub fn new(agreed: Agreed, now: Mono) -> Option<Transport> {
        let path = Path::new(agreed.identity.clone(), &agreed, now);
        let Agreed { identity, is_client, fingerprints, signalling, known, .. } = agreed;
        let dtls = Dtls::new(identity.clone(), is_client, &fingerprints)?;
        let peer = (fingerprints, is_client);
        Some(Transport {
            identity,
            path,
            confirmed: known,
            signalling,
            dtls,
            peer,
            waiting: VecDeque::new(),
            srtp: None,
            dropped: Default::default(),
        })
    }

    /// How it does at `now`.
    pub fn stats(&self, now: Mono) -> TransportStats {
        TransportStats {
            selected: self.path.selected(),
            moves: self.path.moves(),
            consented: self.destination(now).is_some(),
            secured: self.srtp.is_some(),
            dropped: self.dropped,
        }
    }

    /// The peer confirmed the call, so that it is where it says: from now on what is described is sent to.
    pub fn confirm(&mut self, now: Mono) {
        if !std::mem::replace(&mut self.confirmed, true) {
            self.path.confirmed(now);
        }
    }

    /// Whether anything may be sent there.
    fn may_send(&self, to: SocketAddr) -> bool {
        self.confirmed || self.signalling == Some(to.ip()) || self.path.is_proven(to)
    }

    fn destination(&self, now: Mono) -> Option<SocketAddr> {
        self.path.destination(now).filter(|to| self.may_send(*to))
    }

    /// A new agreement within the call: ICE begins anew if it was restarted, and so does DTLS if the peer is another.
    pub fn agree(&mut self, agreed: Agreed, now: Mono) {
        self.path.agree(&self.identity, &agreed, now);
        let Agreed { is_client, fingerprints, .. } = agreed;
        let peer = (fingerprints, is_client);
        if peer != self.peer
            && let Some(dtls) = Dtls::new(self.identity.clone(), peer.1, &peer.0)
        {
            (self.dtls, self.peer, self.srtp) = (dtls, peer, None);
            self.waiting.clear();
        }
    }

    /// Takes a datagram. When it was the peer's media, it stands decrypted in `plain`.
    pub fn receive(&mut self, now: Mono, from: SocketAddr, datagram: &[u8], plain: &mut Vec<u8>) -> Arrived {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let outcome = match datagram.first() {
            Some(0..=3) => self.path.receive(now, from, datagram).map(|()| Arrived::Handled),
            Some(20..=63 | 128..=191) if !self.path.admits(from) => Err(Dropped::Stranger),
            Some(20..=63) => self.handshake(now, from, datagram),
            Some(128..=191) => self.open(now, from, datagram, plain),
            _ => Err(Dropped::Malformed),
        };
        outcome.unwrap_or_else(|why| {
            if let Some(count) = self.dropped.get_mut(why.index()) {
                *count += 1;
            }
            Arrived::Dropped(why)
        })
    }

    fn handshake(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Result<Arrived, Dropped> {
        let awaited = self.dtls.awaits_hello() && is_hello(datagram);
        // Others on the peer's host cannot wear out the handshake that it has begun.
        if self.dtls.awaits_hello() && !awaited && !self.path.goes_on(from) {
            return Err(Dropped::Stranger);
        }
        let outcome = self.dtls.receive(now, datagram);
        let answered = self.dtls.hand_out(&mut self.waiting);
        if awaited && answered && outcome.is_ok() {
            self.path.greeted(from);
        }
        if let Some(keys) = outcome? {
            self.srtp = Some(keys);
        }
        Ok(Arrived::Handled)
    }

    fn open(&mut self, now: Mono, from: SocketAddr, datagram: &[u8], plain: &mut Vec<u8>) -> Result<Arrived, Dropped> {
        let srtp = self.srtp.as_mut().ok_or(Dropped::Early)?;
        if !srtp.open(datagram, is_rtcp(datagram), plain) {
            return Err(Dropped::Forged);
        }
        self.path.media(now, from);
        Ok(Arrived::Media)
    }

    /// Encrypts a packet of RTP or RTCP into `out`; gives where to send it, or none: nobody has proved to be the peer, no
    /// keys are agreed on, or the peer does not consent any more.
    pub fn seal(&mut self, now: Mono, packet: &[u8], out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.destination(now)?;
        self.srtp.as_mut()?.seal(packet, is_rtcp(packet), out).then_some(to)
    }

    /// What is due at `now`.
    pub fn timeout(&mut self, now: Mono) {
        self.path.timeout(now);
        if self.destination(now).is_some() {
            self.dtls.begin(now);
        }
        self.dtls.timeout(now);
        let _sent_when_there_is_an_address = self.dtls.hand_out(&mut self.waiting);
    }

    /// The next datagram to send at `now`, and where.
    pub fn poll(&mut self, now: Mono) -> Option<(SocketAddr, BytesMut)> {
        while let Some((to, datagram)) = self.path.poll() {
            if self.may_send(to) {
                return Some((to, BytesMut::from(datagram.as_slice())));
            }
        }
        let to = self.destination(now).or_else(|| self.path.answering())?;
        Some((to, self.waiting.pop_front()?))
    }
}

/// Whether a packet of the shared port is RTCP (RFC 5761, 4).
fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|pt| (192..=223).contains(pt))
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
