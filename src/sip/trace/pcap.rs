//! A trace as a capture that Wireshark and sngrep open: Ethernet, IP and UDP (or TCP) made up around each message.
//!
//! What came over TCP is written as TCP, one segment after the other. What was encrypted is written as UDP: it is in clear
//! here, and a dissector would take it for TLS by its port.

use super::{Seen, Trace, Way};
use crate::sip::transport::Transport;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Most bytes of a segment or datagram: with its headers it stays under the 64 KiB that IP can name.
const MOST: usize = 60_000;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// The capture (libpcap, microseconds, Ethernet).
pub fn pcap(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    out.extend_from_slice(&[2, 0, 4, 0]);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&262_144_u32.to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    // Bytes sent so far, by sender and receiver.
    let mut sent: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    for m in &trace.messages {
        for part in m.bytes.chunks(MOST) {
            let frame = frame(m, part, &mut sent);
            out.extend_from_slice(&((m.at / 1_000_000) as u32).to_le_bytes());
            out.extend_from_slice(&((m.at % 1_000_000) as u32).to_le_bytes());
            out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            out.extend_from_slice(&frame);
        }
    }
    out
}

fn frame(m: &Seen, part: &[u8], sent: &mut HashMap<(SocketAddr, SocketAddr), u32>) -> Vec<u8> {
    let (local, remote) = alike(m.local, m.remote);
    let (from, to) = match m.way {
        Way::In => (remote, local),
        Way::Out => (local, remote),
    };
    let (protocol, mut payload) = match m.carrier {
        Transport::Tcp => {
            let acknowledged = sent.get(&(to, from)).copied().unwrap_or(1);
            let number = sent.entry((from, to)).or_insert(1);
            let segment = tcp(from.port(), to.port(), *number, acknowledged, part);
            *number = number.wrapping_add(part.len() as u32);
            (TCP, segment)
        }
        Transport::Udp | Transport::Tls | Transport::Ws | Transport::Wss => (UDP, udp(from.port(), to.port(), part)),
    };
    let sum = checksum(&[&pseudo(from.ip(), to.ip(), protocol, payload.len()), &payload]);
    // A UDP sum of 0 would say that there is none (RFC 768).
    let sum = if protocol == UDP && sum == 0 { 0xffff } else { sum };
    let at = if protocol == UDP { 6 } else { 16 };
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    // Locally administered addresses: ours ends in 1.
    let (ours, theirs) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (source, target) = if m.way == Way::In { (theirs, ours) } else { (ours, theirs) };
    let mut frame = Vec::with_capacity(payload.len() + 60);
    frame.extend_from_slice(&target);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&if from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
    frame.extend_from_slice(&ip(from.ip(), to.ip(), protocol, payload.len()));
    frame.extend_from_slice(&payload);
    frame
}

/// Both in one family: one that is not known takes that of the other.
fn alike(local: SocketAddr, remote: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let (local, remote) = (plain(local), plain(remote));
    match (local.ip(), remote.ip()) {
        (IpAddr::V4(a), IpAddr::V6(_)) => (SocketAddr::new(a.to_ipv6_mapped().into(), local.port()), remote),
        (IpAddr::V6(_), IpAddr::V4(b)) => (local, SocketAddr::new(b.to_ipv6_mapped().into(), remote.port())),
        _ => (local, remote),
    }
}

fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = (data.len() + 8) as u16;
    let mut out = Vec::with_capacity(data.len() + 8);
    for field in [from, to, length, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(data);
    out
}

fn tcp(from: u16, to: u16, number: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 20);
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&acknowledged.to_be_bytes());
    // Five words of header; PSH and ACK; a full window; the sum; nothing urgent.
    out.extend_from_slice(&[0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(data);
    out
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&((length + 20) as u16).to_be_bytes());
            out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (from, to) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
            out.extend_from_slice(&[protocol, 64]);
            out.extend(octets(from));
            out.extend(octets(to));
        }
    }
    out
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// What the sum of UDP and TCP covers besides their own bytes (RFC 768, RFC 8200 section 8.1).
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut out = [octets(from), octets(to)].concat();
    if from.is_ipv4() {
        out.extend_from_slice(&[0, protocol]);
        out.extend_from_slice(&(length as u16).to_be_bytes());
    } else {
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, protocol]);
    }
    out
}

/// The Internet checksum (RFC 1071). Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|p| p.chunks(2));
    let mut sum: u64 = words.map(|w| u64::from(w[0]) << 8 | u64::from(w.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
