//! The sound of many legs: one thread that sends, one that listens.

use super::figures::Histogram;
use super::{LoadSettings, MOST_LEGS, Mouth, Order, SLOTS, Shared, sleep_until};
use crate::clock::Mono;
use crate::rtp::RtpView;
use crate::server::time::now;
use crossbeam_channel::Receiver;
use rustix::event::epoll;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A packet: header and 20 ms of A-law.
const PACKET: usize = 172;
/// Samples in it.
const PAYLOAD: usize = 160;
/// Silence in A-law.
const SILENCE: u8 = 0xD5;
/// Packets in one system call.
const BATCH: usize = 64;
/// Quiet for so long, a prompt has ended.
const GAP_US: u64 = 700_000;
/// A caller who hears nothing speaks after this all the same.
const PATIENCE_US: u64 = 12_000_000;
/// Marks packets that the generator sends to itself.
const OWN: &[u8; 8] = b"zongji-g";

/// What the listener has counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub packets: u64,
    pub lost: u64,
    pub pacing: Histogram,
    pub delay: Histogram,
    pub reply: Histogram,
    /// How late the generator was with itself.
    pub own: Histogram,
}

/// A leg that is sent to.
struct Out {
    id: u32,
    to: SocketAddrAny,
    mouth: Arc<Mouth>,
    sequence: u16,
    timestamp: u32,
    /// Bytes of the utterance, or of the steady sound, that went out.
    said: usize,
}

impl Out {
    /// The next packet.
    fn write(&mut self, packet: &mut [u8; PACKET], steady: &[u8], settings: &LoadSettings, at: Mono) {
        let first = self.sequence == 0 && self.timestamp == 0;
        packet[0] = 0x80;
        packet[1] = if first { 0x88 } else { 8 };
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.id.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(PAYLOAD as u32);
        let payload = &mut packet[12..];
        if settings.says.is_empty() {
            payload.copy_from_slice(&steady[self.said..self.said + PAYLOAD]);
            self.said = (self.said + PAYLOAD) % (steady.len() - PAYLOAD);
            if settings.crosses {
                payload[..8].copy_from_slice(&at.0.to_be_bytes());
            }
            return;
        }
        let number = self.mouth.says.load(Ordering::Relaxed) as usize;
        let words = number.checked_sub(1).and_then(|n| settings.says.get(n % settings.says.len()));
        let left = words.and_then(|w| w.get(self.said..)).unwrap_or_default();
        let count = left.len().min(PAYLOAD);
        payload[..count].copy_from_slice(&left[..count]);
        payload[count..].fill(SILENCE);
        self.said += count;
        if words.is_some() && count < PAYLOAD {
            self.said = 0;
            self.mouth.says.store(0, Ordering::Relaxed);
            self.mouth.ended.store(at.0, Ordering::Relaxed);
        }
    }
}

/// Sends every leg's packet in its millisecond of each 20.
pub(super) fn send(
    sockets: &[Arc<UdpSocket>],
    orders: &Receiver<Order>,
    settings: &LoadSettings,
    steady: &[u8],
    shared: &Shared,
) {
    let mut slots: Vec<Vec<Out>> = (0..SLOTS).map(|_| Vec::new()).collect();
    let mut packets = vec![[0u8; PACKET]; BATCH];
    let own = sockets.first().and_then(|s| s.local_addr().ok());
    let mut due = now();
    for slot in (0..SLOTS).cycle() {
        if shared.stopped() {
            return;
        }
        due = due + Duration::from_millis(1);
        sleep_until(due);
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Add(leg) => slots[leg.id as usize % SLOTS].push(Out {
                    id: leg.id,
                    to: leg.peer.as_any(),
                    mouth: leg.mouth,
                    sequence: 0,
                    timestamp: 0,
                    said: 0,
                }),
                Order::Remove(id, _) => slots[id as usize % SLOTS].retain(|o| o.id != id),
                Order::Reset | Order::Tell(_) => {}
            }
        }
        let at = now();
        for legs in slots[slot].chunks_mut(BATCH) {
            for (leg, packet) in legs.iter_mut().zip(&mut packets) {
                leg.write(packet, steady, settings, at);
            }
            batch(&sockets[slot], legs, &packets);
        }
        if let Some(to) = own {
            // When it was due, not when it is sent: a late sender is a late generator too.
            let mut word = [0u8; 16];
            word[..8].copy_from_slice(OWN);
            word[8..].copy_from_slice(&due.0.to_be_bytes());
            let _lost_like_any_packet = sockets[slot].send_to(&word, to);
        }
        if slot == 0 {
            shared.spent(1);
        }
    }
}

