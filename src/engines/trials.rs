//! Trials of the recogniser: hotline speech by our own voice, by espeak-ng and by people where recordings are present.

use super::builtin;
use super::espeak::Espeak;
use super::recogniser::MandarinRecogniser;
use super::resample::{resample, to_float, to_pcm};
use crate::audio::AudioFrame;
use crate::speech::{DigitSpan, Grammar, Lang, Phrase, Recognizer, SpeechRequest, Synthesizer, Transcript, Vad};
use std::sync::{Arc, OnceLock};

/// What callers say to a hotline.
pub const MENU: [&str; 30] = [
    "查订单",
    "查物流",
    "改地址",
    "改到公司",
    "改到家里",
    "转人工",
    "人工客服",
    "投诉",
    "退款",
    "退货",
    "换货",
    "开发票",
    "对",
    "是的",
    "不对",
    "不是",
    "不用了",
    "没有了",
    "满意",
    "不满意",
    "再说一遍",
    "返回",
    "我要查订单",
    "我要改收货地址",
    "第一个",
    "第二个",
    "最近一单",
    "挂失",
    "查余额",
    "谢谢再见",
];
/// What callers also say, and no menu awaits.
pub const OUTSIDE: [&str; 12] = [
    "今天天气真好",
    "你吃饭了没有",
    "我家的猫跑了",
    "喂听得到吗",
    "等一下我找个笔",
    "孩子别闹",
    "昨天晚上看电影",
    "这个颜色我喜欢",
    "你叫什么名字",
    "飞机几点起飞",
    "苹果多少钱一斤",
    "我在开车",
];

fn recogniser() -> &'static MandarinRecogniser {
    static ONE: OnceLock<MandarinRecogniser> = OnceLock::new();
    ONE.get_or_init(|| builtin::recogniser().expect("the built-in recogniser"))
}

/// Speaks with some voice.
pub fn say(voice: &dyn Synthesizer, text: &str, rate: f32, pitch: f32) -> Vec<i16> {
    let request = SpeechRequest { text: text.into(), lang: Lang::Zh, rate, pitch, audio: None, personal: false };
    let mut out = vec![0; 1600];
    voice
        .speak(&request, &mut |p| {
            out.extend(p);
            true
        })
        .expect("spoken");
    out.extend([0; 1600]);
    out
}

/// Through A-law, with white noise `snr` dB under the speech.
pub fn telephone(pcm: &[i16], snr: Option<f32>) -> Vec<i16> {
    let power =
        pcm.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / pcm.iter().filter(|s| **s != 0).count().max(1) as f32;
    let noise = snr.map_or(0.0, |db| (power / 10f32.powf(db / 10.0)).sqrt());
    let mut seed = 7u32;
    pcm.iter()
        .map(|s| {
            // Twelve uniforms make a normal.
            let n: f32 = (0..12)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 8) as f32 / (1 << 24) as f32
                })
                .sum::<f32>()
                - 6.0;
            a_law((f32::from(*s) + noise * n).clamp(-32768.0, 32767.0) as i16)
        })
        .collect()
}

/// The A-law value nearest to a sample: 13 bits, 4 of them mantissa.
fn a_law(s: i16) -> i16 {
    let magnitude = i32::from(s).abs().min(32767);
    let step = match 31 - (magnitude | 255).leading_zeros() as i32 {
        7 => 16,
        top => 1 << (top - 4),
    };
    let value = (magnitude / step * step + step / 2).min(32767);
    if s < 0 { -value as i16 } else { value as i16 }
}

pub fn hear(pcm: &[i16], grammar: &Arc<Grammar>) -> Transcript {
    let mut stream = recogniser().open(Arc::clone(grammar)).expect("opened");
    for chunk in pcm.chunks(2400) {
        stream.feed(chunk).expect("fed");
    }
    stream.finish().expect("heard")
}

