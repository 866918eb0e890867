//! Reports (RFC 3550, 6): ours every five seconds or so, the peer's read with every length checked.
//!
//! Packets are built and read by the crate `rtcp`; it is handed only pieces whose lengths were checked here.

use super::Mixed;
use super::receiver::Reception;
use crate::clock::Mono;
use bytes::Bytes;
use rtcp::goodbye::Goodbye;
use rtcp::packet::Packet;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use std::time::Duration;
use webrtc_util::marshal::Unmarshal;

/// Packet types (RFC 3550, 12.1).
const SR: u8 = 200;
const RR: u8 = 201;
const BYE: u8 = 203;
/// Bytes of a report block.
const BLOCK: usize = 24;
/// Most packets read in one datagram.
const MOST_PACKETS: usize = 32;
/// Mean time between reports in milliseconds; RFC 3550 spreads it from half to one and a half.
const INTERVAL_MS: u64 = 5000;

/// Why a datagram is no RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// Shorter than its headers say, or with bytes left over.
    #[error("the lengths in the RTCP datagram do not add up")]
    Length,
    /// Not version 2, or no RTCP packet type.
    #[error("not an RTCP packet")]
    Header,
    /// A report with fewer blocks than it claims.
    #[error("an RTCP report is shorter than its blocks")]
    Blocks,
}

/// What a peer's report says about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Which stream.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Lost in all (negative with duplicates).
    pub lost: i32,
    /// Highest sequence number received, its turns in the upper half.
    pub highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report received; 0 for none.
    pub last_report: u32,
    /// Time since it was received, in 1/65536 s.
    pub delay: u32,
}

impl From<&ReceptionReport> for Block {
    fn from(r: &ReceptionReport) -> Self {
        // 24 bits signed, which the crate hands over unsigned.
        let lost = ((r.total_lost << 8) as i32) >> 8;
        Block {
            ssrc: r.ssrc,
            fraction_lost: r.fraction_lost,
            lost,
            highest: r.last_sequence_number,
            jitter: r.jitter,
            last_report: r.last_sender_report,
            delay: r.delay,
        }
    }
}

/// What matters here of a compound datagram.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// The sender report in it: (SSRC, NTP time).
    pub sender: Option<(u32, u64)>,
    /// Report blocks about streams.
    pub blocks: Vec<Block>,
    /// Sources that say goodbye.
    pub goodbyes: Vec<u32>,
}

/// Reads a compound datagram. Packets of kinds unknown here are read over.
pub fn parse(datagram: &[u8]) -> Result<Heard, RtcpError> {
    let mut heard = Heard::default();
    let mut rest = datagram;
    for _ in 0..MOST_PACKETS {
        let [first, kind, high, low, ..] = *rest else { return Err(RtcpError::Length) };
        if first >> 6 != 2 || !(192..=223).contains(&kind) {
            return Err(RtcpError::Header);
        }
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let (packet, after) = rest.split_at_checked(length).ok_or(RtcpError::Length)?;
        one(first & 0x1F, kind, packet, &mut heard)?;
        if after.is_empty() {
            return Ok(heard);
        }
        rest = after;
    }
    Err(RtcpError::Length)
}

fn one(count: u8, kind: u8, packet: &[u8], heard: &mut Heard) -> Result<(), RtcpError> {
    let count = usize::from(count);
    let needed = match kind {
        SR => 28 + BLOCK * count,
        RR => 8 + BLOCK * count,
        BYE => 4 + 4 * count,
        _ => return Ok(()),
    };
    if packet.len() < needed {
        return Err(RtcpError::Blocks);
    }
    // Cut to what was checked: extensions, reasons and padding are of no use here. The crate reads the
    // length from the header, so that is set to match, and the padding bit cleared.
    let mut exact = packet[..needed].to_vec();
    exact[0] &= !0x20;
    exact[2..4].copy_from_slice(&((needed / 4 - 1) as u16).to_be_bytes());
    let mut exact = Bytes::from(exact);
    match kind {
        SR => {
            let report = SenderReport::unmarshal(&mut exact).map_err(|_| RtcpError::Blocks)?;
            heard.sender = Some((report.ssrc, report.ntp_time));
            heard.blocks.extend(report.reports.iter().map(Block::from));
        }
        RR => {
            let report = ReceiverReport::unmarshal(&mut exact).map_err(|_| RtcpError::Blocks)?;
            heard.blocks.extend(report.reports.iter().map(Block::from));
        }
        _ => {
            let bye = Goodbye::unmarshal(&mut exact).map_err(|_| RtcpError::Blocks)?;
            heard.goodbyes.extend(bye.sources);
        }
    }
    Ok(())
}

