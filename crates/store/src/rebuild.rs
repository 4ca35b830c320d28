//! A file's state made anew from its records.

use std::collections::BTreeMap;

use bruri_domain::{
    Dot, FileId, FileState, LogId, Sha256, SiteName,
    limits::{PAGE_RECORDS_MAX, REBUILD_FILES_MAX},
};
use bruri_wire::record::{decode_envelope, decode_version};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{self, Row, signed},
    files::{self, Floor, Locked, Locking, States},
    filling,
};

impl Store {
    /// Makes a file's state anew by folding its records, those of each log in its order, and writes it. Never is
    /// it merged with what is there. Returns whether that differed, was damaged or missing.
    ///
    /// # Errors
    /// [`StoreError::HistoryIncomplete`] while a snapshot is not filled in: the records here would not do.
    pub async fn rebuild(&self, file: &FileId) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        if filling::is_incomplete(&mut *transaction).await? {
            return Err(StoreError::HistoryIncomplete);
        }
        let files = std::slice::from_ref(file);
        let is_known = !page(&mut transaction, files, None).await?.is_empty();
        let made = if is_known { files } else { &[] };
        let locking = Locking::of(self.key(), files, made);
        let mut locked = files::lock(&mut transaction, &locking).await?;
        let stored = locked.states.remove(file);
        let states = fold(&mut transaction, files, (&locked.erased, None)).await?;
        let state = states.first().map(|(_, state)| state);
        let differs = stored.is_some_and(|stored| stored.ok().as_ref() != state);
        // Also where it is equal: what stands beside it in the row may be damaged.
        files::write(&mut transaction, &states).await?;
        transaction.commit().await?;
        Ok(differs)
    }
}

/// Makes the states of these files anew and writes them; their rows are locked, so that no record is
/// added meanwhile. Of those that were erased, rows that hold nothing are removed. While a snapshot is not filled in, the
/// states that are here, at the generations of their subjects, are what the records are added to.
pub(crate) async fn rebuild_locked(
    transaction: &mut PgConnection,
    files: &[FileId],
    Locked { states, erased, .. }: &Locked,
) -> Result<(), StoreError> {
    let base = filling::is_incomplete(&mut *transaction).await?.then_some(states);
    make_anew(transaction, files, (erased, base)).await
}

/// The same from the records alone, whatever is known beside them.
pub(crate) async fn from_records(
    transaction: &mut PgConnection,
    files: &[FileId],
    locked: &Locked,
) -> Result<(), StoreError> {
    make_anew(transaction, files, (&locked.erased, None)).await
}

async fn make_anew(
    transaction: &mut PgConnection,
    files: &[FileId],
    (erased, base): (&BTreeMap<FileId, Floor>, Option<&States>),
) -> Result<(), StoreError> {
    for some in files.chunks(REBUILD_FILES_MAX) {
        let states = fold(&mut *transaction, some, (erased, base)).await?;
        let gone =
            |(file, state): &(FileId, _)| erased.contains_key(file) && FileState::is_blank(state);
        let (gone, kept): (Vec<_>, Vec<_>) = states.into_iter().partition(gone);
        let gone: Vec<FileId> = gone.into_iter().map(|(file, _)| file).collect();
        files::remove(&mut *transaction, &gone).await?;
        files::write(&mut *transaction, &kept).await?;
    }
    Ok(())
}

/// What the records of each file come to, added to what is known before.
async fn fold(
    transaction: &mut PgConnection,
    files: &[FileId],
    (erased, base): (&BTreeMap<FileId, Floor>, Option<&States>),
) -> Result<Vec<(FileId, FileState)>, StoreError> {
    let at_floor = |file: &FileId| {
        let known = base.and_then(|base| base.get(file)?.as_ref().ok());
        let mut state = known.cloned().unwrap_or_default();
        state.raise_to(erased.get(file).map_or(0, |floor| floor.generation));
        (file.clone(), state)
    };
    let mut states: Vec<(FileId, FileState)> = files.iter().map(at_floor).collect();
    let mut last: Option<RecordRow> = None;
    loop {
        let rows = page(&mut *transaction, files, last.as_ref()).await?;
        let is_last = (rows.len() as u64) < PAGE_RECORDS_MAX;
        for row in &rows {
            let place = usize::try_from(row.place).ok().and_then(|place| place.checked_sub(1));
            if let Some((_, state)) = place.and_then(|place| states.get_mut(place)) {
                row.apply(state)?;
            }
        }
        last = rows.into_iter().next_back();
        if is_last {
            return Ok(states);
        }
    }
}

struct RecordRow {
    /// Which of the files, from 1.
    place: i64,
    log: i32,
    sequence: i64,
    site: String,
    epoch: i64,
    envelope: Vec<u8>,
    payload: Option<Vec<u8>>,
}

/// Records of these files, file after file, those of each log in its order.
async fn page(
    transaction: &mut PgConnection,
    files: &[FileId],
    after: Option<&RecordRow>,
) -> Result<Vec<RecordRow>, StoreError> {
    let (realms, names) = files::key_columns(files);
    let (place, log, sequence) = after.map_or((0, 0, 0), |row| (row.place, row.log, row.sequence));
    let rows = sqlx::query_as!(
        RecordRow,
        r#"select wanted.place as "place!", record.log, record.sequence, log.site, log.epoch,
                  envelope, payload
             from unnest($1::text[], $2::text[]) with ordinality as wanted (realm, name, place)
             join record on record.realm = wanted.realm and record.name = wanted.name
             join log on log.id = record.log
            where (wanted.place, record.log, record.sequence) > ($3, $4, $5)
            order by wanted.place, record.log, record.sequence
            limit $6"#,
        &realms as _,
        &names as _,
        place,
        log,
        sequence,
        signed(PAGE_RECORDS_MAX),
    )
    .fetch_all(transaction)
    .await?;
    Ok(rows)
}

impl RecordRow {
    /// A record whose payload was erased holds nothing any more.
    fn apply(&self, state: &mut FileState) -> Result<(), StoreError> {
        let key = format!("{}/{}/{}", self.site, columns::epoch(self.epoch), self.sequence);
        let row = Row { table: "record", key: &key };
        let Some(payload) = &self.payload else { return Ok(()) };
        let envelope = decode_envelope(&self.envelope).map_err(|_| row.corrupt("envelope"))?;
        if Sha256::of(payload) != envelope.payload {
            return Err(row.corrupt("payload"));
        }
        let version = decode_version(payload).map_err(|_| row.corrupt("payload"))?;
        let site = SiteName::parse(&self.site).map_err(|_| row.corrupt("log"))?;
        let log = LogId { site, epoch: columns::epoch(self.epoch) };
        let dot = Dot { log, sequence: row.number("sequence", self.sequence)? };
        state.apply(&dot, envelope.generation, &version);
        Ok(())
    }
}
