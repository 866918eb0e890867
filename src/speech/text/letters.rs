//! Latin letters and a few words, in syllables a Mandarin voice can say.

/// Syllables (pinyin with tone) of a letter's name, as Mandarin speakers say it.
fn letter(c: char) -> Option<&'static str> {
    Some(match c.to_ascii_uppercase() {
        'A' => "ei1",
        'B' => "bi4",
        'C' => "xi1",
        'D' => "di4",
        'E' => "yi4",
        'F' => "ai2 fu5",
        'G' => "ji4",
        'H' => "ei1 chi5",
        'I' => "ai4",
        'J' => "zhei4",
        'K' => "kei4",
        'L' => "ai2 lou5",
        'M' => "ai2 mu5",
        'N' => "en1",
        'O' => "ou1",
        'P' => "pi4",
        'Q' => "kou1 you5",
        'R' => "a4 er5",
        'S' => "ai2 si5",
        'T' => "ti4",
        'U' => "you1",
        'V' => "wei4",
        'W' => "da2 bu5 liu5",
        'X' => "ai2 ke5 si5",
        'Y' => "wai1",
        'Z' => "zei4",
        _ => return None,
    })
}

/// Words that are said as words.
fn known(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "wifi" | "wi-fi" => "wai1 fai5",
        "ok" => "ou1 kei4",
        "email" => "yi4 mei4 er5",
        "iphone" => "ai4 feng1",
        "app" => "ei1 pi4 pi4",
        _ => return None,
    })
}

/// The syllables of a Latin word: known words as such, all others letter by letter. Signs inside are passed over.
pub fn read(word: &str) -> Vec<(&'static str, u8)> {
    let toned = |s: &'static str| {
        s.split(' ').filter_map(|p| {
            let (base, tone) = p.split_at(p.len() - 1);
            Some((base, tone.parse().ok()?))
        })
    };
    match known(word) {
        Some(s) => toned(s).collect(),
        None => word.chars().filter_map(letter).flat_map(toned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_syllables_of_the_models() {
        for c in 'a'..='z' {
            let syllables = read(&c.to_string());
            assert!(!syllables.is_empty(), "{c}");
            for (base, tone) in syllables {
                assert!(crate::nlu::pinyin::split(base).is_some(), "{c}: {base}");
                assert!((1..=5).contains(&tone));
            }
        }
        assert_eq!(read("VIP"), [("wei", 4), ("ai", 4), ("pi", 4)]);
        assert_eq!(read("WiFi").len(), 2);
    }
}
