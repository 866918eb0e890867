//! A caller written by hand, message by message: for what a phone's own stack never does or never shows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use zongji::audio::Law;
use zongji::clock::Mono;
use zongji::rtp::RtpView;
use zongji::server::time::now;

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// One call over UDP.
pub struct Caller {
    sip: UdpSocket,
    media: UdpSocket,
    to: SocketAddr,
    from: String,
    user: String,
    to_line: String,
    call_id: String,
    cseq: u32,
    /// What it offers: payload types and their rtpmaps, its codec first.
    pub formats: Vec<(u8, &'static str)>,
    /// Where the hotline takes our sound, once it has said so.
    pub remote: Option<SocketAddr>,
    /// The `a=crypto` of its offers: RTP/SAVP then.
    pub crypto: Option<String>,
    /// What it offers instead of all that.
    pub described: Option<String>,
}

impl Caller {
    /// A caller with a number who dials 400; nothing is sent yet.
    pub async fn new(to: SocketAddr, number: &str) -> Caller {
        Caller::dialling(to, number, "400").await
    }

    /// A caller who dials another number.
    pub async fn dialling(to: SocketAddr, number: &str, user: &str) -> Caller {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (sip, media) = (bind().await.expect("a socket"), bind().await.expect("a socket"));
        let here = sip.local_addr().expect("its address");
        Caller {
            to,
            from: format!("<sip:{number}@{here}>;tag=hand"),
            to_line: format!("<sip:{user}@{to}>"),
            user: user.into(),
            call_id: format!("{}-by-hand", here.port()),
            cseq: 1,
            formats: vec![(8, "PCMA/8000")],
            remote: None,
            crypto: None,
            described: None,
            sip,
            media,
        }
    }

    fn here(&self) -> SocketAddr {
        self.sip.local_addr().expect("its address")
    }

    async fn send(&self, method: &str, branch: &str, more: &str, body: &str) {
        let (to, here, user) = (self.to, self.here(), &self.user);
        let text = format!(
            "{method} sip:{user}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{branch};rport\r\nFrom: {}\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\nMax-Forwards: 70\r\nContact: <sip:hand@{here}>\r\n\
             {more}Content-Length: {}\r\n\r\n{body}",
            self.from,
            self.to_line,
            self.call_id,
            self.cseq,
            body.len()
        );
        self.sip.send_to(text.as_bytes(), to).await.expect("sent");
    }

    fn offer(&self, direction: &str) -> String {
        if let Some(described) = &self.described {
            return described.clone();
        }
        let port = self.media.local_addr().expect("its address").port();
        let numbers: String = self.formats.iter().map(|(n, _)| format!(" {n}")).collect();
        let maps: String = self.formats.iter().map(|(n, map)| format!("a=rtpmap:{n} {map}\r\n")).collect();
        let (transport, key) = match &self.crypto {
            Some(key) => ("RTP/SAVP", format!("a=crypto:{key}\r\n")),
            None => ("RTP/AVP", String::new()),
        };
        format!(
            "v=0\r\no=- 1 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} {transport}{numbers}\r\n{maps}{key}a={direction}\r\n",
            self.cseq
        )
    }

    /// Sends an INVITE: the first one, or one that changes the call's direction.
    pub async fn invite(&mut self, direction: &str) {
        let more = "Content-Type: application/sdp\r\n";
        self.send("INVITE", &format!("inv{}", self.cseq), more, &self.offer(direction)).await;
    }

    /// Waits for the answer with this status to our request of this method, and returns it.
    pub async fn expect(&mut self, method: &str, code: u16) -> String {
        let cseq = format!("CSeq: {} {method}", self.cseq);
        loop {
            let text = self.next().await;
            let status = text.strip_prefix("SIP/2.0 ").and_then(|s| s.get(..3)?.parse::<u16>().ok());
            match status {
                Some(status) if text.contains(&cseq) && status == code => {
                    if let Some(to) = text.lines().find(|l| l.to_ascii_lowercase().starts_with("to:")) {
                        let tagged = to[3..].trim().to_owned();
                        if method == "INVITE" {
                            self.to_line = tagged;
                        }
                    }
                    self.remote = media_of(&text).or(self.remote);
                    return text;
                }
                Some(status) if text.contains(&cseq) && status >= 200 => panic!("{method}: wanted {code}: {text}"),
                _ => {}
            }
        }
    }

