//! Verification: what is known without asking, then the last four digits, then the receiver's name or the amount paid.
//! Two wrong answers fail. Questions are counted apart from steps.

use super::super::language;
use super::super::model::{Kind, Level, Node};
use super::super::reply::{AnswerKind, Await, Choice, KeyRule, Listen, Pause};
use super::super::understood::{Meaning, Understood};
use super::super::value::Value;
use super::{Next, Out, Run, Wait};
use std::sync::Arc;

/// Wrong or missing answers that fail a verification.
const MAX_WRONG: u8 = 2;
/// Names a right name is hidden among, so that the recogniser must choose.
const DECOYS: [&str; 8] = ["王建国", "李秀英", "陈志强", "刘桂芳", "赵文博", "孙丽娟", "周海涛", "吴晓燕"];
/// How many of them.
const DECOY_COUNT: usize = 4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proof {
    level: Level,
    stage: Stage,
    wrong: u8,
    known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Last4,
    Name,
}

/// What the answers are compared with.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    last4: Option<String>,
    name: Option<String>,
    amount: Option<i64>,
}

impl Run {
    pub(super) fn verify(&mut self, node: &Node, level: Level, out: &mut Out) -> Next {
        if self.level >= level || self.passive(level) {
            return self.pass(node, level);
        }
        let known = self.known();
        // Codes by text message and persons at a counter are not ours to ask for.
        let enough = known.last4.is_some() && (level < Level::L2 || known.name.is_some() || known.amount.is_some());
        if level > Level::L2 || !enough {
            return self.by_outcome(node, "fail");
        }
        self.question(Proof { level, stage: Stage::Last4, wrong: 0, known }, out)
    }

    /// Known without a question: the order is the caller's own, or the voiceprint has passed.
    fn passive(&self, level: Level) -> bool {
        let voice = self.session.profile.get("voiceprint").as_text() == Some("pass");
        match level {
            Level::L0 => true,
            Level::L1 => voice || self.own_order(),
            Level::L2 => voice,
            Level::L3 | Level::L4 => false,
        }
    }

    fn own_order(&self) -> bool {
        match self.scope.get("order") {
            Some(order @ Value::Map(_)) => {
                let id = order.get("id");
                let mut own = self.session.profile.get("orders").as_list().unwrap_or(&[]).iter();
                order.get("mine") == &Value::Bool(true) || (!id.is_null() && own.any(|o| o.get("id") == id))
            }
            _ => self.session.profile.get("phone_tail").as_text().is_some_and(|t| self.session.caller.ends_with(t)),
        }
    }

    fn known(&self) -> Known {
        let order = self.scope.get("order").unwrap_or(&Value::Null);
        let profile = &self.session.profile;
        let text = |v: &Value, key: &str| v.get(key).as_text().filter(|s| !s.is_empty()).map(str::to_string);
        let (last4, name) = if matches!(order, Value::Map(_)) {
            (text(order, "phone_tail"), text(order, "receiver"))
        } else {
            (text(profile, "phone_tail"), text(profile, "name"))
        };
        Known { last4: last4.filter(|t| t.len() == 4), name, amount: order.get("amount_yuan").as_int() }
    }

    fn pass(&mut self, node: &Node, level: Level) -> Next {
        self.level = self.level.max(level);
        self.set_session("verify_level", Value::text(self.level.name()));
        self.by_outcome(node, "pass")
    }

    fn question(&mut self, proof: Proof, out: &mut Out) -> Next {
        self.counters.verify_questions = self.counters.verify_questions.saturating_add(1);
        self.ask_proof(proof, out)
    }

