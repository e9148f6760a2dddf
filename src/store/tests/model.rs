//! Random histories against plain maps that know the rules in their simplest form.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIFE: Duration = Duration::from_secs(100);
const REMOVE_AFTER: Duration = Duration::from_secs(50);
const TAGS: [&str; 4] = ["preview-1", "preview-2", "internal-1", "v1"];
const ENVIRONMENTS: [Option<&str>; 3] = [None, Some("test-prod"), Some("test-staging")];
/// The caps on unverified records of one submitter, and on the sets of labels of one signature.
const CAP: usize = 64;

/// What a record says of itself: tag, environment (of the three, or one of its own), and whether it names
/// a repository.
type Labels = (usize, usize, bool);

#[derive(Debug, Clone)]
enum Step {
    Submit {
        names: Vec<u8>,
        labels: Labels,
        ends_after: Option<u64>,
        may_promote: bool,
        verified: bool,
        by: u8,
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
    /// The list by type and environment, in pages of this size.
    Query {
        tag_type: Option<TagType>,
        environment: Option<usize>,
        limit: usize,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0..8_u8, 1..3);
    prop_oneof![
        8 => (names(), labels(), prop::option::of(1..200_u64), any::<bool>(), any::<bool>(), 0..2_u8).prop_map(
            |(names, labels, ends_after, may_promote, verified, by)|
                Step::Submit { names, labels, ends_after, may_promote, verified, by },
        ),
        1 => (names(), 0..150_u64).prop_map(|(names, ago)| Step::Remember { names, ago }),
        1 => (0..8_usize, prop::option::of(0..8_u8)).prop_map(|(nth, also)| Step::Withdraw { nth, also }),
        2 => (1..80_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => (1..4_usize).prop_map(|limit| Step::Sweep { limit }),
        1 => (prop::option::of(prop::sample::select(TagType::ALL.to_vec())), prop::option::of(0..ENVIRONMENTS.len()), 1..9_usize)
            .prop_map(|(tag_type, environment, limit)| Step::Query { tag_type, environment, limit }),
        1 => Just(Step::Reopen),
    ]
}

/// Histories that begin near the caps: signatures that nobody trusts, by either submitter, and one
/// signature with many labels.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let near_cap = || prop_oneof![3 => Just(0), 1 => CAP - 2..CAP + 2];
    (near_cap(), near_cap(), near_cap(), prop::collection::vec(step(), 1..50)).prop_map(
        |(first, second, promoted, steps)| {
            let garbage = |by: u8, count: usize| {
                (0..count).map(move |n| Step::Submit {
                    names: vec![100 + by * 70 + u8::try_from(n).unwrap()],
                    labels: (3, 0, false),
                    ends_after: None,
                    may_promote: false,
                    verified: false,
                    by,
                })
            };
            let promotion = (0..promoted).map(|n| Step::Submit {
                names: vec![0],
                labels: (3, 10 + n, false),
                ends_after: None,
                may_promote: true,
                verified: true,
                by: 0,
            });
            garbage(0, first).chain(garbage(1, second)).chain(promotion).chain(steps).collect()
        },
    )
}

fn labels() -> impl Strategy<Value = Labels> {
    (0..TAGS.len(), 0..ENVIRONMENTS.len(), any::<bool>())
}

fn environment_of((_, environment, _): Labels) -> Option<String> {
    match ENVIRONMENTS.get(environment) {
        Some(environment) => environment.map(str::to_owned),
        None => Some(format!("own-{environment}")),
    }
}

fn tag_type_of((tag, ..): Labels) -> Option<TagType> {
    TAGS[tag].parse::<Tag>().unwrap().stated_type()
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
    labels: Labels,
    unverified_by: Option<u8>,
    expires_at: Option<Timestamp>,
    record: Option<RecordId>,
}

#[derive(Debug, Clone, Default)]
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
    TooMany,
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

    fn submit(&mut self, names: &[u8], labels: Labels, rules: SubmitRules, by: u8, now: Timestamp) -> Expected {
        let full = !rules.verified && self.unverified_of(by) >= CAP;
        let before = self.clone();
        let expected = self.judge(names, labels, rules.may_promote, full, now);
        if expected == Expected::TooMany {
            // Nothing is learnt from what is one too many.
            *self = before;
        }
        expected
    }

    fn judge(&mut self, names: &[u8], labels: Labels, may_promote: bool, full: bool, now: Timestamp) -> Expected {
        let Some(known) = self.named(names) else {
            if full {
                return Expected::TooMany;
            }
            let names = names.iter().copied().collect();
            self.signatures.push(Signature { names, first_seen: now, ..Signature::default() });
            return Expected::Created { first_seen: now };
        };
        let life_over = known.first_seen + LIFE <= now;
        let preview = |labels| tag_type_of(labels) == Some(TagType::Preview);
        let over = |one: &Labelled| (preview(one.labels) && life_over) || one.expires_at.is_some_and(|end| end <= now);
        let same: Vec<_> = known.labelled.iter().filter(|one| one.labels == labels).collect();
        let alive: BTreeSet<_> = same.iter().filter(|one| !over(one)).filter_map(|one| one.record.clone()).collect();
        let others = same.is_empty() && !known.labelled.is_empty();
        if known.withdrawn {
            Expected::Withdrawn
        } else if !alive.is_empty() {
            Expected::Existing(alive)
        } else if same.iter().any(|one| over(one))
            || (same.is_empty() && preview(labels) && life_over)
            || (others && known.labelled.iter().all(over))
        {
            Expected::Expired
        } else if others && !may_promote {
            Expected::PromotionRefused
        } else if full || (others && known.labelled.len() >= CAP) {
            Expected::TooMany
        } else {
            Expected::Created { first_seen: known.first_seen }
        }
    }

