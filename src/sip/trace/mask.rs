//! Masking: what a trace may not hold. A number keeps its first and last digits, a secret nothing, and what is left is
//! still a message that parses.
//!
//! Two nets, one behind the other: known places are masked for what they are (the user of an address, a display name, the
//! answer to a challenge, a key of SRTP), and then every row of digits that is long enough to be somebody's number is
//! masked wherever it stands, in Call-IDs, tags and unknown headers too. The same text is masked the same way each time,
//! so what belonged together still does.

use crate::pii::{self, SHORTEST_NUMBER};
use crate::sip::uri::escape_user;
use crate::sip::wire::{Wire, head_end, split_outside};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// What stands for a secret.
const HIDDEN: &str = "****";
/// Headers that are made of addresses with display names.
const ADDRESSES: [&str; 14] = [
    "from",
    "to",
    "contact",
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
    "diversion",
    "history-info",
    "refer-to",
    "referred-by",
    "reply-to",
    "p-called-party-id",
    "p-associated-uri",
    "route",
];
/// Headers that begin with a number of SIP's own.
const NUMBERED: [&str; 11] = [
    "cseq",
    "content-length",
    "max-forwards",
    "expires",
    "min-expires",
    "session-expires",
    "min-se",
    "retry-after",
    "rseq",
    "rack",
    "timestamp",
];
/// Users that are nobody's name.
const NOBODY: [&str; 6] = ["zongji", "anonymous", "unavailable", "unknown", "restricted", "ping"];
/// Words in a header's name that say that its value is a secret.
const SECRETS: [&str; 7] = ["password", "passwd", "secret", "token", "cookie", "api-key", "apikey"];

/// A whole message, masked. Bytes without an end of head are masked as a head.
pub fn message(data: &[u8]) -> Vec<u8> {
    let end = head_end(data).unwrap_or(data.len());
    let wire = Wire::parse(data).ok();
    let body = match &wire {
        Some(wire) => masked_body(wire),
        None => Vec::new(),
    };
    let head = String::from_utf8_lossy(&data[..end]);
    let lines = unfolded(head.trim_end_matches("\r\n"));
    let fits = wire
        .as_ref()
        .is_some_and(|w| w.get("content-length").is_some_and(|v| v.parse::<usize>().is_ok_and(|n| n <= w.rest.len())));
    let mut out = String::with_capacity(data.len());
    for (n, line) in lines.iter().enumerate() {
        let masked = match line.split_once(':') {
            _ if n == 0 => start_line(line),
            Some((name, value)) => header(name, value, fits.then_some(body.len())),
            None => text(line),
        };
        let _ = write!(out, "{masked}\r\n");
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(&body);
    out
}

/// A Call-ID as it stands in masked messages.
pub fn call_id(id: &str) -> String {
    text(id)
}

/// Lines of a head, folded ones joined (RFC 3261 section 7.3.1).
fn unfolded(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in head.split("\r\n") {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.to_string()),
        }
    }
    lines
}

fn start_line(line: &str) -> String {
    if line.len() >= 4 && line.as_bytes()[..4].eq_ignore_ascii_case(b"SIP/") {
        let (status, phrase) = line.split_at(line.match_indices(' ').nth(1).map_or(line.len(), |(at, _)| at));
        return format!("{status}{}", digits(phrase));
    }
    // The version's digits stand beside the address: they are no part of it.
    match line.rsplit_once(' ') {
        Some((request, version)) => format!("{} {version}", text(request)),
        None => text(line),
    }
}

fn header(name: &str, value: &str, body: Option<usize>) -> String {
    let plain = name.trim().to_ascii_lowercase();
    let value = value.trim();
    let masked = match plain.as_str() {
        "content-length" | "l" if body.is_some() => body.unwrap_or_default().to_string(),
        "via" | "v" => via(value),
        "authorization" | "proxy-authorization" => credentials(value),
        "authentication-info" | "proxy-authentication-info" => fields(value),
        "identity" | "y" => HIDDEN.into(),
        n if SECRETS.iter().any(|s| n.contains(s)) || n.starts_with("x-auth") => HIDDEN.into(),
        n if NUMBERED.contains(&n) || n == "l" || n == "x" => numbered(value),
        n if ADDRESSES.contains(&n) || ["f", "t", "m", "r", "b"].contains(&n) => text(&displays(value)),
        _ => text(value),
    };
    format!("{}: {masked}", digits(name))
}

