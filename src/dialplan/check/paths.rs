//! What holds on every way through a flow: steps (E012), identity (E013), read-back (E014).

use super::super::actions;
use super::super::expr::Expr;
use super::super::machine::mentioned_slots;
use super::super::model::{Flow, Kind, Level, Node, SlotType, Spot};
use super::Checker;
use super::graph::Graph;

/// Paths tried before the count of steps is given up as a lower bound.
const MAX_WALK: u32 = 200_000;

/// Flows inside flows that are followed.
const MAX_CALLS: u32 = 4;

/// The nodes of the longest happy path of a flow; one that goes through another flow counts its steps.
fn longest(flow: &Flow, graph: &Graph<'_>, all: &[Flow], calls: u32) -> Vec<usize> {
    let Some(start) = graph.start else { return Vec::new() };
    let inside = |node: &Node| match &node.kind {
        Kind::Flow { flow: name } if calls < MAX_CALLS => {
            all.iter().find(|f| f.id == name.text).map_or(0, |f| longest(f, &Graph::new(f), all, calls + 1).len())
        }
        _ => 0,
    };
    let inside = flow.nodes.iter().map(inside).collect();
    let on_path = vec![false; flow.nodes.len()];
    let mut walk = Walk { flow, graph, inside, on_path, left: MAX_WALK, best: Vec::new() };
    walk.go(start, 0, None, &mut Vec::new());
    walk.best
}

pub fn check(c: &mut Checker<'_>, flow: &Flow, graph: &Graph<'_>, all: &[Flow]) {
    let best = longest(flow, graph, all, 0);
    let steps = best.len() as u32;
    if steps > u32::from(flow.limits.max_steps) {
        let names: Vec<&str> = best.iter().map(|n| flow.nodes[*n].id.as_str()).collect();
        let message = format!(
            "the longest happy path takes {steps} caller steps ({}); max_steps is {}",
            names.join(" → "),
            flow.limits.max_steps
        );
        let mend = "ask less, use what is known, or split the business; a read-back right after its ask is no step";
        c.add("E012", flow.at, message, mend);
    }
    for (i, node) in flow.nodes.iter().enumerate() {
        let Kind::Action { call, with, .. } = &node.kind else { continue };
        let Some(action) = actions::find(&call.text) else { continue };
        identity(c, flow, graph, i, node, action);
        if let Some((name, given)) = action.subject.and_then(|s| with.iter().find(|(n, _)| n.text == s)) {
            about_the_order(c, name, given, action);
        }
        if !action.confirm.is_empty() {
            let slots: Vec<String> = with
                .iter()
                .filter(|(name, _)| action.confirm.contains(&name.text.as_str()))
                .flat_map(|(_, e)| e.paths().into_iter().filter_map(|p| p.slot().map(str::to_string)))
                .collect();
            read_back(c, flow, graph, i, action.name, &slots);
        }
    }
}

/// What was proved was proved for the variable `order`: an order under another name is refused at run time.
fn about_the_order(c: &mut Checker<'_>, name: &Spot, given: &Expr, action: &actions::Action) {
    let fits = given.carried().iter().any(|p| p.root == "order");
    if !fits {
        let message =
            format!("{} acts on the order that the caller was verified for, and that one is `order`", action.name);
        let mend = format!("save: {{order: order}}, then {}: order.id", name.text);
        c.add("E013", name.at, message, mend);
    }
}

fn identity(c: &mut Checker<'_>, flow: &Flow, graph: &Graph<'_>, at: usize, node: &Node, action: &actions::Action) {
    // At L1 the backend compares the caller's number, which the flow's header promises to hand over.
    if action.level <= Level::L1 && flow.verify >= action.level {
        return;
    }
    // A node that can be passed over proves nothing.
    let proves = |n: usize, outcome: &str| {
        let node = &flow.nodes[n];
        let proof = matches!(node.kind, Kind::Verify { level, .. } if level >= action.level);
        outcome == "pass" && proof && node.skip_if.is_none()
    };
    let unproven = graph.reach(&graph.roots(flow), |n, e| !proves(n, e.outcome));
    if unproven[at] {
        let (name, level) = (action.name, action.level.name());
        let mend = format!("put a verify node (level: {level}) on every way to it");
        c.add("E013", node.at, format!("{name} needs {level}, and a way leads here without it"), mend);
    }
}

