//! Quantities and money, spoken the everyday way: 三百五 is 350, 一万二 is 12,000, 两块五 is 2.50.

use super::normalise::fold;

/// The value of a digit character: hanzi, formal hanzi, telephone names (幺 洞 拐 勾) and ASCII.
pub fn digit(c: char) -> Option<u8> {
    Some(match c {
        '零' | '〇' | '0' | '洞' => 0,
        '一' | '幺' | '1' | '壹' => 1,
        '二' | '两' | '俩' | '2' | '贰' => 2,
        '三' | '仨' | '3' | '叁' => 3,
        '四' | '4' | '肆' => 4,
        '五' | '5' | '伍' => 5,
        '六' | '6' | '陆' => 6,
        '七' | '7' | '拐' | '柒' => 7,
        '八' | '8' | '捌' => 8,
        '九' | '9' | '勾' | '钩' | '玖' => 9,
        _ => return None,
    })
}

/// The value of a unit character, as a power of ten.
fn unit(c: char) -> Option<u32> {
    Some(match c {
        '十' | '拾' => 1,
        '百' | '佰' => 2,
        '千' | '仟' => 3,
        '万' => 4,
        '亿' => 8,
        _ => return None,
    })
}

/// A numeral found in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numeral {
    /// Thousandths of its value, so that 12.5 stays exact.
    pub milli: i64,
    /// How many characters it takes.
    pub len: usize,
    /// Whether it was written with units (十百千万), a point, or as a plain row of digits.
    pub has_unit: bool,
}

/// The longest numeral at the start of `chars`: 二十六, 三百五, 一万二, 3万, 12.5, 三点五, 128. At most 15 digits.
pub fn numeral(chars: &[char]) -> Option<Numeral> {
    let mut total: i64 = 0; // finished 万 and 亿 groups
    let mut group: i64 = 0; // inside the present group
    let mut pending: Option<i64> = None; // digits not yet given a unit
    let mut last_unit: Option<u32> = None;
    let mut zero_since_unit = false;
    let mut has_unit = false;
    let mut digits = 0usize;
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        if let Some(d) = digit(c) {
            let after_unit = last_unit.is_some() && !c.is_ascii();
            if after_unit && pending.is_some_and(|p| p != 0) {
                break; // 二十六三: the numeral ends before 三
            }
            digits += 1;
            if digits > 15 {
                return None;
            }
            zero_since_unit |= d == 0;
            pending = Some(pending.unwrap_or(0) * 10 + i64::from(d));
        } else if let Some(u) = unit(c) {
            if u == 1 && pending.is_none() && group == 0 && total == 0 {
                pending = Some(1); // 十六
            }
            let in_group = u < 4;
            if in_group && last_unit.is_some_and(|l| l < 4 && l <= u) {
                break; // 三十五百
            }
            let value = match pending.take() {
                Some(0) if u == 1 && last_unit.is_some() => 1, // 一千零十
                Some(v) => v,
                None if !in_group && (group > 0 || total > 0) => 0,
                None => break,
            };
            if in_group {
                group = group.checked_add(value.checked_mul(10i64.pow(u))?)?;
            } else {
                let below = group.checked_add(value)?;
                total = if u == 8 {
                    total.checked_add(below)?.checked_mul(100_000_000)?
                } else {
                    total.checked_add(below.checked_mul(10_000)?)?
                };
                group = 0;
            }
            (last_unit, zero_since_unit, has_unit) = (Some(u), false, true);
        } else {
            break;
        }
        i += 1;
    }
    if i == 0 {
        return None;
    }
    // 三百五 = 350, 一万二 = 12,000; but 三百零五 = 305, 二十五 = 25
    let tail = pending.unwrap_or(0);
    let short = !zero_since_unit && tail > 0 && tail < 10 && last_unit.is_some_and(|u| u >= 2) && pending.is_some();
    let scale = if short { 10i64.pow(last_unit.unwrap_or(1) - 1) } else { 1 };
    let whole = total.checked_add(group)?.checked_add(tail.checked_mul(scale)?)?;
    let mut n = Numeral { milli: whole.checked_mul(1000)?, len: i, has_unit };
    decimals(chars, &mut n)?;
    Some(n)
}