/// An NTP timestamp of our own: its seconds count from the process's start, which RFC 3550 (4) allows.
pub fn ntp(now: Mono) -> u64 {
    // One second up, so that no report has the time 0 that stands for none.
    ((now.0 / 1_000_000 + 1) << 32) | (((now.0 % 1_000_000) << 32) / 1_000_000)
}

/// The middle 32 bits, in 1/65536 s.
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// What our sending side adds to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Our source.
    pub ssrc: u32,
    /// RTP timestamp of now.
    pub timestamp: u32,
    /// Packets so far.
    pub packets: u64,
    /// Payload bytes so far.
    pub payload: u64,
}

/// When to report, and what was learned from the peer's reports.
#[derive(Debug)]
pub struct Reporter {
    numbers: Mixed,
    cname: String,
    due: Mono,
    /// Packets sent when the last report was made.
    reported_packets: u64,
    /// The peer's last sender report: who, its middle NTP bits, when it came.
    last_report: Option<(u32, u32, Mono)>,
    round_trip: Option<Duration>,
    remote: Option<Block>,
    goodbye: bool,
}

impl Reporter {
    /// The first report comes after half the usual time.
    pub(super) fn new(mut numbers: Mixed, now: Mono) -> Self {
        // RFC 7022: a name that says nothing about anyone.
        let cname = format!("{:016x}", numbers.next());
        let mut reporter = Reporter {
            numbers,
            cname,
            due: now,
            reported_packets: 0,
            last_report: None,
            round_trip: None,
            remote: None,
            goodbye: false,
        };
        reporter.schedule(now, INTERVAL_MS / 2);
        reporter
    }

    fn schedule(&mut self, now: Mono, mean_ms: u64) {
        let wait = mean_ms / 2 + self.numbers.next() % mean_ms;
        self.due = now + Duration::from_millis(wait);
    }

    /// Whether a report is due; if so the next one is scheduled.
    pub fn is_due(&mut self, now: Mono) -> bool {
        let due = now >= self.due;
        if due {
            self.schedule(now, INTERVAL_MS);
        }
        due
    }

    /// Writes a report: SR if something was sent since the last one, RR otherwise, and the name; at the end
    /// of the stream also a goodbye.
    pub fn write(&mut self, now: Mono, sent: Sent, reception: Option<Reception>, bye: bool, out: &mut Vec<u8>) {
        let reports: Vec<ReceptionReport> = reception.map(|r| self.about(now, r)).into_iter().collect();
        let report: Box<dyn Packet> = if sent.packets > self.reported_packets {
            Box::new(SenderReport {
                ssrc: sent.ssrc,
                ntp_time: ntp(now),
                rtp_time: sent.timestamp,
                packet_count: sent.packets as u32,
                octet_count: sent.payload as u32,
                reports,
                ..Default::default()
            })
        } else {
            Box::new(ReceiverReport { ssrc: sent.ssrc, reports, ..Default::default() })
        };
        self.reported_packets = sent.packets;
        let name = SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text: Bytes::copy_from_slice(self.cname.as_bytes()),
        };
        let chunk = SourceDescriptionChunk { source: sent.ssrc, items: vec![name] };
        out.clear();
        append(&*report, out);
        append(&SourceDescription { chunks: vec![chunk] }, out);
        if bye {
            append(&Goodbye { sources: vec![sent.ssrc], reason: Bytes::new() }, out);
        }
    }

    fn about(&self, now: Mono, r: Reception) -> ReceptionReport {
        let last = self.last_report.filter(|(ssrc, ..)| *ssrc == r.ssrc);
        let (last_sender_report, delay) = match last {
            Some((_, middle, came)) => (middle, (now.since(came).as_micros() * 65536 / 1_000_000) as u32),
            None => (0, 0),
        };
        ReceptionReport {
            ssrc: r.ssrc,
            fraction_lost: r.fraction_lost,
            total_lost: r.lost,
            last_sequence_number: r.highest,
            jitter: r.jitter,
            last_sender_report,
            delay,
        }
    }

    /// Takes the peer's report; `ours` is our SSRC.
    pub fn heard(&mut self, now: Mono, ours: u32, heard: &Heard) {
        if let Some((ssrc, ntp)) = heard.sender {
            self.last_report = Some((ssrc, middle(ntp), now));
        }
        for block in heard.blocks.iter().filter(|b| b.ssrc == ours) {
            self.remote = Some(*block);
            if block.last_report != 0 {
                let round = middle(ntp(now)).wrapping_sub(block.last_report).wrapping_sub(block.delay);
                // More than 30 s (or less than none) is a peer that copied numbers wrongly.
                if round < 30 * 65536 {
                    self.round_trip = Some(Duration::from_micros(u64::from(round) * 1_000_000 / 65536));
                }
            }
        }
        self.goodbye |= !heard.goodbyes.is_empty();
    }

    /// Round trip time by the peer's last report.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What the peer last said about our stream.
    pub fn remote(&self) -> Option<Block> {
        self.remote
    }

    /// Whether the peer said goodbye.
    pub fn said_goodbye(&self) -> bool {
        self.goodbye
    }
}

