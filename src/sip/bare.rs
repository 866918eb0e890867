//! A caller without transactions: messages made and read one by one, for line checks and load tests.
//!
//! An agent mends what a line does wrong (it repeats, it follows a source, it drops what is odd). A line check must see
//! just that: where the Contact leads, how often the 200 comes again after the ACK, what the Via came back with. A load
//! test wants it because it costs next to nothing. No sockets, clocks or chance: bytes and seeds in, bytes out.

use super::uri::{Host, SipUri};
use super::wire::{NameAddr, Start, Via, Wire, split_outside};
use super::{digest, uri};
use std::net::{IpAddr, SocketAddr};

/// A message that came.
#[derive(Debug, Clone)]
pub enum Seen {
    /// An answer to something we sent.
    Reply(Box<Reply>),
    /// Something we are asked.
    Request(Box<Request>),
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status code, 100-699.
    pub code: u16,
    /// Method of the request it answers.
    pub method: String,
    /// Number of that request.
    pub cseq: u32,
    /// Which call.
    pub call_id: String,
    /// URI of its Contact.
    pub contact: Option<String>,
    /// Our address as the other side saw it: `received` and `rport` of our Via (RFC 3581).
    pub reflexive: (Option<IpAddr>, Option<u16>),
    /// Server or User-Agent.
    pub server: Option<String>,
    /// Allow, as written.
    pub allow: Option<String>,
    /// Warning or Reason, as written: often the only word about a refusal.
    pub why: Option<String>,
    /// Seconds of Retry-After.
    pub retry_after: Option<u32>,
    /// The session description.
    pub sdp: Option<String>,
    to: String,
    routes: Vec<String>,
    challenge: Option<(u16, String)>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Which call.
    pub call_id: String,
    /// The session description.
    pub sdp: Option<String>,
    /// Via, From, To, Call-ID and CSeq lines, for the answer.
    head: String,
    /// To without a tag.
    untagged: bool,
}

/// Reads a datagram; none for what is no SIP.
pub fn read(datagram: &[u8]) -> Option<Seen> {
    let wire = Wire::parse(datagram).ok()?;
    let call_id = wire.get("call-id")?.to_owned();
    let sdp = std::str::from_utf8(wire.body()).ok().filter(|b| !b.is_empty()).map(str::to_owned);
    if let Start::Request { method, .. } = &wire.start {
        let (method, untagged) = (method.clone(), NameAddr::parse(wire.get("to")?)?.tag().is_none());
        let mut head = String::new();
        for (name, shown) in [("via", "Via"), ("record-route", "Record-Route"), ("from", "From")] {
            wire.all(name).for_each(|v| head.push_str(&format!("{shown}: {v}\r\n")));
        }
        head.push_str(&format!("Call-ID: {call_id}\r\nCSeq: {}\r\nTo: {}", wire.get("cseq")?, wire.get("to")?));
        return Some(Seen::Request(Box::new(Request { method, call_id, sdp, head, untagged })));
    }
    let Start::Response { code, .. } = wire.start else { return None };
    let (cseq, method) = wire.get("cseq")?.split_once(char::is_whitespace)?;
    let via = Via::all(&wire)?;
    let param = |name: &str| via.first()?.params.iter().find(|(n, _)| n == name)?.1.clone();
    let text = |name: &str| wire.get(name).map(str::to_owned);
    let challenge = |name: &str, code| text(name).map(|c| (code, c));
    Some(Seen::Reply(Box::new(Reply {
        code,
        method: method.trim().to_owned(),
        cseq: cseq.parse().ok()?,
        call_id,
        contact: wire.get("contact").and_then(NameAddr::parse).map(|c| c.uri),
        reflexive: (param("received").and_then(|r| r.parse().ok()), param("rport").and_then(|p| p.parse().ok())),
        server: text("server").or_else(|| text("user-agent")),
        allow: text("allow"),
        why: text("warning").or_else(|| text("reason")),
        retry_after: wire.get("retry-after").and_then(|r| r.split([' ', ';', '(']).next()?.parse().ok()),
        sdp,
        to: wire.get("to")?.to_owned(),
        routes: wire.all("record-route").filter_map(|r| split_outside(r, b',')).flatten().map(str::to_owned).collect(),
        challenge: challenge("www-authenticate", 401).or_else(|| challenge("proxy-authenticate", 407)),
    })))
}

impl Reply {
    /// How many proxies stay in the way of the call (Record-Route).
    pub fn proxies(&self) -> usize {
        self.routes.len()
    }
}

impl Request {
    /// The answer to it. `tag` is ours where the request has none; with `contact` and `sdp` it may take a call.
    pub fn answer(&self, code: u16, tag: &str, contact: Option<SocketAddr>, sdp: Option<&str>) -> String {
        let tag = if self.untagged { format!(";tag={tag}") } else { String::new() };
        let contact = contact.map_or(String::new(), |c| format!("Contact: <sip:{c}>\r\n"));
        let phrase = if code < 300 { "OK" } else { "No" };
        let head = format!("SIP/2.0 {code} {phrase}\r\n{}{tag}\r\n{contact}", self.head);
        with_body(head, sdp.map(|s| ("application/sdp", s)))
    }
}