#[test]
fn a_menu_is_understood_from_our_own_voice_on_the_telephone() {
    let grammar = Arc::new(Grammar::of(MENU));
    let voice = builtin::voice().expect("a voice");
    let wrong: Vec<String> = MENU
        .iter()
        .enumerate()
        .filter_map(|(i, text)| {
            let heard = hear(
                &telephone(&say(&voice, text, [0.9, 1.0, 1.1][i % 3], [0.9, 1.0, 1.1][i / 3 % 3]), Some(25.0)),
                &grammar,
            );
            (heard.text() != *text || !heard.accepted).then(|| format!("{text} -> {:?}", heard.nbest.first()))
        })
        .collect();
    assert!(wrong.len() <= 1, "{wrong:#?}");
}

#[test]
fn digits_and_phrases_are_told_apart_where_both_are_awaited() {
    let grammar = Arc::new(Grammar { digits: Some(DigitSpan { min: 4, max: 11 }), ..Grammar::of(MENU) });
    let voice = builtin::voice().expect("a voice");
    let heard = |text: &str| hear(&telephone(&say(&voice, text, 1.0, 1.0), Some(25.0)), &grammar);
    let number = heard("四八二七");
    assert!(number.accepted && number.nbest.iter().any(|h| h.text == "4827"), "{number:?}");
    for text in ["转人工", "没有了", "改到公司"] {
        assert_eq!(heard(text).text(), text);
    }
}

#[test]
fn fragments_are_found_in_a_free_sentence_and_small_talk_is_rejected() {
    let list = ["投诉", "订单", "地址", "发票", "退款"].map(|t| Phrase { text: t.into(), weight: 0.0 });
    let grammar = Arc::new(Grammar { fragments: list.to_vec(), ..Grammar::of(MENU) });
    let voice = builtin::voice().expect("a voice");
    let heard = |text: &str| hear(&telephone(&say(&voice, text, 1.0, 1.0), Some(30.0)), &grammar);
    for (text, fragment) in [("麻烦帮我改一下收货地址", "地址"), ("能不能开一张发票给我", "发票")]
    {
        let t = heard(text);
        assert!(t.accepted && t.text().contains(fragment), "{text}: {t:?}");
        assert!(t.nbest[0].pinyin.len() > 4, "the speech around it is there as pinyin");
    }
    for text in ["今天天气真好我们去公园玩", "等一下我先找个笔"] {
        let t = heard(text);
        assert!(!t.accepted && t.nbest.iter().any(|h| h.pinyin.len() > 4), "{text}: {t:?}");
    }
}

#[test]
#[ignore = "prints a table; run by hand when thresholds are tuned"]
fn table() {
    let ours = Arc::new(builtin::voice().expect("a voice"));
    let mut voices: Vec<Voice> = Vec::new();
    let v = Arc::clone(&ours);
    voices.push((
        "ours".into(),
        Box::new(move |t, i| say(v.as_ref(), t, [0.85, 1.0, 1.15][i % 3], [0.85, 1.0, 1.2][i / 3 % 3])),
    ));
    let e = Espeak::new("espeak-ng");
    if e.check().is_ok() {
        voices.push((
            "espeak".into(),
            Box::new(move |t, i| say(&e, t, [0.85, 1.0, 1.1][i % 3], [0.8, 1.0, 1.3][i / 3 % 3])),
        ));
    }
    let menu = Arc::new(Grammar::of(MENU));
    for (name, voice) in &voices {
        for snr in [None, Some(40.0), Some(15.0), Some(8.0)] {
            let (mut right, mut accepted, mut false_accept) = (0, 0, 0);
            let (mut ins, mut outs) = (Vec::new(), Vec::new());
            for (i, text) in MENU.iter().enumerate() {
                let t = hear(&telephone(&voice(text, i), snr), &menu);
                right += usize::from(t.text() == *text);
                accepted += usize::from(t.text() == *text && t.accepted);
                ins.push(t.nbest.first().map_or(0.0, |h| h.confidence));
                if t.text() != *text || !t.accepted {
                    println!("  {name} {snr:?} {text} -> {} {:.2}", t.text(), ins[ins.len() - 1]);
                }
            }
            for (i, text) in OUTSIDE.iter().enumerate() {
                let t = hear(&telephone(&voice(text, i), snr), &menu);
                false_accept += usize::from(t.accepted);
                outs.push(t.nbest.first().map_or(0.0, |h| h.confidence));
                if t.accepted {
                    println!("  {name} {snr:?} OUTSIDE {text} -> {} {:.2}", t.text(), outs[outs.len() - 1]);
                }
            }
            let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
            println!(
                "{name} {snr:?}: right {right}/30 accepted {accepted}, outside accepted {false_accept}/12, confidence in {:.2} out {:.2}",
                mean(&ins),
                mean(&outs)
            );
        }
    }
    digits_table(&voices);
    open_table(&voices);
    people_table();
}

