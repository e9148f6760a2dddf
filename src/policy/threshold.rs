use std::{num::NonZeroU8, str::FromStr};

use crate::trust::SignerIdentity;

/// How many signers must have signed, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(NonZeroU8);

/// A signature that verified, as far as counting goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    pub signer: SignerIdentity,
    /// Who signed.
    pub identity: [u8; 32],
    /// What they are trusted by.
    pub entry: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of signers from 1 to {}", Threshold::MAX)]
pub struct ThresholdError;

impl Threshold {
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// More than anybody asks for; it bounds the work of counting.
    pub const MAX: u8 = 16;

    pub fn get(self) -> usize {
        usize::from(self.0.get())
    }

    /// The signers that count, no more than are needed: of two signatures by one identity, or by two
    /// identities that one entry of trust stands for, one does.
    pub(super) fn count(self, votes: &[&Vote]) -> Vec<SignerIdentity> {
        if self == Self::ONE {
            return votes.first().map(|vote| vote.signer.clone()).into_iter().collect();
        }
        // Of each pair of who and by what there need be one: the rest adds nothing.
        let mut distinct: Vec<&Vote> = Vec::new();
        for vote in votes {
            if !distinct.iter().any(|other| (other.identity, other.entry) == (vote.identity, vote.entry)) {
                distinct.push(vote);
            }
        }
        let mut counted = Counted { votes: &distinct, by_entry: Vec::new() };
        for vote in 0..distinct.len() {
            if counted.by_entry.len() == self.get() {
                break;
            }
            if distinct[..vote].iter().all(|earlier| earlier.identity != distinct[vote].identity) {
                counted.seat(distinct[vote].identity, &mut Vec::new());
            }
        }
        counted.by_entry.iter().map(|vote| distinct[*vote].signer.clone()).collect()
    }
}

/// Identities, each seated at an entry of its own: a matching, grown by one identity at a time. Whoever
/// sits where a later one must moves to another of its entries, so that the order of the signatures
/// does not decide how many count.
struct Counted<'a> {
    votes: &'a [&'a Vote],
    /// Which vote holds an entry, one for each entry that is held.
    by_entry: Vec<usize>,
}

impl Counted<'_> {
    fn seat(&mut self, identity: [u8; 32], tried: &mut Vec<[u8; 32]>) -> bool {
        for (index, vote) in self.votes.iter().enumerate().filter(|(_, vote)| vote.identity == identity) {
            if tried.contains(&vote.entry) {
                continue;
            }
            tried.push(vote.entry);
            match self.by_entry.iter().position(|held| self.votes[*held].entry == vote.entry) {
                None => {
                    self.by_entry.push(index);
                    return true;
                }
                Some(place) => {
                    if self.seat(self.votes[self.by_entry[place]].identity, tried) {
                        // Whoever sat here has a new place, and this one is free.
                        self.by_entry[place] = index;
                        return true;
                    }
                }
            }
        }
        false
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let number: NonZeroU8 = text.parse().map_err(|_| ThresholdError)?;
        if number.get() > Self::MAX || text.starts_with('+') { Err(ThresholdError) } else { Ok(Self(number)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::SignerId;

    fn vote(identity: u8, entry: u8) -> Vote {
        let id: SignerId = format!("sha256:{}", hex::encode([entry; 32])).parse().unwrap();
        Vote { signer: SignerIdentity { id, name: entry.to_string() }, identity: [identity; 32], entry: [entry; 32] }
    }

    fn counted(threshold: &str, votes: &[(u8, u8)]) -> usize {
        let votes: Vec<_> = votes.iter().map(|(identity, entry)| vote(*identity, *entry)).collect();
        let signers = threshold.parse::<Threshold>().unwrap().count(&votes.iter().collect::<Vec<_>>());
        let mut names: Vec<_> = signers.iter().map(|signer| &signer.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), signers.len(), "{names:?}");
        signers.len()
    }

    #[test]
    fn two_signatures_by_one_identity_count_once() {
        assert_eq!(counted("2", &[(1, 1), (1, 1)]), 1);
        // Whom two entries trust is one all the same, and so are two whom one entry stands for.
        assert_eq!(counted("2", &[(1, 1), (1, 2)]), 1);
        assert_eq!(counted("2", &[(1, 1), (2, 1)]), 1);
        assert_eq!(counted("2", &[(1, 1), (2, 2)]), 2);
        assert_eq!(counted("2", &[]), 0);
    }

    #[test]
    fn the_order_of_signatures_does_not_decide() {
        assert_eq!(counted("2", &[(1, 1), (1, 2), (2, 1)]), 2);
        assert_eq!(counted("3", &[(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]), 3);
        assert_eq!(counted("3", &[(3, 3), (3, 2), (2, 2), (2, 1), (1, 1)]), 3);
    }

    #[test]
    fn no_more_are_named_than_are_needed() {
        assert_eq!(counted("1", &[(1, 1), (2, 2), (3, 3)]), 1);
        assert_eq!(counted("2", &[(1, 1), (2, 2), (3, 3)]), 2);
    }

    #[test]
    fn what_is_no_number_of_signers_is_refused() {
        for wrong in ["", "0", "17", "256", "-1", "+2", "2.0", "two", " 2"] {
            assert_eq!(wrong.parse::<Threshold>(), Err(ThresholdError), "{wrong:?}");
        }
        assert_eq!("16".parse::<Threshold>().unwrap().get(), 16);
    }

    /// The most that can be counted, by trying every choice of votes.
    fn most(votes: &[(u8, u8)]) -> usize {
        (0u32..1 << votes.len())
            .filter_map(|chosen| {
                let of: Vec<_> = (0..votes.len()).filter(|n| chosen & (1 << n) != 0).map(|n| votes[n]).collect();
                let clash = of.iter().enumerate().any(|(n, a)| of[..n].iter().any(|b| a.0 == b.0 || a.1 == b.1));
                (!clash).then_some(of.len())
            })
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn as_many_count_as_can(votes in proptest::collection::vec((0u8..5, 0u8..5), 0..10)) {
            prop_assert_eq!(counted("16", &votes), most(&votes));
        }
    }
}
