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

/// Root over at least one leaf.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Hasher::new(Label::Node).finish(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// Siblings from the leaf at `index` up to the root.
pub(crate) fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (path(left, index), root(right))
    } else {
        (path(right, index - left.len()), root(left))
    };
    path.push(sibling);
    path
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

    #[test]
    fn sa03_only_the_right_leaf_place_and_path_lead_to_the_root() {
        for n in 1..=33usize {
            let leaves: Vec<Digest> = (0..n).map(|i| sha256(&i.to_le_bytes())).collect();
            let top = root(&leaves);
            for (i, leaf) in leaves.iter().enumerate() {
                let p = path(&leaves, i);
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
