//! The gate under damaged messages, over each transport: what it lets pass is sound, what it answers is an answer.

use super::gate::{Gate, Outcome};
use super::sanity::{Verdict, check};
use super::settings::{Account, Served, SipSettings};
use super::trace::Tracer;
use super::transport::Transport;
use super::wire::{Start, Wire};
use crate::clock::Mono;
use crate::fuzz::harness::{files, fuzz_living};
use std::path::Path;

/// Messages as phones send them.
fn seeds() -> Vec<Vec<u8>> {
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";
    let message = |first: &str, cseq: &str, more: &str, body: &str| {
        format!(
            "{first}\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK77;rport\r\nMax-Forwards: 70\r\n\
             From: \"A\" <sip:13800138000@192.0.2.1;user=phone>;tag=f1\r\nTo: <sip:400@192.0.2.9>\r\nCall-ID: c1@192.0.2.1\r\n\
             CSeq: {cseq}\r\nContact: <sip:a@192.0.2.1:5060;transport=udp>\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let kind = "Content-Type: application/sdp\r\nSupported: 100rel, timer\r\nSession-Expires: 1800;refresher=uac\r\n";
    let digest = "Expires: 300\r\nAuthorization: Digest username=\"8001\", realm=\"zongji\", nonce=\"0123\", uri=\"sip:h\", \
                  response=\"0123456789abcdef0123456789abcdef\", qop=auth, nc=00000001, cnonce=\"c\"\r\n";
    let compact = "INVITE sip:400@h SIP/2.0\r\nv: SIP/2.0/TCP h;branch=z9hG4bKa\r\nf: <sip:a@h>;tag=1\r\nt: <sip:400@h>\r\n\
                   i: c2\r\nCSeq: 1 INVITE\r\nm: <sip:a@h>\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n";
    let relayed = "P-Asserted-Identity: <sip:+8613800138000@h>\r\nDiversion: <sip:4009@h>;reason=no-answer\r\n\
                   Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nHistory-Info: <sip:1@h>;index=1\r\n";
    vec![
        message("INVITE sip:400@192.0.2.9 SIP/2.0", "1 INVITE", kind, sdp),
        message("INVITE sip:400@192.0.2.9:5060;transport=tcp SIP/2.0", "7 INVITE", relayed, ""),
        message("REGISTER sip:192.0.2.9 SIP/2.0", "2 REGISTER", digest, ""),
        message("OPTIONS sip:192.0.2.9 SIP/2.0", "3 OPTIONS", "Accept: application/sdp\r\n", ""),
        message("REFER sip:400@192.0.2.9 SIP/2.0", "4 REFER", "Refer-To: <sip:8001@h?Replaces=a%3Bto-tag%3Db>\r\n", ""),
        message("MESSAGE sip:400@192.0.2.9 SIP/2.0", "5 MESSAGE", "Content-Type: text/plain\r\n", "hello"),
        message("BYE sip:400@192.0.2.9 SIP/2.0", "6 BYE", "Reason: Q.850;cause=16\r\n", ""),
        message("SIP/2.0 200 OK", "1 INVITE", kind, sdp),
        message("SIP/2.0 401 Unauthorized", "2 REGISTER", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n", ""),
        compact.as_bytes().to_vec(),
    ]
}

fn gate() -> Gate {
    let account = Account { user: "8001".into(), password: "geheim".into() };
    let settings = SipSettings {
        users: Served::from_list(["400".to_string()]),
        accounts: vec![account],
        ..SipSettings::default()
    };
    Gate::new(settings, Tracer::default(), [3; 32])
}

/// What passed would pass again; what is answered is a response that no byte of the request broke out of.
fn judged(outcome: &Outcome<'_>, input: &[u8]) -> u64 {
    match outcome {
        Outcome::Pass { wire, .. } => {
            assert!(matches!(check(wire), Verdict::Ok), "what passed is sound: {}", input.escape_ascii());
            let owned = wire.clone().into_owned();
            assert_eq!((&owned.headers, owned.body()), (&wire.headers, wire.body()));
            1000
        }
        Outcome::Reply { bytes, .. } => {
            assert!(bytes.len() <= 4 * input.len() + 4096, "{} bytes to answer {}", bytes.len(), input.len());
            if bytes.len() > 65_000 {
                return 3000; // no datagram holds it, so nobody reads it
            }
            let wire = Wire::parse(bytes).unwrap_or_else(|_| panic!("an answer is SIP: {}", bytes.escape_ascii()));
            let Start::Response { code, .. } = wire.start else { panic!("an answer: {}", bytes.escape_ascii()) };
            let lone = bytes.windows(2).any(|w| w[0] != b'\r' && w[1] == b'\n');
            assert!(!lone, "a line of its own: {}", bytes.escape_ascii());
            u64::from(code)
        }
        Outcome::Drop { close, .. } => 2000 + u64::from(*close),
    }
}

#[test]
fn fuzz_sip() {
    let mut seeds = seeds();
    for rfc in ["rfc4475", "rfc5118"] {
        seeds.extend(files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/sip/torture").join(rfc)));
    }
    let words: &[&[u8]] = &[
        b"\r\n",
        b"\r\n ",
        b"\r\n\r\n",
        b": ",
        b" :",
        b";tag=",
        b"%00",
        b"%2b",
        b"\"",
        b"\\",
        b"<",
        b">",
        b",",
        b"Via: ",
        b"v:",
        b"SIP/2.0",
        b"sip:",
        b"sips:",
        b"tel:",
        b"Content-Length: 1\r\n",
        b"l: 99\r\n",
        b"CSeq: 4294967295 INVITE\r\n",
        b"Max-Forwards: 0\r\n",
        b"Require: 100rel\r\n",
        b"[2001:db8::1]",
        b"\xff\xfe",
        "你".as_bytes(),
    ];
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
    // A source that asked too often is not answered: it begins anew now and then.
    fuzz_living("sip", seeds, words, 100, || {
        let (g, mut n) = (gate(), 0u64);
        move |bytes: &[u8]| {
            n += 1;
            // By the input, so that it goes the same way when it is tried alone.
            let transport = all[bytes.iter().map(|b| usize::from(*b)).sum::<usize>() % 5];
            let source = std::net::SocketAddr::from(([198, 51, 100, (n % 250) as u8], 5060));
            let _read_or_not = super::bare::read(bytes);
            let outcome = g.inspect(bytes, source, transport, Mono::from_ms(10_000 + n), n);
            assert!(g.calls(|c| c.active()) <= 200, "no more calls than messages");
            let head = Wire::parse(bytes).map_or(0, |w| w.method().len() as u64);
            judged(&outcome, bytes) * 16 + head % 16
        }
    });
}
