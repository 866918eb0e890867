//! What a called address plays before it answers reaches the caller, and is no answer.

use crate::common::far::Far;
use crate::common::sip::*;
use crate::common::sound::ms_of;
use crate::common::wire::heard;
use crate::common::{self, STRANGER, hang_up, tone};
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::audio::{Tone, ToneGenerator};
use zongji::server::notices::Notice;
use zongji::server::phone::{Phone, PhoneNews, PhoneSettings};
use zongji::server::routes::RouteKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_colour_ring_of_the_called_address_is_heard_and_a_refusal_after_it_ends_the_call() {
    let mut far = Far::at([127, 0, 0, 1], ([127, 0, 0, 1], 9).into()).await;
    let target = format!("sip:9000@{}", far.address());
    let running = common::start(|s| s.routes.push(common::route("7000", RouteKind::Bridge, &target))).await;
    far.c.to = running.sip;
    let to = running.sip;
    let calling = tokio::spawn(async move {
        let settings = PhoneSettings { keep_sound: true, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), STRANGER) };
        let mut phone = Phone::start(settings).await.unwrap();
        let mut news = |_: PhoneNews| {};
        phone.call(&format!("sip:7000@{to}"), vec![hang_up(20_000)], &mut news).await.unwrap()
    });
    far.called().await;
    far.reply_with_sound(&far.invite, "183 Session Progress").await;
    far.say(&tone(1000.0, 2)[..1600 * 8]).await;
    far.reply(&far.invite, "486 Busy Here").await;
    let result = calling.await.unwrap();
    assert!(result.by_them, "the refusal ends the call");
    let long = ms_of(&result.heard, 1000.0);
    assert!(long > 1000, "{long} ms of the tone in {} samples heard", result.heard.len());
    running.settle().await;
}

/// Plays a WAV file of 1.5 s to `400` at all times.
async fn closed(file: &std::path::Path) -> common::Running {
    closed_for(file, 12_000).await
}

