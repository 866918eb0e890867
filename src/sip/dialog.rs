//! One dialog (RFC 3261 section 12): who its ends are, where requests inside it go, and how they are numbered.

use super::compose::Content;
use super::routing;
use super::transport::{Hop, Transport};
use super::uri::{Host, SipUri, escape_user};
use super::wire::{NameAddr, Wire, tag_of};
use std::fmt::Write;
use std::net::SocketAddr;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The INVITE is on its way, or waits for us.
    Begun,
    /// Something was heard or said, but no answer.
    Early,
    /// We answered, and the ACK has not come.
    Answered,
    /// Both sides know.
    Confirmed,
}

/// A dialog. One that is not answered yet has no tag of the other side.
#[derive(Debug, Clone)]
pub(super) struct Dialog {
    pub call_id: String,
    /// Our tag.
    pub ours: String,
    /// Theirs; empty where there is none.
    pub theirs: String,
    /// From and To of our requests, tags and all.
    local: String,
    remote: String,
    /// Our Contact, in brackets.
    pub contact: String,
    /// Where requests of ours go, as it was written.
    pub target: String,
    /// Proxies between, each in brackets, in the order of our requests.
    pub routes: Vec<String>,
    /// Number of the last request of ours, and of the highest of theirs.
    pub number: u32,
    pub last: u32,
    /// We called.
    pub placed: bool,
    pub stage: Stage,
    /// Where the other side was reached or came from last.
    pub hop: Hop,
    /// The name of who was called there: what a certificate must be for.
    pub host: Option<String>,
}

/// A request of ours, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub hop: Hop,
    /// Whom a connection must be to, where that has a name.
    pub host: Option<String>,
    pub branch: String,
    pub number: u32,
    /// Request-URI: what a digest is made for.
    pub uri: String,
    pub bytes: Vec<u8>,
}

/// What requests need that a dialog does not know.
pub(super) struct Writer<'a> {
    /// Our address as a peer sees it.
    pub seen_by: &'a dyn Fn(SocketAddr, Transport) -> SocketAddr,
    /// Whether a connection is there.
    pub is_open: &'a dyn Fn(Hop) -> bool,
    pub agent: &'a str,
    pub random: u64,
}

impl Dialog {
    /// Of an INVITE that came: `tag` is ours, `contact` in brackets.
    pub fn of_invite(wire: &Wire, hop: Hop, tag: &str, contact: String) -> Option<Dialog> {
        let number = super::sanity::cseq(wire)?.0;
        Some(Dialog {
            call_id: wire.get("call-id")?.to_string(),
            ours: tag.to_string(),
            theirs: tag_of(wire.get("from")?).unwrap_or_default().to_string(),
            local: format!("{};tag={tag}", bracketed(wire.get("to")?)?),
            remote: wire.get("from")?.to_string(),
            contact,
            target: routing::target(wire, hop.at, hop.transport),
            routes: routing::recorded(wire, hop.at.ip()),
            number: 0,
            last: number,
            placed: false,
            stage: Stage::Begun,
            hop,
            host: None,
        })
    }

    /// To be begun by us: from `from` to `to` (both as written in the header, without tags) at the address `target`.
    pub fn begin(
        (call_id, tag): (String, String),
        from: &str,
        to: &str,
        target: String,
        contact: String,
        hop: Hop,
    ) -> Dialog {
        Dialog {
            call_id,
            local: format!("{from};tag={tag}"),
            ours: tag,
            theirs: String::new(),
            remote: to.to_string(),
            contact,
            target,
            routes: Vec::new(),
            number: 0,
            last: 0,
            placed: true,
            stage: Stage::Begun,
            hop,
            host: None,
        }
    }

    /// An answer to our INVITE says who is there and how he is reached.
    pub fn follow(&mut self, response: &Wire, hop: Hop) {
        if let Some(to) = response.get("to") {
            self.theirs = tag_of(to).unwrap_or_default().to_string();
            self.remote = to.to_string();
        }
        if response.get("contact").is_some() {
            self.target = routing::target(response, hop.at, hop.transport);
        }
        self.routes = routing::recorded(response, hop.at.ip());
        self.routes.reverse();
        if hop.transport.is_stream() {
            self.hop = hop;
        }
    }

