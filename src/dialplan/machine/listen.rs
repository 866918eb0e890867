//! What can be heard where: the listening side of nodes, with the caller's own orders and addresses as closed lists.

use super::super::language;
use super::super::model::{Kind, Node, SlotType, answer_kind};
use super::super::prompt::Slots;
use super::super::reply::{AnswerKind, Await, Choice, KeyRule, Listen, Pause};
use super::super::value::Value;
use super::answer::mentioned_slots;
use super::{Place, Run};

/// Pause between keys that ends an answer, in milliseconds.
const KEY_GAP_MS: u32 = 4000;

impl Run {
    pub(super) fn open_listen(&self) -> Await {
        let hotline = self.set.hotline();
        let choices = hotline.entry.keys.iter().map(|(key, intent)| self.intent_choice(&intent.text, Some(*key)));
        let listen = Listen {
            choices: choices.collect(),
            intents: self.set.top_intents(),
            kind: AnswerKind::Open,
            max_speech_ms: 15_000,
            pause: Pause::Normal,
            ..self.yes_no_listen("entry")
        };
        Await::Listen(Box::new(Listen { flow: "hotline".into(), ..listen }))
    }

    fn intent_choice(&self, intent: &str, key: Option<char>) -> Choice {
        let spoken = self.set.intent_spoken(intent).unwrap_or(intent).to_string();
        Choice { name: intent.to_string(), say: vec![spoken], key, value: Value::Null }
    }

    pub(super) fn clarify_listen(&self, a: &str, b: &str) -> Await {
        let choices = vec![self.intent_choice(a, Some('1')), self.intent_choice(b, Some('2'))];
        Await::Listen(Box::new(Listen {
            flow: "hotline".into(),
            choices,
            intents: vec![a.to_string(), b.to_string()],
            kind: AnswerKind::Choice,
            max_speech_ms: 8000,
            pause: Pause::Normal,
            ..self.yes_no_listen("clarify")
        }))
    }

    /// The listening side of an ask, confirm, menu or survey.
    pub(super) fn node_listen(&self, place: Place, node: &Node) -> Await {
        let flow = &self.set.flows()[place.flow];
        let mut listen = self.yes_no_listen(&node.id);
        match &node.kind {
            Kind::Ask { slot } => {
                if let Some(def) = flow.slot(&slot.text) {
                    self.ask_listen(&mut listen, &def.kind);
                    listen.unrecorded = !def.recorded;
                }
                listen.secret = self.set.is_personal(&slot.text);
                listen.slot = Some(slot.text.clone());
            }
            Kind::Confirm => {
                let slots = node.prompt.as_ref().map_or_else(Vec::new, mentioned_slots);
                // Read back, and perhaps said again.
                listen.unrecorded = slots.iter().filter_map(|s| flow.slot(s)).any(|def| !def.recorded);
                if let Some(def) = slots.iter().find_map(|s| flow.slot(s)) {
                    listen.choices = self.slot_choices(&def.kind);
                    listen.choices.iter_mut().for_each(|c| c.key = None);
                    listen.slot = Some(def.name.clone());
                }
            }
            Kind::Menu { options } => {
                listen.kind = AnswerKind::Choice;
                listen.max_speech_ms = 8000;
                listen.pause = Pause::Normal;
                listen.choices = options
                    .iter()
                    .map(|o| Choice {
                        name: o.name.clone(),
                        say: o.say.iter().map(|s| s.text.clone()).collect(),
                        key: o.key,
                        value: Value::text(o.name.clone()),
                    })
                    .collect();
                listen.intents = options.iter().filter_map(|o| o.intent.as_ref().map(|i| i.text.clone())).collect();
            }
            Kind::Survey => {
                listen.kind = AnswerKind::Choice;
                listen.choices = survey_choices();
            }
            _ => {}
        }
        if !matches!(node.kind, Kind::Survey) {
            for intent in self.set.top_intents() {
                if !listen.intents.contains(&intent) {
                    listen.intents.push(intent);
                }
            }
        }
        if listen.slot.is_some() && listen.kind == AnswerKind::Open {
            listen.intents.clear(); // free words: nothing in them is another business
        }
        if let Some(ms) = node.wait_ms {
            listen.no_input_ms = ms;
        }
        listen.speech = node.speech;
        if !node.keys {
            listen.keys = KeyRule { min: 0, max: 0, terminator: None, gap_ms: KEY_GAP_MS };
        }
        Await::Listen(Box::new(listen))
    }

