//! A telephone of our own: what `zongji call`, `zongji seat`, the demo and the tests dial and answer with. It speaks
//! plain SIP and RTP over real sockets and knows nothing of the hotline it calls.

use super::time::now;
use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::clock::Mono;
use crate::rtp::{Received, RtpSession, RtpView, Stats};
use crate::sdp::{self, Capabilities, Codec, Direction, MediaPlan, Srtp, SrtpPolicy};
use crate::sip::{Credential, Dial, DialogId, SipAgent, SipEvent, SipSettings};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Louder than this (RMS of a frame) is the other side speaking.
const LOUD: f32 = 120.0;
/// Keys of one call that are kept.
const MOST_KEYS: usize = 1 << 16;
/// A phone that rings longer is not answered.
const RING_LIMIT_MS: u64 = 180_000;

/// When a step of a caller's script begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The other side has spoken and has been silent for a while.
    PromptEnd,
    /// The other side has spoken for this long, in milliseconds (an interruption).
    Into(u32),
    /// This long after the step before, in milliseconds.
    After(u32),
}

/// What the caller does.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Says something: 8 kHz samples, and the words for the log.
    Say(Vec<i16>, String),
    /// Presses keys (RFC 4733).
    Keys(String),
    /// Puts the other side on hold (`true`) or takes it back.
    Hold(bool),
    /// Hangs up.
    HangUp,
}

/// A step of a script.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub when: When,
    /// What.
    pub act: Act,
}

/// What a phone tells while a call goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum PhoneNews {
    /// The other phone rings (180).
    Ringing,
    /// The call was answered this long after the INVITE, in milliseconds.
    Answered(u64),
    /// The other side began to speak.
    PromptBegan,
    /// The other side fell silent after this long, in milliseconds.
    PromptEnded(u64),
    /// The caller says this.
    Says(String),
    /// The caller presses this.
    Presses(String),
    /// The caller's hold was accepted, or not.
    Hold(bool),
    /// The call is over.
    Over(Box<CallResult>),
}

/// How a phone's call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// Final SIP status of the INVITE (200 when answered).
    pub code: u16,
    /// The other side hung up (otherwise we did).
    pub by_them: bool,
    /// Milliseconds from answer to end.
    pub talked_ms: u64,
    /// RTP figures, when there was media.
    pub stats: Option<Stats>,
    /// Everything that was heard, at 8 kHz.
    pub heard: Vec<i16>,
    /// Steps of the script that were done.
    pub steps_done: usize,
    /// Packets that came, in their order of arrival.
    pub packets: Vec<PacketSeen>,
    /// Keys that came (RFC 4733).
    pub keys: String,
    /// How many packets had come when the first packet of each key answer was sent.
    pub key_marks: Vec<usize>,
}

/// Something that carries a call's RTP between the phone and the other side (a bad network, in tests).
pub trait Relay: Send + Sync {
    /// Its one media address: both sides send there.
    fn address(&self) -> SocketAddr;
    /// Says who the two sides are.
    fn join(&self, phone: SocketAddr, peer: SocketAddr);
}

/// A packet that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSeen {
    /// RTP sequence number.
    pub seq: u16,
    /// Whether there was sound in it (of G.711: other codecs cannot be told without decoding).
    pub sound: bool,
    /// A hash of its payload (FNV-1a), to know it again.
    pub payload: u64,
}

