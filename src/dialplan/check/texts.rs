//! Prompts, slots, examples: E004, E010, E011, E015, E017, W101-W106, I201.

use super::super::expr::{Expr, Path};
use super::super::hotline::Hotline;
use super::super::model::{Flow, Kind, Node, PiiKind, Retry, Spot};
use super::super::problem::{At, Problem};
use super::super::prompt::{self, Filter, Template, Wording};
use super::{Checker, fields};
use crate::speech::Lang;
use std::collections::BTreeSet;

/// Longest prompt in characters (about 18 s of speech).
const MAX_PROMPT: usize = 80;
/// Examples that an intent should have.
const FEW: usize = 25;
/// What a greeting must give notice of, and words that do.
const NOTICES: [(&str, &[&str]); 2] = [
    ("that the call is recorded", &["录音", "record"]),
    ("that a machine speaks", &["智能", "机器人", "语音助手", "自动", "virtual", "automated", "robot", "assistant"]),
];
/// Likeness from which two examples are the same to a classifier.
const SAME: f32 = 0.9;
/// Names every expression may use.
const KNOWN: [&str; 6] = ["slots", "session", "profile", "caller", "ticket", "csat"];

/// The hotline's own sentences.
pub fn check_hotline(c: &mut Checker<'_>, h: &Hotline) {
    let more = ["a", "b"].map(String::from);
    let vars: BTreeSet<String> = KNOWN.iter().filter(|k| **k != "slots").map(|k| k.to_string()).chain(more).collect();
    if h.lang == Lang::En {
        english(c, h.templates());
    }
    let said: String = h.greeting.text.parts.iter().filter_map(|p| p.fixed()).collect();
    for (what, words) in NOTICES {
        if !words.iter().any(|w| said.to_lowercase().contains(w)) {
            c.add("W108", h.greeting.at, format!("the greeting does not say {what}"), "callers must be told");
        }
    }
    for wording in h.templates().flat_map(Template::wordings) {
        long(c, wording);
        for (path, filter) in wording.holes() {
            if vars.contains(&path.root) {
                masked(c, PiiKind::None, path, filter, wording.at);
            } else {
                let message = format!("the hotline's own sentences do not know `{}`", path.root);
                c.add("E011", wording.at, message, "they know session, profile, caller, ticket; and clarify: a and b");
            }
        }
    }
}

pub fn check(c: &mut Checker<'_>, flow: &Flow, hotline: &Hotline) {
    let vars = variables(flow);
    let mut used: BTreeSet<String> = BTreeSet::new();
    for node in &flow.nodes {
        prompts(c, flow, node, &vars, &mut used);
        if hotline.lang == Lang::En {
            english(c, templates(node).into_iter());
        }
        expressions(c, flow, node, &vars, &mut used);
        asked(c, flow, node);
        filler(c, node);
    }
    slots(c, flow, &used);
    if flow.tests.len() < 3 {
        let n = flow.tests.len();
        c.add("W104", flow.at, format!("the flow {} has {n} tests", flow.id), "write at least three under `tests:`");
    }
    for intent in &flow.intents {
        if intent.examples.len() < FEW {
            let message = format!("the intent `{}` has {} examples", intent.name, intent.examples.len());
            c.add("I201", intent.at, message, "25 and more are understood better");
        }
    }
}

/// Names that actions and set nodes define.
fn variables(flow: &Flow) -> BTreeSet<String> {
    let mut vars: BTreeSet<String> = KNOWN.iter().map(|k| k.to_string()).collect();
    for node in &flow.nodes {
        match &node.kind {
            Kind::Action { save, .. } => vars.extend(save.iter().map(|(_, name)| name.clone())),
            Kind::Set { set } => vars.extend(set.iter().map(|(n, _)| n.text.clone())),
            _ => {}
        }
    }
    vars
}

