//! Offer and answer (RFC 3264) for one audio stream: its codec, telephone events (RFC 4733), comfort noise (RFC 3389).

use super::crypto::{self, Protection, Srtp, SrtpPolicy};
use super::session::{Attribute, Codec, Connection, Direction, Media, Origin, Session, kind_of};
use std::net::{IpAddr, SocketAddr};

/// The payload type we offer for telephone events; nearly everyone does.
const EVENT_PAYLOAD_TYPE: u8 = 101;
/// The one we offer for telephone events on Opus' clock.
const WIDE_EVENT_PAYLOAD_TYPE: u8 = 102;
/// The static payload type of comfort noise.
const NOISE_PAYLOAD_TYPE: u8 = 13;
/// The clock of telephone events where nothing else is said, in Hz.
const EVENT_CLOCK: u32 = 8000;
/// Milliseconds of sound in our packets, unless the peer asks otherwise.
const PTIME_MS: u8 = 20;
/// Longest packets we make and ask for, in milliseconds.
const MAX_PTIME_MS: u8 = 60;

/// What we can do and where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The address the peer shall send to.
    pub addr: IpAddr,
    /// Our RTP port.
    pub port: u16,
    /// Our RTCP port; `a=rtcp` is written when it is not `port + 1`.
    pub rtcp_port: u16,
    /// Codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// Whether RFC 4733 keys are wanted.
    pub telephone_event: bool,
    /// Whether silence may be told instead of sent, both ways: comfort noise (RFC 3389) beside G.711 and G.722, Annex B
    /// of G.729, DTX of Opus.
    pub dtx: bool,
    /// Which way media shall flow, seen from us.
    pub direction: Direction,
    /// `o=` session id: the same for the life of a dialog.
    pub session_id: u64,
    /// `o=` version: to be raised when the description changes ([`carry_version`] does it).
    pub session_version: u64,
    /// Whether the stream is encrypted, and our keys.
    pub srtp: Srtp,
}

/// The payload types that our own description gave a meaning: what a packet to us may carry (RFC 3264, 5.1 and 6.1).
/// The peer's description may give the same formats other numbers; those are for what we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Formats {
    /// Of G.711 A-law.
    pub pcma: Option<u8>,
    /// Of G.711 mu-law.
    pub pcmu: Option<u8>,
    /// Of G.722.
    pub g722: Option<u8>,
    /// Of G.729.
    pub g729: Option<u8>,
    /// Of Opus.
    pub opus: Option<u8>,
    /// Of comfort noise.
    pub noise: Option<u8>,
    /// Of telephone events at 8 kHz.
    pub events: Option<u8>,
    /// Of telephone events at 48 kHz.
    pub wide_events: Option<u8>,
}

impl Formats {
    /// What a stream of our description says.
    fn of(ours: &Media) -> Formats {
        let types = || ours.formats.iter().filter_map(|f| f.parse::<u8>().ok());
        let of = |codec| types().find(|&pt| codec_of(ours, pt) == Some(codec));
        Formats {
            pcma: of(Codec::Pcma),
            pcmu: of(Codec::Pcmu),
            g722: of(Codec::G722),
            g729: of(Codec::G729),
            opus: of(Codec::Opus),
            noise: noise_type(ours),
            events: event_type(ours, EVENT_CLOCK),
            wide_events: event_type(ours, Codec::Opus.clock()),
        }
    }
}

/// What was agreed: all that the media side needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlan {
    /// Where to send RTP. Unspecified (`0.0.0.0`) when the peer holds the old way; then `we_send` is false.
    pub remote: SocketAddr,
    /// Where to send RTCP: `a=rtcp` (RFC 3605), else the next port.
    pub remote_rtcp: SocketAddr,
    /// The codec we send.
    pub codec: Codec,
    /// The payload type that it has at the peer.
    pub payload_type: u8,
    /// The payload type that telephone events have at the peer, if both sides know them.
    pub dtmf_pt: Option<u8>,
    /// What may come to us.
    pub receive: Formats,
    /// What else the two know of each other's sound.
    pub extras: Extras,
    /// Milliseconds of sound in each packet we send: a multiple of 10 from 10 to 60.
    pub ptime_ms: u8,
    /// Whether we may send.
    pub we_send: bool,
    /// Whether we expect to receive.
    pub we_receive: bool,
    /// The peer put us on hold: it does not want our sound.
    pub held_by_remote: bool,
    /// How the packets are encrypted; none: they are not.
    pub srtp: Option<Protection>,
}

