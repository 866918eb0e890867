//! Entering a node, and what happens when an action, ticket, transfer or recording ends.

use super::super::model::{Kind, Node};
use super::super::reply::{ActionCall, Await, TicketDraft, TransferOrder, TransferResult};
use super::super::value::Value;
use super::{Frame, MAX_NODES, MAX_SILENT, MAX_STACK, MAX_VISITS, Next, Out, Place, Run, Tries, Wait};
use std::sync::Arc;

/// A recording shorter than this holds no words.
const MIN_RECORDING_MS: u64 = 300;

impl Run {
    pub(super) fn enter(&mut self, place: Place, out: &mut Out) -> Next {
        let set = Arc::clone(&self.set);
        let flow = &set.flows()[place.flow];
        let Some(node) = flow.nodes.get(place.node) else {
            return Next::Broken("the flow has no such node".into());
        };
        self.here = Some(place);
        self.tries = Tries::default();
        self.trace(&flow.id, &node.id, out);
        // Another order may be at hand than the one the caller proved himself for.
        self.set_session("verify_level", Value::text(self.level().name()));
        if let Some(why) = self.guard(place) {
            return Next::Broken(why.into());
        }
        if let Some((skip, _)) = &node.skip_if
            && self.holds(skip)
        {
            let first = ["filled", "agree", "pass", "ok", "scored", "connected"];
            return match first.iter().find_map(|o| node.then.get(*o)).or(node.go.as_ref()) {
                Some(link) => Next::To(link.to.clone()),
                None => Next::Broken("a skipped node leads nowhere".into()),
            };
        }
        if node.answers {
            self.facts.answered = true;
        }
        self.run_kind(place, node, &flow.title, out)
    }