    fn ask_proof(&mut self, proof: Proof, out: &mut Out) -> Next {
        let set = Arc::clone(&self.set);
        let place = self.here;
        let own = place.and_then(|p| match &set.flows()[p.flow].nodes[p.node].kind {
            Kind::Verify { prompts, .. } => prompts.get(if proof.stage == Stage::Last4 { "last4" } else { "name" }),
            _ => None,
        });
        match (own, proof.stage) {
            (Some(prompt), _) => self.speak(prompt, true, out),
            (None, Stage::Last4) => self.speak_hotline(|h| &h.texts.last4, out),
            (None, Stage::Name) => self.speak_hotline(|h| &h.texts.verify_name, out),
        }
        let listen = self.proof_listen(&proof);
        Next::Wait(Wait::Proof(proof), Await::Listen(Box::new(listen)))
    }

    fn proof_listen(&self, proof: &Proof) -> Listen {
        let node = self.names().1;
        let base = Listen { secret: true, ..self.yes_no_listen(&node) };
        match proof.stage {
            Stage::Last4 => Listen {
                kind: AnswerKind::Digits { min: 4, max: 4 },
                slot: Some("last4".into()),
                keys: KeyRule { min: 4, max: 4, terminator: Some('#'), gap_ms: 4000 },
                pause: Pause::Digits,
                max_speech_ms: 8000,
                ..base
            },
            Stage::Name => Listen {
                kind: AnswerKind::Choice,
                slot: Some("name".into()),
                choices: name_choices(proof.known.name.as_deref()),
                keys: KeyRule { min: 1, max: 7, terminator: Some('#'), gap_ms: 4000 },
                pause: Pause::Long,
                ..base
            },
        }
    }

    pub(super) fn proven(&mut self, u: Understood, mut proof: Proof, out: &mut Out) -> Next {
        let right = match (&u.meaning, proof.stage) {
            (Meaning::Slots(s), Stage::Last4) => {
                s.get("last4").and_then(Value::as_text) == proof.known.last4.as_deref()
            }
            (Meaning::Choice(name), Stage::Name) => {
                proof.known.name.as_deref().is_some_and(|n| language::same_name(n, name))
            }
            (Meaning::Slots(s), Stage::Name) => {
                let given = s.get("name").and_then(Value::as_text).and_then(|t| t.parse::<i64>().ok());
                given.is_some() && given == proof.known.amount
            }
            _ => return self.proof_miss(proof, out),
        };
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        if !right {
            return self.proof_again(proof, true, out);
        }
        if proof.stage == Stage::Last4 && proof.level >= Level::L2 {
            proof.stage = Stage::Name;
            return self.question(proof, out);
        }
        let set = Arc::clone(&self.set);
        self.pass(&set.flows()[place.flow].nodes[place.node], proof.level)
    }

    pub(super) fn proof_miss(&mut self, proof: Proof, out: &mut Out) -> Next {
        self.proof_again(proof, false, out)
    }

    fn proof_again(&mut self, mut proof: Proof, wrong: bool, out: &mut Out) -> Next {
        self.add_retry();
        proof.wrong += 1;
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        if proof.wrong >= MAX_WRONG {
            let set = Arc::clone(&self.set);
            return self.by_outcome(&set.flows()[place.flow].nodes[place.node], "fail");
        }
        if wrong {
            self.speak_hotline(|h| &h.texts.verify_again, out);
            let listen = self.proof_listen(&proof);
            return Next::Wait(Wait::Proof(proof), Await::Listen(Box::new(listen)));
        }
        self.ask_proof(proof, out)
    }
}

/// The right name among decoys that do not sound like it, in an order that tells nothing.
fn name_choices(right: Option<&str>) -> Vec<Choice> {
    let mut names: Vec<String> = right.map(str::to_string).into_iter().collect();
    for decoy in DECOYS {
        if names.len() <= DECOY_COUNT && !right.is_some_and(|r| language::sounds_like(r, decoy)) {
            names.push(decoy.to_string());
        }
    }
    names.sort_unstable();
    names
        .into_iter()
        .map(|n| Choice {
            say: vec![n.clone(), format!("我叫{n}")], key: None, value: Value::text(n.clone()), name: n
        })
        .collect()
}