    /// Waits until the hotline hangs up, and lets it.
    pub async fn expect_bye(&mut self) {
        loop {
            let text = self.next().await;
            if text.starts_with("BYE ") {
                let kept = ["via:", "from:", "to:", "call-id:", "cseq:"];
                let lines = text.lines().filter(|l| kept.iter().any(|k| l.to_ascii_lowercase().starts_with(k)));
                let head: String = lines.map(|l| format!("{l}\r\n")).collect();
                let answer = format!("SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n");
                self.sip.send_to(answer.as_bytes(), self.to).await.expect("sent");
                return;
            }
        }
    }

    async fn next(&self) -> String {
        let mut buffer = vec![0; 8192];
        let (len, _) = timeout(PATIENCE, self.sip.recv_from(&mut buffer)).await.expect("a message").expect("readable");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    /// Confirms the 200 to the last INVITE.
    pub async fn ack(&self) {
        self.send("ACK", &format!("ack{}", self.cseq), "", "").await;
    }

    /// Confirms a refusal: in the INVITE's own transaction.
    pub async fn ack_refusal(&self) {
        self.send("ACK", &format!("inv{}", self.cseq), "", "").await;
    }

    /// Gives up before the answer.
    pub async fn cancel(&self) {
        self.send("CANCEL", &format!("inv{}", self.cseq), "", "").await;
    }

    /// Dials and is answered.
    pub async fn establish(&mut self) {
        self.invite("sendrecv").await;
        self.expect("INVITE", 200).await;
        self.ack().await;
    }

    /// Changes the direction of the call; returns the description that answers.
    pub async fn change(&mut self, direction: &str) -> String {
        self.cseq += 1;
        self.invite(direction).await;
        let answer = self.expect("INVITE", 200).await;
        self.ack().await;
        answer
    }

    /// Presses a key (SIP INFO).
    pub async fn key(&mut self, key: char) {
        self.cseq += 1;
        let body = format!("Signal={key}\r\nDuration=100\r\n");
        self.send("INFO", &format!("inf{}", self.cseq), "Content-Type: application/dtmf-relay\r\n", &body).await;
        self.expect("INFO", 200).await;
    }

    /// Hangs up.
    pub async fn bye(&mut self) {
        self.cseq += 1;
        self.send("BYE", &format!("bye{}", self.cseq), "", "").await;
        self.expect("BYE", 200).await;
    }

    /// Says something in real time.
    pub async fn say(&self, pcm: &[i16]) {
        let remote = self.remote.expect("the call is answered");
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for (n, frame) in pcm.chunks(160).enumerate() {
            clock.tick().await;
            self.media.send_to(&g711_packet(n as u32, 7, frame), remote).await.expect("sent");
        }
    }

    /// A telephone in hands-free mode: sends back what it hears, later and softer. From so long after `speaks` is true,
    /// its owner says something over it. It ends by itself only after a time that is longer than any call.
    pub async fn echo(&self, (delay_ms, gain): (usize, f32), said: &[i16], (speaks, after_ms): (&AtomicBool, usize)) {
        let remote = self.remote.expect("the call is answered");
        let mut line = std::collections::VecDeque::from(vec![0i16; delay_ms * 8]);
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        let mut buffer = vec![0; 2048];
        let (mut waits, mut words) = (after_ms / 20, said.chunks(160));
        for n in 0..6000 {
            clock.tick().await;
            while let Ok((len, _)) = self.media.try_recv_from(&mut buffer) {
                line.extend(decoded(&buffer[..len]));
            }
            let mut word: &[i16] = &[];
            if speaks.load(Ordering::Relaxed) {
                match waits.checked_sub(1) {
                    Some(left) => waits = left,
                    None => word = words.next().unwrap_or_default(),
                }
            }
            let frame: Vec<i16> = (0..160)
                .map(|i| {
                    let back = (f32::from(line.pop_front().unwrap_or(0)) * gain) as i16;
                    back.saturating_add(word.get(i).copied().unwrap_or(0))
                })
                .collect();
            self.media.send_to(&g711_packet(n, 7, &frame), remote).await.expect("sent");
        }
    }

    /// Sends coded packets of 20 ms in real time, in the codec it offered; `step` is their length on its clock.
    pub async fn send_coded(&self, payloads: &[Vec<u8>], step: u32) {
        let remote = self.remote.expect("the call is answered");
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for (n, payload) in payloads.iter().enumerate() {
            clock.tick().await;
            let mut packet = vec![0x80, self.formats[0].0];
            packet.extend_from_slice(&(n as u16).to_be_bytes());
            packet.extend_from_slice(&(n as u32 * step).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 8]);
            packet.extend_from_slice(payload);
            self.media.send_to(&packet, remote).await.expect("sent");
        }
    }

