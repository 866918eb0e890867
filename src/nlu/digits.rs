//! Digit strings as they are spoken: 幺三八, 三个八, 洞拐, 二十六, "double five", corrected in mid-sentence.

use super::normalise::fold;
use super::numbers::{digit, numeral};

/// Small words inside a digit string that neither belong to it nor end it.
const GLUE: &[&str] = &["嗯", "呃", "额", "啊", "然后", "杠", "的", "呢", "那个", " ", "and"];

/// Words that take back what was said before them.
const CORRECTIONS: &[&str] = &[
    "说错了",
    "错了",
    "不对不对",
    "不对",
    "不是不是",
    "不是",
    "应该是",
    "我是说",
    "更正",
    "重来",
    "重新说",
    "sorry",
    "i mean",
    "no",
];

/// After a single digit these make it an ordinary word: 一下, 两个, 第一次.
const MEASURES: &str = "下个些样点儿次遍天年月直定般起共边位种部台件单张款条张只双块元分钟小岁号楼层期万千百会旦";

/// A run of digits and where it was (character positions in the folded text).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    digits: String,
    from: usize,
    to: usize,
}

/// The digit string in `text`, of any length, corrections applied; `None` when there is none.
pub fn parse(text: &str) -> Option<String> {
    let runs = settled(text);
    runs.iter().rev().max_by_key(|r| r.digits.len()).map(|r| r.digits.clone())
}

/// The digit string of `min..=max` digits in `text`: the last run that fits, else all runs in a row when they fit.
pub fn parse_len(text: &str, min: usize, max: usize) -> Option<String> {
    let runs = settled(text);
    let fits = |s: &str| (min..=max).contains(&s.len());
    if let Some(run) = runs.iter().rev().find(|r| fits(&r.digits)) {
        return Some(run.digits.clone());
    }
    let joined: String = runs.iter().map(|r| r.digits.as_str()).collect();
    fits(&joined).then_some(joined)
}

/// Every digit run of `text` in order, no correction applied.
pub fn runs(text: &str) -> Vec<String> {
    let chars: Vec<char> = fold(text).chars().collect();
    scan(&chars).into_iter().map(|r| r.digits).collect()
}

/// The digit string said by these toneless syllables, when every syllable is a digit.
pub fn from_pinyin(pinyin: &[String]) -> Option<String> {
    let one = |p: &str| {
        Some(match p {
            "ling" | "dong" => '0',
            "yi" | "yao" => '1',
            "er" | "liang" => '2',
            "san" => '3',
            "si" => '4',
            "wu" => '5',
            "liu" => '6',
            "qi" | "guai" => '7',
            "ba" => '8',
            "jiu" | "gou" => '9',
            _ => return None,
        })
    };
    (!pinyin.is_empty()).then(|| pinyin.iter().map(|p| one(p)).collect()).flatten()
}

/// Whether the run of digits `run` is followed by `unit` in `text` (二零二六年).
pub fn is_before(text: &str, run: &str, unit: &str) -> bool {
    let chars: Vec<char> = fold(text).chars().collect();
    scan(&chars).iter().any(|r| r.digits == run && starts_at(&chars, r.to, unit))
}

/// The runs that stand after corrections ("三八二六，不对，三八二七", "最后一位是七").
fn settled(text: &str) -> Vec<Run> {
    let chars: Vec<char> = fold(text).chars().collect();
    let mut runs = scan(&chars);
    let Some((at, end)) = last_correction(&chars) else { return runs };
    if says_what_it_is_not(text, &chars, &runs, at) {
        return runs.into_iter().filter(|r| r.to <= at).collect();
    }
    let before: Vec<Run> = runs.iter().filter(|r| r.to <= at).cloned().collect();
    runs.retain(|r| r.from >= end);
    if let Some((wrong, mended)) = before.last().zip(runs.last()).filter(|_| is_partial(&chars[end..])) {
        let keep = wrong.digits.len().saturating_sub(mended.digits.len());
        let digits = format!("{}{}", &wrong.digits[..keep], mended.digits);
        return vec![Run { digits, ..mended.clone() }];
    }
    if before.is_empty() && runs.len() > 1 {
        return runs.split_off(runs.len() - 1); // "不是三八二六是三八二七"
    }
    // "不是三八二六": said only what it is not; "三八二六不对": took it back and gave nothing
    if before.is_empty() && starts_at(&chars, at, "不是") { Vec::new() } else { runs }
}

