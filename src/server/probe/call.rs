//! One call by the letter, with its measurements.

use super::measure::{Arrivals, Drift, sound_share, tone_share};
use crate::audio::detect::dtmf_key;
use crate::audio::{Tone, ToneGenerator};
use crate::clock::Mono;
use crate::rtp::{RtpSession, RtpView, Stats};
use crate::sdp::{self, Codec, MediaPlan, Session};
use crate::server::phone::capabilities;
use crate::server::routes::LINE_TONE_HZ;
use crate::server::time::now;
use crate::sip::bare::{BareCall, Reply, Seen, read};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval, timeout, timeout_at};

/// The tone we send, in Hz: no key's, nor the line route's.
const OUR_TONE_HZ: f32 = 1800.0;
/// The sound that is judged: what comes in the first seconds of it, before any key.
const LISTEN: Duration = Duration::from_secs(3);
/// Keys of the pad, each pressed once.
const KEYS: &str = "0123456789*#ABCD";
/// How long a key's answer may take: its own 100 ms, jitter buffers, the answer's 100 ms.
const KEY_WAIT_MS: u64 = 900;
/// An INVITE is sent again after so long without any answer (RFC 3261, 17.1.1.2: 500 ms, doubled).
const REPEATS_MS: [u64; 5] = [500, 1500, 3500, 7500, 15_500];
/// A 200 that comes later than this after our ACK is a repeat because the ACK did not arrive, not one that crossed it.
const CROSSED_MS: u64 = 150;

/// A call to place.
#[derive(Debug, Clone)]
pub struct LineCall {
    /// SIP address to bind.
    pub bind: SocketAddr,
    /// What we say in Contact, Via and SDP, when it is not the bound address.
    pub says: Option<IpAddr>,
    /// Where the sound's socket is bound, and from which ports; any without.
    pub rtp: (IpAddr, Option<RangeInclusive<u16>>),
    /// Whom to call.
    pub uri: String,
    /// Where to send the INVITE.
    pub to: SocketAddr,
    /// Our number.
    pub from: String,
    /// User and password for a challenge.
    pub credential: Option<(String, String)>,
    /// How long to talk.
    pub talk: Duration,
    /// Whether all keys are pressed, by RFC 4733 and by INFO: the other side is a line route.
    pub keys: bool,
    /// How long to wait for an answer.
    pub patience: Duration,
}

/// What became of our ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ack {
    /// The 200 came so often again after it.
    pub repeats: u32,
    /// It came no more once the ACK went to where the 200 had come from.
    pub by_source: bool,
}

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySeen {
    /// The key.
    pub key: char,
    /// What the other side sounded in answer.
    pub answered: Option<char>,
}