/// What goes with a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extras {
    /// The clock of telephone events to the peer, in Hz: 8000, or 48000 beside Opus.
    pub event_clock: u32,
    /// The payload type that comfort noise has at the peer, if both sides want it.
    pub noise_pt: Option<u8>,
    /// Silence may be left out: Annex B of G.729, DTX of Opus.
    pub dtx: bool,
    /// The peer repairs losses from the packet after (Opus in-band FEC).
    pub fec: bool,
}

impl Default for Extras {
    fn default() -> Self {
        Extras { event_clock: EVENT_CLOCK, noise_pt: None, dtx: false, fec: false }
    }
}

/// Why there is no agreement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// Nothing in it that we can do: answer 488.
    #[error("no acceptable media: {0}")]
    NotAcceptable(String),
}

fn refuse<T>(why: impl Into<String>) -> Result<T, NegotiationError> {
    Err(NegotiationError::NotAcceptable(why.into()))
}

/// Answers an offer: the first audio stream we can do is taken, all others are refused with port 0, in
/// their order. The answer names one codec, so that none changes within the call.
pub fn answer(offer: &Session, ours: &Capabilities) -> Result<(Session, MediaPlan), NegotiationError> {
    let mut why = String::from("no audio stream is offered");
    let mut taken: Option<(usize, MediaPlan, Option<Attribute>)> = None;
    for (index, media) in offer.media.iter().enumerate() {
        match plan(offer, media, (&ours.codecs, ours.telephone_event, ours.dtx), ours.direction)
            .and_then(|p| secured(p, media, ours))
        {
            Ok((plan, key)) => {
                taken = Some((index, plan, key));
                break;
            }
            Err(NegotiationError::NotAcceptable(reason)) if media.kind == "audio" => why = reason,
            Err(_) => {}
        }
    }
    let Some((chosen, mut plan, key)) = taken else { return refuse(why) };
    let media = offer.media.iter().enumerate();
    let mut media: Vec<Media> =
        media.map(|(i, m)| if i == chosen { accepted(m, &plan, ours) } else { refused(m) }).collect();
    media[chosen].attributes.extend(key);
    plan.receive = Formats::of(&media[chosen]);
    // RFC 3264, 6: the answer's t= equals the offer's.
    let answer = Session { times: offer.times.clone(), media, ..frame(ours) };
    Ok((answer, plan))
}

/// The plan with the keys that both sides have, and the line of our answer that tells ours.
fn secured(
    plan: MediaPlan,
    media: &Media,
    ours: &Capabilities,
) -> Result<(MediaPlan, Option<Attribute>), NegotiationError> {
    match crypto::answer(media, &ours.srtp).map_err(NegotiationError::NotAcceptable)? {
        Some((protection, line)) => Ok((MediaPlan { srtp: Some(protection), ..plan }, Some(line))),
        None => Ok((plan, None)),
    }
}

/// Our offer: one audio stream.
pub fn offer(ours: &Capabilities) -> Session {
    let secure = ours.srtp.policy() == SrtpPolicy::Required;
    let mut media = audio(ours, if secure { "RTP/SAVP" } else { "RTP/AVP" }, PTIME_MS);
    if secure {
        media.attributes.extend(ours.srtp.lines());
    }
    for codec in &ours.codecs {
        add_codec(&mut media, *codec, codec.static_payload_type(), ours.dtx);
    }
    if ours.dtx && ours.codecs.iter().any(|c| takes_noise(*c)) {
        add_noise(&mut media, NOISE_PAYLOAD_TYPE);
    }
    if ours.telephone_event {
        add_events(&mut media, EVENT_PAYLOAD_TYPE, EVENT_CLOCK);
        if ours.codecs.contains(&Codec::Opus) {
            add_events(&mut media, WIDE_EVENT_PAYLOAD_TYPE, Codec::Opus.clock());
        }
    }
    media.attributes.push(Attribute::flag(ours.direction.as_str()));
    Session { media: vec![media], ..frame(ours) }
}

