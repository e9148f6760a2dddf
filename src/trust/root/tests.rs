use super::*;
use crate::trust::{
    Revocation, SignerOrigin,
    fixtures::{at, key, now, signer},
};

const EARLIER: &str = "2026-11-01T00:00:00Z";
const NOW: &str = "2026-11-22T12:00:00Z";
const LATER: &str = "2026-12-01T00:00:00Z";
const MUCH_LATER: &str = "2027-01-01T00:00:00Z";

/// A signer with the P-256 key: name, origin, not before, not after, revoked.
fn held(name: &str, origin: SignerOrigin, times: [Option<&str>; 3]) -> Signer {
    let [not_before, not_after, revoked_at] = times.map(|time| time.map(at));
    let revoked = revoked_at.map(|at| Revocation { at, keeps_earlier: false });
    Signer { name: name.into(), origin, not_before, not_after, revoked, ..signer("ecdsa-p256") }
}

fn standing(signers: Vec<Signer>) -> Result<(String, Option<Timestamp>), Rejection> {
    let id = key("ecdsa-p256").id();
    match TrustRoot::new(signers).standing(id, now(), None) {
        Standing::Good { signer, until } => {
            assert_eq!(signer.id, id);
            Ok((signer.name, until))
        }
        Standing::Bad(rejection) => Err(rejection),
    }
}

#[test]
fn a_key_counts_within_its_signers_times() {
    use SignerOrigin::File;
    let name = || "ci".to_owned();
    for (times, expected) in [
        ([None, None, None], Ok((name(), None))),
        ([Some(EARLIER), Some(LATER), None], Ok((name(), Some(at(LATER))))),
        ([Some(NOW), None, None], Ok((name(), None))),
        ([None, None, Some(LATER)], Ok((name(), Some(at(LATER))))),
        ([None, Some(MUCH_LATER), Some(LATER)], Ok((name(), Some(at(LATER))))),
        ([Some(LATER), None, None], Err(Rejection::SignerNotYetValid { name: name(), from: at(LATER) })),
        ([None, Some(NOW), None], Err(Rejection::SignerExpired { name: name(), since: at(NOW) })),
        ([None, Some(EARLIER), None], Err(Rejection::SignerExpired { name: name(), since: at(EARLIER) })),
        ([None, None, Some(NOW)], Err(Rejection::SignerRevoked { name: name() })),
        ([None, Some(EARLIER), Some(EARLIER)], Err(Rejection::SignerRevoked { name: name() })),
    ] {
        assert_eq!(standing(vec![held("ci", File, times)]), expected, "{times:?}");
    }
    assert_eq!(standing(vec![signer("cosign")]), Err(Rejection::NoTrustedKey));
}

#[test]
fn a_revocation_over_the_api_beats_any_file() {
    let file = || held("file", SignerOrigin::File, [None; 3]);
    let revoked = || held("api", SignerOrigin::Api, [None, None, Some(EARLIER)]);
    let expected = Err(Rejection::SignerRevoked { name: "api".into() });
    assert_eq!(standing(vec![file(), revoked()]), expected);
    assert_eq!(standing(vec![revoked(), file()]), expected);
    assert_eq!(standing(vec![revoked(), held("again", SignerOrigin::Api, [None; 3])]), expected);
    let announced = held("api", SignerOrigin::Api, [None, None, Some(LATER)]);
    assert_eq!(standing(vec![file(), announced]), Ok(("api".into(), Some(at(LATER)))));
}

#[test]
fn what_was_signed_before_a_revocation_counts_on_if_the_operator_says_so_and_somebody_saw_it() {
    let revoked = |at_text: &str, keeps_earlier| {
        let revoked = Some(Revocation { at: at(at_text), keeps_earlier });
        TrustRoot::new(vec![Signer { revoked, ..signer("ecdsa-p256") }])
    };
    let standing = |root: &TrustRoot, signed_at: Option<&str>| match root.standing(
        key("ecdsa-p256").id(),
        now(),
        signed_at.map(at),
    ) {
        Standing::Good { until, .. } => Some(until),
        Standing::Bad(_) => None,
    };
    let keeping = revoked(NOW, true);
    assert_eq!(standing(&keeping, Some(EARLIER)), Some(None));
    for signed_at in [None, Some(NOW), Some(LATER)] {
        assert_eq!(standing(&keeping, signed_at), None, "{signed_at:?}");
    }
    assert_eq!(standing(&revoked(NOW, false), Some(EARLIER)), None);
    let announced = revoked(LATER, true);
    assert_eq!(standing(&announced, Some(EARLIER)), Some(None), "it ends nothing for this one");
    assert_eq!(standing(&announced, None), Some(Some(at(LATER))));
}

#[test]
fn of_several_signers_with_one_key_the_longest_lasting_answers() {
    use SignerOrigin::{Api, File};
    let ended = || held("ended", File, [None, Some(EARLIER), None]);
    let short = || held("short", File, [None, Some(LATER), None]);
    let long = || held("long", File, [None, Some(MUCH_LATER), None]);
    let coming = || held("coming", File, [Some(LATER), None, None]);
    assert_eq!(standing(vec![ended(), short(), long()]), Ok(("long".into(), Some(at(MUCH_LATER)))));
    assert_eq!(standing(vec![long(), coming(), short()]), Ok(("long".into(), Some(at(MUCH_LATER)))));
    let not_yet = Err(Rejection::SignerNotYetValid { name: "coming".into(), from: at(LATER) });
    assert_eq!(standing(vec![ended(), coming()]), not_yet);
    let both = [held("api", Api, [None; 3]), held("file", File, [None; 3])];
    assert_eq!(standing(both.to_vec()), Ok(("api".into(), None)));
}

#[test]
fn the_next_change_is_the_first_instant_of_any_signer() {
    let root = TrustRoot::new(vec![
        held("a", SignerOrigin::File, [Some(EARLIER), Some(MUCH_LATER), None]),
        Signer { revoked: Some(Revocation { at: at(LATER), keeps_earlier: false }), ..signer("cosign") },
        signer("ed25519"),
    ]);
    let changes = |counts: &dyn Fn(SignerId) -> bool| {
        let first = root.next_change(Timestamp::MIN, counts);
        std::iter::successors(first, |at| root.next_change(*at, counts)).collect::<Vec<_>>()
    };
    assert_eq!(changes(&|_| true), [EARLIER, LATER, MUCH_LATER].map(at));
    assert_eq!(changes(&|signer| signer == key("cosign").id()), [at(LATER)]);
    assert_eq!(TrustRoot::default().next_change(Timestamp::MIN, |_| true), None);
}

#[test]
fn what_changed_between_two_roots_are_the_credentials_whose_signers_differ() {
    let before = TrustRoot::new(vec![signer("cosign"), signer("ed25519"), signer("rsa-2048")]);
    let ended = Signer { not_after: Some(at(LATER)), ..signer("ed25519") };
    let after = TrustRoot::new(vec![signer("rsa-2048"), ended, signer("rsa-4096")]);
    let changed = ["cosign", "ed25519", "rsa-4096"].map(|name| key(name).id());
    assert_eq!(after.changed_since(&before), changed.into());
    assert_eq!(before.changed_since(&after), changed.into());
    assert!(before.changed_since(&before.clone()).is_empty());
    let doubled = TrustRoot::new([before.signers(), &[signer("cosign")]].concat());
    assert_eq!(doubled.changed_since(&before), [key("cosign").id()].into());
}
