//! The demo's callers: who dials, what each says and presses, and how each call must end.

use super::Casting;
use crate::dialplan::Outcome;
use crate::server::phone::{Act, Step, When};
use std::path::Path;

/// The seat's SIP user.
pub const SEAT_USER: &str = "8001";
/// Its password: the demo's only.
pub const SEAT_PASSWORD: &str = "seat8001";

/// What must come of a call.
#[derive(Clone, Copy)]
pub struct Expect {
    /// The business outcome.
    pub outcome: Outcome,
    /// The order (last four digits) whose address the call must have changed, and a word of the new address.
    pub moved: Option<(&'static str, &'static str)>,
    /// The ticket category it must have made, with the caller's words in the recording.
    pub ticket: Option<&'static str>,
    /// Whether a seat must have spoken with the caller.
    pub bridged: bool,
    /// The meaning that must have been understood at the opening question.
    pub intent: &'static str,
    /// Whether it must be understood from speech; else from keys.
    pub spoken: bool,
    /// Whether the caller must have cut a prompt short.
    pub interrupts: bool,
}

/// One caller.
pub struct Part {
    /// Short mark of the call in every line.
    pub tag: &'static str,
    /// What the call shows.
    pub title: &'static str,
    /// Calling number.
    pub from: &'static str,
    /// What the caller does.
    pub script: Vec<Step>,
    /// What the seat does, when the call needs one.
    pub seat: Option<Vec<Step>>,
    /// What must come of it.
    pub expect: Expect,
}

impl Part {
    /// The part as the watcher knows it.
    pub fn casting(&self) -> Casting {
        Casting { tag: self.tag, from: self.from, expect: self.expect }
    }
}

/// The demo's seat is part of its configuration.
pub fn open_the_seat(config: &mut crate::config::Config) {
    if !config.seats.iter().any(|s| s.user == SEAT_USER) {
        config.seats.push(crate::config::Seat {
            user: SEAT_USER.into(),
            password: crate::config::Secret::new(SEAT_PASSWORD),
            queues: vec!["*".into()],
            skills: Vec::new(),
            phone: None,
        });
    }
}

/// All callers, with their recordings read.
pub fn parts(fixtures: &Path) -> anyhow::Result<Vec<Part>> {
    Ok(vec![by_voice(fixtures)?, by_keys(), complaint(fixtures)?, person(fixtures)?])
}

fn by_voice(dir: &Path) -> anyhow::Result<Part> {
    // One who has called before: talks into the prompts, but hears the new address to its end.
    let answers = [
        (When::Into(3000), "order_query"),
        (When::Into(3500), "yes"),
        (When::Into(3500), "change_address"),
        (When::Into(2000), "phone_tail_8000"),
        (When::Into(2000), "name_wang"),
        (When::Into(2000), "to_company"),
        (When::PromptEnd, "yes"),
        (When::Into(3000), "satisfied"),
    ];
    let script = answers.iter().map(|(when, name)| Ok(step(*when, say(dir, name)?))).collect::<anyhow::Result<_>>()?;
    Ok(Part {
        tag: "甲",
        title: "语音:查订单,接着改收货地址 / by voice: an order query that runs on into an address change",
        from: "13800138000",
        script,
        seat: None,
        expect: Expect {
            outcome: Outcome::Resolved,
            moved: Some(("3826", "建国路")),
            ticket: None,
            bridged: false,
            intent: "order_query",
            spoken: true,
            interrupts: true,
        },
    })
}

fn by_keys() -> Part {
    // Press as one who knows the menu: each answer interrupts its prompt.
    let keys = ["1", "5170", "1", "9000", "1999#", "2", "1", "1"];
    let script = keys.iter().map(|k| Step { when: When::Into(1600), act: Act::Keys((*k).into()) }).collect();
    Part {
        tag: "乙",
        title: "按键:同样的业务,全程不说话 / the same business with keys only",
        from: "13900139000",
        script,
        seat: None,
        expect: Expect {
            outcome: Outcome::Resolved,
            moved: Some(("5170", "南京西路")),
            ticket: None,
            bridged: false,
            intent: "order_query",
            spoken: false,
            interrupts: true,
        },
    }
}

fn complaint(dir: &Path) -> anyhow::Result<Part> {
    let script = vec![
        step(When::Into(4500), say(dir, "complaint")?),
        step(When::PromptEnd, say(dir, "complaint_story")?),
        step(When::Into(10_500), say(dir, "no")?),
        step(When::Into(1500), Act::Keys("3".into())),
        step(When::After(3500), Act::HangUp),
    ];
    Ok(Part {
        tag: "丙",
        title: "生气的投诉:录音成工单 / an angry complaint becomes a ticket with its recording",
        from: "13700137000",
        script,
        seat: None,
        expect: Expect {
            outcome: Outcome::Ticketed,
            moved: None,
            ticket: Some("投诉"),
            bridged: false,
            intent: "complaint",
            spoken: true,
            interrupts: false,
        },
    })
}

fn person(dir: &Path) -> anyhow::Result<Part> {
    let script = vec![
        step(When::Into(2500), say(dir, "human")?),
        step(When::PromptEnd, say(dir, "about_order")?),
        step(When::After(16_000), say(dir, "caller_thanks")?),
        step(When::After(3500), Act::HangUp),
    ];
    let seat = vec![step(When::PromptEnd, say(dir, "seat_hello")?)];
    Ok(Part {
        tag: "丁",
        title: "打断提示音,要人工,转到座席 / interrupts the prompt, asks for a person, is handed over",
        from: "13600136000",
        script,
        seat: Some(seat),
        expect: Expect {
            outcome: Outcome::Transferred,
            moved: None,
            ticket: None,
            bridged: true,
            intent: "human",
            spoken: true,
            interrupts: true,
        },
    })
}

const fn step(when: When, act: Act) -> Step {
    Step { when, act }
}

fn say(dir: &Path, name: &str) -> anyhow::Result<Act> {
    let wav = dir.join(format!("{name}.wav"));
    let pcm = crate::server::sound::read(&wav)
        .map_err(|e| anyhow::anyhow!("{e}; run the demo from the project's folder, or give --fixtures DIR"))?;
    let described = std::fs::read_to_string(dir.join(format!("{name}.toml"))).unwrap_or_default();
    let text = toml::from_str::<toml::Table>(&described)
        .ok()
        .and_then(|t| t.get("text").and_then(|v| v.as_str().map(str::to_owned)))
        .unwrap_or_else(|| name.to_owned());
    Ok(Act::Say(pcm, text))
}
