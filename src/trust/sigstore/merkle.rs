use aws_lc_rs::digest::{Context, SHA256};

/// Whether `hashes` lead from the leaf at `index` of a tree of `size` leaves to its `root`: RFC 9162,
/// section 2.1.3.2.
pub(super) fn includes(leaf: &[u8], index: u64, size: u64, hashes: &[[u8; 32]], root: &[u8; 32]) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = hash_of(&[&[0], leaf]);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = hash_of(&[&[1], sibling, &hash]);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = hash_of(&[&[1], &hash, sibling]);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

fn hash_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Context::new(&SHA256);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of a tree by its definition, RFC 9162, section 2.1.1, and the path to one leaf.
    fn tree(leaves: &[Vec<u8>], index: Option<usize>) -> ([u8; 32], Vec<[u8; 32]>) {
        if let [leaf] = leaves {
            return (hash_of(&[&[0], leaf]), Vec::new());
        }
        let split = (1..).map(|power| 1 << (power - 1)).take_while(|split| *split < leaves.len()).last().unwrap();
        let (left, right) = leaves.split_at(split);
        let (left_root, mut path) = tree(left, index.filter(|index| *index < split));
        let (right_root, right_path) = tree(right, index.and_then(|index| index.checked_sub(split)));
        match index {
            Some(index) if index < split => path.push(right_root),
            Some(_) => path = [right_path, vec![left_root]].concat(),
            None => path.clear(),
        }
        (hash_of(&[&[1], &left_root, &right_root]), path)
    }

    #[test]
    fn a_leaf_is_included_where_it_is_and_nowhere_else() {
        let leaves: Vec<Vec<u8>> = (0..33_u8).map(|number| vec![number; 3]).collect();
        for size in 1..=leaves.len() {
            for index in 0..size {
                let (root, path) = tree(&leaves[..size], Some(index));
                let at = |index: usize, size: usize, path: &[[u8; 32]]| {
                    includes(&leaves[index], index as u64, size as u64, path, &root)
                };
                assert!(at(index, size, &path), "{index} of {size}");
                assert!(!includes(b"another", index as u64, size as u64, &path, &root));
                assert!(!includes(&leaves[index], (index + 1) as u64, size as u64, &path, &root));
                assert!(!at(index, size, &[&path[..], &[[0; 32]]].concat()), "a hash too many");
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!at(index, size, shorter), "a hash too few");
                    let mut changed = path.clone();
                    changed[0][0] ^= 1;
                    assert!(!at(index, size, &changed));
                }
            }
        }
        assert!(!includes(b"", 0, 0, &[], &[0; 32]), "an empty tree includes nothing");
        assert!(!includes(b"", u64::MAX, u64::MAX, &[[0; 32]; 64], &[0; 32]));
    }
}
