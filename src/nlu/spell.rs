//! How digits, numbers, money, dates and telephone numbers are spoken back, in hanzi.
//!
//! Strings of digits are spelled one by one; 1 is 幺 where a row of digits is dictated over the telephone.

const DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];

/// One digit; 1 as 一.
fn hanzi(d: char) -> Option<char> {
    d.to_digit(10).map(|d| DIGITS[d as usize])
}

/// Every digit on its own, 1 as 幺: `3126` -> 三幺二六. Other characters are left out, letters kept.
pub fn spell_digits(digits: &str) -> String {
    digits
        .chars()
        .filter_map(|c| match c {
            '1' => Some('幺'),
            c if c.is_ascii_alphabetic() => Some(c),
            c => hanzi(c),
        })
        .collect()
}

/// A year or a code read plainly: `2026` -> 二零二六.
pub fn spell_plain(digits: &str) -> String {
    digits.chars().filter_map(hanzi).collect()
}

/// A telephone number in groups with a comma's pause: 11 digits 3-4-4, a leading area code apart, longer rows by four.
pub fn spell_phone(number: &str) -> String {
    let d: String = number.chars().filter(char::is_ascii_digit).collect();
    let groups: &[usize] = match d.len() {
        11 if d.starts_with('1') => &[3, 4, 4],
        10 if d.starts_with("400") || d.starts_with("800") => &[3, 3, 4],
        11 if d.starts_with("01") || d.starts_with("02") => &[3, 4, 4],
        11 | 12 if d.starts_with('0') => &[4, 4, 4],
        10 => &[3, 3, 4],
        8 => &[4, 4],
        7 => &[3, 4],
        _ => &[],
    };
    grouped(&d, groups)
}

/// A long number (an order, a ticket): one by one, by fours with a pause.
pub fn spell_code(code: &str) -> String {
    let d: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    if d.len() <= 6 { spell_digits(&d) } else { grouped(&d, &[]) }
}

/// Cuts ASCII digits into groups; what is left over goes by fours.
fn grouped(digits: &str, groups: &[usize]) -> String {
    let mut parts = Vec::new();
    let mut rest = digits;
    let mut sizes = groups.iter();
    while !rest.is_empty() {
        let n = (*sizes.next().unwrap_or(&4)).min(rest.len());
        parts.push(spell_digits(&rest[..n]));
        rest = &rest[n..];
    }
    parts.join("，")
}

/// A quantity: 128 -> 一百二十八, 10 -> 十, 10010 -> 一万零一十, -3 -> 负三.
pub fn spell_int(n: i64) -> String {
    if n == 0 {
        return "零".into();
    }
    let mut out = String::new();
    let mut left = n.unsigned_abs();
    let mut groups = Vec::new();
    while left > 0 {
        groups.push((left % 10_000) as u32);
        left /= 10_000;
    }
    let mut gap = false; // a zero is owed before the next digit
    for (i, &g) in groups.iter().enumerate().rev() {
        if g == 0 {
            gap = true;
            continue;
        }
        if !out.is_empty() && (gap || g < 1000) {
            out.push('零');
        }
        if g == 2 && i > 0 && out.is_empty() {
            out.push('两'); // 两万, 两亿
        } else {
            out.push_str(&below_ten_thousand(g, out.is_empty()));
        }
        out.push_str(["", "万", "亿", "万亿", "亿亿"][i]);
        gap = false;
    }
    if n < 0 { format!("负{out}") } else { out }
}

/// 1..=9999; `first`: nothing stands before it, so 12 is 十二 and not 一十二.
fn below_ten_thousand(g: u32, first: bool) -> String {
    let mut out = String::new();
    let mut gap = false;
    for (unit, name) in [(1000, "千"), (100, "百"), (10, "十"), (1, "")] {
        let d = g / unit % 10;
        if d == 0 {
            gap = !out.is_empty();
            continue;
        }
        if gap {
            out.push('零');
            gap = false;
        }
        let bare_ten = unit == 10 && d == 1 && out.is_empty() && first;
        if !bare_ten {
            let two = d == 2 && unit >= 1000 && out.is_empty() && first;
            out.push(if two { '两' } else { DIGITS[d as usize] });
        }
        out.push_str(name);
    }
    out
}

/// A quantity before a measure word: 2 -> 两 (两个, 两天), otherwise as [`spell_int`].
pub fn spell_count(n: i64) -> String {
    if n == 2 { "两".into() } else { spell_int(n) }
}

/// A decimal number as written: `12.50` -> 十二点五零; `None` when it is no such number.
pub fn spell_decimal(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let n: i64 = whole.parse().ok()?;
    let whole = if n == 0 && whole.starts_with('-') { format!("负{}", spell_int(0)) } else { spell_int(n) };
    if fraction.is_empty() {
        return Some(whole);
    }
    fraction.chars().all(|c| c.is_ascii_digit()).then(|| format!("{whole}点{}", spell_plain(fraction)))
}

