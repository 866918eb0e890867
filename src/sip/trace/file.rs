//! One trace as one file: lines `word value`, then each message with its length before it.
//!
//! ```text
//! zongji-trace 1
//! id 01KBBX…
//! kind call                     (or: refused)
//! began 1732723200123456
//! from 138****8000
//! …
//! leg caller a84b4c76e66710@203.0.113.7
//! message 1732723200123456 in udp 192.0.2.1:5060 203.0.113.7:5060 812 -
//! INVITE sip:400@192.0.2.1 SIP/2.0
//! …
//! ```

use super::{Ending, LegTrace, Role, Seen, Trace, Way};
use crate::sip::transport::Transport;
use std::fmt::Write;

const MAGIC: &str = "zongji-trace 1";

/// Why a file is no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// Something else altogether.
    #[error("it is no trace of this program's")]
    Foreign,
    /// A line that cannot be read.
    #[error("it is damaged after byte {0}")]
    Damaged(usize),
}

/// Values stand on one line.
fn line(value: &str) -> String {
    value.replace(['\r', '\n'], " ")
}

/// Everything but the messages.
fn head(t: &Trace) -> String {
    let kind = if t.refused { "refused" } else { "call" };
    let e = &t.ending;
    let mut out = format!("{MAGIC}\nid {}\nkind {kind}\nbegan {}\n", line(&t.id), t.began);
    for (word, value) in [("from", &e.from), ("to", &e.to), ("why", &e.why), ("why-zh", &e.why_zh)] {
        let _ = writeln!(out, "{word} {}", line(value));
    }
    let _ = writeln!(out, "cause {}\nlost {}", e.cause, t.lost);
    for leg in &t.legs {
        let _ = writeln!(out, "leg {} {}", leg.role.name(), line(&leg.call_id));
    }
    out
}

/// A trace as bytes.
pub(super) fn write(t: &Trace) -> Vec<u8> {
    let mut out = head(t).into_bytes();
    for m in &t.messages {
        let way = if m.way == Way::In { "in" } else { "out" };
        let refused = m.refused.as_deref().unwrap_or("-");
        let (carrier, bytes) = (m.carrier.name(), m.bytes.len());
        let line = format!("message {} {way} {carrier} {} {} {bytes} {refused}\n", m.at, m.local, m.remote);
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(&m.bytes);
        out.push(b'\n');
    }
    out
}

/// Reads a trace; with `head_only` no messages.
pub(super) fn read(data: &[u8], head_only: bool) -> Result<Trace, BadTrace> {
    let mut t = Trace {
        id: String::new(),
        refused: false,
        began: 0,
        ending: Ending::default(),
        lost: 0,
        legs: Vec::new(),
        messages: Vec::new(),
    };
    let mut at = 0;
    let mut first = true;
    while let Some(length) = data.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
        let damaged = BadTrace::Damaged(at);
        let text = std::str::from_utf8(&data[at..at + length]).map_err(|_| damaged)?;
        at += length + 1;
        if std::mem::take(&mut first) {
            if text != MAGIC {
                return Err(BadTrace::Foreign);
            }
            continue;
        }
        match text.split_once(' ').unwrap_or((text, "")) {
            ("message", _) if head_only => break,
            ("message", rest) => {
                let (mut seen, bytes) = message(rest).ok_or(damaged)?;
                let end = at.checked_add(bytes).ok_or(damaged)?;
                seen.bytes = data.get(at..end).ok_or(damaged)?.to_vec();
                at = end + 1;
                t.messages.push(seen);
            }
            (word, value) => field(&mut t, word, value).ok_or(damaged)?,
        }
    }
    match first {
        true => Err(BadTrace::Foreign),
        false if !head_only && at < data.len() => Err(BadTrace::Damaged(at)),
        false => Ok(t),
    }
}

fn field(t: &mut Trace, word: &str, value: &str) -> Option<()> {
    match word {
        "id" => t.id = value.into(),
        "kind" => t.refused = value == "refused",
        "began" => t.began = value.parse().ok()?,
        "from" => t.ending.from = value.into(),
        "to" => t.ending.to = value.into(),
        "why" => t.ending.why = value.into(),
        "why-zh" => t.ending.why_zh = value.into(),
        "cause" => t.ending.cause = value.parse().ok()?,
        "lost" => t.lost = value.parse().ok()?,
        "leg" => {
            let (role, call_id) = value.split_once(' ')?;
            t.legs.push(LegTrace { role: Role::named(role)?, call_id: call_id.into() });
        }
        _ => {} // a later version knows more
    }
    Some(())
}

fn message(rest: &str) -> Option<(Seen, usize)> {
    let mut words = rest.split(' ');
    let at = words.next()?.parse().ok()?;
    let way = match words.next()? {
        "in" => Way::In,
        "out" => Way::Out,
        _ => return None,
    };
    let carrier = Transport::from_name(words.next()?)?;
    let (local, remote) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let bytes = words.next()?.parse().ok()?;
    let refused = words.next().filter(|w| *w != "-").map(String::from);
    Some((Seen { at, way, carrier, local, remote, refused, bytes: Vec::new() }, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trace() -> Trace {
        let seen = |at, way, bytes: &[u8], refused: Option<&str>| Seen {
            at,
            way,
            carrier: Transport::Tls,
            local: "[2001:db8::1]:5061".parse().unwrap(),
            remote: "192.0.2.7:40000".parse().unwrap(),
            refused: refused.map(String::from),
            bytes: bytes.to_vec(),
        };
        Trace {
            id: "01KBBX0000000000000000000A".into(),
            refused: true,
            began: 17,
            ending: Ending {
                from: "138****8000".into(),
                to: "400".into(),
                cause: 65,
                why: "no codec in common".into(),
                why_zh: "双方没有共同的语音编码".into(),
            },
            lost: 3,
            legs: vec![LegTrace { role: Role::Caller, call_id: "a b@c".into() }],
            messages: vec![
                seen(17, Way::In, b"INVITE x\r\n\r\nmessage 1 in\n", Some("no_codec")),
                seen(18, Way::Out, b"", None),
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_and_the_head_alone_too() {
        let t = trace();
        let bytes = write(&t);
        assert_eq!(read(&bytes, false).as_ref(), Ok(&t));
        assert_eq!(read(&bytes, true), Ok(Trace { messages: Vec::new(), ..t }));
        assert_eq!(read(b"hello\n", false), Err(BadTrace::Foreign));
        assert_eq!(read(b"", false), Err(BadTrace::Foreign));
        assert!(matches!(read(&bytes[..bytes.len() - 20], false), Err(BadTrace::Damaged(_))));
    }

    proptest! {
        #[test]
        fn no_damage_makes_reading_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut bytes = write(&trace());
            let n = bytes.len();
            bytes[at % n] = byte;
            bytes.truncate(n - cut % n);
            let _either = read(&bytes, false);
        }
    }
}