/// Its name, and what says a text in the n-th manner.
type Voice = (String, Box<dyn Fn(&str, usize) -> Vec<i16>>);

fn spoken_digits(number: &str) -> String {
    number
        .chars()
        .map(|c| "零幺二三四五六七八九".chars().nth(c.to_digit(10).unwrap_or(0) as usize).unwrap_or('零'))
        .collect()
}

fn digits_table(voices: &[Voice]) {
    let numbers = ["13800138000", "4827", "902155", "13912345678", "6034", "88172635", "15700264913", "7391"];
    for (name, voice) in voices {
        for (label, span, phrases) in [
            ("digits 4-11", DigitSpan { min: 4, max: 11 }, false),
            ("digits exact", DigitSpan { min: 0, max: 0 }, false),
            ("digits 4-11 + menu", DigitSpan { min: 4, max: 11 }, true),
        ] {
            let (mut right, mut in_five, mut accepted, mut us) = (0, 0, 0, 0);
            for (i, n) in numbers.iter().enumerate() {
                let len = n.len() as u8;
                let span = if span.max == 0 { DigitSpan { min: len, max: len } } else { span };
                let base = if phrases { Grammar::of(MENU) } else { Grammar::default() };
                let g = Arc::new(Grammar { digits: Some(span), ..base });
                let t = hear(&telephone(&voice(&spoken_digits(n), i), Some(20.0)), &g);
                right += usize::from(t.text() == *n);
                in_five += usize::from(t.nbest.iter().any(|h| h.text == *n));
                accepted += usize::from(t.accepted);
                us += t.compute_us;
                if t.text() != *n {
                    println!(
                        "  {name} {label} {n} -> {} {:.2}",
                        t.text(),
                        t.nbest.first().map_or(0.0, |h| h.confidence)
                    );
                }
            }
            println!("{name} {label}: right {right}/8, in five {in_five}, accepted {accepted}, {} us", us / 8);
        }
        let g = Arc::new(Grammar { digits: Some(DigitSpan { min: 4, max: 11 }), ..Grammar::of(MENU) });
        let mut taken = 0;
        for (i, text) in MENU.iter().enumerate() {
            let t = hear(&telephone(&voice(text, i), Some(20.0)), &g);
            if t.text() != *text {
                println!(
                    "  {name} menu+digits {text} -> {} {:.2}",
                    t.text(),
                    t.nbest.first().map_or(0.0, |h| h.confidence)
                );
                taken += 1;
            }
        }
        let only = Arc::new(Grammar { digits: Some(DigitSpan { min: 4, max: 11 }), ..Grammar::default() });
        let wrongly: Vec<f32> = OUTSIDE
            .iter()
            .chain(&MENU)
            .enumerate()
            .map(|(i, t)| hear(&telephone(&voice(t, i), Some(20.0)), &only).nbest.first().map_or(0.0, |h| h.confidence))
            .collect();
        println!(
            "{name} menu phrases lost to digits: {taken}/30; no digits accepted as digits: {}/42",
            wrongly.iter().filter(|c| **c >= 0.5).count()
        );
    }
}

