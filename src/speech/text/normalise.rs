//! Written numbers, dates, money and signs to words.
//!
//! A list of rules, tried in order on the whole text; each turns what it knows into hanzi, so that no later rule
//! sees it. English text (no hanzi at all) is left as it is.

use super::digits::{
    spell_code, spell_count, spell_date, spell_decimal, spell_digits, spell_int, spell_money, spell_phone, spell_plain,
};
use crate::nlu::normalise::half_width;
use regex::{Captures, Regex};
use std::sync::OnceLock;

/// A measure word or unit after a number: the number is then a quantity.
const MEASURE: &str = "个|位|天|年|月|单元|元|块|次|件|台|笔|单|份|张|条|款|项|小时|分钟|秒|点|岁|人|种|步|折|期|米|公里|公斤|克|升|度|倍|万|亿|千|百|遍|周|星期|套|部|名|号楼|楼|层|角|毛|分|双|只|盒|瓶|箱|包|袋|字|级|瓦|兆";

type Say = fn(&Captures) -> String;

struct Rule {
    pattern: Regex,
    say: Say,
}

/// Cents from whole yuan (may hold thousands commas) and a fraction of one or two digits.
fn cents(whole: &str, fraction: &str) -> Option<i64> {
    let yuan: i64 = whole.replace(',', "").parse().ok()?;
    let fraction: i64 = format!("{fraction:0<2}").get(..2)?.parse().ok()?;
    yuan.checked_mul(100)?.checked_add(fraction)
}

fn group<'a>(c: &'a Captures, i: usize) -> &'a str {
    c.get(i).map_or("", |m| m.as_str())
}

/// A number as a quantity: leading zeros and rows too long for one are spelled.
fn quantity(digits: &str) -> String {
    let d = digits.replace(',', "");
    match d.parse::<i64>() {
        Ok(n) if !(d.len() > 1 && d.starts_with('0')) && d.len() <= 12 => spell_int(n),
        _ => spell_code(&d),
    }
}

fn counted(digits: &str) -> String {
    let d = digits.replace(',', "");
    if d == "2" { spell_count(2) } else { quantity(&d) }
}

/// A number before a measure word. What is numbered, not counted, has no 两: 二月, 二楼, 二号楼, 二单元, 二级.
fn before_measure(digits: &str, measure: &str) -> String {
    let numbered = matches!(measure, "月" | "号楼" | "楼" | "单元" | "级" | "年");
    if numbered { quantity(digits) } else { counted(digits) }
}

fn say_date(c: &Captures) -> String {
    let n = |i: usize| group(c, i).parse::<i32>().unwrap_or(0);
    let (y, m, d) = (n(1), n(2), n(3));
    if (1..=12).contains(&m) && (1..=31).contains(&d) {
        spell_date(y, m as u8, d as u8)
    } else {
        [group(c, 1), group(c, 2), group(c, 3)].map(spell_digits).join("，")
    }
}

fn say_month_day(c: &Captures) -> String {
    format!(
        "{}月{}{}",
        quantity(group(c, 1).trim_start_matches('0')),
        quantity(group(c, 2).trim_start_matches('0')),
        group(c, 3)
    )
}

fn say_time(c: &Captures) -> String {
    let n = |i: usize| group(c, i).parse::<i64>().unwrap_or(99);
    let (h, m) = (n(1), n(2));
    if h > 24 || m > 59 {
        return format!("{}比{}", quantity(group(c, 1)), quantity(group(c, 2)));
    }
    let minutes = match m {
        0 => String::new(),
        30 => "半".into(),
        1..=9 => format!("零{}分", spell_int(m)),
        m => format!("{}分", spell_int(m)),
    };
    format!("{}点{minutes}", spell_count(h))
}

/// ¥12万: the unit belongs to the amount.
fn say_large_money(c: &Captures) -> String {
    format!("{}{}元", amount(&group(c, 1).replace(',', "")), group(c, 2))
}