/// 三点五, 12.5, and 1.2万 after it.
fn decimals(chars: &[char], n: &mut Numeral) -> Option<()> {
    if !matches!(chars.get(n.len), Some('点' | '.')) {
        return Some(());
    }
    let row = chars[n.len + 1..].iter().map_while(|c| digit(*c)).collect::<Vec<_>>();
    if row.is_empty() {
        return Some(());
    }
    let fraction: i64 = row.iter().chain([0, 0, 0].iter()).take(3).fold(0, |v, d| v * 10 + i64::from(*d));
    n.milli = n.milli.checked_add(fraction)?;
    n.len += 1 + row.len();
    n.has_unit = true;
    if let Some(u) = chars.get(n.len).copied().and_then(unit) {
        n.milli = n.milli.checked_mul(10i64.pow(u))?;
        n.len += 1;
    }
    Some(())
}

/// The first whole number in `text` (十 to 九千万亿, or digits); `None` when there is none or it has decimals.
pub fn parse_int(text: &str) -> Option<i64> {
    let chars: Vec<char> = fold(text).chars().collect();
    let start = chars.iter().position(|c| digit(*c).is_some() || *c == '十')?;
    let n = numeral(&chars[start..])?;
    (n.milli % 1000 == 0).then_some(n.milli / 1000)
}

/// An amount of money in cents: 两块五, 十二元五角, 三百五, 五毛, 一千二百块, 12.50元, "一万二".
pub fn parse_money(text: &str) -> Option<i64> {
    let chars: Vec<char> = fold(text).chars().filter(|c| *c != ' ').collect();
    let mut cents: i64 = 0;
    let mut found = false;
    let mut last_each = 0; // what the unit before was worth, in cents
    let mut i = 0;
    while i < chars.len() {
        let half = chars[i] == '半' && last_each == 100;
        if half {
            return Some(cents + 50); // 两块半
        }
        let Some(n) = (digit(chars[i]).is_some() || chars[i] == '十').then(|| numeral(&chars[i..])).flatten() else {
            if found && chars[i] != '钱' && chars[i] != '零' {
                break;
            }
            i += 1;
            continue;
        };
        i += n.len;
        let cents_each = match chars.get(i) {
            Some('元' | '块' | '圆') => 100,
            Some('角' | '毛') => 10,
            Some('分') => 1,
            _ if last_each == 100 && n.milli < 10_000 && !found_zero(&chars, i - n.len) => 10, // 两块五
            _ if last_each == 100 || last_each == 10 => 1,                                     // 两块零五, 八毛五
            _ if found => break,
            _ => 100,
        };
        cents = cents.checked_add(n.milli.checked_mul(cents_each)? / 1000)?;
        if !matches!(chars.get(i), Some('元' | '块' | '圆' | '角' | '毛' | '分')) {
            return Some(cents); // no unit: the amount ends here
        }
        i += 1;
        found = true;
        last_each = cents_each;
    }
    found.then_some(cents)
}

/// Whether the numeral at `at` begins with a zero (两块零五分).
fn found_zero(chars: &[char], at: usize) -> bool {
    matches!(chars.get(at), Some('零' | '〇' | '0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoken_numbers_have_their_everyday_value() {
        for (text, value) in [
            ("十", 10),
            ("十六", 16),
            ("二十六", 26),
            ("一百零五", 105),
            ("一百一十", 110),
            ("一百一", 110),
            ("三百五", 350),
            ("三百五十", 350),
            ("两千五", 2500),
            ("三千零五", 3005),
            ("三千零一十", 3010),
            ("一千零十", 1010),
            ("一万二", 12_000),
            ("一万零二", 10_002),
            ("十万", 100_000),
            ("十二万三千四百五十六", 123_456),
            ("一亿两千万", 120_000_000),
            ("3万", 30_000),
            ("1.2万", 12_000),
            ("128", 128),
            ("我买了二十个", 20),
        ] {
            assert_eq!(parse_int(text), Some(value), "{text}");
        }
        assert_eq!(parse_int("没有数"), None);
        assert_eq!(parse_int("三点五"), None);
    }

    #[test]
    fn money_is_in_cents() {
        for (text, cents) in [
            ("三百五", 35_000),
            ("一万二", 1_200_000),
            ("两块五", 250),
            ("两块零五分", 205),
            ("两块半", 250),
            ("十二元五角", 1250),
            ("十二块八毛五", 1285),
            ("五毛", 50),
            ("12.50元", 1250),
            ("￥99", 9900),
            ("九十九块钱", 9900),
            ("大概一千二百块吧", 120_000),
            ("三块零五", 305),
        ] {
            assert_eq!(parse_money(text), Some(cents), "{text}");
        }
        assert_eq!(parse_money("不知道"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[零一二三十百千万亿点半块元0-9. a]{0,40}") {
            let _ = (parse_int(&text), parse_money(&text));
        }
    }
}