fn open_table(voices: &[Voice]) {
    let fragments = [
        "订单",
        "物流",
        "快递",
        "地址",
        "改",
        "修改",
        "投诉",
        "人工",
        "客服",
        "退款",
        "退货",
        "发票",
        "态度",
        "密码",
        "余额",
        "账单",
        "没收到",
        "坏了",
        "取消",
        "公司",
    ];
    let said: [(&str, &[&str]); 14] = [
        ("你好我想查一下我的订单到哪里了", &["订单"]),
        ("麻烦帮我改一下收货地址", &["改", "地址"]),
        ("我要投诉你们的快递员态度太差了", &["投诉", "快递", "态度"]),
        ("给我转人工客服", &["人工", "客服"]),
        ("我的东西坏了要退款", &["坏了", "退款"]),
        ("请问上个月的账单是多少", &["账单"]),
        ("我忘记密码了怎么办", &["密码"]),
        ("我买的手机一直没收到", &["没收到"]),
        ("能不能开一张发票给我", &["发票"]),
        ("我想取消昨天的订单", &["取消", "订单"]),
        ("今天天气真好我们去公园玩", &[]),
        ("喂听得到我说话吗", &[]),
        ("等一下我先找个笔", &[]),
        ("昨天晚上我们看了一场电影", &[]),
    ];
    let list = |t: &[&str]| t.iter().map(|t| Phrase { text: (*t).into(), weight: 0.0 }).collect::<Vec<_>>();
    let g = Arc::new(Grammar { phrases: list(&MENU), fragments: list(&fragments), ..Grammar::default() });
    for (name, voice) in voices {
        for snr in [None, Some(15.0)] {
            let (mut hit, mut total, mut extra, mut us, mut bad) = (0, 0, 0, 0, 0);
            for (i, (text, want)) in said.iter().enumerate() {
                let t = hear(&telephone(&voice(text, i), snr), &g);
                let got: Vec<&str> = if t.accepted { t.text().split(' ').collect() } else { Vec::new() };
                total += want.len();
                let found = want.iter().filter(|w| got.iter().any(|g| g.contains(**w))).count();
                hit += found;
                extra += got.iter().filter(|g| !g.is_empty() && !text.contains(**g)).count();
                bad += usize::from(want.is_empty() && t.accepted);
                us += t.compute_us;
                println!(
                    "  {name} {snr:?} {text} -> {} {:.2} {}",
                    t.text(),
                    t.nbest.first().map_or(0.0, |h| h.confidence),
                    t.nbest.first().map_or(String::new(), |h| h.pinyin.join(" "))
                );
            }
            println!(
                "{name} {snr:?} open: fragments {hit}/{total}, false {extra}, outside accepted {bad}/4, {} us",
                us / 14
            );
        }
    }
}

/// Fifteen people, a sentence each, through the telephone; nothing when the recordings are not there.
fn people() -> Option<Vec<(String, Vec<i16>)>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/speech/zh/aishell3");
    let Ok(table) = std::fs::read_to_string(folder.join("metadata.shared.tsv")) else {
        crate::skip::skipped(format_args!("no human recordings in {}", folder.display()));
        return None;
    };
    let read = table.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let (file, text) = (columns.next()?, columns.next()?);
        let wav = hound::WavReader::open(folder.join(file)).ok()?;
        let rate = wav.spec().sample_rate;
        let pcm: Vec<i16> = wav.into_samples::<i16>().collect::<Result<_, _>>().ok()?;
        let narrow = resample(&to_float(&pcm), rate, 8000).ok()?;
        Some((text.to_owned(), telephone(&to_pcm(&narrow), None)))
    });
    Some(read.collect())
}

/// The model was trained with a minute of these speakers: this shows that the whole road works for people, not how
/// well it works for strangers.
#[test]
fn sentences_of_people_are_told_apart() {
    let Some(people) = people() else { return };
    assert!(people.len() >= 15, "only {} recordings could be read", people.len());
    let grammar = Arc::new(Grammar::of(people.iter().map(|(text, _)| text.clone())));
    let right = people.iter().filter(|(text, pcm)| {
        let heard = hear(pcm, &grammar);
        heard.text() == text && heard.accepted
    });
    assert!(right.count() * 15 >= people.len() * 14);
}

