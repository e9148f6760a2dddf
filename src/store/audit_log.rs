use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{
    AuditKind, AuditRow, Page, Store, StoreError,
    generations::Touched,
    schema::{AUDIT, META, RecordKey, add, next_number},
    writer::Done,
};

/// The audit: events in order of time, those that must stay beside the records, the rest bounded.
impl Store {
    /// Appends events; they are durable when it answers.
    pub async fn append_audit(&self, rows: Vec<AuditRow>, kind: AuditKind) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = rows.iter().map(|row| row.json.len()).sum();
        match kind {
            AuditKind::Durable => {
                let write = move |transaction: &WriteTransaction| append(transaction, &rows);
                self.inner.records.write(bytes, write).await
            }
            AuditKind::Pulls => {
                let bytes_max = self.inner.config.memory_max_bytes / PULLS_SHARE;
                let grows = !self.disk_is_nearly_full();
                let write = move |transaction: &WriteTransaction| {
                    let done = append(transaction, &rows)?;
                    let written = rows.iter().map(|row| row.json.len() + ROW_OVERHEAD).sum();
                    make_room(transaction, written, bytes_max, grows)?;
                    Ok(done)
                };
                self.inner.memory.write(bytes, write).await
            }
        }
    }

    /// Events of both kinds merged, newest first.
    pub fn audit_page(&self, after: Option<&[u8]>, limit: usize) -> Result<Page<Vec<u8>>, StoreError> {
        let after = after.map(Position::parse).transpose()?;
        let limit = limit.max(1);
        let durable = self.inner.records.read(|transaction| newest(transaction, DURABLE, after, limit + 1))?;
        let pulls = self.inner.memory.read(|transaction| newest(transaction, PULLS, after, limit + 1))?;
        let mut events: Vec<_> = durable.into_iter().chain(pulls).collect();
        events.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|(position, _)| position.encode());
        Ok(Page { items: events.into_iter().map(|(_, json)| json).collect(), next })
    }
}

/// Where an event stands in the merged order: its key, and which database it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    key: RecordKey,
    source: u8,
}

impl Position {
    fn parse(cursor: &[u8]) -> Result<Self, StoreError> {
        let (source, key) = cursor.split_last().ok_or(StoreError::Cursor)?;
        let key = RecordKey(key.try_into().map_err(|_| StoreError::Cursor)?);
        Ok(Self { key, source: *source })
    }

    fn encode(self) -> Vec<u8> {
        [self.key.0.as_slice(), &[self.source]].concat()
    }
}

fn append(transaction: &WriteTransaction, rows: &[AuditRow]) -> Result<Done<()>, StoreError> {
    for row in rows {
        let key = RecordKey::new(row.at, next_number(transaction)?);
        transaction.open_table(AUDIT)?.insert(key.0.as_slice(), row.json.as_slice())?;
    }
    Ok(Done::changed((), Touched::default()))
}

fn newest(
    transaction: &ReadTransaction,
    source: u8,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<(Position, Vec<u8>)>, StoreError> {
    let end = match &after {
        None => Bound::Unbounded,
        Some(after) if source < after.source => Bound::Included(after.key.0.as_slice()),
        Some(after) => Bound::Excluded(after.key.0.as_slice()),
    };
    let mut events = Vec::new();
    for row in transaction.open_table(AUDIT)?.range::<&[u8]>((Bound::Unbounded, end))?.rev().take(limit) {
        let (key, json) = row?;
        let key =
            key.value().try_into().map(RecordKey).map_err(|_| StoreError::row("audit", "a key of another length"))?;
        events.push((Position { key, source }, json.value().to_vec()));
    }
    Ok(events)
}

/// Lets the oldest events of pulls go until what is left fits again.
fn make_room(transaction: &WriteTransaction, written: usize, bytes_max: u64, grows: bool) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META)?;
    let before = meta.get(BYTES_ROW)?.map_or(0, |bytes| bytes.value());
    let bytes_max = if grows { bytes_max } else { bytes_max.min(before.max(BYTES_MIN)) };
    let mut bytes = add(&mut meta, BYTES_ROW, written.try_into().unwrap_or(i64::MAX))?;
    let mut audit = transaction.open_table(AUDIT)?;
    let mut freed = 0;
    while bytes > bytes_max {
        let Some((_, json)) = audit.pop_first()? else { break };
        let row = json.value().len() + ROW_OVERHEAD;
        bytes = bytes.saturating_sub(row as u64);
        freed += row;
    }
    if freed > 0 {
        add(&mut meta, BYTES_ROW, -i64::try_from(freed).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

const DURABLE: u8 = 0;
const PULLS: u8 = 1;

const BYTES_ROW: &str = "audit_bytes";
/// What a row takes beside its event.
const ROW_OVERHEAD: usize = 32;
/// What they may take however full the disk is.
const BYTES_MIN: u64 = 1 << 20;
/// The part of `memory.redb` that events of pulls may take.
const PULLS_SHARE: u64 = 8;
