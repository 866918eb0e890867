//! Hanzi to pinyin: the one place for grammars, understanding and voices.
//!
//! Single characters come from the crate `pinyin`; `rules/heteronyms.txt` overrides them, and words before
//! characters, longest first and never across a word's border (您的确认 holds no 的确). Units are the initials and finals that the bundled recogniser and voice were made with.

use super::{rules, words};
use pinyin::ToPinyin;
use std::collections::HashMap;
use std::sync::OnceLock;

/// One spoken syllable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Syllable {
    /// Toneless pinyin in ASCII, ü written v: `lv`, `zhuan`.
    pub base: &'static str,
    /// 1..=4, 5 is neutral. A dictionary tone: no tone change has been applied.
    pub tone: u8,
}

/// Initials in the order of the models' units.
pub const INITIALS: [&str; 21] =
    ["zh", "ch", "sh", "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "r", "z", "c", "s"];

/// Finals in the order of the models' units. `ii` follows z c s, `iii` follows zh ch sh r, `v` is ü.
pub const FINALS: [&str; 38] = [
    "a", "o", "e", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "er", "i", "ia", "ie", "iao", "iou", "ian", "in",
    "iang", "ing", "iong", "u", "ua", "uo", "uai", "uei", "uan", "uen", "uang", "ueng", "ong", "v", "ve", "van", "vn",
    "ii", "iii",
];

/// The models' units: blank (0), initials (1..=21), finals (22..=59).
pub const UNIT_COUNT: usize = 1 + INITIALS.len() + FINALS.len();

const HETERONYMS: &str = include_str!("../../rules/heteronyms.txt");

/// Words and their readings, by first character, longest word first.
type Table = HashMap<char, Vec<(Vec<char>, Vec<Syllable>)>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::new();
        for (word, reading) in rules::entries(HETERONYMS).filter_map(entry) {
            if let Some(&first) = word.first() {
                table.entry(first).or_default().push((word, reading));
            }
        }
        for words in table.values_mut() {
            words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        }
        table
    })
}

/// `银行=yin2 hang2`; `None` when the line is malformed (a test keeps the shipped file clean).
fn entry(line: &'static str) -> Option<(Vec<char>, Vec<Syllable>)> {
    let (word, reading) = line.split_once('=')?;
    let word: Vec<char> = word.trim().chars().collect();
    let reading: Vec<Syllable> = reading.split_whitespace().map(parse).collect::<Option<_>>()?;
    (word.len() == reading.len() && !word.is_empty()).then_some((word, reading))
}

/// `hang2` as a syllable; a missing tone is neutral.
fn parse(text: &'static str) -> Option<Syllable> {
    let (base, tone) = match text.as_bytes().last()? {
        d @ b'1'..=b'5' => (&text[..text.len() - 1], d - b'0'),
        _ => (text, 5),
    };
    split(base).map(|_| Syllable { base, tone })
}

/// The reading of one character alone.
fn single(c: char) -> Option<Syllable> {
    let p = c.to_pinyin()?;
    let tone = match p.with_tone_num_end().as_bytes().last() {
        Some(d @ b'1'..=b'4') => d - b'0',
        _ => 5,
    };
    let base = match p.plain() {
        "lü" => "lv",
        "nü" => "nv",
        "lüe" => "lve",
        "nüe" => "nve",
        "ê" => "ei",
        plain => plain,
    };
    split(base).map(|_| Syllable { base, tone })
}

/// Each hanzi with its reading in context, and every other character with none.
pub fn annotate(text: &str) -> Vec<(char, Option<Syllable>)> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::with_capacity(chars.len());
    let mut ends: Option<Vec<bool>> = None;
    let mut i = 0;
    while i < chars.len() {
        let fits = |w: &[char], ends: &mut Option<Vec<bool>>| {
            chars[i..].starts_with(w)
                && (w.len() == 1
                    || w.len() == chars.len()
                    || on_borders(ends.get_or_insert_with(|| words::ends(text)), i, w.len()))
        };
        let known = table().get(&chars[i]).and_then(|list| list.iter().find(|(w, _)| fits(w, &mut ends)));
        match known {
            Some((word, reading)) => {
                out.extend(word.iter().copied().zip(reading.iter().copied().map(Some)));
                i += word.len();
            }
            None => {
                out.push((chars[i], single(chars[i])));
                i += 1;
            }
        }
    }
    out
}

