//! Targets, outcomes and names: E002-E009, E016, E018.

use super::super::actions;
use super::super::hotline::Hotline;
use super::super::model::{Flow, Kind, Level, Link, MenuOption, Node, SlotType, Spot, Target};
use super::super::understood::Global;
use super::{Checker, World};
use std::collections::BTreeMap;

/// A way between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge<'a> {
    /// The outcome that takes it (an option's name for menus, `case` for branches, `go`).
    pub outcome: &'a str,
    /// The node, when the way stays in the flow.
    pub to: Option<usize>,
    /// Whether business goes well this way.
    pub happy: bool,
}

/// Outcomes that are not the happy path.
const UNHAPPY: [&str; 8] = ["max", "refuse", "error", "timeout", "fail", "busy", "closed", "none"];

/// The ways of a flow.
pub struct Graph<'a> {
    pub start: Option<usize>,
    pub edges: Vec<Vec<Edge<'a>>>,
    names: BTreeMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    pub fn new(flow: &'a Flow) -> Graph<'a> {
        let names: BTreeMap<&str, usize> = flow.nodes.iter().enumerate().map(|(i, n)| (n.id.as_str(), i)).collect();
        let place = |l: &Link| match &l.to {
            Target::Node(n) => names.get(n.as_str()).copied(),
            _ => None,
        };
        let edges = flow
            .nodes
            .iter()
            .map(|n| {
                // An option may have any name; an outcome's name says how it went.
                let happy = |i: usize, outcome: &str| i >= n.then.len() || !UNHAPPY.contains(&outcome);
                let ways = ways(n).into_iter().enumerate();
                ways.map(|(i, (outcome, link))| Edge { outcome, to: place(link), happy: happy(i, outcome) }).collect()
            })
            .collect();
        Graph { start: place(&flow.start), edges, names }
    }

    /// Nodes that can be reached from these by edges that pass `take`.
    pub fn reach(&self, from: &[usize], take: impl Fn(usize, &Edge<'a>) -> bool) -> Vec<bool> {
        let mut seen = vec![false; self.edges.len()];
        let mut todo: Vec<usize> = from.to_vec();
        while let Some(n) = todo.pop() {
            if std::mem::replace(&mut seen[n], true) {
                continue;
            }
            todo.extend(self.edges[n].iter().filter(|e| take(n, e)).filter_map(|e| e.to));
        }
        seen
    }

    /// Where a call may come in: the start, and what the caller may jump to from anywhere.
    pub fn roots(&self, flow: &Flow) -> Vec<usize> {
        let global = flow.globals.values().filter_map(|l| match &l.to {
            Target::Node(n) => self.names.get(n.as_str()).copied(),
            _ => None,
        });
        self.start.into_iter().chain(global).collect()
    }
}

/// Every way out of a node: first those of `then`.
pub fn ways(node: &Node) -> Vec<(&str, &Link)> {
    let mut all: Vec<(&str, &Link)> = node.then.iter().map(|(k, l)| (k.as_str(), l)).collect();
    all.extend(node.go.iter().map(|l| ("go", l)));
    match &node.kind {
        Kind::Menu { options } => all.extend(options.iter().map(|o| (o.name.as_str(), &o.go))),
        Kind::Branch { cases } => all.extend(cases.iter().map(|case| ("case", &case.go))),
        _ => {}
    }
    all
}

/// Outcomes that must lead somewhere.
fn outcomes(node: &Node) -> Vec<&'static str> {
    match &node.kind {
        Kind::Ask { .. } | Kind::Record { .. } => vec!["filled", "max"],
        Kind::Confirm => vec!["agree", "refuse", "max"],
        Kind::Menu { .. } => vec!["max"],
        Kind::Verify { .. } => vec!["pass", "fail"],
        Kind::Transfer { .. } => vec!["connected", "busy", "timeout", "closed"],
        Kind::Survey => vec!["scored", "none"],
        Kind::Action { call, .. } => actions::find(&call.text).map_or_else(Vec::new, |a| a.outcomes.to_vec()),
        _ => Vec::new(),
    }
}

pub fn check(c: &mut Checker<'_>, flow: &Flow, world: &World<'_>) {
    let graph = Graph::new(flow);
    target(c, flow, &flow.start, world);
    for link in flow.globals.values() {
        target(c, flow, link, world);
    }
    for node in &flow.nodes {
        for (_, link) in ways(node) {
            target(c, flow, link, world);
        }
        routed(c, node);
        names(c, flow, node, world);
        keyed(c, flow, node);
    }
    reached(c, flow, &graph);
    match flow.globals.get(&Global::Human) {
        None if !world.hotline.globals.contains_key(&Global::Human) => {
            let message = format!("the flow {} has no way to a person", flow.id);
            c.add("E008", flow.at, message, "global: {human: \"flow:human\"}");
        }
        Some(link) if !hands_over(flow, &graph, &link.to, world) => {
            let message = format!("who asks for a person in {} never reaches a transfer", flow.id);
            c.add("E008", link.at, message, "lead to a transfer node, or to flow:human");
        }
        _ => {}
    }
    turning(c, flow, &graph);
}