fn say_money(c: &Captures) -> String {
    let (whole, fraction) = (group(c, 1), group(c, 2));
    cents(whole, fraction).map_or_else(|| spell_code(whole), spell_money)
}

/// What follows 尾号, 单号, 验证码 …: a row of digits, the words before it kept.
fn say_row(c: &Captures) -> String {
    let row = group(c, 3);
    let spoken =
        if row.chars().filter(char::is_ascii_digit).count() == 11 { spell_phone(row) } else { spell_code(row) };
    format!("{}{}{spoken}", group(c, 1), group(c, 2))
}

fn say_percent(c: &Captures) -> String {
    let of = if group(c, 2) == "‰" { "千" } else { "百" };
    format!("{of}分之{}", spell_decimal(group(c, 1)).unwrap_or_default())
}

fn say_unit(c: &Captures) -> String {
    let unit = match group(c, 2).to_ascii_lowercase().as_str() {
        "kg" => "公斤",
        "g" => "克",
        "km" => "公里",
        "m" => "米",
        "cm" => "厘米",
        "mm" => "毫米",
        "ml" => "毫升",
        "l" => "升",
        "kw" => "千瓦",
        "w" => "瓦",
        "v" => "伏",
        "h" => "小时",
        "min" => "分钟",
        "s" => "秒",
        "㎡" | "m²" => "平方米",
        _ => "度",
    };
    format!("{}{unit}{}", amount(group(c, 1)), group(c, 3))
}

/// A number with or without decimals before a unit.
fn amount(n: &str) -> String {
    if n.contains('.') { spell_decimal(n).unwrap_or_default() } else { counted(n) }
}

fn say_range(c: &Captures) -> String {
    format!("{}到{}{}", amount(group(c, 1)), amount(group(c, 2)), group(c, 3))
}