/// One call, or one question outside of any.
#[derive(Debug, Clone)]
pub struct BareCall {
    uri: String,
    from: String,
    contact: SocketAddr,
    seed: u64,
    cseq: u32,
    invite: u32,
    authorization: Option<String>,
    remote: Option<Remote>,
}

#[derive(Debug, Clone)]
struct Remote {
    to: String,
    target: String,
    /// In the order of requests.
    routes: Vec<String>,
}

impl BareCall {
    /// A call to `uri` from a number; `contact` is what we say of ourselves, `seed` makes Call-ID and tags.
    pub fn new(uri: &str, from: &str, contact: SocketAddr, seed: u64) -> BareCall {
        BareCall {
            uri: uri.into(),
            from: from.into(),
            contact,
            seed,
            cseq: 0,
            invite: 0,
            authorization: None,
            remote: None,
        }
    }

    /// Its Call-ID.
    pub fn call_id(&self) -> String {
        format!("{:016x}@zongji-line", self.seed)
    }

    /// An INVITE with an offer.
    pub fn invite(&mut self, sdp: &str) -> String {
        self.cseq += 1;
        self.invite = self.cseq;
        let head = self.head("INVITE", self.cseq, &format!("i{}", self.cseq));
        with_body(head, Some(("application/sdp", sdp)))
    }

    /// An OPTIONS: within the dialog once there is one.
    pub fn options(&mut self) -> String {
        self.next("OPTIONS", None)
    }

    /// A BYE.
    pub fn bye(&mut self) -> String {
        self.next("BYE", None)
    }

    /// A key as INFO.
    pub fn info(&mut self, key: char) -> String {
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        self.next("INFO", Some(("application/dtmf-relay", &body)))
    }

    fn next(&mut self, method: &str, body: Option<(&str, &str)>) -> String {
        self.cseq += 1;
        with_body(self.head(method, self.cseq, &format!("n{}", self.cseq)), body)
    }

    /// Gives an unanswered INVITE up.
    pub fn cancel(&self) -> String {
        with_body(self.head("CANCEL", self.invite, &format!("i{}", self.invite)), None)
    }

    /// Follows an answer to our INVITE: from a 2xx on there is a dialog. Gives the ACK that it wants.
    pub fn answered(&mut self, reply: &Reply) -> Option<String> {
        if reply.method != "INVITE" || reply.cseq != self.invite || reply.code < 200 {
            return None;
        }
        if reply.code < 300 {
            let target = reply.contact.clone().unwrap_or_else(|| self.uri.clone());
            let routes = reply.routes.iter().rev().cloned().collect();
            self.remote = Some(Remote { to: reply.to.clone(), target, routes });
            return Some(with_body(self.head("ACK", self.invite, &format!("a{}", self.invite)), None));
        }
        let failed = Remote { to: reply.to.clone(), target: self.uri.clone(), routes: Vec::new() };
        let refused = BareCall { remote: Some(failed), ..self.clone() };
        Some(with_body(refused.head("ACK", self.invite, &format!("i{}", self.invite)), None))
    }

    /// Answers a challenge: the next INVITE carries the proof. False when there is nothing to answer, or again.
    pub fn prove(&mut self, reply: &Reply, user: &str, password: &str) -> bool {
        let Some((code, challenge)) = reply.challenge.as_ref().filter(|_| self.authorization.is_none()) else {
            return false;
        };
        let cnonce = format!("{:016x}", self.seed.rotate_left(17));
        let Some(proof) = digest::respond(challenge, "INVITE", &self.uri, user, password, &cnonce) else {
            return false;
        };
        let name = if *code == 407 { "Proxy-Authorization" } else { "Authorization" };
        self.authorization = Some(format!("{name}: {proof}\r\n"));
        true
    }

    /// Host and port to which requests within the dialog go: the first proxy, else the Contact.
    pub fn next_hop(&self) -> Option<(String, u16)> {
        let remote = self.remote.as_ref()?;
        let first = remote.routes.first().and_then(|r| NameAddr::parse(r)).map(|r| r.uri);
        host_of(first.as_deref().unwrap_or(&remote.target))
    }

    fn head(&self, method: &str, cseq: u32, branch: &str) -> String {
        let (target, to) = match &self.remote {
            Some(r) if method != "CANCEL" => (r.target.as_str(), r.to.clone()),
            _ => (self.uri.as_str(), format!("<{}>", self.uri)),
        };
        let routes =
            self.remote.iter().flat_map(|r| &r.routes).fold(String::new(), |s, r| s + &format!("Route: {r}\r\n"));
        let proof = self.authorization.as_deref().filter(|_| method == "INVITE").unwrap_or_default();
        let contact = if matches!(method, "INVITE" | "OPTIONS") {
            format!("Contact: <sip:{}@{}>\r\n", self.from, self.contact)
        } else {
            String::new()
        };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{seed:016x}{branch};rport\r\n{routes}\
             Max-Forwards: 70\r\nFrom: <sip:{from}@{at}>;tag={tag:08x}\r\nTo: {to}\r\nCall-ID: {id}\r\n\
             CSeq: {cseq} {method}\r\n{contact}{proof}Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO\r\n",
            at = self.contact,
            seed = self.seed,
            from = self.from,
            tag = (self.seed >> 16) as u32,
            id = self.call_id(),
        )
    }
}

