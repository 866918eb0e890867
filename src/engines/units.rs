//! The sounds both bundled models are made of: 21 initials and 38 toneless finals, as the text front end names them.

pub use crate::nlu::pinyin::{FINALS, INITIALS, split};

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

    /// From toneless pinyin as it is written (`zhong`, `yuan`, `lv`).
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
            ("lv", Some("l"), "v"),
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
        let names: Vec<&str> =
            front["units"].as_array().expect("units").iter().map(|u| u.as_str().expect("a name")).collect();
        let ours: Vec<&str> = ["<b>"].into_iter().chain(INITIALS).chain(FINALS).collect();
        assert_eq!(names, ours);
        assert_eq!(ours.len(), UNITS);
    }
}
