//! Expressions of `if:`, `skip_if:`, `set:` and `with:`: total, free of side effects, no loops, no user code.
//!
//! ```text
//! or   := and ("or" and)*            and  := not ("and" not)*
//! not  := "not" not | cmp            cmp  := unit (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") unit)?
//! unit := number | 'text' | "text" | true | false | null | [or, …] | (or)
//!       | exists path | len(or) | path
//! path := name ("." name | "[" number "]")*
//! ```
//!
//! A path that leads nowhere is `null`. Values of different kinds are never equal and have no order: comparing them
//! with `<` is an error with its position, not a guess.

use super::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Names an expression can see.
pub type Scope = BTreeMap<String, Value>;

/// Deepest nesting; deeper input is refused when it is parsed.
const MAX_DEPTH: u32 = 24;
/// Most operands of one chain of `or` or `and`: the tree leans to the left and is walked by recursion.
const MAX_CHAIN: u32 = 64;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    root: Node,
    source: String,
}

/// Why an expression cannot be read or worked out; `at` is a character offset from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} (character {} of the expression)", at + 1)]
pub struct ExprError {
    /// Offset in characters.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(Value),
    List(Vec<Node>),
    Path(Path),
    Exists(Path),
    Len(usize, Box<Node>),
    Not(usize, Box<Node>),
    And(usize, Box<Node>, Box<Node>),
    Or(usize, Box<Node>, Box<Node>),
    Compare(usize, Comparison, Box<Node>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
}

/// A path such as `orders[0].item`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The first name.
    pub root: String,
    /// What follows it.
    pub rest: Vec<Seg>,
}

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seg {
    /// `.name`
    Field(String),
    /// `[0]`
    Index(usize),
}

impl Path {
    /// Reads a path, for prompts' placeholders.
    pub fn parse(source: &str) -> Result<Path, ExprError> {
        let mut p = Parser::new(source)?;
        let path = p.path()?;
        p.end()?;
        Ok(path)
    }

    /// What it leads to.
    pub fn find<'a>(&self, scope: &'a Scope) -> Option<&'a Value> {
        let mut v = scope.get(&self.root)?;
        for seg in &self.rest {
            v = match (seg, v) {
                (Seg::Field(f), Value::Map(m)) => m.get(f)?,
                (Seg::Index(i), Value::List(l)) => l.get(*i)?,
                _ => return None,
            };
        }
        Some(v)
    }

    /// The slot it reads, when it is `slots.x…`.
    pub fn slot(&self) -> Option<&str> {
        match (self.root.as_str(), self.rest.first()) {
            ("slots", Some(Seg::Field(f))) => Some(f),
            _ => None,
        }
    }

    /// Its last name (`order.receiver` → `receiver`).
    pub fn last_name(&self) -> &str {
        let named = self.rest.iter().rev().find_map(|s| match s {
            Seg::Field(f) => Some(f.as_str()),
            Seg::Index(_) => None,
        });
        named.unwrap_or(&self.root)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        for seg in &self.rest {
            match seg {
                Seg::Field(name) => write!(f, ".{name}")?,
                Seg::Index(i) => write!(f, "[{i}]")?,
            }
        }
        Ok(())
    }
}

impl Expr {
    /// Reads an expression.
    pub fn parse(source: &str) -> Result<Expr, ExprError> {
        let mut p = Parser::new(source)?;
        let root = p.or(0)?;
        p.end()?;
        Ok(Expr { root, source: source.to_string() })
    }

    /// An expression that is just a value.
    pub fn literal(value: Value) -> Expr {
        Expr { source: format!("{value:?}"), root: Node::Literal(value) }
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Works it out.
    pub fn eval(&self, scope: &Scope) -> Result<Value, ExprError> {
        eval(&self.root, scope)
    }

    /// Works out a condition: `null` is false, anything that is no yes/no is an error.
    pub fn test(&self, scope: &Scope) -> Result<bool, ExprError> {
        truth(&self.eval(scope)?, 0)
    }

    /// Every path it reads.
    pub fn paths(&self) -> Vec<&Path> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }

    /// The paths whose values the result may hold (a comparison holds none).
    pub fn carried(&self) -> Vec<&Path> {
        match &self.root {
            Node::Path(p) => vec![p],
            list @ Node::List(_) => {
                let mut found = Vec::new();
                collect(list, &mut found);
                found
            }
            _ => Vec::new(),
        }
    }
}

fn collect<'a>(n: &'a Node, found: &mut Vec<&'a Path>) {
    match n {
        Node::Literal(_) => {}
        Node::List(items) => items.iter().for_each(|i| collect(i, found)),
        Node::Path(p) | Node::Exists(p) => found.push(p),
        Node::Len(_, a) | Node::Not(_, a) => collect(a, found),
        Node::And(_, a, b) | Node::Or(_, a, b) | Node::Compare(_, _, a, b) => {
            collect(a, found);
            collect(b, found);
        }
    }
}

fn eval(n: &Node, scope: &Scope) -> Result<Value, ExprError> {
    Ok(match n {
        Node::Literal(v) => v.clone(),
        Node::List(items) => Value::List(items.iter().map(|i| eval(i, scope)).collect::<Result<_, _>>()?),
        Node::Path(p) => p.find(scope).cloned().unwrap_or(Value::Null),
        Node::Exists(p) => Value::Bool(p.find(scope).is_some_and(|v| !v.is_null())),
        Node::Len(at, a) => Value::Int(length(&eval(a, scope)?, *at)?),
        Node::Not(at, a) => Value::Bool(!truth(&eval(a, scope)?, *at)?),
        Node::And(at, a, b) => Value::Bool(truth(&eval(a, scope)?, *at)? && truth(&eval(b, scope)?, *at)?),
        Node::Or(at, a, b) => Value::Bool(truth(&eval(a, scope)?, *at)? || truth(&eval(b, scope)?, *at)?),
        Node::Compare(at, op, a, b) => Value::Bool(compare(*op, &eval(a, scope)?, &eval(b, scope)?, *at)?),
    })
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "true/false",
        Value::Int(_) | Value::Num(_) => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a record",
    }
}

fn truth(v: &Value, at: usize) -> Result<bool, ExprError> {
    match v {
        Value::Bool(b) => Ok(*b),
        Value::Null => Ok(false),
        other => Err(ExprError { at, what: format!("{} is neither true nor false", kind(other)) }),
    }
}

fn length(v: &Value, at: usize) -> Result<i64, ExprError> {
    match v {
        Value::Null => Ok(0),
        Value::Text(s) => Ok(s.chars().count() as i64),
        Value::List(l) => Ok(l.len() as i64),
        Value::Map(m) => Ok(m.len() as i64),
        other => Err(ExprError { at, what: format!("{} has no length", kind(other)) }),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(x), Value::Num(y)) | (Value::Num(y), Value::Int(x)) => *x as f64 == *y,
        _ => a == b,
    }
}