/// Hash by which a packet's payload is known again.
pub fn payload_hash(payload: &[u8]) -> u64 {
    payload.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A phone's own settings.
#[derive(Clone)]
pub struct PhoneSettings {
    /// SIP address to bind; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Number shown to the other side.
    pub number: String,
    /// Codecs offered, best first.
    pub codecs: Vec<Codec>,
    /// Silence after which a prompt counts as ended, in milliseconds.
    pub prompt_gap_ms: u64,
    /// Longest call in seconds.
    pub limit_s: u64,
    /// Whether what is heard is kept in the result.
    pub keep_sound: bool,
    /// Hangs up this long after its script's last step, in milliseconds.
    pub linger_ms: u64,
    /// Carries the media, when set.
    pub relay: Option<Arc<dyn Relay>>,
    /// Whether its calls are encrypted (SRTP).
    pub srtp: SrtpPolicy,
    /// For a hotline that wants its calls proved.
    pub credential: Option<Credential>,
}

impl PhoneSettings {
    /// A phone with a number on this address.
    pub fn new(bind: SocketAddr, number: &str) -> Self {
        PhoneSettings {
            bind,
            number: number.into(),
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            prompt_gap_ms: 700,
            limit_s: 300,
            keep_sound: true,
            linger_ms: 30_000,
            relay: None,
            srtp: SrtpPolicy::Optional,
            credential: None,
        }
    }
}

/// A telephone.
pub struct Phone {
    agent: SipAgent,
    events: mpsc::Receiver<SipEvent>,
    settings: PhoneSettings,
    stop: CancellationToken,
}

/// Why a phone cannot work.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// SIP did not start or refused.
    #[error(transparent)]
    Sip(#[from] crate::sip::SipError),
    /// No media socket.
    #[error("no UDP port for media on {0}: {1}")]
    Media(IpAddr, std::io::Error),
    /// The other side's media description is unusable.
    #[error("the other side's SDP is unusable: {0}")]
    Sdp(String),
}

impl Phone {
    /// A phone that is ready to dial and to be called.
    pub async fn start(settings: PhoneSettings) -> Result<Phone, PhoneError> {
        let sip = SipSettings { bind: settings.bind, ..SipSettings::default() };
        let (agent, events) = SipAgent::start(sip).await?;
        Ok(Phone { agent, events, settings, stop: CancellationToken::new() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.agent.local_addr()
    }

    /// Its SIP side, for registering.
    pub fn agent(&self) -> &SipAgent {
        &self.agent
    }

    /// Cancelled by another task, it ends what the phone does: the call is hung up, and its result comes all the same.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Dials a URI and follows a script until the call is over.
    pub async fn call(
        &mut self,
        uri: &str,
        script: Vec<Step>,
        news: &mut (dyn FnMut(PhoneNews) + Send),
    ) -> Result<CallResult, PhoneError> {
        let (media, caps) = self.media().await?;
        let offer = sdp::offer(&caps);
        let dial = Dial {
            to: uri.into(),
            from: self.settings.number.clone(),
            sdp: offer.to_string(),
            credential: self.settings.credential.clone(),
            ..Dial::default()
        };
        let dialled = now();
        let dialog = self.agent.dial(dial).await?;
        let mut talk = Talk::new(script, &self.settings);
        let outcome = match self.picked_up(dialog, dialled, news).await {
            Ok(body) => match described(&body)
                .and_then(|a| sdp::accept(&offer, &a).map_err(|e| PhoneError::Sdp(e.to_string())))
            {
                Ok(plan) => Ok(plan),
                Err(e) => {
                    self.agent.hangup(dialog).await; // it was answered: it must not be left hanging
                    return Err(e);
                }
            },
            Err(refused) => Err(refused),
        };
        let result = match outcome {
            Ok(plan) => {
                news(PhoneNews::Answered(now().ms_since(dialled)));
                self.talk(dialog, media, caps, plan, &mut talk, news).await
            }
            Err((code, by_them)) => talk.result(code, by_them, 0, None),
        };
        news(PhoneNews::Over(Box::new(result.clone())));
        Ok(result)
    }

    /// Waits for the other side to answer. Else the final status, and whether it was theirs (408: we gave up).
    async fn picked_up(
        &mut self,
        dialog: DialogId,
        dialled: Mono,
        news: &mut (dyn FnMut(PhoneNews) + Send),
    ) -> Result<String, (u16, bool)> {
        while now().ms_since(dialled) < RING_LIMIT_MS.min(self.settings.limit_s * 1000) {
            let event = tokio::time::timeout(Duration::from_millis(250), self.events.recv()).await;
            if self.stop.is_cancelled() {
                break;
            }
            match event {
                Ok(Some(SipEvent::Progress { dialog: d, code: 180, .. })) if d == dialog => news(PhoneNews::Ringing),
                Ok(Some(SipEvent::Answered { dialog: d, sdp })) if d == dialog => return Ok(sdp.unwrap_or_default()),
                Ok(Some(SipEvent::Failed { dialog: d, code, .. })) if d == dialog => return Err((code, true)),
                Ok(Some(SipEvent::Ended { dialog: d, .. } | SipEvent::Bye { dialog: d })) if d == dialog => {
                    return Err((480, true));
                }
                Ok(Some(SipEvent::Invite { dialog, .. })) => self.agent.reject(dialog, 486, None).await,
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
        self.agent.hangup(dialog).await;
        Err((408, false))
    }

    /// Waits for a call, rings `ring_ms`, answers and follows the script. None when nobody calls in time.
    pub async fn answer(
        &mut self,
        wait: Duration,
        ring_ms: u64,
        script: Vec<Step>,
        news: &mut (dyn FnMut(PhoneNews) + Send),
    ) -> Result<Option<CallResult>, PhoneError> {
        let (agent, stop) = (self.agent.clone(), self.stop.clone());
        let waiting = tokio::time::timeout(wait, async {
            while let Some(event) = self.events.recv().await {
                match event {
                    SipEvent::Invite { dialog, sdp: Some(sdp), .. } => return Some((dialog, sdp)),
                    SipEvent::Invite { dialog, sdp: None, .. } => agent.reject(dialog, 488, None).await,
                    _ => {}
                }
            }
            None
        });
        let waited = tokio::select! {
            waited = waiting => waited,
            () = stop.cancelled() => Ok(None),
        };
        let Ok(Some((dialog, sdp))) = waited else { return Ok(None) };
        let (media, caps) = self.media().await?;
        let agreed =
            described(&sdp).and_then(|offer| sdp::answer(&offer, &caps).map_err(|e| PhoneError::Sdp(format!("{e}"))));
        let (answer, plan) = match agreed {
            Ok(agreed) => agreed,
            Err(e) => {
                self.agent.reject(dialog, 488, None).await;
                return Err(e);
            }
        };
        self.agent.ring(dialog).await;
        news(PhoneNews::Ringing);
        let mut talk = Talk::new(script, &self.settings);
        let result = if self.given_up(dialog, ring_ms).await {
            talk.result(487, true, 0, None)
        } else {
            self.agent.answer(dialog, answer.to_string()).await;
            news(PhoneNews::Answered(ring_ms));
            talk.step_at = now();
            self.talk(dialog, media, caps, plan, &mut talk, news).await
        };
        news(PhoneNews::Over(Box::new(result.clone())));
        Ok(Some(result))
    }

    /// Rings; true when the caller gave up before the time was over.
    async fn given_up(&mut self, dialog: DialogId, ring_ms: u64) -> bool {
        let end = tokio::time::Instant::now() + Duration::from_millis(ring_ms);
        loop {
            match tokio::time::timeout_at(end, self.events.recv()).await {
                Err(_) => return false,
                Ok(None) => return true,
                Ok(Some(event)) if over(&event, dialog) => return true,
                Ok(Some(SipEvent::Invite { dialog, .. })) => self.agent.reject(dialog, 486, None).await,
                Ok(Some(_)) => {}
            }
        }
    }

    async fn media(&self) -> Result<(UdpSocket, Capabilities), PhoneError> {
        let addr = self.address().ip();
        let socket = UdpSocket::bind((addr, 0)).await.map_err(|e| PhoneError::Media(addr, e))?;
        let port = socket.local_addr().map_err(|e| PhoneError::Media(addr, e))?.port();
        let port = self.settings.relay.as_ref().map_or(port, |r| r.address().port());
        let mut caps = capabilities(addr, port, self.settings.codecs.clone());
        caps.srtp = Srtp::new(self.settings.srtp, rand::fill);
        Ok((socket, caps))
    }

    /// The media of one call, on a 20 ms clock, until somebody hangs up.
    async fn talk(
        &mut self,
        dialog: DialogId,
        media: UdpSocket,
        mut caps: Capabilities,
        plan: MediaPlan,
        talk: &mut Talk,
        news: &mut (dyn FnMut(PhoneNews) + Send),
    ) -> CallResult {
        let answered = now();
        caps.srtp.agreed(plan.srtp.as_ref(), rand::fill);
        if plan.srtp.is_some() {
            caps.srtp.insist();
        }
        let mut plan = plan;
        if let (Some(relay), Ok(here)) = (&self.settings.relay, media.local_addr()) {
            relay.join(here, plan.remote);
            plan.remote = relay.address();
        }
        let mut rtp = RtpSession::new(plan.clone(), plan.remote.ip(), u64::from(caps.port) ^ answered.0, answered);
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        let (mut datagram, mut packet) = (vec![0u8; 2048], Vec::new());
        let by_them = loop {
            tokio::select! {
                () = self.stop.cancelled() => break false,
                event = self.events.recv() => match event {
                    None => break true,
                    Some(event) if over(&event, dialog) => break true,
                    Some(SipEvent::Invite { dialog, .. }) => self.agent.reject(dialog, 486, None).await,
                    Some(SipEvent::Reinvite { dialog, request, sdp, .. }) => {
                        let answer = reanswer(&mut caps, sdp, &mut rtp);
                        self.agent.answer_reinvite(dialog, request, answer).await;
                    }
                    Some(_) => {}
                },
                _ = clock.tick() => {
                    let at = now();
                    while let Ok((len, from)) = media.try_recv_from(&mut datagram) {
                        match rtp.receive(at, from, &datagram[..len]) {
                            Received::Audio => talk.seen(rtp.opened(&datagram[..len])),
                            Received::Key(key) => talk.key(key),
                            Received::Ignored(_) => {}
                        }
                    }
                    let heard = rtp.pull(at);
                    match talk.tick(at, &heard, news) {
                        Some(Doing::Keys(keys)) => {
                            talk.key_marks.push(talk.packets.len());
                            keys.chars().for_each(|k| rtp.send_key(k));
                        }
                        Some(Doing::HangUp) => break false,
                        Some(Doing::Hold(held)) => {
                            let accepted = self.hold(dialog, &mut caps, held).await;
                            news(PhoneNews::Hold(accepted));
                        }
                        None => {}
                    }
                    let mut to = rtp.push(at, &talk.saying(), &mut packet);
                    while let Some(there) = to {
                        let _lost_like_any_packet = media.try_send_to(&packet, there);
                        to = rtp.push_more(&mut packet);
                    }
                    let lonely = talk.done_for(at) > self.settings.linger_ms;
                    if lonely || at.ms_since(answered) > self.settings.limit_s * 1000 {
                        break false;
                    }
                }
            }
        };
        if !by_them {
            self.agent.hangup(dialog).await;
        }
        talk.result(200, by_them, now().ms_since(answered), Some(rtp.stats()))
    }

    async fn hold(&self, dialog: DialogId, caps: &mut Capabilities, held: bool) -> bool {
        caps.session_version += 1;
        caps.direction = if held { Direction::SendOnly } else { Direction::SendRecv };
        self.agent.reinvite(dialog, sdp::offer(caps).to_string()).await.is_ok()
    }
}

fn reanswer(caps: &mut Capabilities, body: Option<String>, rtp: &mut RtpSession) -> Result<String, u16> {
    let offer = sdp::parse(body.ok_or(488u16)?.as_bytes()).map_err(|_| 400u16)?;
    let mut next = caps.clone();
    next.session_version += 1;
    let (answer, plan) = sdp::answer(&offer, &next).map_err(|_| 488u16)?;
    next.srtp.agreed(plan.srtp.as_ref(), rand::fill);
    *caps = next;
    let host = plan.remote.ip();
    rtp.replan(plan, host, now());
    Ok(answer.to_string())
}

/// Whether an event says that this call is over; a phone may still hear of the one before.
fn over(event: &SipEvent, dialog: DialogId) -> bool {
    matches!(event, SipEvent::Bye { dialog: d } | SipEvent::Ended { dialog: d, .. } | SipEvent::Cancelled { dialog: d }
        if *d == dialog)
}

fn described(body: &str) -> Result<sdp::Session, PhoneError> {
    sdp::parse(body.as_bytes()).map_err(|e| PhoneError::Sdp(e.to_string()))
}

/// What a leg of ours can do at this address and RTP port (RTCP on the next).
pub fn capabilities(addr: IpAddr, port: u16, codecs: Vec<Codec>) -> Capabilities {
    Capabilities {
        addr,
        port,
        rtcp_port: port + 1,
        codecs,
        telephone_event: true,
        dtx: false,
        direction: Direction::SendRecv,
        session_id: now().0,
        session_version: 1,
        srtp: Srtp::off(),
    }
}

enum Doing {
    Keys(String),
    Hold(bool),
    HangUp,
}

/// The caller's mind: what was heard, what comes next.
struct Talk {
    script: VecDeque<Step>,
    gap_ms: u64,
    keep: bool,
    heard: Vec<i16>,
    saying: VecDeque<i16>,
    loud_since: Option<Mono>,
    loud_last: Option<Mono>,
    step_at: Mono,
    steps_done: usize,
    packets: Vec<PacketSeen>,
    keys: String,
    key_marks: Vec<usize>,
}

impl Talk {
    fn new(script: Vec<Step>, settings: &PhoneSettings) -> Self {
        Talk {
            script: script.into(),
            gap_ms: settings.prompt_gap_ms,
            keep: settings.keep_sound,
            heard: Vec::new(),
            saying: VecDeque::new(),
            loud_since: None,
            loud_last: None,
            step_at: now(),
            steps_done: 0,
            packets: Vec::new(),
            keys: String::new(),
            key_marks: Vec::new(),
        }
    }

    /// Milliseconds since the script's last step; 0 while there are steps left.
    fn done_for(&self, at: Mono) -> u64 {
        if self.script.is_empty() && self.saying.is_empty() { at.ms_since(self.step_at) } else { 0 }
    }

    /// A key; a peer that presses more than anybody can is not listened to for ever.
    fn key(&mut self, key: char) {
        if self.keys.len() < MOST_KEYS {
            self.keys.push(key);
        }
    }

    fn seen(&mut self, packet: &[u8]) {
        if let (true, Ok(view)) = (self.keep, RtpView::parse(packet)) {
            // Both laws write silence as one of two neighbouring codes.
            let sound = view.payload().iter().any(|c| !matches!(c, 0xd5 | 0x55 | 0xff | 0x7f));
            let payload = payload_hash(view.payload());
            self.packets.push(PacketSeen { seq: view.sequence(), sound, payload });
        }
    }

    fn tick(&mut self, at: Mono, heard: &AudioFrame, news: &mut (dyn FnMut(PhoneNews) + Send)) -> Option<Doing> {
        if self.keep {
            self.heard.extend_from_slice(&heard.pcm);
        }
        let ended = self.listen(at, heard.rms() > LOUD, news);
        if !self.saying.is_empty() {
            return None;
        }
        let due = match self.script.front()?.when {
            When::PromptEnd => ended,
            When::Into(ms) => self.loud_since.is_some_and(|s| at.ms_since(s.max(self.step_at)) >= u64::from(ms)),
            When::After(ms) => at.ms_since(self.step_at) >= u64::from(ms),
        };
        if !due {
            return None;
        }
        self.step_at = at;
        self.steps_done += 1;
        match self.script.pop_front()?.act {
            Act::Say(pcm, words) => {
                self.saying = pcm.into();
                news(PhoneNews::Says(words));
                None
            }
            Act::Keys(keys) => {
                news(PhoneNews::Presses(keys.clone()));
                Some(Doing::Keys(keys))
            }
            Act::Hold(held) => Some(Doing::Hold(held)),
            Act::HangUp => Some(Doing::HangUp),
        }
    }

    /// Follows the other side's speech; true in the moment that a prompt ends.
    fn listen(&mut self, at: Mono, loud: bool, news: &mut (dyn FnMut(PhoneNews) + Send)) -> bool {
        if loud {
            if self.loud_since.is_none() {
                self.loud_since = Some(at);
                news(PhoneNews::PromptBegan);
            }
            self.loud_last = Some(at);
            return false;
        }
        if let (Some(since), Some(last)) = (self.loud_since, self.loud_last)
            && at.ms_since(last) >= self.gap_ms
        {
            self.loud_since = None;
            news(PhoneNews::PromptEnded(last.ms_since(since)));
            return true;
        }
        false
    }

    fn saying(&mut self) -> AudioFrame {
        let mut frame = AudioFrame::silence(0);
        for sample in frame.pcm.iter_mut().take(FRAME_SAMPLES) {
            *sample = self.saying.pop_front().unwrap_or(0);
        }
        frame
    }

    fn result(&mut self, code: u16, by_them: bool, talked_ms: u64, stats: Option<Stats>) -> CallResult {
        let heard = std::mem::take(&mut self.heard);
        let (packets, keys) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.keys));
        let key_marks = std::mem::take(&mut self.key_marks);
        CallResult { code, by_them, talked_ms, stats, heard, steps_done: self.steps_done, packets, keys, key_marks }
    }
}
