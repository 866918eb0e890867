//! Nodes.

use super::super::model::{Case, Kind, Link, MenuOption, Node, Spot};
use super::super::problem::At;
use super::super::prompt::Template;
use super::flow::level;
use super::tree::{Data, Tree};
use super::{Block, Reader};
use std::collections::BTreeMap;

/// Kinds of nodes there are.
pub const KINDS: [&str; 14] = [
    "say", "ask", "confirm", "menu", "verify", "action", "branch", "set", "record", "flow", "ticket", "transfer",
    "survey", "end",
];

pub fn all(r: &mut Reader<'_>, t: &Tree) -> Vec<Node> {
    let mut nodes = Vec::new();
    let Some(b) = r.block(t, "`nodes`") else { return nodes };
    if b.pairs.is_empty() {
        r.wrong(t.at, "a flow needs at least one node", "");
    }
    for (key, value) in b.pairs {
        r.id(&key.name, key.at, "a node");
        if let Some(node) = one(r, &key.name, key.at, value) {
            nodes.push(node);
        }
    }
    nodes
}

fn one(r: &mut Reader<'_>, id: &str, at: At, t: &Tree) -> Option<Node> {
    let mut b = r.block(t, format!("the node `{id}`"))?;
    let word = r.need_text(&mut b, "do")?;
    b.what = format!("the {word} node `{id}`");
    let kind = match kind(r, &mut b, &word, at) {
        Some(kind) => kind,
        // Its other keys are not judged: most belong to what is missing.
        None if word == "remote" || !KINDS.contains(&word.as_str()) => return None,
        None => Kind::Say,
    };
    idle(r, &b, &kind);
    let (speech, keys) = inputs(r, &mut b);
    let node = Node {
        id: id.to_string(),
        at,
        prompt: r.opt_template(&mut b, "prompt"),
        skip_if: b.take_some("skip_if").and_then(|t| r.expr(t).map(|e| (e, t.at))),
        retry: r.retry(&mut b),
        keys,
        speech,
        barge_in: r.flag(&mut b, "barge_in", true),
        wait_ms: r.millis(&mut b, "wait_s", 60.0),
        answers: r.flag(&mut b, "answers", false),
        then: then(r, &mut b),
        go: r.opt_link(&mut b, "go"),
        kind,
    };
    r.done(b);
    Some(node)
}

/// Keys that every node may have and that do nothing at one of this kind.
fn idle(r: &mut Reader<'_>, b: &Block<'_>, kind: &Kind) {
    const QUESTION: &[&str] = &["retry", "wait_s", "input"];
    let (asks, speaks, leads) = match kind {
        Kind::Ask { .. } | Kind::Confirm | Kind::Menu { .. } | Kind::Survey => (true, true, true),
        Kind::Say | Kind::Record { .. } | Kind::Ticket { .. } | Kind::Transfer { .. } => (false, true, true),
        Kind::Verify { .. } | Kind::Action { .. } | Kind::Set { .. } | Kind::Flow { .. } => (false, false, true),
        Kind::Branch { .. } => (false, false, false),
        Kind::End => (false, true, false),
    };
    for (key, _) in &b.pairs {
        let name = key.name.as_str();
        let does = (asks || !QUESTION.contains(&name)) && (speaks || name != "prompt") && (leads || name != "go");
        if !does {
            r.idle(key.at, format!("`{name}` does nothing at a {} node", kind.name()));
        }
    }
}

fn kind(r: &mut Reader<'_>, b: &mut Block<'_>, word: &str, at: At) -> Option<Kind> {
    Some(match word {
        "say" => Kind::Say,
        "ask" => Kind::Ask { slot: r.need_spot(b, "slot")? },
        "confirm" => Kind::Confirm,
        "menu" => Kind::Menu { options: options(r, b) },
        "verify" => {
            let level = match level(r, b, "level") {
                Some(level) => level,
                None => {
                    r.wrong(at, "a verify node needs `level:`", "level: l2");
                    return None;
                }
            };
            Kind::Verify { level, prompts: verify_prompts(r, b) }
        }
        "action" => action(r, b)?,
        "branch" => Kind::Branch { cases: cases(r, b) },
        "set" => Kind::Set { set: assignments(r, b, "set") },
        "record" => {
            let max_ms = r.millis(b, "max_s", 300.0).unwrap_or(60_000);
            Kind::Record { slot: r.need_spot(b, "slot")?, max_ms }
        }
        "flow" => Kind::Flow { flow: r.need_spot(b, "flow")? },
        "ticket" => ticket(r, b)?,
        "transfer" => transfer(r, b)?,
        "survey" => Kind::Survey,
        "end" => Kind::End,
        "remote" => {
            let mend = "use an action node; the kind `remote` comes with a later version";
            r.wrong(at, "the node kind `remote` is not available yet", mend);
            return None;
        }
        _ => {
            r.wrong(at, format!("there is no node kind `{word}`"), format!("kinds are {}", KINDS.join(", ")));
            return None;
        }
    })
}

fn inputs(r: &mut Reader<'_>, b: &mut Block<'_>) -> (bool, bool) {
    let Some(t) = b.take_some("input") else { return (true, true) };
    let given = r.spot_list(t, "input");
    for s in &given {
        if s.text != "speech" && s.text != "dtmf" {
            r.wrong(s.at, format!("there is no input `{}`", s.text), "inputs are speech and dtmf");
        }
    }
    let has = |name: &str| given.iter().any(|s| s.text == name);
    if !has("speech") && !has("dtmf") {
        r.wrong(t.at, "a node that takes no input can never be answered", "input: [speech, dtmf]");
    }
    (has("speech"), has("dtmf"))
}

