//! A trace as a ladder: who sent what to whom and when, in a hundred columns.

use super::{Role, Seen, Trace, Way};
use crate::sdp;
use crate::sip::wire::{Start, Wire};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;

/// Widest line.
const WIDTH: usize = 100;
/// Columns of the time before the first lane, and of the middle of the first and the last lane.
const FIRST: usize = 20;
const LAST: usize = 89;
/// Farthest that two lanes stand apart.
const APART: usize = 46;
/// Most lanes; peers beyond share the last one, and their lines name them.
const LANES: usize = 4;

/// The language of a ladder's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Lang {
    const fn of<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Lang::En => english,
            Lang::Zh => chinese,
        }
    }
}

/// What a session description offers, in a few words: codecs, address, direction; of the first stream with sound.
pub fn sdp_summary(body: &[u8]) -> Option<String> {
    let session = sdp::parse(body).ok()?;
    let media = session.media.iter().find(|m| m.kind == "audio").or(session.media.first())?;
    let address = session.connection_of(media).map_or("?", |c| c.address.as_str());
    let at = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
    let direction = session.direction_of(media).as_str();
    let kind = if media.kind == "audio" { String::new() } else { format!("{} ", media.kind) };
    let plain = media.protocol == "RTP/AVP";
    let secured = if plain { String::new() } else { format!(" {}", media.protocol) };
    Some(format!("{kind}{}{secured} {at}:{} {direction}", codecs(media).join(","), media.port))
}

/// What a session description offers, stream by stream: `audio G729, AMR (RTP/SAVP), video H264`.
pub fn formats(session: &sdp::Session) -> String {
    let stream = |m: &sdp::Media| {
        let secured = if m.protocol == "RTP/AVP" { String::new() } else { format!(" ({})", m.protocol) };
        format!("{} {}{secured}", m.kind, codecs(m).join(", "))
    };
    session.media.iter().map(stream).collect::<Vec<_>>().join(", ")
}

/// Names of a stream's formats: by `a=rtpmap`, or what RFC 3551 gives the number.
fn codecs(media: &sdp::Media) -> Vec<String> {
    let mapped = |format: &str| {
        let maps = media.attributes.iter().filter(|a| a.name == "rtpmap").filter_map(|a| a.value.as_deref());
        let named = maps.filter_map(|v| v.split_once(' ')).find(|(n, _)| *n == format);
        named.map(|(_, name)| name.split('/').next().unwrap_or(name).to_string())
    };
    let fixed = |format: &str| {
        match format {
            "0" => "PCMU",
            "3" => "GSM",
            "4" => "G723",
            "8" => "PCMA",
            "9" => "G722",
            "13" => "CN",
            "18" => "G729",
            other => other,
        }
        .to_string()
    };
    media.formats.iter().take(12).map(|f| mapped(f).unwrap_or_else(|| fixed(f))).collect()
}

/// One peer of the call and its lane.
struct Peer {
    at: SocketAddr,
    role: Option<Role>,
    carrier: &'static str,
    /// Counted within its role, where there are more.
    name: String,
    lane: usize,
}

/// The call as a ladder.
pub fn ladder(trace: &Trace, lang: Lang) -> String {
    let peers = peers(trace, lang);
    let lanes = peers.iter().map(|p| p.lane).max().unwrap_or(0).max(1) + 1;
    let apart = ((LAST - FIRST) / (lanes - 1)).min(APART);
    let at: Vec<usize> = (0..lanes).map(|n| FIRST + n * apart).collect();
    let mut out = heading(trace, &peers, lang);
    out.push_str(&names(&peers, &at, lang));
    let mut seen: HashMap<(SocketAddr, bool, &[u8]), u32> = HashMap::new();
    for m in &trace.messages {
        let again = seen.entry((m.remote, m.way == Way::In, &m.bytes)).and_modify(|n| *n += 1).or_insert(0);
        let Some(peer) = peers.iter().find(|p| p.at == m.remote) else { continue };
        step(&mut out, trace, m, peer, &at, *again, peers.len() >= LANES, lang);
    }
    if trace.lost > 0 {
        let words = lang.of("messages are missing: there was no room for them", "条消息因空间不足未保存");
        let _ = writeln!(out, "{} {words}", trace.lost);
    }
    out
}

