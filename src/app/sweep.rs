use std::time::Duration;

use jiff::Timestamp;

use crate::{clock::Clock, config::Preview, store::Store, telemetry::Metrics};

/// How often what has expired is removed, and what is over its size is evicted.
const EVERY: Duration = Duration::from_secs(10);

/// Rows removed in one commit: small, so that submissions never wait long.
const BATCH: usize = 256;

/// Cleans up for ever. What is removed cannot be had again, so it goes by the time that is certain to
/// have passed, never by a clock that has just jumped.
pub(super) async fn run(store: Store, clock: Clock, preview: Preview, metrics: Metrics) {
    let settled = || clock.reading().settled;
    match store.count_removable(cutoff(clock.now(), &preview), clock.now(), preview.remove_after) {
        Ok(0) | Err(_) => {}
        Ok(count) => tracing::info!(count, "{count} expired signatures are about to be removed"),
    }
    let mut commits = store.counters();
    loop {
        match store.begin_lives_by(clock.now(), BATCH).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(
                count,
                "{count} signatures were submitted while the clock was ahead: they live from now on"
            ),
            Err(error) => tracing::error!("signatures of a time to come were not put right: {error}"),
        }
        let mut removed = 0;
        loop {
            let now = settled();
            match store.sweep(cutoff(now, &preview), now, preview.remove_after, BATCH).await {
                Ok(count) => {
                    removed += count;
                    if count < BATCH {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!("expired signatures were not removed: {error}");
                    break;
                }
            }
        }
        if removed > 0 {
            tracing::info!(count = removed, "removed {removed} expired signatures");
        }
        while store.evict(BATCH).await.unwrap_or(0) == BATCH {}
        tokio::time::sleep(EVERY).await;
        let now = store.counters();
        metrics.store_commits("all", "ok").inc_by(now.commits - commits.commits);
        metrics.store_commits("all", "failed").inc_by(now.failures - commits.failures);
        commits = now;
    }
}

/// Preview signatures first seen before this ended so long ago that they are to go.
fn cutoff(now: Timestamp, preview: &Preview) -> Option<Timestamp> {
    now.checked_sub(preview.ttl?).ok()?.checked_sub(preview.remove_after).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_stays_for_as_long_as_it_was_promised_after_its_end() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let preview = |ttl| Preview { ttl, remove_after: day };
        assert_eq!(cutoff(now, &preview(Some(7 * day))), Some(now - 8 * day));
        assert_eq!(cutoff(now, &preview(None)), None);
        assert_eq!(cutoff(now, &preview(Some(Duration::MAX))), None);
    }
}
