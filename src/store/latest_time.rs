use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, WriteTransaction};

use crate::clock::Clock;

use super::{
    Config, Disk, Opening, Store, StoreError,
    generations::Touched,
    identities::Group,
    record_rows::RecordTables,
    schema::{BY_FIRST_SEEN, Key, LATEST_TIME_ROW, META, RECORDS_SCHEMA, RecordKey, time_number, time_of},
    writer::Done,
};

/// What the store knows of the time: the latest that it has seen, so that the next process does not go
/// back behind it.
impl Store {
    /// Notes the latest time that the clock believes, unless it is less than `every` since it was noted.
    pub async fn note_time(&self, every: Duration) -> Result<(), StoreError> {
        let believed = self.inner.clock.reading().believed;
        let noted = self.inner.records.read(|transaction| {
            let row = transaction.open_table(META)?.get(LATEST_TIME_ROW)?.map(|row| row.value());
            row.map(|row| time_of(row.to_be_bytes())).transpose()
        })?;
        if noted.is_some_and(|noted| noted.saturating_add(every).is_ok_and(|due| believed < due)) {
            return Ok(());
        }
        let write = move |transaction: &WriteTransaction| {
            transaction.open_table(META)?.insert(LATEST_TIME_ROW, time_number(believed))?;
            Ok(Done::changed((), Touched::default()))
        };
        self.inner.records.write(0, write).await
    }

    /// Makes all verdicts void: the time that they were made at was taken back.
    pub fn forget_verdicts(&self) {
        self.inner.generations.bump_all();
    }

    /// Lets up to `limit` lives begin now that would begin later: what is here was seen now at the latest,
    /// whatever a clock said that was ahead. Says how many.
    pub async fn begin_lives_by(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let after = Key::default().time(now.saturating_add(SignedDuration::from_micros(1)).unwrap_or(now));
        let any = self.inner.records.read(|transaction| {
            Ok(transaction.open_table(BY_FIRST_SEEN)?.range(after.as_bytes()..)?.next().is_some())
        })?;
        if !any {
            return Ok(0);
        }
        self.inner.records.write(0, move |transaction| begin_lives(transaction, &after, now, limit)).await
    }

    /// Makes the system's time the latest that the store has seen, for an operator who knows that a later
    /// one was a mistake. Says which one that was. No other process may have the store open.
    pub fn accept_time(config: &Config, clock: &Clock) -> Result<Option<Timestamp>, StoreError> {
        let path = config.data_dir.join(RECORDS_SCHEMA.file);
        let opened = Disk::files().open(&path, config.records_cache_bytes, Opening::Again)?;
        RECORDS_SCHEMA.prepare(&opened.database, &path, Opening::Again, &[])?;
        let mut transaction = opened.database.begin_write()?;
        transaction.set_quick_repair(true);
        let before = {
            let mut meta = transaction.open_table(META)?;
            meta.insert(LATEST_TIME_ROW, time_number(clock.system_time()))?.map(|row| row.value())
        };
        transaction.commit()?;
        before.map(|before| time_of(before.to_be_bytes())).transpose()
    }
}

fn begin_lives(
    transaction: &WriteTransaction,
    after: &Key,
    now: Timestamp,
    limit: usize,
) -> Result<Done<usize>, StoreError> {
    let mut tables = RecordTables::open(transaction)?;
    let mut keys = Vec::new();
    for row in tables.by_first_seen.range(after.as_bytes()..)?.take(limit) {
        keys.extend(RecordKey::at_end_of(row?.0.value()));
    }
    let mut touched = Touched::default();
    for key in &keys {
        let record = tables.find(*key)?.ok_or_else(|| StoreError::row("by_first_seen", "it names a missing record"))?;
        // One of its signature that came before has brought it along.
        if record.first_seen <= now {
            continue;
        }
        let mut group = Group::gather(&tables.identities, &record.identities)?
            .ok_or_else(|| StoreError::row("identities", "no identity of a record is known"))?;
        group.known_mut().first_seen = now;
        tables.align(&mut group, &mut touched)?;
        group.write(&mut tables.identities)?;
    }
    Ok(if keys.is_empty() { Done::unchanged(0) } else { Done::changed(keys.len(), touched) })
}
