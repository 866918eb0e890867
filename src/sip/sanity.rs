//! Whether a message is sound, judged before anything believes it (RFC 3261 section 8.2, RFC 4475).
//!
//! A pure function: bytes cut into a [`Wire`] in, a verdict out.

use super::refused::RefusedFor;
use super::uri::{BadUri, SipUri};
use super::wire::{NameAddr, Start, Via, Wire, split_outside};

/// Methods we serve; also what `Allow` says.
pub(super) const ALLOW: &str =
    "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY, MESSAGE, REGISTER";
/// Methods that exist but are not for us.
const KNOWN: [&str; 2] = ["PUBLISH", "SUBSCRIBE"];
/// Longest text of a MESSAGE, bytes.
const MAX_TEXT: usize = 4096;
/// Extensions that may be required of us.
pub(super) const SUPPORTED: &str = "100rel, timer, replaces";
/// What we support in a change of a call that stands.
pub(super) const SUPPORTED_INSIDE: &str = "timer, replaces";
/// Headers of which one is the law.
const SINGLE: [&str; 14] = [
    "from",
    "to",
    "call-id",
    "cseq",
    "max-forwards",
    "content-length",
    "content-type",
    "expires",
    "min-expires",
    "timestamp",
    "session-expires",
    "min-se",
    "rseq",
    "rack",
];
/// Headers that answers and later requests repeat, besides From and To.
const REPEATED: [&str; 5] = ["via", "call-id", "cseq", "record-route", "contact"];
/// Headers whose whole value is one 32-bit number.
const NUMBERS: [&str; 6] = ["expires", "min-expires", "retry-after", "session-expires", "min-se", "rseq"];

/// An answer that needs no transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Status code.
    pub code: u16,
    /// Reason phrase; says what is wrong.
    pub reason: String,
    /// More headers of the answer.
    pub headers: Vec<(&'static str, String)>,
    /// The stream cannot be trusted after this: close it.
    pub close: bool,
    /// The word it is counted under; none for an answer that refuses nothing.
    pub why: Option<RefusedFor>,
}

impl Refusal {
    /// An answer of a code and a phrase.
    pub fn new(code: u16, reason: impl Into<String>) -> Refusal {
        let why = RefusedFor::of_status(code);
        Refusal { code, reason: reason.into(), headers: Vec::new(), close: false, why }
    }

    /// Counted under another word than its status says.
    pub fn because(mut self, why: RefusedFor) -> Refusal {
        self.why = Some(why);
        self
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Sound as far as syntax goes.
    Ok,
    /// Answer so (requests only, never an ACK).
    Reply(Refusal),
    /// Say nothing.
    Drop,
}

/// A CSeq header: number and method.
pub(super) fn cseq<'w>(wire: &'w Wire) -> Option<(u32, &'w str)> {
    let mut parts = wire.get("cseq")?.split_whitespace();
    let (number, method) = (parts.next()?, parts.next()?);
    let digits = number.len() <= 12 && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    (parts.next().is_none() && number <= 0x7fff_ffff).then_some((number as u32, method))
}

/// Judges a message.
pub(super) fn check(wire: &Wire) -> Verdict {
    let fault = match &wire.start {
        Start::Request { method, uri, version } => request(wire, method, uri, version),
        Start::Response { version, code } => {
            let sound = version.eq_ignore_ascii_case("SIP/2.0") && (100..700).contains(code) && shape(wire).is_ok();
            return if sound { Verdict::Ok } else { Verdict::Drop };
        }
    };
    match fault {
        Ok(()) => Verdict::Ok,
        // An ACK is never answered (RFC 3261 section 17).
        Err(_) if wire.method() == "ACK" => Verdict::Drop,
        Err(refusal) => Verdict::Reply(refusal),
    }
}

type Check = Result<(), Refusal>;

fn bad(reason: &str) -> Refusal {
    Refusal::new(400, reason)
}

