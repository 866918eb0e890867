//! The demo's lines: who speaks, what was heard, what it meant, where in the dialplan, how long each part took.

use crate::call::{CallEvent, HungUpBy, TransferStage, Turn};
use crate::server::phone::PhoneNews;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

/// A line for people, and the same for programs.
pub struct Line {
    tag: &'static str,
    text: String,
    json: Json,
}

impl Line {
    /// A line of the demo itself.
    pub fn plain(text: impl Into<String>) -> Line {
        let text = text.into();
        Line { tag: "", json: json!({"event": "note", "text": text}), text }
    }

    /// A record of the end: a line for people, its fields for programs.
    pub const fn record(text: String, json: Json) -> Line {
        Line { tag: "", text, json }
    }

    /// A call begins.
    pub fn opens(tag: &'static str, title: &str) -> Line {
        Line { tag, text: format!("☎ {title}"), json: json!({"event": "dials", "title": title}) }
    }

    /// What a caller's phone tells.
    pub fn caller(tag: &'static str, news: &PhoneNews) -> Line {
        phone(tag, "来电者", news)
    }

    /// What the seat's phone tells.
    pub fn seat(news: &PhoneNews) -> Line {
        phone("席", "座席", news)
    }

    /// What the hotline tells of a call; most of it.
    pub fn event(tag: &'static str, event: &CallEvent) -> Option<Line> {
        let (text, json) = match event {
            CallEvent::PromptStarted { shown } if !shown.is_empty() => {
                (format!("总机: {shown}"), json!({"event": "says", "text": shown}))
            }
            CallEvent::PromptEnded { played_ms, interrupted: true } => (
                format!("  ✂ 提示音播到 {:.1} s 被打断", f64::from(*played_ms) / 1000.0),
                json!({"event": "interrupted", "played_ms": played_ms}),
            ),
            CallEvent::Ignored { heard } => {
                (format!("  · 附和「{heard}」,提示音继续"), json!({"event": "ignored", "heard": heard}))
            }
            CallEvent::NoInput => ("  · 没有听到回答".into(), json!({"event": "no_input"})),
            CallEvent::TurnDone(turn) => (turn_text(turn), turn_json(turn)),
            CallEvent::Action { name, outcome, ms } => (
                format!("  ⚙ 业务 {name} → {outcome} ({ms} ms)"),
                json!({"event": "action", "name": name, "outcome": outcome, "ms": ms}),
            ),
            CallEvent::Ticket { no, category } => (
                format!("  ✎ 工单 {no} 【{category}】已落库"),
                json!({"event": "ticket", "no": no, "category": category}),
            ),
            CallEvent::Transfer { stage, ms } => (
                format!("  ⇄ 转接 {} ({ms} ms)", stage_text(*stage)),
                json!({"event": "transfer", "stage": format!("{stage:?}"), "ms": ms}),
            ),
            CallEvent::LegFailed { reason, .. } => (
                format!("  ! {}", reason.zh),
                json!({"event": "leg_failed", "cause": reason.cause, "reason": reason.sentence}),
            ),
            CallEvent::Trouble(what) => (format!("  ! {what}"), json!({"event": "trouble", "what": what})),
            CallEvent::Ended(reason) => (
                format!("■ 通话结束: {}", end_text(reason)),
                json!({"event": "ended", "cause": reason.cause, "reason": reason.sentence}),
            ),
            _ => return None,
        };
        Some(Line { tag, text, json })
    }
}

fn phone(tag: &'static str, who: &str, news: &PhoneNews) -> Line {
    let (text, json) = match news {
        PhoneNews::Ringing => (format!("{who}: 振铃"), json!({"event": "ringing"})),
        PhoneNews::Answered(ms) => (format!("{who}: 已接通 ({ms} ms)"), json!({"event": "answered", "ms": ms})),
        PhoneNews::PromptBegan => (String::new(), Json::Null),
        PhoneNews::PromptEnded(_) => (String::new(), Json::Null),
        PhoneNews::Says(words) => {
            (format!("{who}: 「{words}」"), json!({"event": "speaks", "who": who, "text": words}))
        }
        PhoneNews::Presses(keys) => (format!("{who}: 按键 {keys}"), json!({"event": "presses", "keys": keys})),
        PhoneNews::Hold(ok) => (format!("{who}: 保持 {ok}"), json!({"event": "hold", "accepted": ok})),
        PhoneNews::Over(r) => (
            format!("{who}: 挂断 (通话 {:.1} s)", r.talked_ms as f64 / 1000.0),
            json!({"event": "over", "code": r.code, "talked_ms": r.talked_ms}),
        ),
    };
    Line { tag, text, json }
}

