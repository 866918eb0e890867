//! Digit strings: the best few sequences of 零…九 and 幺 whose length is allowed.

use super::{Frames, NEVER};
use crate::engines::units::{BLANK, Syllable};
use crate::speech::DigitSpan;
use std::collections::HashMap;

/// The digit words: how each is said, and what it means.
const WORDS: [(&str, char); 11] = [
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
];
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
    let mut floor = NEVER;
    for t in 0..frames.len() {
        let p = frames.frame(t);
        // From the last place to the first: each reads the place before it as it was a frame ago.
        let mut best = NEVER;
        for n in (0..=most).rev() {
            let (before, here) = places.split_at_mut(n);
            best = best.max(advance(before.last(), &mut here[0], &syllables, p, floor, &mut histories));
        }
        floor = best - BEAM;
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
        let words = histories.words(end.history);
        let digits: String = words.iter().map(|w| WORDS[usize::from(*w)].1).collect();
        // 一 and 幺 mean the same: only the likelier reading is kept.
        if out.iter().any(|d| d.digits == digits) {
            continue;
        }
        out.push(DigitString {
            digits,
            pinyin: words.iter().map(|w| WORDS[usize::from(*w)].0.to_owned()).collect(),
            score: end.score,
            units: words.iter().map(|w| syllables[usize::from(*w)].labels().count()).sum(),
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
