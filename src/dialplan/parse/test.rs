//! Tests inside a file.

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
    let given = b.take_some("given").map_or(Value::Null, |t| r.value(t));
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

fn turn(r: &mut Reader<'_>, t: &Tree) -> Option<TestTurn> {
    let mut b = r.block(t, "a turn")?;
    let say = r.opt_text(&mut b, "say").map(TestInput::Say);
    let key = r.opt_text(&mut b, "key").map(TestInput::Key);
    let audio = r.opt_text(&mut b, "audio").map(TestInput::Audio);
    let silence = r.number(&mut b, "silence_s", 0.0, 600.0).map(TestInput::Silence);
    let _ = b.take_some("line");
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
        slots: b.take_some("slots").map_or(Value::Null, |t| r.value(t)),
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
        max_steps: r.number(&mut b, "max_steps", 0.0, 50.0).map(|n| n as u8),
        path: r.texts(&mut b, "path"),
        actions: actions.map(|t| r.spot_list(t, "actions").into_iter().map(|s| s.text).collect()),
        ticket: b.take_some("ticket").map_or(Value::Null, |t| r.value(t)),
        slots: b.take_some("slots").map_or(Value::Null, |t| r.value(t)),
    };
    if let Some(Tree { data: Data::Null, at }) = actions {
        r.wrong(*at, "`actions` is empty", "write [] when none is expected");
    }
    r.done(b);
    expect
}