fn turn_text(t: &Turn) -> String {
    let heard = if t.intent == "recorded" {
        "原话已录音,不做转写".into()
    } else if t.keys {
        format!("按键 {}", t.heard)
    } else {
        format!("听到「{}」置信 {:.2}", t.heard, t.confidence)
    };
    let d = &t.timings;
    format!(
        "  ↳ {heard} → 意图 {} {:.2} · 节点 {}/{} · 第 {}/3 步\n          用时 {} ms = 判停 {} + 识别 {} + 理解 {} + 办理 {} + 首音 {}",
        t.intent,
        t.score,
        t.flow,
        t.node,
        t.step,
        d.total(),
        d.endpoint,
        d.recognise,
        d.understand,
        d.act,
        d.first_audio
    )
}

fn turn_json(t: &Turn) -> Json {
    let d = &t.timings;
    json!({
        "event": "turn", "heard": t.heard, "keys": t.keys, "confidence": t.confidence, "intent": t.intent,
        "score": t.score, "flow": t.flow, "node": t.node, "step": t.step, "barge_in": t.barge_in, "reply": t.reply,
        "ms": {"endpoint": d.endpoint, "recognise": d.recognise, "understand": d.understand, "act": d.act,
               "first_audio": d.first_audio, "total": d.total()},
    })
}

fn end_text(reason: &crate::call::EndReason) -> &str {
    match (reason.by, reason.cause) {
        (HungUpBy::Caller, _) => "来电者挂机",
        (HungUpBy::Seat, _) => "座席挂机",
        (HungUpBy::Us, 16) => "业务办完,热线挂机",
        (HungUpBy::Us, _) => &reason.sentence,
    }
}

const fn stage_text(stage: TransferStage) -> &'static str {
    match stage {
        TransferStage::Dialling => "呼叫座席",
        TransferStage::Ringing => "座席振铃",
        TransferStage::Briefing => "座席听取摘要",
        TransferStage::Bridged => "已接通座席,双向通话",
        TransferStage::Failed => "未接通",
        TransferStage::Returned => "座席已挂机",
    }
}

/// Prints lines in the order they come.
pub struct Printer {
    json: bool,
    colour: bool,
    began: crate::clock::Mono,
}

impl Printer {
    /// A printer to stdout; colours when that is a terminal.
    pub fn new(json: bool) -> Printer {
        use std::io::IsTerminal;
        Printer { json, colour: std::io::stdout().is_terminal(), began: crate::server::time::now() }
    }

    /// Prints until nobody sends.
    pub async fn run(self, mut lines: mpsc::Receiver<Line>) {
        while let Some(line) = lines.recv().await {
            let ms = crate::server::time::now().ms_since(self.began);
            if self.json {
                if let Json::Object(mut fields) = line.json {
                    fields.insert("call".into(), line.tag.into());
                    fields.insert("at_ms".into(), ms.into());
                    say!("{}", Json::Object(fields));
                }
                continue;
            }
            if line.text.is_empty() {
                continue;
            }
            let tag = if line.tag.is_empty() { "    ".to_owned() } else { self.paint(line.tag) };
            say!("{:6.2} {tag} {}", ms as f64 / 1000.0, line.text);
        }
    }

    fn paint(&self, tag: &str) -> String {
        let colour = match tag {
            "甲" => 36,
            "乙" => 33,
            "丙" => 35,
            "丁" => 32,
            _ => 34,
        };
        if self.colour { format!("\x1b[{colour}m[{tag}]\x1b[0m") } else { format!("[{tag}]") }
    }
}
