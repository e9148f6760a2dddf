//! Random histories against plain maps that know the rules in their simplest form.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIFE: Duration = Duration::from_secs(100);
const REMOVE_AFTER: Duration = Duration::from_secs(50);
const TAGS: [&str; 4] = ["preview-1", "preview-2", "internal-1", "v1"];

#[derive(Debug, Clone)]
enum Step {
    Submit {
        names: Vec<u8>,
        tag: usize,
        ends_after: Option<u64>,
        may_promote: bool,
    },
    Remember {
        names: Vec<u8>,
        ago: u64,
    },
    /// The n-th record there is, counted round.
    Withdraw {
        nth: usize,
        also: Option<u8>,
    },
    Wait {
        seconds: u64,
    },
    Sweep {
        limit: usize,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0..8_u8, 1..3);
    prop_oneof![
        6 => (names(), 0..TAGS.len(), prop::option::of(1..200_u64), any::<bool>())
            .prop_map(|(names, tag, ends_after, may_promote)| Step::Submit { names, tag, ends_after, may_promote }),
        1 => (names(), 0..150_u64).prop_map(|(names, ago)| Step::Remember { names, ago }),
        1 => (0..8_usize, prop::option::of(0..8_u8)).prop_map(|(nth, also)| Step::Withdraw { nth, also }),
        2 => (1..80_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => (1..4_usize).prop_map(|limit| Step::Sweep { limit }),
        1 => Just(Step::Reopen),
    ]
}

/// One signature, under all its names.
#[derive(Debug, Clone, Default)]
struct Signature {
    names: BTreeSet<u8>,
    first_seen: Timestamp,
    withdrawn: bool,
    labelled: Vec<Labelled>,
}

#[derive(Debug, Clone)]
struct Labelled {
    tag: usize,
    expires_at: Option<Timestamp>,
    record: Option<RecordId>,
}

#[derive(Debug, Default)]
struct Model {
    signatures: Vec<Signature>,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Created { first_seen: Timestamp },
    Existing(BTreeSet<RecordId>),
    Withdrawn,
    Expired,
    PromotionRefused,
}

impl Model {
    /// The signature that these names name; they are one from now on.
    fn named(&mut self, names: &[u8]) -> Option<&mut Signature> {
        let (same, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.signatures)
            .into_iter()
            .partition(|signature| names.iter().any(|name| signature.names.contains(name)));
        self.signatures = others;
        let mut one = same.into_iter().reduce(|mut one, other| {
            one.names.extend(other.names);
            one.first_seen = one.first_seen.min(other.first_seen);
            one.withdrawn |= other.withdrawn;
            one.labelled.extend(other.labelled);
            one
        })?;
        one.names.extend(names);
        if one.withdrawn {
            one.labelled.iter_mut().for_each(|labelled| labelled.record = None);
        }
        self.signatures.push(one);
        self.signatures.last_mut()
    }

    fn submit(&mut self, names: &[u8], tag: usize, may_promote: bool, now: Timestamp) -> Expected {
        let Some(known) = self.named(names) else {
            let names = names.iter().copied().collect();
            self.signatures.push(Signature { names, first_seen: now, ..Signature::default() });
            return Expected::Created { first_seen: now };
        };
        let life_over = known.first_seen + LIFE <= now;
        let over = |one: &Labelled| {
            (TAGS[one.tag].starts_with("preview") && life_over) || one.expires_at.is_some_and(|end| end <= now)
        };
        let same: Vec<_> = known.labelled.iter().filter(|one| one.tag == tag).collect();
        let alive: BTreeSet<_> = same.iter().filter(|one| !over(one)).filter_map(|one| one.record.clone()).collect();
        if known.withdrawn {
            Expected::Withdrawn
        } else if !alive.is_empty() {
            Expected::Existing(alive)
        } else if same.iter().any(|one| over(one))
            || (same.is_empty() && TAGS[tag].starts_with("preview") && life_over)
            || (same.is_empty() && !known.labelled.is_empty() && known.labelled.iter().all(over))
        {
            Expected::Expired
        } else if same.is_empty() && !known.labelled.is_empty() && !may_promote {
            Expected::PromotionRefused
        } else {
            Expected::Created { first_seen: known.first_seen }
        }
    }

    fn records(&self) -> BTreeSet<RecordId> {
        self.labelled().filter_map(|(_, labelled)| labelled.record.clone()).collect()
    }

    fn labelled(&self) -> impl Iterator<Item = (&Signature, &Labelled)> {
        self.signatures.iter().flat_map(|signature| signature.labelled.iter().map(move |one| (signature, one)))
    }

    fn removable(&self, now: Timestamp) -> BTreeSet<RecordId> {
        self.labelled()
            .filter(|(signature, one)| {
                (TAGS[one.tag].starts_with("preview") && signature.first_seen < now - LIFE - REMOVE_AFTER)
                    || one.expires_at.is_some_and(|end| end < now - REMOVE_AFTER)
            })
            .filter_map(|(_, one)| one.record.clone())
            .collect()
    }