/// Our offer within a dialog whose last description of ours was `previous`: each of its streams keeps its place
/// (RFC 3264, 8); the audio stream in use is offered anew, all others stay or become refused with port 0.
pub fn offer_again(ours: &Capabilities, previous: &Session) -> Session {
    let mut next = offer(ours);
    let Some(mut audio) = next.media.pop() else { return next };
    let used = previous.media.iter().position(|m| m.kind == "audio" && m.port != 0);
    for (i, media) in previous.media.iter().enumerate() {
        next.media.push(if used == Some(i) {
            audio.protocol.clone_from(&media.protocol);
            audio.attributes.retain(|a| a.name != "crypto");
            audio.attributes.extend(crypto::kept(media));
            audio.attributes.extend(media.attributes.iter().filter(|a| a.name == "mid").cloned());
            audio.clone()
        } else {
            refused(media)
        });
    }
    if used.is_none() {
        next.media.push(audio);
    }
    next
}

/// What the peer's answer to our `offer` agrees on.
pub fn accept(offer: &Session, answer: &Session) -> Result<MediaPlan, NegotiationError> {
    let Some(index) = offer.media.iter().position(|m| m.kind == "audio" && m.port != 0) else {
        return refuse("our offer has no audio stream");
    };
    let Some(media) = answer.media.get(index) else {
        return refuse("the answer has no line for the audio stream offered");
    };
    if media.kind != "audio" {
        return refuse(format!("the answer has {} where audio was offered", media.kind));
    }
    let ours = &offer.media[index];
    let mut codecs: Vec<Codec> = ours.formats.iter().filter_map(|f| codec_of(ours, f.parse().ok()?)).collect();
    // In an answer the peer's order counts (RFC 3264, 7), where its first one was offered.
    let first = media.formats.iter().filter_map(|f| f.parse().ok()).find_map(|pt| codec_of(media, pt));
    if let Some(at) = first.and_then(|first| codecs.iter().position(|c| *c == first)) {
        codecs.swap(0, at);
    }
    let receive = Formats::of(ours);
    let events = receive.events.or(receive.wide_events).is_some();
    let silent = receive.noise.is_some() || dtx_wanted(ours);
    let mut plan = plan(answer, media, (&codecs, events, silent), offer.direction_of(ours))?;
    plan.receive = receive;
    plan.srtp = crypto::accept(ours, media).map_err(NegotiationError::NotAcceptable)?;
    Ok(plan)
}

/// Sets the version of our next description in a dialog: that of the previous one if nothing else changed,
/// one more if anything did (RFC 3264, 8).
pub fn carry_version(previous: &Session, next: &mut Session) {
    next.origin.session_id.clone_from(&previous.origin.session_id);
    next.origin.version.clone_from(&previous.origin.version);
    if next != previous {
        let version: u64 = previous.origin.version.parse().unwrap_or(0);
        next.origin.version = (version + 1).to_string();
    }
}

