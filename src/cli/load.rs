//! `zongji load`: how many calls does this machine take? A hotline in a process of its own, many callers with real
//! sound, more and more of them until something is not clean.

mod hotline;
mod words;

use super::doctor::finding::Lang;
use super::{Context, out, setup};
use crate::server::load::{Figures, Generator, LoadSettings, flaws, limit};
use crate::server::time::now;
use crate::speech::{Lang as Spoken, SpeechRequest};
use hotline::{Cores, Served};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// What calls do; several in turn (default: prompt and speech).
    #[arg(long, value_enum, value_delimiter = ',', default_value = "prompt,speech")]
    mode: Vec<Mode>,
    /// Try this many calls and no others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2000))]
    calls: Option<u32>,
    /// Never try more than this many.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=2000))]
    most: u32,
    /// Seconds measured at each number of calls (with speech 20 at least: talk comes in turns).
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// New calls a second (default: 50; 10 with speech).
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Cores for the hotline (default: all but those of the load generator).
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// Language of the answers (default: English where LANG says so, else Chinese).
    #[arg(long, value_enum)]
    lang: Option<Lang>,
}

/// What calls do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Hear a prompt.
    Prompt,
    /// The same, recorded.
    Record,
    /// Are joined with another leg.
    Bridge,
    /// Talk with the demonstration's flows: voice detection, recogniser, voice.
    Speech,
}

impl Mode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Prompt => "prompt",
            Mode::Record => "record",
            Mode::Bridge => "bridge",
            Mode::Speech => "speech",
        }
    }

    /// The number dialled.
    fn user(self) -> &'static str {
        match self {
            Mode::Speech => "400",
            other => other.name(),
        }
    }
}

/// What became of a mode.
pub struct Outcome {
    /// Which.
    pub mode: Mode,
    /// Every stage, in its order.
    pub stages: Vec<Figures>,
}

impl Outcome {
    /// The stage of most calls that was clean.
    pub fn best(&self) -> Option<&Figures> {
        self.stages.iter().filter(|f| flaws(f).is_empty()).max_by_key(|f| f.calls)
    }

    /// The stage of fewest calls that was not.
    pub fn worst(&self) -> Option<&Figures> {
        self.stages.iter().filter(|f| !flaws(f).is_empty()).min_by_key(|f| f.asked)
    }
}

/// What callers say, in a loop: opening, confirming, leaving.
const SAYS: [&str; 4] = ["我要查订单", "是的", "还有别的吗", "不用了谢谢"];
/// Stages between the last clean and the first unclean one.
const REFINE: u32 = 2;
/// From a number that was clean to the next.
const GROWTH: f64 = 1.6;
/// Longest wait for callers to be talking.
const GREETING: Duration = Duration::from_secs(30);
/// Calls that have come to stand are given so long to settle.
const SETTLE: Duration = Duration::from_millis(1500);

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let lang = args.lang.unwrap_or_else(Lang::of_environment);
    let cores = Cores::divide(args.cores);
    let files = hotline::raise_file_limit();
    if !context.json {
        say!("{}", words::beginning(&cores, files).get(lang));
    }
    let mut outcomes = Vec::new();
    let mut modes = args.mode.clone();
    modes.dedup();
    for mode in modes {
        let stages = measure(context, &args, mode, &cores, lang)?;
        outcomes.push(Outcome { mode, stages });
    }
    let verdict = words::verdict(&outcomes, args.calls.is_some());
    if context.json {
        let best = |o: &Outcome| (o.mode.name().to_owned(), o.best().map(|f| f.calls).into());
        let calls: serde_json::Map<_, serde_json::Value> = outcomes.iter().map(best).collect();
        out::json(&serde_json::json!({"event": "verdict", "calls": calls, "say": verdict.get(lang)}));
    } else {
        say!("\n{}", verdict.get(lang));
    }
    Ok(outcomes.iter().all(|o| o.best().is_some()))
}

