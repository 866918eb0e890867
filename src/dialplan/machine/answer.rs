//! What the caller said or pressed, at whatever listens.

use super::super::model::{Kind, Node, SlotType};
use super::super::prompt::Template;
use super::super::reply::{AnswerKind, Await, Listen};
use super::super::understood::{Meaning, Understood};
use super::super::value::Value;
use super::{Frame, MAX_STACK, Next, Out, Run, Tries, Wait};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Misses of all kinds at one question before it gives up, whatever the flow's lists say.
const MAX_TRIES: usize = 5;

/// Why an input moved nothing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    NoMatch,
    NoInput,
}

impl Run {
    pub(super) fn heard(&mut self, u: Understood, out: &mut Out) -> Next {
        self.counters.turns += 1;
        self.silent = 0;
        let limit = self.flow().map_or(40, |f| f.limits.max_turns);
        if self.counters.turns > limit {
            return Next::Broken("the call has too many turns".into());
        }
        self.feel(u.emotion);
        let useless = matches!(u.meaning, Meaning::NoMatch | Meaning::Clarify(..));
        if useless && self.wants_offer() && !matches!(self.wait, Wait::Offer(_) | Wait::Clarify(..)) {
            return self.offer(out);
        }
        let next = self.meant(u, out);
        if !useless {
            self.hint(out);
        }
        next
    }

    fn meant(&mut self, u: Understood, out: &mut Out) -> Next {
        if let Meaning::Global(g) = u.meaning {
            return self.global(g, out);
        }
        match self.wait.clone() {
            Wait::Open => self.opening(u, out),
            Wait::Clarify(a, b) => self.clarified(u, &a, &b, out),
            Wait::Proof(proof) => self.proven(u, proof, out),
            Wait::Offer(before) => self.offered(u.meaning, *before, out),
            _ => self.at_node(u, out),
        }
    }

    pub(super) fn keys(&mut self, keys: &str, out: &mut Out) -> Next {
        let Await::Listen(listen) = self.pending.clone() else { return self.no_input(out) };
        if keys.is_empty() {
            return self.no_input(out);
        }
        let mut u = Understood::no_match(keys, 1.0);
        u.meaning = read_keys(&listen, keys);
        self.heard(u, out)
    }

    pub(super) fn no_input(&mut self, out: &mut Out) -> Next {
        self.silent = 0;
        match self.wait.clone() {
            Wait::Open | Wait::Clarify(..) => self.open_miss(Miss::NoInput, out),
            Wait::Proof(proof) => self.proof_miss(proof, out),
            Wait::Offer(before) => self.resume(*before, out),
            _ => self.miss(Miss::NoInput, out),
        }
    }

    fn opening(&mut self, u: Understood, out: &mut Out) -> Next {
        match u.meaning {
            Meaning::Intent(name) | Meaning::Choice(name) => self.begin(&name, u.slots, &u.text, out),
            Meaning::Clarify(a, b) => self.clarify(&a, &b, out),
            _ => self.open_miss(Miss::NoMatch, out),
        }
    }

    /// Begins the business of an intent.
    pub(super) fn begin(&mut self, intent: &str, slots: BTreeMap<String, Value>, text: &str, out: &mut Out) -> Next {
        if self.set.is_human(intent) {
            return self.global(super::super::understood::Global::Human, out);
        }
        let Some(flow) = self.set.flow_of(intent) else {
            return self.open_miss(Miss::NoMatch, out);
        };
        let set = Arc::clone(&self.set);
        let flow = &set.flows()[flow];
        self.set_session("intent", Value::text(intent));
        // What was said for an earlier business of this call is not taken for this one, but for the order it was about.
        // What waits keeps its own.
        let waiting = |name: &str| {
            let mut flows = self.stack.iter().map(|f| &set.flows()[f.back.flow]);
            flows.any(|f| f.slots.iter().any(|s| s.name == name))
        };
        let own = flow.slots.iter().filter(|d| d.kind != SlotType::OrderRef).map(|d| d.name.as_str());
        let old: Vec<&str> = own.filter(|n| !waiting(n)).collect();
        for name in old {
            self.set_slot(name, Value::Null);
        }
        for def in &flow.slots {
            if let Some(v) = slots.get(&def.name) {
                self.set_slot(&def.name, v.clone());
            } else if let Some(v) = self.named(&def.kind, text) {
                self.set_slot(&def.name, v);
            }
        }
        self.begin_flow(&flow.id)
    }

