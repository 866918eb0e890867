//! YAML as a tree in which every key and value knows its line and column.
//!
//! serde-saphyr reads the text; this tree is read by our own code afterwards, so that one pass can list every
//! problem of a file instead of stopping at the first.

use crate::dialplan::problem::{At, Problem};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};
use std::fmt;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub data: Data,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing (`key:` with no value).
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Num(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// Pairs in file order.
    Map(Vec<(Key, Tree)>),
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Where it begins.
    pub at: At,
    /// Its text.
    pub name: String,
}

impl Data {
    /// For messages: "a list", "text" …
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Null => "nothing",
            Data::Bool(_) => "true/false",
            Data::Int(_) | Data::Num(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a block of keys",
        }
    }
}

fn at_of(l: serde_saphyr::Location) -> At {
    At { line: l.line() as u32, column: l.column() as u32 }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s: Spanned<Data> = Spanned::deserialize(d)?;
        Ok(Tree { at: at_of(s.referenced), data: s.value })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s: Spanned<String> = Spanned::deserialize(d)?;
        Ok(Key { at: at_of(s.referenced), name: s.value })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }
    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Data, E> {
        Ok(Data::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Data, E> {
        Ok(Data::Int(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Data, E> {
        Ok(i64::try_from(v).map_or(Data::Num(v as f64), Data::Int))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Data, E> {
        Ok(Data::Num(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Data, E> {
        Ok(Data::Text(v.to_string()))
    }
    fn visit_string<E>(self, v: String) -> Result<Data, E> {
        Ok(Data::Text(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            pairs.push((key, map.next_value()?));
        }
        Ok(Data::Map(pairs))
    }
}

/// What stands where bytes were no UTF-8.
const NOT_UTF8: char = '\u{FFFD}';

/// Reads a file's text. A text that is no YAML gives problems and no tree; a key given twice gives a problem and
/// the tree with its first value, so that the rest is still read.
pub fn read(file: &str, source: &str) -> (Option<Tree>, Vec<Problem>) {
    if let Some(at) = source.find(NOT_UTF8) {
        let before = &source[..at];
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
        let mend = "save it as UTF-8 (a GBK file: iconv -f GBK -t UTF-8)";
        let at = At { line, column };
        return (None, vec![Problem::new("E001", file, source, at, "this file is not UTF-8", mend)]);
    }
    let mut options = Options::default();
    options.strict_booleans = true;
    // All of them come, so that each can be named.
    options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
    match serde_saphyr::from_str_with_options::<Tree>(source, options) {
        Ok(mut tree) => {
            let mut twice = Vec::new();
            keep_first(&mut tree, &mut twice);
            let said = |key: &Key| {
                let message = format!("the key `{}` is given twice", key.name);
                Problem::new("E001", file, source, key.at, message, "give each key once")
            };
            let problems = twice.iter().map(said).collect();
            (Some(tree), problems)
        }
        Err(e) => (None, vec![yaml_problem(file, source, &e)]),
    }
}

/// Takes repeated keys out of every block.
fn keep_first(tree: &mut Tree, twice: &mut Vec<Key>) {
    match &mut tree.data {
        Data::Map(pairs) => {
            let mut seen = std::collections::BTreeSet::new();
            pairs.retain(|(key, _)| {
                let first = seen.insert(key.name.clone());
                if !first {
                    twice.push(key.clone());
                }
                first
            });
            pairs.iter_mut().for_each(|(_, value)| keep_first(value, twice));
        }
        Data::List(items) => items.iter_mut().for_each(|item| keep_first(item, twice)),
        _ => {}
    }
}

fn yaml_problem(file: &str, source: &str, e: &serde_saphyr::Error) -> Problem {
    let at = e.location().map(at_of).unwrap_or_default();
    let e = e.without_snippet();
    let said = e.to_string();
    let said = said.lines().next().unwrap_or("this is no YAML").to_string();
    if said.contains("from_str_multiple") {
        let message = "a second document begins here (`---`); a file holds one";
        return Problem::new("E001", file, source, at, message, "put the second one into a file of its own");
    }
    let mend = "check the indentation (spaces, no tabs) and put Chinese sentences between double quotes";
    Problem::new("E001", file, source, at, said, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let (tree, problems) =
            read("a.yaml", "flow: x\nnodes:\n  a: {do: say, prompt: \"好,好\"}\n  b: [1, 2.5, yes, true, ~]\n");
        assert!(problems.is_empty(), "{problems:?}");
        let Data::Map(top) = tree.unwrap().data else { panic!("a map") };
        let Data::Map(nodes) = &top[1].1.data else { panic!("a map") };
        assert_eq!(nodes[0].0.at, At { line: 3, column: 3 });
        let Data::Map(a) = &nodes[0].1.data else { panic!("a map") };
        assert_eq!(a[1].1, Tree { at: At { line: 3, column: 24 }, data: Data::Text("好,好".into()) });
        let Data::List(b) = &nodes[1].1.data else { panic!("a list") };
        let kinds: Vec<&Data> = b.iter().map(|t| &t.data).collect();
        assert_eq!(kinds, [&Data::Int(1), &Data::Num(2.5), &Data::Text("yes".into()), &Data::Bool(true), &Data::Null]);
    }

    #[test]
    fn a_key_given_twice_is_a_problem_and_the_rest_is_still_read() {
        let (tree, problems) = read("a.yaml", "a: 1\nb: {c: 1, c: 2}\na: 3\n");
        let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(3, 1), (2, 11)], "{problems:?}");
        let Data::Map(top) = tree.unwrap().data else { panic!("a map") };
        assert_eq!((top.len(), &top[0].1.data), (2, &Data::Int(1)), "the first one counts");
    }

    #[test]
    fn a_file_in_another_encoding_is_said_to_be_so() {
        let (tree, problems) = read("a.yaml", &String::from_utf8_lossy(b"flow: x\ntitle: \xcd\xb6\xcb\xdf\n"));
        assert!(tree.is_none());
        assert_eq!((problems[0].line, problems[0].column), (2, 9), "the first bytes happen to be a letter");
        assert!(problems[0].message.contains("UTF-8"), "{}", problems[0]);
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_place() {
        for bad in ["a: [1, 2", "a: b: c", "- 1\nb: 2", "&a *a", "a: \"未完"] {
            let (_, problems) = read("a.yaml", bad);
            assert_eq!(problems.len(), 1, "{bad:?}");
            assert!(problems[0].line > 0, "{bad:?}: {}", problems[0]);
        }
    }
}
