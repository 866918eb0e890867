//! The names of this room in a program without browser legs: values that cannot exist.

use super::{Arrived, Obstacle, TransportStats, is_over_dtls};
use crate::clock::Mono;
use crate::sdp::{Capabilities, MediaPlan, NegotiationError, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Who we are to browsers.
#[derive(Debug)]
pub enum Identity {}

/// One leg's side of its descriptions.
#[derive(Debug)]
pub enum Negotiator {}

/// What a transport needs to know of an agreement.
#[derive(Debug, Clone)]
pub enum Agreed {}

/// The transport of one leg.
#[derive(Debug)]
pub enum Transport {}

/// What keeps us from taking an offer over DTLS-SRTP.
pub fn obstacle(offer: &Session) -> Option<Obstacle> {
    is_over_dtls(offer).then_some(Obstacle::NotBuilt)
}

/// Never called: no description does ICE.
pub fn with_mapped(described: &str, _mapped: SocketAddr) -> String {
    described.to_owned()
}

impl Agreed {
    /// Never called.
    pub fn known(self) -> Agreed {
        match self {}
    }
}

impl Identity {
    /// There is none.
    ///
    /// # Errors
    ///
    /// Always: the program was built without.
    pub fn new(_anchor: (Mono, Instant)) -> Result<Identity, String> {
        Err("this program was built without browser legs (cargo feature webrtc)".into())
    }
}

impl Negotiator {
    /// Never called: there is no identity.
    pub fn new(identity: &Arc<Identity>, _addresses: Vec<SocketAddr>) -> Negotiator {
        match **identity {}
    }

    /// Never called.
    pub fn signalled_from(self, _source: std::net::IpAddr) -> Negotiator {
        match self {}
    }

    /// Never called.
    pub fn does_ice(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn mapped(&mut self, _at: SocketAddr) {
        match *self {}
    }

    /// Never called.
    pub fn offer(&self, _offer: Session) -> Session {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn answer(
        &mut self,
        _offer: &Session,
        _ours: &Capabilities,
    ) -> Result<(Session, MediaPlan, Agreed), NegotiationError> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn accept(&mut self, _ours: &Session, _answer: &Session) -> Result<(MediaPlan, Agreed), NegotiationError> {
        match *self {}
    }
}

impl Transport {
    /// Never called: there is no agreement.
    pub fn new(agreed: Agreed, _now: Mono) -> Option<Transport> {
        match agreed {}
    }

    /// Never called.
    pub fn stats(&self, _now: Mono) -> TransportStats {
        match *self {}
    }

    /// Never called.
    pub fn confirm(&mut self, _now: Mono) {
        match *self {}
    }

    /// Never called.
    pub fn agree(&mut self, agreed: Agreed, _now: Mono) {
        match agreed {}
    }

    /// Never called.
    pub fn receive(&mut self, _now: Mono, _from: SocketAddr, _datagram: &[u8], _plain: &mut Vec<u8>) -> Arrived {
        match *self {}
    }

    /// Never called.
    pub fn seal(&mut self, _now: Mono, _packet: &[u8], _out: &mut Vec<u8>) -> Option<SocketAddr> {
        match *self {}
    }

    /// Never called.
    pub fn timeout(&mut self, _now: Mono) {
        match *self {}
    }

    /// Never called.
    pub fn poll(&mut self, _now: Mono) -> Option<(SocketAddr, bytes::BytesMut)> {
        match *self {}
    }
}
