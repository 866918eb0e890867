//! The sounds both bundled models are made of: 21 initials and 38 toneless finals, and how pinyin maps to them.

/// The initials, in the order both models know them.
pub const INITIALS: [&str; 21] = [
    "zh", "ch", "sh", "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "r", "z", "c", "s",
];
/// The finals, in the order both models know them; `ii` is the vowel of zi, `iii` that of zhi, `v` is ü.
pub const FINALS: [&str; 38] = [
    "a", "o", "e", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "er", "i", "ia", "ie", "iao", "iou", "ian", "in",
    "iang", "ing", "iong", "u", "ua", "uo", "uai", "uei", "uan", "uen", "uang", "ueng", "ong", "v", "ve", "van", "vn",
    "ii", "iii",
];
/// Number of CTC labels: blank, initials, finals.
pub const UNITS: usize = 1 + INITIALS.len() + FINALS.len();
/// The CTC blank.
pub const BLANK: u8 = 0;

/// A syllable without tone as the models see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Syllable {
    /// Label of the initial, if it has one.
    pub initial: Option<u8>,
    /// Label of the final.
    pub last: u8,
}

impl Syllable {
    /// From the names of its parts; nothing when a name is unknown.
    pub fn from_parts(initial: Option<&str>, last: &str) -> Option<Self> {
        let initial = match initial {
            Some(name) => Some(position(&INITIALS, name)? + 1),
            None => None,
        };
        Some(Syllable { initial, last: position(&FINALS, last)? + 1 + INITIALS.len() as u8 })
    }

    /// From toneless pinyin as it is written (`zhong`, `yuan`, `lv` or `lü`).
    pub fn from_pinyin(pinyin: &str) -> Option<Self> {
        let (initial, last) = split(pinyin)?;
        Syllable::from_parts(initial, last)
    }

    /// Its labels in order, one or two.
    pub fn labels(self) -> impl Iterator<Item = u8> {
        self.initial.into_iter().chain([self.last])
    }

    /// Toneless pinyin as it is written, ü as `v` after l and n.
    pub fn pinyin(self) -> String {
        let initial = self.initial.map(|i| INITIALS[usize::from(i) - 1]);
        spell(initial, FINALS[usize::from(self.last) - 1 - INITIALS.len()])
    }
}

fn position(list: &[&str], name: &str) -> Option<u8> {
    list.iter().position(|n| *n == name).map(|i| i as u8)
}

/// Cuts toneless pinyin into initial and final, the final in the models' spelling.
pub fn split(pinyin: &str) -> Option<(Option<&'static str>, &'static str)> {
    let plain = pinyin.replace('ü', "v").replace("u:", "v");
    if let Some(rest) = plain.strip_prefix('y') {
        return Some((None, known(&after_y(rest))?));
    }
    if let Some(rest) = plain.strip_prefix('w') {
        let last = match rest {
            "u" => "u".to_owned(),
            "ei" => "uei".to_owned(),
            "en" => "uen".to_owned(),
            other => format!("u{other}"),
        };
        return Some((None, known(&last)?));
    }
    match plain.as_str() {
        "n" | "ng" | "m" | "hm" | "hng" => return Some((None, "en")),
        "ê" => return Some((None, "ei")),
        _ => {}
    }
    let initial = INITIALS.iter().copied().find(|i| plain.starts_with(i));
    let rest = &plain[initial.map_or(0, str::len)..];
    let last = match (initial, rest) {
        (Some("zh" | "ch" | "sh" | "r"), "i") => "iii".to_owned(),
        (Some("z" | "c" | "s"), "i") => "ii".to_owned(),
        (Some("j" | "q" | "x"), r) if r.starts_with('u') => format!("v{}", &r[1..]),
        (_, "ue") => "ve".to_owned(),
        (_, "iu") => "iou".to_owned(),
        (_, "ui") => "uei".to_owned(),
        (_, "un") => "uen".to_owned(),
        (_, "io") => "o".to_owned(),
        (_, r) => r.to_owned(),
    };
    Some((initial, known(&last)?))
}

fn after_y(rest: &str) -> String {
    match rest {
        "i" | "in" | "ing" => rest.to_owned(),
        "o" => "o".to_owned(),
        "ai" => "ai".to_owned(),
        "ou" => "iou".to_owned(),
        "u" => "v".to_owned(),
        "ue" | "uan" | "un" => format!("v{}", &rest[1..]),
        "v" | "ve" | "van" | "vn" => rest.to_owned(),
        other => format!("i{other}"),
    }
}

fn known(last: &str) -> Option<&'static str> {
    FINALS.iter().copied().find(|f| *f == last)
}

/// Writes a syllable as pinyin without tone: the reverse of [`split`].
pub fn spell(initial: Option<&str>, last: &str) -> String {
    match initial {
        None => match last {
            "i" | "in" | "ing" => format!("y{last}"),
            "iou" => "you".to_owned(),
            "u" => "wu".to_owned(),
            "uei" => "wei".to_owned(),
            "uen" => "wen".to_owned(),
            "v" | "ve" | "van" | "vn" => format!("yu{}", &last[1..]),
            "ii" | "iii" => "yi".to_owned(),
            l if l.starts_with('i') => format!("y{}", &l[1..]),
            l if l.starts_with('u') => format!("w{}", &l[1..]),
            l => l.to_owned(),
        },
        Some(i) => {
            let tail = match last {
                "ii" | "iii" => "i".to_owned(),
                "iou" => "iu".to_owned(),
                "uei" => "ui".to_owned(),
                "uen" => "un".to_owned(),
                l if l.starts_with('v') && matches!(i, "j" | "q" | "x") => format!("u{}", &l[1..]),
                l => l.to_owned(),
            };
            format!("{i}{tail}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinyin_is_cut_as_the_models_were_trained() {
        let cases = [
            ("zhi", Some("zh"), "iii"),
            ("zi", Some("z"), "ii"),
            ("yuan", None, "van"),
            ("wen", None, "uen"),
            ("weng", None, "ueng"),
            ("you", None, "iou"),
            ("yong", None, "iong"),
            ("xue", Some("x"), "ve"),
            ("lve", Some("l"), "ve"),
            ("lü", Some("l"), "v"),
            ("dui", Some("d"), "uei"),
            ("jun", Some("j"), "vn"),
            ("er", None, "er"),
            ("ying", None, "ing"),
            ("ya", None, "ia"),
        ];
        for (pinyin, initial, last) in cases {
            assert_eq!(split(pinyin), Some((initial, last)), "{pinyin}");
        }
        assert_eq!(split("hello"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn every_trained_syllable_survives_the_round_trip() {
        let list: Vec<String> =
            serde_json::from_str(include_str!("../../models/asr-first/syls.json")).expect("a list of syllables");
        assert!(list.len() > 390);
        for pinyin in &list {
            let syllable = Syllable::from_pinyin(pinyin).unwrap_or_else(|| panic!("{pinyin} is unknown"));
            let again = Syllable::from_pinyin(&syllable.pinyin()).expect("its own spelling");
            assert_eq!(syllable, again, "{pinyin}");
        }
    }

    #[test]
    fn the_labels_are_those_of_the_model_file() {
        let front: serde_json::Value =
            serde_json::from_str(include_str!("../../models/asr-first/front.json")).expect("front.json");
        let names: Vec<&str> = front["units"].as_array().expect("units").iter().map(|u| u.as_str().expect("a name")).collect();
        let ours: Vec<&str> = ["<b>"].into_iter().chain(INITIALS).chain(FINALS).collect();
        assert_eq!(names, ours);
        assert_eq!(ours.len(), UNITS);
    }
}