fn compare(op: Comparison, a: &Value, b: &Value, at: usize) -> Result<bool, ExprError> {
    use std::cmp::Ordering;
    match op {
        Comparison::Eq => return Ok(same(a, b)),
        Comparison::Ne => return Ok(!same(a, b)),
        Comparison::In => {
            return match (a, b) {
                (_, Value::List(items)) => Ok(items.iter().any(|i| same(a, i))),
                (Value::Text(part), Value::Text(whole)) => Ok(whole.contains(part.as_str())),
                (_, Value::Null) => Ok(false),
                _ => Err(ExprError { at, what: format!("`in` needs a list on its right, not {}", kind(b)) }),
            };
        }
        _ => {}
    }
    if a.is_null() || b.is_null() {
        return Ok(false);
    }
    let order = match (a, b) {
        (Value::Int(x), Value::Int(y)) => Some(x.cmp(y)),
        (Value::Text(x), Value::Text(y)) => Some(x.cmp(y)),
        _ => number(a).zip(number(b)).and_then(|(x, y)| x.partial_cmp(&y)),
    };
    let Some(order) = order else {
        return Err(ExprError { at, what: format!("{} and {} have no order", kind(a), kind(b)) });
    };
    Ok(match op {
        Comparison::Lt => order == Ordering::Less,
        Comparison::Le => order != Ordering::Greater,
        Comparison::Gt => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn number(v: &Value) -> Option<f64> {
    match v {
        Value::Int(n) => Some(*n as f64),
        Value::Num(n) => Some(*n),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Number(Value),
    Text(String),
    Sign(&'static str),
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    length: usize,
}

const SIGNS: [&str; 13] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", ".", "-"];

impl Parser {
    fn new(source: &str) -> Result<Parser, ExprError> {
        let chars: Vec<char> = source.chars().collect();
        let mut tokens = Vec::new();
        let mut i = 0;
        while i < chars.len() {
            let c = chars[i];
            let from = i;
            if c.is_whitespace() {
                i += 1;
                continue;
            }
            let token = if c.is_ascii_alphabetic() || c == '_' {
                while i < chars.len() && (chars[i].is_ascii_alphanumeric() || chars[i] == '_') {
                    i += 1;
                }
                Token::Name(chars[from..i].iter().collect())
            } else if c.is_ascii_digit() {
                i = number_end(&chars, i);
                number_token(&chars[from..i], from)?
            } else if c == '\'' || c == '"' {
                i += 1;
                while i < chars.len() && chars[i] != c {
                    i += 1;
                }
                if i == chars.len() {
                    return Err(ExprError { at: from, what: "the text has no closing quote".into() });
                }
                i += 1;
                Token::Text(chars[from + 1..i - 1].iter().collect())
            } else {
                let here: String = chars[i..chars.len().min(i + 2)].iter().collect();
                let Some(sign) = SIGNS.iter().find(|s| here.starts_with(**s)) else {
                    return Err(ExprError { at: i, what: unknown_sign(c) });
                };
                i += sign.len();
                Token::Sign(sign)
            };
            tokens.push((from, token));
        }
        Ok(Parser { tokens, next: 0, length: chars.len() })
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.length, |t| t.0)
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError { at: self.at(), what: what.into() })
    }

    fn sign(&mut self, sign: &str) -> bool {
        let hit = matches!(self.tokens.get(self.next), Some((_, Token::Sign(s))) if *s == sign);
        self.next += usize::from(hit);
        hit
    }

    fn word(&mut self, word: &str) -> bool {
        let hit = matches!(self.tokens.get(self.next), Some((_, Token::Name(n))) if n == word);
        self.next += usize::from(hit);
        hit
    }

    fn end(&self) -> Result<(), ExprError> {
        if self.next == self.tokens.len() { Ok(()) } else { self.fail("nothing more was expected here") }
    }

    fn or(&mut self, depth: u32) -> Result<Node, ExprError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let mut left = self.and(depth)?;
        for _ in 0..MAX_CHAIN {
            let at = self.at();
            if !self.word("or") {
                return Ok(left);
            }
            left = Node::Or(at, Box::new(left), Box::new(self.and(depth)?));
        }
        self.fail("too many parts for one condition: split it, or write `x in [a, b, …]`")
    }

    fn and(&mut self, depth: u32) -> Result<Node, ExprError> {
        let mut left = self.not(depth)?;
        for _ in 0..MAX_CHAIN {
            let at = self.at();
            if !self.word("and") {
                return Ok(left);
            }
            left = Node::And(at, Box::new(left), Box::new(self.not(depth)?));
        }
        self.fail("too many parts for one condition: split it into several branches")
    }

    fn not(&mut self, depth: u32) -> Result<Node, ExprError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let at = self.at();
        if self.word("not") {
            return Ok(Node::Not(at, Box::new(self.not(depth + 1)?)));
        }
        let left = self.unit(depth)?;
        let at = self.at();
        let signs = [
            ("==", Comparison::Eq),
            ("!=", Comparison::Ne),
            ("<=", Comparison::Le),
            (">=", Comparison::Ge),
            ("<", Comparison::Lt),
            (">", Comparison::Gt),
        ];
        for (sign, op) in signs {
            if self.sign(sign) {
                return Ok(Node::Compare(at, op, Box::new(left), Box::new(self.unit(depth)?)));
            }
        }
        if self.word("in") {
            return Ok(Node::Compare(at, Comparison::In, Box::new(left), Box::new(self.unit(depth)?)));
        }
        Ok(left)
    }

    fn unit(&mut self, depth: u32) -> Result<Node, ExprError> {
        if self.sign("(") {
            let inner = self.or(depth + 1)?;
            return if self.sign(")") { Ok(inner) } else { self.fail("`)` is missing") };
        }
        if self.sign("[") {
            return self.list(depth);
        }
        let negative = self.sign("-");
        let at = self.at();
        match self.tokens.get(self.next).cloned() {
            Some((_, Token::Number(v))) => {
                self.next += 1;
                Ok(Node::Literal(match v {
                    Value::Int(n) if negative => Value::Int(-n),
                    Value::Num(n) if negative => Value::Num(-n),
                    v => v,
                }))
            }
            _ if negative => self.fail("a number must follow `-`"),
            Some((_, Token::Text(s))) => {
                self.next += 1;
                Ok(Node::Literal(Value::Text(s)))
            }
            Some((_, Token::Name(name))) => self.named(&name, at, depth),
            _ => self.fail("a value is missing"),
        }
    }

    fn named(&mut self, name: &str, at: usize, depth: u32) -> Result<Node, ExprError> {
        let literal = match name {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            "and" | "or" | "in" | "not" => return self.fail(format!("a value is missing before `{name}`")),
            _ => None,
        };
        if let Some(v) = literal {
            self.next += 1;
            return Ok(Node::Literal(v));
        }
        if name == "exists" {
            self.next += 1;
            return Ok(Node::Exists(self.path()?));
        }
        if name == "len" && matches!(self.tokens.get(self.next + 1), Some((_, Token::Sign("(")))) {
            self.next += 2;
            let inner = self.or(depth + 1)?;
            return if self.sign(")") { Ok(Node::Len(at, Box::new(inner))) } else { self.fail("`)` is missing") };
        }
        Ok(Node::Path(self.path()?))
    }

    fn list(&mut self, depth: u32) -> Result<Node, ExprError> {
        let mut items = Vec::new();
        if self.sign("]") {
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.or(depth + 1)?);
            if self.sign("]") {
                return Ok(Node::List(items));
            }
            if !self.sign(",") {
                return self.fail("`,` or `]` is missing");
            }
        }
    }

    fn path(&mut self) -> Result<Path, ExprError> {
        let Some((_, Token::Name(root))) = self.tokens.get(self.next).cloned() else {
            return self.fail("a name is missing");
        };
        self.next += 1;
        let mut rest = Vec::new();
        loop {
            if self.sign(".") {
                let Some((_, Token::Name(field))) = self.tokens.get(self.next).cloned() else {
                    return self.fail("a name must follow `.`");
                };
                self.next += 1;
                rest.push(Seg::Field(field));
            } else if self.sign("[") {
                let Some((_, Token::Number(Value::Int(i)))) = self.tokens.get(self.next).cloned() else {
                    return self.fail("a whole number must stand between `[` and `]`");
                };
                self.next += 1;
                if !self.sign("]") {
                    return self.fail("`]` is missing");
                }
                rest.push(Seg::Index(i as usize));
            } else {
                return Ok(Path { root, rest });
            }
        }
    }
}