/// A star may not stand in a host.
fn via(value: &str) -> String {
    let (sent_by, params) = value.split_at(value.find(';').unwrap_or(value.len()));
    format!("{}{}", digits(sent_by).replace('*', "x"), text(params))
}

/// A number of SIP's own at the front stays; nothing of SIP has more than ten digits.
fn numbered(value: &str) -> String {
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    if end > 10 {
        return text(value);
    }
    format!("{}{}", &value[..end], text(&value[end..]))
}

/// `Digest username="…", response="…"`: who answered a challenge, and not with what.
fn credentials(value: &str) -> String {
    match value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("digest") => format!("{scheme} {}", fields(rest)),
        Some((scheme, _)) => format!("{scheme} {HIDDEN}"),
        None => HIDDEN.into(),
    }
}

fn fields(value: &str) -> String {
    let Some(parts) = split_outside(value, b',') else { return HIDDEN.into() };
    let field = |part: &str| {
        let Some((name, value)) = part.split_once('=') else { return text(part) };
        let inner = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "response" | "rspauth" => format!("{name}=\"{HIDDEN}\""),
            "username" => format!("{name}=\"{}\"", quotable(&user_name(inner))),
            "uri" => format!("{name}=\"{}\"", quotable(&text(inner))),
            _ => format!("{name}={}", text(value)),
        }
    };
    parts.into_iter().map(field).collect::<Vec<_>>().join(",")
}

fn quotable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}

/// Display names, quoted or not, in a list of addresses.
fn displays(value: &str) -> String {
    let (mut out, mut plain) = (String::with_capacity(value.len()), String::new());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push_str(&std::mem::take(&mut plain));
                out.push_str(&quoted(&mut chars));
            }
            '<' => {
                let name = std::mem::take(&mut plain);
                match name.trim() {
                    "" => out.push_str(&name),
                    shown => {
                        let _ = write!(out, "{}{} ", &name[..name.len() - name.trim_start().len()], display(shown));
                    }
                }
                out.push('<');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '>' {
                        break;
                    }
                }
            }
            ',' | ';' => {
                out.push_str(&std::mem::take(&mut plain));
                out.push(c);
            }
            _ => plain.push(c),
        }
    }
    out.push_str(&plain);
    out
}

/// The rest of a quoted string, masked, with both its quotes (the last one only where it was there).
fn quoted(chars: &mut std::str::Chars<'_>) -> String {
    let (mut content, mut closed) = (String::new(), false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => content.extend(chars.next()),
            '"' => {
                closed = true;
                break;
            }
            c => content.push(c),
        }
    }
    format!("\"{}{}", quotable(&display(&content)), if closed { "\"" } else { "" })
}

fn display(name: &str) -> String {
    if name.contains(HIDDEN) || NOBODY.iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return text(name); // masked where it was made
    }
    if name.chars().any(char::is_alphabetic) { pii::mask(&digits(name)) } else { user_name(name) }
}

/// Addresses, then every row of digits.
fn text(value: &str) -> String {
    digits(&users(value))
}