    fn guard(&mut self, place: Place) -> Option<&'static str> {
        let visits = self.visits.entry(place).or_insert(0);
        *visits += 1;
        self.silent += 1;
        self.nodes += 1;
        if *visits > MAX_VISITS {
            return Some("the same node was entered too often");
        }
        if self.silent > MAX_SILENT {
            return Some("too many nodes without the caller");
        }
        (self.nodes > MAX_NODES).then_some("too many nodes in one call")
    }

    fn run_kind(&mut self, place: Place, node: &Node, title: &str, out: &mut Out) -> Next {
        match &node.kind {
            Kind::Say => {
                self.speak_prompt(node, out);
                self.by_go(node)
            }
            Kind::Ask { .. } | Kind::Confirm | Kind::Menu { .. } => {
                self.speak_prompt(node, out);
                let listen = self.node_listen(place, node);
                Next::Wait(Wait::Node, listen)
            }
            Kind::Survey => self.survey(place, node, out),
            Kind::Verify { level, .. } => self.verify(node, *level, out),
            Kind::Action { .. } => self.action(node),
            Kind::Branch { cases } => {
                for case in cases {
                    if case.condition.as_ref().is_none_or(|c| self.holds(c)) {
                        return Next::To(case.go.to.clone());
                    }
                }
                Next::Broken("no case of the branch holds".into())
            }
            Kind::Set { set } => {
                for (name, expr) in set {
                    let value = self.work_out(expr);
                    match name.text.strip_prefix("slots.") {
                        Some(slot) => self.set_slot(slot, value),
                        None => drop(self.scope.insert(name.text.clone(), value)),
                    }
                }
                self.by_go(node)
            }
            Kind::Record { max_ms, .. } => {
                self.speak_prompt(node, out);
                Next::Wait(Wait::Node, Await::Record { max_ms: *max_ms })
            }
            Kind::Flow { flow } => {
                if self.stack.len() >= MAX_STACK {
                    return Next::Broken("flows call each other too deeply".into());
                }
                self.stack.push(Frame { back: place, digression: false });
                self.begin_flow(&flow.text)
            }
            Kind::Ticket { category, priority, sla, title: line } => {
                let line = line.as_ref().map_or_else(|| title.to_string(), |t| self.render(t, true).shown);
                let (category, priority) = (category.text.clone(), priority.clone());
                let draft = self.draft(category, priority, sla.clone(), line);
                Next::Wait(Wait::Node, Await::Ticket(draft))
            }
            Kind::Transfer { queue, skill, warm, announce } => {
                self.speak_prompt(node, out);
                let briefing = match announce {
                    Some(t) => self.render(t, false),
                    None => self.default_briefing(title),
                };
                let order = TransferOrder {
                    queue: queue.text.clone(),
                    skill: skill.as_ref().map(|s| s.text.clone()),
                    warm: *warm,
                    briefing,
                    ring_ms: self.set.hotline().ring_ms,
                };
                Next::Wait(Wait::Node, Await::Transfer(order))
            }
            Kind::End => {
                self.speak_prompt(node, out);
                self.end(out)
            }
        }
    }

    fn survey(&mut self, place: Place, node: &Node, out: &mut Out) -> Next {
        self.facts.answered |= self.stack.is_empty();
        // Not while an interrupted business still waits, and once a call.
        if self.stack.iter().any(|f| f.digression) {
            return self.end(out);
        }
        if self.facts.surveyed {
            return self.by_outcome(node, "none");
        }
        self.facts.surveyed = true;
        match &node.prompt {
            Some(prompt) => self.speak(prompt, node.barge_in, out),
            None => self.speak_hotline(|h| &h.texts.survey, out),
        }
        let listen = self.node_listen(place, node);
        Next::Wait(Wait::Node, listen)
    }

    pub(super) fn draft(&mut self, category: String, priority: String, sla: String, title: String) -> TicketDraft {
        TicketDraft { category, priority, sla, title, facts: self.facts(), recording_ms: self.recorded }
    }

    fn action(&mut self, node: &Node) -> Next {
        let Kind::Action { call, with, timeout_ms, filler, .. } = &node.kind else {
            return Next::Broken("not an action".into());
        };
        let Some(action) = super::super::actions::find(&call.text) else {
            return Next::Broken(format!("there is no action {}", call.text));
        };
        let args = with.iter().map(|(name, e)| (name.text.clone(), self.work_out(e))).collect();
        let proved = self.proved_for(action, &args);
        if action.subject.is_some() && proved < action.level {
            self.trouble(format!("{} needs {}, only {} is proved", action.name, action.level.name(), proved.name()));
            return self.action_ended("denied", Value::Null);
        }
        let call = ActionCall {
            name: action.name.to_string(),
            args,
            timeout_ms: timeout_ms.unwrap_or(action.timeout_ms),
            filler: filler.as_ref().map(|f| self.render(f, true)),
            idempotent: action.idempotent,
            proved,
        };
        Next::Wait(Wait::Node, Await::Action(call))
    }

    pub(super) fn action_ended(&mut self, outcome: &str, data: Value) -> Next {
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        let set = Arc::clone(&self.set);
        let node = &set.flows()[place.flow].nodes[place.node];
        if let Kind::Action { save, .. } = &node.kind
            && outcome == "ok"
        {
            for (field, name) in save {
                self.scope.insert(name.clone(), data.get(&field.text).clone());
            }
        }
        // An outcome nobody foresaw is an error.
        let known = [outcome, "error", "timeout"].into_iter().find_map(|o| node.then.get(o)).or(node.go.as_ref());
        match known {
            Some(link) => Next::To(link.to.clone()),
            None => Next::Broken(format!("the action's outcome {outcome} leads nowhere")),
        }
    }

    pub(super) fn ticket_ended(&mut self, ticket: Option<Value>, out: &mut Out) -> Next {
        if self.wait == Wait::LastTicket {
            return self.last_ticket_ended(ticket, out);
        }
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        let Some(ticket) = ticket else {
            self.speak_hotline(|h| &h.texts.ticket_failed, out);
            return Next::Broken("the ticket could not be written".into());
        };
        self.facts.tickets += 1;
        self.recorded = None;
        self.scope.insert("ticket".into(), ticket);
        let set = Arc::clone(&self.set);
        let node = &set.flows()[place.flow].nodes[place.node];
        self.speak_prompt(node, out);
        self.by_go(node)
    }

    pub(super) fn transfer_ended(&mut self, result: TransferResult, out: &mut Out) -> Next {
        self.facts.bridged |= result == TransferResult::Connected;
        if self.wait == Wait::LastTransfer {
            return self.last_transfer_ended(result, out);
        }
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        let set = Arc::clone(&self.set);
        self.by_outcome(&set.flows()[place.flow].nodes[place.node], result.way())
    }

    pub(super) fn record_ended(&mut self, from_ms: u64, to_ms: u64) -> Next {
        self.counters.turns += 1;
        self.silent = 0;
        let Some(place) = self.here else { return Next::Broken("no flow has begun".into()) };
        let set = Arc::clone(&self.set);
        let node = &set.flows()[place.flow].nodes[place.node];
        let Kind::Record { slot, .. } = &node.kind else { return Next::Broken("not a recording".into()) };
        if to_ms.saturating_sub(from_ms) < MIN_RECORDING_MS {
            self.add_retry();
            return self.by_outcome(node, "max");
        }
        self.add_step();
        self.recorded = Some((from_ms, to_ms));
        let span = [("from_ms", from_ms), ("to_ms", to_ms)];
        let span = span.map(|(k, v)| (k, Value::Int(i64::try_from(v).unwrap_or(i64::MAX))));
        self.set_slot(&slot.text, Value::map(span));
        self.by_outcome(node, "filled")
    }

    pub(super) fn speak_prompt(&mut self, node: &Node, out: &mut Out) {
        if let Some(prompt) = &node.prompt {
            self.speak(prompt, node.barge_in, out);
        }
    }

    fn by_go(&mut self, node: &Node) -> Next {
        match &node.go {
            Some(link) => Next::To(link.to.clone()),
            None => Next::Broken(format!("the node {} leads nowhere", node.id)),
        }
    }

    pub(super) fn by_outcome(&mut self, node: &Node, outcome: &str) -> Next {
        match node.then.get(outcome).or(node.go.as_ref()) {
            Some(link) => Next::To(link.to.clone()),
            None => Next::Broken(format!("the outcome {outcome} of {} leads nowhere", node.id)),
        }
    }

    fn work_out(&mut self, e: &super::super::expr::Expr) -> Value {
        e.eval(&self.scope).unwrap_or_else(|err| {
            self.trouble(format!("`{}`: {err}", e.source()));
            Value::Null
        })
    }

    pub(super) fn holds(&mut self, e: &super::super::expr::Expr) -> bool {
        e.test(&self.scope).unwrap_or_else(|err| {
            self.trouble(format!("`{}`: {err}", e.source()));
            false
        })
    }
}