fn append(packet: &dyn Packet, out: &mut Vec<u8>) {
    // The crate refuses only counts and lengths that do not occur here; a report less is then no harm.
    if let Ok(bytes) = packet.marshal() {
        out.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECEPTION: Reception = Reception { ssrc: 7, fraction_lost: 25, lost: 300, highest: 70_000, jitter: 40 };

    fn sent(packets: u64) -> Sent {
        Sent { ssrc: 42, timestamp: 8000, packets, payload: packets * 160 }
    }

    #[test]
    fn a_sender_report_is_read_back() {
        let mut out = Vec::new();
        let mut reporter = Reporter::new(Mixed::new(1), Mono(0));
        reporter.write(Mono::from_ms(1500), sent(50), Some(RECEPTION), true, &mut out);
        let heard = parse(&out).unwrap();
        assert_eq!(heard.sender, Some((42, (2 << 32) | 0x8000_0000)));
        assert_eq!(heard.goodbyes, [42]);
        let block = heard.blocks[0];
        assert_eq!((block.ssrc, block.fraction_lost, block.lost, block.jitter), (7, 25, 300, 40));
        // Nothing sent since: a receiver report.
        reporter.write(Mono::from_ms(6500), sent(50), None, false, &mut out);
        assert_eq!((out[1], parse(&out).unwrap().sender), (201, None));
    }

    #[test]
    fn two_ends_measure_their_round_trip() {
        let (mut a, mut b) = (Reporter::new(Mixed::new(1), Mono(0)), Reporter::new(Mixed::new(2), Mono(0)));
        let mut out = Vec::new();
        a.write(Mono::from_ms(5000), sent(9), None, false, &mut out);
        b.heard(Mono::from_ms(5040), 99, &parse(&out).unwrap());
        // b answers 700 ms later, and 35 ms pass on the way back.
        let reception = Reception { ssrc: 42, ..RECEPTION };
        b.write(Mono::from_ms(5740), Sent { ssrc: 99, ..sent(3) }, Some(reception), false, &mut out);
        a.heard(Mono::from_ms(5775), 42, &parse(&out).unwrap());
        let round = a.round_trip().unwrap().as_micros();
        assert!((74_900..75_100).contains(&round), "{round}");
        assert_eq!(a.remote().unwrap().fraction_lost, 25);
    }

    #[test]
    fn reports_come_every_five_seconds_or_so() {
        let mut reporter = Reporter::new(Mixed::new(3), Mono(0));
        let times: Vec<u64> = (0..50_000).map(|t| t * 20).filter(|&t| reporter.is_due(Mono::from_ms(t))).collect();
        assert!(times[0] <= 3750);
        assert!(times.windows(2).all(|w| (2500..=7520).contains(&(w[1] - w[0]))));
        assert!((180..=220).contains(&times.len()), "{} in 1000 s", times.len());
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        assert_eq!(parse(&[]), Err(RtcpError::Length));
        assert_eq!(parse(&[0x81, 200, 0, 6]), Err(RtcpError::Length));
        assert_eq!(parse(&[0x80, 200, 0, 0]), Err(RtcpError::Blocks));
        assert_eq!(parse(&[0x9F, 201, 0, 1, 0, 0, 0, 1]), Err(RtcpError::Blocks));
        assert_eq!(parse(&[0x00, 200, 0, 0]), Err(RtcpError::Header));
        assert_eq!(parse(&[0x80, 204, 0, 0].repeat(1000)), Err(RtcpError::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 198u8..208, version: bool
        ) {
            if version && bytes.len() > 4 {
                bytes[0] |= 0x80;
                bytes[0] &= 0xBF;
                bytes[1] = kind;
                let words = (bytes.len() / 4 - 1) as u16;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
                bytes.truncate(usize::from(words + 1) * 4);
            }
            let _ = parse(&bytes);
        }
    }
}
