use super::super::Ending;
use super::*;

fn seen(at: u64, way: Way, carrier: Transport, remote: &str, text: &str) -> Seen {
    let remote: SocketAddr = remote.parse().unwrap();
    let local = if remote.is_ipv4() { "192.0.2.1:5060" } else { "[2001:db8::1]:5060" };
    Seen { at, way, carrier, local: local.parse().unwrap(), remote, refused: None, bytes: text.into() }
}

fn trace(messages: Vec<Seen>) -> Trace {
    Trace { id: "A".into(), refused: false, began: 0, ending: Ending::default(), lost: 0, legs: Vec::new(), messages }
}

/// What a reader of captures finds: time in µs, protocol, ends, number of a TCP segment, payload.
type Packet = (u64, u8, SocketAddr, SocketAddr, u32, Vec<u8>);

fn be16(b: &[u8]) -> u16 {
    u16::from_be_bytes([b[0], b[1]])
}

/// Reads a capture back and checks every sum in it.
fn read(capture: &[u8]) -> Vec<Packet> {
    assert_eq!(capture[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
    assert_eq!(word(20), 1, "Ethernet");
    let (mut at, mut packets) = (24, Vec::new());
    while at < capture.len() {
        let (time, length) = (u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4)), word(at + 8) as usize);
        assert_eq!(word(at + 12) as usize, length);
        let frame = &capture[at + 16..at + 16 + length];
        at += 16 + length;
        let packet = &frame[14..];
        let (protocol, from, to, rest): (u8, IpAddr, IpAddr, &[u8]) = match be16(&frame[12..]) {
            0x0800 => {
                assert_eq!(checksum(&[&packet[..20]]), 0, "a header with its sum adds up to nothing");
                assert_eq!(be16(&packet[2..]) as usize, packet.len());
                let ip = |n: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[n..n + 4]).unwrap());
                (packet[9], ip(12), ip(16), &packet[20..])
            }
            _ => {
                assert_eq!(be16(&packet[4..]) as usize, packet.len() - 40);
                let ip = |n: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[n..n + 16]).unwrap());
                (packet[6], ip(8), ip(24), &packet[40..])
            }
        };
        assert_eq!(checksum(&[&pseudo(from, to, protocol, rest.len()), rest]), 0, "the sum of UDP or TCP is right");
        let (number, payload) = match protocol {
            UDP => (0, &rest[8..]),
            _ => (u32::from_be_bytes(rest[4..8].try_into().unwrap()), &rest[20..]),
        };
        let end = |ip, port: &[u8]| SocketAddr::new(ip, be16(port));
        packets.push((time, protocol, end(from, rest), end(to, &rest[2..]), number, payload.to_vec()));
    }
    packets
}

#[test]
fn a_capture_read_back_holds_every_message_with_its_time_ends_and_sums() {
    let long = "x".repeat(100_000);
    let t = trace(vec![
        seen(1_732_723_200_123_456, Way::In, Transport::Udp, "203.0.113.7:40000", "INVITE odd"),
        seen(1_732_723_200_123_999, Way::Out, Transport::Udp, "203.0.113.7:40000", "SIP/2.0 100"),
        seen(1_732_723_201_000_000, Way::Out, Transport::Tls, "[2001:db8::7]:5061", "BYE"),
        seen(1_732_723_202_000_000, Way::In, Transport::Tcp, "[2001:db8::8]:40001", "one"),
        seen(1_732_723_203_000_000, Way::In, Transport::Tcp, "[2001:db8::8]:40001", &long),
    ]);
    let packets = read(&pcap(&t));
    let (ours, ours6) = ("192.0.2.1:5060".parse().unwrap(), "[2001:db8::1]:5060".parse().unwrap());
    let caller = "203.0.113.7:40000".parse().unwrap();
    assert_eq!(packets[0], (1_732_723_200_123_456, UDP, caller, ours, 0, b"INVITE odd".to_vec()));
    assert_eq!(packets[1], (1_732_723_200_123_999, UDP, ours, caller, 0, b"SIP/2.0 100".to_vec()));
    let tls = &packets[2];
    assert_eq!((tls.1, tls.2, tls.5.as_slice()), (UDP, ours6, b"BYE".as_slice()), "in clear here, so not as TLS");
    assert_eq!((packets[3].1, packets[3].4, packets[4].4), (TCP, 1, 4), "one segment after the other");
    assert_eq!(packets[4].5.len() + packets[5].5.len(), long.len());
    assert_eq!(packets[5].4 as usize, 4 + packets[4].5.len());
}

#[test]
fn other_programs_read_the_capture_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let t = trace(vec![seen(1_732_723_200_123_456, Way::In, Transport::Udp, "203.0.113.7:40000", text)]);
    std::fs::write(file.path(), pcap(&t)).unwrap();
    let run = std::process::Command::new("tcpdump").args(["-nvr"]).arg(file.path()).output();
    let Ok(run) = run else { return crate::skip::skipped(format_args!("no tcpdump: only our own reader was asked")) };
    let shown = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(shown.contains("203.0.113.7.40000 > 192.0.2.1.5060") && shown.contains("OPTIONS sip:a@b"), "{shown}");
    assert!(!shown.contains("bad"), "{shown}");
}