    /// We are seen there by others: our Contact must lead there.
    pub fn seen_at(&mut self, at: SocketAddr) {
        let uri = NameAddr::parse(&self.contact).and_then(|contact| SipUri::parse(&contact.uri).ok());
        if let Some(SipUri { user: Some(user), params, .. }) = uri {
            self.contact = format!("<sip:{}@{at}{params}>", escape_user(&user));
        }
    }

    /// Where a request may move the other side to (section 12.2.2). Behind a proxy the source is the proxy's, not the
    /// phone's: then only a recorded route vouches for a Contact.
    pub fn moved_by(&self, request: &Wire, hop: Hop) -> Option<(String, Hop)> {
        let vouched = self.routes.is_empty() || request.get("record-route").is_some();
        let moves = vouched && request.get("contact").is_some();
        moves.then(|| (routing::target(request, hop.at, hop.transport), hop))
    }

    /// From now on requests of ours go there.
    pub fn retarget(&mut self, moved: Option<(String, Hop)>) {
        if let Some((target, hop)) = moved {
            self.target = target;
            self.hop = hop;
        }
    }

    /// The next hop: the first proxy, else the other side itself. What has a name and no address is sent where it came
    /// from: names are not looked up for others.
    pub fn next_hop(&self, is_open: &dyn Fn(Hop) -> bool) -> Hop {
        let route = self.routes.first().and_then(|route| NameAddr::parse(route)).map(|route| route.uri);
        let Ok(uri) = SipUri::parse(route.as_deref().unwrap_or(&self.target)) else { return self.hop };
        let Host::Ip(ip) = uri.host else { return self.hop };
        let named = uri.param("transport").and_then(|name| Transport::from_name(&name));
        let transport = match named {
            _ if uri.scheme == "sips" => Transport::Tls,
            // Both kinds of WebSocket have one name (RFC 7118).
            Some(named) if named.is_web() && self.hop.transport.is_web() => self.hop.transport,
            Some(named) => named,
            None => self.hop.transport,
        };
        // A connection that is there is used, wherever its other end would listen: that was proved, and may be the only way.
        if transport.is_stream() && transport == self.hop.transport && is_open(self.hop) {
            return self.hop;
        }
        Hop { transport, at: SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port())) }
    }

    /// Request-URI and routes; a first proxy that routes strictly wants itself as the target (section 12.2.1.1).
    fn road(&self) -> (String, Vec<&str>) {
        let mut routes: Vec<&str> = self.routes.iter().map(String::as_str).collect();
        let strict = routes
            .first()
            .and_then(|first| NameAddr::parse(first))
            .map(|first| first.uri)
            .filter(|uri| SipUri::parse(uri).is_ok_and(|uri| uri.param("lr").is_none()));
        match strict {
            Some(uri) => {
                routes.remove(0);
                (uri, routes)
            }
            None => (self.target.clone(), routes),
        }
    }

    /// A request while there is no dialog yet, or never will be, by the hop that was chosen for it: the target's host may
    /// have a name and several servers.
    pub fn outside(&mut self, method: &str, content: &Content, w: &Writer<'_>) -> Ready {
        self.number += 1;
        self.write(method, self.number, self.hop, content, w)
    }

    /// The next request.
    pub fn request(&mut self, method: &str, content: &Content, w: &Writer<'_>) -> Ready {
        self.number += 1;
        self.write(method, self.number, self.next_hop(w.is_open), content, w)
    }

    /// The ACK of an answer to our INVITE with that number.
    pub fn ack(&self, number: u32, content: &Content, w: &Writer<'_>) -> Ready {
        self.write("ACK", number, self.next_hop(w.is_open), content, w)
    }

    fn write(&self, method: &str, number: u32, hop: Hop, content: &Content, w: &Writer<'_>) -> Ready {
        let branch = format!("z9hG4bK{:016x}", w.random);
        let (uri, routes) = self.road();
        let mut out = String::with_capacity(700);
        let by = hop.transport.name().to_ascii_uppercase();
        let at = (w.seen_by)(hop.at, hop.transport);
        let _ = write!(out, "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{by} {at};branch={branch};rport\r\n");
        for route in &routes {
            let _ = write!(out, "Route: {route}\r\n");
        }
        if routes.len() < self.routes.len() {
            let _ = write!(out, "Route: <{}>\r\n", self.target);
        }
        let _ = write!(
            out,
            "Max-Forwards: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n",
            content.hops.unwrap_or(70),
            self.local,
            self.remote,
            self.call_id
        );
        if !matches!(method, "BYE" | "ACK") {
            let _ = write!(out, "Contact: {}\r\n", self.contact);
        }
        let _ = write!(out, "User-Agent: {}\r\n", w.agent);
        content.write(&mut out);
        let host = self.host.clone();
        Ready { hop, host, branch, number, uri, bytes: out.into_bytes() }
    }
}