/// All stages of a mode, against one hotline.
fn measure(context: &Context, args: &Args, mode: Mode, cores: &Cores, lang: Lang) -> anyhow::Result<Vec<Figures>> {
    // The other end of a bridge must be known before the hotline starts.
    let bind = hotline::free_port()?;
    let says = if mode == Mode::Speech { utterances(context)? } else { Vec::new() };
    let served = Served::start(bind, cores)?;
    let mut stages = Vec::new();
    let settings = LoadSettings {
        server: served.sip,
        user: mode.user().into(),
        rate: args.rate.unwrap_or(if mode == Mode::Speech { 10.0 } else { 50.0 }),
        bind,
        says,
        renew: mode == Mode::Speech,
        crosses: mode == Mode::Bridge,
    };
    let mut generator = Generator::start(settings)?;
    let idle = served.memory_kb();
    let mut next = args.calls.unwrap_or(if mode == Mode::Speech { 4 } else { 20 }).min(args.most);
    let mut tried = 0;
    loop {
        let figures = stage(&mut generator, &served, next as usize, (args, mode), cores, idle);
        tell(context, mode, &figures, lang);
        stages.push(figures);
        let Some(more) = following(&stages, args.most, &mut tried).filter(|_| args.calls.is_none()) else { break };
        next = more;
    }
    generator.stop();
    served.stop();
    Ok(stages)
}

/// Which number is tried next: more while all is clean, then between; none at the end.
fn following(stages: &[Figures], most: u32, refined: &mut u32) -> Option<u32> {
    let asked = |clean: bool| stages.iter().filter(move |f| flaws(f).is_empty() == clean).map(|f| f.asked as u32);
    let (good, bad) = (asked(true).max(), asked(false).min());
    match (good, bad) {
        (Some(good), None) if good >= most => None,
        (Some(good), None) => Some((f64::from(good) * GROWTH).ceil().min(f64::from(most)) as u32),
        (good, Some(bad)) => {
            let good = good.unwrap_or(0).min(bad);
            let middle = good.midpoint(bad);
            *refined += 1;
            // Within a tenth there is nothing to be gained: the figures of two runs differ by as much.
            (*refined <= REFINE && bad - good > (bad / 10).max(1) && middle > good).then_some(middle)
        }
        (None, None) => None,
    }
}

