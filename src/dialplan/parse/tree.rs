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

/// Reads a file's text. A text that is no YAML gives problems and no tree; a key given twice gives a problem and
/// the tree with its first value, so that the rest is still read.
pub fn read(file: &str, source: &str) -> (Option<Tree>, Vec<Problem>) {
    match serde_saphyr::from_str_with_options::<Tree>(source, options(false)) {
        Ok(tree) => (Some(tree), Vec::new()),
        Err(e) => {
            let problem = yaml_problem(file, source, &e);
            let tree = serde_saphyr::from_str_with_options::<Tree>(source, options(true)).ok();
            (tree, vec![problem])
        }
    }
}

fn options(first_wins: bool) -> Options {
    let mut o = Options::default();
    o.strict_booleans = true;
    if first_wins {
        o.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::FirstWins;
    }
    o
}

fn yaml_problem(file: &str, source: &str, e: &serde_saphyr::Error) -> Problem {
    let at = e.location().map(at_of).unwrap_or_default();
    let e = e.without_snippet();
    let said = e.to_string();
    let said = said.lines().next().unwrap_or("this is no YAML").to_string();
    let mend = if said.contains("duplicate") {
        "give each key once"
    } else {
        "check the indentation (spaces, no tabs) and put Chinese sentences between double quotes"
    };
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
        let (tree, problems) = read("a.yaml", "a: 1\nb: 2\na: 3\n");
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].line, problems[0].column), (3, 1), "{}", problems[0]);
        assert!(tree.is_some());
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
