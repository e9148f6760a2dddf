//! Which cells of a matrix are run when not all of them are: so few that every two values that may stand together do so
//! in at least one. What breaks a client is hardly ever more than two things at once.

use std::{cmp::Reverse, collections::BinaryHeap};

/// One value of each factor, by its number.
pub(super) type Values<const N: usize> = [usize; N];

/// Every combination that `legal` allows.
pub(super) fn all<const N: usize>(sizes: Values<N>, legal: impl Fn(Values<N>) -> bool) -> Vec<Values<N>> {
    let total: usize = sizes.iter().product();
    let nth = |mut number: usize| {
        let mut values = [0; N];
        for (value, size) in values.iter_mut().zip(sizes).rev() {
            (*value, number) = (number % size, number / size);
        }
        values
    };
    (0..total).map(nth).filter(|values| legal(*values)).collect()
}

/// Some of `all`, the same ones each time, in which every pair of values occurs that occurs in `all`. Each next one has
/// the most pairs that none before had; of several such, the one whose pairs have been used least.
pub(super) fn pairwise<const N: usize>(sizes: Values<N>, all: &[Values<N>]) -> Vec<Values<N>> {
    let widest = sizes.iter().copied().max().unwrap_or_default();
    let pairs_of = |values: &Values<N>| -> Vec<usize> {
        let numbered = values.iter().enumerate();
        let pairs = numbered.clone().flat_map(|one| numbered.clone().skip(one.0 + 1).map(move |other| (one, other)));
        pairs.map(|((i, a), (j, b))| ((i * N + j) * widest + a) * widest + b).collect()
    };
    let pairs: Vec<Vec<usize>> = all.iter().map(pairs_of).collect();
    let mut used = vec![0_usize; N * N * widest * widest];
    let rank = |at: usize, used: &[usize]| {
        let new = pairs[at].iter().filter(|pair| used[**pair] == 0).count();
        let uses = pairs[at].iter().map(|pair| used[*pair]).sum::<usize>();
        (new, Reverse(uses), Reverse(at))
    };
    // A rank only falls as pairs are used. So whatever still has the rank that it was queued with is the best there is.
    let mut queue: BinaryHeap<_> = (0..all.len()).map(|at| rank(at, &used)).collect();
    let mut chosen = Vec::new();
    while let Some(queued) = queue.pop() {
        let Reverse(at) = queued.2;
        let now = rank(at, &used);
        if now.0 == 0 {
            continue;
        }
        if now < queued {
            queue.push(now);
            continue;
        }
        chosen.push(all[at]);
        pairs[at].iter().for_each(|pair| used[*pair] += 1);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SIZES: Values<4> = [7, 4, 2, 9];

    fn legal([a, b, c, d]: Values<4>) -> bool {
        // What the matrix has: values that exclude others, and one that leaves a single choice.
        (d < 4 || b == 0) && (a != 3 || c == 1) && (d != 8 || (a, c) == (0, 0))
    }

    fn pairs(cells: &[Values<4>]) -> BTreeSet<(usize, usize, usize, usize)> {
        let of = |values: &Values<4>| {
            let values = *values;
            (0..4).flat_map(move |i| (i + 1..4).map(move |j| (i, values[i], j, values[j])))
        };
        cells.iter().flat_map(of).collect()
    }

    #[test]
    fn every_legal_pair_is_in_the_choice_and_nothing_illegal() {
        let all = all(SIZES, legal);
        let chosen = pairwise(SIZES, &all);
        assert_eq!(pairs(&chosen), pairs(&all));
        assert!(chosen.iter().all(|values| legal(*values)));
        assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len(), "no cell is chosen twice");
        // Two factors of 7 and 9 values need at least their legal pairs; the rest has to fit into few more.
        assert!(chosen.len() < 7 * 9 * 5 / 4 && chosen.len() < all.len() / 2, "{} of {}", chosen.len(), all.len());
    }

    #[test]
    fn the_choice_is_the_same_each_time() {
        let all = all(SIZES, legal);
        assert_eq!(pairwise(SIZES, &all), pairwise(SIZES, &all));
    }

    #[test]
    fn all_is_every_legal_combination_once() {
        let all = all([2, 3], |values| values != [1, 0]);
        assert_eq!(all, [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]);
    }
}