/// All of a slot in one system call.
fn batch(socket: &UdpSocket, legs: &[Out], packets: &[[u8; PACKET]]) {
    let parts: Vec<[IoSlice<'_>; 1]> = packets.iter().take(legs.len()).map(|p| [IoSlice::new(p)]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = legs.iter().map(|_| Default::default()).collect();
    let messages = legs.iter().zip(&parts).zip(&mut controls);
    let mut messages: Vec<MMsgHdr<'_>> = messages.map(|((l, p), c)| MMsgHdr::new_with_addr(&l.to, p, c)).collect();
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let sent = rustix::net::sendmmsg(socket, rest, SendFlags::DONTWAIT).unwrap_or(0);
        // One that cannot go is lost; those after it are tried.
        let done = sent.max(1).min(rest.len());
        rest = &mut rest[done..];
    }
}

/// A leg that is listened to.
struct In {
    mouth: Arc<Mouth>,
    last: Option<(u64, u16)>,
    loud: u64,
    began: u64,
    heard: bool,
    turns: u32,
}

impl In {
    /// A prompt's ending is the caller's cue; a reply's first sound ends his wait.
    fn talk(&mut self, at: u64, loud: bool, reply: &mut Histogram) {
        if self.mouth.says.load(Ordering::Relaxed) != 0 {
            self.loud = at;
            return;
        }
        let ended = self.mouth.ended.load(Ordering::Relaxed);
        if loud {
            if ended != 0 && !self.heard {
                reply.add(at.saturating_sub(ended));
            }
            (self.heard, self.loud) = (true, at);
            return;
        }
        let since = at.saturating_sub(self.loud.max(ended).max(self.began));
        if (self.heard && since > GAP_US) || since > PATIENCE_US {
            self.turns += 1;
            self.heard = false;
            self.mouth.says.store(self.turns, Ordering::Relaxed);
        }
    }
}

/// Listens on all sockets.
pub(super) fn listen(
    sockets: &[Arc<UdpSocket>],
    orders: &Receiver<Order>,
    settings: &LoadSettings,
    shared: &Shared,
) -> std::io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (n, socket) in sockets.iter().enumerate() {
        epoll::add(&poll, socket, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)?;
    }
    let (mut legs, mut heard): (HashMap<u16, In>, _) = (HashMap::new(), Heard::default());
    let mut events = Vec::with_capacity(SLOTS);
    let mut datagram = [0u8; 2048];
    while !shared.stopped() {
        events.clear();
        let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        while let Ok(order) = orders.try_recv() {
            obey(order, &mut legs, &mut heard);
        }
        for event in &events {
            let Some(socket) = sockets.get(event.data.u64() as usize) else { continue };
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                came(&datagram[..length], from, &mut legs, &mut heard, settings);
            }
        }
        shared.spent(2);
    }
    Ok(())
}

fn obey(order: Order, legs: &mut HashMap<u16, In>, heard: &mut Heard) {
    match order {
        Order::Add(leg) if legs.len() < MOST_LEGS => {
            let began = now().0;
            let new = In { mouth: leg.mouth, last: None, loud: 0, began, heard: false, turns: 0 };
            legs.insert(leg.peer.port(), new);
        }
        Order::Add(_) => {}
        Order::Remove(_, port) => drop(legs.remove(&port)),
        Order::Reset => *heard = Heard::default(),
        Order::Tell(to) => drop(to.try_send(heard.clone())),
    }
}