fn request(wire: &Wire, method: &str, uri: &str, version: &str) -> Check {
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Refusal::new(505, "Version Not Supported"));
    }
    let scheme = match SipUri::parse(uri) {
        Ok(u) if u.headers.is_some() => {
            return Err(bad("Headers in Request-URI").because(RefusedFor::RequestUri));
        }
        Ok(u) => u.scheme,
        Err(BadUri::Syntax) => return Err(bad("Bad Request-URI").because(RefusedFor::RequestUri)),
        Err(BadUri::Scheme) => String::new(),
    };
    shape(wire)?;
    let (_, named) = cseq(wire).ok_or_else(|| bad("Bad CSeq"))?;
    if named != method {
        return Err(bad("CSeq method differs"));
    }
    if !matches!(scheme.as_str(), "sip" | "sips" | "tel") {
        return Err(Refusal::new(416, "Unsupported URI Scheme"));
    }
    extensions(wire, method)?;
    method_served(method)?;
    // Nobody answers for us: the next hop of a call is ours to make, and it would be one too many (RFC 7332).
    if method == "INVITE" && wire.get("max-forwards").is_some_and(|v| v.parse() == Ok(0u32)) {
        return Err(Refusal::new(483, "Too Many Hops"));
    }
    content(wire, method)
}

/// Rules common to requests and responses.
fn shape(wire: &Wire) -> Check {
    if let Some(reason) = wire.broken {
        return Err(bad(reason));
    }
    if let Some(name) = SINGLE.iter().find(|n| wire.all(n).count() > 1) {
        let mut refusal = bad(&format!("More than one {name}"));
        refusal.close = *name == "content-length";
        return Err(refusal);
    }
    if let Some(name) = ["from", "to", "call-id", "cseq", "via"].iter().find(|n| wire.get(n).is_none()) {
        return Err(bad(&format!("Missing {name}")));
    }
    if REPEATED.iter().any(|n| wire.all(n).any(has_controls)) {
        return Err(bad("Control characters"));
    }
    content_length(wire)?;
    let call_id = wire.get("call-id").unwrap_or_default();
    if call_id.is_empty() || call_id.len() > 256 || call_id.contains(char::is_whitespace) {
        return Err(bad("Bad Call-ID"));
    }
    for name in ["from", "to"] {
        let tag_ok = |t: &str| !t.is_empty() && t.len() <= 256 && t.bytes().all(super::wire::is_token_byte);
        match NameAddr::parse(wire.get(name).unwrap_or_default()) {
            Some(a) if a.params.iter().any(|(_, v)| v.as_deref().is_some_and(has_controls)) => {
                return Err(bad("Control characters"));
            }
            Some(a) if a.tag().is_none_or(tag_ok) => {}
            _ => return Err(bad(&format!("Bad {name}"))),
        }
    }
    match Via::all(wire) {
        Some(vias) if !vias.is_empty() => {}
        _ => return Err(bad("Bad Via")),
    }
    cseq(wire).ok_or_else(|| bad("Bad CSeq"))?;
    contacts(wire)?;
    numbers(wire)
}

fn has_controls(value: &str) -> bool {
    value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f)
}

fn content_length(wire: &Wire) -> Check {
    let Some(value) = wire.get("content-length") else { return Ok(()) };
    let digits = !value.is_empty() && value.len() <= 9 && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse::<usize>() {
        Ok(n) if digits && n <= wire.rest.len() => Ok(()),
        _ => {
            let mut refusal = bad("Bad Content-Length").because(RefusedFor::ContentLength);
            refusal.close = true;
            Err(refusal)
        }
    }
}

