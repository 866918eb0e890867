//! From YAML text to [`Flow`](super::model::Flow) and [`Hotline`](super::hotline::Hotline). Every problem of a file
//! is listed, not only the first; nothing is guessed.

mod flow;
mod hotline;
mod node;
mod test;
pub mod tree;

use super::expr::Expr;
use super::hotline::Hotline;
use super::model::{Flow, Link, Retry, Spot, Target};
use super::problem::{At, Problem};
use super::prompt::{Template, Wording};
use super::value::Value;
use tree::{Data, Key, Tree};

/// Reads a flow's file. With problems that are errors the flow may be incomplete: it serves checking only.
pub fn flow(file: &str, source: &str) -> (Option<Flow>, Vec<Problem>) {
    let (tree, problems) = tree::read(file, source);
    let mut r = Reader { file, source, problems };
    let flow = tree.and_then(|t| flow::read(&mut r, &t));
    (flow, r.problems)
}

/// Reads the hotline's file.
pub fn hotline(file: &str, source: &str) -> (Option<Hotline>, Vec<Problem>) {
    let (tree, problems) = tree::read(file, source);
    let mut r = Reader { file, source, problems };
    let hotline = tree.and_then(|t| hotline::read(&mut r, &t));
    (hotline, r.problems)
}

/// Reads trees and collects what is wrong with them.
struct Reader<'a> {
    file: &'a str,
    source: &'a str,
    problems: Vec<Problem>,
}

/// A block of keys being taken apart; what is left at the end was not expected.
struct Block<'t> {
    at: At,
    what: String,
    pairs: Vec<(&'t Key, &'t Tree)>,
    known: Vec<&'static str>,
}

