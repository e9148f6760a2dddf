use super::*;

#[tokio::test]
async fn the_same_submission_twice_is_one_record_and_extends_nothing() {
    let (_dir, running) = start();
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    running.clock.advance(Duration::from_secs(3600));
    let again = Submission {
        signature: b"another encoding".to_vec(),
        expires_at: Some(seconds(&running, 1_000_000)),
        submitted_by: "192.0.2.9".into(),
        metadata: BTreeMap::new(),
        ..new.clone()
    };
    let commits = running.store.counters().commits;
    assert_eq!(running.submit(&again).await, Submitted::Existing(record.clone()));
    assert_eq!(running.store.records_of(&new.digest).unwrap(), [record]);
    assert_eq!(running.store.counters().commits, commits);
}

#[tokio::test]
async fn other_labels_are_a_promotion_and_keep_the_first_sight() {
    let (_dir, running) = start();
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    running.clock.advance(Duration::from_secs(60));
    for relabelled in [
        Submission { tag: "preview-2".parse().unwrap(), ..new.clone() },
        Submission { tag_type: None, ..new.clone() },
        Submission { environment: Some("test-prod".into()), ..new.clone() },
        Submission { repository: Some(repository("team/app")), ..new.clone() },
    ] {
        assert_eq!(running.submit(&relabelled).await, Submitted::PromotionRefused);
    }
    assert_eq!(running.store.records_of(&new.digest).unwrap().len(), 1);

    let promoted = Submission { tag: "internal-1".parse().unwrap(), tag_type: Some(TagType::Internal), ..new.clone() };
    let rules = SubmitRules { may_promote: true, ..RULES };
    let Submitted::Created(second) = running.store.submit(promoted, rules).await.unwrap() else { panic!() };
    assert_eq!(second.first_seen, record.first_seen);
    assert_ne!(second.id, record.id);
    assert_eq!(running.store.records_of(&new.digest).unwrap(), [record, second]);
}

#[tokio::test]
async fn a_withdrawn_signature_never_comes_back_under_any_of_its_names() {
    let (dir, running) = start();
    let new = Submission { identities: vec![identity("bytes")], ..submission("a", "v1") };
    let record = running.create(&new).await;
    // Its key became trusted: the same bytes now have a verified identity, too.
    let verified = Submission { identities: vec![identity("verified"), identity("bytes")], ..new.clone() };
    assert_eq!(running.submit(&verified).await, Submitted::Existing(record.clone()));
    let before = running.store.generation_of(new.digest);
    assert_eq!(running.store.withdraw(&record.id, vec![identity("also")]).await.unwrap(), Some(record.clone()));
    assert_ne!(running.store.generation_of(new.digest), before);
    assert_eq!(running.store.withdraw(&record.id, vec![]).await.unwrap(), None);
    assert_eq!(running.store.records_of(&new.digest).unwrap(), []);

    let clock = running.clock.clone();
    drop(running);
    let running = Running::at(dir.path(), &clock);
    // Another signature of the same payload by the same key has other bytes and the same identity.
    for name in ["verified", "bytes", "also"] {
        let again = Submission { identities: vec![identity(name), identity("new bytes")], ..new.clone() };
        let rules = SubmitRules { may_promote: true, ..RULES };
        assert_eq!(running.store.submit(again, rules).await.unwrap(), Submitted::Withdrawn, "{name}");
    }
    assert!(running.store.identity(&identity("new bytes")).unwrap().unwrap().withdrawn);
    assert_eq!(running.store.check().unwrap(), Checked { records: 0, flaws: vec![] });
}

#[tokio::test]
async fn linking_two_records_keeps_the_earliest_sight_and_withdraws_both() {
    let (_dir, running) = start();
    let one = Submission { identities: vec![identity("one")], ..submission("a", "preview-1") };
    let other = Submission {
        identities: vec![identity("other")],
        expires_at: Some(seconds(&running, 9_000_000)),
        ..one.clone()
    };
    let first = running.create(&one).await;
    running.clock.advance(Duration::from_secs(60));
    let second = running.create(&other).await;
    assert_ne!(first.first_seen, second.first_seen);

    let verified = |identities: &[&str], of: &Submission| Submission {
        identities: identities.iter().map(|name| identity(name)).collect(),
        ..of.clone()
    };
    assert_eq!(running.submit(&verified(&["key", "other"], &other)).await, Submitted::Existing(second.clone()));
    let answer = running.submit(&verified(&["key", "one"], &one)).await;
    let Submitted::Existing(existing) = answer else { panic!("{answer:?}") };
    assert_eq!(existing.first_seen, first.first_seen);
    assert_eq!(running.store.record(&second.id).unwrap().unwrap().first_seen, first.first_seen);
    assert_eq!(running.store.check().unwrap(), Checked { records: 2, flaws: vec![] });

    running.store.withdraw(&second.id, vec![]).await.unwrap();
    assert_eq!(running.store.records_of(&one.digest).unwrap(), []);
    assert_eq!(running.submit(&one).await, Submitted::Withdrawn);
}