fn templates(node: &Node) -> Vec<&Template> {
    let mut all: Vec<&Template> = node.prompt.iter().chain(node.retry.prompts()).collect();
    match &node.kind {
        Kind::Verify { prompts, .. } => all.extend(prompts.values()),
        Kind::Action { filler, .. } => all.extend(filler),
        Kind::Ticket { title, .. } => all.extend(title),
        Kind::Transfer { announce, .. } => all.extend(announce),
        _ => {}
    }
    all
}

fn prompts(c: &mut Checker<'_>, flow: &Flow, node: &Node, vars: &BTreeSet<String>, used: &mut BTreeSet<String>) {
    let silent = matches!(
        node.kind,
        Kind::Action { .. }
            | Kind::Branch { .. }
            | Kind::Set { .. }
            | Kind::Flow { .. }
            | Kind::End
            | Kind::Verify { .. }
            | Kind::Survey
            | Kind::Transfer { .. }
    );
    if node.prompt.is_none() && !silent {
        c.add("E004", node.at, format!("the {} node `{}` says nothing", node.kind.name(), node.id), "prompt: \"…\"");
    }
    for t in templates(node) {
        for wording in t.wordings() {
            long(c, wording);
            for (path, filter) in wording.holes() {
                known_path(c, flow, path, wording.at, vars, used);
                let spoken = !matches!(&node.kind, Kind::Transfer { announce: Some(a), .. } if std::ptr::eq(a, t));
                if spoken {
                    let pii = path.slot().and_then(|s| flow.slot(s)).map_or(PiiKind::None, |s| s.pii);
                    masked(c, pii, path, filter, wording.at);
                }
            }
        }
    }
}

/// Prompts that a hotline in English would speak in Chinese.
fn english<'a>(c: &mut Checker<'_>, templates: impl Iterator<Item = &'a Template>) {
    let chinese = |t: &&Template| t.en.is_none() && t.audio.is_none() && !t.text.is_english();
    for t in templates.filter(chinese).filter(|t| t.at != At::default()) {
        c.add("W105", t.at, "the hotline speaks English, and this prompt has no English wording", "add en:");
    }
}

fn long(c: &mut Checker<'_>, wording: &Wording) {
    if wording.length() > MAX_PROMPT {
        let message = format!("a prompt of {} characters is too long to listen to", wording.length());
        c.add("W102", wording.at, message, "say it in 80 characters or in two nodes");
    }
}

/// `pii` is what the slot is declared as, where it is one.
fn masked(c: &mut Checker<'_>, pii: PiiKind, path: &Path, filter: Option<Filter>, at: At) {
    let name = match prompt::kind_by_name(path) {
        PiiKind::None => pii,
        by_name => by_name,
    };
    let fine = match name {
        PiiKind::None => true,
        PiiKind::Address => matches!(filter, Some(Filter::Segments | Filter::Mask)),
        PiiKind::Name => matches!(filter, Some(Filter::MaskName | Filter::Mask)),
        _ => matches!(filter, Some(Filter::Mask)),
    };
    if !fine {
        let filter = match name {
            PiiKind::Address => "segments",
            PiiKind::Name => "mask_name",
            _ => "mask",
        };
        let mend = format!("write {{{path}|{filter}}}");
        c.add("E015", at, format!("the prompt speaks personal data ({path}) without a masking filter"), mend);
    }
}

fn known_path(
    c: &mut Checker<'_>,
    flow: &Flow,
    path: &Path,
    at: At,
    vars: &BTreeSet<String>,
    used: &mut BTreeSet<String>,
) {
    if path.root == "slots" {
        let Some(slot) = path.slot() else { return };
        used.insert(slot.to_string());
        if flow.slot(slot).is_none() {
            let known: Vec<&str> = flow.slots.iter().map(|s| s.name.as_str()).collect();
            c.add("E010", at, format!("there is no slot `{slot}`"), format!("slots are {}", known.join(", ")));
        }
    } else if !vars.contains(&path.root) {
        let mend = "an action saves it (`save:`), or a set node sets it; slots are written slots.name";
        c.add("E011", at, format!("nothing ever sets `{}`", path.root), mend);
    } else if let Some((message, mend)) = fields::fault(flow, path) {
        c.add("E011", at, message, mend);
    }
}

