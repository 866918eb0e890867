//! The top of a flow's file.

use super::super::model::{Flow, Intent, Level, Limits, Link, PiiKind, SlotDef, SlotType, Target};
use super::super::understood::Global;
use super::tree::{Data, Tree};
use super::{Block, Reader, node, test};
use std::collections::BTreeMap;

/// Names of the global phrases.
pub const GLOBALS: [(&str, Global); 7] = [
    ("human", Global::Human),
    ("repeat", Global::Repeat),
    ("cancel", Global::Cancel),
    ("slower", Global::Slower),
    ("angry", Global::Angry),
    ("emergency", Global::Emergency),
    ("digress", Global::Digress),
];

pub fn read(r: &mut Reader<'_>, t: &Tree) -> Option<Flow> {
    let mut b = r.block(t, "a flow's file")?;
    version(r, &mut b, "dialplan");
    let id = r.need_spot(&mut b, "flow");
    if let Some(id) = &id {
        r.id(&id.text, id.at, "a flow");
    }
    let title = r.need_text(&mut b, "title").unwrap_or_default();
    let _for_people = (r.opt_text(&mut b, "owner"), r.opt_text(&mut b, "notes"));
    if let Some(t) = b.take_some("lang") {
        r.idle(t.at, "`lang` does nothing in a flow: hotline.yaml says what is spoken");
    }
    let verify = level(r, &mut b, "verify").unwrap_or_default();
    let limits = limits(r, &mut b);
    let intents = b.take_some("intents").map_or_else(Vec::new, |t| intents(r, t));
    let slots = b.take_some("slots").map_or_else(Vec::new, |t| slots(r, t));
    let start = r.need(&mut b, "start").and_then(|t| r.link(t));
    let nodes = match r.need(&mut b, "nodes") {
        Some(t) => node::all(r, t),
        None => Vec::new(),
    };
    let globals = globals(r, &mut b);
    let tests = test::all(r, &mut b);
    r.done(b);
    let id = id?;
    let start = start.unwrap_or(Link { to: Target::End, at: t.at });
    let (file, source) = (r.file.to_string(), r.source.into());
    Some(Flow {
        file,
        source,
        id: id.text,
        at: id.at,
        title,
        verify,
        limits,
        intents,
        slots,
        start,
        nodes,
        globals,
        tests,
    })
}

/// `dialplan: 1`, `hotline: 1`.
pub fn version(r: &mut Reader<'_>, b: &mut Block<'_>, key: &'static str) {
    if let Some(t) = r.need(b, key)
        && t.data != Data::Int(1)
    {
        r.wrong(t.at, format!("`{key}` must be 1, the only version there is"), "");
    }
}

pub fn level(r: &mut Reader<'_>, b: &mut Block<'_>, key: &'static str) -> Option<Level> {
    let t = b.take_some(key)?;
    let text = r.text(t, &format!("`{key}`"))?;
    let level = Level::parse(&text);
    if level.is_none() {
        r.wrong(t.at, format!("`{text}` is no level"), "levels are l0, l1, l2, l3, l4");
    }
    level
}

fn limits(r: &mut Reader<'_>, b: &mut Block<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(t) = b.take_some("limits") else { return limits };
    let Some(mut b) = r.block(t, "`limits`") else { return limits };
    if let Some(n) = r.whole(&mut b, "max_steps", 0.0, 50.0) {
        limits.max_steps = n as u8;
    }
    if let Some(n) = r.whole(&mut b, "max_turns", 1.0, 1000.0) {
        limits.max_turns = n as u32;
    }
    if let Some(n) = r.whole(&mut b, "max_seconds", 10.0, 7200.0) {
        limits.max_seconds = n as u32;
    }
    r.done(b);
    limits
}

pub fn globals(r: &mut Reader<'_>, b: &mut Block<'_>) -> BTreeMap<Global, Link> {
    let mut globals = BTreeMap::new();
    let Some(t) = b.take_some("global") else { return globals };
    let Some(mut b) = r.block(t, "`global`") else { return globals };
    for (name, global) in GLOBALS {
        if let Some(link) = r.opt_link(&mut b, name) {
            if matches!(global, Global::Repeat | Global::Slower | Global::Digress) {
                r.idle(link.at, format!("`{name}` leads nowhere else: the machine does it itself"));
            }
            globals.insert(global, link);
        }
    }
    r.done(b);
    globals
}

fn intents(r: &mut Reader<'_>, t: &Tree) -> Vec<Intent> {
    let mut found = Vec::new();
    let Some(b) = r.block(t, "`intents`") else { return found };
    for (key, value) in b.pairs {
        r.id(&key.name, key.at, "an intent");
        let Some(mut b) = r.block(value, format!("the intent `{}`", key.name)) else { continue };
        let examples = r.spots(&mut b, "examples");
        let intent = Intent {
            name: key.name.clone(),
            at: key.at,
            top: r.flag(&mut b, "top", true),
            asr_variants: r.spots(&mut b, "asr_variants"),
            patterns: r.spots(&mut b, "patterns"),
            not: r.spots(&mut b, "not"),
            keywords: r.spots(&mut b, "keywords"),
            spoken: r.opt_text(&mut b, "spoken"),
            examples,
        };
        if let Some(t) = b.take_some("min_confidence") {
            r.idle(t.at, "`min_confidence` does nothing at an intent: `thresholds:` of hotline.yaml decide");
        }
        r.done(b);
        if intent.examples.len() < 8 {
            let n = intent.examples.len();
            r.wrong(key.at, format!("the intent `{}` has {n} examples", key.name), "give at least 8");
        }
        for p in intent.patterns.iter().chain(&intent.not) {
            match regex::Regex::new(&p.text) {
                Ok(pattern) if pattern.is_match("") => {
                    r.wrong(p.at, "the pattern matches everything", "make it say what it is about");
                }
                Ok(_) => {}
                Err(e) => {
                    let why = e.to_string();
                    let why = why.lines().last().unwrap_or("").trim().to_string();
                    r.wrong(p.at, format!("the pattern cannot be read: {why}"), "");
                }
            }
        }
        found.push(intent);
    }
    found
}

