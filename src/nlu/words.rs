//! Where words end: hanzi are written without spaces.

use jieba_rs::Jieba;
use std::sync::OnceLock;

fn jieba() -> &'static Jieba {
    static JIEBA: OnceLock<Jieba> = OnceLock::new();
    JIEBA.get_or_init(Jieba::new)
}

/// For each character of `text` whether a word ends with it.
pub fn ends(text: &str) -> Vec<bool> {
    let mut ends = Vec::new();
    for word in jieba().cut(text, false) {
        let n = AsRef::<str>::as_ref(&word.word).chars().count();
        ends.extend((1..=n).map(|i| i == n));
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_knows_whether_a_word_ends_with_it() {
        assert_eq!(ends("查订单"), [true, false, true]);
        assert!(ends("").is_empty());
    }
}