fn then(r: &mut Reader<'_>, b: &mut Block<'_>) -> BTreeMap<String, Link> {
    let Some(t) = b.take_some("then") else { return BTreeMap::new() };
    let Some(inner) = r.block(t, "`then`") else { return BTreeMap::new() };
    inner.pairs.into_iter().filter_map(|(k, v)| Some((k.name.clone(), r.link(v)?))).collect()
}

fn options(r: &mut Reader<'_>, b: &mut Block<'_>) -> Vec<MenuOption> {
    let mut found = Vec::new();
    let Some(t) = r.need(b, "options") else { return found };
    let Some(block) = r.block(t, "`options`") else { return found };
    for (key, value) in block.pairs {
        let Some(mut b) = r.block(value, format!("the option `{}`", key.name)) else { continue };
        let say = r.spots(&mut b, "say");
        let pressed = r.opt_text(&mut b, "key");
        let mut chars = pressed.as_deref().unwrap_or("").chars();
        let (mut digit, more) = (chars.next(), chars.next());
        if pressed.is_some() && (more.is_some() || !digit.is_some_and(|c| c.is_ascii_digit() || c == '*')) {
            r.wrong(value.at, "`key` must be one of 0-9 and *", "key: \"1\"");
            digit = None;
        }
        let intent_at = b.take_some("intent");
        let intent = intent_at.and_then(|t| r.text(t, "`intent`").map(|text| Spot { text, at: t.at }));
        let go = r.need(&mut b, "go").and_then(|t| r.link(t));
        r.done(b);
        let Some(go) = go else { continue };
        found.push(MenuOption { name: key.name.clone(), at: key.at, say, key: digit, intent, go });
    }
    found
}

fn verify_prompts(r: &mut Reader<'_>, b: &mut Block<'_>) -> BTreeMap<String, Template> {
    let mut found = BTreeMap::new();
    let Some(t) = b.take_some("prompts") else { return found };
    let Some(mut b) = r.block(t, "`prompts`") else { return found };
    for name in ["last4", "name"] {
        if let Some(p) = r.opt_template(&mut b, name) {
            found.insert(name.to_string(), p);
        }
    }
    r.done(b);
    found
}

fn assignments(r: &mut Reader<'_>, b: &mut Block<'_>, key: &'static str) -> Vec<(Spot, super::Expr)> {
    let Some(t) = b.take_some(key) else { return Vec::new() };
    let Some(inner) = r.block(t, format!("`{key}`")) else { return Vec::new() };
    let pairs = inner.pairs;
    pairs.into_iter().filter_map(|(k, v)| Some((Spot { text: k.name.clone(), at: k.at }, r.expr(v)?))).collect()
}

fn action(r: &mut Reader<'_>, b: &mut Block<'_>) -> Option<Kind> {
    let call = r.need_spot(b, "call");
    let with = assignments(r, b, "with");
    let mut save = Vec::new();
    if let Some(t) = b.take_some("save")
        && let Some(inner) = r.block(t, "`save`")
    {
        for (k, v) in inner.pairs {
            if let Some(name) = r.text(v, "a name in `save`") {
                r.id(&name, v.at, "a variable");
                save.push((Spot { text: k.name.clone(), at: k.at }, name));
            }
        }
    }
    let timeout_ms = r.millis(b, "timeout_s", 60.0);
    let filler = r.opt_template(b, "filler");
    let _ = r.flag(b, "idempotent", true);
    Some(Kind::Action { call: call?, with, save, timeout_ms, filler })
}

fn cases(r: &mut Reader<'_>, b: &mut Block<'_>) -> Vec<Case> {
    let mut found = Vec::new();
    let Some(t) = r.need(b, "cases") else { return found };
    for case in r.list(t, "cases") {
        let Some(mut b) = r.block(case, "a case") else { continue };
        let condition = b.take_some("if");
        let otherwise = b.take_some("else");
        let expr = condition.and_then(|t| r.expr(t));
        match (condition, otherwise) {
            (Some(_), None) => {}
            (None, Some(t)) if t.data == Data::Bool(true) => {}
            _ => r.wrong(case.at, "a case has either `if:` or `else: true`", "- {else: true, go: somewhere}"),
        }
        let go = r.need(&mut b, "go").and_then(|t| r.link(t));
        r.done(b);
        if let Some(go) = go
            && (expr.is_some() || otherwise.is_some())
        {
            let at = condition.or(otherwise).map_or(case.at, |t| t.at);
            found.push(Case { at, condition: expr, go });
        }
    }
    found
}

fn ticket(r: &mut Reader<'_>, b: &mut Block<'_>) -> Option<Kind> {
    let category = r.need_spot(b, "category");
    let priority = r.need_spot(b, "priority");
    if let Some(p) = &priority
        && !["P0", "P1", "P2", "P3"].contains(&p.text.as_str())
    {
        r.wrong(p.at, format!("`{}` is no priority", p.text), "P0 (at once) to P3");
    }
    let sla = r.need_text(b, "sla");
    let title = r.opt_template(b, "title");
    Some(Kind::Ticket { category: category?, priority: priority?.text, sla: sla?, title })
}

fn transfer(r: &mut Reader<'_>, b: &mut Block<'_>) -> Option<Kind> {
    let queue = r.need_spot(b, "queue");
    let skill = b.take_some("skill").and_then(|t| r.text(t, "`skill`").map(|text| Spot { text, at: t.at }));
    let mode = r.opt_text(b, "mode").unwrap_or_else(|| "warm".into());
    if mode != "warm" && mode != "cold" {
        r.wrong(b.at, format!("`{mode}` is no way to hand over"), "mode: warm or mode: cold");
    }
    let announce = r.opt_template(b, "announce");
    Some(Kind::Transfer { queue: queue?, skill, warm: mode == "warm", announce })
}
