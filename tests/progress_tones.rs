//! What a network plays in place of a person: busy and congestion tones are a failure, before an answer and after one;
//! music is nothing at all.

use crate::common::sip::{ANSWER, Client, header};
use crate::common::{self, Running, STRANGER, Watch, hang_up, keys};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::audio::{FRAME_SAMPLES, Law, Tone, ToneGenerator};
use zongji::call::{CallEvent, TransferStage};
use zongji::server::outbound::{Role, Rule};
use zongji::server::trunks::{Server, Trunk};

/// A carrier's server by hand, and its media.
struct Far {
    sip: Client,
    media: Arc<UdpSocket>,
    invite: String,
}

impl Far {
    /// The hotline with one seat, a telephone outside, and the carrier by which it is called.
    async fn begin() -> (Running, Far) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let media = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let trunk = Trunk {
            name: "carrier".into(),
            servers: vec![Server { address: format!("sip:{at}"), priority: 0, weight: 1 }],
            inbound: true,
            outbound: true,
            priority: 1,
            weight: 1,
            shows: Some("4001234567".into()),
            max_out: 10,
            give_up_ms: 2000,
            options_s: 0,
            ..Trunk::default()
        };
        let running = common::start(|s| {
            s.trunks = vec![trunk];
            let rule = Rule { role: Role::Flow, allow: vec!["010".into()], deny: vec![], at_once: 1, per_hour: 100 };
            s.outbound = vec![rule];
            s.seats[0].phone = Some("01012345678".into());
        })
        .await;
        let to = running.sip;
        (running, Far { sip: Client { socket, to }, media, invite: String::new() })
    }

    /// Waits until it is called.
    async fn called(&mut self) {
        self.invite = self.next(&[]).await;
        assert!(self.invite.starts_with("INVITE sip:01012345678@"), "{}", self.invite);
    }

    /// Answers a request of the call; with a description where `sdp`.
    async fn reply(&self, request: &str, status: &str, sdp: bool) {
        let here = self.sip.socket.local_addr().unwrap();
        let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(request, n))).concat();
        let to = header(request, "To");
        let tag = if to.contains("tag=") { "" } else { ";tag=far" };
        let port = self.media.local_addr().unwrap().port().to_string();
        let body = if sdp { ANSWER.replace("40002", &port) } else { String::new() };
        let kind = if sdp { "Content-Type: application/sdp\r\n" } else { "" };
        let text = format!(
            "SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: <sip:far@{here}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.sip.send(&text).await;
    }

    /// Sends sound until it is dropped; each frame is asked for by its number.
    fn plays(&self, mut sound: impl FnMut(usize) -> [i16; FRAME_SAMPLES] + Send + 'static) -> tokio::task::JoinSet<()> {
        let media = self.media.clone();
        let line = self.invite.lines().find_map(|l| l.strip_prefix("m=audio ")).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], line.split(' ').next().unwrap().parse().unwrap()));
        let mut playing = tokio::task::JoinSet::new();
        playing.spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_millis(20));
            for n in 0.. {
                clock.tick().await;
                let mut packet = vec![0x80, 8];
                packet.extend((n as u16).to_be_bytes());
                packet.extend((n as u32 * 160).to_be_bytes());
                packet.extend(9u32.to_be_bytes());
                Law::A.encode(&sound(n), &mut packet);
                media.send_to(&packet, to).await.unwrap();
            }
        });
        playing
    }

    /// The next request that is not a repeated one of these.
    async fn next(&self, past: &[&str]) -> String {
        loop {
            let mut buffer = vec![0; 65_536];
            let heard = tokio::time::timeout(Duration::from_secs(50), self.sip.socket.recv_from(&mut buffer)).await;
            let request = String::from_utf8_lossy(&buffer[..heard.expect("something in time").unwrap().0]).into_owned();
            if !request.starts_with("SIP/2.0 ") && !past.iter().any(|p| request.starts_with(p)) {
                return request;
            }
        }
    }
}

