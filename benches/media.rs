//! What one leg costs every 20 ms, and what the models cost.
//!
//! Budgets: receive + pull + push of a G.711 leg under 5 µs a tick; 3 s of speech through recogniser and open grammar
//! under 60 ms; 1 s of speech from the voice under 40 ms; an utterance classified under 1 ms; the echo guard, where it is
//! on, under 300 µs a tick while somebody speaks over a prompt.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use zongji::audio::{EchoGuard, FRAME_SAMPLES};
use zongji::clock::Mono;
use zongji::dialplan::FlowSet;
use zongji::rtp::RtpSession;
use zongji::sdp::{Codec, answer, offer};
use zongji::server::hotline::{opening_question, read_dialplans};
use zongji::server::phone::capabilities;
use zongji::speech::{Lang, SpeechRequest, Transcript};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn a_leg(c: &mut Criterion) {
    let here = capabilities([127, 0, 0, 1].into(), 40_000, vec![Codec::Pcma]);
    let there = capabilities([127, 0, 0, 1].into(), 40_002, vec![Codec::Pcma]);
    let (_, plan) = answer(&offer(&there), &here).expect("they agree");
    let (_, back) = answer(&offer(&here), &there).expect("they agree");
    let from = back.remote;
    let mut ours = RtpSession::new(plan.clone(), plan.remote.ip(), 1, Mono::from_ms(0));
    let mut theirs = RtpSession::new(back, from.ip(), 2, Mono::from_ms(0));
    let frame = zongji::audio::AudioFrame { at: 0, pcm: std::array::from_fn(|n| (n as i16 * 37) % 3000) };
    let (mut now, mut packet, mut sent) = (Mono::from_ms(0), Vec::new(), Vec::new());
    c.bench_function("leg: receive, pull, push", |b| {
        b.iter(|| {
            now = Mono(now.0 + 20_000);
            theirs.push(now, &frame, &mut packet);
            black_box(ours.receive(now, plan.remote, &packet));
            let heard = ours.pull(now);
            black_box(ours.push(now, &heard, &mut sent));
        });
    });
}

/// A prompt that comes back from a hands-free telephone 100 ms later and 12 dB softer, one over which somebody speaks all
/// the time (each of his frames is looked for in what was played), and one over which nothing is heard.
fn an_echo(c: &mut Criterion) {
    let frames = |name: &str| -> Vec<[i16; FRAME_SAMPLES]> {
        let file = root().join("audio-fixtures").join(name);
        zongji::server::sound::read(&file).expect("a fixture").as_chunks().0.to_vec()
    };
    let (prompt, caller) = (frames("complaint.wav"), frames("order_query.wav"));
    let back = [&prompt[prompt.len() - 5..], &prompt[..prompt.len() - 5]].concat();
    let echo = back.iter().map(|f| f.map(|s| s / 4)).collect();
    let mut group = c.benchmark_group("echo guard");
    for (what, heard) in [("its echo", echo), ("a caller over it", caller), ("nothing", vec![[0; FRAME_SAMPLES]])] {
        let (mut guard, mut n) = (EchoGuard::new(), 0);
        group.bench_function(what, |b| {
            b.iter(|| {
                n += 1;
                let heard = &heard[n % heard.len()];
                black_box(guard.clean(heard));
                if heard.iter().any(|s| s.unsigned_abs() > 500) {
                    black_box(guard.is_echo());
                }
                guard.play(&prompt[n % prompt.len()]);
            });
        });
    }
    group.finish();
}

fn models(c: &mut Criterion) {
    let engines = zongji::engines::load(&zongji::engines::EngineSettings::default());
    let files = read_dialplans(&root().join("dialplans")).expect("dialplans");
    let flows = Arc::new(FlowSet::compile(files).expect("sound dialplans"));
    let opening = opening_question(&flows);
    let grammar = Arc::new(flows.grammar(&opening));
    let speech = zongji::server::sound::read(&root().join("audio-fixtures/order_query.wav")).expect("a fixture");
    let recognizer = engines.recognizer.expect("the bundled recogniser");
    let mut group = c.benchmark_group("models");
    group.sample_size(20);
    group.bench_function("hear an opening answer", |b| {
        b.iter(|| {
            let mut stream = recognizer.open(grammar.clone()).expect("it opens");
            for chunk in speech.chunks(2400) {
                stream.feed(chunk).expect("it hears");
            }
            black_box(stream.finish().expect("it answers"))
        });
    });
    let voice = engines.synthesizer;
    let text = "您的冰箱，正在打包，预计十一月二十二日送达。";
    let request =
        SpeechRequest { text: text.into(), lang: Lang::Zh, rate: 1.0, pitch: 1.0, audio: None, personal: false };
    group.bench_function("speak five seconds", |b| {
        b.iter(|| voice.speak(&request, &mut |pcm| !black_box(pcm).is_empty()).expect("it speaks"));
    });
    let typed = Transcript::typed("我昨天买的东西发货了没有");
    group.bench_function("understand a sentence", |b| b.iter(|| black_box(flows.understand(&opening, &typed))));
    group.finish();
}

criterion_group!(benches, a_leg, an_echo, models);
criterion_main!(benches);