fn slots(r: &mut Reader<'_>, t: &Tree) -> Vec<SlotDef> {
    let mut found = Vec::new();
    let Some(b) = r.block(t, "`slots`") else { return found };
    for (key, value) in b.pairs {
        r.id(&key.name, key.at, "a slot");
        let Some(mut b) = r.block(value, format!("the slot `{}`", key.name)) else { continue };
        let kind = slot_type(r, &mut b);
        let given = r.opt_text(&mut b, "from");
        if given.as_deref().is_some_and(|f| !["caller", "session", "crm"].contains(&f)) {
            r.wrong(value.at, "`from` must be caller, session or crm", "");
        }
        let mut pii = pii(r, &mut b);
        let optional = r.flag(&mut b, "optional", false);
        let free = kind == Some(SlotType::Record);
        let kept = free || !matches!(pii, PiiKind::Bank | PiiKind::Id | PiiKind::Secret);
        let recorded = r.flag(&mut b, "recorded", kept);
        if free && !recorded {
            r.wrong(key.at, "a slot of type record is the recording", "leave `recorded` out");
        }
        if !recorded && pii == PiiKind::None {
            pii = PiiKind::Secret; // what may not be heard may not be read either
        }
        r.done(b);
        let Some(kind) = kind else { continue };
        found.push(SlotDef {
            name: key.name.clone(),
            at: key.at,
            kind,
            given: given.is_some(),
            pii,
            optional,
            recorded,
        });
    }
    found
}

fn slot_type(r: &mut Reader<'_>, b: &mut Block<'_>) -> Option<SlotType> {
    let values = b.take_some("values");
    let length = b.take_some("length");
    let t = r.need(b, "type")?;
    let name = r.text(t, "`type`")?;
    Some(match name.as_str() {
        "text" | "person" => SlotType::Text,
        "enum" => SlotType::Enum(enum_values(r, t, values)),
        "digits" => {
            let (min, max) = length.map_or((1, 20), |l| lengths(r, l));
            SlotType::Digits(min, max)
        }
        "phone" => SlotType::Phone,
        "order_ref" => SlotType::OrderRef,
        "address" => SlotType::Address,
        "bool" => SlotType::Bool,
        "record" => SlotType::Record,
        "waybill" | "date" | "time_window" | "money" | "product" | "score" => {
            r.wrong(t.at, format!("the slot type `{name}` is not available yet"), "use digits, enum or record for now");
            return None;
        }
        _ => {
            let mend = "types are text, person, enum, digits, phone, order_ref, address, bool, record";
            r.wrong(t.at, format!("there is no slot type `{name}`"), mend);
            return None;
        }
    })
}

fn enum_values(r: &mut Reader<'_>, t: &Tree, values: Option<&Tree>) -> Vec<(String, Vec<String>)> {
    let Some(values) = values else {
        r.wrong(t.at, "an enum needs `values:`", "values: {name: [ways, to, say, it]}");
        return Vec::new();
    };
    let Some(b) = r.block(values, "`values`") else { return Vec::new() };
    let pairs = b.pairs;
    pairs
        .into_iter()
        .map(|(k, v)| (k.name.clone(), r.spot_list(v, "values").into_iter().map(|s| s.text).collect()))
        .collect()
}

fn lengths(r: &mut Reader<'_>, t: &Tree) -> (u8, u8) {
    if let Data::List(items) = &t.data
        && let [Tree { data: Data::Int(min), .. }, Tree { data: Data::Int(max), .. }] = items.as_slice()
        && (1..=32).contains(min)
        && (*min..=32).contains(max)
    {
        return (*min as u8, *max as u8);
    }
    r.wrong(t.at, "`length` must be two numbers from 1 to 32, the smaller first", "length: [4, 4]");
    (1, 20)
}

fn pii(r: &mut Reader<'_>, b: &mut Block<'_>) -> PiiKind {
    let Some(t) = b.take_some("pii") else { return PiiKind::None };
    let kinds = [
        ("none", PiiKind::None),
        ("phone", PiiKind::Phone),
        ("bank", PiiKind::Bank),
        ("id", PiiKind::Id),
        ("address", PiiKind::Address),
        ("name", PiiKind::Name),
        ("secret", PiiKind::Secret),
    ];
    let name = r.text(t, "`pii`").unwrap_or_default();
    match kinds.iter().find(|k| k.0 == name) {
        Some(k) => k.1,
        None => {
            r.wrong(
                t.at,
                format!("`{name}` is no kind of personal data"),
                "none, phone, bank, id, address, name, secret",
            );
            PiiKind::None
        }
    }
}