/// "是三八二六不是三八二七": the second number is the wrong one. "是三八二六，不是，三八二七" is a correction.
fn says_what_it_is_not(text: &str, chars: &[char], runs: &[Run], at: usize) -> bool {
    let paused = ["不是，", "不是,", "不是。", "不是 "].iter().any(|p| text.contains(p));
    let stated = |r: &Run| r.from > 0 && chars[r.from - 1] == '是' && (r.from < 2 || chars[r.from - 2] != '不');
    let before = runs.iter().rfind(|r| r.to <= at);
    !paused && starts_at(chars, at, "不是") && before.is_some_and(stated) && runs.iter().any(|r| r.from == at + 2)
}

/// "最后一位是七", "后两位是二六".
fn is_partial(tail: &[char]) -> bool {
    let text: String = tail.iter().collect();
    ["最后", "末位", "后一位", "后两位", "后三位", "尾数"].iter().any(|w| text.contains(w))
}

fn starts_at(chars: &[char], at: usize, word: &str) -> bool {
    let mut i = at;
    word.chars().all(|c| {
        i += 1;
        chars.get(i - 1) == Some(&c)
    })
}

/// Start and end of the last correcting word.
fn last_correction(chars: &[char]) -> Option<(usize, usize)> {
    let english = |w: &str| w.is_ascii();
    (0..chars.len()).rev().find_map(|i| {
        let w = CORRECTIONS.iter().find(|w| starts_at(chars, i, w))?;
        let end = i + w.chars().count();
        let whole = |j: Option<&char>| j.is_none_or(|c| !c.is_ascii_alphabetic());
        let ok = !english(w) || (whole(i.checked_sub(1).and_then(|k| chars.get(k))) && whole(chars.get(end)));
        ok.then_some((i, end))
    })
}

fn scan(chars: &[char]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open = false;
    let mut i = 0;
    while i < chars.len() {
        // 第二个三八二六: 二 is an ordinal, not a count of threes
        if i > 0 && chars[i - 1] == '第' && digit(chars[i]).is_some() {
            open = false;
            i += 1;
        } else if let Some((piece, len)) = piece(&chars[i..]) {
            match runs.last_mut().filter(|_| open) {
                Some(run) => {
                    run.digits.push_str(&piece);
                    run.to = i + len;
                }
                None => runs.push(Run { digits: piece, from: i, to: i + len }),
            }
            open = true;
            i += len;
        } else if let Some(g) = GLUE.iter().find(|g| starts_at(chars, i, g)) {
            i += g.chars().count();
        } else {
            open = false;
            let word = chars[i..].iter().take_while(|c| c.is_ascii_alphabetic()).count();
            i += word.max(1);
        }
    }
    runs.retain(|r| r.to - r.from > 1 || !is_ordinary_word(chars, r));
    runs
}

/// A lone digit in 一下, 第一, 两个, 拐弯.
fn is_ordinary_word(chars: &[char], run: &Run) -> bool {
    let next = chars.get(run.to);
    let before = run.from.checked_sub(1).and_then(|i| chars.get(i));
    let nickname = matches!(chars.get(run.from), Some('洞' | '拐' | '勾' | '钩' | '俩' | '仨' | '陆'));
    nickname
        || before == Some(&'第')
        || before.is_some_and(|c| c.is_ascii_alphabetic())
        || next.is_some_and(|c| MEASURES.contains(*c) || c.is_ascii_alphabetic())
        || (before.is_some_and(|c| "哪那这同统唯万".contains(*c)) && chars.get(run.from) == Some(&'一'))
}

