//! Digit strings: the best few sequences of 零…九, 幺 and 两洞拐勾, perhaps behind "尾号是" or the like, whose length is allowed.

use super::tree::PrefixTree;
use super::{Frames, NEVER};
use crate::engines::units::{BLANK, Syllable};
use crate::speech::DigitSpan;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The digit words: how each is said, and what it means.
const WORDS: [(&str, char); 15] = [
    ("ling", '0'),
    ("yi", '1'),
    ("er", '2'),
    ("san", '3'),
    ("si", '4'),
    ("wu", '5'),
    ("liu", '6'),
    ("qi", '7'),
    ("ba", '8'),
    ("jiu", '9'),
    ("yao", '1'),
    ("liang", '2'),
    ("dong", '0'),
    ("guai", '7'),
    ("gou", '9'),
];
/// What callers say before the digits.
const CARRIERS: [&str; 9] = [
    "wei hao",
    "wei hao shi",
    "hou si wei",
    "hou si wei shi",
    "hao ma shi",
    "dan hao shi",
    "ding dan hao",
    "ding dan wei hao",
    "shou ji hao shi",
];
/// What a carrier costs: without it, plain digits would lose their first ones to something alike.
const CARRIER_PRICE: f32 = 2.0;
/// Paths kept in each state.
const KEEP: usize = 3;
/// Paths this much worse than the frame's best are dropped.
const BEAM: f32 = 40.0;
/// Longer strings are cut to this; nobody says more in one breath.
const LONGEST: usize = 24;

/// One reading of a digit string.
#[derive(Debug, Clone, PartialEq)]
pub struct DigitString {
    /// As digits.
    pub digits: String,
    /// As spoken, toneless pinyin.
    pub pinyin: Vec<String>,
    /// Score relative to the best unconstrained path.
    pub score: f32,
    /// Units it is made of.
    pub units: usize,
}

#[derive(Clone, Copy, PartialEq)]
struct Token {
    score: f32,
    history: u32,
}

/// The best few paths with different histories, best first.
#[derive(Clone, Copy)]
struct Tokens {
    list: [Token; KEEP],
    len: usize,
}

const EMPTY: Tokens = Tokens { list: [Token { score: NEVER, history: 0 }; KEEP], len: 0 };

impl Tokens {
    fn one(score: f32, history: u32) -> Self {
        let mut t = EMPTY;
        t.add(Token { score, history });
        t
    }

    fn iter(&self) -> std::slice::Iter<'_, Token> {
        self.list[..self.len].iter()
    }

    fn add(&mut self, token: Token) {
        if let Some(same) = self.iter().position(|t| t.history == token.history) {
            if self.list[same].score >= token.score {
                return;
            }
            self.list.copy_within(same + 1..self.len, same);
            self.len -= 1;
        }
        let at = self.iter().position(|t| t.score < token.score).unwrap_or(self.len);
        if at >= KEEP {
            return;
        }
        self.len = (self.len + 1).min(KEEP);
        self.list.copy_within(at..self.len - 1, at + 1);
        self.list[at] = token;
    }

    fn merge(&mut self, other: &Tokens) {
        for t in other.iter() {
            self.add(*t);
        }
    }

    /// Moves on by one frame; what falls under the floor is dropped.
    fn step(mut self, p: f32, floor: f32) -> Self {
        for t in &mut self.list[..self.len] {
            t.score += p;
        }
        while self.len > 0 && self.list[self.len - 1].score < floor {
            self.len -= 1;
        }
        self
    }

    fn best(&self) -> f32 {
        if self.len > 0 { self.list[0].score } else { NEVER }
    }
}

/// Sequences of words, each told apart from all others by its number; 0 is the empty one.
struct Histories {
    known: HashMap<(u32, u8), u32>,
    list: Vec<(u32, u8)>,
}

impl Histories {
    fn new() -> Self {
        Histories { known: HashMap::new(), list: vec![(0, u8::MAX)] }
    }

    fn with(&mut self, before: u32, word: u8) -> u32 {
        *self.known.entry((before, word)).or_insert_with(|| {
            self.list.push((before, word));
            self.list.len() as u32 - 1
        })
    }

    fn words(&self, mut at: u32) -> Vec<u8> {
        let mut out = Vec::new();
        while at != 0 {
            let (before, word) = self.list[at as usize];
            out.push(word);
            at = before;
        }
        out.reverse();
        out
    }
}

/// States of one word at one place of the string.
#[derive(Clone, Copy)]
struct Word {
    first: Tokens,
    gap: Tokens,
    last: Tokens,
    /// The tokens of `last` with this word added to their history.
    done: Tokens,
}