fn tone(on_ms: u32, off_ms: u32) -> impl FnMut(usize) -> [i16; FRAME_SAMPLES] + Send + 'static {
    let mut made = ToneGenerator::new(Tone { hz: [450.0, 0.0], amplitude: 3000.0, on_ms, off_ms, repeats: true });
    move |n| made.frame((n * FRAME_SAMPLES) as u64).pcm
}

/// A tune of two voices, with a 450 Hz note in it.
fn tune(n: usize) -> [i16; FRAME_SAMPLES] {
    let note = [300.0, 392.0, 450.0, 523.0, 660.0, 450.0, 784.0, 350.0][n / 15 % 8];
    let mut pcm = ToneGenerator::new(Tone::sine(note, 4000.0)).frame(0).pcm;
    let above = ToneGenerator::new(Tone::sine(note * 2.5, 3000.0)).frame(0).pcm;
    pcm.iter_mut().zip(above).for_each(|(a, b)| *a += b);
    pcm
}

fn bridged(e: &CallEvent) -> bool {
    matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })
}

/// How the transfer ended, and the sentence of the leg's failure.
async fn outcome(running: &Running, events: &[CallEvent]) -> (Option<String>, String) {
    let rows = running.hotline.store().transfers(5).await.unwrap();
    let why = events.iter().find_map(|e| match e {
        CallEvent::LegFailed { reason, .. } => Some(reason.sentence.clone()),
        _ => None,
    });
    (rows[0].result.clone(), why.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_tone_before_the_answer_is_a_busy_seat() {
    let (running, mut far) = Far::begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(16_000)]);
    let far = async {
        far.called().await;
        far.reply(&far.invite, "183 Session Progress", true).await;
        let _tone = far.plays(tone(350, 350));
        let cancel = far.next(&["INVITE"]).await;
        assert!(cancel.starts_with("CANCEL"), "{cancel}");
        far.reply(&cancel, "200 OK", false).await;
        far.reply(&far.invite, "487 Request Terminated", false).await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let (result, why) = outcome(&running, &watch.all()).await;
    assert_eq!(result.as_deref(), Some("busy"));
    assert!(why.contains("did not take the call: a busy tone was heard") && why.contains("by trunk carrier"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_congestion_tone_after_it_is_no_person() {
    let (running, mut far) = Far::begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(22_000)]);
    let far = async {
        far.called().await;
        far.reply(&far.invite, "200 OK", true).await;
        let _tone = far.plays(tone(700, 700));
        let bye = far.next(&["INVITE", "ACK"]).await;
        assert!(bye.starts_with("BYE"), "{bye}");
        far.reply(&bye, "200 OK", false).await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let all = watch.all();
    let (result, why) = outcome(&running, &all).await;
    assert_eq!(result.as_deref(), Some("timeout"));
    assert!(why.contains("answered, but nobody was there: a congestion tone was heard"), "{why}");
    let back = all.iter().position(|e| matches!(e, CallEvent::LegFailed { .. })).unwrap();
    assert!(all[back..].iter().any(|e| matches!(e, CallEvent::PromptStarted { .. })), "the caller is talked to again");
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert_ne!(call.outcome.as_deref(), Some("transferred"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_colour_ring_is_no_answer_and_no_failure() {
    let (running, mut far) = Far::begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(24_000)]);
    let far = async {
        far.called().await;
        far.reply(&far.invite, "183 Session Progress", true).await;
        let mut music = far.plays(tune);
        tokio::time::timeout(Duration::from_secs(6), music.join_next()).await.unwrap_err();
        let before = watch.all();
        assert!(!before.iter().any(|e| bridged(e) || matches!(e, CallEvent::LegFailed { .. })), "{before:?}");
        far.reply(&far.invite, "200 OK", true).await;
        watch.until("they are joined", bridged).await;
        let bye = far.next(&["INVITE", "ACK"]).await;
        assert!(bye.starts_with("BYE"), "{bye}");
        far.reply(&bye, "200 OK", false).await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let (result, why) = outcome(&running, &watch.all()).await;
    assert_eq!((result.as_deref(), why.as_str()), (Some("connected"), ""));
}