/// The sound of the call.
#[derive(Debug, Clone, Default)]
pub struct MediaSeen {
    /// RTP packets that came, from whatever address.
    pub packets: u64,
    /// RTP packets that we sent.
    pub sent: u64,
    /// Where they came from.
    pub sources: BTreeMap<SocketAddr, u64>,
    /// Milliseconds from the answer to the first one.
    pub first_ms: Option<u64>,
    /// What the media plane makes of them.
    pub stats: Stats,
    /// The other side's clock.
    pub drift: Option<Drift>,
    /// How far from their time packets came, ms: 50th and 99th percentile, and most.
    pub unevenness: [f64; 3],
    /// Milliseconds of sound in a packet.
    pub packet_ms: usize,
    /// Share of the first seconds in which anything was heard.
    pub sound: f32,
    /// Share in which the line route's tone was heard.
    pub their_tone: f32,
    /// Share in which our own tone came back.
    pub our_tone: f32,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct LineSeen {
    /// The final answer, as it came; none when there was none.
    pub code: Option<u16>,
    /// Its Warning or Reason.
    pub why: Option<String>,
    /// Milliseconds to the first sign of the other side, and to its answer.
    pub first_ms: Option<u64>,
    /// Milliseconds to its 200.
    pub answered_ms: Option<u64>,
    /// Where the answer came from.
    pub source: Option<SocketAddr>,
    /// Contact of the 200.
    pub contact: Option<String>,
    /// Host of what follows (proxy or Contact) that no name service knows.
    pub lost_host: Option<String>,
    /// Where what follows goes.
    pub next_hop: Option<SocketAddr>,
    /// Our address as the other side saw it.
    pub reflexive: Option<SocketAddr>,
    /// What we called ourselves.
    pub said: Option<SocketAddr>,
    /// Its program.
    pub server: Option<String>,
    /// Whether its Allow names INFO; none without Allow.
    pub info_allowed: Option<bool>,
    /// Our ACK.
    pub ack: Ack,
    /// Answer to an OPTIONS within the call.
    pub options: Option<u16>,
    /// Whether that was asked.
    pub options_asked: bool,
    /// Whether the other side hung up before the time was over.
    pub hung_up: bool,
    /// Answer to our BYE.
    pub bye: Option<u16>,
    /// What was agreed, or why not.
    pub plan: Option<Result<MediaPlan, String>>,
    /// The sound.
    pub media: MediaSeen,
    /// Keys by RFC 4733.
    pub rtp_keys: Vec<KeySeen>,
    /// Keys by INFO.
    pub info_keys: Vec<KeySeen>,
}

impl LineCall {
    /// Places it and looks.
    pub async fn run(self) -> std::io::Result<LineSeen> {
        let sip = UdpSocket::bind(self.bind).await?;
        let media = media_socket(&self.rtp).await?;
        let bound = sip.local_addr()?;
        let said = SocketAddr::new(self.says.unwrap_or(bound.ip()), bound.port());
        let caps = capabilities(said.ip(), media.local_addr()?.port(), vec![Codec::Pcma, Codec::Pcmu]);
        let offer = sdp::offer(&caps);
        let call = BareCall::new(&self.uri, &self.from, said, rand::random());
        let seen = LineSeen { said: Some(said), ..LineSeen::default() };
        let mut line = Line { sip, media, call, seen, at: self, offer, answered: now(), source: None };
        if let Some(reply) = line.ring().await? {
            line.talk(reply).await?;
        }
        Ok(line.seen)
    }
}

/// A socket for sound: on an even port of the range, as the hotline takes them, else any.
async fn media_socket((ip, ports): &(IpAddr, Option<RangeInclusive<u16>>)) -> std::io::Result<UdpSocket> {
    if let Some(ports) = ports {
        let even = ports.clone().rev().filter(|p| p % 2 == 0);
        for port in even.take(200) {
            if let Ok(socket) = UdpSocket::bind((*ip, port)).await {
                return Ok(socket);
            }
        }
    }
    UdpSocket::bind((*ip, 0)).await
}

struct Line {
    sip: UdpSocket,
    media: UdpSocket,
    call: BareCall,
    seen: LineSeen,
    at: LineCall,
    offer: Session,
    answered: Mono,
    source: Option<SocketAddr>,
}

impl Line {
    /// Sends the INVITE until somebody answers. The 2xx, or none with the reason in what was seen.
    async fn ring(&mut self) -> std::io::Result<Option<Reply>> {
        let (began, end) = (now(), Instant::now() + self.at.patience);
        let sdp = self.offer.to_string();
        let mut invite = self.call.invite(&sdp);
        let mut repeats = REPEATS_MS.iter();
        self.sip.send_to(invite.as_bytes(), self.at.to).await?;
        let mut again = repeats.next();
        let mut datagram = vec![0; 65_536];
        while Instant::now() < end {
            let wait = Instant::now() + Duration::from_millis(100);
            if let Ok(Ok((length, from))) = timeout_at(wait.min(end), self.sip.recv_from(&mut datagram)).await
                && let Some(Seen::Reply(reply)) = read(&datagram[..length])
                && reply.call_id == self.call.call_id()
                && reply.method == "INVITE"
            {
                again = None;
                self.hear(&reply, from, began);
                if reply.code < 200 {
                    continue;
                }
                let ack = self.call.answered(&reply);
                let proved = self.at.credential.clone().is_some_and(|(u, p)| self.call.prove(&reply, &u, &p));
                if reply.code >= 300 {
                    if let Some(ack) = ack {
                        self.sip.send_to(ack.as_bytes(), self.at.to).await?;
                    }
                    if !proved {
                        return Ok(None);
                    }
                    invite = self.call.invite(&sdp);
                    self.sip.send_to(invite.as_bytes(), self.at.to).await?;
                    self.seen.code = None;
                    continue;
                }
                return Ok(Some(*reply));
            }
            if again.is_some_and(|ms| now().ms_since(began) >= *ms) {
                self.sip.send_to(invite.as_bytes(), self.at.to).await?;
                again = repeats.next();
            }
        }
        if self.seen.first_ms.is_some() {
            self.sip.send_to(self.call.cancel().as_bytes(), self.at.to).await?;
        }
        Ok(None)
    }

