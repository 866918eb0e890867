//! A flow that answers at random, within what a flow may answer and now and then beyond reason.

use super::Dice;
use crate::call::Flow;
use crate::dialplan::{
    ActionCall, AnswerKind, Await, Choice, Counters, Input, KeyRule, Listen, Outcome, Pause, Prompt, Reply,
    TicketDraft, Trace, TransferOrder, Value,
};
use crate::speech::Lang;
use std::collections::BTreeMap;

/// Answers every input with something a flow might want.
#[derive(Debug)]
pub struct RandomFlow {
    dice: Dice,
    steps: u8,
    asked: u32,
    /// After so many steps it ends the call; 0: never (a flow that runs in a circle).
    patience: u32,
}

impl RandomFlow {
    /// A flow of its own for these dice.
    pub fn new(mut dice: Dice) -> Self {
        let patience = if dice.chance(5) { 0 } else { dice.between(1, 14) as u32 };
        RandomFlow { dice, steps: 0, asked: 0, patience }
    }

    fn prompt(&mut self) -> Prompt {
        let text =
            self.dice.pick(&["您好", "请说您要办的业务", "请稍等", "您的订单已发出，请查收", " ", "好的"]).to_string();
        let rate = *self.dice.pick(&[1.0, 0.8, f32::NAN, 9.0]);
        Prompt { shown: text.clone(), text, audio: None, rate, barge_in: self.dice.chance(700), lang: Lang::Zh }
    }

    fn listen(&mut self) -> Listen {
        let d = &mut self.dice;
        let kind =
            *d.pick(&[AnswerKind::Open, AnswerKind::YesNo, AnswerKind::Choice, AnswerKind::Digits { min: 4, max: 6 }]);
        let max = *d.pick(&[0, 1, 1, 4, 6]);
        let terminator = d.chance(500).then_some('#');
        let choice = Choice { name: "一".into(), say: vec!["一".into()], key: Some('1'), value: Value::Int(1) };
        Listen {
            flow: "sim".into(),
            node: "ask".into(),
            kind,
            slot: None,
            choices: vec![choice],
            intents: vec!["order_query".into(), "complaint".into()],
            keys: KeyRule { min: max.min(1), max, terminator, gap_ms: d.between(0, 2500) as u32 },
            speech: d.chance(850),
            no_input_ms: d.between(0, 4000) as u32,
            max_speech_ms: d.between(0, 4000) as u32,
            pause: *d.pick(&[Pause::Short, Pause::Normal, Pause::Digits, Pause::Long]),
            secret: d.chance(300),
            unrecorded: d.chance(200),
        }
    }

    fn wanted(&mut self) -> Await {
        if self.patience > 0 && self.asked > self.patience {
            return Await::Hangup(*self.dice.pick(&[Outcome::Resolved, Outcome::Ticketed, Outcome::Failed]));
        }
        match self.dice.between(0, 99) {
            0..=44 => Await::Listen(Box::new(self.listen())),
            45..=62 => {
                let filler = self.dice.chance(300).then(|| self.prompt());
                Await::Action(ActionCall {
                    name: "orders.get".into(),
                    args: BTreeMap::new(),
                    timeout_ms: self.dice.between(0, 4000) as u32,
                    filler,
                    idempotent: true,
                    proved: crate::dialplan::Level::L0,
                })
            }
            63..=71 => Await::Ticket(TicketDraft {
                category: "投诉".into(),
                priority: "P2".into(),
                sla: "24h".into(),
                title: "t".into(),
                facts: Value::Null,
                recording_ms: None,
            }),
            72..=86 => Await::Transfer(TransferOrder {
                queue: "main".into(),
                skill: None,
                warm: self.dice.chance(700),
                briefing: self.prompt(),
                ring_ms: self.dice.between(0, 8000) as u32,
            }),
            87..=92 => Await::Record { max_ms: self.dice.between(0, 6000) as u32 },
            _ => Await::Hangup(Outcome::Resolved),
        }
    }
}

impl Flow for RandomFlow {
    fn step(&mut self, _input: Input) -> Reply {
        self.asked += 1;
        self.steps = self.steps.saturating_add(1);
        let say = (0..self.dice.between(0, 3)).map(|_| self.prompt()).collect();
        let trace = vec![Trace { flow: "sim".into(), node: "n".into(), step: self.steps }];
        Reply { say, then: self.wanted(), trace }
    }

    fn counters(&self) -> Counters {
        Counters { steps: self.steps, ..Counters::default() }
    }

    fn flows(&self) -> &[String] {
        &[]
    }
}