fn contacts(wire: &Wire) -> Check {
    for header in wire.all("contact") {
        if header == "*" {
            continue;
        }
        let values = split_outside(header, b',').ok_or_else(|| bad("Bad Contact"))?;
        for value in values {
            let contact = NameAddr::parse(value).ok_or_else(|| bad("Bad Contact"))?;
            let expires = contact.param("expires").map(|e| e.parse::<u32>());
            if matches!(expires, Some(Err(_))) {
                return Err(bad("Bad Contact expires"));
            }
        }
    }
    Ok(())
}

fn numbers(wire: &Wire) -> Check {
    if wire.get("max-forwards").is_some_and(|v| v.len() > 9 || v.parse::<u32>().map_or(true, |n| n > 255)) {
        return Err(bad("Bad Max-Forwards"));
    }
    for name in NUMBERS {
        // Retry-After may carry a comment and parameters after its number (RFC 3261 section 20.33).
        let first = |v: &str| v.split([' ', ';', '(']).next().unwrap_or_default().parse::<u32>().is_err();
        if wire.get(name).is_some_and(first) {
            return Err(bad(&format!("Bad {name}")));
        }
    }
    Ok(())
}

fn extensions(wire: &Wire, method: &str) -> Check {
    if matches!(method, "ACK" | "CANCEL") {
        return Ok(());
    }
    let ours = |v: &str| SUPPORTED.split(", ").any(|s| s.eq_ignore_ascii_case(v));
    let all = wire.all("require").flat_map(|v| v.split(',')).map(str::trim);
    let required: Vec<&str> = all.filter(|v| !v.is_empty() && !ours(v)).collect();
    if required.is_empty() {
        return Ok(());
    }
    let listed: String = required.join(", ").chars().filter(|c| !c.is_control()).take(400).collect();
    Err(Refusal::new(420, "Bad Extension").with("Unsupported", listed))
}

fn method_served(method: &str) -> Check {
    if ALLOW.split(", ").any(|m| m == method) {
        return Ok(());
    }
    let (code, reason) = if KNOWN.contains(&method) { (405, "Method Not Allowed") } else { (501, "Not Implemented") };
    Err(Refusal::new(code, reason).with("Allow", ALLOW))
}

/// Body and Accept of a session offer (INVITE, UPDATE).
fn content(wire: &Wire, method: &str) -> Check {
    if method == "MESSAGE" {
        return text(wire);
    }
    if !matches!(method, "INVITE" | "UPDATE" | "ACK" | "PRACK") {
        return Ok(());
    }
    let encoding = wire.get("content-encoding").unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(Refusal::new(415, "Unsupported Media Type").with("Accept-Encoding", "identity"));
    }
    let kind = wire.get("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !wire.body().is_empty() && !kind.eq_ignore_ascii_case("application/sdp") {
        return Err(Refusal::new(415, "Unsupported Media Type").with("Accept", "application/sdp"));
    }
    let mut accepts = wire.all("accept").flat_map(|v| v.split(',')).peekable();
    let ours = |v: &str| {
        let v = v.split(';').next().unwrap_or_default().trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|a| v.eq_ignore_ascii_case(a))
    };
    if method == "INVITE" && accepts.peek().is_some() && !accepts.any(ours) {
        return Err(Refusal::new(406, "Not Acceptable").with("Accept", "application/sdp"));
    }
    Ok(())
}