#[tokio::test]
async fn an_identity_met_upstream_earlier_shortens_the_life_here() {
    let (_dir, running) = start();
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    let earlier = seconds(&running, -3600);
    let names = vec![identity("a"), identity("upstream")];
    assert_eq!(running.store.remember_identity(names.clone(), earlier).await.unwrap(), earlier);
    assert_eq!(running.store.record(&record.id).unwrap().unwrap().first_seen, earlier);
    let commits = running.store.counters().commits;
    assert_eq!(running.store.remember_identity(names, seconds(&running, 0)).await.unwrap(), earlier);
    assert_eq!(running.store.counters().commits, commits);
    assert_eq!(running.store.check().unwrap().flaws, [""; 0]);
}

#[tokio::test]
async fn garbage_is_capped_per_submitter_and_hides_nobody() {
    let (_dir, running) = start();
    let unverified = SubmitRules { verified: false, ..RULES };
    let garbage = |n: usize, by: &str| Submission {
        identities: vec![identity(&format!("garbage {n} {by}"))],
        submitted_by: by.into(),
        ..submission("image", "v1")
    };
    let mut last = None;
    for n in 0..64 {
        let Submitted::Created(record) = running.store.submit(garbage(n, "a"), unverified).await.unwrap() else {
            panic!("{n}")
        };
        last = Some(record.id);
    }
    assert_eq!(running.store.submit(garbage(64, "a"), unverified).await.unwrap(), Submitted::TooMany);
    assert_eq!(running.store.identity(&identity("garbage 64 a")).unwrap(), None);
    assert!(matches!(running.store.submit(garbage(0, "a"), unverified).await.unwrap(), Submitted::Existing(_)));
    assert!(matches!(running.store.submit(garbage(64, "a"), RULES).await.unwrap(), Submitted::Created(_)));
    assert!(matches!(running.store.submit(garbage(0, "b"), unverified).await.unwrap(), Submitted::Created(_)));
    running.store.withdraw(&last.unwrap(), vec![]).await.unwrap();
    assert!(matches!(running.store.submit(garbage(65, "a"), unverified).await.unwrap(), Submitted::Created(_)));
}