const IDLE: Word = Word { first: EMPTY, gap: EMPTY, last: EMPTY, done: EMPTY };

/// All states with exactly `n` digits begun: the words of the n-th digit, and the pause after them.
struct Place {
    words: [Word; WORDS.len()],
    pause: Tokens,
}

/// The best readings, best first, with a length in `span`.
pub fn digit_strings(frames: &Frames, span: DigitSpan, want: usize) -> Vec<DigitString> {
    let syllables =
        WORDS.map(|(pinyin, _)| Syllable::from_pinyin(pinyin).unwrap_or(Syllable { initial: None, last: 1 }));
    let most = usize::from(span.max).min(LONGEST);
    let mut histories = Histories::new();
    let mut places: Vec<Place> = (0..=most).map(|_| Place { words: [IDLE; WORDS.len()], pause: EMPTY }).collect();
    places[0].pause = Tokens::one(0.0, 0);
    let mut carriers = Carriers::new();
    let mut floor = NEVER;
    for t in 0..frames.len() {
        let p = frames.frame(t);
        // Digits may begin behind a carrier as they may behind silence, one frame later.
        let carried = carriers.step(p);
        // From the last place to the first: each reads the place before it as it was a frame ago.
        let mut best = NEVER;
        for n in (0..=most).rev() {
            let (before, here) = places.split_at_mut(n);
            best = best.max(advance(before.last(), &mut here[0], &syllables, p, floor, &mut histories));
        }
        floor = best - BEAM;
        for (carrier, score) in carried {
            let history = histories.with(0, WORDS.len() as u8 + carrier);
            places[0].pause.add(Token { score: score - CARRIER_PRICE, history });
        }
    }
    let mut ends = Vec::new();
    for place in places.iter().skip(usize::from(span.min).max(1)) {
        let mut tokens: Vec<Token> = place.pause.iter().copied().collect();
        for word in &place.words {
            tokens.extend(word.done.iter().copied());
        }
        ends.extend(tokens);
    }
    ends.sort_by(|a, b| b.score.total_cmp(&a.score));
    readings(&ends, &histories, &syllables, want)
}

/// The carriers on their way, from the beginning of the utterance.
struct Carriers {
    tree: PrefixTree,
    /// Best score of each node: in its unit, and in the blank after it.
    sound: Vec<f32>,
    gap: Vec<f32>,
    silence: f32,
}

/// Units of each carrier.
static CARRIER_UNITS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| CARRIERS.iter().map(|c| labels_of(c)).collect());

fn labels_of(pinyin: &str) -> Vec<u8> {
    pinyin.split(' ').filter_map(Syllable::from_pinyin).flat_map(Syllable::labels).collect()
}

impl Carriers {
    fn new() -> Self {
        let tree = PrefixTree::new(CARRIER_UNITS.iter().map(Vec::as_slice));
        let (sound, gap) = (vec![NEVER; tree.len()], vec![NEVER; tree.len()]);
        Carriers { tree, sound, gap, silence: 0.0 }
    }

    /// One frame on: the carriers that may have ended with it, and how well they fit.
    fn step(&mut self, p: &[f32]) -> Vec<(u8, f32)> {
        let blank = p[usize::from(BLANK)];
        for n in (0..self.tree.len()).rev() {
            let before = match self.tree.parent(n) {
                None => self.silence,
                Some(up) if self.tree.repeats(n) => self.gap[up],
                Some(up) => self.gap[up].max(self.sound[up]),
            };
            let rest = self.gap[n].max(self.sound[n]);
            self.sound[n] = self.sound[n].max(before) + p[self.tree.unit(n)];
            self.gap[n] = rest + blank;
        }
        self.silence += blank;
        let ended = self.tree.ends().enumerate().filter_map(|(i, end)| Some((i as u8, self.sound[end?])));
        ended.filter(|(_, score)| *score > -BEAM).collect()
    }
}

fn advance(
    before: Option<&Place>,
    here: &mut Place,
    syllables: &[Syllable; WORDS.len()],
    p: &[f32],
    floor: f32,
    histories: &mut Histories,
) -> f32 {
    let blank = p[usize::from(BLANK)];
    let mut pause = here.pause;
    for word in &here.words {
        pause.merge(&word.done);
    }
    here.pause = pause.step(blank, floor);
    let mut best = here.pause.best();
    let Some(before) = before else { return best };
    for (w, word) in here.words.iter_mut().enumerate() {
        let syllable = syllables[w];
        let entry = entry(before, syllables, syllable.initial.unwrap_or(syllable.last));
        let last_p = p[usize::from(syllable.last)];
        match syllable.initial {
            Some(initial) => {
                let mut into_last = word.last;
                into_last.merge(&word.gap);
                into_last.merge(&word.first);
                word.gap.merge(&word.first);
                word.gap = word.gap.step(blank, floor);
                word.first.merge(&entry);
                word.first = word.first.step(p[usize::from(initial)], floor);
                word.last = into_last.step(last_p, floor);
            }
            None => {
                word.last.merge(&entry);
                word.last = word.last.step(last_p, floor);
            }
        }
        word.done = EMPTY;
        for t in word.last.iter() {
            word.done.add(Token { score: t.score, history: histories.with(t.history, w as u8) });
        }
        best = best.max(word.first.best()).max(word.gap.best()).max(word.last.best());
    }
    best
}