    fn hear(&mut self, reply: &Reply, from: SocketAddr, began: Mono) {
        let seen = &mut self.seen;
        seen.first_ms.get_or_insert(now().ms_since(began));
        if let (ip, Some(port)) = reply.reflexive {
            // Without `received` the address was the one we gave.
            seen.reflexive = seen.said.map(|s| SocketAddr::new(ip.unwrap_or(s.ip()), port));
        }
        seen.server = reply.server.clone().or(seen.server.take());
        seen.source = Some(from);
        if reply.code < 200 {
            return;
        }
        seen.code = Some(reply.code);
        seen.why.clone_from(&reply.why);
        if reply.code < 300 {
            self.answered = now();
            self.source = Some(from);
            seen.answered_ms = Some(self.answered.ms_since(began));
            seen.contact.clone_from(&reply.contact);
            let names = |allow: &String| allow.split(',').any(|m| m.trim().eq_ignore_ascii_case("INFO"));
            seen.info_allowed = reply.allow.as_ref().map(names);
        }
    }

    /// The call itself: ACK by the letter, sound both ways, questions, keys, BYE.
    async fn talk(&mut self, reply: Reply) -> std::io::Result<()> {
        let Some(ack) = self.call.answered(&reply) else { return Ok(()) };
        self.seen.next_hop = self.resolve_hop().await;
        let hop = self.seen.next_hop.or(self.source).unwrap_or(self.at.to);
        // An address that cannot be sent to is what is looked for, no reason to stop.
        let _told_by_the_repeats = self.sip.send_to(ack.as_bytes(), hop).await;
        let described = sdp::parse(reply.sdp.unwrap_or_default().as_bytes()).map_err(|e| e.to_string());
        let plan = described.and_then(|answer| sdp::accept(&self.offer, &answer).map_err(|e| e.to_string()));
        self.seen.plan = Some(plan.clone());
        let host = self.source.unwrap_or(self.at.to).ip();
        let mut ears = Ears::new(plan.ok(), host, self.answered);
        let mut hands = Hands::new(ack, hop, self.at.keys);
        let mut tick = interval(Duration::from_millis(20));
        let (mut signal, mut packet) = (vec![0; 65_536], vec![0; 2048]);
        let end = Instant::now() + self.at.talk;
        while !self.seen.hung_up && (Instant::now() < end || hands.busy()) {
            tokio::select! {
                came = self.sip.recv_from(&mut signal) => if let Ok((length, from)) = came {
                    self.signal(&signal[..length], from, &mut hands).await;
                },
                came = self.media.recv_from(&mut packet) => if let Ok((length, from)) = came {
                    ears.came(now(), from, &packet[..length], &mut self.seen.media);
                },
                _ = tick.tick() => {
                    let at = now();
                    ears.tick(at, &self.media, &mut self.seen.media);
                    self.act(at, &mut ears, &mut hands).await;
                }
            }
        }
        ears.finish(&mut self.seen.media);
        (self.seen.rtp_keys, self.seen.info_keys) = hands.done();
        if !self.seen.hung_up {
            self.hang_up(hop).await;
        }
        Ok(())
    }

    async fn resolve_hop(&mut self) -> Option<SocketAddr> {
        let (host, port) = self.call.next_hop()?;
        let looked = timeout(Duration::from_secs(3), tokio::net::lookup_host((host.as_str(), port))).await;
        let found = looked.ok().and_then(Result::ok).and_then(|mut all| all.next());
        if found.is_none() {
            self.seen.lost_host = Some(host);
        }
        found
    }