#[tokio::test]
async fn what_is_judged_of_a_digest_is_bounded_and_begins_with_what_verified() {
    let (_dir, running) = start();
    let digest = Digest::sha256(b"image");
    let new = |name: &str, by: usize, size: usize| Submission {
        digest,
        signature: vec![b'x'; size],
        submitted_by: by.to_string(),
        ..submission(name, "v1")
    };
    let unverified = SubmitRules { verified: false, ..RULES };
    let mut garbage = Vec::new();
    for n in 0..20 {
        let submitted = running.store.submit(new(&format!("garbage {n}"), n, 10), unverified).await.unwrap();
        let Submitted::Created(record) = submitted else { panic!("{submitted:?}") };
        garbage.push(record);
    }
    let good = running.create(&new("good", 100, 10)).await;
    let judged = |limit| running.store.records_to_judge(&digest, limit).unwrap();
    assert_eq!(judged(3), [garbage[0].clone(), garbage[1].clone(), good.clone()]);
    assert_eq!(judged(100), running.store.records_of(&digest).unwrap());
    assert_eq!(judged(100).len(), 21);

    // Nor do large ones take its place, or all memory.
    for n in 20..80 {
        running.store.submit(new(&format!("large {n}"), n, 1 << 20), unverified).await.unwrap();
    }
    let better = running.create(&new("better", 100, 1 << 20)).await;
    let judged = judged(1000);
    assert!(judged.contains(&good) && judged.contains(&better));
    let bytes: usize = judged.iter().map(|record| record.signature.len()).sum();
    assert!((40 << 20..64 << 20).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn lists_come_in_pages_that_lose_and_repeat_nothing() {
    let (_dir, running) = start();
    let mut expected = Vec::new();
    for (n, environment) in [None, Some("a"), Some("b"), None, Some("a")].into_iter().enumerate() {
        for tag in ["internal-2", "internal-1", "preview-1", "v1"] {
            let new = Submission {
                digest: Digest::sha256(b"image"),
                environment: environment.map(str::to_owned),
                ..submission(&format!("{n} {tag}"), tag)
            };
            expected.push(running.create(&new).await.id);
        }
    }
    let mut by_digest = Vec::new();
    let mut after = None;
    loop {
        let page = running.store.records_page(&Digest::sha256(b"image"), after.as_deref(), 3).unwrap();
        assert!(page.items.len() == 3 || page.next.is_none());
        by_digest.extend(page.items.into_iter().map(|record| record.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(by_digest, expected);

    for (tag_type, environment, count) in [
        (None, None, 20),
        (Some(TagType::Internal), None, 10),
        (Some(TagType::Preview), Some("a"), 2),
        (None, Some("b"), 4),
        (None, Some(""), 0),
    ] {
        let whole = running.store.tags_page(tag_type, environment, None, 100).unwrap();
        assert_eq!((whole.items.len(), whole.next), (count, None));
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let page = running.store.tags_page(tag_type, environment, after.as_deref(), 1).unwrap();
            parts.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(parts, whole.items);
        assert!(parts.is_sorted_by_key(|record| (record.tag_type, record.environment.clone(), record.tag.clone())));
    }
    let wrong = running.store.records_page(&Digest::sha256(b"image"), Some(b"x"), 1);
    assert!(matches!(wrong, Err(StoreError::Cursor)));
}

#[tokio::test]
async fn a_revocation_stays_whatever_is_added_later() {
    let (_dir, running) = start();
    let at = seconds(&running, 0);
    let row = SignerRow {
        id: "sha256:00".into(),
        name: "ci".into(),
        added: at,
        not_before: None,
        not_after: Some(seconds(&running, 60)),
        revoked: None,
        credential: serde_json::from_str(r#"{"public_key":"PEM"}"#).unwrap(),
    };
    let before = running.store.signers_generation();
    running.store.put_signer(row.clone()).await.unwrap();
    assert_ne!(running.store.signers_generation(), before);
    assert_eq!(running.store.signers().unwrap(), std::slice::from_ref(&row));
    let revoked = RevocationRow { at, keeps_earlier: false };
    let keeping = RevocationRow { at, keeps_earlier: true };
    assert_eq!(running.store.revoke_signer("sha256:ff".into(), keeping).await.unwrap(), keeping);
    assert_eq!(running.store.revoke_signer("sha256:00".into(), keeping).await.unwrap(), keeping);
    let later = RevocationRow { at: seconds(&running, 9), keeps_earlier: false };
    assert_eq!(running.store.revoke_signer("sha256:00".into(), later).await.unwrap(), revoked);
    assert_eq!(running.store.revoke_signer("sha256:00".into(), keeping).await.unwrap(), revoked);
    running.store.put_signer(row.clone()).await.unwrap();
    assert_eq!(running.store.signers().unwrap(), [SignerRow { revoked: Some(revoked), ..row }]);
    assert_eq!(running.store.revocations().unwrap(), [("sha256:00".into(), revoked), ("sha256:ff".into(), keeping)]);
}

#[tokio::test]
async fn the_audit_of_both_databases_is_one_list_newest_first() {
    let (_dir, running) = start();
    let row = |n: i64| AuditRow { at: seconds(&running, n / 2), json: n.to_string().into_bytes() };
    for n in 0..10 {
        let kind = if n % 3 == 0 { AuditKind::Durable } else { AuditKind::Pulls };
        running.store.append_audit(vec![row(n)], kind).await.unwrap();
    }
    let whole = running.store.audit_page(None, 100).unwrap();
    assert_eq!((whole.items.len(), &whole.next), (10, &None));
    let times: Vec<i64> =
        whole.items.iter().map(|json| str::from_utf8(json).unwrap().parse::<i64>().unwrap() / 2).collect();
    assert!(times.is_sorted_by(|one, other| one >= other), "{times:?}");
    let mut parts = Vec::new();
    let mut after = None;
    loop {
        let page = running.store.audit_page(after.as_deref(), 1).unwrap();
        parts.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(parts, whole.items);
    assert!(matches!(running.store.audit_page(Some(b"?"), 1), Err(StoreError::Cursor)));
}
