//! Answers given without a transaction (RFC 3261 section 8.2.7), and the canonical form of what is passed on.

use super::sanity::Refusal;
use super::transport::Transport;
use super::uri::{Host, SipUri};
use super::wire::{NameAddr, Start, Via, Wire, split_outside};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// From-tag given to a caller of RFC 2543 who sent none; taken off again on the way out (UDP).
pub(super) const OLD_TAG: &str = ";tag=zj-rfc2543";

/// The true RSeq of a reliable response, as it is passed on.
pub(super) const RSEQ: &str = "X-Reliable";

/// Headers the SIP library needs; the rest stays outside.
const PASSED: [&str; 21] = [
    "call-id",
    "cseq",
    "max-forwards",
    "record-route",
    "content-type",
    "retry-after",
    "reason",
    "www-authenticate",
    "proxy-authenticate",
    "expires",
    "min-expires",
    "allow",
    "supported",
    "session-expires",
    "min-se",
    "rack",
    "refer-to",
    "event",
    "subscription-state",
    "replaces",
    "record",
];

/// Vias that a stateless answer repeats.
const MOST_VIAS: usize = 100;

/// Builds the answer to `wire`. `tag` is our To-tag, put where the request had none.
pub(super) fn stateless(wire: &Wire, source: SocketAddr, tag: &str, agent: &str, refusal: &Refusal) -> Vec<u8> {
    let clean = |v: &str| v.replace(['\r', '\n'], " ");
    let mut out = format!("SIP/2.0 {} {}\r\n", refusal.code, clean(&refusal.reason));
    // A request that passed more proxies than Max-Forwards lets it is no request: its answer must not grow with it.
    let vias = wire.all("via").flat_map(|header| split_outside(header, b',').unwrap_or_else(|| vec![header]));
    for (i, value) in vias.take(MOST_VIAS).enumerate() {
        let value = match Via::parse(value) {
            Some(via) if i == 0 => clean(&received(via, source).write()),
            _ => clean(value.trim()),
        };
        let _ = write!(out, "Via: {value}\r\n");
    }
    if let Some(from) = wire.get("from") {
        let _ = write!(out, "From: {}\r\n", clean(from));
    }
    if let Some(to) = wire.get("to") {
        let tagged = NameAddr::parse(to).is_none_or(|a| a.tag().is_some());
        let add = if tagged { String::new() } else { format!(";tag={tag}") };
        let _ = write!(out, "To: {}{add}\r\n", clean(to));
    }
    for (name, key) in [("Call-ID", "call-id"), ("CSeq", "cseq")] {
        if let Some(value) = wire.get(key) {
            let _ = write!(out, "{name}: {}\r\n", clean(value));
        }
    }
    for (name, value) in &refusal.headers {
        let _ = write!(out, "{name}: {}\r\n", clean(value));
    }
    let _ = write!(out, "Server: {agent}\r\nContent-Length: 0\r\n\r\n");
    out.into_bytes()
}

/// Notes in the top Via where the request really came from (RFC 3261 section 18.2.1, RFC 3581).
fn received(mut via: Via, source: SocketAddr) -> Via {
    via.params.retain(|(n, _)| n != "received");
    via.params.push(("received".into(), Some(source.ip().to_string())));
    for (name, value) in &mut via.params {
        if name == "rport" {
            *value = Some(source.port().to_string());
        }
    }
    via
}