    fn clarify(&mut self, a: &str, b: &str, out: &mut Out) -> Next {
        self.add_retry();
        let spoken = |i: &str| Value::text(self.set.intent_spoken(i).unwrap_or(i));
        let (va, vb) = (spoken(a), spoken(b));
        self.scope.insert("a".into(), va);
        self.scope.insert("b".into(), vb);
        self.speak_hotline(|h| &h.texts.clarify, out);
        Next::Wait(Wait::Clarify(a.into(), b.into()), self.clarify_listen(a, b))
    }

    fn clarified(&mut self, u: Understood, a: &str, b: &str, out: &mut Out) -> Next {
        match &u.meaning {
            Meaning::Choice(x) | Meaning::Intent(x) => self.begin(x, u.slots, &u.text, out),
            // Between two again: the better one of these two.
            Meaning::Clarify(x, _) if x == a || x == b => self.begin(x, u.slots, &u.text, out),
            _ => {
                self.tries.nomatch += 1;
                self.open_miss(Miss::NoMatch, out)
            }
        }
    }

    /// A miss at the opening question: reword, then the key menu, then a person.
    pub(super) fn open_miss(&mut self, miss: Miss, out: &mut Out) -> Next {
        self.add_retry();
        self.count(miss);
        let set = Arc::clone(&self.set);
        let entry = &set.hotline().entry;
        let reworded = match miss {
            Miss::NoMatch => &entry.retry.nomatch,
            Miss::NoInput => &entry.retry.noinput,
        };
        match self.tries.nomatch + self.tries.noinput {
            1 => {
                let prompt = reworded.iter().flatten().next().unwrap_or(&entry.prompt);
                self.speak(prompt, true, out);
            }
            2 => self.speak(&entry.menu, true, out),
            _ => return self.person_now(),
        }
        Next::Wait(Wait::Open, self.open_listen())
    }

    fn count(&mut self, miss: Miss) {
        match miss {
            Miss::NoMatch => self.tries.nomatch += 1,
            Miss::NoInput => self.tries.noinput += 1,
        }
    }

    fn at_node(&mut self, u: Understood, out: &mut Out) -> Next {
        let Some(place) = self.here else { return self.open_miss(Miss::NoMatch, out) };
        let set = Arc::clone(&self.set);
        let node = &set.flows()[place.flow].nodes[place.node];
        let next = match &node.kind {
            Kind::Ask { slot } => self.ask_answer(node, &slot.text, &u),
            Kind::Confirm => self.confirm_answer(node, &u),
            Kind::Menu { options } => {
                let chosen = options.iter().find(|o| match &u.meaning {
                    Meaning::Choice(name) => *name == o.name,
                    Meaning::Intent(name) => o.intent.as_ref().is_some_and(|i| i.text == *name),
                    _ => false,
                });
                chosen.map(|o| {
                    self.add_step();
                    self.take_slots(&u.slots);
                    self.just_filled = self.fill_named(&u.text);
                    Next::To(o.go.to.clone())
                })
            }
            Kind::Survey => match &u.meaning {
                Meaning::Choice(score) => {
                    self.scope.insert("csat".into(), Value::Int(score.parse().unwrap_or(2)));
                    Some(self.by_outcome(node, "scored"))
                }
                _ => None,
            },
            _ => None,
        };
        match (next, u.meaning) {
            (Some(next), _) => next,
            (None, Meaning::Intent(intent)) => self.other_business(&intent, u.slots, &u.text, out),
            (None, _) => self.miss(Miss::NoMatch, out),
        }
    }

