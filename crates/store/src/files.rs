//! Table `file`: which versions of a file are heads, in one row with a checksum.

use std::collections::BTreeMap;

use bruri_domain::{DeploymentKey, FileId, FileName, FileState, PhoneKey, RealmId, Sha256};
use bruri_wire::record::{decode_state, encode_state};
use sqlx::PgConnection;

use crate::{
    StoreError,
    columns::Row,
    erasures,
    remembered::{Known, remembered},
};

/// States of files under lock, by file. A damaged one is held as its error, so that it costs its own
/// file and no other.
pub(crate) type States = BTreeMap<FileId, Result<FileState, StoreError>>;

/// Files under lock, and what is known of them.
#[derive(Default)]
pub(crate) struct Locked {
    /// Each at least at the generation of its subject.
    pub(crate) states: States,
    /// What is remembered of their phones.
    pub(crate) known: Known,
    /// Those whose subject was erased.
    pub(crate) erased: BTreeMap<FileId, Floor>,
}

/// What erasures of its subject mean to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Floor {
    /// What is older is erased.
    pub(crate) generation: u64,
    /// Nothing is taken for it.
    pub(crate) barred: bool,
}

impl Locked {
    /// Those rows that hold a name of an erased subject and nothing else: they must not stay.
    pub(crate) fn blank(&self) -> Vec<FileId> {
        let erased = self.states.iter().filter(|(file, _)| self.erased.contains_key(file));
        let blank = erased.filter(|(_, state)| state.as_ref().is_ok_and(FileState::is_blank));
        blank.map(|(file, _)| file.clone()).collect()
    }
}

/// A file's row as a statement writes it.
pub(crate) struct StateRow {
    pub(crate) state: Vec<u8>,
    pub(crate) checksum: Sha256,
    pub(crate) served_body: Option<Sha256>,
}

/// Encodes a state for its row.
pub(crate) fn row_of(file: &FileId, state: &FileState) -> StateRow {
    let encoded = encode_state(state);
    let served_body = state.served().and_then(|head| head.body).map(|body| body.sha256);
    StateRow { checksum: checksum(file, &encoded), state: encoded, served_body }
}

/// Reads the state of a row, if nobody changed it by hand.
pub(crate) fn state_of(
    file: &FileId,
    state: &[u8],
    stored_checksum: &[u8],
) -> Result<FileState, StoreError> {
    let row = Row { table: "file", key: file };
    if checksum(file, state).as_bytes() != stored_checksum {
        return Err(row.corrupt("checksum"));
    }
    decode_state(state).map_err(|_| row.corrupt("state"))
}

fn checksum(file: &FileId, state: &[u8]) -> Sha256 {
    let (realm, name) = (file.realm.as_str(), file.name.as_str());
    // Neither realm nor name can hold a NUL.
    Sha256::of_parts([realm.as_bytes(), b"\0", name.as_bytes(), b"\0", state])
}

/// Which rows to lock.
pub(crate) struct Locking<'a> {
    /// Finds the subjects of the files.
    pub(crate) key: &'a DeploymentKey,
    /// The files, sorted.
    pub(crate) files: &'a [FileId],
    /// Who writes each of them, where it is a phone; may be empty.
    pub(crate) phones: &'a [Option<PhoneKey>],
    /// Those among the files that are to be made where they are missing, sorted.
    pub(crate) made: &'a [FileId],
    /// What was remembered of phones then or before counts no more.
    pub(crate) expired_micros: i64,
}

impl<'a> Locking<'a> {
    /// Only the rows of these files, sorted, of which some are `made`; nobody writes them.
    pub(crate) fn of(key: &'a DeploymentKey, files: &'a [FileId], made: &'a [FileId]) -> Self {
        Self { key, files, phones: &[], made, expired_micros: 0 }
    }
}

/// Locks the rows of files and reads what is remembered of their phones. Rows are made first, then all
/// are locked, both in the order of files: so two transactions never wait for each other.
///
/// # Errors
/// [`StoreError::ErasedMeanwhile`] where a row that was there is gone: the transaction is to be tried again.
pub(crate) async fn lock(
    transaction: &mut PgConnection,
    locking: &Locking<'_>,
) -> Result<Locked, StoreError> {
    if !locking.made.is_empty() && create_missing(&mut *transaction, locking).await? {
        // An erasure that does not see the new row yet is waited for, and then seen here.
        erasures::hold_off(&mut *transaction).await?;
    }
    let locked = lock_present(transaction, locking).await?;
    if locking.made.iter().all(|file| locked.states.contains_key(file)) {
        Ok(locked)
    } else {
        Err(StoreError::ErasedMeanwhile)
    }
}

/// The keys of files, for `unnest`.
pub(crate) fn key_columns(files: &[FileId]) -> (Vec<&str>, Vec<&str>) {
    files.iter().map(|file| (file.realm.as_str(), file.name.as_str())).unzip()
}