impl<'t> Block<'t> {
    fn take(&mut self, key: &'static str) -> Option<&'t Tree> {
        self.known.push(key);
        let i = self.pairs.iter().position(|(k, _)| k.name == key)?;
        Some(self.pairs.remove(i).1)
    }

    /// Like `take`; an empty value counts as none.
    fn take_some(&mut self, key: &'static str) -> Option<&'t Tree> {
        self.take(key).filter(|t| t.data != Data::Null)
    }
}

impl<'a> Reader<'a> {
    fn wrong(&mut self, at: At, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem::new("E001", self.file, self.source, at, message, mend));
    }

    /// Something that is read and changes nothing.
    fn idle(&mut self, at: At, message: impl Into<String>) {
        self.problems.push(Problem::new("W107", self.file, self.source, at, message, "remove it"));
    }

    fn block<'t>(&mut self, t: &'t Tree, what: impl Into<String>) -> Option<Block<'t>> {
        let what = what.into();
        match &t.data {
            Data::Map(pairs) => {
                let pairs = pairs.iter().map(|(k, v)| (k, v)).collect();
                Some(Block { at: t.at, what, pairs, known: Vec::new() })
            }
            other => {
                self.wrong(t.at, format!("{what} must be a block of keys, not {}", other.kind()), "");
                None
            }
        }
    }

    /// Complains about keys nobody took.
    fn done(&mut self, b: Block<'_>) {
        for (key, value) in &b.pairs {
            let split = value.data == Data::Null && key.name.chars().any(|c| c as u32 >= 0x2E80);
            let mend = if split {
                "a comma between `{` and `}` splits a sentence: put the whole sentence between double quotes".into()
            } else {
                format!("known keys here: {}", b.known.join(", "))
            };
            self.wrong(key.at, format!("{} has no key `{}`", b.what, key.name), mend);
        }
    }

    fn need<'t>(&mut self, b: &mut Block<'t>, key: &'static str) -> Option<&'t Tree> {
        let found = b.take_some(key);
        if found.is_none() {
            let (at, message) = (b.at, format!("{} needs `{key}:`", b.what));
            self.wrong(at, message, "");
        }
        found
    }

    fn text(&mut self, t: &Tree, what: &str) -> Option<String> {
        match &t.data {
            Data::Text(s) if !s.trim().is_empty() => Some(s.clone()),
            Data::Text(_) => {
                self.wrong(t.at, format!("{what} is empty"), "");
                None
            }
            Data::Int(_) | Data::Num(_) | Data::Bool(_) => {
                self.wrong(t.at, format!("{what} must be text, not {}", t.data.kind()), "put it between quotes");
                None
            }
            other => {
                self.wrong(t.at, format!("{what} must be text, not {}", other.kind()), "");
                None
            }
        }
    }

    fn opt_text(&mut self, b: &mut Block<'_>, key: &'static str) -> Option<String> {
        let t = b.take_some(key)?;
        self.text(t, &format!("`{key}`"))
    }

    fn need_text(&mut self, b: &mut Block<'_>, key: &'static str) -> Option<String> {
        let t = self.need(b, key)?;
        self.text(t, &format!("`{key}`"))
    }

    fn need_spot(&mut self, b: &mut Block<'_>, key: &'static str) -> Option<Spot> {
        let t = self.need(b, key)?;
        let text = self.text(t, &format!("`{key}`"))?;
        Some(Spot { text, at: t.at })
    }

    fn flag(&mut self, b: &mut Block<'_>, key: &'static str, default: bool) -> bool {
        match b.take_some(key) {
            None => default,
            Some(Tree { data: Data::Bool(v), .. }) => *v,
            Some(t) => {
                self.wrong(t.at, format!("`{key}` must be true or false, not {}", t.data.kind()), "");
                default
            }
        }
    }

    /// A number within a range; problems give nothing.
    fn number(&mut self, b: &mut Block<'_>, key: &'static str, min: f64, max: f64) -> Option<f64> {
        let t = b.take_some(key)?;
        let n = match t.data {
            Data::Int(n) => Some(n as f64),
            Data::Num(n) => Some(n),
            _ => None,
        };
        if let Some(n) = n.filter(|n| (min..=max).contains(n)) {
            return Some(n);
        }
        self.wrong(t.at, format!("`{key}` must be a number from {min} to {max}"), "");
        None
    }

    /// A whole number within a range.
    fn whole(&mut self, b: &mut Block<'_>, key: &'static str, min: f64, max: f64) -> Option<f64> {
        let at = b.pairs.iter().find(|(k, _)| k.name == key).map(|(_, t)| t.at);
        let n = self.number(b, key, min, max)?;
        if n.fract() != 0.0 {
            self.wrong(at.unwrap_or_default(), format!("`{key}` must be a whole number"), "");
        }
        Some(n)
    }

    fn millis(&mut self, b: &mut Block<'_>, key: &'static str, max_s: f64) -> Option<u32> {
        self.number(b, key, 0.1, max_s).map(|s| (s * 1000.0).round() as u32)
    }

    fn list<'t>(&mut self, t: &'t Tree, what: &str) -> &'t [Tree] {
        match &t.data {
            Data::List(items) => items,
            other => {
                self.wrong(
                    t.at,
                    format!("{what} must be a list, not {}", other.kind()),
                    "write it as [a, b] or as `- a` lines",
                );
                &[]
            }
        }
    }

    fn spots(&mut self, b: &mut Block<'_>, key: &'static str) -> Vec<Spot> {
        let Some(t) = b.take_some(key) else { return Vec::new() };
        self.spot_list(t, key)
    }

    fn spot_list(&mut self, t: &Tree, what: &str) -> Vec<Spot> {
        let mut spots = Vec::new();
        for item in self.list(t, what) {
            if let Some(text) = self.text(item, &format!("an entry of `{what}`")) {
                spots.push(Spot { text, at: item.at });
            }
        }
        spots
    }

    fn texts(&mut self, b: &mut Block<'_>, key: &'static str) -> Vec<String> {
        self.spots(b, key).into_iter().map(|s| s.text).collect()
    }

    /// A name: `[a-z][a-z0-9_]{0,47}`.
    fn id(&mut self, name: &str, at: At, what: &str) -> bool {
        let sound = name.len() <= 48
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !sound {
            let mend = "use small letters, digits and _, beginning with a letter, 48 at most";
            self.wrong(at, format!("`{name}` is no name for {what}"), mend);
        }
        sound
    }

    fn link(&mut self, t: &Tree) -> Option<Link> {
        let text = self.text(t, "a target")?;
        let to = match text.as_str() {
            "return" => Target::Return,
            "end" => Target::End,
            s => match s.strip_prefix("flow:") {
                Some(flow) => Target::Flow(flow.trim().to_string()),
                None => Target::Node(text),
            },
        };
        Some(Link { to, at: t.at })
    }

    fn opt_link(&mut self, b: &mut Block<'_>, key: &'static str) -> Option<Link> {
        let t = b.take_some(key)?;
        self.link(t)
    }

    fn expr(&mut self, t: &Tree) -> Option<Expr> {
        match &t.data {
            Data::Text(s) => match Expr::parse(s) {
                Ok(e) => Some(e),
                Err(e) => {
                    let at = self.inside(t.at, e.at);
                    self.wrong(at, format!("in the expression `{s}`: {}", e.what), "");
                    None
                }
            },
            Data::Bool(v) => Some(Expr::literal(Value::Bool(*v))),
            Data::Int(n) => Some(Expr::literal(Value::Int(*n))),
            Data::Num(n) => Some(Expr::literal(Value::Num(*n))),
            other => {
                self.wrong(t.at, format!("an expression is text, not {}", other.kind()), "");
                None
            }
        }
    }

    /// The place of a character inside a one-line scalar; a quote before it counts.
    fn inside(&self, at: At, offset: usize) -> At {
        let line = self.source.lines().nth((at.line as usize).saturating_sub(1)).unwrap_or("");
        let first = line.chars().nth((at.column as usize).saturating_sub(1));
        let quote = u32::from(matches!(first, Some('"' | '\'')));
        At { line: at.line, column: at.column + quote + offset as u32 }
    }

    fn wording(&mut self, t: &Tree) -> Option<Wording> {
        let text = self.text(t, "a prompt")?;
        let parsed = Wording::parse(&text).unwrap_or_else(|e| {
            let at = self.inside(t.at, e.at);
            self.wrong(at, format!("in the prompt: {}", e.what), "");
            Wording::literal(&text)
        });
        Some(Wording { at: t.at, ..parsed })
    }

    fn template(&mut self, t: &Tree) -> Option<Template> {
        if !matches!(t.data, Data::Map(_)) {
            let text = self.wording(t)?;
            return Some(Template { at: t.at, text, rate: 1.0, ..Template::default() });
        }
        let mut b = self.block(t, "a prompt")?;
        let text = self.need(&mut b, "text").and_then(|t| self.wording(t));
        let mut variant = |r: &mut Self, key| b.take_some(key).and_then(|t| r.wording(t));
        let (elder, angry, en) = (variant(self, "elder"), variant(self, "angry"), variant(self, "en"));
        let recorded = b.take_some("audio");
        let audio = recorded.and_then(|t| self.text(t, "`audio`"));
        if let (Some(t), Some(file)) = (recorded, &audio)
            && file.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        {
            self.wrong(
                t.at,
                "`audio` must be a file inside recorded-prompts/ of the data folder",
                "audio: greeting.wav",
            );
        }
        let styled = b.take_some("style");
        let style = styled.and_then(|s| self.text(s, "`style`"));
        if let (Some(s), Some(name)) = (styled, &style)
            && !["neutral", "warm", "apology", "brisk"].contains(&name.as_str())
        {
            self.wrong(s.at, "`style` must be neutral, warm, apology or brisk", "");
        }
        let rate = self.number(&mut b, "rate", 0.5, 2.0).unwrap_or(1.0) as f32;
        self.done(b);
        Some(Template { at: t.at, text: text?, elder, angry, en, audio, style, rate })
    }

    fn opt_template(&mut self, b: &mut Block<'_>, key: &'static str) -> Option<Template> {
        let t = b.take_some(key)?;
        self.template(t)
    }

    fn retry(&mut self, b: &mut Block<'_>) -> Retry {
        let Some(t) = b.take_some("retry") else { return Retry::default() };
        let Some(mut inner) = self.block(t, "`retry`") else { return Retry::default() };
        let mut read = |r: &mut Self, key: &'static str| -> Option<Vec<Template>> {
            let items = r.list(inner.take_some(key)?, key);
            Some(items.iter().filter_map(|i| r.template(i)).collect())
        };
        let (nomatch, noinput) = (read(self, "nomatch"), read(self, "noinput"));
        self.done(inner);
        Retry { nomatch, noinput }
    }

    /// Plain data, for tests.
    fn value(&self, t: &Tree) -> Value {
        match &t.data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Int(n) => Value::Int(*n),
            Data::Num(n) => Value::Num(*n),
            Data::Text(s) => Value::Text(s.clone()),
            Data::List(items) => Value::List(items.iter().map(|i| self.value(i)).collect()),
            Data::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| (k.name.clone(), self.value(v))).collect()),
        }
    }
}