/// What can be agreed with the peer on one stream of its description.
fn plan(
    theirs: &Session,
    media: &Media,
    (codecs, events, dtx): (&[Codec], bool, bool),
    our_direction: Direction,
) -> Result<MediaPlan, NegotiationError> {
    if media.kind != "audio" {
        return refuse(format!("{} is not supported", media.kind));
    }
    if media.port == 0 {
        return refuse("the audio stream is refused (port 0)");
    }
    if !matches!(media.protocol.as_str(), "RTP/AVP" | "RTP/AVPF") && !crypto::is_secure(&media.protocol) {
        return refuse(format!("transport {} is not supported, only RTP/AVP and RTP/SAVP", media.protocol));
    }
    let Some((codec, payload_type)) = choose(media, codecs) else {
        let ours: Vec<&str> = codecs.iter().map(|c| c.name()).collect();
        return refuse(format!(
            "none of the codecs in \"{}\" is one of ours: {}",
            media.formats.join(" "),
            ours.join(", ")
        ));
    };
    let Some(connection) = theirs.connection_of(media) else {
        return refuse("there is no c= line for the audio stream");
    };
    let Some(ip) = connection.ip() else {
        return refuse(format!("the address {} is not a numeric unicast one", connection.address));
    };
    // Sound sent to a group or a broadcast address would be an amplifier in other hands.
    if ip.is_multicast() || ip == IpAddr::from([255, 255, 255, 255]) {
        return refuse(format!("the address {ip} is not a unicast one"));
    }
    let their_direction = theirs.direction_of(media);
    // RFC 3264, 8.4: hold as RFC 2543 wrote it.
    let nowhere = ip.is_unspecified();
    let they_want = their_direction.receives() && !nowhere;
    let remote = SocketAddr::new(ip, media.port);
    let (dtmf_pt, event_clock) =
        events_beside(media, codec).filter(|_| events).map_or((None, EVENT_CLOCK), |(pt, clock)| (Some(pt), clock));
    let extras = Extras {
        event_clock,
        noise_pt: noise_type(media).filter(|_| dtx && takes_noise(codec)),
        dtx: dtx && peer_takes_dtx(media, codec, payload_type),
        fec: codec == Codec::Opus && parameter(media, payload_type, "useinbandfec") == Some("1"),
    };
    Ok(MediaPlan {
        remote,
        remote_rtcp: rtcp_address(media, remote),
        codec,
        payload_type,
        dtmf_pt,
        receive: Formats::default(), // the caller knows our description
        extras,
        ptime_ms: ptime(media, codec),
        we_send: our_direction.sends() && they_want,
        we_receive: our_direction.receives() && their_direction.sends(),
        held_by_remote: !they_want,
        srtp: None, // so does what encrypts it
    })
}

/// Our most preferred codec that the stream has, with the payload type it has there.
fn choose(media: &Media, codecs: &[Codec]) -> Option<(Codec, u8)> {
    let types = || media.formats.iter().filter_map(|f| f.parse::<u8>().ok()).filter(|&pt| pt < 128);
    codecs.iter().find_map(|&codec| types().find(|&pt| codec_of(media, pt) == Some(codec)).map(|pt| (codec, pt)))
}

/// What a payload type of a stream means: by `a=rtpmap`, or by RFC 3551 for the static ones.
fn codec_of(media: &Media, payload_type: u8) -> Option<Codec> {
    let Some((name, rate, channels)) = rtpmap(media, payload_type) else {
        return Codec::ALL.into_iter().find(|c| c.is_static() && c.static_payload_type() == payload_type);
    };
    let codec = Codec::named(name)?;
    let channels_right = match codec {
        // Always two, whatever is sent (RFC 7587, 7).
        Codec::Opus => channels == Some("2"),
        _ => matches!(channels, None | Some("1")),
    };
    (channels_right && rate.parse() == Ok(codec.clock())).then_some(codec)
}

/// A parameter of a payload type's `a=fmtp`.
fn parameter<'a>(media: &'a Media, payload_type: u8, name: &str) -> Option<&'a str> {
    media.attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("fmtp")).find_map(|a| {
        let (number, parameters) = a.value.as_deref()?.trim_start().split_once(' ')?;
        if number.parse() != Ok(payload_type) {
            return None;
        }
        let mut pairs = parameters.split(';').filter_map(|p| p.split_once('='));
        pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    })
}

/// Codecs that have no noise of their own and run on its clock (RFC 3389, 4).
fn takes_noise(codec: Codec) -> bool {
    matches!(codec, Codec::Pcma | Codec::Pcmu | Codec::G722)
}