/// Whether a way leads to a transfer, here or in the flow that it leads to.
fn hands_over(flow: &Flow, graph: &Graph<'_>, to: &Target, world: &World<'_>) -> bool {
    let transfers = |f: &Flow| f.nodes.iter().any(|n| matches!(n.kind, Kind::Transfer { .. }));
    let by_flow = |name: &str| name != flow.id && world.all.iter().any(|f| f.id == name && transfers(f));
    match to {
        Target::Flow(name) => by_flow(name),
        Target::Node(name) => {
            let from: Vec<usize> = graph.names.get(name.as_str()).copied().into_iter().collect();
            let seen = graph.reach(&from, |_, _| true);
            flow.nodes.iter().zip(seen).filter(|(_, seen)| *seen).any(|(n, _)| {
                matches!(n.kind, Kind::Transfer { .. })
                    || ways(n).iter().any(|(_, l)| matches!(&l.to, Target::Flow(name) if by_flow(name)))
            })
        }
        Target::Return | Target::End => false,
    }
}

fn target(c: &mut Checker<'_>, flow: &Flow, link: &Link, world: &World<'_>) {
    match &link.to {
        Target::Node(n) if flow.find(n).is_none() => {
            let near = flow.nodes.iter().map(|x| x.id.as_str()).min_by_key(|x| distance(x, n));
            let mend = near.map_or_else(String::new, |x| format!("did you mean `{x}`?"));
            c.add("E002", link.at, format!("there is no node `{n}` in {}", flow.id), mend);
        }
        Target::Flow(f) if !world.flows.contains(f.as_str()) => {
            c.add("E016", link.at, format!("there is no flow `{f}`"), "add its file to the set, or go elsewhere");
        }
        _ => {}
    }
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<String>, Vec<String>) =
        (a.chars().map(String::from).collect(), b.chars().map(String::from).collect());
    ((1.0 - super::super::language::likeness(&a, &b)) * 1000.0) as usize
}

fn routed(c: &mut Checker<'_>, node: &Node) {
    let known = outcomes(node);
    for outcome in &known {
        if !node.then.contains_key(*outcome) && node.go.is_none() {
            let (kind, id) = (node.kind.name(), &node.id);
            let mend = format!("then: {{{outcome}: …}}");
            c.add("E003", node.at, format!("the outcome `{outcome}` of the {kind} node `{id}` leads nowhere"), mend);
        }
    }
    let bare = matches!(node.kind, Kind::Say | Kind::Set { .. } | Kind::Ticket { .. } | Kind::Flow { .. });
    for (outcome, link) in &node.then {
        if !known.contains(&outcome.as_str()) && !matches!(node.kind, Kind::Action { .. }) {
            let mend = if bare { "use go:".to_string() } else { format!("outcomes are {}", known.join(", ")) };
            c.add("E003", link.at, format!("a {} node has no outcome `{outcome}`", node.kind.name()), mend);
        } else if !known.is_empty() && !known.contains(&outcome.as_str()) {
            let mend = format!("outcomes are {}", known.join(", "));
            c.add("E016", link.at, format!("this action has no outcome `{outcome}`"), mend);
        }
    }
    let leads = match &node.kind {
        Kind::End => true,
        Kind::Branch { cases } => !cases.is_empty(),
        Kind::Menu { options } => !options.is_empty(),
        _ => node.go.is_some() || !node.then.is_empty(),
    };
    if !leads {
        c.add("E006", node.at, format!("nothing follows the node `{}`", node.id), "go: end");
    }
    if let Kind::Branch { cases } = &node.kind {
        match cases.iter().position(|case| case.condition.is_none()) {
            None => {
                let message = format!("the branch `{}` has no else", node.id);
                c.add("E005", node.at, message, "- {else: true, go: somewhere}");
            }
            Some(i) if i + 1 < cases.len() => {
                c.add("E005", cases[i + 1].at, "a case after `else` is never tried", "put `else` last");
            }
            Some(_) => {}
        }
    }
    if let Some((_, at)) = &node.skip_if
        && matches!(node.kind, Kind::Menu { .. } | Kind::Branch { .. } | Kind::Transfer { .. } | Kind::End)
    {
        let message = format!("a {} node cannot be passed over: nobody knows which way it leads on", node.kind.name());
        c.add("E003", *at, message, "put a branch before it");
    }
}

