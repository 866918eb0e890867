//! Tests inside a file.

use super::super::actions;
use super::super::model::{Expect, FlowTest, TestInput, TestTurn};
use super::super::value::Value;
use super::tree::{Data, Tree};
use super::{Block, Reader};

pub fn all(r: &mut Reader<'_>, b: &mut Block<'_>) -> Vec<FlowTest> {
    let Some(t) = b.take_some("tests") else { return Vec::new() };
    let items = r.list(t, "`tests`");
    items.iter().filter_map(|t| one(r, t)).collect()
}

fn one(r: &mut Reader<'_>, t: &Tree) -> Option<FlowTest> {
    let mut b = r.block(t, "a test")?;
    let name = r.need_text(&mut b, "name");
    let given = b.take_some("given").map_or(Value::Null, |t| given(r, t));
    let mut turns = Vec::new();
    if let Some(t) = r.need(&mut b, "turns") {
        for item in r.list(t, "`turns`") {
            turns.extend(turn(r, item));
        }
    }
    let expect = match r.need(&mut b, "expect") {
        Some(t) => expect(r, t),
        None => Expect::default(),
    };
    r.done(b);
    Some(FlowTest { name: name?, at: t.at, given, turns, expect })
}

/// What the pretended world begins with; a word it does not know would be passed over in silence.
fn given(r: &mut Reader<'_>, t: &Tree) -> Value {
    const KEYS: [&str; 14] = [
        "caller",
        "orders",
        "status",
        "voiceprint",
        "name",
        "elder",
        "angry",
        "vip",
        "addresses",
        "seats",
        "tickets",
        "fail",
        "recording_ms",
        "lang",
    ];
    const WORDS: [(&str, &[&str]); 8] = [
        ("status", &["paid", "packing", "shipped", "signed", "closed", "cancelled"]),
        ("voiceprint", &["pass", "fail", "unavailable"]),
        ("seats", &["connected", "busy", "timeout", "closed"]),
        ("tickets", &["false", "true"]),
        ("elder", &["false", "true"]),
        ("angry", &["false", "true"]),
        ("vip", &["false", "true"]),
        ("lang", &["zh", "en"]),
    ];
    let Data::Map(pairs) = &t.data else {
        r.wrong(t.at, format!("`given` must be a block of keys, not {}", t.data.kind()), KEYS.join(", "));
        return Value::Null;
    };
    for (key, value) in pairs {
        if !KEYS.contains(&key.name.as_str()) {
            r.wrong(key.at, format!("a test is given no `{}`", key.name), KEYS.join(", "));
        }
        let (name, flags) = (key.name.as_str(), ["elder", "angry", "vip", "tickets"]);
        let said = match &value.data {
            Data::Text(word) if !flags.contains(&name) => word.clone(),
            Data::Bool(flag) => flag.to_string(),
            _ => String::new(),
        };
        let wanted = match (name, &value.data) {
            ("orders", Data::Int(0..=3)) | ("recording_ms", Data::Int(0..)) | ("addresses", Data::List(_)) => "",
            ("caller" | "name", Data::Text(_)) => "",
            ("orders", _) => "how many, 0 to 3",
            ("recording_ms", _) => "milliseconds",
            ("addresses", _) => "a list of labels, such as [公司, 家里]",
            ("caller" | "name", _) => "text between quotes",
            _ => "",
        };
        if !wanted.is_empty() {
            r.wrong(value.at, format!("`{name}` cannot be given as that"), wanted);
        }
        if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == key.name)
            && !words.contains(&said.as_str())
        {
            r.wrong(value.at, format!("`{}` cannot be given as that", key.name), words.join(", "));
        }
        if key.name == "fail" {
            fails(r, value);
        }
    }
    r.value(t)
}

/// `fail: {orders.get: timeout}` names actions and outcomes that they have.
fn fails(r: &mut Reader<'_>, t: &Tree) {
    let Data::Map(pairs) = &t.data else {
        r.wrong(t.at, "`fail` must be a block of actions and outcomes", "such as {orders.get: timeout}");
        return;
    };
    for (key, value) in pairs {
        match (actions::find(&key.name), &value.data) {
            (None, _) => r.wrong(key.at, format!("there is no action `{}`", key.name), ""),
            (Some(a), Data::Text(o)) if a.outcomes.contains(&o.as_str()) => {}
            (Some(a), _) => r.wrong(value.at, format!("{} does not end like this", a.name), a.outcomes.join(", ")),
        }
    }
}

/// A block of expected values; anything else would be passed over in silence.
fn expected(r: &mut Reader<'_>, b: &mut Block<'_>, key: &'static str) -> Value {
    let Some(t) = b.take_some(key) else { return Value::Null };
    if !matches!(t.data, Data::Map(_)) {
        r.wrong(t.at, format!("`{key}` must be a block of names and values, not {}", t.data.kind()), "");
    }
    r.value(t)
}

fn turn(r: &mut Reader<'_>, t: &Tree) -> Option<TestTurn> {
    let mut b = r.block(t, "a turn")?;
    let say = r.opt_text(&mut b, "say").map(TestInput::Say);
    let key = r.opt_text(&mut b, "key").map(TestInput::Key);
    let audio = r.opt_text(&mut b, "audio").map(TestInput::Audio);
    let silence = r.number(&mut b, "silence_s", 0.0, 600.0).map(TestInput::Silence);
    let mut inputs: Vec<TestInput> = [say, key, audio, silence].into_iter().flatten().collect();
    if inputs.len() != 1 {
        r.wrong(t.at, "a turn has exactly one of `say`, `key`, `audio`, `silence_s`", "");
    }
    let turn = TestTurn {
        at: t.at,
        input: inputs.pop()?,
        hear: r.opt_text(&mut b, "hear"),
        node: r.opt_text(&mut b, "at"),
        intent: r.opt_text(&mut b, "intent"),
        slots: expected(r, &mut b, "slots"),
    };
    r.done(b);
    Some(turn)
}

fn expect(r: &mut Reader<'_>, t: &Tree) -> Expect {
    let Some(mut b) = r.block(t, "`expect`") else { return Expect::default() };
    let outcome = r.opt_text(&mut b, "outcome");
    if let Some(o) = &outcome
        && !["resolved", "transferred", "ticketed", "hangup"].contains(&o.as_str())
    {
        r.wrong(t.at, format!("there is no outcome `{o}`"), "resolved, transferred, ticketed or hangup");
    }
    let actions = b.take_some("actions");
    let expect = Expect {
        outcome,
        max_steps: r.whole(&mut b, "max_steps", 0.0, 50.0).map(|n| n as u8),
        path: r.texts(&mut b, "path"),
        actions: actions.map(|t| r.spot_list(t, "actions").into_iter().map(|s| s.text).collect()),
        ticket: expected(r, &mut b, "ticket"),
        slots: expected(r, &mut b, "slots"),
    };
    if let Some(Tree { data: Data::Null, at }) = actions {
        r.wrong(*at, "`actions` is empty", "write [] when none is expected");
    }
    r.done(b);
    expect
}
