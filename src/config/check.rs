//! What no single key can tell: settings that do not go together.

use super::read::Problems;
use super::{Config, Direction, RecogniserChoice, RouteKind};
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
    if let Some(codec) = c.media.codecs.iter().find(|c| !crate::rtp::coding(**c).is_built_in()) {
        let name = codec.name();
        let what = format!(
            "media.codecs has {name}, but this program was built without it (cargo feature {}): leave it out or build with it",
            name.to_lowercase()
        );
        problems.add_for("media.codecs", what);
    }
    if c.speech.recogniser == RecogniserChoice::Whisper && c.models.whisper.is_none() {
        let what = "speech.recogniser is \"whisper\" but models.whisper names no ggml file";
        problems.add_for("speech.recogniser", what);
    }
    users(c, problems);
    routes(c, problems);
    tls(c, problems);
    browser(c, problems);
    trunks(c, problems);
}

fn browser(c: &Config, problems: &mut Problems<'_>) {
    let b = &c.browser;
    if !b.turn.is_empty() && b.turn_secret.expose().is_empty() {
        let what = "browser.turn needs browser.turn_secret: the static-auth-secret of these servers";
        problems.add_for("browser.turn", what);
    }
    for (key, servers) in [("browser.stun", &b.stun), ("browser.turn", &b.turn)] {
        if !servers.is_empty() && c.http.bind.is_none() {
            problems.add_for(key, format!("{key} is told over HTTP, and http.bind is \"off\""));
        }
    }
}

fn tls(c: &Config, problems: &mut Problems<'_>) {
    let tls = &c.sip.tls;
    if tls.certificate.is_some() != tls.key.is_some() {
        let (there, missing) = if tls.key.is_some() { ("key", "certificate") } else { ("certificate", "key") };
        problems.add_for(&format!("sip.tls.{there}"), format!("sip.tls.{there} needs sip.tls.{missing} beside it"));
    }
    for (key, bind) in [("sip.tls.bind", tls.bind), ("sip.tls.wss", tls.wss)] {
        if bind.is_some() && tls.certificate.is_none() {
            problems.add_for(key, format!("{key} needs sip.tls.certificate and sip.tls.key"));
        }
    }
    let ports =
        [("sip.ws", c.sip.ws), ("sip.tls.bind", tls.bind), ("sip.tls.wss", tls.wss), ("http.bind", c.http.bind)];
    let mut taken = vec![("sip.bind", c.sip.bind.port())];
    for (key, port) in ports.iter().filter_map(|(k, a)| Some((*k, a.as_ref()?.port()))).filter(|(_, p)| *p != 0) {
        if let Some((other, _)) =
            taken.iter().find(|(other, p)| *p == port && (key, *other) != ("http.bind", "sip.bind"))
        {
            problems.add_for(key, format!("{key} and {other} want the same port: give one of them another"));
        }
        taken.push((key, port));
    }
}

fn trunks(c: &Config, problems: &mut Problems<'_>) {
    let mut names = BTreeSet::new();
    for (i, t) in c.trunks.iter().enumerate() {
        let key = |k: &str| format!("trunk[{i}].{k}");
        if !names.insert(t.line.name.as_str()) {
            problems.add_for(&key("name"), format!("there are two trunks named '{}'", t.line.name));
        }
        if t.servers.is_empty() {
            problems.add_for(&key("servers"), "a trunk needs at least one server");
        }
        if t.line.register && t.user.is_none() {
            problems.add_for(&key("register"), "registering needs a user and a password");
        }
        let nameless = t.servers.iter().all(|s| crate::sip::numeric_host(s).is_none()) && t.line.networks.is_empty();
        if t.direction != Direction::Out && nameless {
            let what = "calls from a trunk are known by their address: give addresses = [\"203.0.113.0/24\"], or direction = \"out\"";
            problems.add_for(&key("servers"), what);
        }
    }
    let out = c.trunks.iter().any(|t| t.direction != Direction::In);
    if let Some(i) = c.seats.iter().position(|s| s.phone.is_some()).filter(|_| !out) {
        problems.add_for(
            &format!("seat[{i}].phone"),
            "a seat's phone is called by a trunk: add a [[trunk]] that calls go out by",
        );
    }
    let allowed = c.outbound.iter().any(|o| o.role == crate::server::outbound::Role::Flow);
    if let Some(i) = c.seats.iter().position(|s| s.phone.is_some()).filter(|_| out && !allowed) {
        let what = "nothing may be called outside: add [[outbound]] with role = \"flow\" and the beginnings of the seats' numbers";
        problems.add_for(&format!("seat[{i}].phone"), what);
    }
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
