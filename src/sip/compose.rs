//! Messages of ours as text (RFC 3261 section 7).

use super::wire::{Start, Wire};
use std::fmt::Write;

/// What a message says besides what identifies it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    lines: String,
    body: Option<(&'static str, String)>,
    /// Max-Forwards of a request, where it is not the usual one.
    pub hops: Option<u8>,
}

impl Content {
    /// One header more. What would begin another line becomes a blank.
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Content {
        self.lines.push_str(name);
        self.lines.push_str(": ");
        self.lines.extend(value.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.lines.push_str("\r\n");
        self
    }

    /// Headers of another one besides.
    pub fn and(mut self, other: &Content) -> Content {
        self.lines.push_str(&other.lines);
        self
    }

    /// With a session description.
    pub fn sdp(self, sdp: impl Into<String>) -> Content {
        self.body("application/sdp", sdp)
    }

    /// With a body of a kind.
    pub fn body(mut self, kind: &'static str, body: impl Into<String>) -> Content {
        self.body = Some((kind, body.into()));
        self
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push_str(&self.lines);
        let (kind, body) = match &self.body {
            Some((kind, body)) => (Some(*kind), body.as_str()),
            None => (None, ""),
        };
        if let Some(kind) = kind {
            let _ = write!(out, "Content-Type: {kind}\r\n");
        }
        let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
    }
}

/// An answer; `head` is what all answers to its request begin with.
pub(super) fn response(code: u16, head: &str, content: &Content, agent: &str) -> Vec<u8> {
    let mut out = String::with_capacity(head.len() + content.lines.len() + 160);
    let _ = write!(out, "SIP/2.0 {code} {}\r\n{head}Server: {agent}\r\n", phrase(code));
    content.write(&mut out);
    out.into_bytes()
}

/// The ACK of a refused INVITE (section 17.1.1.3): its first Via, its target and routes, and the To of the answer.
pub(super) fn ack_of(invite: &[u8], to: &str) -> Option<Vec<u8>> {
    of_invite(invite, "ACK", Some(to))
}

/// The CANCEL of an INVITE (section 9.1): its first Via, ends, Call-ID, number and routes, and nothing else.
pub(super) fn cancel_of(invite: &[u8]) -> Option<Vec<u8>> {
    of_invite(invite, "CANCEL", None)
}

fn of_invite(invite: &[u8], method: &str, to: Option<&str>) -> Option<Vec<u8>> {
    let wire = Wire::parse(invite).ok()?;
    let Start::Request { uri, .. } = &wire.start else { return None };
    let mut out = format!("{method} {uri} SIP/2.0\r\nVia: {}\r\n", wire.get("via")?);
    for route in wire.all("route") {
        let _ = write!(out, "Route: {route}\r\n");
    }
    let (from, call_id) = (wire.get("from")?, wire.get("call-id")?);
    let (to, number) = (to.or(wire.get("to"))?, wire.get("cseq")?.split(' ').next()?);
    let _ = write!(
        out,
        "Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Some(out.into_bytes())
}

/// What a status is called (RFC 3261 section 21 and the registry).
pub(super) fn phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        _ => match code / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirected",
            4 => "Refused",
            5 => "Server Error",
            _ => "Refused Everywhere",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:8001%40x@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport\r\n\
        Route: <sip:p;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\
        Authorization: Digest x\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0";

    #[test]
    fn an_ack_and_a_cancel_have_what_identifies_their_invite_and_no_more() {
        for (bytes, method, to) in
            [(ack_of(INVITE, "<sip:b@h>;tag=2"), "ACK", "<sip:b@h>;tag=2"), (cancel_of(INVITE), "CANCEL", "<sip:b@h>")]
        {
            let bytes = bytes.unwrap();
            let wire = Wire::parse(&bytes).unwrap();
            assert!(bytes.starts_with(format!("{method} sip:8001%40x@192.0.2.7 ").as_bytes()));
            let get = |name| wire.get(name).unwrap_or_default().to_string();
            assert_eq!(get("via"), "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport");
            assert_eq!((get("route"), get("to"), get("cseq")), ("<sip:p;lr>".into(), to.into(), format!("7 {method}")));
            assert_eq!((get("authorization"), get("content-length")), (String::new(), "0".into()));
        }
    }

    #[test]
    fn no_value_breaks_out_of_its_line() {
        let content = Content::default().with("X-Note", "a\r\nInjected: b").sdp("v=0\r\n");
        let bytes = response(183, "To: <sip:a@b>\r\n", &content, "zj");
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(
                "SIP/2.0 183 Session Progress\r\nTo: <sip:a@b>\r\nServer: zj\r\nX-Note: a  Injected: b\r\n"
            )
        );
        assert!(text.ends_with("Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"));
    }
}