/// A MESSAGE is plain text, and short.
fn text(wire: &Wire) -> Check {
    let kind = wire.get("content-type").unwrap_or("text/plain").split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("text/plain") || wire.get("content-encoding").is_some() {
        return Err(Refusal::new(415, "Unsupported Media Type").with("Accept", "text/plain"));
    }
    match wire.body().len() {
        0..=MAX_TEXT => Ok(()),
        _ => Err(Refusal::new(413, "Request Entity Too Large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "INVITE sip:400@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n\
        From: \"A\" <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:400@127.0.0.1>\r\nCall-ID: c@x\r\nCSeq: 1 INVITE\r\n\
        Contact: <sip:a@127.0.0.1:9>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

    fn code(text: &str) -> u16 {
        match check(&Wire::parse(text.as_bytes()).expect("a head")) {
            Verdict::Ok => 0,
            Verdict::Reply(r) => r.code,
            Verdict::Drop => 1,
        }
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code(GOOD), 0);
        for (from, to, want) in [
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", 505),
            ("sip:400@127.0.0.1 SIP", "<sip:400@127.0.0.1> SIP", 400),
            ("sip:400@127.0.0.1 SIP", "sip:400@127.0.0.1; lr SIP", 400),
            ("sip:400@127.0.0.1 SIP", "sip:::1 SIP", 400),
            ("sip:400@127.0.0.1 SIP", "soap.beep://a SIP", 416),
            ("CSeq: 1 INVITE", "CSeq: 1 OPTIONS", 400),
            ("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE", 400),
            ("CSeq: 1 INVITE", "CSeq: 36893488147419103232 INVITE", 400),
            ("Max-Forwards: 70", "Max-Forwards: 300", 400),
            ("Content-Length: 5", "Content-Length: -5", 400),
            ("Content-Length: 5", "Content-Length: 999", 400),
            ("Content-Length: 5", "Content-Length: 5\r\nl: 6", 400),
            ("Call-ID: c@x", "Call-ID: c@x\r\ni: d@x", 400),
            ("Call-ID: c@x\r\n", "", 400),
            ("From: \"A\"", "From: \"A", 400),
            ("Contact: <sip:a@127.0.0.1:9>", "Contact: <sip:a@127.0.0.1:9>;;", 400),
            ("Max-Forwards: 70", "Require: precondition", 420),
            ("Max-Forwards: 70", "Require: 100rel, timer", 0),
            ("Max-Forwards: 70", "Session-Expires: soon", 400),
            ("application/sdp", "text/plain", 415),
            ("Max-Forwards: 70", "Content-Encoding: gzip", 415),
            ("Max-Forwards: 70", "Accept: text/plain", 406),
            ("Max-Forwards: 70", "Accept: text/plain, application/sdp", 0),
            ("Max-Forwards: 70", "X y: 1", 400),
            ("Max-Forwards: 70", "Max-Forwards: 0", 483),
            ("Max-Forwards: 70", "no colon here", 400),
        ] {
            assert_eq!(code(&GOOD.replacen(from, to, 1)), want, "{from} -> {to}");
        }
        assert_eq!(code(&GOOD.replace("INVITE", "SUBSCRIBE")), 405);
        assert_eq!(code(&GOOD.replace("INVITE", "Invite")), 501);
        assert_eq!(code(&GOOD.replace("INVITE", "ACK").replace("Max-Forwards: 70", "Max-Forwards: x")), 1);
    }

    #[test]
    fn a_broken_response_is_never_answered() {
        let ok = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
            To: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(code(ok), 0);
        assert_eq!(code(&ok.replace("200 OK", "700 OK")), 1);
        assert_eq!(code(&ok.replace("CSeq: 1", "CSeq: 9223372036854775808")), 1);
        assert!(Wire::parse(ok.replace("200 OK", "4294967301 better").as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(w) = Wire::parse(&data) { check(&w); }
        }

        #[test]
        fn no_mutation_of_a_good_message_makes_it_panic(
            edits in proptest::collection::vec((0usize..GOOD.len(), any::<u8>(), 0usize..4), 1..12),
        ) {
            let mut data = GOOD.as_bytes().to_vec();
            for (at, byte, how) in edits {
                let at = at % data.len().max(1);
                match how {
                    0 => data[at] = byte,
                    1 => data.insert(at, byte),
                    2 if data.len() > 1 => { data.remove(at); }
                    _ => { let tail = data[at..].to_vec(); data.extend(tail); data.truncate(8000); }
                }
            }
            if let Ok(w) = Wire::parse(&data) { check(&w); let _ = w.body(); }
        }
    }
}