    fn forget(&mut self, removed: &BTreeSet<RecordId>) {
        for labelled in self.signatures.iter_mut().flat_map(|signature| &mut signature.labelled) {
            labelled.record.take_if(|record| removed.contains(record));
        }
    }
}

fn name_of(name: u8) -> Identity {
    identity(&name.to_string())
}

async fn replay(steps: Vec<Step>) {
    let files = faults::files();
    let clock = clock();
    let mut running = faults::running_on(&files, &clock);
    let mut model = Model::default();
    for step in steps {
        let now = clock.now();
        match step {
            Step::Submit { names, tag, ends_after, may_promote } => {
                let expires_at = ends_after.map(|after| now + Duration::from_secs(after));
                let new = Submission {
                    identities: names.iter().copied().map(name_of).collect(),
                    expires_at,
                    ..submission("image", TAGS[tag])
                };
                let rules = SubmitRules { life: Some(LIFE), may_promote, verified: true };
                let expected = model.submit(&names, tag, may_promote, now);
                match running.store.submit(new, rules).await.unwrap() {
                    Submitted::Created(record) => {
                        assert_eq!(expected, Expected::Created { first_seen: record.first_seen });
                        let signature = model.named(&names).unwrap();
                        signature.labelled.retain(|one| one.tag != tag || one.record.is_some());
                        signature.labelled.push(Labelled { tag, expires_at, record: Some(record.id) });
                    }
                    Submitted::Existing(record) => match expected {
                        Expected::Existing(alive) => assert!(alive.contains(&record.id)),
                        other => panic!("exists, but {other:?}"),
                    },
                    Submitted::Withdrawn => assert_eq!(expected, Expected::Withdrawn),
                    Submitted::Expired => assert_eq!(expected, Expected::Expired),
                    Submitted::PromotionRefused => assert_eq!(expected, Expected::PromotionRefused),
                    Submitted::TooMany => panic!("too many, but {expected:?}"),
                }
            }
            Step::Remember { names, ago } => {
                let seen = now - Duration::from_secs(ago);
                if model.named(&names).is_none() {
                    let names = names.iter().copied().collect();
                    model.signatures.push(Signature { names, first_seen: seen, ..Signature::default() });
                }
                let known = model.named(&names).unwrap();
                known.first_seen = known.first_seen.min(seen);
                let earliest = known.first_seen;
                let identities = names.iter().copied().map(name_of).collect();
                assert_eq!(running.store.remember_identity(identities, seen).await.unwrap(), earliest);
            }
            Step::Withdraw { nth, also } => {
                let records: Vec<_> = model.records().into_iter().collect();
                if records.is_empty() {
                    continue;
                }
                let id = &records[nth % records.len()];
                let owner = model.labelled().find(|(_, one)| one.record.as_ref() == Some(id)).unwrap().0;
                let names: Vec<u8> = owner.names.iter().copied().chain(also).collect();
                let signature = model.named(&names).unwrap();
                signature.withdrawn = true;
                signature.labelled.iter_mut().for_each(|one| one.record = None);
                assert!(running.store.withdraw(id, also.map(name_of).into_iter().collect()).await.unwrap().is_some());
            }
            Step::Wait { seconds } => clock.advance(Duration::from_secs(seconds)),
            Step::Sweep { limit } => {
                let cutoff = Some(now - LIFE - REMOVE_AFTER);
                let removable = model.removable(now);
                assert_eq!(running.store.count_removable(cutoff, now, REMOVE_AFTER).unwrap(), removable.len());
                let removed = running.store.sweep(cutoff, now, REMOVE_AFTER, limit).await.unwrap();
                assert_eq!(removed, removable.len().min(limit));
                let gone: BTreeSet<_> =
                    removable.into_iter().filter(|id| running.store.record(id).unwrap().is_none()).collect();
                assert_eq!(gone.len(), removed);
                model.forget(&gone);
            }
            Step::Reopen => {
                drop(running);
                running = faults::running_on(&files, &clock);
            }
        }
    }
    let found = running.store.records_of(&Digest::sha256(b"image")).unwrap();
    assert_eq!(found.into_iter().map(|record| record.id).collect::<BTreeSet<_>>(), model.records());
    for signature in &model.signatures {
        for name in &signature.names {
            let row = running.store.identity(&name_of(*name)).unwrap();
            let expected = IdentityRow { first_seen: signature.first_seen, withdrawn: signature.withdrawn };
            assert_eq!(row, Some(expected), "{name}");
        }
    }
    assert_eq!(running.store.check().unwrap().flaws, [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_as_the_plain_maps_say(steps in prop::collection::vec(step(), 1..50)) {
        block_on(replay(steps));
    }
}