/// A From or To value that a tag can be put behind.
fn bracketed(value: &str) -> Option<String> {
    // Without brackets what follows would belong to the URI; a tag it has is not ours.
    let mut address = NameAddr::parse(value)?;
    address.params.retain(|(name, _)| name != "tag");
    Some(address.write())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(text: &str, transport: Transport) -> Hop {
        Hop { transport, at: text.parse().unwrap() }
    }

    fn invite(more: &str) -> String {
        format!(
            "INVITE sip:400@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=f\r\n\
             To: sip:400@h\r\nCall-ID: c\r\nCSeq: 3 INVITE\r\n{more}Content-Length: 0\r\n\r\n"
        )
    }

    fn ours(text: &str, from: Hop) -> (Dialog, String) {
        let wire = Wire::parse(text.as_bytes()).unwrap();
        let mut dialog = Dialog::of_invite(&wire, from, "us", "<sip:400@192.0.2.1>".into()).unwrap();
        let seen_by = |_, _| "192.0.2.1:5060".parse().unwrap();
        let w = Writer { seen_by: &seen_by, is_open: &|_| true, agent: "zj", random: 7 };
        let ready = dialog.request("BYE", &Content::default(), &w);
        assert_eq!(ready.hop, dialog.next_hop(&|_| true));
        (dialog, String::from_utf8(ready.bytes).unwrap())
    }

    #[test]
    fn a_request_of_the_called_side_turns_the_ends_round() {
        let from = hop("192.0.2.9:5070", Transport::Udp);
        let (dialog, bye) = ours(&invite("Contact: <sip:a@192.0.2.9:5071>\r\n"), from);
        assert!(
            bye.starts_with("BYE sip:a@192.0.2.9:5071 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"),
            "{bye}"
        );
        assert!(
            bye.contains("From: <sip:400@h>;tag=us\r\nTo: <sip:a@h>;tag=f\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n"),
            "{bye}"
        );
        assert_eq!(dialog.next_hop(&|_| true).at.port(), 5071);
    }

    /// What we write means to another parser what we meant.
    #[test]
    fn a_second_reader_reads_what_we_write() {
        use rsipstack::sip::{HeadersExt, SipMessage};
        let from = hop("[2001:db8::9]:5060", Transport::Udp);
        for (to, display) in
            [("sip:8001%40firm@192.0.2.7:5070", ""), ("sips:a;b=c@h.example", "\"张 三\" "), ("sip:h", "")]
        {
            let me = format!("{display}<sip:400@192.0.2.1>");
            let (names, uri) = (("c1@zongji".to_string(), "us".to_string()), to.to_string());
            let mut dialog = Dialog::begin(names, &me, &format!("<{to}>"), uri, "<sip:400@192.0.2.1>".into(), from);
            let seen_by = |_, _| "192.0.2.1:5060".parse().unwrap();
            let w = Writer { seen_by: &seen_by, is_open: &|_| true, agent: "zj", random: 7 };
            for method in ["INVITE", "PRACK", "REFER", "INFO", "BYE", "OPTIONS", "REGISTER"] {
                let content = Content::default().with("Supported", "timer").sdp("v=0\r\n");
                let ready = dialog.outside(method, &content, &w);
                let mut all = vec![(ready.bytes.clone(), method)];
                if method == "INVITE" {
                    let compose = super::super::compose::ack_of;
                    all.push((compose(&ready.bytes, &format!("<{to}>;tag=x")).unwrap(), "ACK"));
                    all.push((super::super::compose::cancel_of(&ready.bytes).unwrap(), "CANCEL"));
                }
                for (bytes, method) in all {
                    let Ok(SipMessage::Request(read)) = SipMessage::try_from(&bytes[..]) else {
                        panic!("{}", String::from_utf8_lossy(&bytes));
                    };
                    assert_eq!(read.method.to_string(), method);
                    assert_eq!(read.call_id_header().unwrap().value(), "c1@zongji");
                    assert_eq!(read.cseq_header().unwrap().seq().unwrap(), dialog.number);
                    assert_eq!(read.from_header().unwrap().tag().unwrap().unwrap().value(), "us");
                    assert_eq!(read.body.len(), if matches!(method, "ACK" | "CANCEL") { 0 } else { 5 });
                    let wire = Wire::parse(&bytes).unwrap();
                    assert!(matches!(super::super::sanity::check(&wire), super::super::sanity::Verdict::Ok));
                    let head = super::super::reply::head(&wire, from.at, "them");
                    let answer = super::super::compose::response(200, &head, &content, "zj");
                    let Ok(SipMessage::Response(read)) = SipMessage::try_from(&answer[..]) else {
                        panic!("{}", String::from_utf8_lossy(&answer));
                    };
                    assert_eq!((read.status_code.code(), read.body.len()), (200, 5));
                }
            }
        }
    }

    #[test]
    fn a_connection_that_is_there_is_used_whatever_the_contact_says() {
        let from = hop("192.0.2.9:40001", Transport::Tcp);
        for contact in ["<sip:a@192.0.2.9>", "<sip:a@192.0.2.9:5060;transport=tcp>", "<sip:a@198.51.100.7>"] {
            let (dialog, _) = ours(&invite(&format!("Contact: {contact}\r\n")), from);
            assert_eq!(dialog.next_hop(&|_| true), from, "{contact}");
            if contact.contains("198.51") {
                continue;
            }
            assert_eq!(dialog.next_hop(&|_| false), hop("192.0.2.9:5060", Transport::Tcp), "it is gone: {contact}");
        }
        let (dialog, _) = ours(&invite("Contact: <sip:a@192.0.2.9;transport=udp>\r\n"), from);
        assert_eq!(dialog.next_hop(&|_| true), hop("192.0.2.9:5060", Transport::Udp));
        let web = hop("192.0.2.9:40001", Transport::Wss);
        let (dialog, _) = ours(&invite("Contact: <sip:x@abc.invalid;transport=ws>\r\n"), web);
        assert_eq!(dialog.next_hop(&|_| true), web);
    }

    #[test]
    fn proxies_come_first_and_one_that_routes_strictly_is_the_target() {
        let from = hop("192.0.2.9:5060", Transport::Udp);
        let loose = "Record-Route: <sip:192.0.2.9:5080;lr>, <sip:far;lr>\r\nContact: <sip:a@10.0.0.1>\r\n";
        let (dialog, bye) = ours(&invite(loose), from);
        assert!(bye.starts_with("BYE sip:a@10.0.0.1 "), "{bye}");
        assert!(bye.contains("Route: <sip:192.0.2.9:5080;lr>\r\nRoute: <sip:far;lr>\r\n"), "{bye}");
        assert_eq!(dialog.next_hop(&|_| true).at.port(), 5080);
        let (_, bye) = ours(&invite("Record-Route: <sip:192.0.2.9:5080>\r\nContact: <sip:a@10.0.0.1>\r\n"), from);
        assert!(bye.starts_with("BYE sip:192.0.2.9:5080 ") && bye.contains("Route: <sip:a@10.0.0.1>\r\n"), "{bye}");
    }
}