/// Whether the writer of a stream can do with less than all packets of this codec.
fn peer_takes_dtx(media: &Media, codec: Codec, payload_type: u8) -> bool {
    match codec {
        Codec::Pcma | Codec::Pcmu | Codec::G722 => false,
        // Unsaid, Annex B may be used (RFC 4856, 2.1.9).
        Codec::G729 => !parameter(media, payload_type, "annexb").is_some_and(|v| v.eq_ignore_ascii_case("no")),
        Codec::Opus => parameter(media, payload_type, "usedtx") == Some("1"),
    }
}

/// Whether an offer of ours lets silence be left out, for codecs that do it by themselves.
fn dtx_wanted(ours: &Media) -> bool {
    let types = ours.formats.iter().filter_map(|f| f.parse().ok());
    types.filter_map(|pt| Some((codec_of(ours, pt)?, pt))).any(|(codec, pt)| peer_takes_dtx(ours, codec, pt))
}

/// The payload type of comfort noise at 8 kHz.
fn noise_type(media: &Media) -> Option<u8> {
    media.formats.iter().filter_map(|f| f.parse().ok()).filter(|&pt: &u8| pt < 128).find(|&pt| {
        match rtpmap(media, pt) {
            Some((name, rate, _)) => name.eq_ignore_ascii_case("CN") && rate == "8000",
            None => pt == NOISE_PAYLOAD_TYPE,
        }
    })
}

/// (name, rate, channels) of a payload type's `a=rtpmap`.
fn rtpmap(media: &Media, payload_type: u8) -> Option<(&str, &str, Option<&str>)> {
    media.attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("rtpmap")).find_map(|a| {
        let (number, encoding) = a.value.as_deref()?.trim_start().split_once(' ')?;
        if number.parse() != Ok(payload_type) {
            return None;
        }
        let mut parts = encoding.trim().split('/');
        Some((parts.next()?, parts.next().unwrap_or("8000"), parts.next()))
    })
}

/// The payload type of telephone events of a clock.
fn event_type(media: &Media, clock: u32) -> Option<u8> {
    media.formats.iter().filter_map(|f| f.parse().ok()).filter(|pt| (96..128).contains(pt)).find(|&pt| {
        rtpmap(media, pt)
            .is_some_and(|(name, rate, _)| name.eq_ignore_ascii_case("telephone-event") && rate.parse() == Ok(clock))
    })
}

/// The telephone events that go with a codec, and their clock: the codec's own (RFC 4733, 2.1), else that of 8 kHz, which
/// is all that many phones offer beside Opus.
fn events_beside(media: &Media, codec: Codec) -> Option<(u8, u32)> {
    [codec.clock(), EVENT_CLOCK].into_iter().find_map(|clock| event_type(media, clock).map(|pt| (pt, clock)))
}

/// Milliseconds of sound per packet that suit the peer: what it asks for, within what it bears and the codec has.
fn ptime(media: &Media, codec: Codec) -> u8 {
    let number = |name| media.attribute(name).and_then(|v| v.trim().parse::<f32>().ok()).filter(|v| *v > 0.0);
    let asked = number("ptime").unwrap_or(f32::from(PTIME_MS));
    let most = number("maxptime").unwrap_or(f32::from(MAX_PTIME_MS));
    let tens = (asked.min(most).min(f32::from(MAX_PTIME_MS)) / 10.0) as u8;
    match (codec, tens.max(1)) {
        (Codec::Opus, tens @ (3 | 5)) => (tens - 1) * 10,
        (_, tens) => tens * 10,
    }
}

fn rtcp_address(media: &Media, remote: SocketAddr) -> SocketAddr {
    let next = SocketAddr::new(remote.ip(), remote.port().checked_add(1).unwrap_or(remote.port()));
    let Some(value) = media.attribute("rtcp") else { return next };
    let mut fields = value.split_ascii_whitespace();
    let Some(port) = fields.next().and_then(|p| p.parse().ok()).filter(|&p: &u16| p != 0) else { return next };
    // Reports go only to the host that the sound goes to: another one named here would be somebody else's.
    SocketAddr::new(remote.ip(), port)
}