/// Host and port of a SIP URI.
pub fn host_of(uri: &str) -> Option<(String, u16)> {
    let uri = SipUri::parse(uri).ok()?;
    let host = match uri.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name,
    };
    Some((host, uri.port.unwrap_or(5060)))
}

/// Host and port of `host`, `host:port`, `[v6]:port`, with a port where none is written.
pub fn host_port(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, given) = uri::host_port(text)?;
    let host = match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name,
    };
    Some((host, given.unwrap_or(port)))
}

fn with_body(head: String, body: Option<(&str, &str)>) -> String {
    match body {
        Some((kind, body)) => format!("{head}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        None => format!("{head}Content-Length: 0\r\n\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call() -> BareCall {
        BareCall::new("sip:400@192.0.2.9", "7000", "192.0.2.5:5062".parse().unwrap(), 0xABCD)
    }

    fn reply(code: u16, more: &str) -> Reply {
        let text = format!(
            "SIP/2.0 {code} X\r\nVia: SIP/2.0/UDP 192.0.2.5:5062;branch=z9hG4bK1;received=203.0.113.4;rport=40000\r\n\
             From: <sip:7000@192.0.2.5>;tag=1\r\nTo: <sip:400@192.0.2.9>;tag=zz\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{more}\r\n"
        );
        let Some(Seen::Reply(reply)) = read(text.as_bytes()) else { panic!("no reply: {text}") };
        *reply
    }

    #[test]
    fn an_answer_tells_where_we_were_seen_and_its_ack_goes_to_the_contact() {
        let mut c = call();
        assert!(Wire::parse(c.invite("v=0\r\n").as_bytes()).unwrap().broken.is_none());
        let ok = reply(200, "Contact: <sip:h@10.0.0.9:5070>\r\n");
        assert_eq!(ok.reflexive, (Some("203.0.113.4".parse().unwrap()), Some(40_000)));
        let ack = c.answered(&ok).unwrap();
        assert!(ack.starts_with("ACK sip:h@10.0.0.9:5070 SIP/2.0\r\n") && ack.contains("tag=zz"), "{ack}");
        assert_eq!(c.next_hop(), Some(("10.0.0.9".into(), 5070)));
        assert!(c.bye().contains("CSeq: 2 BYE"));
    }

    #[test]
    fn a_proxy_that_stays_in_the_way_gets_what_follows() {
        let mut c = call();
        c.invite("v=0\r\n");
        let ok = reply(200, "Contact: <sip:h@10.0.0.9>\r\nRecord-Route: <sip:near;lr>, <sip:far:5099;lr>\r\n");
        let ack = c.answered(&ok).unwrap();
        assert_eq!(c.next_hop(), Some(("far".into(), 5099)), "the last that is recorded is the first on the way back");
        assert!(ack.find("Route: <sip:far") < ack.find("Route: <sip:near"), "{ack}");
    }

    #[test]
    fn a_refusal_is_confirmed_where_the_invite_went() {
        let mut c = call();
        c.invite("v=0\r\n");
        let ack = c.answered(&reply(486, "Warning: 399 x \"busy\"\r\n")).unwrap();
        assert!(ack.starts_with("ACK sip:400@192.0.2.9 SIP/2.0") && ack.contains("i1;rport"), "{ack}");
        assert!(c.next_hop().is_none());
    }

    #[test]
    fn a_challenge_is_answered_once() {
        let mut c = call();
        c.invite("v=0\r\n");
        let asked = reply(401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=MD5\r\n");
        assert!(c.prove(&asked, "u", "p"));
        assert!(c.invite("v=0\r\n").contains("Authorization: Digest username=\"u\""));
        assert!(!c.prove(&asked, "u", "p"), "a second time the password is wrong");
    }

    #[test]
    fn a_request_is_answered_with_its_own_lines() {
        let text = call().invite("v=0\r\n");
        let Some(Seen::Request(asked)) = read(text.as_bytes()) else { panic!("{text}") };
        let answer = asked.answer(200, "me", Some("127.0.0.1:5090".parse().unwrap()), Some("v=0\r\n"));
        let Some(Seen::Reply(r)) = read(answer.as_bytes()) else { panic!("{answer}") };
        assert_eq!((r.code, r.cseq, r.call_id.as_str()), (200, 1, call().call_id().as_str()));
        assert!(r.to.ends_with(";tag=me") && r.sdp.is_some());
    }

    proptest! {
        #[test]
        fn no_datagram_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _nothing_to_say = read(&bytes);
        }

        #[test]
        fn no_cut_of_an_answer_breaks_the_reader(cut in 0usize..300) {
            let mut c = call();
            let text = c.invite("v=0\r\n");
            let _nothing_to_say = read(&text.as_bytes()[..cut.min(text.len())]);
        }
    }
}