async fn closed_for(file: &std::path::Path, samples: usize) -> common::Running {
    let mut wav = Vec::new();
    let mut pcm = vec![0; samples];
    ToneGenerator::new(Tone::sine(700.0, 6000.0)).fill(&mut pcm);
    zongji::audio::wav::write(std::io::Cursor::new(&mut wav), 8000, &pcm).unwrap();
    std::fs::write(file, wav).unwrap();
    let notice = Notice { numbers: vec!["400".into()], open: vec![], file: file.into() };
    common::start(|s| s.notices = vec![notice]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_is_heard_before_the_answer_that_never_comes() {
    let folder = tempfile::tempdir().unwrap();
    let running = closed(&folder.path().join("closed.wav")).await;
    let caller = Client::new(running.sip).await;
    let media = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let offer = OFFER.replace("40000", &media.local_addr().unwrap().port().to_string());
    caller.send(&caller.request("INVITE", "400", "closed", 1, "", "", &offer)).await;
    let signals = async {
        let mut progress = String::new();
        loop {
            let text = caller.hear().await;
            if text.starts_with("SIP/2.0 183") {
                progress = text;
            } else if !text.starts_with("SIP/2.0 1") {
                return (progress, text);
            }
        }
    };
    let (heard, (progress, last)) = tokio::join!(heard(&media, Duration::from_secs(2), usize::MAX), signals);
    assert!(progress.contains("m=audio "), "{progress}");
    assert!(last.starts_with("SIP/2.0 480"), "{last}");
    caller.send(&caller.request("ACK", "400", "closed", 1, &tag_of(&last), "", "")).await;
    let loud = heard.iter().filter(|s| s.unsigned_abs() > 2000).count();
    assert!((8000..12_800).contains(&heard.iter().rposition(|s| s.unsigned_abs() > 2000).unwrap()), "once");
    assert!(loud > 8000, "{loud} loud samples of {}", heard.len());
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert!(call.answered_at.is_none() && call.reason.as_deref().is_some_and(|r| r.contains("[[notice]]")), "{call:?}");
    assert!(call.recording.is_none());
}

/// Over UDP anybody can write any address into a description: nothing is sent to another than the one who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_is_not_sent_to_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let running = closed(&folder.path().join("closed.wav")).await;
    let caller = Client::new(running.sip).await;
    let victim = UdpSocket::bind("127.0.0.3:0").await.unwrap();
    let port = victim.local_addr().unwrap().port().to_string();
    let offer = OFFER.replace("40000", &port).replace("c=IN IP4 127.0.0.1", "c=IN IP4 127.0.0.3");
    caller.send(&caller.request("INVITE", "400", "aimed", 1, "", "", &offer)).await;
    let first = caller.hear().await;
    assert!(first.starts_with("SIP/2.0 480") || first.starts_with("SIP/2.0 100"), "no 183: {first}");
    let last = if first.starts_with("SIP/2.0 1") { caller.hear().await } else { first };
    assert!(last.starts_with("SIP/2.0 480"), "{last}");
    caller.send(&caller.request("ACK", "400", "aimed", 1, &tag_of(&last), "", "")).await;
    assert!(tokio::time::timeout(Duration::from_millis(500), victim.recv_from(&mut [0; 99])).await.is_err());
    assert!(reason(&running).await.contains("another address than the call came from"));
}

/// Why the only call ended.
async fn reason(running: &common::Running) -> String {
    running.settle().await;
    running.hotline.store().calls(1).await.unwrap().remove(0).reason.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_offer_hears_no_notice_and_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let running = closed(&folder.path().join("closed.wav")).await;
    let caller = Client::new(running.sip).await;
    caller.send(&caller.request("INVITE", "400", "late", 1, "", "", "")).await;
    let last = caller.final_answer().await;
    assert!(last.starts_with("SIP/2.0 480") && header(&last, "Retry-After").is_empty(), "{last}");
    caller.send(&caller.request("ACK", "400", "late", 1, &tag_of(&last), "", "")).await;
    assert!(reason(&running).await.contains("only be played to a call with an offer"));
}

/// Whoever writes somebody's address as sender and as place of the sound has two seconds of it sent there, no more: the
/// rest waits for a packet from there, or for a PRACK.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_notice_goes_on_only_where_something_came_back() {
    let folder = tempfile::tempdir().unwrap();
    let running = closed_for(&folder.path().join("closed.wav"), 32_000).await;
    for (id, more, answers) in [("forged", "", false), ("heard", "", true), ("prack", "Supported: 100rel\r\n", false)] {
        let caller = Client::new(running.sip).await;
        let media = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let offer = OFFER.replace("40000", &media.local_addr().unwrap().port().to_string());
        caller.send(&caller.request("INVITE", "400", id, 1, "", more, &offer)).await;
        let listens = async {
            let (mut packet, mut count) = ([0u8; 2048], 0);
            while let Ok(Ok((_, from))) =
                tokio::time::timeout(Duration::from_secs(1), media.recv_from(&mut packet)).await
            {
                count += 1;
                if answers && count == 10 {
                    let mut silence = vec![0x80, 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7];
                    silence.extend([0xd5; 160]);
                    media.send_to(&silence, from).await.unwrap();
                }
            }
            count
        };
        let signals = async {
            loop {
                let text = caller.hear().await;
                if text.starts_with("SIP/2.0 183") && !more.is_empty() {
                    let rack = format!("RAck: {} 1 INVITE\r\n", header(&text, "RSeq"));
                    caller.send(&caller.request("PRACK", "400", id, 2, &tag_of(&text), &rack, "")).await;
                } else if header(&text, "CSeq") == "1 INVITE" && !text.starts_with("SIP/2.0 1") {
                    return text;
                }
            }
        };
        let (packets, last) = tokio::join!(listens, signals);
        assert!(last.starts_with("SIP/2.0 480"), "{last}");
        caller.send(&caller.request("ACK", "400", id, 1, &tag_of(&last), "", "")).await;
        let why = reason(&running).await;
        if id == "forged" {
            assert!((90..=102).contains(&packets) && why.contains("the notice was cut off"), "{packets}: {why}");
        } else {
            assert!((200..=225).contains(&packets) && why.contains("after the notice"), "{id}: {packets}: {why}");
        }
    }
}