/// The user of every `sip:`, `sips:` and `tel:` address.
fn users(value: &str) -> String {
    let small = value.to_ascii_lowercase();
    let (mut out, mut from) = (String::with_capacity(value.len()), 0);
    while let Some((at, is_tel)) = next_scheme(&small, from) {
        out.push_str(&value[from..at]);
        let rest = &value[at..];
        let stop = rest.find([' ', '\t', '<', '>', '"', ',']).unwrap_or(rest.len());
        let user = match rest[..stop].find('@') {
            Some(n) if !is_tel => &rest[..n],
            _ if is_tel => &rest[..rest[..stop].find(';').unwrap_or(stop)],
            _ => "",
        };
        out.push_str(&userinfo(user));
        from = at + user.len();
        if !is_tel {
            let host = &value[from..at + stop];
            let ends = if host.contains('[') { &[']', ';', '?'][..] } else { &[':', ';', '?'] };
            let host = &host[..host.find(ends).unwrap_or(host.len())];
            // A star may not stand in a host.
            out.push_str(&digits(host).replace('*', "x"));
            from += host.len();
        }
    }
    out.push_str(&value[from..]);
    out
}

/// Where the next address' part after its scheme begins, and whether it is a `tel:` one.
fn next_scheme(small: &str, from: usize) -> Option<(usize, bool)> {
    let find = |scheme: &str| small[from..].find(scheme).map(|n| from + n + scheme.len());
    let all = [("sip:", false), ("sips:", false), ("tel:", true)];
    all.iter().filter_map(|(s, tel)| Some((find(s)?, *tel))).min()
}

/// `name;params:password`.
fn userinfo(user: &str) -> String {
    let (name, password) = match user.split_once(':') {
        Some((name, _)) => (name, ":****"),
        None => (user, ""),
    };
    let (name, params) = name.split_at(name.find(';').unwrap_or(name.len()));
    let plain = unescaped(name);
    let masked = user_name(&plain);
    // Where nothing was hidden it stays as it was written.
    let name = if masked == plain { name.to_string() } else { escape_user(&masked) };
    format!("{name}{}{password}", digits(params))
}

fn user_name(name: &str) -> String {
    if NOBODY.iter().any(|n| name.eq_ignore_ascii_case(n)) || name.contains(HIDDEN) {
        return digits(name);
    }
    match (name.chars().any(char::is_alphabetic), name.chars().filter(|c| c.is_numeric()).count()) {
        (true, _) => pii::mask(&digits(name)),
        (false, n) if n >= SHORTEST_NUMBER => pii::mask_number(name),
        _ => name.to_string(), // an extension, a service, a key
    }
}