fn number_end(chars: &[char], mut i: usize) -> usize {
    let digits = |i: &mut usize| {
        while *i < chars.len() && chars[*i].is_ascii_digit() {
            *i += 1;
        }
    };
    digits(&mut i);
    if i + 1 < chars.len() && chars[i] == '.' && chars[i + 1].is_ascii_digit() {
        i += 1;
        digits(&mut i);
    }
    i
}

fn number_token(chars: &[char], at: usize) -> Result<Token, ExprError> {
    let text: String = chars.iter().collect();
    let value = if text.contains('.') { text.parse().ok().map(Value::Num) } else { text.parse().ok().map(Value::Int) };
    value.map(Token::Number).ok_or_else(|| ExprError { at, what: format!("{text} is too large") })
}

fn unknown_sign(c: char) -> String {
    match c {
        '=' => "compare with `==`, not `=`".into(),
        '&' | '|' | '!' => "write `and`, `or`, `not`".into(),
        '“' | '”' | '‘' | '’' => "use plain quotes ' or \"".into(),
        c => format!("`{}` has no meaning here", c.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope() -> Scope {
        let order = Value::map([("status", Value::text("paid")), ("amount_yuan", Value::Int(4299))]);
        let slots = Value::map([("order_ref", Value::text("3826")), ("none", Value::Null)]);
        [("n", Value::Int(2)), ("order", order.clone()), ("orders", Value::List(vec![order])), ("slots", slots)]
            .map(|(k, v)| (k.to_string(), v))
            .into()
    }

    fn test(source: &str) -> Result<bool, ExprError> {
        Expr::parse(source)?.test(&scope())
    }

    #[test]
    fn a_long_chain_is_refused_instead_of_eating_the_stack() {
        for word in ["or", "and"] {
            let chain = |n: usize| vec!["a"; n].join(&format!(" {word} "));
            assert!(Expr::parse(&chain(60)).is_ok());
            let refused = Expr::parse(&chain(10_000)).unwrap_err();
            assert!(refused.what.contains("too many parts") && refused.at > 0, "{refused:?}");
        }
    }

    #[test]
    fn conditions_mean_what_they_say() {
        let cases = [
            ("n == 2", true),
            ("n == 2.0", true),
            ("n != 2", false),
            ("n > 1 and n <= 2", true),
            ("not (n < 2) or false", true),
            ("order.status in ['paid','packing']", true),
            ("order.status in []", false),
            ("orders[0].status == \"paid\"", true),
            ("orders[9].status == null", true),
            ("exists slots.order_ref", true),
            ("exists slots.none", false),
            ("not exists nothing.at.all[3]", true),
            ("len(slots.order_ref) == 4 and len(orders) == 1 and len(nowhere) == 0", true),
            ("nowhere < 3", false),
            ("n == '2'", false),
            ("-1 < n", true),
            ("order.amount_yuan > 5000", false),
            ("nowhere", false),
        ];
        for (source, expected) in cases {
            assert_eq!(test(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn errors_say_where() {
        let cases = [
            ("n = 2", 2),
            ("n == ", 5),
            ("n == 'x", 5),
            ("(n == 2", 7),
            ("n && m", 2),
            ("and n", 0),
            ("n == 2 n", 7),
            ("orders[x]", 7),
            ("99999999999999999999 == n", 0),
            ("n < 'x'", 2),
            ("n and true", 2),
            ("len(n) == 1", 0),
        ];
        for (source, at) in cases {
            assert_eq!(test(source).map_err(|e| e.at), Err(at), "{source}");
        }
        let deep = "(".repeat(5000);
        assert!(Expr::parse(&deep).is_err());
        assert!(Expr::parse(&"not ".repeat(5000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(source in "[ a-z0-9\\[\\]().,'\"=<>!\u{4e00}-\u{4e20}-]{0,60}") {
            if let Ok(e) = Expr::parse(&source) {
                let _ = e.test(&scope());
                let _ = e.paths();
            }
        }
    }
}