/// Whether `len` characters from `from` on lie inside one word or are whole words.
fn on_borders(ends: &[bool], from: usize, len: usize) -> bool {
    let last = from + len - 1;
    let inside = !ends[from..last].contains(&true);
    inside || (ends[last] && (from == 0 || ends[from - 1]))
}

/// The syllables of the hanzi in `text`; anything else is left out.
pub fn syllables(text: &str) -> Vec<Syllable> {
    annotate(text).into_iter().filter_map(|(_, s)| s).collect()
}

/// Toneless pinyin, one entry a hanzi.
pub fn toneless(text: &str) -> Vec<String> {
    syllables(text).into_iter().map(|s| s.base.to_owned()).collect()
}

/// A key under which syllables that callers and telephone lines confuse are equal:
/// zh=z ch=c sh=s, n=l and f=h as initials, ang=an eng=en ing=in as endings.
pub fn fuzzy(base: &str) -> String {
    let (head, tail) = match base.as_bytes() {
        [b'z' | b'c' | b's', b'h', ..] => (&base[..1], &base[2..]),
        [b'n', _, ..] => ("l", &base[1..]),
        [b'f', _, ..] => ("h", &base[1..]),
        _ => ("", base),
    };
    let nasal = tail.ends_with("ang") || tail.ends_with("eng") || tail.ends_with("ing");
    let tail = if nasal { &tail[..tail.len() - 1] } else { tail };
    format!("{head}{tail}")
}

/// Initial and final of a toneless syllable, in the models' names; `None` when it is no Mandarin syllable.
pub fn split(base: &str) -> Option<(Option<&'static str>, &'static str)> {
    if let Some(f) = zero_initial(base) {
        return Some((None, f));
    }
    let initial = INITIALS.into_iter().find(|i| base.starts_with(i));
    let rest = &base[initial.map_or(0, str::len)..];
    let name = match (initial, rest) {
        (Some("zh" | "ch" | "sh" | "r"), "i") => "iii",
        (Some("z" | "c" | "s"), "i") => "ii",
        (Some("j" | "q" | "x"), "u") => "v",
        (Some("j" | "q" | "x"), "ue") => "ve",
        (Some("j" | "q" | "x"), "uan") => "van",
        (Some("j" | "q" | "x"), "un") => "vn",
        (_, "ue") => "ve",
        (_, "iu") => "iou",
        (_, "ui") => "uei",
        (_, "un") => "uen",
        (_, "io") => "o",
        (_, other) => other,
    };
    FINALS.into_iter().find(|f| *f == name).map(|f| (initial, f))
}

/// Syllables written with y, w or nothing before the vowel, and interjections.
fn zero_initial(base: &str) -> Option<&'static str> {
    Some(match base {
        "yi" => "i",
        "ya" => "ia",
        "ye" => "ie",
        "yao" => "iao",
        "you" => "iou",
        "yan" => "ian",
        "yin" => "in",
        "yang" => "iang",
        "ying" => "ing",
        "yong" => "iong",
        "yo" => "o",
        "yu" => "v",
        "yue" => "ve",
        "yuan" => "van",
        "yun" => "vn",
        "wu" => "u",
        "wa" => "ua",
        "wo" => "uo",
        "wai" => "uai",
        "wei" => "uei",
        "wan" => "uan",
        "wen" => "uen",
        "wang" => "uang",
        "weng" => "ueng",
        "yai" => "ai",
        "n" | "ng" | "m" | "hm" | "hng" => "en",
        _ => return None,
    })
}

/// The number of a unit: its place in [`INITIALS`] then [`FINALS`], counted from 1 (0 is the blank).
pub fn unit_id(unit: &str) -> Option<u8> {
    INITIALS.iter().chain(&FINALS).position(|u| *u == unit).map(|i| i as u8 + 1)
}

/// The units of one toneless syllable: one or two.
pub fn syllable_units(base: &str) -> Option<Vec<u8>> {
    let (initial, fin) = split(base)?;
    initial.into_iter().chain([fin]).map(unit_id).collect()
}