/// An amount of money in cents: 1250 -> 十二元五角, 10005 -> 一百元零五分, 0 -> 零元.
pub fn spell_money(cents: i64) -> String {
    let sign = if cents < 0 { "负" } else { "" };
    let all = cents.unsigned_abs();
    let (yuan, jiao, fen) = ((all / 100) as i64, all / 10 % 10, all % 10);
    let mut out = String::from(sign);
    if yuan > 0 || all == 0 {
        out.push_str(&spell_count(yuan));
        out.push('元');
    }
    if jiao > 0 {
        out.push(DIGITS[jiao as usize]);
        out.push('角');
    }
    if fen > 0 {
        if jiao == 0 && yuan > 0 {
            out.push('零');
        }
        out.push(DIGITS[fen as usize]);
        out.push('分');
    }
    out
}

/// A date: (2026, 11, 22) -> 二零二六年十一月二十二日; year 0 leaves the year out.
pub fn spell_date(year: i32, month: u8, day: u8) -> String {
    let day_part = format!("{}月{}日", spell_int(i64::from(month)), spell_int(i64::from(day)));
    if year == 0 { day_part } else { format!("{}年{day_part}", spell_plain(&year.to_string())) }
}

/// A time of day on the 24-hour clock: 9:00 -> 上午九点, 14:30 -> 下午两点半, 20:05 -> 晚上八点零五分.
pub fn spell_time(hour: u8, minute: u8) -> String {
    let part = match hour {
        0..=5 => "凌晨",
        6..=11 => "上午",
        12 => "中午",
        13..=17 => "下午",
        _ => "晚上",
    };
    let h = i64::from(if hour > 12 { hour - 12 } else { hour });
    let minutes = match minute {
        0 => String::new(),
        30 => "半".into(),
        m @ 1..=9 => format!("零{}分", spell_int(i64::from(m))),
        m => format!("{}分", spell_int(i64::from(m))),
    };
    format!("{part}{}点{minutes}", spell_count(h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_digits_are_spelled_one_by_one() {
        assert_eq!(spell_digits("3826"), "三八二六");
        assert_eq!(spell_digits("1 0-1"), "幺零幺");
        assert_eq!(spell_phone("13800138000"), "幺三八，零零幺三，八零零零");
        assert_eq!(spell_phone("4008001234"), "四零零，八零零，幺二三四");
        assert_eq!(spell_phone("010-88886666"), "零幺零，八八八八，六六六六");
        assert_eq!(spell_phone("12345"), "幺二三四，五");
        assert_eq!(spell_code("202611220003"), "二零二六，幺幺二二，零零零三");
        assert_eq!(spell_code("3826"), "三八二六");
    }

    #[test]
    fn numbers_are_spoken_as_quantities() {
        for (n, s) in [
            (0, "零"),
            (2, "二"),
            (10, "十"),
            (12, "十二"),
            (20, "二十"),
            (101, "一百零一"),
            (110, "一百一十"),
            (128, "一百二十八"),
            (200, "二百"),
            (1001, "一千零一"),
            (1010, "一千零一十"),
            (2000, "两千"),
            (2222, "两千二百二十二"),
            (10_000, "一万"),
            (10_010, "一万零一十"),
            (10_500, "一万零五百"),
            (20_000, "两万"),
            (200_000_000, "两亿"),
            (100_000, "十万"),
            (120_000, "十二万"),
            (1_000_000, "一百万"),
            (100_000_000, "一亿"),
            (100_001_000, "一亿零一千"),
            (-3, "负三"),
        ] {
            assert_eq!(spell_int(n), s, "{n}");
        }
        assert_eq!(spell_decimal("12.50").as_deref(), Some("十二点五零"));
        assert_eq!(spell_decimal("-0.5").as_deref(), Some("负零点五"));
        assert_eq!(spell_decimal("x"), None);
        assert_eq!(spell_int(i64::MIN).chars().next(), Some('负'));
    }

    #[test]
    fn money_dates_and_times() {
        for (c, s) in [
            (0, "零元"),
            (50, "五角"),
            (5, "五分"),
            (200, "两元"),
            (1250, "十二元五角"),
            (1285, "十二元八角五分"),
            (10_005, "一百元零五分"),
            (129_900, "一千二百九十九元"),
            (-100, "负一元"),
        ] {
            assert_eq!(spell_money(c), s, "{c}");
        }
        assert_eq!(spell_date(2026, 11, 22), "二零二六年十一月二十二日");
        assert_eq!(spell_date(0, 1, 2), "一月二日");
        assert_eq!(spell_time(9, 0), "上午九点");
        assert_eq!(spell_time(14, 30), "下午两点半");
        assert_eq!(spell_time(20, 5), "晚上八点零五分");
        assert_eq!(spell_time(12, 15), "中午十二点十五分");
        assert_eq!(spell_time(0, 0), "凌晨零点");
    }

    proptest::proptest! {
        #[test]
        fn what_is_spelled_is_heard_as_the_same_number(n in 0i64..1_000_000_000) {
            proptest::prop_assert_eq!(super::super::numbers::parse_int(&spell_int(n)), Some(n));
        }
    }
}