/// Rewrites a sound message for the SIP library: one form for each header, only the headers it needs,
/// the Contact of a caller behind address translation replaced by where the message came from.
pub(super) fn canonical(wire: &Wire, source: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
    let mut out = String::with_capacity(1024);
    let request = match &wire.start {
        Start::Request { method, uri, .. } => {
            let _ = write!(out, "{method} {uri} SIP/2.0\r\n");
            true
        }
        Start::Response { code, .. } => {
            let _ = write!(out, "SIP/2.0 {code} Status\r\n");
            false
        }
    };
    for (i, mut via) in Via::all(wire)?.into_iter().enumerate() {
        if request && i == 0 {
            // Answers go to where the request came from, whatever the sender says of himself.
            via = received(via, source);
            via.transport = transport.name().to_ascii_uppercase();
            if !via.params.iter().any(|(n, _)| n == "rport") {
                via.params.push(("rport".into(), Some(source.port().to_string())));
            }
        }
        let _ = write!(out, "Via: {}\r\n", via.write());
    }
    let mut from = NameAddr::parse(wire.get("from")?)?.write();
    if !from.contains(";tag=") {
        from.push_str(OLD_TAG);
    }
    let to = NameAddr::parse(wire.get("to")?)?.write();
    let _ = write!(out, "From: {from}\r\nTo: {to}\r\n");
    let routed = is_routed(wire, source.ip());
    let answers_register = !request && super::sanity::cseq(wire).is_some_and(|(_, method)| method == "REGISTER");
    match answers_register {
        true => bindings(wire, &mut out)?,
        false => contact(wire, source, transport, routed, &mut out)?,
    }
    for (name, value) in wire.headers.iter().filter(|(n, _)| PASSED.contains(&n.as_ref())) {
        if name == "record-route" && !routed {
            continue;
        }
        if name.ends_with("-authenticate") {
            let _ = write!(out, "{name}: {}\r\n", library_algorithm(value));
        } else {
            let _ = write!(out, "{name}: {value}\r\n");
        }
    }
    if request {
        // Who requires an extension supports it.
        let required = tokens(wire, "require").filter(|t| !t.is_empty());
        for extension in required {
            let _ = write!(out, "Supported: {extension}\r\n");
        }
    } else {
        provisional(wire, &mut out);
    }
    if out.bytes().any(|b| b < 0x20 && !matches!(b, b'\r' | b'\n' | b'\t')) {
        return None;
    }
    let body = wire.body();
    let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// A provisional response. It is passed without its Require, so that the library leaves the PRACK to us: its own comes
/// out of order and holds up the call. And it has an RSeq made of its To-tag: the library takes a response that is like
/// the last one for a repeated one, though it comes from another branch.
fn provisional(wire: &Wire, out: &mut String) -> Option<()> {
    let Start::Response { code: 101..=199, .. } = wire.start else { return None };
    let reliable = tokens(wire, "require").any(|t| t.eq_ignore_ascii_case("100rel"));
    let rseq = wire.get("rseq").filter(|_| reliable).and_then(|v| v.parse::<u32>().ok());
    let to = NameAddr::parse(wire.get("to")?)?;
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let branch = to.tag()?.bytes().fold(0x811c_9dc5, fnv);
    let _ = write!(out, "RSeq: {}\r\n", branch ^ rseq.unwrap_or(0));
    if let Some(rseq) = rseq {
        let _ = write!(out, "{RSEQ}: {rseq}\r\n");
    }
    Some(())
}

/// Tokens of a header that is a list.
pub(super) fn tokens<'w>(wire: &'w Wire, name: &'w str) -> impl Iterator<Item = &'w str> {
    wire.all(name).flat_map(|v| v.split(',')).map(str::trim)
}

/// The library knows SHA-256 (RFC 8760) only without its hyphen; [`super::mend::Mend`] puts it back.
fn library_algorithm(challenge: &str) -> String {
    let lower = challenge.to_ascii_lowercase();
    match lower.find("algorithm").and_then(|at| lower[at..].find("sha-").map(|i| at + i)) {
        Some(at) => format!("{}SHA{}", &challenge[..at], &challenge[at + 4..]),
        None => challenge.to_string(),
    }
}

/// Whether a proxy recorded itself as the next hop of the dialog, and that hop is where the message came from or an
/// address that its sender may name. Any other route would let a stranger choose whom our own requests go to. The next
/// hop is the first of a request, and the last of a response (RFC 3261 section 12.1).
fn is_routed(wire: &Wire, source: IpAddr) -> bool {
    let request = matches!(wire.start, Start::Request { .. });
    let all = wire.all("record-route");
    let Some(header) = (if request { wire.get("record-route") } else { all.last() }) else { return false };
    let hop =
        split_outside(header, b',').and_then(|all| NameAddr::parse(if request { all.first()? } else { all.last()? }));
    hop.and_then(|h| SipUri::parse(&h.uri).ok()).is_some_and(|uri| reachable(&uri.host, source))
}

/// The registrations a registrar lists, ours among them: as they stand, each with its life (RFC 3261 section 10.2.4).
fn bindings(wire: &Wire, out: &mut String) -> Option<()> {
    for header in wire.all("contact") {
        for mut contact in split_outside(header, b',')?.into_iter().filter_map(NameAddr::parse) {
            contact.display = None;
            contact.params.retain(|(name, _)| name == "expires");
            let _ = write!(out, "Contact: {}\r\n", contact.write());
        }
    }
    Some(())
}

fn contact(wire: &Wire, source: SocketAddr, transport: Transport, routed: bool, out: &mut String) -> Option<()> {
    let first = match wire.get("contact") {
        Some(header) => split_outside(header, b',')?.into_iter().next(),
        None => None,
    };
    let given = first.and_then(NameAddr::parse);
    let uri = given.as_ref().and_then(|c| SipUri::parse(&c.uri).ok());
    let transport = transport.param();
    let makes_dialog = matches!(wire.method(), "INVITE" | "UPDATE");
    match (given, uri) {
        (Some(mut c), Some(u)) => {
            // With a route recorded the next hop is the route's, and the Contact must stay as it was.
            if !routed && !reachable(&u.host, source.ip()) {
                let user = u.user.map(|n| format!("{}@", super::uri::escape_user(&n))).unwrap_or_default();
                c.uri = format!("sip:{user}{source}{transport}");
            }
            c.display = None;
            c.params.clear();
            let _ = write!(out, "Contact: {}\r\n", c.write());
        }
        // RFC 2543 callers may leave it out, and `tel:` reaches nobody.
        _ if makes_dialog => {
            let _ = write!(out, "Contact: <sip:{source}{transport}>\r\n");
        }
        _ => {}
    }
    Some(())
}

/// Whether a Contact's host can be sent to from here: an address of the same kind of network as the source.
/// Names are not looked up for a caller: answering him would then mean asking servers of his choice.
pub(super) fn reachable(host: &Host, source: IpAddr) -> bool {
    let Host::Ip(ip) = host else { return false };
    let odd = |ip: &IpAddr| match ip {
        IpAddr::V4(a) => a.is_unspecified() || a.is_broadcast() || a.is_multicast(),
        IpAddr::V6(a) => a.is_unspecified() || a.is_multicast(),
    };
    let local = |ip: &IpAddr| match ip {
        IpAddr::V4(a) => a.is_private() || a.is_loopback() || a.is_link_local(),
        IpAddr::V6(a) => {
            a.is_loopback() || (a.segments()[0] & 0xfe00) == 0xfc00 || (a.segments()[0] & 0xffc0) == 0xfe80
        }
    };
    *ip == source || !(odd(ip) || local(ip) || ip.is_ipv4() != source.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::sanity;

    fn invite(contact: &str) -> String {
        format!(
            "INVITE sip:400@h SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.9:5060;received=1.2.3.4;branch=z9hG4bK1;rport\r\n\
             f: sip:a@h;tag=1\r\nt: sip:400@h\r\ni: c\r\nCSeq: 1\r\n INVITE\r\nX-Internal: yes\r\n{contact}l: 0\r\n\r\n"
        )
    }

    #[test]
    fn a_caller_behind_address_translation_is_sent_to_where_he_came_from() {
        let source: SocketAddr = "203.0.113.7:40000".parse().unwrap();
        let form = |c: &str| {
            let text = invite(c);
            let w = Wire::parse(text.as_bytes()).unwrap();
            assert_eq!(sanity::check(&w), sanity::Verdict::Ok);
            String::from_utf8(canonical(&w, source, Transport::Udp).unwrap()).unwrap()
        };
        assert!(form("m: <sip:a@10.0.0.9:5060>\r\n").contains("Contact: <sip:a@203.0.113.7:40000>\r\n"));
        assert!(form("m: <sip:a@evil.example>\r\n").contains("Contact: <sip:a@203.0.113.7:40000>\r\n"));
        assert!(form("m: <sip:a@198.51.100.2>\r\n").contains("Contact: <sip:a@198.51.100.2>\r\n"));
        let text = form("");
        assert!(text.contains("Contact: <sip:203.0.113.7:40000>\r\n"));
        assert!(text.contains("cseq: 1 INVITE\r\n") && !text.contains("X-Internal") && !text.contains("1.2.3.4"));
    }

    #[test]
    fn a_route_that_leads_elsewhere_than_its_sender_is_not_followed() {
        let source: SocketAddr = "203.0.113.7:40000".parse().unwrap();
        let form = |headers: &str| {
            let text = invite(headers);
            let w = Wire::parse(text.as_bytes()).unwrap();
            String::from_utf8(canonical(&w, source, Transport::Udp).unwrap()).unwrap().to_ascii_lowercase()
        };
        let proxied = form("Record-Route: <sip:203.0.113.7;lr>\r\nm: <sip:a@10.0.0.9>\r\n");
        assert!(
            proxied.contains("record-route: <sip:203.0.113.7;lr>") && proxied.contains("contact: <sip:a@10.0.0.9>")
        );
        for hop in ["127.0.0.1:5432;transport=tcp", "10.0.0.1", "db.internal"] {
            let lured = form(&format!("Record-Route: <sip:{hop};lr>\r\nm: <sip:a@10.0.0.9>\r\n"));
            assert!(!lured.contains("record-route"), "{lured}");
            assert!(lured.contains("contact: <sip:a@203.0.113.7:40000>"), "{lured}");
        }
    }

    #[test]
    fn the_next_hop_of_a_response_is_the_last_that_recorded_itself() {
        let source: SocketAddr = "203.0.113.7:5060".parse().unwrap();
        let form = |routes: &str| {
            let text = format!(
                "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>;tag=2\r\n\
                 i: c\r\nCSeq: 1 INVITE\r\n{routes}m: <sip:b@10.0.0.9>\r\nl: 0\r\n\r\n"
            );
            let w = Wire::parse(text.as_bytes()).unwrap();
            String::from_utf8(canonical(&w, source, Transport::Udp).unwrap()).unwrap().to_ascii_lowercase()
        };
        // A proxy between two networks records both of its addresses; ours is the last.
        let both = "Record-Route: <sip:10.0.0.5;lr>, <sip:203.0.113.7;lr>\r\n";
        for routes in [both, "Record-Route: <sip:10.0.0.5;lr>\r\nRecord-Route: <sip:203.0.113.7;lr>\r\n"] {
            let kept = form(routes);
            assert!(kept.contains("<sip:10.0.0.5;lr>") && kept.contains("contact: <sip:b@10.0.0.9>"), "{kept}");
        }
        let lured = form("Record-Route: <sip:203.0.113.7;lr>, <sip:127.0.0.1:5432;transport=tcp;lr>\r\n");
        assert!(!lured.contains("5432") && lured.contains("contact: <sip:b@203.0.113.7:5060>"), "{lured}");
    }

    #[test]
    fn an_answer_does_not_grow_with_the_vias_of_its_request() {
        let many = format!("Via: {}\r\n", [";"; 50].join(",")).repeat(60);
        let text = format!("INVITE sip:400@h SIP/2.0\r\n{many}f: <sip:a@h>\r\n\r\n");
        let w = Wire::parse(text.as_bytes()).unwrap();
        let out = stateless(&w, "127.0.0.1:7".parse().unwrap(), "t1", "zj", &Refusal::new(400, "Bad Request"));
        assert_eq!(Wire::parse(&out).unwrap().all("via").count(), MOST_VIAS);
    }

    #[test]
    fn a_stateless_answer_copies_what_identifies_the_request_and_says_where_it_came_from() {
        let text = invite("");
        let w = Wire::parse(text.as_bytes()).unwrap();
        let source: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let refusal = Refusal::new(404, "Not Found").with("X-Note", "a\r\nInjected: b");
        let out = String::from_utf8(stateless(&w, source, "t1", "zj", &refusal)).unwrap();
        assert!(out.starts_with("SIP/2.0 404 Not Found\r\n"));
        assert!(
            out.contains("rport=7") && out.contains("received=127.0.0.1") && out.contains("To: sip:400@h;tag=t1\r\n")
        );
        assert!(!out.contains("\r\nInjected"));
        let back = Wire::parse(out.as_bytes()).unwrap();
        assert_eq!(sanity::check(&back), sanity::Verdict::Ok);
    }
}
