//! Phrases as a tree: what begins alike is scored once.

use std::collections::HashMap;

/// No parent: the node begins a phrase.
const ROOT: u32 = u32::MAX;

/// A prefix tree of label sequences. A node stands behind its parent, so that a walk from the last node to the first
/// meets children before parents.
#[derive(Debug, Default)]
pub struct PrefixTree {
    nodes: Vec<Node>,
    /// The last node of each phrase, in the order given; none for an empty one.
    ends: Vec<Option<u32>>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    unit: u8,
    parent: u32,
}

impl PrefixTree {
    /// The tree of these phrases.
    pub fn new<'a>(phrases: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut tree = PrefixTree::default();
        let mut known: HashMap<(u32, u8), u32> = HashMap::new();
        for labels in phrases {
            let mut at = ROOT;
            for &unit in labels {
                at = *known.entry((at, unit)).or_insert_with(|| {
                    tree.nodes.push(Node { unit, parent: at });
                    (tree.nodes.len() - 1) as u32
                });
            }
            tree.ends.push((at != ROOT).then_some(at));
        }
        tree
    }

    /// Number of nodes: units that are scored.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no phrase has a unit.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's unit, as an index into a frame.
    pub fn unit(&self, node: usize) -> usize {
        usize::from(self.nodes[node].unit)
    }

    /// The node before it in its phrases; none for a first one.
    pub fn parent(&self, node: usize) -> Option<usize> {
        Some(self.nodes[node].parent).filter(|p| *p != ROOT).map(|p| p as usize)
    }

    /// Whether the same unit stands before it: then there must be a blank between.
    pub fn repeats(&self, node: usize) -> bool {
        self.parent(node).is_some_and(|p| self.nodes[p].unit == self.nodes[node].unit)
    }

    /// The last node of each phrase, in the order they were given.
    pub fn ends(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.ends.iter().map(|e| e.map(|n| n as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_beginnings_are_held_once_and_parents_come_first() {
        let phrases: [&[u8]; 5] = [&[1, 2, 3], &[1, 2, 4], &[1, 2], &[], &[5, 5]];
        let tree = PrefixTree::new(phrases);
        assert_eq!(tree.len(), 6);
        assert!((0..tree.len()).all(|n| tree.parent(n).is_none_or(|p| p < n)));
        let said = |mut at: Option<usize>| {
            let mut units = Vec::new();
            while let Some(n) = at {
                units.insert(0, tree.unit(n) as u8);
                at = tree.parent(n);
            }
            units
        };
        let back: Vec<Vec<u8>> = tree.ends().map(said).collect();
        assert_eq!(back, phrases.map(<[u8]>::to_vec));
        let last = tree.ends().last().flatten().unwrap();
        assert!(tree.repeats(last) && !tree.repeats(0));
    }
}