    /// A SIP message during the call.
    async fn signal(&mut self, bytes: &[u8], from: SocketAddr, hands: &mut Hands) {
        let sent = match read(bytes) {
            Some(Seen::Reply(reply)) if reply.call_id == self.call.call_id() => match reply.method.as_str() {
                "INVITE" if (200..300).contains(&reply.code) => self.answer_repeated(hands).await,
                "OPTIONS" => {
                    self.seen.options = Some(reply.code);
                    Ok(0)
                }
                _ => Ok(0),
            },
            Some(Seen::Request(asked)) if asked.method != "ACK" => {
                self.seen.hung_up |= asked.method == "BYE" && asked.call_id == self.call.call_id();
                let code = if matches!(asked.method.as_str(), "INVITE" | "UPDATE") { 488 } else { 200 };
                self.sip.send_to(asked.answer(code, "line", None, None).as_bytes(), from).await
            }
            _ => Ok(0),
        };
        let _lost_like_any_packet = sent;
    }

    /// The 200 again: the ACK goes again the same way; after two in vain also to where the 200 comes from, so that
    /// the call goes on and the rest can be looked at.
    async fn answer_repeated(&mut self, hands: &mut Hands) -> std::io::Result<usize> {
        let ack = &mut self.seen.ack;
        if now().ms_since(self.answered) >= CROSSED_MS {
            ack.repeats += 1;
            ack.by_source = ack.repeats == 2; // and stays so if no third one comes
        }
        if ack.repeats >= 2
            && let Some(source) = self.source
        {
            self.sip.send_to(hands.ack.as_bytes(), source).await?;
        }
        self.sip.send_to(hands.ack.as_bytes(), hands.hop).await
    }

    /// What is due at a tick: the question within the call, the next key.
    async fn act(&mut self, at: Mono, ears: &mut Ears, hands: &mut Hands) {
        let since = at.ms_since(self.answered);
        if since >= 1000 && !self.seen.options_asked {
            self.seen.options_asked = true;
            let _seen_by_no_answer = self.sip.send_to(self.call.options().as_bytes(), hands.hop).await;
        }
        if !ears.has_listened(at) {
            return;
        }
        if let Some(key) = hands.next(at, &mut ears.answers) {
            match (key, &mut ears.rtp) {
                (Press::Rtp(key), Some(rtp)) => rtp.send_key(key),
                (Press::Info(key), _) => {
                    let _seen_by_no_answer = self.sip.send_to(self.call.info(key).as_bytes(), hands.hop).await;
                }
                (Press::Rtp(_), None) => {}
            }
        }
    }

    /// A BYE, by the letter first, then to where the answer came from.
    async fn hang_up(&mut self, hop: SocketAddr) {
        let bye = self.call.bye();
        let mut datagram = vec![0; 65_536];
        let ways = [Some(hop), Some(hop), self.source];
        for (n, way) in ways.into_iter().flatten().enumerate() {
            let _seen_by_no_answer = self.sip.send_to(bye.as_bytes(), way).await;
            let end = Instant::now() + Duration::from_millis(500);
            while let Ok(Ok((length, _))) = timeout_at(end, self.sip.recv_from(&mut datagram)).await {
                if let Some(Seen::Reply(reply)) = read(&datagram[..length])
                    && reply.method == "BYE"
                {
                    self.seen.bye = Some(reply.code).filter(|_| n < 2);
                    return;
                }
            }
        }
    }
}

/// What hears and speaks.
struct Ears {
    rtp: Option<RtpSession>,
    arrivals: Arrivals,
    tone: ToneGenerator,
    began: Mono,
    /// When the first packet came.
    first: Option<Mono>,
    judged: Vec<i16>,
    /// The last 80 ms, for keys.
    window: Vec<i16>,
    answers: Vec<char>,
    packet: Vec<u8>,
}

impl Ears {
    /// `host` is where the other side's messages come from: its sound may too, whatever its SDP says.
    fn new(plan: Option<MediaPlan>, host: IpAddr, began: Mono) -> Ears {
        let rtp = plan.map(|plan| RtpSession::new(plan, host, rand::random(), began));
        Ears {
            rtp,
            arrivals: Arrivals::default(),
            tone: ToneGenerator::new(Tone::sine(OUR_TONE_HZ, 6000.0)),
            began,
            first: None,
            judged: Vec::new(),
            window: Vec::new(),
            answers: Vec::new(),
            packet: Vec::new(),
        }
    }