fn people_table() {
    let Some(people) = people() else { return };
    let pieces = |text: &str| {
        let c: Vec<char> = text.chars().collect();
        c.chunks(3).filter(|p| p.len() > 1).map(|p| p.iter().collect::<String>()).collect::<Vec<_>>()
    };
    let all: Vec<Phrase> =
        people.iter().flat_map(|(t, _)| pieces(t)).map(|text| Phrase { text, weight: 0.0 }).collect();
    let (mut hit, mut total, mut extra, mut alone) = (0, 0, 0, 0);
    let grammar = Arc::new(Grammar { fragments: all.clone(), ..Grammar::default() });
    for (text, pcm) in &people {
        let heard = hear(pcm, &grammar);
        let got: Vec<&str> = heard.text().split(' ').filter(|g| !g.is_empty()).collect();
        total += pieces(text).len();
        hit += pieces(text).iter().filter(|p| got.contains(&p.as_str())).count();
        extra += got.iter().filter(|g| !text.contains(**g)).count();
        println!("  {text} -> {} {:.2}", heard.text(), heard.nbest.first().map_or(0.0, |h| h.confidence));
        let others = Arc::new(Grammar::of(
            people.iter().map(|p| p.0.clone()).filter(|t| t != text).chain(MENU.map(String::from)),
        ));
        alone += usize::from(hear(pcm, &others).accepted);
    }
    println!(
        "people: fragments {hit}/{total}, false {extra}; accepted as another sentence or a menu phrase {alone}/{}",
        people.len()
    );
}

#[test]
#[ignore = "prints what an utterance and a prompt cost; run by hand"]
fn cost() {
    let voice = builtin::voice().expect("a voice");
    let text = "你好我想查一下我的订单到哪里了";
    let pcm: Vec<i16> = telephone(&say(&voice, text, 1.0, 1.0), None).into_iter().cycle().take(24000).collect();
    let list = |n: usize, from: &str| {
        let c: Vec<char> = from.chars().collect();
        (0..n)
            .map(|i| Phrase { text: (0..3 + i % 5).map(|k| c[(i * 7 + k * 3) % c.len()]).collect(), weight: 0.0 })
            .collect::<Vec<_>>()
    };
    let words: String = MENU.concat();
    let short = |p: Phrase| Phrase { text: p.text.chars().take(2).collect(), ..p };
    let open = Grammar {
        phrases: list(150, &words),
        fragments: list(60, &words).into_iter().map(short).collect(),
        ..Grammar::default()
    };
    let digits = Grammar { digits: Some(DigitSpan { min: 4, max: 11 }), ..Grammar::default() };
    for (name, grammar) in
        [("menu of 30", Grammar::of(MENU)), ("150 phrases, 60 fragments", open), ("digits 4-11", digits)]
    {
        let grammar = Arc::new(grammar);
        let best = (0..8).map(|_| {
            let mut stream = recogniser().open(Arc::clone(&grammar)).expect("opened");
            let timer = super::timer::Timer::start();
            pcm.chunks(2400).for_each(|c| stream.feed(c).expect("fed"));
            let fed = timer.us();
            stream.finish().expect("finished");
            (timer.us() - fed, fed)
        });
        let (finish, feed) = best.min().expect("eight");
        println!("{name}: {feed} us while 3 s are spoken, {finish} us after");
    }
    let best = (0..8).map(|_| {
        let timer = super::timer::Timer::start();
        let sound = say(&voice, text, 1.0, 1.0);
        timer.us() * 8000 / (sound.len() as u64 - 3200)
    });
    println!("voice: {} us for a second of speech", best.min().expect("eight"));
    let mut vad = super::vad::EarshotVad::new();
    let frames: Vec<AudioFrame> = pcm.as_chunks::<160>().0.iter().map(|c| AudioFrame { at: 0, pcm: *c }).collect();
    let timer = super::timer::Timer::start();
    for f in &frames {
        vad.speech(f);
    }
    println!("vad: {} us a frame of 20 ms", timer.us() / frames.len() as u64);
}

/// What the opening question can hear.
fn opening_question(flows: &Arc<crate::dialplan::FlowSet>) -> crate::dialplan::Listen {
    use crate::dialplan::{Await, Input, Run, Session};
    match Run::new(flows.clone(), Session::default()).step(Input::Start).then {
        Await::Listen(listen) => *listen,
        other => panic!("{other:?}"),
    }
}