fn expressions(c: &mut Checker<'_>, flow: &Flow, node: &Node, vars: &BTreeSet<String>, used: &mut BTreeSet<String>) {
    let mut all: Vec<(&Expr, At)> = Vec::new();
    all.extend(node.skip_if.iter().map(|(e, at)| (e, *at)));
    match &node.kind {
        Kind::Branch { cases } => {
            all.extend(cases.iter().filter_map(|case| case.condition.as_ref().map(|e| (e, case.at))))
        }
        Kind::Set { set } => {
            all.extend(set.iter().map(|(n, e)| (e, n.at)));
            for (name, value) in set {
                assigned(c, flow, name, value);
                if let Some(slot) = name.text.strip_prefix("slots.")
                    && flow.slot(slot).is_none()
                {
                    c.add("E010", name.at, format!("there is no slot `{slot}`"), "declare it under `slots:`");
                }
            }
        }
        Kind::Action { with, save, .. } => {
            all.extend(with.iter().map(|(n, e)| (e, n.at)));
            save.iter().for_each(|(field, name)| own_name(c, name, field.at));
        }
        _ => {}
    }
    for (e, at) in all {
        for path in e.paths() {
            known_path(c, flow, path, at, vars, used);
        }
    }
}

/// What a set node may write, and that no personal value gets a name under which nobody would mask it.
fn assigned(c: &mut Checker<'_>, flow: &Flow, name: &Spot, value: &Expr) {
    let slot = name.text.strip_prefix("slots.");
    if slot.is_none() && name.text.contains('.') {
        let message = format!("`{}` cannot be set", name.text);
        c.add("E016", name.at, message, "set slots.name, or a plain name of the flow's own");
    }
    own_name(c, &name.text, name.at);
    let hidden = slot.and_then(|s| flow.slot(s)).is_some_and(|s| s.pii != PiiKind::None);
    let personal = |p: &&Path| {
        let of_slot = p.slot().and_then(|s| flow.slot(s)).is_some_and(|s| s.pii != PiiKind::None);
        of_slot || prompt::kind_by_name(p) != PiiKind::None
    };
    let plain = Path::parse(&name.text).is_ok_and(|p| prompt::kind_by_name(&p) == PiiKind::None);
    if let Some(path) = value.carried().into_iter().find(|p| personal(p)).filter(|_| plain && !hidden) {
        let message = format!("`{}` would carry personal data ({path}) that is then masked nowhere", name.text);
        c.add("E015", name.at, message, "use the value where it is, or put it in a slot with `pii:`");
    }
}

/// Names that the machine itself fills.
fn own_name(c: &mut Checker<'_>, name: &str, at: At) {
    if KNOWN.contains(&name) {
        let message = format!("`{name}` is a name of the machine's own");
        c.add("E016", at, message, "take another name");
    }
}

fn asked(c: &mut Checker<'_>, flow: &Flow, node: &Node) {
    if let Kind::Ask { slot } | Kind::Record { slot, .. } = &node.kind
        && flow.slot(&slot.text).is_none()
    {
        c.add("E010", slot.at, format!("there is no slot `{}`", slot.text), "declare it under `slots:`");
    }
    let question = matches!(node.kind, Kind::Ask { .. } | Kind::Confirm | Kind::Menu { .. });
    if question && node.retry == Retry::default() {
        let mend = "retry: {nomatch: [\"…\", \"…\"], noinput: [\"…\"]}; without it the hotline's own are said";
        c.add("W101", node.at, format!("the question `{}` has no prompts for misses", node.id), mend);
    }
}