    fn take_slots(&mut self, slots: &BTreeMap<String, Value>) {
        let Some(flow) = self.flow() else { return };
        let known: Vec<String> = flow.slots.iter().map(|s| s.name.clone()).collect();
        for (name, value) in slots {
            if known.contains(name) {
                self.set_slot(name, value.clone());
            }
        }
    }

    /// "改到公司" where options are offered: the address came along. Gives the slot that was filled.
    fn fill_named(&mut self, text: &str) -> Option<String> {
        let set = Arc::clone(&self.set);
        let flow = &set.flows()[self.here?.flow];
        let def = flow.slots.iter().find(|d| d.kind == SlotType::Address)?;
        let value = self.named(&def.kind, text)?;
        self.set_slot(&def.name, value);
        Some(def.name.clone())
    }

    fn ask_answer(&mut self, node: &Node, slot: &str, u: &Understood) -> Option<Next> {
        let Await::Listen(listen) = &self.pending else { return None };
        let value = match &u.meaning {
            Meaning::Choice(name) => listen.choices.iter().find(|c| c.name == *name).map(|c| c.value.clone()),
            Meaning::Slots(slots) => slots.get(slot).cloned(),
            Meaning::YesNo(b) if listen.kind == AnswerKind::YesNo => Some(Value::Bool(*b)),
            Meaning::Text => Some(Value::text(u.text.chars().take(500).collect::<String>())),
            _ => None,
        }?;
        self.take_slots(&u.slots);
        self.set_slot(slot, value);
        self.just_filled = Some(slot.to_string());
        self.add_step();
        Some(self.by_outcome(node, "filled"))
    }

    fn confirm_answer(&mut self, node: &Node, u: &Understood) -> Option<Next> {
        let about = node.prompt.as_ref().map_or_else(Vec::new, mentioned_slots);
        let read_back = self.just_filled.as_ref().is_some_and(|s| about.contains(s));
        match &u.meaning {
            Meaning::YesNo(true) => {
                if !read_back {
                    self.add_step();
                }
                self.just_filled = None;
                self.take_slots(&u.slots);
                Some(self.by_outcome(node, "agree"))
            }
            Meaning::YesNo(false) => {
                if read_back {
                    self.add_retry();
                } else {
                    self.add_step();
                }
                self.just_filled = None;
                for slot in about {
                    self.set_slot(&slot, Value::Null);
                }
                Some(self.by_outcome(node, "refuse"))
            }
            // "不是公司,是家里": the value is corrected and read back again.
            Meaning::Choice(name) => {
                let Await::Listen(listen) = &self.pending else { return None };
                let choice = listen.choices.iter().find(|c| c.name == *name)?;
                let (slot, value) = (listen.slot.clone()?, choice.value.clone());
                self.add_retry();
                self.set_slot(&slot, value);
                self.just_filled = Some(slot);
                self.here.map(Next::At)
            }
            _ => None,
        }
    }

    /// Another business in the middle of one: the present one waits and is resumed.
    fn other_business(&mut self, intent: &str, slots: BTreeMap<String, Value>, text: &str, out: &mut Out) -> Next {
        let (Some(here), Some(flow)) = (self.here, self.set.flow_of(intent)) else {
            return self.miss(Miss::NoMatch, out);
        };
        if self.set.is_human(intent) {
            return self.global(super::super::understood::Global::Human, out);
        }
        if flow == here.flow {
            // The same flow's own business: remembered for its branches, and the question asked again.
            self.set_session("intent", Value::text(intent));
            self.take_slots(&slots);
            return Next::At(here);
        }
        if self.stack.len() >= MAX_STACK || self.stack.iter().any(|f| f.back.flow == flow) {
            return self.miss(Miss::NoMatch, out);
        }
        self.stack.push(Frame { back: here, digression: true });
        self.just_filled = None;
        self.begin(intent, slots, text, out)
    }

