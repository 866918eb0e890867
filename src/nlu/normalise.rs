//! One form for the many ways the same words are written or stuttered.

use super::rules;
use std::collections::HashMap;
use std::sync::OnceLock;

const FILLERS: &str = include_str!("../../rules/fillers.txt");
const TRADITIONAL: &str = include_str!("../../rules/traditional.txt");

struct Fillers {
    edge: Vec<&'static str>,
    opening: Vec<&'static str>,
    before: Vec<&'static str>,
}

fn fillers() -> &'static Fillers {
    static FILLERS_READ: OnceLock<Fillers> = OnceLock::new();
    FILLERS_READ.get_or_init(|| {
        let mut s = rules::sections(FILLERS);
        let mut take = |name: &str| {
            let mut v = s.remove(name).unwrap_or_default();
            v.sort_by_key(|w| std::cmp::Reverse(w.len()));
            v
        };
        Fillers { edge: take("edge"), opening: take("opening"), before: take("before") }
    })
}

fn simplified(c: char) -> char {
    static PAIRS: OnceLock<HashMap<char, char>> = OnceLock::new();
    let pairs = PAIRS.get_or_init(|| {
        rules::entries(TRADITIONAL)
            .flat_map(str::split_whitespace)
            .filter_map(|p| {
                let mut c = p.chars();
                Some((c.next()?, c.next()?))
            })
            .collect()
    });
    pairs.get(&c).copied().unwrap_or(c)
}

/// Full-width forms to ASCII.
pub fn half_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Half width, lower case, simplified, no punctuation (a space stays only between Latin words or digits).
/// Fillers stay.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    let mut rest = text.chars().map(half_width).peekable();
    while let Some(c) = rest.next() {
        let inside =
            |test: fn(&char) -> bool, next: Option<&char>| out.ends_with(|p: char| test(&p)) && next.is_some_and(test);
        let keep = c.is_alphanumeric()
            || c == '〇'
            || (c == '\'' && inside(char::is_ascii_alphabetic, rest.peek()))
            || (c == '.' && inside(char::is_ascii_digit, rest.peek()));
        if !keep {
            gap = true;
            continue;
        }
        if gap && c.is_ascii_alphanumeric() && out.ends_with(|p: char| p.is_ascii_alphanumeric()) {
            out.push(' ');
        }
        gap = false;
        out.extend(simplified(c).to_lowercase());
    }
    out
}

/// The form that patterns and the classifier see: [`fold`], then fillers and stutters removed where that is harmless.
/// Spoken digits stay as they are.
pub fn normalise(text: &str) -> String {
    let folded = fold(text);
    let calm = without_repeats(&folded);
    without_fillers(&calm)
}

fn without_fillers(text: &str) -> String {
    let f = fillers();
    let mut rest = text.trim();
    loop {
        let shorter = f
            .edge
            .iter()
            .find_map(|w| strip_start(rest, w))
            .or_else(|| {
                let opened = f.opening.iter().find_map(|w| strip_start(rest, w))?;
                f.before.iter().any(|b| opened.starts_with(b)).then_some(opened)
            })
            .or_else(|| f.edge.iter().find_map(|w| strip_end(rest, w)));
        match shorter.map(str::trim) {
            Some(s) if !s.is_empty() => rest = s,
            _ => return rest.to_owned(),
        }
    }
}

/// A Latin filler must be a whole word.
fn strip_start<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(word)?;
    (!word.is_ascii() || rest.starts_with(' ')).then_some(rest)
}

fn strip_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.strip_suffix(word)?;
    (!word.is_ascii() || rest.ends_with(' ')).then_some(rest)
}

/// "我我我要" -> "我要", "我要我要退款" -> "我要退款"; digits are never joined (八八八 is a number).
fn without_repeats(text: &str) -> String {
    let mut out: Vec<char> = Vec::with_capacity(text.len());
    let repeatable = |c: char| !c.is_ascii() && !"不没零〇一幺二两三四五六七八九十百千万洞拐勾半点".contains(c);
    for c in text.chars() {
        out.push(c);
        loop {
            let n = out.len();
            let triple = n >= 3 && out[n - 1] == out[n - 2] && out[n - 2] == out[n - 3] && repeatable(out[n - 1]);
            let pronoun = n >= 2 && out[n - 1] == out[n - 2] && "我你您那要".contains(out[n - 1]);
            let pair = n >= 4
                && out[n - 2..] == out[n - 4..n - 2]
                && out[n - 2] != out[n - 1]
                && out[n - 2..].iter().all(|c| repeatable(*c));
            if triple {
                out.truncate(n - 2);
            } else if pronoun {
                out.truncate(n - 1);
            } else if pair {
                out.truncate(n - 2);
            } else {
                break;
            }
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_case_script_and_punctuation_do_not_matter() {
        assert_eq!(normalise("我要查詢訂單，謝謝！"), "我要查询订单谢谢");
        assert_eq!(normalise("ＶＩＰ　１２３"), "vip 123");
        assert_eq!(normalise("Where's my ORDER?"), "where's my order");
        assert_eq!(normalise("12.5元. 3."), "12.5元3");
        assert_eq!(normalise("  "), "");
    }

    #[test]
    fn fillers_go_only_where_nothing_is_lost() {
        assert_eq!(normalise("嗯，那个，我想查一下订单啊"), "我想查一下订单");
        assert_eq!(normalise("就是我想退款"), "我想退款");
        assert_eq!(normalise("嗯"), "嗯");
        assert_eq!(normalise("嗯嗯"), "嗯");
        assert_eq!(normalise("就是这个"), "就是这个");
        assert_eq!(normalise("我那个单子"), "我那个单子");
        assert_eq!(normalise("uh where is my order"), "where is my order");
        assert_eq!(normalise("umbrella"), "umbrella");
    }

    #[test]
    fn stutters_are_joined_but_numbers_are_not() {
        assert_eq!(normalise("我我我要退款"), "我要退款");
        assert_eq!(normalise("我要我要退款"), "我要退款");
        assert_eq!(normalise("对对对"), "对");
        assert_eq!(normalise("看看订单"), "看看订单");
        assert_eq!(normalise("八八八八"), "八八八八");
        assert_eq!(normalise("一三一三"), "一三一三");
    }
}