/// The question for the receiver's name, as the shipped order flow asks it.
fn name_question(name: &str) -> (Arc<crate::dialplan::FlowSet>, crate::dialplan::Listen, crate::dialplan::Run) {
    use crate::dialplan::{Await, FlowSet, Input, Run, Session, Value, embedded};
    static FLOWS: OnceLock<Arc<FlowSet>> = OnceLock::new();
    let flows = FLOWS.get_or_init(|| Arc::new(FlowSet::compile(embedded()).expect("the shipped flows"))).clone();
    let order = Value::map([
        ("id", Value::text("o1")),
        ("no", Value::text("202611180000003826")),
        ("tail", Value::text("3826")),
        ("item", Value::text("冰箱")),
        ("status", Value::text("packing")),
        ("phone_tail", Value::text("8000")),
        ("receiver", Value::text(name)),
        ("amount_yuan", Value::Int(2899)),
        ("mine", Value::Bool(true)),
    ]);
    let profile = Value::map([("orders", Value::List(vec![order.clone()])), ("phone_tail", Value::text("8000"))]);
    let session = Session { caller: "13800138000".into(), profile, ..Session::default() };
    let mut run = Run::new(flows.clone(), session);
    let mut reply = run.step(Input::Start);
    let mut words = ["改地址", "对", "八零零零"].into_iter();
    loop {
        let input = match &reply.then {
            Await::Listen(l) if l.slot.as_deref() == Some("name") => return (flows, (**l).clone(), run),
            Await::Listen(l) => {
                let said = words.next().unwrap_or_else(|| panic!("it never asked for the name: {reply:?}"));
                Input::Heard(flows.understand(l, &Transcript::typed(said)))
            }
            Await::Action(call) => {
                let data = match call.name.as_str() {
                    "orders.recent" => Value::map([("items", Value::List(vec![order.clone()])), ("n", Value::Int(1))]),
                    _ => Value::map([("order", order.clone())]),
                };
                Input::Action { outcome: "ok".into(), data }
            }
            other => panic!("{other:?}"),
        };
        reply = run.step(input);
    }
}

