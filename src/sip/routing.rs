//! Where requests of ours go that follow a message: its Contact and the proxies that recorded themselves, as far as its
//! sender may name them (RFC 3261 section 12.1).

use super::transport::Transport;
use super::uri::{Host, SipUri, escape_user};
use super::wire::{NameAddr, Start, Wire, split_outside};
use std::net::{IpAddr, SocketAddr};

/// The proxies that recorded themselves, each as written, in the order of the message; none where its sender may not name
/// them.
pub(super) fn recorded(wire: &Wire, source: IpAddr) -> Vec<String> {
    if !is_routed(wire, source) {
        return Vec::new();
    }
    let values = wire.all("record-route").filter_map(|header| split_outside(header, b',')).flatten();
    values.map(|value| value.trim().to_string()).filter(|value| !value.is_empty()).collect()
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

/// The remote target: the first Contact, replaced by where the message came from where its sender cannot be reached at
/// what he gives (behind address translation), or gives nothing (RFC 2543, `tel:`).
pub(super) fn target(wire: &Wire, source: SocketAddr, transport: Transport) -> String {
    let first = wire.get("contact").and_then(|header| split_outside(header, b',')?.into_iter().next());
    let given = first.and_then(NameAddr::parse).map(|contact| contact.uri);
    let uri = given.as_ref().and_then(|uri| SipUri::parse(uri).ok()).filter(|uri| uri.scheme != "tel");
    let transport = transport.param();
    match (given, uri) {
        // With a route recorded the next hop is the route's, and the Contact must stay as it was.
        (Some(given), Some(uri)) if reachable(&uri.host, source.ip()) || is_routed(wire, source.ip()) => given,
        (_, Some(uri)) => {
            let user = uri.user.map(|name| format!("{}@", escape_user(&name))).unwrap_or_default();
            format!("sip:{user}{source}{transport}")
        }
        _ => format!("sip:{source}{transport}"),
    }
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

    const SOURCE: &str = "203.0.113.7:40000";

    fn invite(headers: &str) -> String {
        format!(
            "INVITE sip:400@h SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;rport\r\nf: sip:a@h;tag=1\r\n\
             t: sip:400@h\r\ni: c\r\nCSeq: 1 INVITE\r\n{headers}l: 0\r\n\r\n"
        )
    }

    fn read(text: &str) -> (Vec<String>, String) {
        let source: SocketAddr = SOURCE.parse().unwrap();
        let wire = Wire::parse(text.as_bytes()).unwrap();
        (recorded(&wire, source.ip()), target(&wire, source, Transport::Udp))
    }

    #[test]
    fn a_caller_behind_address_translation_is_sent_to_where_he_came_from() {
        let form = |contact: &str| read(&invite(contact)).1;
        assert_eq!(form("m: <sip:a@10.0.0.9:5060>\r\n"), "sip:a@203.0.113.7:40000");
        assert_eq!(form("m: <sip:a@evil.example>\r\n"), "sip:a@203.0.113.7:40000");
        assert_eq!(form("m: <sip:a@198.51.100.2>\r\n"), "sip:a@198.51.100.2");
        assert_eq!(form("m: <tel:+8613800138000>\r\n"), "sip:203.0.113.7:40000");
        assert_eq!(form(""), "sip:203.0.113.7:40000");
    }

    #[test]
    fn a_route_that_leads_elsewhere_than_its_sender_is_not_followed() {
        let (routes, target) = read(&invite("Record-Route: <sip:203.0.113.7;lr>\r\nm: <sip:a@10.0.0.9>\r\n"));
        assert_eq!((routes, target.as_str()), (vec!["<sip:203.0.113.7;lr>".to_string()], "sip:a@10.0.0.9"));
        for hop in ["127.0.0.1:5432;transport=tcp", "10.0.0.1", "db.internal"] {
            let (routes, target) = read(&invite(&format!("Record-Route: <sip:{hop};lr>\r\nm: <sip:a@10.0.0.9>\r\n")));
            assert!(routes.is_empty(), "{routes:?}");
            assert_eq!(target, "sip:a@203.0.113.7:40000");
        }
    }

    #[test]
    fn the_next_hop_of_a_response_is_the_last_that_recorded_itself() {
        let form = |routes: &str| {
            read(&format!(
                "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>;tag=2\r\n\
                 i: c\r\nCSeq: 1 INVITE\r\n{routes}m: <sip:b@10.0.0.9>\r\nl: 0\r\n\r\n"
            ))
        };
        // A proxy between two networks records both of its addresses; ours is the last.
        let both = "Record-Route: <sip:10.0.0.5;lr>, <sip:203.0.113.7;lr>\r\n";
        for routes in [both, "Record-Route: <sip:10.0.0.5;lr>\r\nRecord-Route: <sip:203.0.113.7;lr>\r\n"] {
            let (kept, target) = form(routes);
            assert_eq!(kept, ["<sip:10.0.0.5;lr>", "<sip:203.0.113.7;lr>"]);
            assert_eq!(target, "sip:b@10.0.0.9");
        }
        let (kept, target) = form("Record-Route: <sip:203.0.113.7;lr>, <sip:127.0.0.1:5432;transport=tcp;lr>\r\n");
        assert_eq!((kept.len(), target.as_str()), (0, "sip:b@203.0.113.7:40000"));
    }
}