/// The peers in the order in which they appear: the caller left of us, all others right.
fn peers(trace: &Trace, lang: Lang) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for m in &trace.messages {
        let role = trace.leg_of(m).map(|l| l.role);
        match peers.iter_mut().find(|p| p.at == m.remote) {
            Some(peer) => peer.role = peer.role.or(role),
            None => {
                let (carrier, name) = (m.carrier.name(), String::new());
                peers.push(Peer { at: m.remote, role, carrier, name, lane: 0 });
            }
        }
    }
    // A caller that comes from more than one address keeps the left lane for the first.
    let mut right = 1;
    let mut counts: HashMap<Option<Role>, usize> = HashMap::new();
    let mut left_taken = false;
    for peer in &mut peers {
        let nth = counts.entry(peer.role).and_modify(|n| *n += 1).or_insert(1);
        let role = match peer.role {
            Some(Role::Caller) => lang.of("caller", "主叫"),
            Some(Role::Seat) => lang.of("seat", "坐席"),
            Some(Role::Trunk) => lang.of("trunk", "中继"),
            Some(Role::Supervisor) => lang.of("supervisor", "班长"),
            None => lang.of("other", "其他"),
        };
        peer.name = if *nth == 1 { role.into() } else { format!("{role} {nth}") };
        if peer.role == Some(Role::Caller) && !std::mem::replace(&mut left_taken, true) {
            continue;
        }
        right += 1;
        peer.lane = right.min(LANES - 1);
    }
    peers
}

fn heading(trace: &Trace, peers: &[Peer], lang: Lang) -> String {
    let e = &trace.ending;
    let mut out = String::new();
    let (from, to) = (lang.of("from", "主叫"), lang.of("to", "被叫"));
    let _ = writeln!(out, "{} {}  {from} {}  {to} {}", lang.of("call", "通话"), trace.id, e.from, e.to);
    let why = lang.of(&e.why, &e.why_zh).to_string();
    let label = lang.of("end", "结果");
    for (n, line) in wrapped(&format!("{why} (Q.850 {})", e.cause), WIDTH - 6).into_iter().enumerate() {
        let _ = writeln!(out, "{:5} {line}", if n == 0 { label } else { "" });
    }
    for peer in peers {
        let legs = trace.messages.iter().filter(|m| m.remote == peer.at).filter_map(|m| trace.leg_of(m));
        let mut ids: Vec<&str> = legs.map(|l| l.call_id.as_str()).collect();
        ids.dedup();
        let (id, at) = (ids.first().copied().unwrap_or_default(), format!("{} {}", peer.at, peer.carrier));
        let name = padded(&peer.name, 10);
        let _ = writeln!(out, "{}", cut(&format!("  {name} {at:32} Call-ID {id}"), WIDTH));
    }
    out.push('\n');
    out
}

/// The lanes' names and addresses.
fn names(peers: &[Peer], at: &[usize], lang: Lang) -> String {
    let mut cells = vec![(String::new(), String::new()); at.len()];
    cells[1].0 = lang.of("zongji", "总机").into();
    for peer in peers.iter().rev() {
        let shared = peers.iter().filter(|p| p.lane == peer.lane).count() > 1;
        cells[peer.lane] = match shared {
            true => (lang.of("others", "其余各方").into(), String::new()),
            false => (peer.name.clone(), peer.at.to_string()),
        };
    }
    let room = at.get(1).map_or(20, |second| second - at[0]).saturating_sub(2);
    let (mut first, mut second) = (String::new(), String::new());
    for ((name, address), at) in cells.iter().zip(at) {
        centre(&mut first, name, *at);
        centre(&mut second, &cut(address, room), *at);
    }
    format!("{first}\n{second}\n")
}