/// Everything of our descriptions but the streams.
fn frame(ours: &Capabilities) -> Session {
    Session {
        origin: Origin {
            username: "-".into(),
            session_id: ours.session_id.to_string(),
            version: ours.session_version.to_string(),
            address: format!("{} {}", kind_of(ours.addr), ours.addr),
        },
        name: "-".into(),
        connection: Some(Connection::new(ours.addr)),
        times: vec!["0 0".into()],
        attributes: vec![],
        media: vec![],
    }
}

fn audio(ours: &Capabilities, protocol: &str, ptime_ms: u8) -> Media {
    let mut attributes = vec![];
    if ours.port.checked_add(1) != Some(ours.rtcp_port) {
        attributes.push(Attribute::new("rtcp", ours.rtcp_port.to_string()));
    }
    attributes.push(Attribute::new("ptime", ptime_ms.to_string()));
    attributes.push(Attribute::new("maxptime", MAX_PTIME_MS.to_string()));
    Media {
        kind: "audio".into(),
        port: ours.port,
        ports: None,
        protocol: protocol.into(),
        formats: vec![],
        connection: None,
        attributes,
    }
}

fn add_codec(media: &mut Media, codec: Codec, payload_type: u8, dtx: bool) {
    let channels = if codec == Codec::Opus { "/2" } else { "" };
    let map = format!("{payload_type} {}/{}{channels}", codec.name(), codec.clock());
    add_format(media, payload_type, map);
    let parameters = match (codec, dtx) {
        (Codec::Pcma | Codec::Pcmu | Codec::G722, _) => return,
        (Codec::G729, true) => "annexb=yes",
        (Codec::G729, false) => "annexb=no",
        (Codec::Opus, true) => "useinbandfec=1;usedtx=1",
        (Codec::Opus, false) => "useinbandfec=1",
    };
    media.attributes.push(Attribute::new("fmtp", format!("{payload_type} {parameters}")));
}

fn add_noise(media: &mut Media, payload_type: u8) {
    add_format(media, payload_type, format!("{payload_type} CN/8000"));
}

fn add_events(media: &mut Media, payload_type: u8, clock: u32) {
    add_format(media, payload_type, format!("{payload_type} telephone-event/{clock}"));
    media.attributes.push(Attribute::new("fmtp", format!("{payload_type} 0-15")));
}

fn add_format(media: &mut Media, payload_type: u8, map: String) {
    media.formats.push(payload_type.to_string());
    media.attributes.push(Attribute::new("rtpmap", map));
}

fn accepted(offered: &Media, plan: &MediaPlan, ours: &Capabilities) -> Media {
    let mut media = audio(ours, &offered.protocol, plan.ptime_ms);
    // Annex B is off when either side says so; for Opus both only state what they like.
    let dtx = if plan.codec == Codec::Opus { ours.dtx } else { plan.extras.dtx };
    add_codec(&mut media, plan.codec, plan.payload_type, dtx);
    if let Some(payload_type) = plan.extras.noise_pt {
        add_noise(&mut media, payload_type);
    }
    if let Some(payload_type) = plan.dtmf_pt {
        add_events(&mut media, payload_type, plan.extras.event_clock);
    }
    media.attributes.push(Attribute::flag(Direction::new(plan.we_send, plan.we_receive).as_str()));
    media.attributes.extend(offered.attributes.iter().filter(|a| a.name == "mid").cloned());
    media
}

/// RFC 3264, 6: a refused stream keeps its place, kind and formats, with port 0.
fn refused(offered: &Media) -> Media {
    let attributes = offered.attributes.iter().filter(|a| a.name == "mid").cloned().collect();
    Media { port: 0, ports: None, connection: None, attributes, ..offered.clone() }
}

#[cfg(test)]
mod tests;