/// Whether there were any.
async fn create_missing(
    transaction: &mut PgConnection,
    locking: &Locking<'_>,
) -> Result<bool, StoreError> {
    let (files, subjects) = (locking.made, subjects_of(locking.key, locking.made));
    let (realms, names) = key_columns(files);
    let empty: Vec<StateRow> =
        files.iter().map(|file| row_of(file, &FileState::default())).collect();
    let states: Vec<&[u8]> = empty.iter().map(|row| row.state.as_slice()).collect();
    let checksums: Vec<&[u8]> = empty.iter().map(|row| row.checksum.as_bytes()).collect();
    let created = sqlx::query!(
        r#"insert into file (realm, name, state, checksum, subject)
         select wanted.realm, wanted.name, wanted.state, wanted.checksum, wanted.subject
           from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
                as wanted (realm, name, state, checksum, subject)
          where not exists (select from file f
                             where f.realm = wanted.realm and f.name = wanted.name)
          order by wanted.realm collate "C", wanted.name collate "C"
         on conflict do nothing"#,
        &realms as _,
        &names as _,
        &states as _,
        &checksums as _,
        &subjects as _,
    )
    .execute(transaction)
    .await?;
    Ok(created.rows_affected() > 0)
}

fn subjects_of(key: &DeploymentKey, files: &[FileId]) -> Vec<Vec<u8>> {
    let hashes = files.iter().map(|file| key.subject_hash(file.subject()));
    hashes.map(|hash| hash.as_bytes().to_vec()).collect()
}

async fn lock_present(
    transaction: &mut PgConnection,
    locking: &Locking<'_>,
) -> Result<Locked, StoreError> {
    let (realms, names) = key_columns(locking.files);
    let subjects = subjects_of(locking.key, locking.files);
    let phones: Vec<Option<&str>> =
        locking.phones.iter().map(|phone| Some(phone.as_ref()?.as_str())).collect();
    let rows = sqlx::query!(
        r#"select f.realm, f.name, f.state, f.checksum,
                  r.phone as "phone?", r.generation as "generation?", r.context as "context?",
                  e.generation as "erased?", e.barred as "barred?"
           from unnest($1::text[], $2::text[], $3::text[], $5::bytea[])
                as wanted (realm, name, phone, subject)
           join file f on f.realm = wanted.realm and f.name = wanted.name
           left join remembered r on r.realm = wanted.realm and r.name = wanted.name
                                 and r.phone = wanted.phone and r.noted_micros > $4
           left join erased e on e.subject = wanted.subject
          order by f.realm, f.name
            for update of f"#,
        &realms as _,
        &names as _,
        &phones as _,
        locking.expired_micros,
        &subjects as _,
    )
    .fetch_all(transaction)
    .await?;
    let mut locked = Locked::default();
    for row in rows {
        let file = file_id(&row.realm, &row.name)?;
        let found = row.phone.and_then(|_| remembered(row.generation, row.context.as_deref()));
        if let Some(found) = found {
            locked.known.insert(file.clone(), found);
        }
        let mut state = state_of(&file, &row.state, &row.checksum);
        if let (Some(generation), Some(barred)) = (row.erased, row.barred) {
            let generation = generation.unsigned_abs();
            let _ = state.as_mut().map(|state| state.raise_to(generation));
            locked.erased.insert(file.clone(), Floor { generation, barred });
        }
        locked.states.insert(file, state);
    }
    Ok(locked)
}

/// Removes rows of files under lock.
pub(crate) async fn remove(
    transaction: &mut PgConnection,
    files: &[FileId],
) -> Result<(), StoreError> {
    if files.is_empty() {
        return Ok(());
    }
    let (realms, names) = key_columns(files);
    sqlx::query!(
        "delete from file
          using unnest($1::text[], $2::text[]) as gone (realm, name)
          where file.realm = gone.realm and file.name = gone.name",
        &realms as _,
        &names as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Writes states of files whose rows are locked.
pub(crate) async fn write(
    transaction: &mut PgConnection,
    states: &[(FileId, FileState)],
) -> Result<(), StoreError> {
    let files: Vec<FileId> = states.iter().map(|(file, _)| file.clone()).collect();
    let (realms, names) = key_columns(&files);
    let rows: Vec<StateRow> = states.iter().map(|(file, state)| row_of(file, state)).collect();
    let states: Vec<&[u8]> = rows.iter().map(|row| row.state.as_slice()).collect();
    let checksums: Vec<&[u8]> = rows.iter().map(|row| row.checksum.as_bytes()).collect();
    let served: Vec<Option<&[u8]>> =
        rows.iter().map(|row| row.served_body.as_ref().map(Sha256::as_bytes)).collect();
    sqlx::query!(
        "update file
            set state = new.state, checksum = new.checksum, served_body = new.served_body,
                confirmed_micros = case when file.served_body = new.served_body
                                        then file.confirmed_micros end
           from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
                as new (realm, name, state, checksum, served_body)
          where file.realm = new.realm and file.name = new.name",
        &realms as _,
        &names as _,
        &states as _,
        &checksums as _,
        &served as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Reads a file's key from its columns.
pub(crate) fn file_id(realm: &str, name: &str) -> Result<FileId, StoreError> {
    let key = format!("{realm}/{name}");
    let row = Row { table: "file", key: &key };
    Ok(FileId {
        realm: RealmId::parse(realm).map_err(|_| row.corrupt("realm"))?,
        name: FileName::parse(name).map_err(|_| row.corrupt("name"))?,
    })
}
