//! What a verdict owes to the signers, so that a change of one voids the verdicts that it took part in
//! and no others.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::trust::{Outcome, SignerId};

/// Whom a verdict rests on. Read from the outcomes that it was made of, under a generation that was
/// read before the signers themselves.
#[derive(Debug)]
pub(in crate::pull) struct Reliance {
    /// The latest at which it was seen to stand.
    generation: AtomicU64,
    signers: BTreeSet<SignerId>,
    /// Whether a signature was nobody's who counts: whoever changes may be the one whose it is.
    open: bool,
}

/// Which signers changed, generation by generation.
#[derive(Debug, Default)]
pub(super) struct Changes {
    generation: AtomicU64,
    /// The latest, the last of which made the generation what it is.
    latest: Mutex<VecDeque<BTreeSet<SignerId>>>,
}

impl Reliance {
    pub(in crate::pull) fn new<'a>(generation: u64, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut reliance = Self { generation: AtomicU64::new(generation), signers: BTreeSet::new(), open: false };
        for outcome in outcomes {
            match outcome {
                Outcome::Verified(verified) => drop(reliance.signers.insert(verified.signer.id)),
                Outcome::Rejected(_) | Outcome::Unknown(_) => reliance.open = true,
            }
        }
        reliance
    }

    /// What rests on both.
    pub(in crate::pull) fn and(&self, other: &Self) -> Self {
        Self {
            generation: AtomicU64::new(self.generation().min(other.generation())),
            signers: self.signers.union(&other.signers).copied().collect(),
            open: self.open || other.open,
        }
    }

    /// Whether it rests on this signer's standing.
    pub(in crate::pull) fn is_on(&self, signer: SignerId) -> bool {
        self.open || self.signers.contains(&signer)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Changes {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, changed: BTreeSet<SignerId>) {
        let mut latest = self.latest.lock();
        latest.push_back(changed);
        if latest.len() > KEPT {
            latest.pop_front();
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether nothing has changed that this rests on.
    pub(super) fn leave(&self, reliance: &Reliance) -> bool {
        let (now, then) = (self.generation(), reliance.generation());
        if now == then {
            return true;
        }
        let latest = self.latest.lock();
        let now = self.generation();
        let since = usize::try_from(now - then).unwrap_or(usize::MAX);
        let Some(first) = latest.len().checked_sub(since) else { return false };
        let stands = latest.range(first..).flatten().all(|signer| !reliance.is_on(*signer));
        if stands {
            reliance.generation.fetch_max(now, Ordering::AcqRel);
        }
        stands
    }
}

/// A verdict that was not asked for during so many changes is made anew.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SignerId {
        format!("sha256:{}", hex::encode([n; 32])).parse().unwrap()
    }

    fn reliance(signers: &[u8], open: bool) -> Reliance {
        Reliance { generation: AtomicU64::new(0), signers: signers.iter().map(|n| id(*n)).collect(), open }
    }

    #[test]
    fn a_change_voids_what_the_signer_took_part_in_and_nothing_else() {
        let changes = Changes::default();
        let [of_one, of_two, of_nobody, unsigned] =
            [reliance(&[1], false), reliance(&[1, 2], false), reliance(&[], true), reliance(&[], false)];
        let leaves = |all: [&Reliance; 4]| all.map(|reliance| changes.leave(reliance));
        let all = [&of_one, &of_two, &of_nobody, &unsigned];
        assert_eq!(leaves(all), [true; 4]);
        changes.add(BTreeSet::from([id(2), id(9)]));
        assert_eq!(leaves(all), [true, false, false, true]);
        changes.add(BTreeSet::from([id(3)]));
        assert_eq!(leaves(all), [true, false, false, true]);
        assert!(!changes.leave(&of_one.and(&of_two)));
        changes.add(BTreeSet::from([id(1)]));
        assert_eq!(leaves(all), [false, false, false, true]);
    }

    #[test]
    fn what_was_not_looked_at_for_many_changes_does_not_stand() {
        let changes = Changes::default();
        let [asked, forgotten] = [reliance(&[1], false), reliance(&[1], false)];
        for _ in 0..=KEPT {
            changes.add(BTreeSet::from([id(2)]));
            assert!(changes.leave(&asked));
        }
        assert!(!changes.leave(&forgotten));
    }
}