/// The units of the hanzi in `text`; `None` when it holds none.
pub fn unit_ids(text: &str) -> Option<Vec<u8>> {
    let mut ids = Vec::new();
    for s in syllables(text) {
        ids.extend(syllable_units(s.base)?);
    }
    (!ids.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        syllables(text).iter().map(|s| format!("{}{}", s.base, s.tone)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_shipped_list_is_well_formed_and_says_each_word_once() {
        let mut seen = std::collections::HashSet::new();
        for line in rules::entries(HETERONYMS) {
            let (word, _) = entry(line).unwrap_or_else(|| panic!("rules/heteronyms.txt: bad line {line:?}"));
            assert!(seen.insert(word), "rules/heteronyms.txt: {line:?} is there twice");
        }
        assert!(seen.len() > 500);
    }

    #[test]
    fn characters_with_two_readings_follow_their_word() {
        for (text, expected) in [
            ("银行卡", "yin2 hang2 ka3"),
            ("自行车", "zi4 xing2 che1"),
            ("行不行", "xing2 bu4 xing2"),
            ("还有", "hai2 you3"),
            ("提前还款", "ti2 qian2 huan2 kuan3"),
            ("重庆", "chong2 qing4"),
            ("长沙", "chang2 sha1"),
            ("店长", "dian4 zhang3"),
            ("朝阳区", "chao2 yang2 qu1"),
            ("成都", "cheng2 du1"),
            ("都在", "dou1 zai4"),
            ("绿色", "lv4 se4"),
            ("女儿", "nv3 er2"),
            ("了解", "liao3 jie3"),
            ("来了", "lai2 le5"),
            ("转人工", "zhuan3 ren2 gong1"),
            ("便宜", "pian2 yi5"),
            ("空调", "kong1 tiao2"),
            ("二〇二六", "er4 ling2 er4 liu4"),
            ("您的确认", "nin2 de5 que4 ren4"),
            ("有空调", "you3 kong1 tiao2"),
            ("没收货", "mei2 shou1 huo4"),
            ("会计算", "hui4 ji4 suan4"),
            ("我得到", "wo3 de2 dao4"),
            ("和面料", "he2 mian4 liao4"),
            ("的确是会计", "di2 que4 shi4 kuai4 ji4"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn syllables_split_into_the_models_units() {
        for (base, expected) in [
            ("zhi", Some((Some("zh"), "iii"))),
            ("si", Some((Some("s"), "ii"))),
            ("yuan", Some((None, "van"))),
            ("xue", Some((Some("x"), "ve"))),
            ("lve", Some((Some("l"), "ve"))),
            ("liu", Some((Some("l"), "iou"))),
            ("dui", Some((Some("d"), "uei"))),
            ("wen", Some((None, "uen"))),
            ("er", Some((None, "er"))),
            ("bo", Some((Some("b"), "o"))),
            ("q", None),
            ("hello", None),
            ("", None),
        ] {
            assert_eq!(split(base), expected, "{base}");
        }
        assert_eq!(UNIT_COUNT, 60);
        assert_eq!(unit_id("zh"), Some(1));
        assert_eq!(unit_id("a"), Some(22));
        assert_eq!(unit_id("iii"), Some(59));
        assert_eq!(unit_ids("二十"), Some(vec![33, 3, 59]));
        assert_eq!(unit_ids("abc"), None);
    }

    #[test]
    fn every_common_hanzi_has_units() {
        for c in '\u{4e00}'..='\u{9fa5}' {
            if let Some(p) = c.to_pinyin() {
                assert!(single(c).is_some() || p.plain().is_empty() || table().contains_key(&c), "{c} {}", p.plain());
            }
        }
    }

    #[test]
    fn confusable_syllables_share_a_fuzzy_key() {
        for (a, b) in
            [("zhang", "zan"), ("cheng", "cen"), ("nan", "lan"), ("fu", "hu"), ("xing", "xin"), ("huang", "huan")]
        {
            assert_eq!(fuzzy(a), fuzzy(b));
        }
        assert_ne!(fuzzy("tui"), fuzzy("dui"));
        assert_eq!(fuzzy("n"), "n");
    }
}