#[allow(clippy::too_many_arguments)] // one line of a picture has that many parts
fn step(out: &mut String, trace: &Trace, m: &Seen, peer: &Peer, at: &[usize], again: u32, crowded: bool, lang: Lang) {
    let mut label = label(m);
    if again > 0 {
        let _ = write!(label, " ({} {again})", lang.of("again", "重发"));
    }
    if crowded && peer.lane == LANES - 1 {
        let _ = write!(label, " [{}]", peer.name);
    }
    let (from, to) = match m.way {
        Way::In => (at[peer.lane], at[1]),
        Way::Out => (at[1], at[peer.lane]),
    };
    let since = m.at.saturating_sub(trace.began);
    let time = format!("{:>6}.{:06}", since / 1_000_000, since % 1_000_000);
    let _ = writeln!(out, "{}", arrow(&time, &label, from, to, at));
    let wire = Wire::parse(&m.bytes).ok();
    let described = wire.as_ref().and_then(|w| sdp_summary(w.body()));
    let refused = m.refused.as_ref().map(|r| format!("{} {r}", lang.of("refused:", "拒绝：")));
    for note in described.into_iter().chain(refused) {
        for line in wrapped(&note, from.abs_diff(to) - 3) {
            let _ = writeln!(out, "{}", beside(&line, from.min(to), from.max(to), at));
        }
    }
}

/// `INVITE`, `200 OK (BYE)`.
fn label(m: &Seen) -> String {
    let Ok(wire) = Wire::parse(&m.bytes) else { return "?".into() };
    match &wire.start {
        Start::Request { method, .. } => method.clone(),
        Start::Response { code, .. } => {
            let first = String::from_utf8_lossy(m.bytes.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
            let phrase = first.splitn(3, ' ').nth(2).unwrap_or_default().to_string();
            let method = wire.get("cseq").and_then(|c| c.split_whitespace().nth(1)).unwrap_or_default();
            match method {
                "INVITE" => format!("{code} {phrase}"),
                method => format!("{code} {phrase} ({method})"),
            }
        }
    }
}

/// Lanes, with an arrow that bears a label from one to another.
fn arrow(time: &str, label: &str, from: usize, to: usize, at: &[usize]) -> String {
    let (low, high) = (from.min(to), from.max(to));
    let room = high - low - 1;
    let label = cut(label, room.saturating_sub(4));
    let dashes = room - 1 - width(&label) - 2;
    let (before, after) = ("-".repeat(dashes / 2), "-".repeat(dashes - dashes / 2));
    let between = match from < to {
        true => format!("{before} {label} {after}>"),
        false => format!("<{before} {label} {after}"),
    };
    lanes(time, at, Some((low, high, &between)))
}

/// Lanes, with words between two of them.
fn beside(words: &str, low: usize, high: usize, at: &[usize]) -> String {
    let between = format!(" {}", padded(words, high - low - 2));
    lanes("", at, Some((low, high, &between)))
}

fn lanes(time: &str, at: &[usize], between: Option<(usize, usize, &str)>) -> String {
    let mut line = time.to_string();
    for lane in at {
        if let Some((_, _, words)) = between.filter(|(low, high, _)| low < lane && lane <= high) {
            if between.is_some_and(|(low, ..)| width(&line) == low + 1) {
                line.push_str(words);
            }
            // A lane that an arrow passes over has no mark of its own.
            if between.is_some_and(|(_, high, _)| *lane < high) {
                continue;
            }
        }
        line.push_str(&" ".repeat(lane.saturating_sub(width(&line))));
        line.push('|');
    }
    line
}

// ---- text of a known width

/// Columns a text takes on a screen: Chinese characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c >= '\u{1100}' { 2 } else { 1 }).sum()
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_string();
    }
    let (mut out, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]));
        if used > to {
            break;
        }
        out.push(c);
    }
    out.push('~');
    out
}

/// Puts a word around a column.
fn centre(line: &mut String, word: &str, at: usize) {
    let half = width(word) / 2;
    let begin = at.saturating_sub(half).min(WIDTH - width(word).min(WIDTH));
    let gap = begin.saturating_sub(width(line));
    line.push_str(&" ".repeat(gap));
    line.push_str(word);
}

fn wrapped(text: &str, to: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').flat_map(|w| pieces(w, to)) {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(&word) <= to => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// A word in pieces that fit.
fn pieces(word: &str, to: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in word.chars() {
        let fits = pieces.last().is_some_and(|p| width(p) + width(c.encode_utf8(&mut [0; 4])) <= to);
        if !fits {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
