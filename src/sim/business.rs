//! What callers mean and what the back office answers: anything at all, or what real dialplans understand and need.

use super::Dice;
use crate::call::Flow;
use crate::dialplan::office::Office;
use crate::dialplan::{ActionCall, FlowSet, Global, Listen, Meaning, Run, Understood, Value};
use crate::speech::Transcript;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What people say to a hotline, sense and nonsense.
const WORDS: [&str; 24] = [
    "查订单",
    "我的快递到哪了",
    "改地址",
    "我要改收货地址",
    "改到公司",
    "家里",
    "对",
    "不对",
    "不用了",
    "没有了",
    "尾号三八二六",
    "五一九零",
    "张小明",
    "我要投诉你们",
    "气死我了你们这群骗子",
    "转人工",
    "再说一遍",
    "取消",
    "嗯",
    "那个我想问一下今天天气怎么样",
    "催一下发货",
    "家里煤气漏了",
    "别的事",
    "",
];

/// What a call is about.
pub enum Business {
    /// Anything, sensible or not.
    Any,
    /// The business of these flows.
    Of(Arc<FlowSet>, Box<Office>),
}

impl Business {
    /// A customer, what he has ordered, and what fails today.
    pub fn of(set: Arc<FlowSet>, dice: &mut Dice) -> (Business, Box<dyn Flow>) {
        let mut given = vec![
            ("orders", Value::Int(dice.between(0, 3) as i64)),
            ("status", Value::text(*dice.pick(&["paid", "packing", "shipped", "signed", "cancelled"]))),
            ("angry", Value::Bool(dice.chance(50))),
            ("elder", Value::Bool(dice.chance(50))),
            ("tickets", Value::Bool(!dice.chance(50))),
        ];
        if dice.chance(300) {
            given.push(("voiceprint", Value::text("pass")));
        }
        let office = Office::new(&Value::map(given));
        let run = Run::new(Arc::clone(&set), office.session());
        (Business::Of(set, Box::new(office)), Box::new(run))
    }

    /// What the caller meant where he was listened to.
    pub fn understood(&self, dice: &mut Dice, listen: Option<&Listen>) -> Understood {
        match (self, listen) {
            (Business::Of(set, _), Some(listen)) => {
                let choice = (!listen.choices.is_empty() && dice.chance(500)).then(|| dice.pick(&listen.choices));
                let words = choice.and_then(|c| c.say.first()).map_or_else(|| *dice.pick(&WORDS), String::as_str);
                set.understand(listen, &Transcript::typed(words))
            }
            _ => {
                let text = *dice.pick(&["嗯", "查订单", "", "好的", "我要投诉"]);
                Understood { meaning: any_meaning(dice, listen), ..Understood::no_match(text, 0.8) }
            }
        }
    }

    /// What an action answers.
    pub fn act(&self, dice: &mut Dice, call: &ActionCall) -> (String, Value) {
        match self {
            Business::Of(_, office) if !dice.chance(50) => office.act(call),
            Business::Of(..) => ("error".into(), Value::Null),
            Business::Any => (dice.pick(&["ok", "error", "empty"]).to_string(), Value::Null),
        }
    }

    /// The ticket after `n` others, if it could be written.
    pub fn ticket(&self, dice: &mut Dice, n: usize) -> Option<Value> {
        match self {
            Business::Of(_, office) => office.ticket(n),
            Business::Any => (!dice.chance(100)).then(|| Value::map([("no", Value::text("T1"))])),
        }
    }
}

/// Something that can be meant where the caller was listened to.
fn any_meaning(dice: &mut Dice, listen: Option<&Listen>) -> Meaning {
    let choices = listen.map_or(&[][..], |l| &l.choices);
    let intents = listen.map_or(&[][..], |l| &l.intents);
    match dice.between(0, 8) {
        0 | 1 => Meaning::NoMatch,
        2 => Meaning::YesNo(dice.chance(500)),
        3 => Meaning::Global(*dice.pick(&[Global::Human, Global::Repeat, Global::Cancel, Global::Angry])),
        4 => Meaning::Text,
        5 | 6 if !choices.is_empty() => Meaning::Choice(dice.pick(choices).name.clone()),
        _ if !intents.is_empty() => Meaning::Intent(dice.pick(intents).clone()),
        _ => Meaning::Slots(BTreeMap::from([("order_no".into(), Value::text("3826"))])),
    }
}
