//! What the classifier sees of an utterance: hashed n-grams of characters, syllables, words and concepts.

use super::normalise::normalise;
use super::pinyin::{fuzzy, toneless};
use super::rules;
use std::sync::OnceLock;

const SYNONYMS: &str = include_str!("../../rules/synonyms.txt");

/// The kinds of features; each is scaled to unit length on its own, so that none drowns the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Characters 1-3 of hanzi, words and characters 2-4 of Latin text.
    Text,
    /// Toneless and fuzzy syllables 1-3.
    Sound,
    /// Concepts of `rules/synonyms.txt`.
    Concept,
}

/// How many kinds there are.
pub const KINDS: usize = 3;

/// Hashed features of an utterance, sorted, each with its count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// By kind: (hash, count).
    pub kinds: [Vec<(u64, f32)>; KINDS],
}

/// FNV-1a, 64 bit: stable across runs and machines.
fn hash(kind: u8, parts: &[&str]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |b: u8| h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    eat(kind);
    for p in parts {
        p.bytes().for_each(&mut eat);
        eat(0xff);
    }
    h
}

/// The features of `text`; `pinyin` is what a recogniser heard, or empty (then it is made from the text).
pub fn extract(text: &str, pinyin: &[String]) -> Features {
    let text = normalise(text);
    let own = if pinyin.is_empty() { toneless(&text) } else { pinyin.to_vec() };
    let mut hashes: [Vec<u64>; KINDS] = Default::default();
    text_grams(&text, &mut hashes[Kind::Text as usize]);
    sound_grams(&own, &mut hashes[Kind::Sound as usize]);
    concepts(&text, &own, &mut hashes[Kind::Concept as usize]);
    let mut f = Features::default();
    for (kind, mut list) in f.kinds.iter_mut().zip(hashes) {
        list.sort_unstable();
        for h in list {
            match kind.last_mut().filter(|(k, _)| *k == h) {
                Some((_, n)) => *n += 1.0,
                None => kind.push((h, 1.0)),
            }
        }
    }
    f
}

/// Hanzi in runs with their edges marked, Latin words apart.
fn text_grams(text: &str, out: &mut Vec<u64>) {
    let mut hanzi: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '\'' {
            word.push(if c.is_ascii_digit() { '0' } else { c });
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c != ' ' {
            hanzi.push(c.to_string());
        }
    }
    grams(b'c', &hanzi, 3, out);
    for w in &words {
        let edged: Vec<String> = format!("^{w}$").chars().map(String::from).collect();
        for n in 2..=4 {
            out.extend(edged.windows(n).map(|g| hash(b'e', &refs(g))));
        }
    }
    grams(b'w', &words, 2, out);
}

fn sound_grams(pinyin: &[String], out: &mut Vec<u64>) {
    grams(b'p', pinyin, 3, out);
    let fuzzy: Vec<String> = pinyin.iter().map(|p| fuzzy(p)).collect();
    grams(b'f', &fuzzy, 3, out);
}

/// All n-grams up to `longest`, the sequence's edges counting as symbols for n > 1.
fn grams(kind: u8, items: &[String], longest: usize, out: &mut Vec<u64>) {
    if items.is_empty() {
        return;
    }
    out.extend(items.iter().map(|i| hash(kind, &[i])));
    let edged: Vec<&str> = std::iter::once("^").chain(items.iter().map(String::as_str)).chain(["$"]).collect();
    for n in 2..=longest {
        out.extend(edged.windows(n).map(|g| hash(kind, g)));
    }
}

fn refs(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

/// One word of a concept.
struct Word {
    concept: &'static str,
    text: &'static str,
    fuzzy: Vec<String>,
}

fn words() -> &'static [Word] {
    static READ: OnceLock<Vec<Word>> = OnceLock::new();
    READ.get_or_init(|| {
        let mut words = Vec::new();
        for line in rules::entries(SYNONYMS) {
            let Some((concept, list)) = line.split_once(':') else { continue };
            for text in list.split('|').map(str::trim).filter(|w| !w.is_empty()) {
                words.push(Word {
                    concept: concept.trim(),
                    text,
                    fuzzy: toneless(text).iter().map(|s| fuzzy(s)).collect(),
                });
            }
        }
        words
    })
}

/// Concepts named in the text, or heard: by sound only words of two syllables and more.
fn concepts(text: &str, pinyin: &[String], out: &mut Vec<u64>) {
    let said: Vec<String> = pinyin.iter().map(|s| fuzzy(s)).collect();
    let mut found: Vec<&'static str> = words()
        .iter()
        .filter(|w| text.contains(w.text) || (w.fuzzy.len() >= 2 && said.windows(w.fuzzy.len()).any(|s| s == w.fuzzy)))
        .map(|w| w.concept)
        .collect();
    found.sort_unstable();
    found.dedup();
    out.extend(found.iter().map(|c| hash(b'k', &[c])));
    for (i, a) in found.iter().enumerate() {
        out.extend(found[i + 1..].iter().map(|b| hash(b'k', &[a, b])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homophones_share_their_sound_and_not_their_text() {
        let (a, b) = (extract("我要退款", &[]), extract("我要腿款", &[]));
        assert_eq!(a.kinds[Kind::Sound as usize], b.kinds[Kind::Sound as usize]);
        assert_ne!(a.kinds[Kind::Text as usize], b.kinds[Kind::Text as usize]);
        assert_eq!(a.kinds[Kind::Concept as usize], b.kinds[Kind::Concept as usize]);
    }

    #[test]
    fn pinyin_that_was_heard_wins_over_that_of_the_text() {
        let heard: Vec<String> = ["wo", "yao", "tui", "kuan"].map(String::from).to_vec();
        assert_eq!(
            extract("", &heard).kinds[Kind::Sound as usize],
            extract("我要退款", &[]).kinds[Kind::Sound as usize]
        );
    }

    #[test]
    fn nothing_has_no_features() {
        assert_eq!(extract("", &[]), Features::default());
    }
}