    fn unverified_of(&self, by: u8) -> usize {
        self.labelled().filter(|(_, one)| one.record.is_some() && one.unverified_by == Some(by)).count()
    }

    /// The records with these labels, in the order of the list.
    fn listed(&self, tag_type: Option<TagType>, environment: Option<&str>) -> Vec<RecordId> {
        let mut rows: Vec<_> = self
            .labelled()
            .filter(|(_, one)| tag_type.is_none_or(|tag_type| tag_type_of(one.labels) == Some(tag_type)))
            .filter(|(_, one)| environment.is_none() || environment_of(one.labels).as_deref() == environment)
            .filter_map(|(_, one)| {
                let id = one.record.clone()?;
                Some((tag_type_of(one.labels), environment_of(one.labels), TAGS[one.labels.0], id))
            })
            .collect();
        rows.sort();
        rows.into_iter().map(|(.., id)| id).collect()
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
                (tag_type_of(one.labels) == Some(TagType::Preview) && signature.first_seen < now - LIFE - REMOVE_AFTER)
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
    let mut asked = 0_u32;
    for step in steps {
        let now = clock.now();
        match step {
            Step::Submit { names, labels, ends_after, may_promote, verified, by } => {
                let expires_at = ends_after.map(|after| now + Duration::from_secs(after));
                let new = Submission {
                    identities: names.iter().copied().map(name_of).collect(),
                    expires_at,
                    environment: environment_of(labels),
                    repository: labels.2.then(|| repository("team/app")),
                    submitted_by: by.to_string(),
                    ..submission("image", TAGS[labels.0])
                };
                let rules = SubmitRules { life: Some(LIFE), may_promote, verified };
                let expected = model.submit(&names, labels, rules, by, now);
                match running.store.submit(new, rules).await.unwrap() {
                    Submitted::Created(record) => {
                        assert_eq!(expected, Expected::Created { first_seen: record.first_seen });
                        let signature = model.named(&names).unwrap();
                        signature.labelled.retain(|one| one.labels != labels || one.record.is_some());
                        let unverified_by = (!verified).then_some(by);
                        signature.labelled.push(Labelled {
                            labels,
                            unverified_by,
                            expires_at,
                            record: Some(record.id),
                        });
                    }
                    Submitted::Existing(record) => match expected {
                        Expected::Existing(alive) => assert!(alive.contains(&record.id)),
                        other => panic!("exists, but {other:?}"),
                    },
                    Submitted::Withdrawn => assert_eq!(expected, Expected::Withdrawn),
                    Submitted::Expired => assert_eq!(expected, Expected::Expired),
                    Submitted::PromotionRefused => assert_eq!(expected, Expected::PromotionRefused),
                    Submitted::TooMany => assert_eq!(expected, Expected::TooMany),
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
            Step::Query { tag_type, environment, limit } => {
                let environment = environment.and_then(|environment| ENVIRONMENTS[environment]);
                let mut found = Vec::new();
                let mut after = None;
                loop {
                    let page = running.store.tags_page(tag_type, environment, after.as_deref(), limit).unwrap();
                    assert!(page.items.len() <= limit);
                    found.extend(page.items.into_iter().map(|record| record.id));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(found, model.listed(tag_type, environment));
            }
            Step::Reopen => {
                drop(running);
                running = faults::running_on(&files, &clock);
            }
        }
        asked += 1;
        if asked.is_multiple_of(4) {
            everything_is_as(&model, &running);
        }
    }
    everything_is_as(&model, &running);
    assert_eq!(running.store.check().unwrap().flaws, [""; 0]);
}

/// Every record with what it says, every identity with what is known of it, and nothing else.
fn everything_is_as(model: &Model, running: &Running) {
    let found = running.store.records_of(&Digest::sha256(b"image")).unwrap();
    assert_eq!(found.iter().map(|record| record.id.clone()).collect::<BTreeSet<_>>(), model.records());
    for record in found {
        let (signature, one) = model.labelled().find(|(_, one)| one.record.as_ref() == Some(&record.id)).unwrap();
        assert_eq!((record.first_seen, record.expires_at), (signature.first_seen, one.expires_at));
        assert_eq!((record.tag.as_str(), record.tag_type), (TAGS[one.labels.0], tag_type_of(one.labels)));
        assert_eq!((&record.environment, record.repository.is_some()), (&environment_of(one.labels), one.labels.2));
    }
    for signature in &model.signatures {
        for name in &signature.names {
            let row = running.store.identity(&name_of(*name)).unwrap();
            let expected = IdentityRow { first_seen: signature.first_seen, withdrawn: signature.withdrawn };
            assert_eq!(row, Some(expected), "{name}");
        }
    }
    let unheard_of = (0..8).filter(|name| model.signatures.iter().all(|signature| !signature.names.contains(name)));
    for name in unheard_of {
        assert_eq!(running.store.identity(&name_of(name)).unwrap(), None, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_as_the_plain_maps_say(steps in history()) {
        block_on(replay(steps));
    }
}
