//! `hotline.yaml`.

use super::super::hotline::{Entry, Hotline, Texts, Thresholds};
use super::super::model::Spot;
use super::super::prompt::Template;
use super::flow::{globals, version};
use super::tree::Tree;
use super::{Block, Reader, test};
use crate::speech::Lang;

pub fn read(r: &mut Reader<'_>, t: &Tree) -> Option<Hotline> {
    let mut b = r.block(t, "the hotline's file")?;
    version(r, &mut b, "hotline");
    let name = r.need_text(&mut b, "name");
    let lang = lang(r, &mut b);
    let greeting = r.need(&mut b, "greeting").and_then(|t| r.template(t));
    let entry = r.need(&mut b, "entry").and_then(|t| entry(r, t));
    let retry = r.retry(&mut b);
    let wait_ms = r.millis(&mut b, "wait_s", 60.0).unwrap_or(6000);
    let ring_ms = r.millis(&mut b, "ring_s", 120.0).unwrap_or(20_000);
    let globals = globals(r, &mut b);
    let person = person(r, &mut b);
    let thresholds = thresholds(r, &mut b);
    let queues = r.texts(&mut b, "queues");
    let skills = r.texts(&mut b, "skills");
    let categories = r.texts(&mut b, "categories");
    let oos = r.spots(&mut b, "oos");
    let texts = texts(r, &mut b);
    let tests = test::all(r, &mut b);
    r.done(b);
    let (file, source) = (r.file.to_string(), r.source.into());
    Some(Hotline {
        file,
        source,
        name: name?,
        lang,
        greeting: greeting?,
        entry: entry?,
        retry,
        wait_ms,
        ring_ms,
        globals,
        person: person?,
        thresholds,
        queues,
        skills,
        categories,
        oos,
        texts,
        tests,
    })
}

fn lang(r: &mut Reader<'_>, b: &mut Block<'_>) -> Lang {
    let Some(tree) = b.take_some("lang") else { return Lang::Zh };
    match r.text(tree, "a language").as_deref() {
        Some("zh") | None => Lang::Zh,
        Some("en") => Lang::En,
        Some(other) => {
            r.wrong(tree.at, format!("`{other}` is no language of ours"), "languages are `zh` and `en`");
            Lang::Zh
        }
    }
}

fn entry(r: &mut Reader<'_>, t: &Tree) -> Option<Entry> {
    let mut b = r.block(t, "`entry`")?;
    let prompt = r.need(&mut b, "prompt").and_then(|t| r.template(t));
    let again = r.opt_template(&mut b, "again").unwrap_or_else(|| Template::plain("请问还有什么可以帮您?"));
    let retry = r.retry(&mut b);
    let menu = r.need(&mut b, "menu").and_then(|t| r.template(t));
    let mut keys = Vec::new();
    if let Some(k) = r.need(&mut b, "keys")
        && let Some(inner) = r.block(k, "`keys`")
    {
        for (key, value) in inner.pairs {
            let mut chars = key.name.chars();
            let (Some(digit @ ('0'..='9' | '*')), None) = (chars.next(), chars.next()) else {
                r.wrong(key.at, format!("`{}` is no key", key.name), "keys are \"0\" to \"9\" and \"*\"");
                continue;
            };
            if let Some(text) = r.text(value, "an intent") {
                keys.push((digit, Spot { text, at: value.at }));
            }
        }
    }
    r.done(b);
    Some(Entry { at: t.at, prompt: prompt?, again, retry, menu: menu?, keys })
}

fn person(r: &mut Reader<'_>, b: &mut Block<'_>) -> Option<(Spot, Option<Spot>)> {
    let t = r.need(b, "person")?;
    let mut b = r.block(t, "`person`")?;
    let queue = r.need_spot(&mut b, "queue");
    let skill = b.take_some("skill").and_then(|t| r.text(t, "`skill`").map(|text| Spot { text, at: t.at }));
    r.done(b);
    Some((queue?, skill))
}

fn thresholds(r: &mut Reader<'_>, b: &mut Block<'_>) -> Thresholds {
    let mut t = Thresholds::default();
    let Some(tree) = b.take_some("thresholds") else { return t };
    let Some(mut b) = r.block(tree, "`thresholds`") else { return t };
    for (key, place) in [
        ("act", &mut t.act),
        ("margin", &mut t.margin),
        ("clarify", &mut t.clarify),
        ("second", &mut t.second),
        ("confidence", &mut t.confidence),
    ] {
        if let Some(n) = r.number(&mut b, key, 0.0, 1.0) {
            *place = n as f32;
        }
    }
    r.done(b);
    t
}

fn texts(r: &mut Reader<'_>, b: &mut Block<'_>) -> Texts {
    let mut texts = Texts::default();
    let Some(tree) = b.take_some("texts") else { return texts };
    let Some(mut b) = r.block(tree, "`texts`") else { return texts };
    for name in Texts::NAMES {
        if let Some(template) = r.opt_template(&mut b, name)
            && let Some(place) = texts.get_mut(name)
        {
            *place = template;
        }
    }
    r.done(b);
    texts
}
