//! Free syllables: the best path through any sequence of Mandarin syllables.

use super::{Frames, NEVER};
use crate::engines::units::{BLANK, Syllable};

/// A syllable on the best path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spoken {
    /// Which.
    pub syllable: Syllable,
    /// First frame of its sound.
    pub from: usize,
    /// Last frame of its sound.
    pub to: usize,
}

/// What the free loop found.
#[derive(Debug, Clone, PartialEq)]
pub struct FreeLoop {
    /// The best sequence.
    pub path: Vec<Spoken>,
    /// Its score (see [`super`]), without penalties.
    pub score: f32,
    /// `reached[t]`: the best score of whole syllables and pauses up to and with frame t.
    pub reached: Vec<f32>,
}

const NOTHING: u32 = u32::MAX;

/// A path: its score, the syllables finished so far, and where the syllable it is in began.
#[derive(Clone, Copy)]
struct Token {
    score: f32,
    history: u32,
    since: u32,
}

const DEAD: Token = Token { score: NEVER, history: NOTHING, since: 0 };

fn better(a: Token, b: Token) -> Token {
    if b.score > a.score { b } else { a }
}

/// The states of one syllable: its initial, the blank after it, its final.
#[derive(Clone, Copy)]
struct States {
    first: Token,
    gap: Token,
    last: Token,
}

struct Finished {
    before: u32,
    what: Spoken,
}

/// A syllable that has just been completed, and the unit it ended on.
#[derive(Clone, Copy)]
struct End {
    token: Token,
    unit: u8,
}

/// Finds the best sequence of `inventory` syllables; `penalty` (0 or less) is paid for each.
pub fn free_loop(frames: &Frames, inventory: &[Syllable], penalty: f32) -> FreeLoop {
    let mut states = vec![States { first: DEAD, gap: DEAD, last: DEAD }; inventory.len()];
    let mut finished: Vec<Finished> = Vec::new();
    let mut pause = Token { score: 0.0, history: NOTHING, since: 0 };
    let mut ends = [End { token: DEAD, unit: BLANK }; 2];
    let mut reached = Vec::with_capacity(frames.len());
    for t in 0..frames.len() {
        let p = frames.frame(t);
        let blank = p[usize::from(BLANK)];
        let mut next_ends = [End { token: DEAD, unit: BLANK }; 2];
        let mut best_at = [usize::MAX; 2];
        for (i, (syllable, st)) in inventory.iter().zip(&mut states).enumerate() {
            let entry = entry(pause, &ends, syllable.initial.unwrap_or(syllable.last), penalty, t);
            let last_p = p[usize::from(syllable.last)];
            match syllable.initial {
                Some(initial) => {
                    let into_last = better(better(st.last, st.gap), st.first);
                    st.gap = step(better(st.gap, st.first), blank);
                    st.first = step(better(st.first, entry), p[usize::from(initial)]);
                    st.last = step(into_last, last_p);
                }
                None => st.last = step(better(st.last, entry), last_p),
            }
            keep_best_two(&mut next_ends, &mut best_at, End { token: st.last, unit: syllable.last }, i);
        }
        pause = step(better(better(pause, ends[0].token), ends[1].token), blank);
        for (end, i) in next_ends.iter_mut().zip(best_at) {
            if i < inventory.len() && end.token.score > NEVER / 2.0 {
                let what = Spoken { syllable: inventory[i], from: end.token.since as usize, to: t };
                finished.push(Finished { before: end.token.history, what });
                end.token.history = finished.len() as u32 - 1;
            }
        }
        ends = next_ends;
        reached.push(better(pause, ends[0].token).score);
    }
    let best = better(pause, ends[0].token);
    let path = trace(&finished, best.history);
    FreeLoop { score: best.score - penalty * path.len() as f32, path, reached }
}

/// Where a syllable that begins with `unit` can come from: a pause, or a syllable that ended on another unit.
fn entry(pause: Token, ends: &[End; 2], unit: u8, penalty: f32, t: usize) -> Token {
    let from_end = if ends[0].unit != unit { ends[0].token } else { ends[1].token };
    let from = if t == 0 { pause } else { better(pause, from_end) };
    Token { score: from.score + penalty, history: from.history, since: t as u32 }
}

fn step(token: Token, p: f32) -> Token {
    Token { score: (token.score + p).max(NEVER), ..token }
}

/// Keeps the best ending and the best one with a different last unit.
fn keep_best_two(ends: &mut [End; 2], at: &mut [usize; 2], new: End, i: usize) {
    if new.token.score > ends[0].token.score {
        if ends[0].unit != new.unit {
            (ends[1], at[1]) = (ends[0], at[0]);
        }
        (ends[0], at[0]) = (new, i);
    } else if new.unit != ends[0].unit && new.token.score > ends[1].token.score {
        (ends[1], at[1]) = (new, i);
    }
}

fn trace(finished: &[Finished], mut at: u32) -> Vec<Spoken> {
    let mut path = Vec::new();
    while let Some(f) = finished.get(at as usize) {
        path.push(f.what);
        at = f.before;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::super::fake::{labels, posteriors};
    use super::super::forward::Scorer;
    use super::super::tree::PrefixTree;
    use super::*;

    fn inventory(list: &str) -> Vec<Syllable> {
        list.split(' ').map(|s| Syllable::from_pinyin(s).expect("pinyin")).collect()
    }

    #[test]
    fn spoken_syllables_are_found_with_their_places() {
        let all = inventory("a yi er cha ding dan dai gong zhuan ren");
        let frames = Frames::new(&posteriors(&labels("cha ding dan"), 0.9), 0.3);
        let found = free_loop(&frames, &all, 0.0);
        let names: Vec<String> = found.path.iter().map(|s| s.syllable.pinyin()).collect();
        assert_eq!(names, ["cha", "ding", "dan"]);
        assert_eq!((found.path[0].from, found.path[0].to), (1, 5));
        assert!(found.path[1].from > found.path[0].to);
        assert_eq!(found.reached.len(), frames.len());
        assert!(found.score <= 0.0 && found.score > -1.0, "{}", found.score);
    }

    #[test]
    fn no_phrase_beats_the_free_loop_by_more_than_its_many_alignments() {
        let all = inventory("cha ding dan dai gong");
        let frames = Frames::new(&posteriors(&labels("cha ding dan"), 0.6), 0.0);
        let free = free_loop(&frames, &all, 0.0).score;
        let phrase = Scorer::new(&frames).scores(&PrefixTree::new([labels("cha ding dan").as_slice()]))[0];
        assert!(phrase >= free, "the sum over alignments holds the best one");
        assert!(phrase - free < 3.0);
    }

    #[test]
    fn silence_has_no_syllables() {
        let frames = Frames::new(&posteriors(&[BLANK; 9], 0.9), 0.0);
        assert!(free_loop(&frames, &inventory("a yi"), 0.0).path.is_empty());
        assert!(free_loop(&Frames::new(&[], 0.0), &inventory("a"), 0.0).path.is_empty());
    }
}