/// What can come before a word that begins with `unit`: the pause, or another word's end on another unit.
fn entry(before: &Place, syllables: &[Syllable; WORDS.len()], unit: u8) -> Tokens {
    let mut tokens = before.pause;
    for (word, syllable) in before.words.iter().zip(syllables) {
        if syllable.last != unit {
            tokens.merge(&word.done);
        }
    }
    tokens
}

fn readings(ends: &[Token], histories: &Histories, syllables: &[Syllable], want: usize) -> Vec<DigitString> {
    let mut out: Vec<DigitString> = Vec::new();
    for end in ends {
        if out.len() >= want || end.score < NEVER / 2.0 {
            break;
        }
        let (words, carriers): (Vec<u8>, Vec<u8>) =
            histories.words(end.history).into_iter().partition(|w| usize::from(*w) < WORDS.len());
        let carried: usize = carriers.iter().map(|c| CARRIER_UNITS[usize::from(*c) - WORDS.len()].len()).sum();
        let digits: String = words.iter().map(|w| WORDS[usize::from(*w)].1).collect();
        // 一 and 幺 mean the same: only the likelier reading is kept.
        if out.iter().any(|d| d.digits == digits) {
            continue;
        }
        out.push(DigitString {
            digits,
            pinyin: words.iter().map(|w| WORDS[usize::from(*w)].0.to_owned()).collect(),
            score: end.score,
            units: carried + words.iter().map(|w| syllables[usize::from(*w)].labels().count()).sum::<usize>(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fake::{labels, posteriors};
    use super::*;

    fn hear(pinyin: &str, sure: f32, min: u8, max: u8) -> Vec<DigitString> {
        digit_strings(&Frames::new(&posteriors(&labels(pinyin), sure), 0.0), DigitSpan { min, max }, 5)
    }

    #[test]
    fn a_number_is_heard_and_yao_is_one() {
        let found = hear("yao san ba ling ling yi er san si wu liu", 0.9, 11, 11);
        assert_eq!(found[0].digits, "13800123456");
        assert_eq!(found[0].pinyin[0], "yao");
        assert_eq!(found[0].units, 18, "four of the eleven words have no initial");
        assert!(found[0].score > -1.0);
    }

    #[test]
    fn the_length_asked_for_is_kept() {
        assert!(hear("yi er san si", 0.9, 4, 4).iter().all(|d| d.digits.len() == 4));
        let short = hear("yi er san", 0.9, 4, 6);
        assert!(short.iter().all(|d| (4..=6).contains(&d.digits.len())), "{short:?}");
        assert!(short.is_empty() || short[0].score < -4.0);
        assert_eq!(hear("yi er san si", 0.9, 2, 8)[0].digits, "1234");
    }

    #[test]
    fn the_words_of_radio_and_what_is_said_before_digits_are_known() {
        assert_eq!(hear("liang dong guai gou", 0.9, 4, 4)[0].digits, "2079");
        let tail = hear("wei hao shi san ba er liu", 0.9, 4, 4);
        assert_eq!(tail[0].digits, "3826");
        assert_eq!(tail[0].pinyin.len(), 4, "what was said before is no digit");
        assert!(tail[0].score > -4.0 && tail[0].units == 12, "{:?}", tail[0]);
    }

    #[test]
    fn readings_differ_and_are_ordered() {
        let found = hear("si qi jiu ba", 0.5, 4, 4);
        assert_eq!(found[0].digits, "4798");
        assert!(found.len() > 1);
        for pair in found.windows(2) {
            assert!(pair[0].score >= pair[1].score);
            assert_ne!(pair[0].digits, pair[1].digits);
        }
    }

    #[test]
    fn nothing_said_is_no_number() {
        assert!(digit_strings(&Frames::new(&[], 0.0), DigitSpan { min: 1, max: 4 }, 5).is_empty());
        // A span that allows nothing gives nothing.
        assert!(hear("yi", 0.9, 0, 0).is_empty());
    }
}
