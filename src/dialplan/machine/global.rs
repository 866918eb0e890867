//! What every listening node understands: a person, again, slower, never mind, danger, anger.

use super::super::model::Kind;
use super::super::reply::{Await, Listen};
use super::super::understood::{Emotion, Global, Meaning};
use super::super::value::Value;
use super::answer::Miss;
use super::{Next, Out, Run, Suspended, Wait};
use std::sync::Arc;

impl Run {
    pub(super) fn global(&mut self, global: Global, out: &mut Out) -> Next {
        match global {
            Global::Human => self.human(),
            Global::Repeat => self.again(out),
            Global::Slower => {
                self.rate = 0.8;
                self.speak_hotline(|h| &h.texts.slower, out);
                self.again(out)
            }
            Global::Cancel => self.cancel(out),
            Global::Emergency => {
                self.stack.clear();
                match self.global_link(Global::Emergency) {
                    Some(to) => Next::To(to),
                    None => self.person_now(),
                }
            }
            Global::Angry => match self.global_link(Global::Angry) {
                Some(to) => Next::To(to),
                // Still angry at the offer itself: do not argue.
                None if matches!(self.wait, Wait::Offer(_)) => self.person_now(),
                None if self.mood.offered => self.person_now(),
                None => self.offer(out),
            },
            // Something else, but not said what: the opening question again.
            Global::Digress => match self.global_link(Global::Digress) {
                Some(to) => Next::To(to),
                None => Next::Open,
            },
        }
    }

    fn global_link(&self, global: Global) -> Option<super::Target> {
        let own = self.flow().and_then(|f| f.globals.get(&global));
        own.or_else(|| self.set.hotline().globals.get(&global)).map(|l| l.to.clone())
    }

    /// The first demand for a person goes where the flow says (which may ask one question); the second is obeyed
    /// at once.
    fn human(&mut self) -> Next {
        self.humans = self.humans.saturating_add(1);
        let inside = self.here.zip(self.set.person()).is_some_and(|(here, p)| here.flow == p.flow);
        if self.humans >= 2 || inside || matches!(self.wait, Wait::Offer(_)) {
            return self.person_now();
        }
        match self.global_link(Global::Human) {
            Some(to) => {
                self.stack.clear();
                if self.scope.get("session").is_some_and(|s| s.get("intent").is_null()) {
                    self.set_session("intent", Value::text("human"));
                }
                Next::To(to)
            }
            None => self.person_now(),
        }
    }

    /// A person without another question: the flow's own hand-over, else the hotline's.
    pub(super) fn person_now(&mut self) -> Next {
        self.stack.clear();
        let own = self.here.and_then(|here| {
            let flow = &self.set.flows()[here.flow];
            let super::Target::Node(name) = &flow.globals.get(&Global::Human)?.to else { return None };
            let node = flow.find(name)?;
            let hands_over = matches!(flow.nodes[node].kind, Kind::Transfer { .. });
            hands_over.then_some(super::Place { flow: here.flow, node })
        });
        match own.or(self.set.person()) {
            Some(place) => Next::At(place),
            None => Next::Broken("the hotline has no hand-over".into()),
        }
    }

    fn again(&mut self, out: &mut Out) -> Next {
        let rate = self.rate;
        let (wait, pending) = (self.wait.clone(), self.pending.clone());
        let said = std::mem::take(&mut self.said);
        for p in &said {
            let mut p = p.clone();
            p.rate = p.rate.min(rate.max(0.5));
            out.say.push(p);
        }
        self.said = said;
        Next::Wait(wait, pending)
    }

    fn cancel(&mut self, out: &mut Out) -> Next {
        if let Wait::Offer(before) = self.wait.clone() {
            return self.resume(*before, out);
        }
        if self.here.is_none() {
            return self.open_miss(Miss::NoMatch, out);
        }
        match self.global_link(Global::Cancel) {
            Some(to) => Next::To(to),
            None => {
                self.speak_hotline(|h| &h.texts.nothing, out);
                Next::Open
            }
        }
    }

    pub(super) fn feel(&mut self, emotion: Emotion) {
        let name = match emotion {
            Emotion::Neutral => return,
            Emotion::Negative => {
                self.mood.negatives = self.mood.negatives.saturating_add(1);
                "negative"
            }
            Emotion::StronglyNegative => {
                self.mood.negatives = self.mood.negatives.saturating_add(1);
                self.mood.strong = true;
                "strong"
            }
        };
        self.mood.angry = true;
        let name = if self.mood.strong { "strong" } else { name };
        self.set_session("emotion", Value::text(name));
    }

    /// Two negative utterances or a strong one.
    fn upset(&self) -> bool {
        self.mood.strong || self.mood.negatives >= 2
    }

    pub(super) fn wants_offer(&self) -> bool {
        self.upset() && !self.mood.offered
    }

    /// An upset caller whose answer was understood hears once that a person can be had; the business goes on.
    pub(super) fn hint(&mut self, out: &mut Out) {
        if !self.upset() || self.mood.offered || self.mood.hinted || self.wait == Wait::Done {
            return;
        }
        self.mood.hinted = true;
        let mut first = std::mem::take(&mut out.say);
        self.speak_hotline(|h| &h.texts.hint, out);
        out.say.append(&mut first);
    }

    /// Asks whether a person is wanted.
    pub(super) fn offer(&mut self, out: &mut Out) -> Next {
        let Await::Listen(listen) = self.pending.clone() else { return self.person_now() };
        self.mood.offered = true;
        self.add_retry();
        self.speak_hotline(|h| &h.texts.offer, out);
        let suspended = Suspended { wait: self.wait.clone(), listen: *listen, said: self.said.clone() };
        let listen = self.yes_no_listen("offer");
        Next::Wait(Wait::Offer(Box::new(suspended)), Await::Listen(Box::new(listen)))
    }

    pub(super) fn offered(&mut self, meaning: Meaning, before: Suspended, out: &mut Out) -> Next {
        match meaning {
            Meaning::YesNo(true) => self.person_now(),
            Meaning::YesNo(false) => {
                self.speak_hotline(|h| &h.texts.stay, out);
                self.resume(before, out)
            }
            _ => self.resume(before, out),
        }
    }

    /// The question that was interrupted, once more.
    pub(super) fn resume(&mut self, before: Suspended, out: &mut Out) -> Next {
        out.say.extend(before.said);
        Next::Wait(before.wait, Await::Listen(Box::new(before.listen)))
    }

    pub(super) fn yes_no_listen(&self, node: &str) -> Listen {
        use super::super::reply::{AnswerKind, KeyRule, Pause};
        let flow = self.flow().map_or_else(|| "hotline".to_string(), |f| f.id.clone());
        Listen {
            flow,
            node: node.to_string(),
            kind: AnswerKind::YesNo,
            slot: None,
            choices: Vec::new(),
            intents: Vec::new(),
            keys: KeyRule { min: 1, max: 1, terminator: None, gap_ms: 3000 },
            speech: true,
            no_input_ms: Arc::clone(&self.set).hotline().wait_ms,
            max_speech_ms: 6000,
            pause: Pause::Short,
            secret: false,
            unrecorded: false,
        }
    }
}