/// A name proves who calls: somebody else's must not pass, and the right one must.
#[test]
fn a_spoken_name_proves_its_owner_and_nobody_else() {
    use crate::dialplan::Run;
    const NAMES: [&str; 12] = [
        "张小明",
        "王丽",
        "李建国",
        "陈晓红",
        "刘洋",
        "赵志强",
        "孙桂芳",
        "周海涛",
        "吴静",
        "郑文博",
        "欧阳明",
        "林秀英",
    ];
    let voice = builtin::voice().expect("a voice");
    let passes = |owner: &str, said: &str, n: usize| {
        let (flows, listen, mut run): (_, _, Run) = name_question(owner);
        let sound = say(&voice, said, [0.95, 1.05, 1.0][n % 3], [0.9, 1.0, 1.15][n / 3 % 3]);
        let heard = hear(&telephone(&sound, Some(20.0)), &Arc::new(flows.grammar(&listen)));
        run.step(crate::dialplan::Input::Heard(flows.understand(&listen, &heard)));
        run.facts().get("verify_level").as_text() == Some("l2")
    };
    let (mut refused, mut near, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    for (i, owner) in NAMES.iter().enumerate() {
        refused.extend((0..6).filter(|n| !passes(owner, owner, *n)).map(|n| format!("{owner} {n}")));
        foreign.extend((1..12).map(|k| NAMES[(i + k) % 12]).filter(|said| passes(owner, said, i)));
        let given: String = owner.chars().skip(1).collect();
        near.extend(
            ["马", "何", "唐"].map(|s| format!("{s}{given}")).into_iter().filter(|said| passes(owner, said, i)),
        );
    }
    println!(
        "right ones refused {refused:?} of 72, others passed {foreign:?} of 132, another surname passed {near:?} of 36"
    );
    assert!(refused.len() <= 3, "{refused:?}");
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(near.len() <= 5, "{near:?}");
}

#[test]
#[ignore = "prints how often four digits are heard right; run by hand when the digit loop changes"]
fn four_digits() {
    let voice = builtin::voice().expect("a voice");
    let grammar = Arc::new(Grammar { digits: Some(DigitSpan { min: 4, max: 4 }), ..Grammar::default() });
    for (label, prefix, spell) in [
        ("plain", "", spoken_digits as fn(&str) -> String),
        ("with 尾号是 before them", "尾号是", spoken_digits),
        ("with 两 洞 拐 勾", "", |n| {
            spoken_digits(n).replace('二', "两").replace('零', "洞").replace('七', "拐").replace('九', "勾")
        }),
    ] {
        let (mut right, mut accepted) = (0, 0);
        for i in 0..80usize {
            let number = format!("{:04}", (i * 7919 + 1234) % 10_000);
            let sound = say(
                &voice,
                &format!("{prefix}{}", spell(&number)),
                [0.95, 1.05, 1.0][i % 3],
                [0.9, 1.0, 1.1][i / 3 % 3],
            );
            let heard = hear(&telephone(&sound, Some(20.0)), &grammar);
            right += usize::from(heard.text() == number);
            accepted += usize::from(heard.accepted);
        }
        println!("{label}: right {right}/80, accepted {accepted}");
    }
}

/// Sentences that stand in no flow, at the opening question. Handing what was rejected to the classifier by its pinyin
/// alone was tried on them and is worse: 30 of 72 wrong instead of 9, small talk above all.
#[test]
fn other_words_at_the_opening_question_are_mostly_understood_and_rarely_wrong() {
    use crate::dialplan::{FlowSet, Meaning, embedded};
    let flows = Arc::new(FlowSet::compile(embedded()).expect("the shipped flows"));
    let listen = opening_question(&flows);
    let grammar = Arc::new(flows.grammar(&listen));
    let voice = builtin::voice().expect("a voice");
    let order = [
        "我前天下的单现在怎么样了",
        "帮我瞧瞧包裹走到哪了",
        "我想了解一下我的购物进度",
        "怎么还没给我发货啊",
        "我的东西啥时候能到",
        "麻烦看一下我那笔订单",
    ];
    let address = [
        "我想把收货的地方换一换",
        "地址我写错了怎么弄",
        "能帮我送到单位去吗",
        "收件地址要重新填一下",
        "我要换个地方收快递",
        "把地址给我改了吧",
    ];
    let complaint = [
        "你们服务太差了我要告你们",
        "我对你们很不满意要反映",
        "这事儿必须给我个说法",
        "我要找你们领导",
        "快递员态度恶劣我要举报",
        "你们就是在骗人",
    ];
    let human =
        ["给我找个活人", "我不想跟机器说话", "让客服来接电话", "叫你们的人来", "接一下人工坐席", "我要跟真人讲"];
    let business = [("order_query", order), ("change_address", address), ("complaint", complaint), ("human", human)];
    let all = business.into_iter().flat_map(|(label, texts)| texts.map(|t| (label, t)));
    let (mut right, mut wrong, mut count) = (0, Vec::new(), 0);
    for (i, (label, text)) in all.chain(OUTSIDE.map(|t| ("", t))).enumerate() {
        for k in 0..2 {
            count += 1;
            let sound = say(&voice, text, [0.95, 1.05][k], [0.95, 1.1][(k + i) % 2]);
            let meaning = flows.understand(&listen, &hear(&telephone(&sound, Some(20.0)), &grammar)).meaning;
            let acted = match &meaning {
                Meaning::Intent(intent) => intent.clone(),
                Meaning::Global(global) => format!("{global:?}").to_lowercase(),
                _ => String::new(),
            };
            match acted {
                acted if acted == label => right += 1,
                acted if acted.is_empty() => {}
                acted => wrong.push(format!("{text}: {acted}")),
            }
        }
    }
    println!("right {right} of {count}, wrong {wrong:?}");
    assert!(right * 10 >= count * 6 && wrong.len() * 6 <= count, "right {right} of {count}, wrong {wrong:?}");
}