/// The rules in order.
fn rules() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| {
        // only ASCII digits and letters count: 计2026 has a border before the 2
        let ascii = |p: &str| p.replace(r"\b", r"(?-u:\b)").replace(r"\d", "[0-9]").replace(r"\D", "[^0-9]");
        let rule = |pattern: &str, say: Say| Regex::new(&ascii(pattern)).ok().map(|pattern| Rule { pattern, say });
        let list = [
            // 2026-11-22, 2026/11/22, 2026年11月22日
            rule(r"\b(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})(?:日|号|\b)", say_date),
            rule(r"(\d{4})年", |c| format!("{}年", spell_plain(group(c, 1)))),
            rule(r"(\d{1,2})月(\d{1,2})(日|号)", say_month_day),
            // 周一-周五, 9:30-11:30: from one to the other
            rule(r"((?:周|星期|礼拜)[一二三四五六日天])\s*[-~～—–]\s*((?:周|星期|礼拜)?[一二三四五六日天])", |c| {
                format!("{}到{}", group(c, 1), group(c, 2))
            }),
            rule(r"([0-9]{1,2}[:：][0-9]{2})\s*[-~～—–]\s*([0-9]{1,2}[:：][0-9]{2})", |c| {
                format!("{}到{}", group(c, 1), group(c, 2))
            }),
            // 9:00, 14:30, 9:00:05
            rule(r"\b(\d{1,2})[:：](\d{2})(?:[:：]\d{2})?\b", say_time),
            // ¥12.50元, 12.50元 (three decimals and more are no money)
            rule(r"[¥￥]\s*(\d[\d,]*(?:\.\d+)?)\s*(万|亿)元?", say_large_money),
            rule(r"[¥￥]\s*(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,2}))?(?:元|\b)", say_money),
            rule(r"(\d[\d,]*)\.(\d{1,2})(?:元|块钱)", say_money),
            // rows of digits: telephone numbers, service numbers, tails and codes
            rule(r"(?:\+?\b86[- ]?|\b)(1[3-9]\d)[- ]?(\d{4})[- ]?(\d{4})\b", |c| {
                spell_phone(&[group(c, 1), group(c, 2), group(c, 3)].concat())
            }),
            rule(r"\b([48]00-?\d{3}-?\d{4}|0\d{2,3}-\d{7,8})\b", |c| spell_phone(group(c, 1))),
            // (an amount or a count of the same digits is none: 10000元)
            rule(&format!(r"\b(12315|12345|12306|10086|10010|10000|11185|11183|95\d{{3}}|96\d{{3}})({MEASURE}|\b)"), |c| {
                match group(c, 2) {
                    "" => spell_digits(group(c, 1)),
                    measure => format!("{}{measure}", counted(group(c, 1))),
                }
            }),
            // 热线24小时, 验证码10分钟内: a count, not the number itself
            rule(r"(验证码|热线|电话|密码|单号|编号|账号|号码)(\d{1,3})(小时|分钟|秒|天|个|位|次|折|元|年)", |c| {
                format!("{}{}{}", group(c, 1), before_measure(group(c, 2), group(c, 3)), group(c, 3))
            }),
            rule(
                r"(尾号|后[两三四五六]位|前[两三四五六]位|验证码|单号|编号|工号|卡号|号码|密码|账号|代码|电话|热线|拨打|致电|手机号?)([是为：: ]{0,3}(?:的|订单)?)([A-Za-z]{0,4}\d[\d -]*\d|\d)",
                say_row,
            ),
            // 12-15天, 9点-12点 is left to the dash rule
            rule(
                &format!(r"(\d+(?:\.\d+)?)\s*[-~～—–至]\s*(\d+(?:\.\d+)?)({MEASURE}|日|号|%)"),
                |c| if group(c, 3) == "%" { format!("百分之{}到百分之{}", amount(group(c, 1)), amount(group(c, 2))) } else { say_range(c) },
            ),
            // a minus sign is one only where no range can be meant
            rule(r"(^|[ ，。：:是为到达了差幅])-(\d)", |c| format!("{}负{}", group(c, 1), group(c, 2))),
            rule(r"(\d+(?:\.\d+)?)\s*([%‰])", say_percent),
            rule(r"\b(\d{1,3})/(\d{1,3})\b", |c| format!("{}分之{}", quantity(group(c, 2)), quantity(group(c, 1)))),
            // letters that name a thing: 5G手机, 64G内存, 4S店
            rule(r"\b(\d{1,4})(G|GB|T|TB|S|K|M|MB|D)(网|手机|信号|套餐|流量|卡|内存|运存|存储|版|店|电影|显示|高清|宽带|硬盘|[^A-Za-z㎡0-9]|$)", |c| {
                format!("{}{}{}", quantity(group(c, 1)), group(c, 2), group(c, 3))
            }),
            rule(r"(\d+(?:\.\d+)?)\s*(?i)(kg|km|cm|mm|ml|kw|min|m²|㎡|℃|°|g|m|l|w|v|h|s)([^A-Za-z]|$)", say_unit),
            rule(r"(\d+)(?:\.(\d+)){2,}", |c| group(c, 0).split('.').map(spell_plain).collect::<Vec<_>>().join("点")),
            rule(r"(\d[\d,]*\.\d+)", |c| spell_decimal(&group(c, 1).replace(',', "")).unwrap_or_default()),
            rule(r"第(\d+)", |c| format!("第{}", quantity(group(c, 1)))),
            // a digit that is a key or a choice: 按1
            rule(r"(按|选|说|输入)(\d)([^0-9遍次个位声]|$)", |c| {
                format!("{}{}{}", group(c, 1), spell_plain(group(c, 2)), group(c, 3))
            }),
            rule(&format!(r"(\d{{1,3}}(?:,\d{{3}})+|\d{{1,12}})({MEASURE})"), |c| {
                format!("{}{}", before_measure(group(c, 1), group(c, 2)), group(c, 2))
            }),
            // what is left: short numbers are quantities, long ones rows; letters and digits together are a code
            rule(r"([A-Za-z]+[- ]?)(\d+)", |c| format!("{}{}", group(c, 1), spell_digits(group(c, 2)))),
            rule(r"(\d{1,3}(?:,\d{3})+|\d+)", |c| {
                let d = group(c, 1);
                if d.len() >= 7 && !d.contains(',') { spell_code(d) } else { quantity(d) }
            }),
        ];
        list.into_iter().flatten().collect()
    })
}