    /// Sends one packet that carries a number, and says when.
    pub async fn beat(&self, n: u16) -> Mono {
        let remote = self.remote.expect("the call is answered");
        let [high, low] = n.to_be_bytes();
        let mut packet = vec![0x80, 8, high, low];
        packet.extend_from_slice(&(u32::from(n) * 160).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 7, high, low]);
        packet.resize(172, 0xd5);
        let at = now();
        self.media.send_to(&packet, remote).await.expect("sent");
        at
    }

    /// How many packets come within a time, with sound or without.
    pub async fn packets(&self, within: Duration) -> usize {
        let end = tokio::time::Instant::now() + within;
        let (mut count, mut buffer) = (0, vec![0; 2048]);
        while let Ok(Ok(_)) = tokio::time::timeout_at(end, self.media.recv_from(&mut buffer)).await {
            count += 1;
        }
        count
    }

    /// Everything that is heard within a time, decoded.
    pub async fn hear(&self, within: Duration) -> Vec<i16> {
        let end = tokio::time::Instant::now() + within;
        let (mut heard, mut buffer) = (Vec::new(), vec![0; 2048]);
        while let Ok(Ok((len, _))) = tokio::time::timeout_at(end, self.media.recv_from(&mut buffer)).await {
            heard.extend(decoded(&buffer[..len]));
        }
        heard
    }

    /// So many packets with their sequence numbers and what they say, decoded; however long they take.
    pub async fn hear_packets(&self, count: usize) -> Vec<(u16, Vec<i16>)> {
        let (mut heard, mut buffer) = (Vec::new(), vec![0; 2048]);
        while heard.len() < count {
            let came = timeout(PATIENCE, self.media.recv_from(&mut buffer)).await.expect("sound goes on");
            let packet = &buffer[..came.expect("readable").0];
            if let Ok(view) = RtpView::parse(packet) {
                heard.push((view.sequence(), decoded(packet)));
            }
        }
        heard
    }

    /// Times between the packets that come within a time.
    pub async fn gaps(&self, within: Duration) -> Vec<Duration> {
        let end = tokio::time::Instant::now() + within;
        let (mut gaps, mut last, mut buffer) = (Vec::new(), None, vec![0; 2048]);
        while let Ok(Ok(_)) = tokio::time::timeout_at(end, self.media.recv_from(&mut buffer)).await {
            let now = tokio::time::Instant::now();
            gaps.extend(last.replace(now).map(|before| now - before));
        }
        gaps
    }

    /// Sequence numbers of the packets with sound that come within a time.
    pub async fn sounds(&self, within: Duration) -> Vec<u16> {
        let end = tokio::time::Instant::now() + within;
        let (mut found, mut buffer) = (Vec::new(), vec![0; 2048]);
        while let Ok(Ok((len, _))) = tokio::time::timeout_at(end, self.media.recv_from(&mut buffer)).await {
            if let Ok(view) = RtpView::parse(&buffer[..len])
                && view.payload().iter().any(|c| !matches!(c, 0xd5 | 0x55))
            {
                found.push(view.sequence());
            }
        }
        found
    }
}

/// A packet of A-law: its number in the stream of this name, and 20 ms of sound.
pub fn g711_packet(n: u32, ssrc: u32, frame: &[i16]) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&(n as u16).to_be_bytes());
    packet.extend_from_slice(&n.wrapping_mul(160).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    Law::A.encode(frame, &mut packet);
    packet
}

/// The sound of a packet of A-law; nothing where it is none.
pub fn decoded(datagram: &[u8]) -> Vec<i16> {
    let Ok(view) = RtpView::parse(datagram) else { return Vec::new() };
    view.payload().iter().map(|&c| Law::A.decode_sample(c)).collect()
}

/// What is heard at a socket until nothing more comes for so long, and no more than so many samples.
pub async fn heard(socket: &UdpSocket, quiet: Duration, most: usize) -> Vec<i16> {
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 2048]);
    while heard.len() < most
        && let Ok(Ok((len, _))) = timeout(quiet, socket.recv_from(&mut buffer)).await
    {
        heard.extend(decoded(&buffer[..len]));
    }
    heard
}

/// Where a description wants its sound.
fn media_of(text: &str) -> Option<SocketAddr> {
    let address = text.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim();
    let port = text.lines().find_map(|l| l.strip_prefix("m=audio "))?.split(' ').next()?;
    format!("{address}:{port}").parse().ok()
}
