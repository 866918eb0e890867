//! What a load test says, in Chinese and in English.

use super::hotline::Cores;
use super::{Mode, Outcome};
use crate::cli::doctor::finding::{Words, words};
use crate::server::load::{Figures, Flaw, Limit, flaws, limit};

/// The first line.
pub fn beginning(cores: &Cores, files: Option<u64>) -> Words {
    let (hotline, generator) = (cores.hotline, cores.generator);
    let files = files.map_or("-".into(), |n| n.to_string());
    if cores.apart {
        words!(
            "总机用 {hotline} 个核,来电模拟用另外 {generator} 个;打开文件数上限 {files}",
            "the hotline has {hotline} core(s), the callers {generator} other(s); {files} open files are allowed"
        )
    } else {
        words!(
            "总机和来电模拟共用 {hotline} 个核(只有一个核,或没有 taskset):结果偏低;打开文件数上限 {files}",
            "hotline and callers share {hotline} core(s) (only one core, or no taskset): figures come out low; {files} open files are allowed"
        )
    }
}

/// The name of what calls do.
fn of(mode: Mode) -> Words {
    match mode {
        Mode::Prompt => words!("放提示音", "prompts"),
        Mode::Record => words!("放提示音并录音", "prompts and recording"),
        Mode::Bridge => words!("两方通话", "bridges"),
        Mode::Speech => words!("语音对话", "speech"),
    }
}

fn flaw(flaw: Flaw) -> Words {
    match flaw {
        Flaw::Late => words!("声音包迟到", "packets late"),
        Flaw::Lost => words!("丢包", "packets lost"),
        Flaw::Refused => words!("有呼叫没接通", "calls not taken"),
        Flaw::Slow => words!("接通慢", "answered slowly"),
        Flaw::Dropped => words!("通话中断", "calls broke off"),
        Flaw::SlowReply => words!("回答慢", "replies slow"),
    }
}

/// One stage on one line.
pub fn stage(mode: Mode, f: &Figures) -> Words {
    let name = mode.name();
    let (calls, asked) = (f.calls, f.asked);
    let [setup, slow] = f.setup_ms.map(|ms| format!("{ms:.0}"));
    let [p50, p99, _] = f.pacing_ms.map(|ms| format!("{ms:.1}"));
    let (cpu, kb) = (format!("{:.3}", f.cpu_per_call_minute), format!("{:.0}", f.kb_per_call));
    let (busy, own) = (format!("{:.0}", f.server_busy * 100.0), format!("{:.1}", f.generator_late_ms));
    let lost = f.lost;
    let two = |d: Option<[f64; 2]>, zh: &str, en: &str| match d {
        Some([a, b]) => (format!(",{zh} {a:.1}/{b:.1} 毫秒"), format!(", {en} {a:.1}/{b:.1} ms")),
        None => Default::default(),
    };
    let (delay_zh, delay_en) = two(f.delay_ms, "过桥延时", "delay");
    let (reply_zh, reply_en) = two(f.reply_ms, "回答", "reply");
    let found = flaws(f);
    let list = |zh: bool| {
        let all: Vec<String> = found.iter().map(|x| flaw(*x)).map(|w| if zh { w.zh } else { w.en }).collect();
        all.join(if zh { "、" } else { ", " })
    };
    let (zh, en) = if found.is_empty() { ("正常".into(), "clean".into()) } else { (list(true), list(false)) };
    words!(
        "{name:7} {calls:5}/{asked} 路:{zh};接通 {setup}/{slow} 毫秒,间隔偏差 {p50}/{p99} 毫秒,丢 {lost}{delay_zh}{reply_zh};CPU {cpu} 秒每路分钟,{kb} KB 每路,总机忙 {busy}%,模拟器自身迟 {own} 毫秒",
        "{name:7} {calls:5}/{asked} calls: {en}; set up {setup}/{slow} ms, pacing off {p50}/{p99} ms, lost {lost}{delay_en}{reply_en}; {cpu} CPU s per call-minute, {kb} KB per call, hotline {busy}% busy, generator itself {own} ms late"
    )
}

/// The last paragraph.
pub fn verdict(outcomes: &[Outcome], fixed: bool) -> Words {
    let mut all = Words::default();
    for outcome in outcomes {
        let next = one(outcome, fixed);
        all.zh.push_str(&next.zh);
        all.en.push_str(&next.en);
        all.en.push(' ');
    }
    all.en.truncate(all.en.trim_end().len());
    all
}