fn unescaped(text: &str) -> String {
    let (mut out, bytes, mut i) = (Vec::with_capacity(text.len()), text.as_bytes(), 0);
    while let Some(&b) = bytes.get(i) {
        let value = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match value.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| b == b'%') {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Every row of seven digits and more, also with single blanks, dots, hyphens and brackets in it. Addresses of the
/// network stay.
fn digits(value: &str) -> String {
    let chars: Vec<char> = value.chars().collect();
    let (mut out, mut i) = (String::with_capacity(value.len()), 0);
    while let Some(&c) = chars.get(i) {
        let begins = i == 0 || !chars[i - 1].is_numeric() && chars[i - 1] != '.';
        if let Some(len) = address(&chars[i..]).filter(|_| begins) {
            out.extend(&chars[i..i + len]);
            i += len;
            continue;
        }
        match row(&chars[i..]) {
            Some((row, len)) => {
                match row.len() >= SHORTEST_NUMBER {
                    true => out.push_str(&pii::mask_number(&row.iter().collect::<String>())),
                    false => out.extend(&chars[i..i + len]),
                }
                i += len;
            }
            None => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

/// Length of the IPv4 address that stands here, if one does.
fn address(chars: &[char]) -> Option<usize> {
    let end = chars.iter().position(|c| !(c.is_ascii_digit() || *c == '.')).unwrap_or(chars.len());
    let text: String = chars.get(..end)?.iter().collect();
    let text = text.trim_end_matches('.');
    text.parse::<Ipv4Addr>().ok().map(|_| text.len())
}

/// The digits of the row that begins here, and how much of the text they take.
fn row(chars: &[char]) -> Option<(Vec<char>, usize)> {
    let (mut row, mut end, mut at) = (Vec::new(), 0, 0);
    loop {
        if let Some((digit, len)) = digit(&chars[at..]) {
            row.push(digit);
            at += len;
            end = at;
            continue;
        }
        // At most two signs between digits: `) `.
        let between = chars.get(at).is_some_and(|c| [' ', '-', '.', '(', ')', '\u{a0}', '_'].contains(c));
        let to_host = between && address(&chars[at + 1..]).is_some();
        if row.is_empty() || !between || to_host || at - end >= 2 {
            break;
        }
        at += 1;
    }
    (!row.is_empty()).then_some((row, end))
}

/// A digit in plain, or as `%31`.
fn digit(chars: &[char]) -> Option<(char, usize)> {
    match chars {
        ['%', '3', d, ..] if d.is_ascii_digit() => Some((*d, 3)),
        [d, ..] if d.is_numeric() => Some((*d, 1)),
        _ => None,
    }
}

// ---- bodies

fn masked_body(wire: &Wire) -> Vec<u8> {
    let body = wire.body();
    if body.is_empty() {
        return Vec::new();
    }
    let kind = wire.get("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let words = String::from_utf8_lossy(body);
    let lines = |f: fn(&str) -> String| words.lines().map(|l| f(l) + "\r\n").collect::<String>();
    let described = kind == "application/sdp" || kind.is_empty() && body.starts_with(b"v=0");
    match kind.as_str() {
        _ if wire.method() != "MESSAGE" && described => lines(sdp_line),
        "application/dtmf-relay" => lines(relay_line),
        "application/dtmf" => "*".into(),
        "message/sipfrag" => lines(text),
        _ => format!("({} bytes of {}, not kept)", body.len(), digits(&kind)),
    }
    .into_bytes()
}

/// `Signal=5`: which key is the caller's own business (a card number is keyed in so).
fn relay_line(line: &str) -> String {
    match line.split_once('=') {
        Some((name, _)) if name.trim().eq_ignore_ascii_case("signal") => format!("{name}=*"),
        _ => text(line),
    }
}

fn sdp_line(line: &str) -> String {
    let Some((kind, value)) = line.split_once('=') else { return text(line) };
    let masked = match kind {
        "v" | "t" | "b" | "m" | "r" | "z" => return line.to_string(),
        "c" => text(value),
        "o" => {
            let (user, rest) = value.split_once(' ').unwrap_or((value, ""));
            format!("{} {rest}", if user == "-" { "-".into() } else { user_name(user) })
        }
        "s" if matches!(value.trim(), "" | "-") => return line.to_string(),
        "s" => pii::mask(&digits(value)),
        "i" | "u" | "e" | "p" | "k" => HIDDEN.into(),
        "a" => attribute(value),
        _ => text(value),
    };
    format!("{kind}={masked}")
}

fn attribute(value: &str) -> String {
    let Some((name, rest)) = value.split_once(':') else { return text(value) };
    let rest = match name.to_ascii_lowercase().as_str() {
        "crypto" => keys(rest),
        "ice-pwd" | "key-mgmt" | "zrtp-hash" => crossed_out(rest),
        // Numbers of RTP and ICE, which no person has.
        "candidate" | "rtpmap" | "ptime" | "maxptime" | "rtcp" | "fingerprint" | "ssrc-group" | "extmap" => {
            rest.to_string()
        }
        "ssrc" => {
            let (number, more) = rest.split_at(rest.find(' ').unwrap_or(rest.len()).min(10));
            format!("{number}{}", text(more))
        }
        _ => text(rest),
    };
    format!("{name}:{rest}")
}

/// Every `inline:` key of an `a=crypto` (RFC 4568) crossed out in its own length: lifetime and MKI stay.
fn keys(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.to_ascii_lowercase().find("inline:") {
        let (before, key) = rest.split_at(at + "inline:".len());
        let end = key.find(['|', ' ', ';', '\t']).unwrap_or(key.len());
        out.push_str(before);
        out.push_str(&crossed_out(&key[..end]));
        rest = &key[end..];
    }
    out.push_str(rest);
    out
}

fn crossed_out(secret: &str) -> String {
    "x".repeat(secret.chars().count())
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
