//! What no single key can tell: settings that do not go together.

use super::read::Problems;
use super::{Config, RecogniserChoice, RouteKind};
use std::collections::BTreeSet;

/// Ports a call may need: caller and seat, RTP and RTCP each.
const PORTS_PER_CALL: u32 = 4;

pub(super) fn check(c: &Config, problems: &mut Problems<'_>) {
    addresses(c, problems);
    let ports = u32::from(*c.rtp.ports.end()) - u32::from(*c.rtp.ports.start()) + 1;
    if ports / PORTS_PER_CALL < c.sip.max_calls {
        problems.add_for(
            "sip.max_calls",
            format!(
                "{} calls need {} RTP ports and rtp.ports has {ports}: widen rtp.ports or take fewer calls",
                c.sip.max_calls,
                c.sip.max_calls * PORTS_PER_CALL
            ),
        );
    }
    if c.speech.recogniser == RecogniserChoice::Whisper && c.models.whisper.is_none() {
        let what = "speech.recogniser is \"whisper\" but models.whisper names no ggml file";
        problems.add_for("speech.recogniser", what);
    }
    users(c, problems);
    routes(c, problems);
}

fn addresses(c: &Config, problems: &mut Problems<'_>) {
    if c.sip.bind.port() != 0 && c.http.bind.is_some_and(|h| h.port() == c.sip.bind.port()) {
        problems.add_for("http.bind", "http.bind and sip.bind want the same port: give HTTP another one");
    }
    if c.rtp.ports.contains(&c.sip.bind.port()) {
        problems.add_for("rtp.ports", format!("rtp.ports holds the SIP port {}: take it out", c.sip.bind.port()));
    }
    for (key, address) in [("sip.public_address", c.sip.public_address), ("rtp.public_address", c.rtp.public_address)] {
        if address.is_some_and(|a| a.is_unspecified()) {
            problems.add_for(key, format!("{key} must be an address others can reach; 0.0.0.0 is none"));
        }
    }
    if c.rtp.bind.is_ipv4() != c.sip.bind.is_ipv4() {
        problems.add_for("rtp.bind", "rtp.bind and sip.bind must both be IPv4 or both IPv6");
    }
}

fn users(c: &Config, problems: &mut Problems<'_>) {
    if c.sip.numbers.is_empty() {
        problems.add_for("sip.numbers", "sip.numbers is empty: nobody could call; [\"*\"] takes every number");
    }
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let seats = c.seats.iter().enumerate().map(|(i, s)| (format!("seat[{i}].user"), s.user.as_str()));
    let routes = c.test_routes.iter().enumerate().map(|(i, r)| (format!("test_route[{i}].user"), r.user.as_str()));
    let supervisors = c.supervisors.iter().enumerate().map(|(i, s)| (format!("supervisor[{i}].user"), s.user.as_str()));
    let numbers = c.sip.numbers.iter().map(|n| ("sip.numbers".to_string(), n.as_str()));
    for (key, user) in numbers.chain(seats).chain(supervisors).chain(routes).filter(|(_, user)| !user.is_empty()) {
        if key != "sip.numbers" && user.contains(|ch: char| ch.is_whitespace() || "@:;<>\"*".contains(ch)) {
            problems.add_for(&key, format!("'{user}' cannot be the user part of a SIP address"));
        }
        if !taken.insert(user) {
            problems.add_for(
                &key,
                format!("'{user}' is used twice: numbers, seats, supervisors and test routes need different names"),
            );
        }
    }
}

fn routes(c: &Config, problems: &mut Problems<'_>) {
    for (i, r) in c.test_routes.iter().enumerate() {
        let key = |k: &str| format!("test_route[{i}].{k}");
        if r.kind == RouteKind::Bridge && r.target.is_none() {
            problems.add_for(&key("kind"), "a bridge needs a target, such as target = \"sip:user@127.0.0.1:5090\"");
        }
        if r.kind != RouteKind::Bridge && r.target.is_some() {
            problems.add_for(&key("target"), "only a bridge has a target: remove it or make kind = \"bridge\"");
        }
        if r.file.is_some() && !matches!(r.kind, RouteKind::Ivr | RouteKind::Rec | RouteKind::Barge) {
            problems.add_for(&key("file"), "only ivr, rec and barge play a file");
        }
        if r.recognise && !r.vad {
            problems.add_for(&key("recognise"), "recognise needs vad = true");
        }
    }
}