    /// A miss at a node: its own prompts one by one (else the hotline's, with key hints), then the way `max`.
    pub(super) fn miss(&mut self, miss: Miss, out: &mut Out) -> Next {
        self.add_retry();
        let Some(place) = self.here else { return self.open_miss(miss, out) };
        let set = Arc::clone(&self.set);
        let node = &set.flows()[place.flow].nodes[place.node];
        let survey = matches!(node.kind, Kind::Survey);
        let way = if survey { "none" } else { "max" };
        if survey && (miss == Miss::NoInput || self.tries.nomatch > 0) {
            return self.by_outcome(node, way);
        }
        let shared = &set.hotline().retry;
        let (own, shared, i) = match miss {
            Miss::NoMatch => (&node.retry.nomatch, &shared.nomatch, self.tries.nomatch),
            Miss::NoInput => (&node.retry.noinput, &shared.noinput, self.tries.noinput),
        };
        let list = own.as_ref().or(shared.as_ref()).map_or(&[][..], Vec::as_slice);
        self.count(miss);
        let Tries { nomatch, noinput } = self.tries;
        let Some(prompt) = list.get(i).filter(|_| nomatch + noinput <= MAX_TRIES) else {
            return self.by_outcome(node, way);
        };
        self.speak(prompt, true, out);
        if own.is_none() {
            if i == 0 {
                self.speak_prompt(node, out);
            } else {
                self.key_hint(node, out);
            }
        }
        Next::Wait(Wait::Node, self.pending.clone())
    }

    /// "对请按1,不对请按2", or a menu's keys, when the flow wrote no prompts of its own.
    fn key_hint(&mut self, node: &Node, out: &mut Out) {
        let Await::Listen(listen) = &self.pending else { return };
        if listen.keys.max == 0 {
            return self.speak_prompt(node, out);
        }
        match listen.kind {
            AnswerKind::YesNo => self.speak_hotline(|h| &h.texts.yes_no_keys, out),
            AnswerKind::Digits { .. } => self.speak_hotline(|h| &h.texts.digit_keys, out),
            _ => {
                let keyed = listen.choices.iter().filter_map(|c| Some((c.say.first()?, c.key?)));
                let hint: Vec<String> = keyed.map(|(say, key)| format!("{say}请按{key}")).collect();
                if hint.is_empty() {
                    return self.speak_prompt(node, out);
                }
                let hint = Template::plain(&hint.join(",").replace(['{', '}'], ""));
                self.speak(&hint, true, out);
            }
        }
    }
}

/// Slots that a confirm's prompt reads back.
pub(in crate::dialplan) fn mentioned_slots(prompt: &Template) -> Vec<String> {
    prompt.text.holes().filter_map(|(path, _)| path.slot().map(str::to_string)).collect()
}

/// What keys mean where this listens. `0` alone asks for a person wherever it is no answer.
fn read_keys(listen: &Listen, keys: &str) -> Meaning {
    use super::super::understood::Global;
    let mut chars = keys.chars();
    if let (Some(key), None) = (chars.next(), chars.next()) {
        if let Some(c) = listen.choices.iter().find(|c| c.key == Some(key)) {
            return Meaning::Choice(c.name.clone());
        }
        match (listen.kind, key) {
            (AnswerKind::YesNo, '1') => return Meaning::YesNo(true),
            (AnswerKind::YesNo, '2') => return Meaning::YesNo(false),
            (_, '0') if !(listen.keys.min <= 1 && matches!(listen.kind, AnswerKind::Digits { .. })) => {
                return Meaning::Global(Global::Human);
            }
            _ => {}
        }
    }
    let rule = listen.keys;
    let fits = (usize::from(rule.min)..=usize::from(rule.max)).contains(&keys.len());
    if !fits || rule.max < 2 && !matches!(listen.kind, AnswerKind::Digits { .. }) {
        return Meaning::NoMatch;
    }
    if !keys.chars().all(|c| c.is_ascii_digit()) {
        return Meaning::NoMatch;
    }
    // The caller's own order by its last digits, before anybody else's.
    let own = listen.choices.iter().find(|c| c.value.as_text().is_some_and(|v| v.ends_with(keys)));
    if let Some(c) = own {
        return Meaning::Choice(c.name.clone());
    }
    let slot = listen.slot.clone().unwrap_or_else(|| "digits".into());
    Meaning::Slots(BTreeMap::from([(slot, Value::text(keys))]))
}