/// So many calls, and what is seen of them.
fn stage(
    generator: &mut Generator,
    served: &Served,
    calls: usize,
    (args, mode): (&Args, Mode),
    cores: &Cores,
    idle: u64,
) -> Figures {
    generator.forget_calls();
    generator.aim(calls);
    let patience = Duration::from_secs_f64(10.0 + calls as f64 / args.rate.unwrap_or(10.0));
    let began = now();
    while generator.standing() != calls && now().since(began) < patience && generator.failures() < 20 {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(SETTLE);
    if mode == Mode::Speech {
        await_talk(generator, calls);
    }
    generator.reset();
    let (cpu, at) = (served.cpu_seconds(), now());
    std::thread::sleep(Duration::from_secs(if mode == Mode::Speech { args.seconds.max(20) } else { args.seconds }));
    let (cpu, seconds) = (served.cpu_seconds() - cpu, now().since(at).as_secs_f64());
    let memory = served.memory_kb().saturating_sub(idle);
    let figures = generator.figures(calls);
    let standing = figures.calls.max(1) as f64;
    Figures {
        cpu_per_call_minute: cpu / standing * 60.0 / seconds,
        kb_per_call: memory as f64 / standing,
        server_busy: cpu / seconds / cores.hotline as f64,
        ..figures
    }
}

/// The greeting is no talk: what speech costs shows once most callers have been answered.
fn await_talk(generator: &mut Generator, calls: usize) {
    generator.reset();
    let began = now();
    while now().since(began) < GREETING && generator.figures(calls).replies.unwrap_or(0) < calls as u64 {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn tell(context: &Context, mode: Mode, f: &Figures, lang: Lang) {
    if !context.json {
        say!("{}", words::stage(mode, f).get(lang));
        return;
    }
    let flaws: Vec<String> = flaws(f).iter().map(|w| format!("{w:?}").to_lowercase()).collect();
    out::json(&serde_json::json!({
        "event": "stage", "mode": mode.name(), "asked": f.asked, "calls": f.calls, "seconds": f.seconds,
        "clean": flaws.is_empty(), "flaws": flaws, "limit": format!("{:?}", limit(f)).to_lowercase(),
        "setup_ms": {"p50": f.setup_ms[0], "p99": f.setup_ms[1]},
        "refused": f.refused, "unanswered": f.unanswered, "dropped": f.dropped, "packets": f.packets, "lost": f.lost,
        "pacing_ms": {"p50": f.pacing_ms[0], "p99": f.pacing_ms[1], "max": f.pacing_ms[2]},
        "delay_ms": f.delay_ms.map(|d| serde_json::json!({"p50": d[0], "p99": d[1]})),
        "reply_ms": f.reply_ms.map(|d| serde_json::json!({"p50": d[0], "p95": d[1]})), "replies": f.replies,
        "cpu_s_per_call_minute": f.cpu_per_call_minute, "kb_per_call": f.kb_per_call, "server_busy": f.server_busy,
        "generator_busy": f.generator_busy, "generator_late_ms": f.generator_late_ms,
    }));
}

/// What callers say, by the bundled voice.
fn utterances(context: &Context) -> anyhow::Result<Vec<Arc<[u8]>>> {
    let engines = setup::engines(context)?;
    anyhow::ensure!(
        engines.voice(Spoken::Zh).is_some() && engines.recognizer.is_some(),
        "speech cannot be tried: {}",
        engines.problems.join("; ")
    );
    let mut all = Vec::new();
    for text in SAYS {
        let text = text.to_owned();
        let request = SpeechRequest { text, lang: Spoken::Zh, rate: 1.0, pitch: 1.0, audio: None, personal: false };
        let (mut pcm, mut codes) = (Vec::new(), Vec::new());
        engines.synthesizer.speak(&request, &mut |phrase| {
            pcm.extend_from_slice(&phrase);
            true
        })?;
        crate::audio::Law::A.encode(&pcm, &mut codes);
        all.push(codes.into());
    }
    Ok(all)
}

/// The addresses of a bridge's other end.
pub fn other_end(bind: SocketAddr) -> String {
    format!("sip:legb@{bind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage_of(asked: usize, clean: bool) -> Figures {
        Figures { asked, calls: asked, packets: 100, lost: if clean { 0 } else { 50 }, ..Figures::default() }
    }

    #[test]
    fn more_calls_are_tried_until_one_number_is_not_clean_then_those_between() {
        let (mut stages, mut refined, mut next) = (Vec::new(), 0, Some(20));
        while let Some(n) = next {
            stages.push(stage_of(n as usize, n <= 70));
            next = following(&stages, 2000, &mut refined);
        }
        let tried: Vec<usize> = stages.iter().map(|f| f.asked).collect();
        assert_eq!(tried, [20, 32, 52, 84, 68, 76]);
        let outcome = Outcome { mode: Mode::Prompt, stages };
        assert_eq!((outcome.best().unwrap().calls, outcome.worst().unwrap().asked), (68, 76));
    }

    #[test]
    fn the_most_allowed_is_tried_once_and_a_first_number_too_many_is_halved() {
        assert_eq!(following(&[stage_of(1900, true)], 2000, &mut 0), Some(2000));
        assert_eq!(following(&[stage_of(2000, true)], 2000, &mut 0), None);
        assert_eq!(following(&[stage_of(20, false)], 2000, &mut 0), Some(10));
        assert_eq!(following(&[stage_of(1, false)], 2000, &mut 0), None);
    }
}