    fn ask_listen(&self, listen: &mut Listen, kind: &SlotType) {
        listen.kind = answer_kind(kind);
        listen.choices = self.slot_choices(kind);
        listen.max_speech_ms = 10_000;
        let digits = |min, max| KeyRule { min, max, terminator: Some('#'), gap_ms: KEY_GAP_MS };
        match kind {
            SlotType::Digits(min, max) => {
                listen.keys = digits(*min, *max);
                listen.pause = Pause::Digits;
            }
            SlotType::Phone => {
                listen.keys = digits(11, 11);
                listen.pause = Pause::Digits;
            }
            // An order of one's own by name or digits; anybody's by four digits.
            SlotType::OrderRef => {
                listen.keys = digits(4, 4);
                listen.pause = Pause::Digits;
            }
            SlotType::Address => {
                listen.pause = Pause::Long;
                listen.max_speech_ms = 15_000;
            }
            SlotType::Text | SlotType::Record => {
                listen.pause = Pause::Long;
                listen.max_speech_ms = 20_000;
                listen.keys = KeyRule { min: 1, max: 1, terminator: None, gap_ms: KEY_GAP_MS };
            }
            SlotType::Enum(_) => listen.pause = Pause::Normal,
            SlotType::Bool => {}
        }
    }

    /// The closed list of a slot, when there is one.
    fn slot_choices(&self, kind: &SlotType) -> Vec<Choice> {
        match kind {
            SlotType::OrderRef => order_choices(self.orders()),
            SlotType::Address => address_choices(self.session.profile.get("addresses")),
            SlotType::Enum(values) => values
                .iter()
                .enumerate()
                .map(|(i, (name, say))| Choice {
                    name: name.clone(),
                    say: if say.is_empty() { vec![name.clone()] } else { say.clone() },
                    key: char::from_digit(i as u32 + 1, 10),
                    value: Value::text(name.clone()),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The caller's own orders: what an action found, else what the session brought.
    pub(super) fn orders(&self) -> &[Value] {
        let found = self.scope.get("orders").and_then(Value::as_list);
        found.or_else(|| self.session.profile.get("orders").as_list()).unwrap_or(&[])
    }

    /// What an opening sentence already names: one of the caller's orders, one of the stored addresses.
    pub(super) fn named(&self, kind: &SlotType, text: &str) -> Option<Value> {
        match kind {
            SlotType::OrderRef => self.named_order(text),
            SlotType::Address => self.named_address(text),
            _ => None,
        }
    }

    /// "改到公司": the label alone is not enough ("公司" may be anything).
    fn named_address(&self, text: &str) -> Option<Value> {
        let choices = address_choices(self.session.profile.get("addresses"));
        let ways = ["改到", "送到", "寄到", "送去", "改成"];
        let mut named = choices.iter().filter(|c| {
            let mut whole = c.say.iter().filter(|s| ways.iter().any(|w| s.starts_with(w)));
            whole.any(|s| language::contains(text, s))
        });
        let first = named.next()?;
        named.next().is_none().then(|| first.value.clone())
    }

    /// The order named in an opening sentence by its item ("我那个冰箱到哪了"), when it is only one.
    fn named_order(&self, text: &str) -> Option<Value> {
        let choices = order_choices(self.orders());
        let mut named = choices.iter().filter(|c| {
            let items = c.say.iter().filter(|s| s.chars().count() >= 2);
            items.filter(|s| !s.starts_with("第") && !s.starts_with("最")).any(|s| language::contains(text, s))
        });
        let first = named.next()?;
        named.next().is_none().then(|| first.value.clone())
    }
}

fn survey_choices() -> Vec<Choice> {
    let scores: [(&str, &[&str]); 3] = [
        ("1", &["满意", "非常满意", "很满意", "特别满意", "挺好的", "满意的", "一", "五星"]),
        ("2", &["一般", "一般般", "还行", "还可以", "二", "凑合"]),
        (
            "3",
            &[
                "不满意",
                "很不满意",
                "不太满意",
                "不怎么满意",
                "不是很满意",
                "不够满意",
                "没有满意",
                "太差了",
                "很差",
                "三",
                "没解决",
            ],
        ),
    ];
    let choice = |(name, say): (&str, &[&str])| Choice {
        name: name.to_string(),
        say: say.iter().map(|s| s.to_string()).collect(),
        key: name.chars().next(),
        value: Value::Int(name.parse().unwrap_or(2)),
    };
    scores.into_iter().map(choice).collect()
}

const ORDINALS: [&str; 5] = ["一", "二", "三", "四", "五"];

/// One choice per order: item, short item, ordinal, last four digits, "最近那单" for the newest.
fn order_choices(orders: &[Value]) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for (i, order) in orders.iter().take(5).enumerate() {
        let text = |key: &str| order.get(key).as_text().unwrap_or("").to_string();
        let no = if text("no").is_empty() { text("id") } else { text("no") };
        if no.is_empty() {
            continue;
        }
        let (item, tail) = (text("item"), text("tail"));
        let mut say = Vec::new();
        if !item.is_empty() {
            say.push(item.clone());
            say.push(format!("{item}那单"));
            let chars: Vec<char> = item.chars().collect();
            for n in [2, 3] {
                if chars.len() > n && chars[chars.len() - n..].iter().all(|c| (*c as u32) >= 0x2E80) {
                    let short: String = chars[chars.len() - n..].iter().collect();
                    say.push(format!("{short}那单"));
                    say.push(short);
                }
            }
        }
        if let Some(o) = ORDINALS.get(i) {
            say.extend([format!("第{o}个"), format!("第{o}单")]);
        }
        if i == 0 {
            say.extend(["最近那单", "最近一单", "最近的", "最新的"].map(String::from));
        }
        if tail.len() == 4 {
            let spelled = language::spell_digits(&tail);
            say.extend([format!("尾号{spelled}"), spelled]);
        }
        choices.push(Choice { name: no.clone(), say, key: None, value: Value::Text(no) });
    }
    drop_shared(&mut choices);
    choices
}

/// One choice per stored address: its label and ways to name it.
fn address_choices(addresses: &Value) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for (i, address) in addresses.as_list().unwrap_or(&[]).iter().take(9).enumerate() {
        let Some(label) = address.get("label").as_text() else { continue };
        let mut names = vec![label.to_string()];
        for s in address.get("say").as_list().unwrap_or(&[]) {
            names.extend(s.as_text().map(str::to_string));
        }
        let mut say: Vec<String> = Vec::new();
        for name in &names {
            let ways = ["", "改到", "送到", "寄到", "送去", "改成"];
            say.extend(ways.iter().map(|w| format!("{w}{name}")));
            say.push(format!("{name}地址"));
        }
        say.dedup();
        let value = Value::map([("label", Value::text(label)), ("text", address.get("text").clone())]);
        choices.push(Choice { name: label.to_string(), say, key: char::from_digit(i as u32 + 1, 10), value });
    }
    drop_shared(&mut choices);
    choices
}

/// What two choices share tells nobody apart.
fn drop_shared(choices: &mut [Choice]) {
    let all: Vec<Vec<String>> = choices.iter().map(|c| c.say.clone()).collect();
    for (i, choice) in choices.iter_mut().enumerate() {
        let elsewhere = |s: &String| all.iter().enumerate().any(|(j, other)| j != i && other.contains(s));
        choice.say.retain(|s| !elsewhere(s));
    }
}
