//! Speech through a line that loses packets, in virtual time: A-law, RTP, jitter buffer, concealment, recogniser.

use crate::common::{self, engines, flows};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use zongji::audio::{AudioFrame, FRAME_SAMPLES};
use zongji::clock::Mono;
use zongji::rtp::RtpSession;
use zongji::sdp::{Codec, answer, offer};
use zongji::server::hotline::opening_question;
use zongji::server::phone::{Act, capabilities};

/// What comes out of a leg when one in twenty of its packets is lost, and how many were.
fn through_a_bad_line(pcm: &[i16], seed: u64) -> (Vec<i16>, u64) {
    let caps = |port| capabilities([127, 0, 0, 1].into(), port, vec![Codec::Pcma]);
    let (here, there) = (caps(40_000), caps(40_002));
    let (_, plan) = answer(&offer(&there), &here).expect("they agree");
    let (_, back) = answer(&offer(&here), &there).expect("they agree");
    let from = plan.remote;
    let (start, mut rng) = (Mono::from_ms(0), ChaCha8Rng::seed_from_u64(seed));
    let mut ours = RtpSession::new(plan, from.ip(), 1, start);
    let mut theirs = RtpSession::new(back, from.ip(), 2, start);
    let (mut heard, mut packet, mut lost) = (Vec::new(), Vec::new(), 0);
    // Silence behind the words, until the last of them has left the jitter buffer.
    let frames = pcm.chunks(FRAME_SAMPLES).map(<[i16]>::to_vec).chain(std::iter::repeat_n(vec![], 25));
    for (n, mut samples) in frames.enumerate() {
        let now = Mono::from_ms(20 * n as u64);
        samples.resize(FRAME_SAMPLES, 0);
        let frame = AudioFrame { at: (n * FRAME_SAMPLES) as u64, pcm: std::array::from_fn(|i| samples[i]) };
        theirs.push(now, &frame, &mut packet).expect("there is somewhere to send to");
        // The first words of a stream teach the buffer its clock.
        if n > 5 && rng.random_bool(0.05) {
            lost += 1;
        } else {
            ours.receive(now, from, &packet);
        }
        heard.extend_from_slice(&ours.pull(now).pcm);
    }
    (heard, lost)
}

#[test]
fn what_is_said_is_understood_through_five_percent_loss() {
    let recognizer = engines().recognizer.expect("the bundled recogniser");
    let flows = flows();
    let opening = opening_question(&flows);
    let grammar = Arc::new(flows.grammar(&opening));
    let mut wrong = Vec::new();
    for (fixture, transcript, meaning) in [
        ("order_query", "查一下订单", "order_query"),
        ("change_address", "改地址", "change_address"),
        ("complaint", "我要投诉", "complaint"),
        ("human", "转人工", "human"),
    ] {
        let Act::Say(pcm, _) = common::say(fixture) else { unreachable!() };
        for seed in 1..=3 {
            let (heard, lost) = through_a_bad_line(&pcm, seed);
            assert!(lost > 0, "{fixture} {seed}: nothing was lost");
            let mut stream = recognizer.open(grammar.clone()).expect("it opens");
            heard.chunks(2400).for_each(|chunk| stream.feed(chunk).expect("it hears"));
            let heard = stream.finish().expect("it answers");
            let understood = flows.understand(&opening, &heard);
            let meant = format!("{:?}", understood.meaning).to_lowercase();
            if heard.text() != transcript || !meant.contains(&meaning.replace('_', "")) && !meant.contains(meaning) {
                wrong.push(format!("{fixture} seed {seed}, {lost} lost: `{}`, {meant}", heard.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
