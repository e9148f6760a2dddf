use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use redb::{ReadableTable, WriteTransaction};

use super::{
    Store, StoreError,
    generations::Touched,
    identities::Group,
    record_rows::RecordTables,
    schema::{BY_EXPIRES_AT, BY_FIRST_SEEN, Bytes, RecordKey, time, time_number},
    writer::Done,
};

/// Cleaning up after expiry. Whether a record has expired is decided when it is read; here only what
/// expired long enough ago is removed, and what its identity knows stays.
impl Store {
    /// Removes up to `limit` records in order of expiry: preview records first seen before
    /// `preview_cutoff`, and records whose own end is `remove_after` past. Says how many.
    pub async fn sweep(
        &self,
        preview_cutoff: Option<Timestamp>,
        now: Timestamp,
        remove_after: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let cutoffs = Cutoffs::new(preview_cutoff, now, remove_after);
        self.inner.records.write(0, move |transaction| sweep(transaction, cutoffs, limit)).await
    }

    /// How many records sweeps with these arguments would remove.
    pub fn count_removable(
        &self,
        preview_cutoff: Option<Timestamp>,
        now: Timestamp,
        remove_after: Duration,
    ) -> Result<usize, StoreError> {
        let cutoffs = Cutoffs::new(preview_cutoff, now, remove_after);
        self.inner.records.read(|transaction| {
            let mut count = 0;
            if let Some(before) = cutoffs.first_seen {
                for row in transaction.open_table(BY_FIRST_SEEN)?.range::<&[u8]>(..before.as_slice())? {
                    row?;
                    count += 1;
                }
            }
            if let Some(before) = cutoffs.expires_at {
                for row in transaction.open_table(BY_EXPIRES_AT)?.range::<&[u8]>(..before.as_slice())? {
                    let counted = match (row?.1.value(), preview_cutoff) {
                        (Some(first_seen), Some(cutoff)) => first_seen < time_number(cutoff),
                        _ => false,
                    };
                    count += usize::from(!counted);
                }
            }
            Ok(count)
        })
    }
}

/// Rows of the two indexes below these are to go. Times are cut to the microsecond on both sides, so
/// that nothing goes too early.
#[derive(Clone, Copy)]
struct Cutoffs {
    first_seen: Option<[u8; 8]>,
    expires_at: Option<[u8; 8]>,
}

impl Cutoffs {
    fn new(preview_cutoff: Option<Timestamp>, now: Timestamp, remove_after: Duration) -> Self {
        Self {
            first_seen: preview_cutoff.map(time),
            // One too long to count keeps everything.
            expires_at: now.checked_sub(remove_after).ok().map(time),
        }
    }
}

fn sweep(transaction: &WriteTransaction, cutoffs: Cutoffs, limit: usize) -> Result<Done<usize>, StoreError> {
    let mut tables = RecordTables::open(transaction)?;
    let mut keys = BTreeSet::new();
    if let Some(before) = cutoffs.first_seen {
        oldest(&tables.by_first_seen, before, limit, &mut keys)?;
    }
    if let Some(before) = cutoffs.expires_at {
        oldest(&tables.by_expires_at, before, limit, &mut keys)?;
    }
    let mut touched = Touched::default();
    for key in &keys {
        let record = tables.find(*key)?.ok_or_else(|| StoreError::row("by_expires_at", "it names a missing record"))?;
        tables.remove(&record)?;
        touched.add(record.digest);
        if let Some(mut group) = Group::gather(&tables.identities, &record.identities)? {
            group.known_mut().remove(&record.id);
            group.write(&mut tables.identities)?;
        }
    }
    Ok(if keys.is_empty() { Done::unchanged(0) } else { Done::changed(keys.len(), touched) })
}

fn oldest<V: redb::Value + 'static>(
    index: &impl ReadableTable<Bytes, V>,
    before: [u8; 8],
    limit: usize,
    keys: &mut BTreeSet<RecordKey>,
) -> Result<(), StoreError> {
    for row in index.range::<&[u8]>(..before.as_slice())? {
        if keys.len() >= limit {
            break;
        }
        let row = row?;
        keys.extend(RecordKey::at_end_of(row.0.value()));
    }
    Ok(())
}