/// One piece of a digit string: digits and how many characters they took.
fn piece(chars: &[char]) -> Option<(String, usize)> {
    if chars[0].is_ascii_alphabetic() {
        return english(chars);
    }
    let first = digit(chars[0]);
    // 三个八, 两个零
    if let (Some(n @ 2..=9), Some('个')) = (first, chars.get(1)) {
        return chars.get(2).copied().and_then(digit).map(|d| (d.to_string().repeat(usize::from(n)), 3));
    }
    if let (Some(_), false) = (first, chars[0].is_ascii()) {
        // 二十六, 一百三十八: said as a number; a bare digit otherwise
        let unit_next = chars.get(1).is_some_and(|c| "十百千".contains(*c));
        if let Some(n) = unit_next.then(|| numeral(chars)).flatten().filter(|n| n.has_unit) {
            return Some(((n.milli / 1000).to_string(), n.len));
        }
    }
    if chars[0] == '十' {
        let n = numeral(chars)?;
        return Some(((n.milli / 1000).to_string(), n.len));
    }
    first.map(|d| (d.to_string(), 1))
}

/// zero … nine, oh, double five, triple eight, as whole words.
fn english(chars: &[char]) -> Option<(String, usize)> {
    let word: String = chars.iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    let len = word.len();
    let times = match word.as_str() {
        "double" => 2,
        "triple" => 3,
        _ => return english_digit(&word).map(|d| (d.to_string(), len)),
    };
    let rest = chars.get(len + 1..)?;
    let next: String = rest.iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    let d = match rest.first() {
        Some(c) if c.is_ascii_digit() => return Some((c.to_string().repeat(times), len + 2)),
        _ => english_digit(&next)?,
    };
    Some((d.to_string().repeat(times), len + 1 + next.len()))
}

fn english_digit(word: &str) -> Option<u8> {
    Some(match word {
        "zero" | "oh" | "o" => 0,
        "one" => 1,
        "two" => 2,
        "three" => 3,
        "four" => 4,
        "five" => 5,
        "six" => 6,
        "seven" => 7,
        "eight" => 8,
        "nine" => 9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoken_digits_become_a_string() {
        for (text, expected) in [
            ("三八二六", "3826"),
            ("尾号三八二六", "3826"),
            ("幺三八零零一三八零零零", "13800138000"),
            ("一三八，嗯，零零一三八，零零零", "13800138000"),
            ("洞幺拐勾", "0179"),
            ("三个八", "888"),
            ("一三八三个八两个零", "13888800"),
            ("二十六", "26"),
            ("三八二十六", "3826"),
            ("十二", "12"),
            ("3826", "3826"),
            ("尾号是38二六的订单", "3826"),
            ("一百三十八", "138"),
            ("three eight two six", "3826"),
            ("one triple eight double five oh", "1888550"),
            ("一", "1"),
            ("第二个三八二六", "3826"),
            ("我要查一下尾号八八八八那个", "8888"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["我想查一下订单", "第一次", "买了两个", "拐弯", "", "对", "这一单", "someone"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_correction_takes_back_what_was_said_before() {
        for (text, expected) in [
            ("三八二六不对是三八二七", Some("3827")),
            ("三八二六，不是，三八二七", Some("3827")),
            ("不是三八二六是三八二七", Some("3827")),
            ("是三八二六不是三八二七", Some("3826")),
            ("尾号是三八二六，不是，三八二七", Some("3827")),
            ("三八二六，错了，最后一位是七", Some("3827")),
            ("三八二六，不对，后两位是九九", Some("3899")),
            ("不是三八二六", None),
            ("三八二六不对", None),
            ("3826 no 3827", Some("3827")),
            ("不对，三八二七", Some("3827")),
        ] {
            assert_eq!(parse(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_awaited_length_chooses_the_run() {
        assert_eq!(parse_len("手机一三八零零一三八零零零尾号三八二六", 4, 4).as_deref(), Some("3826"));
        assert_eq!(parse_len("三八，那就是二六", 4, 4).as_deref(), Some("3826"));
        assert_eq!(parse_len("三八二", 4, 4), None);
    }

    #[test]
    fn digits_are_read_from_pinyin_when_nothing_else_is_said() {
        let p = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(from_pinyin(&p("yao san ba ling")).as_deref(), Some("1380"));
        assert_eq!(from_pinyin(&p("yao san men")), None);
        assert_eq!(from_pinyin(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[零一二三十百千个不是对错了最后位a-c0-9 ]{0,30}|\\PC{0,30}") {
            let _ = (parse(&text), parse_len(&text, 4, 11), runs(&text));
        }
    }
}