fn read_back(c: &mut Checker<'_>, flow: &Flow, graph: &Graph<'_>, at: usize, action: &str, slots: &[String]) {
    let agreed = |n: usize, outcome: &str| {
        let node = &flow.nodes[n];
        outcome == "agree"
            && matches!(node.kind, Kind::Confirm)
            && node.skip_if.is_none()
            && node.prompt.as_ref().is_some_and(|p| {
                // Whichever wording the caller hears.
                p.wordings().all(|w| slots.iter().all(|s| w.holes().any(|(path, _)| path.slot() == Some(s))))
            })
    };
    let of_these = |name: &str| slots.iter().any(|s| name.strip_prefix("slots.") == Some(s));
    let fills = |n: &usize| match &flow.nodes[*n].kind {
        Kind::Ask { slot } => slots.contains(&slot.text),
        Kind::Set { set } => set.iter().any(|(name, _)| of_these(&name.text)),
        // "改到公司" where options are offered fills the address too.
        Kind::Menu { .. } => flow.slots.iter().any(|d| d.kind == SlotType::Address && slots.contains(&d.name)),
        _ => false,
    };
    let from: Vec<usize> = graph.roots(flow).into_iter().chain((0..flow.nodes.len()).filter(fills)).collect();
    if slots.is_empty() || graph.reach(&from, |n, e| !agreed(n, e.outcome))[at] {
        let node = &flow.nodes[at];
        let mend = "put a confirm node whose prompt reads the value back ({slots.…}) between asking and acting";
        c.add("E014", node.at, format!("{action} needs the caller's yes to a read-back on every way to it"), mend);
    }
}

/// The longest happy path, counted as the machine counts (see `machine::Counters::steps`).
struct Walk<'a, 'f> {
    flow: &'f Flow,
    graph: &'a Graph<'f>,
    /// Steps inside the flow that a node goes through.
    inside: Vec<usize>,
    on_path: Vec<bool>,
    left: u32,
    best: Vec<usize>,
}

impl Walk<'_, '_> {
    fn go(&mut self, n: usize, depth: u32, filled: Option<&str>, steps: &mut Vec<usize>) {
        if self.on_path[n] || self.left == 0 || depth > 200 {
            return;
        }
        self.left -= 1;
        self.on_path[n] = true;
        let flow = self.flow;
        let node = &flow.nodes[n];
        let (counts, filled) = match &node.kind {
            Kind::Ask { slot } => (true, Some(slot.text.as_str())),
            Kind::Confirm => {
                let said = node.prompt.as_ref().map_or_else(Vec::new, mentioned_slots);
                let read_back = filled.is_some_and(|f| said.iter().any(|s| s == f));
                (!read_back, None)
            }
            Kind::Menu { .. } | Kind::Record { .. } => (true, None),
            _ => (false, filled),
        };
        let own = usize::from(counts) + self.inside[n];
        steps.extend(std::iter::repeat_n(n, own));
        let mut ends = matches!(node.kind, Kind::End) || self.graph.edges[n].is_empty();
        for i in 0..self.graph.edges[n].len() {
            let edge = self.graph.edges[n][i];
            if !edge.happy {
                continue;
            }
            match edge.to {
                Some(to) => self.go(to, depth + 1, filled, steps),
                None => ends = true,
            }
        }
        if ends && steps.len() > self.best.len() {
            self.best.clone_from(steps);
        }
        steps.truncate(steps.len() - own);
        self.on_path[n] = false;
    }
}