/// Whether `text` holds hanzi (otherwise it is for an English voice).
pub fn has_hanzi(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

/// Text as it is spoken: numbers in hanzi, Chinese punctuation, Latin letters kept. Text without hanzi and without
/// digits alone stays as it is, spaces joined.
pub fn normalise(text: &str) -> String {
    let english = !has_hanzi(text) && text.chars().any(|c| c.is_ascii_alphabetic());
    if english {
        return text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let mut out = narrow(text);
    for rule in rules() {
        if rule.pattern.is_match(&out) {
            out = rule.pattern.replace_all(&out, rule.say).into_owned();
        }
    }
    signs(&out)
}

/// Full-width letters and digits to ASCII; Chinese punctuation stays.
fn narrow(text: &str) -> String {
    text.chars()
        .map(|c| {
            if matches!(c, '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '％' | '．' | '－' | '＋') {
                half_width(c)
            } else {
                c
            }
        })
        .collect()
}

/// ASCII punctuation to Chinese; signs to words; quotes and brackets go.
fn signs(text: &str) -> String {
    let text = text.replace("#号", "井号").replace("*号", "星号").replace("＃", "#").replace("＊", "*");
    let mut out = String::with_capacity(text.len());
    let chars: Vec<char> = text.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let beside_latin = |j: Option<&char>| j.is_some_and(|c| c.is_ascii_alphanumeric());
        match c {
            ',' => out.push('，'),
            '.' | '。' if beside_latin(chars.get(i + 1)) && c == '.' => {}
            '.' => out.push('。'),
            '?' => out.push('？'),
            '!' => out.push('！'),
            ';' => out.push('；'),
            ':' => out.push('：'),
            '…' | '(' | ')' | '（' | '）' | '【' | '】' | '[' | ']' | '\n' => out.push('，'),
            '—' | '–' | '-' | '~' | '～' => {
                let between = i > 0 && chars.get(i + 1).is_some_and(|c| has_hanzi(&c.to_string()));
                let number = i > 0 && "点日号元天月时分".contains(chars[i - 1]);
                out.push_str(if between && number {
                    "到"
                } else if between {
                    "，"
                } else {
                    ""
                });
            }
            '&' => out.push('和'),
            '+' => out.push('加'),
            '=' => out.push_str("等于"),
            '@' => out.push_str("艾特"),
            '#' => out.push_str("井号"),
            '*' => out.push_str("星号"),
            '%' => out.push_str("百分号"),
            // 元/月 is each, 和/或 and 周六/周日 are either
            '/' if i > 0 && "元角分块次条".contains(chars[i - 1]) => out.push('每'),
            '/' if i > 0 && chars.get(i + 1).is_some_and(|c| has_hanzi(&c.to_string())) => {
                let said = chars[i - 1] == '或' || chars[i + 1] == '或';
                if !said {
                    out.push('或');
                }
            }
            '"' | '“' | '”' | '‘' | '’' | '「' | '」' | '《' | '》' | '/' | '\\' | '_' | '^' | '|' | '<' | '>' =>
                {}
            ' ' | '\t' | '\r' | '\u{3000}' => {
                if beside_latin(chars.get(i.wrapping_sub(1))) && beside_latin(chars.get(i + 1)) {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_compiles() {
        assert_eq!(rules().len(), 27);
    }

    #[test]
    fn written_forms_become_words() {
        for (text, expected) in [
            ("预计2026-11-22送达。", "预计二零二六年十一月二十二日送达。"),
            ("2026年11月22日", "二零二六年十一月二十二日"),
            ("11月22日 周日 上午9点到12点", "十一月二十二日周日上午九点到十二点"),
            ("上午9:00-12:00", "上午九点到十二点"),
            ("14:30", "十四点半"),
            ("02:05", "两点零五分"),
            ("退款¥12.50", "退款十二元五角"),
            ("共1,280.00元", "共一千二百八十元"),
            ("金额350元", "金额三百五十元"),
            ("2个订单", "两个订单"),
            ("12个", "十二个"),
            ("尾号3126的冰箱", "尾号三幺二六的冰箱"),
            ("订单号是202611220003", "订单号是二零二六，幺幺二二，零零零三"),
            ("验证码：4821", "验证码：四八二幺"),
            ("请拨打12315", "请拨打幺二三幺五"),
            ("电话13800138000", "电话幺三八，零零幺三，八零零零"),
            ("138 0013 8000", "幺三八，零零幺三，八零零零"),
            ("400-800-1234", "四零零，八零零，幺二三四"),
            ("查订单请按1,退款请按2", "查订单请按一，退款请按二"),
            ("打50%折扣", "打百分之五十折扣"),
            ("年化3.25%", "年化百分之三点二五"),
            ("12.5", "十二点五"),
            ("3-5天到账", "三到五天到账"),
            ("5kg大米", "五公斤大米"),
            ("-5℃", "负五度"),
            ("温度为-12.5度", "温度为负十二点五度"),
            ("涨幅-3%", "涨幅负百分之三"),
            ("1/3", "三分之一"),
            ("第2步", "第二步"),
            ("按#号键结束", "按井号键结束"),
            ("(请稍等)…好的", "，请稍等，，好的"),
            ("您是VIP会员", "您是VIP会员"),
            ("错误代码E5", "错误代码E五"),
            ("8号楼2单元1001", "八号楼二单元一千零一"),
            ("热线24小时为您服务", "热线二十四小时为您服务"),
            ("验证码10分钟内有效", "验证码十分钟内有效"),
            ("热线95566", "热线九五五六六"),
            ("赔付10000元", "赔付一万元"),
            ("余额95123元", "余额九万五千一百二十三元"),
            ("请拨打95566", "请拨打九五五六六"),
            ("5G手机", "五G手机"),
            ("64G内存", "六十四G内存"),
            ("4S店", "四S店"),
            ("5g盐", "五克盐"),
            ("2月份", "二月份"),
            ("2号楼2楼", "二号楼二楼"),
            ("2级", "二级"),
            ("¥300,2件", "三百元，两件"),
            ("¥12万", "十二万元"),
            ("+8613800138000", "幺三八，零零幺三，八零零零"),
            ("9:30-11:30", "九点半到十一点半"),
            ("周一-周五", "周一到周五"),
            ("退款和/或换货", "退款和或换货"),
            ("请说2遍", "请说两遍"),
            ("99元/月", "九十九元每月"),
            ("１２８元", "一百二十八元"),
            ("版本1.2.3", "版本一点二点三"),
            ("等2分钟", "等两分钟"),
            ("2026", "两千零二十六"),
        ] {
            assert_eq!(normalise(text), expected, "{text}");
        }
    }

    #[test]
    fn english_stays_english() {
        assert_eq!(normalise("Your order  3826 has shipped."), "Your order 3826 has shipped.");
    }

    proptest::proptest! {
        #[test]
        fn no_digit_is_left_and_nothing_panics(text in "[您的订单尾号元年月日点0-9.,:：%¥/ -]{0,40}") {
            let out = normalise(&format!("好{text}"));
            proptest::prop_assert!(!out.chars().any(|c| c.is_ascii_digit()), "{} -> {}", text, out);
        }

        #[test]
        fn any_text_is_taken(text in "\\PC{0,60}") {
            let _ = normalise(&text);
        }
    }
}
