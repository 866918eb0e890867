//! Which order the caller means: its tail, its whole number, the latest one, or what was bought.

use super::digits;
use super::normalise::normalise;
use super::pinyin::{fuzzy, toneless};

/// An order, as callers name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderRef {
    /// The last four digits.
    Tail(String),
    /// A whole number of 12 to 18 digits.
    Full(String),
    /// "最近那单", "刚下的"
    Latest,
    /// "第二个": its place in the list that was read out, from 0.
    Nth(usize),
    /// One of `items`, by its index.
    Item(usize),
}

const LATEST: &[&str] =
    &["最近", "最新", "刚下", "刚买", "刚才下", "刚刚", "上一单", "最后一单", "latest", "last order", "most recent"];

/// The order meant by `text`. `items` are the names of what the caller's own orders hold (may be empty).
pub fn parse(text: &str, items: &[&str]) -> Option<OrderRef> {
    if let Some(full) = digits::parse_len(text, 12, 18) {
        return Some(OrderRef::Full(full));
    }
    // 二零二六年 is a year, 三千块 a price
    let counted = |tail: &String| ["年", "元", "块", "月"].iter().any(|unit| digits::is_before(text, tail, unit));
    if let Some(tail) = digits::parse_len(text, 4, 4).filter(|t| !counted(t)) {
        return Some(OrderRef::Tail(tail));
    }
    let text = normalise(text);
    if let Some(i) = item(&text, items) {
        return Some(OrderRef::Item(i));
    }
    if let Some(n) = nth(&text) {
        return Some(OrderRef::Nth(n));
    }
    LATEST.iter().any(|w| text.contains(w)).then_some(OrderRef::Latest)
}

/// The one item named in `text`: by its words, else by sound; `None` when none or several fit.
pub fn item(text: &str, items: &[&str]) -> Option<usize> {
    let only = |test: &dyn Fn(&str) -> bool| {
        let mut hits = items.iter().enumerate().filter(|(_, name)| !name.is_empty() && test(name)).map(|(i, _)| i);
        hits.next().filter(|_| hits.next().is_none())
    };
    only(&|name| text.contains(&normalise(name))).or_else(|| only(&|name| shares_a_word(text, name))).or_else(|| {
        let said: Vec<String> = toneless(text).iter().map(|s| fuzzy(s)).collect();
        only(&|name| {
            let want: Vec<String> = toneless(name).iter().map(|s| fuzzy(s)).collect();
            want.len() >= 2 && said.windows(want.len()).any(|w| w == want)
        })
    })
}

/// 冰箱 names 双门冰箱: the last two hanzi of an item's name are usually what it is.
fn shares_a_word(text: &str, name: &str) -> bool {
    let chars: Vec<char> = name.chars().filter(|c| !c.is_ascii()).collect();
    chars.len() > 2 && text.contains(&chars[chars.len() - 2..].iter().collect::<String>())
}

/// 第一个, 第二单, 头一个.
fn nth(text: &str) -> Option<usize> {
    if ["头一个", "头一单", "first one", "the first"].iter().any(|w| text.contains(w)) {
        return Some(0);
    }
    if ["second one", "the second"].iter().any(|w| text.contains(w)) {
        return Some(1);
    }
    let at = text.find('第')?;
    let mut rest = text[at + '第'.len_utf8()..].chars();
    let n = super::numbers::digit(rest.next()?).filter(|n| (1..=9).contains(n))?;
    matches!(rest.next(), None | Some('个' | '单' | '笔' | '件' | '条' | '台')).then(|| usize::from(n) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_named_in_many_ways() {
        let items = ["双门冰箱", "路由器", "洗衣机"];
        for (text, expected) in [
            ("查订单尾号三八二六", Some(OrderRef::Tail("3826".into()))),
            ("单号是202611220003", Some(OrderRef::Full("202611220003".into()))),
            ("最近那一单", Some(OrderRef::Latest)),
            ("我买的那个冰箱", Some(OrderRef::Item(0))),
            ("路有气那个", Some(OrderRef::Item(1))),
            ("第二个", Some(OrderRef::Nth(1))),
            ("我刚买的洗衣机", Some(OrderRef::Item(2))),
            ("我想查订单", None),
            ("二零二六年的订单", None),
        ] {
            assert_eq!(parse(text, &items), expected, "{text}");
        }
    }

    #[test]
    fn two_items_of_one_kind_are_not_guessed_between() {
        assert_eq!(item("冰箱", &["双门冰箱", "单门冰箱"]), None);
    }
}