    fn came(&mut self, at: Mono, from: SocketAddr, datagram: &[u8], seen: &mut MediaSeen) {
        if let Ok(view) = RtpView::parse(datagram) {
            seen.packets += 1;
            if seen.sources.len() < 16 || seen.sources.contains_key(&from) {
                *seen.sources.entry(from).or_default() += 1;
            }
            seen.first_ms.get_or_insert(at.ms_since(self.began));
            self.first.get_or_insert(at);
            self.arrivals.came(at.0, &view);
        }
        if let Some(rtp) = &mut self.rtp {
            rtp.receive(at, from, datagram);
        }
    }

    fn tick(&mut self, at: Mono, socket: &UdpSocket, seen: &mut MediaSeen) {
        let listened = self.has_listened(at);
        let Some(rtp) = &mut self.rtp else { return };
        let heard = rtp.pull(at).pcm;
        if !listened {
            self.judged.extend_from_slice(&heard);
        }
        self.window.extend_from_slice(&heard);
        let excess = self.window.len().saturating_sub(480);
        self.window.drain(..excess);
        if let Some(key) = dtmf_key(&self.window)
            && self.answers.len() < 64
        {
            self.answers.push(key);
        }
        let frame = self.tone.frame(0);
        let mut to = rtp.push(at, &frame, &mut self.packet);
        while let Some(there) = to {
            let _lost_like_any_packet = socket.try_send_to(&self.packet, there);
            to = rtp.push_more(&mut self.packet);
        }
        if let Some(there) = rtp.rtcp_due(at, &mut self.packet) {
            // From the sound's own port: the peer's reports come back to it (RFC 5761 would ask for it in SDP).
            let _lost_like_any_packet = socket.try_send_to(&self.packet, there);
        }
        seen.sent = rtp.stats().packets_out;
    }

    /// Whether the sound without keys has been heard long enough: from the first packet on, which comes only after the
    /// ACK did; without any, keys are tried all the same.
    fn has_listened(&self, at: Mono) -> bool {
        self.first.map_or(at.since(self.began) > LISTEN * 2, |first| at.since(first) > LISTEN)
    }

    fn finish(self, seen: &mut MediaSeen) {
        seen.drift = self.arrivals.drift();
        seen.unevenness = self.arrivals.unevenness();
        seen.packet_ms = self.arrivals.packet_ms();
        seen.sound = sound_share(&self.judged);
        seen.their_tone = tone_share(&self.judged, LINE_TONE_HZ);
        seen.our_tone = tone_share(&self.judged, OUR_TONE_HZ);
        seen.stats = self.rtp.map(|r| r.stats()).unwrap_or_default();
    }
}

#[derive(Debug, Clone, Copy)]
enum Press {
    Rtp(char),
    Info(char),
}

/// What presses keys, one after the other was answered or given up.
struct Hands {
    ack: String,
    hop: SocketAddr,
    left: Vec<Press>,
    pressed: Option<(Press, Mono)>,
    answered_at: Option<Mono>,
    rtp: Vec<KeySeen>,
    info: Vec<KeySeen>,
}

impl Hands {
    fn new(ack: String, hop: SocketAddr, keys: bool) -> Hands {
        let all = KEYS.chars().map(Press::Rtp).chain(KEYS.chars().map(Press::Info)).rev();
        let left = if keys { all.collect() } else { Vec::new() };
        Hands { ack, hop, left, pressed: None, answered_at: None, rtp: Vec::new(), info: Vec::new() }
    }

    fn busy(&self) -> bool {
        !self.left.is_empty() || self.pressed.is_some()
    }

    /// Follows the answers, and gives the next key when its turn has come.
    fn next(&mut self, at: Mono, answers: &mut Vec<char>) -> Option<Press> {
        if let Some((press, since)) = self.pressed {
            let (Press::Rtp(key) | Press::Info(key)) = press;
            let answered = answers.iter().find(|a| **a == key).or(answers.first()).copied();
            if answered.is_some() {
                self.answered_at.get_or_insert(at);
            }
            // The answer sounds for 100 ms and rests for 60: the next key waits for that.
            let over = self.answered_at.map_or(at.ms_since(since) > KEY_WAIT_MS, |a| at.ms_since(a) > 180);
            if !over {
                return None;
            }
            self.note(press, answered);
        }
        answers.clear();
        self.answered_at = None;
        self.pressed = self.left.pop().map(|press| (press, at));
        self.pressed.map(|(press, _)| press)
    }