fn one(outcome: &Outcome, fixed: bool) -> Words {
    let mode = of(outcome.mode);
    let (zh, en) = (mode.zh, mode.en);
    let best = outcome.best().map_or(0, |f| f.calls);
    let Some(worst) = outcome.worst() else {
        return words!(
            "本机能接 {best} 路「{zh}」,这是试过的最多数,没有到极限。",
            "This machine takes {best} calls with {en}: the most that was tried, the limit was not reached."
        );
    };
    let why = why(limit(worst), worst);
    let (why_zh, why_en, asked) = (why.zh, why.en, worst.asked);
    if best == 0 {
        return words!(
            "「{zh}」{asked} 路就不正常了:{why_zh}。",
            "With {en} already {asked} calls were not clean: {why_en}."
        );
    }
    if fixed {
        return words!("「{zh}」{asked} 路不正常:{why_zh}。", "With {en} {asked} calls were not clean: {why_en}.");
    }
    let at_least = limit(worst) == Limit::Generator;
    let (about_zh, about_en) = if at_least { ("至少", "at least") } else { ("大约", "about") };
    words!(
        "本机{about_zh}能接 {best} 路「{zh}」;{asked} 路时{why_zh}。",
        "This machine takes {about_en} {best} calls with {en}; at {asked} {why_en}."
    )
}

fn why(limit: Limit, f: &Figures) -> Words {
    let busy = format!("{:.0}", f.server_busy * 100.0);
    let late = format!("{:.1}", f.generator_late_ms);
    let refused = f.refused.iter().map(|(code, n)| format!("{n} × {code}")).collect::<Vec<_>>().join(", ");
    match limit {
        Limit::NotReached => Words::default(),
        Limit::Cpu => words!("CPU 用尽(总机的核忙 {busy}%)", "the CPU was used up (the hotline's cores {busy}% busy)"),
        Limit::Generator => words!(
            "来电模拟器自己跟不上了(自身迟 {late} 毫秒),总机的极限没有测到",
            "the load generator itself could not keep up ({late} ms late with itself): the hotline's own limit was not found"
        ),
        Limit::Refusals => words!(
            "呼叫被拒绝({refused}):线路数、RTP 端口或打开文件数用完",
            "calls were refused ({refused}): lines, RTP ports or open files had run out"
        ),
        Limit::Unclear => words!(
            "不正常,而总机的核只忙 {busy}%:机器上还有别的负载,或虚拟机被抢占",
            "it was not clean though the hotline's cores were only {busy}% busy: other load on the machine, or a virtual machine that is preempted"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage_of(asked: usize, change: impl FnOnce(&mut Figures)) -> Figures {
        let mut f = Figures { asked, calls: asked, packets: 9000, server_busy: 0.4, ..Figures::default() };
        change(&mut f);
        f
    }

    #[test]
    fn the_last_paragraph_says_how_many_and_what_was_in_the_way() {
        let late = |f: &mut Figures| (f.pacing_ms[1], f.server_busy) = (9.0, 0.97);
        let prompt = Outcome { mode: Mode::Prompt, stages: vec![stage_of(300, |_| {}), stage_of(480, late)] };
        let speech = Outcome { mode: Mode::Speech, stages: vec![stage_of(20, |_| {})] };
        let said = verdict(&[prompt, speech], false);
        assert_eq!(
            said.en,
            "This machine takes about 300 calls with prompts; at 480 the CPU was used up (the hotline's cores 97% busy). \
             This machine takes 20 calls with speech: the most that was tried, the limit was not reached."
        );
        assert!(said.zh.contains("大约能接 300 路") && said.zh.contains("CPU 用尽"), "{}", said.zh);
    }

    #[test]
    fn a_limit_of_the_generator_is_not_sold_as_the_hotlines() {
        let own = |f: &mut Figures| (f.pacing_ms[1], f.generator_late_ms) = (9.0, 7.0);
        let stages = vec![stage_of(300, |_| {}), stage_of(480, own)];
        let said = verdict(&[Outcome { mode: Mode::Bridge, stages }], false);
        assert!(said.en.contains("at least 300") && said.en.contains("load generator itself"), "{}", said.en);
        assert!(said.zh.contains("至少") && said.zh.contains("模拟器自己"), "{}", said.zh);
    }

    #[test]
    fn a_number_that_fails_at_once_is_said_plainly() {
        let none = |f: &mut Figures| f.refused = [(503, 4)].into();
        let said = verdict(&[Outcome { mode: Mode::Record, stages: vec![stage_of(20, none)] }], true);
        assert!(said.en.contains("already 20") && said.en.contains("4 × 503"), "{}", said.en);
    }
}
