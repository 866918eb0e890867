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

/// Plays a WAV file to `400` at all times.
async fn closed(file: &std::path::Path) -> common::Running {
    let mut wav = Vec::new();
    let mut pcm = vec![0; 12_000];
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
    assert!(caller.final_answer().await.starts_with("SIP/2.0 480"));
    assert!(tokio::time::timeout(Duration::from_millis(500), victim.recv_from(&mut [0; 99])).await.is_err());
}