    /// Where the first keys of a way are all lost, the rest are not waited for.
    fn note(&mut self, press: Press, answered: Option<char>) {
        let (Press::Rtp(key) | Press::Info(key)) = press;
        let by_info = matches!(press, Press::Info(_));
        let seen = if by_info { &mut self.info } else { &mut self.rtp };
        seen.push(KeySeen { key, answered });
        if seen.len() == 4 && seen.iter().all(|k| k.answered.is_none()) {
            let same = |p: &Press| matches!(p, Press::Info(_)) == by_info;
            let rest = self.left.extract_if(.., |p| same(p));
            seen.extend(rest.map(|(Press::Rtp(key) | Press::Info(key))| KeySeen { key, answered: None }));
        }
    }

    fn done(self) -> (Vec<KeySeen>, Vec<KeySeen>) {
        (self.rtp, self.info)
    }
}

/// Asks by OPTIONS whether anybody is there: the answer, and how long it took in milliseconds.
pub async fn options(from: SocketAddr, uri: &str, to: SocketAddr) -> std::io::Result<Option<(Reply, u64)>> {
    let socket = UdpSocket::bind(from).await?;
    let mut call = BareCall::new(uri, "zongji", socket.local_addr()?, rand::random());
    let (question, began) = (call.options(), now());
    let mut datagram = vec![0; 65_536];
    for wait in [500, 1000, 1500] {
        socket.send_to(question.as_bytes(), to).await?;
        let end = Instant::now() + Duration::from_millis(wait);
        // What comes back as an ICMP error is told as an error here: nobody listens, but a repeat costs little.
        while let Ok(Ok((length, _))) = timeout_at(end, socket.recv_from(&mut datagram)).await {
            if let Some(Seen::Reply(reply)) = read(&datagram[..length])
                && reply.call_id == call.call_id()
            {
                return Ok(Some((*reply, now().ms_since(began))));
            }
        }
    }
    Ok(None)
}

/// Whether a datagram sent to `contact` reaches this socket: what the other side's ACK would have to do.
pub async fn contact_is_reached(socket: &UdpSocket, contact: SocketAddr, from: IpAddr) -> bool {
    let Ok(other) = UdpSocket::bind((from, 0)).await else { return false };
    let word: [u8; 24] = rand::random();
    let mut datagram = [0; 64];
    for _ in 0..3 {
        // An address that cannot be sent to is not reached either.
        let _seen_by_no_arrival = other.send_to(&word, contact).await;
        let end = Instant::now() + Duration::from_millis(300);
        while let Ok(Ok((length, _))) = timeout_at(end, socket.recv_from(&mut datagram)).await {
            if datagram[..length] == word {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_pressed_after_the_one_before_was_answered_or_given_up() {
        let mut hands = Hands::new(String::new(), ([127, 0, 0, 1], 9).into(), true);
        let (mut answers, mut at) = (Vec::new(), 10_000);
        let mut presses = 0;
        while hands.busy() {
            if let Some(press) = hands.next(Mono::from_ms(at), &mut answers) {
                presses += 1;
                if let Press::Rtp(key) = press {
                    answers.push(if key == '5' { '6' } else { key });
                }
            }
            at += 20;
            assert!(at < 60_000);
        }
        let (rtp, info) = hands.done();
        assert_eq!((presses, rtp.len(), info.len()), (20, 16, 16), "after four lost INFOs the rest are not tried");
        assert!(rtp.iter().all(|k| k.answered == Some(if k.key == '5' { '6' } else { k.key })));
        assert!(info.iter().all(|k| k.answered.is_none()));
    }

    #[tokio::test]
    async fn an_address_of_this_machine_is_reached_and_one_nobody_has_is_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let here = socket.local_addr().unwrap();
        assert!(contact_is_reached(&socket, here, here.ip()).await);
        let nowhere = SocketAddr::new([192, 0, 2, 1].into(), here.port());
        assert!(!contact_is_reached(&socket, nowhere, here.ip()).await);
    }
}
