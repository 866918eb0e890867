//! A leg's way to its sockets: plain, or through the transport of DTLS-SRTP, where one socket carries everything.

use super::Shard;
use super::slot::MediaLeg;
use crate::browser::{Arrived, THROUGH};
use crate::clock::Mono;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// A datagram without a packet for the leg: whether it was a stranger's or forged.
pub(super) struct Foreign(pub bool);

impl MediaLeg {
    /// Sends a packet of the leg's RTP (or, as `control`, RTCP) to where it says.
    pub(super) fn transmit(&mut self, at: Mono, packet: &[u8], to: SocketAddr, control: bool, sealed: &mut Vec<u8>) {
        let _lost_like_any_packet = match &mut self.transport {
            Some(transport) => match transport.seal(at, packet, sealed) {
                Some(to) => self.socket.send_to(sealed, to),
                None => return, // not yet, or not any more
            },
            None if control => self.control.send_to(packet, to),
            None => self.socket.send_to(packet, to),
        };
    }

    /// What a transport of its own has to say for itself, and repeats.
    pub(super) fn keep_up(&mut self, at: Mono) {
        if let Some(transport) = &mut self.transport {
            transport.timeout(at);
        }
        self.flush(at);
    }

    fn flush(&mut self, at: Mono) {
        let Some(transport) = &mut self.transport else { return };
        while let Some((to, datagram)) = transport.poll(at) {
            let _repeated_like_any_check = self.socket.send_to(&datagram, to);
        }
    }
}

impl Shard {
    /// Lets a datagram through a leg's transport, if it has one: gives the packet in it, and the address that it counts as
    /// from; else there is no packet in it.
    pub(super) fn opened<'a>(
        &self,
        leg: &mut MediaLeg,
        at: Mono,
        (from, datagram): (SocketAddr, &'a [u8]),
        plain: &'a mut Vec<u8>,
    ) -> Result<(SocketAddr, &'a [u8]), Foreign> {
        let Some(transport) = &mut leg.transport else { return Ok((from, datagram)) };
        let arrived = transport.receive(at, from, datagram, plain);
        leg.flush(at);
        match arrived {
            Arrived::Media => Ok((THROUGH, plain.as_slice())),
            Arrived::Handled => Err(Foreign(false)),
            Arrived::Dropped(_) => {
                self.me.counters.ignored.fetch_add(1, Ordering::Relaxed);
                Err(Foreign(true))
            }
        }
    }
}
