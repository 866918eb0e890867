//! Answers: those given without a transaction (RFC 3261 section 8.2.7), and what all answers to a request begin with.

use super::sanity::Refusal;
use super::wire::{NameAddr, Via, Wire, split_outside};
use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;

/// Vias that an answer repeats.
const MOST_VIAS: usize = 100;

/// Builds the answer to `wire`. `tag` is our To-tag, put where the request had none.
pub(super) fn stateless(wire: &Wire, source: SocketAddr, tag: &str, agent: &str, refusal: &Refusal) -> Vec<u8> {
    let mut out = format!("SIP/2.0 {} {}\r\n", refusal.code, clean(&refusal.reason));
    out.push_str(&head(wire, source, tag));
    for (name, value) in &refusal.headers {
        let _ = write!(out, "{name}: {}\r\n", clean(value));
    }
    let _ = write!(out, "Server: {agent}\r\nContent-Length: 0\r\n\r\n");
    out.into_bytes()
}

fn clean(value: &str) -> Cow<'_, str> {
    if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ").into() } else { value.into() }
}

/// What every answer to a request begins with: its Via lines with where it really came from, From, To, Call-ID, CSeq.
pub(super) fn head(wire: &Wire, source: SocketAddr, tag: &str) -> String {
    let mut out = String::with_capacity(320);
    // A request that passed more proxies than Max-Forwards lets it is no request: its answer must not grow with it.
    let vias = wire.all("via").flat_map(|header| split_outside(header, b',').unwrap_or_else(|| vec![header]));
    for (i, value) in vias.take(MOST_VIAS).enumerate() {
        let value = match Via::parse(value) {
            Some(via) if i == 0 => received(via, source).write(),
            _ => value.trim().to_owned(),
        };
        let _ = write!(out, "Via: {}\r\n", clean(&value));
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
    out
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