fn came(datagram: &[u8], from: SocketAddr, legs: &mut HashMap<u16, In>, heard: &mut Heard, settings: &LoadSettings) {
    let at = now().0;
    let stamp = |bytes: &[u8]| bytes.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    if let Some(due) = datagram.strip_prefix(OWN).and_then(stamp) {
        heard.own.add(at.saturating_sub(due));
        return;
    }
    let (Some(leg), Ok(view)) = (legs.get_mut(&from.port()), RtpView::parse(datagram)) else { return };
    let sequence = view.sequence();
    heard.packets += 1;
    if let Some((before, last)) = leg.last {
        let step = sequence.wrapping_sub(last);
        match step {
            1 => heard.pacing.add((at.saturating_sub(before)).abs_diff(20_000)),
            2..3000 => heard.lost += u64::from(step) - 1,
            _ => {
                heard.lost = heard.lost.saturating_sub(1); // it came after all, out of order
                return;
            }
        }
    }
    leg.last = Some((at, sequence));
    if settings.crosses && view.payload().len() == PAYLOAD {
        let sent = stamp(view.payload()).unwrap_or(0);
        if sent <= at && at - sent < 10_000_000 {
            heard.delay.add(at - sent);
        }
    }
    if !settings.says.is_empty() {
        // A-law without its mask: sign and seven bits of loudness; a few samples tell.
        let loud = view.payload().iter().step_by(8).any(|b| (b ^ 0x55) & 0x7F > 0x28);
        leg.talk(at, loud, &mut heard.reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg() -> In {
        In { mouth: Arc::default(), last: None, loud: 0, began: 0, heard: false, turns: 0 }
    }

    fn settings(says: Vec<Arc<[u8]>>) -> LoadSettings {
        let here = ([127, 0, 0, 1], 5060).into();
        LoadSettings { server: here, user: "400".into(), rate: 10.0, bind: here, says, renew: false, crosses: false }
    }

    #[test]
    fn a_caller_speaks_when_the_prompt_has_ended_and_the_reply_is_timed_from_his_last_word() {
        let (mut l, mut reply) = (leg(), Histogram::default());
        let mut out = Out {
            id: 1,
            to: SocketAddr::from(([127, 0, 0, 1], 9)).as_any(),
            mouth: l.mouth.clone(),
            sequence: 0,
            timestamp: 0,
            said: 0,
        };
        let (s, mut packet) = (settings(vec![vec![0x11; 400].into()]), [0; PACKET]);
        let mut ended_at = 0;
        for ms in (0..4000u64).step_by(20) {
            // A prompt for one second; then, 600 ms after the caller's last word, the reply.
            let loud = ms < 1000 || (ended_at > 0 && ms >= ended_at + 600);
            l.talk(ms * 1000, loud, &mut reply);
            out.write(&mut packet, &[], &s, Mono::from_ms(ms));
            if ended_at == 0 && l.mouth.ended.load(Ordering::Relaxed) > 0 {
                ended_at = ms;
            }
        }
        assert!((1700..1800).contains(&ended_at), "{ended_at}");
        assert!(reply.count() == 1 && (reply.most() - 600.0).abs() < 21.0, "{}", reply.most());
        assert_eq!((packet[0], packet[1]), (0x80, 8));
    }

    #[test]
    fn packets_that_are_missing_or_late_are_counted() {
        let from: SocketAddr = ([127, 0, 0, 1], 20_000).into();
        let (mut legs, mut heard) = (HashMap::from([(20_000, leg())]), Heard::default());
        let s = settings(Vec::new());
        for sequence in [1u16, 2, 5, 4, 6] {
            let mut packet = vec![0x80, 8];
            packet.extend(sequence.to_be_bytes());
            packet.extend([0; 168]);
            came(&packet, from, &mut legs, &mut heard, &s);
        }
        assert_eq!((heard.packets, heard.lost), (5, 1), "3 is missing, 4 came late");
        let stranger = ([127, 0, 0, 1], 20_002).into();
        came(&[0x80; 172], stranger, &mut legs, &mut heard, &s);
        came(b"x", from, &mut legs, &mut heard, &s);
        assert_eq!(heard.packets, 5);
    }
}