fn names(c: &mut Checker<'_>, flow: &Flow, node: &Node, world: &World<'_>) {
    let h = world.hotline;
    let listed = |c: &mut Checker<'_>, spot: &Spot, list: &[String], what: &str, key: &str| {
        if !list.contains(&spot.text) {
            let mend = format!("{key}: in hotline.yaml has {}", list.join(", "));
            c.add("E016", spot.at, format!("there is no {what} `{}`", spot.text), mend);
        }
    };
    match &node.kind {
        Kind::Action { call, with, save, .. } => {
            let Some(action) = actions::find(&call.text) else {
                let known: Vec<&str> = actions::ACTIONS.iter().map(|a| a.name).collect();
                let mend = format!("actions are {}", known.join(", "));
                return c.add("E016", call.at, format!("there is no action `{}`", call.text), mend);
            };
            for (name, _) in with {
                if !action.inputs.contains(&name.text.as_str()) {
                    let mend = format!("it takes {}", action.inputs.join(", "));
                    c.add("E016", name.at, format!("{} takes no `{}`", action.name, name.text), mend);
                }
            }
            for input in action.inputs {
                if !with.iter().any(|(n, _)| n.text == *input) {
                    let mend = format!("with: {{{input}: …}}");
                    c.add("E016", node.at, format!("{} needs `{input}`", action.name), mend);
                }
            }
            for (field, _) in save {
                if !action.outputs.contains(&field.text.as_str()) {
                    let mend = format!("it gives {}", action.outputs.join(", "));
                    c.add("E016", field.at, format!("{} gives no `{}`", action.name, field.text), mend);
                }
            }
        }
        Kind::Verify { level, .. } if *level > Level::L2 => {
            let message = format!("nobody can be verified at {} here yet: this always takes `fail`", level.name());
            c.add("W107", node.at, message, "level: l2, or a transfer to a person");
        }
        Kind::Ticket { category, .. } => listed(c, category, &h.categories, "ticket category", "categories"),
        Kind::Transfer { queue, skill, .. } => {
            listed(c, queue, &h.queues, "queue", "queues");
            if let Some(skill) = skill {
                listed(c, skill, &h.skills, "skill", "skills");
            }
        }
        Kind::Flow { flow: name } if !world.flows.contains(name.text.as_str()) => {
            c.add("E016", name.at, format!("there is no flow `{}`", name.text), "add its file to the set");
        }
        Kind::Menu { options: all } => options(c, flow, all),
        _ => {}
    }
}

fn options(c: &mut Checker<'_>, flow: &Flow, options: &[MenuOption]) {
    for o in options {
        if let Some(i) = &o.intent
            && !flow.intents.iter().any(|x| x.name == i.text)
        {
            let message = format!("the flow {} has no intent `{}`", flow.id, i.text);
            c.add("E016", i.at, message, "an option's intent is one of its own flow");
        }
        if o.say.is_empty() && o.key.is_none() && o.intent.is_none() {
            c.add("E016", o.at, format!("nothing chooses the option `{}`", o.name), "give it say: or key:");
        }
        if o.key == Some('0') {
            c.add("E016", o.at, "the key 0 fetches a person everywhere", "take another key");
        }
        let twice = |s: &&Spot| options.iter().any(|x| x.name != o.name && x.say.iter().any(|y| y.text == s.text));
        if let Some(s) = o.say.iter().find(twice) {
            c.add("E016", s.at, format!("`{}` chooses two options", s.text), "keep it in one of the two");
        }
        if o.key.is_some() && options.iter().filter(|x| x.key == o.key).count() > 1 {
            c.add("E016", o.at, format!("the key of `{}` is given twice", o.name), "give each option its own key");
        }
    }
}

fn keyed(c: &mut Checker<'_>, flow: &Flow, node: &Node) {
    if let Kind::Menu { options } = &node.kind
        && !node.speech
        && options.iter().all(|o| o.key.is_none())
    {
        let message = format!("`{}` takes keys only, and none of its options has one", node.id);
        c.add("E018", node.at, message, "give the options key:, or take speech too");
    }
    let Kind::Ask { slot } = &node.kind else { return };
    let words = matches!(flow.slot(&slot.text).map(|d| &d.kind), Some(SlotType::Text | SlotType::Record));
    if words && !node.speech {
        c.add("E018", node.at, format!("`{}` asks for words that no key can say", node.id), "input: [speech]");
    }
    let digits = flow.slot(&slot.text).map(|d| &d.kind);
    let numeric = matches!(digits, Some(SlotType::Digits(..) | SlotType::Phone | SlotType::OrderRef));
    if numeric && !node.keys {
        c.add(
            "E018",
            node.at,
            format!("`{}` asks for digits that cannot be pressed", node.id),
            "input: [speech, dtmf]",
        );
    }
}