fn filler(c: &mut Checker<'_>, node: &Node) {
    if let Kind::Action { call, timeout_ms, filler: None, .. } = &node.kind {
        let limit = timeout_ms.or_else(|| super::super::actions::find(&call.text).map(|a| a.timeout_ms));
        if limit.is_some_and(|ms| ms >= 1500) {
            let message = format!("the caller hears nothing while `{}` runs", node.id);
            c.add("W106", node.at, message, "filler: \"我帮您查一下,请稍等。\"");
        }
    }
}

fn slots(c: &mut Checker<'_>, flow: &Flow, used: &BTreeSet<String>) {
    for def in &flow.slots {
        let fills = flow.nodes.iter().any(|n| match &n.kind {
            Kind::Ask { slot } | Kind::Record { slot, .. } => slot.text == def.name,
            Kind::Set { set } => set.iter().any(|(n, _)| n.text.strip_prefix("slots.") == Some(&def.name)),
            _ => false,
        });
        let used = used.contains(&def.name);
        if used && !fills && !def.given {
            let mend = "ask for it, set it, or say where it comes from (from: session)";
            c.add("E011", def.at, format!("the slot `{}` is used and never filled", def.name), mend);
        }
        if !used && !fills {
            c.add("W103", def.at, format!("nobody uses the slot `{}`", def.name), "remove it");
        }
    }
}

/// Nearly the same example in two intents, intents and flows named twice.
pub fn between_flows(c: &mut Checker<'_>, hotline: &Hotline, flows: &[Flow]) {
    let mut said: Vec<(&Flow, &str, &str, At, Vec<u64>)> = Vec::new();
    let (mut flow_names, mut intent_names) = (BTreeSet::new(), BTreeSet::new());
    for flow in flows {
        if !flow_names.insert(&flow.id) {
            let message = format!("there are two flows `{}`", flow.id);
            c.problems.push(Problem::new("E016", &flow.file, &flow.source, flow.at, message, "rename one"));
        }
        for intent in &flow.intents {
            if !intent_names.insert(&intent.name) {
                let message = format!("the intent `{}` belongs to two flows", intent.name);
                c.problems.push(Problem::new("E016", &flow.file, &flow.source, intent.at, message, "keep it in one"));
            }
            for e in &intent.examples {
                said.push((flow, &intent.name, &e.text, e.at, grams(&e.text)));
            }
        }
    }
    for (i, a) in said.iter().enumerate() {
        for b in &said[i + 1..] {
            if a.1 != b.1 && dice(&a.4, &b.4) >= SAME {
                let message = format!("the intent `{}` says nearly the same as `{}`: {} / {}", b.1, a.1, b.2, a.2);
                let mend = "keep it in one of the two";
                c.problems.push(Problem::new("E017", &b.0.file, &b.0.source, b.3, message, mend));
            }
        }
    }
    for oos in &hotline.oos {
        let own = grams(&oos.text);
        if let Some(a) = said.iter().find(|a| dice(&a.4, &own) >= SAME) {
            let message = format!("out of scope and the intent `{}` say nearly the same: {}", a.1, oos.text);
            let p = Problem::new("E017", &hotline.file, &hotline.source, oos.at, message, "keep it in one of the two");
            c.problems.push(p);
        }
    }
}

/// Pairs of neighbouring characters, sorted.
fn grams(text: &str) -> Vec<u64> {
    let chars: Vec<char> =
        std::iter::once('^').chain(super::super::language::norm(text).chars()).chain(['$']).collect();
    let mut grams: Vec<u64> =
        chars.windows(2).map(|w| (u64::from(u32::from(w[0])) << 32) | u64::from(u32::from(w[1]))).collect();
    grams.sort_unstable();
    grams
}

/// Dice coefficient of two sorted bags.
fn dice(a: &[u64], b: &[u64]) -> f32 {
    let total = a.len() + b.len();
    if total == 0 || a.len().min(b.len()) * 20 < total * 9 {
        return 0.0; // too different in length to reach the bound
    }
    let (mut i, mut j, mut same) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                same += 1;
                i += 1;
                j += 1;
            }
        }
    }
    2.0 * same as f32 / total as f32
}
