//! A Merkle tree over what one dealer gives its recipients, so that each recipient can check its own pair under the
//! dealer's signed root without seeing all the others.
//!
//! Contract: the shape is fixed by the number of leaves (the left half is the largest power of two below it, as in RFC 9162
//! §2.1), so a path has exactly one valid length; leaves and inner nodes have different labels.

use crate::hash::{Digest, Hasher};
use crate::labels::Label;

fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Hasher::new(Label::Node).digest(left).digest(right).finish()
}

/// All nodes of a tree, so that the paths of n leaves cost n hashes and not n².
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// From the leaves up to the root. Neighbours are hashed; a last one without neighbour moves up as it is, which gives
    /// the shape above.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Over any number of leaves.
    pub fn new(leaves: Vec<Digest>) -> Tree {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let up = |pair: &[Digest]| if let [left, right] = pair { node(left, right) } else { pair[0] };
            let next = level.chunks(2).map(up).collect();
            levels.push(next);
        }
        Tree { levels }
    }

    /// The root; of no leaves at all the hash of nothing.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Hasher::new(Label::Node).finish())
    }

    /// Siblings from the leaf at `index` up to the root.
    pub fn path(&self, index: usize) -> Vec<Digest> {
        let sibling = |(height, level): (usize, &Vec<Digest>)| level.get((index >> height) ^ 1).copied();
        let below_root = self.levels.len().saturating_sub(1);
        self.levels[..below_root].iter().enumerate().filter_map(sibling).collect()
    }
}

/// The root that a leaf at `index` of `n` and its path lead to; `None` for a path of another length.
pub(crate) fn root_of_path(leaf: Digest, index: usize, n: usize, path: &[Digest]) -> Option<Digest> {
    if n <= 1 {
        return (path.is_empty() && index < n).then_some(leaf);
    }
    let (sibling, below) = path.split_last()?;
    let half = split(n);
    if index < half {
        Some(node(&root_of_path(leaf, index, half, below)?, sibling))
    } else {
        Some(node(sibling, &root_of_path(leaf, index - half, n - half, below)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn by_halves(leaves: &[Digest]) -> Digest {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node(&by_halves(left), &by_halves(right))
            }
        }
    }

    #[test]
    fn sa03_only_the_right_leaf_place_and_path_lead_to_the_root() {
        for n in 1..=33usize {
            let leaves: Vec<Digest> = (0..n).map(|i| sha256(&i.to_le_bytes())).collect();
            let tree = Tree::new(leaves.clone());
            let top = tree.root();
            assert_eq!(top, by_halves(&leaves), "the shape of RFC 9162");
            for (i, leaf) in leaves.iter().enumerate() {
                let p = tree.path(i);
                assert_eq!(root_of_path(*leaf, i, n, &p), Some(top));
                for j in (0..=n).filter(|&j| j != i) {
                    assert_ne!(root_of_path(*leaf, j, n, &p), Some(top), "leaf {i} at place {j} of {n}");
                }
                assert_ne!(root_of_path(sha256(b"other"), i, n, &p), Some(top));
                let longer = [&p[..], &[top]].concat();
                assert_eq!(root_of_path(*leaf, i, n, &longer), None);
                if let Some((_, shorter)) = p.split_last() {
                    assert_eq!(root_of_path(*leaf, i, n, shorter), None);
                }
            }
        }
    }
}