fn reached(c: &mut Checker<'_>, flow: &Flow, graph: &Graph<'_>) {
    if graph.start.is_none() {
        return; // a start that is nowhere is said once (E002), not again for every node behind it
    }
    let seen = graph.reach(&graph.roots(flow), |_, _| true);
    for (node, seen) in flow.nodes.iter().zip(seen) {
        if !seen {
            let mend = "lead to it from somewhere, or remove it";
            c.add("E007", node.at, format!("the node `{}` cannot be reached", node.id), mend);
        }
    }
}

/// A circle of nodes that never waits for anybody turns until the guard stops it.
fn turning(c: &mut Checker<'_>, flow: &Flow, graph: &Graph<'_>) {
    let pauses = |n: usize| flow.nodes[n].kind.listens() || matches!(flow.nodes[n].kind, Kind::Flow { .. });
    for n in 0..flow.nodes.len() {
        if pauses(n) {
            continue;
        }
        let next: Vec<usize> = graph.edges[n].iter().filter_map(|e| e.to).filter(|t| !pauses(*t)).collect();
        let seen = graph.reach(&next, |from, e| !pauses(from) && e.to.is_some_and(|t| !pauses(t)));
        if seen[n] {
            let message = format!("from `{}` a circle leads back without ever asking the caller", flow.nodes[n].id);
            c.add("E009", flow.nodes[n].at, message, "let one of its nodes ask, or lead out of it");
        }
    }
    // And a circle nothing leads out of.
    let ends: Vec<usize> = (0..flow.nodes.len())
        .filter(|n| graph.edges[*n].iter().any(|e| e.to.is_none()) || matches!(flow.nodes[*n].kind, Kind::End))
        .collect();
    for n in 0..flow.nodes.len() {
        let seen = graph.reach(&[n], |_, _| true);
        if !graph.edges[n].is_empty() && !ends.iter().any(|e| seen[*e]) {
            let message = format!("from `{}` nothing ever ends the call", flow.nodes[n].id);
            c.add("E009", flow.nodes[n].at, message, "lead to end, return or another flow");
        }
    }
}

pub fn check_hotline(c: &mut Checker<'_>, h: &Hotline, world: &World<'_>) {
    for (key, intent) in &h.entry.keys {
        if !world.intents.contains(intent.text.as_str()) {
            let known: Vec<&str> = world.intents.iter().copied().collect();
            let message = format!("the key {key} stands for the intent `{}`, which no flow has", intent.text);
            c.add("E016", intent.at, message, format!("intents are {}", known.join(", ")));
        }
    }
    for link in h.globals.values() {
        match &link.to {
            Target::Flow(f) if world.flows.contains(f.as_str()) => {}
            Target::End | Target::Return => {}
            other => c.add("E016", link.at, format!("`{other}` is no flow of the set"), "write flow:name"),
        }
    }
    let person = h.globals.get(&Global::Human).and_then(|l| match &l.to {
        Target::Flow(f) => world.all.iter().find(|x| x.id == *f),
        _ => None,
    });
    let hands_over = person.is_some_and(|f| f.nodes.iter().any(|n| matches!(n.kind, Kind::Transfer { .. })));
    if !hands_over {
        let mend = "global: {human: \"flow:human\"}, and a transfer node in that flow";
        c.add("E008", h.entry.at, "the hotline has no way to a person", mend);
    }
    let (queue, skill) = &h.person;
    if !h.queues.contains(&queue.text) {
        let message = format!("`person:` names the queue `{}`, which is not in `queues:`", queue.text);
        c.add("E016", queue.at, message, format!("queues are {}", h.queues.join(", ")));
    }
    if let Some(skill) = skill.as_ref().filter(|s| !h.skills.contains(&s.text)) {
        let message = format!("`person:` names the skill `{}`, which is not in `skills:`", skill.text);
        c.add("E016", skill.at, message, format!("skills are {}", h.skills.join(", ")));
    }
    if h.oos.is_empty() {
        let message =
            "without sentences that are no business of this hotline the nearest business is taken for everything";
        c.add("I202", h.entry.at, message, "oos: [今天天气怎么样, 给我讲个笑话, …], twenty or so");
    }
    if !h.categories.iter().any(|x| x == "回拨") {
        c.add("E016", h.entry.at, "`categories:` lacks 回拨, the call-back ticket of the last resort", "add 回拨");
    }
}
