//! Key fragments anywhere in an utterance: each is compared with what free syllables make of the same stretch.

use super::syllables::FreeLoop;
use super::tree::PrefixTree;
use super::{Frames, NEVER};
use crate::engines::units::BLANK;

/// A fragment that was perhaps said.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which of the fragments.
    pub fragment: usize,
    /// First frame.
    pub from: usize,
    /// Last frame.
    pub to: usize,
    /// Log ratio to free syllables, less the price and the floor: how much better than just good enough.
    pub gain: f32,
}

#[derive(Clone, Copy)]
struct Token {
    score: f32,
    since: u32,
}

const DEAD: Token = Token { score: NEVER, since: 0 };

fn better(a: Token, b: Token) -> Token {
    if b.score > a.score { b } else { a }
}

/// The places where a fragment of the tree is good enough: its log ratio to free syllables less its price is above
/// `floor` for each unit. `fragments`: the price and the number of units of each. Of places of one fragment that overlap
/// only the best is given.
pub fn occurrences(
    frames: &Frames,
    free: &FreeLoop,
    tree: &PrefixTree,
    fragments: &[(f32, usize)],
    floor: f32,
) -> Vec<Found> {
    let (mut sound, mut gap) = (vec![DEAD; tree.len()], vec![DEAD; tree.len()]);
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); fragments.len()];
    let ends: Vec<Option<usize>> = tree.ends().collect();
    for t in 0..frames.len() {
        let p = frames.frame(t);
        let entry = Token { score: if t == 0 { 0.0 } else { free.reached[t - 1] }, since: t as u32 };
        for n in (0..tree.len()).rev() {
            let before = match tree.parent(n) {
                None => entry,
                Some(up) if tree.repeats(n) => gap[up],
                Some(up) => better(gap[up], sound[up]),
            };
            let stay = better(sound[n], before);
            let rest = better(gap[n], sound[n]);
            gap[n] = Token { score: rest.score + p[usize::from(BLANK)], ..rest };
            sound[n] = Token { score: stay.score + p[tree.unit(n)], ..stay };
        }
        for (fragment, (&(price, units), end)) in fragments.iter().zip(&ends).enumerate() {
            let Some(end) = end.map(|n| sound[n]) else { continue };
            let gain = end.score - free.reached[t] - price - floor * units as f32;
            if gain > 0.0 {
                keep_best(&mut found[fragment], Found { fragment, from: end.since as usize, to: t, gain });
            }
        }
    }
    found.concat()
}

fn keep_best(places: &mut Vec<Found>, found: Found) {
    match places.last_mut() {
        Some(last) if last.to >= found.from => {
            if found.gain > last.gain {
                *last = found;
            }
        }
        _ => places.push(found),
    }
}

/// The set of occurrences that do not overlap and together gain most, in order of time.
pub fn best_set(found: &[Found]) -> Vec<Found> {
    let mut sorted: Vec<&Found> = found.iter().collect();
    sorted.sort_by_key(|f| (f.to, f.from));
    // best[i]: the most that the first i occurrences can gain; took[i]: whether the i-th is among them.
    let mut best = vec![0.0f32; sorted.len() + 1];
    let mut took = vec![false; sorted.len() + 1];
    let compatible = |i: usize| sorted[..i].partition_point(|f| f.to < sorted[i].from);
    for i in 0..sorted.len() {
        let with = sorted[i].gain + best[compatible(i)];
        took[i + 1] = with > best[i];
        best[i + 1] = best[i].max(with);
    }
    let mut out = Vec::new();
    let mut i = sorted.len();
    while i > 0 {
        if took[i] {
            out.push(sorted[i - 1].clone());
            i = compatible(i - 1);
        } else {
            i -= 1;
        }
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::super::fake::{labels, posteriors};
    use super::super::syllables::free_loop;
    use super::*;
    use crate::engines::units::Syllable;

    fn all() -> Vec<Syllable> {
        let list: Vec<String> =
            serde_json::from_str(include_str!("../../../models/asr-first/syls.json")).expect("a list");
        list.iter().map(|s| Syllable::from_pinyin(s).expect("pinyin")).collect()
    }

    #[test]
    fn a_fragment_is_found_amid_other_speech() {
        let frames = Frames::new(&posteriors(&labels("wo xiang ba di zhi gai yi xia"), 0.8), 0.3);
        let free = free_loop(&frames, &all(), 0.0);
        let fragments = [labels("di zhi"), labels("ding dan"), labels("di"), Vec::new()];
        let tree = PrefixTree::new(fragments.iter().map(Vec::as_slice));
        let prices: Vec<(f32, usize)> = fragments.iter().map(|f| (1.0, f.len())).collect();
        let hit = occurrences(&frames, &free, &tree, &prices, -1.0);
        assert_eq!(hit.iter().map(|h| h.fragment).collect::<Vec<_>>(), [0, 2], "{hit:?}");
        assert!(hit[0].gain > 2.0, "{hit:?}");
    }

    #[test]
    fn overlapping_fragments_give_way_to_the_best_set() {
        let f = |fragment, from, to, gain| Found { fragment, from, to, gain };
        let set = best_set(&[f(0, 0, 10, 3.0), f(1, 5, 20, 4.0), f(2, 11, 18, 2.0)]);
        assert_eq!(set.iter().map(|s| s.fragment).collect::<Vec<_>>(), [0, 2]);
        assert!(best_set(&[]).is_empty());
    }
}
