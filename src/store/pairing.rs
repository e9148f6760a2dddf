//! Holds the two files of a store to each other, so that losing one is never taken for knowing nothing.
//!
//! Without its records a store would forget withdrawals and revocations: it does not open. Without its
//! memory it would take enforced digests for unknown ones: it opens, and from then on every digest that it
//! knows nothing of is held to be enforced, as where an enforced thing was forgotten.

use redb::ReadableDatabase;

use crate::clock::Clock;

use super::{
    Config, StoreError,
    database::Database,
    disk::{Disk, FileId, Opening},
    schema::{
        LATEST_TIME_ROW, LOST_ROW, MEMORY_SCHEMA, META, PAIRED_ROW, RECORDS_SCHEMA, STORE_ROW, time_number, time_of,
    },
};

/// The number of a store that is about to be made: when that was, to the microsecond.
pub(super) fn new_store(clock: &Clock) -> u64 {
    time_number(clock.now())
}

/// Refuses to make `records.redb` beside a `memory.redb` that had one.
pub(super) fn expect_records(disk: &Disk, config: &Config) -> Result<(), StoreError> {
    let records = config.data_dir.join(RECORDS_SCHEMA.file);
    let memory = config.data_dir.join(MEMORY_SCHEMA.file);
    let is_there = |path| disk.are_files() && matches!(FileId::at(path), Ok(Some(_)));
    if is_there(&records) || !is_there(&memory) {
        return Ok(());
    }
    let opened = disk.open(&memory, config.memory_cache_bytes, Opening::Again)?;
    let belongs = match opened.database.begin_read()?.open_table(META) {
        Ok(meta) => meta.get(STORE_ROW)?.is_some(),
        Err(redb::TableError::TableDoesNotExist(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if belongs { Err(StoreError::RecordsMissing { missing: records, beside: memory }) } else { Ok(()) }
}

/// The rows of a `memory.redb` that has to be made now: one that was there before has been lost.
pub(super) fn of_memory(records: &Database) -> Result<Vec<(&'static str, u64)>, StoreError> {
    let [store, paired] = rows(records, [STORE_ROW, PAIRED_ROW])?;
    let lost = paired.is_some().then_some((LOST_ROW, 1));
    Ok(store.map(|store| (STORE_ROW, store)).into_iter().chain(lost).collect())
}

/// Sees to it that both belong to one store, and that the clock knows what time it was.
pub(super) fn pair(records: &Database, memory: &Database, clock: &Clock) -> Result<(), StoreError> {
    let [of_records, paired, latest] = rows(records, [STORE_ROW, PAIRED_ROW, LATEST_TIME_ROW])?;
    let [of_memory, lost] = rows(memory, [STORE_ROW, LOST_ROW])?;
    let store = of_records.unwrap_or_else(|| new_store(clock));
    match of_memory {
        Some(found) if of_records != Some(found) => {
            return Err(StoreError::OtherStore { path: memory.path().to_owned() });
        }
        Some(_) => {}
        // A file of an earlier build, that no other has ever been beside.
        None => put(memory, &[(STORE_ROW, store)])?,
    }
    if lost.is_some() {
        tracing::warn!(
            "memory.redb was lost once, and with it which digests are enforced: those that nothing is known of are \
             enforced in every repository"
        );
    }
    records.belongs_to(store);
    memory.belongs_to(store);
    clock.resume(latest.map(|latest| time_of(latest.to_be_bytes())).transpose()?);
    let believed = time_number(clock.reading().believed);
    // Before anything is answered: what counts as ended from now on must not begin again.
    let is_noted = latest.is_some_and(|latest| believed.saturating_sub(latest) < NOTED_EVERY_MICROS);
    if (of_records, paired) != (Some(store), Some(1)) || !is_noted {
        put(records, &[(STORE_ROW, store), (PAIRED_ROW, 1), (LATEST_TIME_ROW, believed)])?;
    }
    Ok(())
}

fn rows<const N: usize>(database: &Database, names: [&str; N]) -> Result<[Option<u64>; N], StoreError> {
    database.read(|transaction| {
        let meta = transaction.open_table(META)?;
        let mut rows = [None; N];
        for (row, name) in rows.iter_mut().zip(names) {
            *row = meta.get(name)?.map(|value| value.value());
        }
        Ok(rows)
    })
}

fn put(database: &Database, rows: &[(&str, u64)]) -> Result<(), StoreError> {
    let begun = database.begin_write()?;
    {
        let mut meta = begun.transaction.open_table(META)?;
        for (row, value) in rows {
            meta.insert(row, value)?;
        }
    }
    begun.transaction.commit().map_err(|error| database.judge(begun.epoch, error.into()))
}

/// As coarsely as a process that runs notes the time.
const NOTED_EVERY_MICROS: u64 = 60_000_000;
