//! Table `file`: which versions of a file are heads, in one row with a checksum.

use std::collections::BTreeMap;

use bruri_domain::{FileId, FileName, FileState, RealmId, Sha256};
use bruri_wire::record::{decode_state, encode_state};
use sqlx::PgConnection;

use crate::{StoreError, columns::Row};

/// States of files under lock, by file. A damaged one is held as its error, so that it costs its own
/// file and no other.
pub(crate) type States = BTreeMap<FileId, Result<FileState, StoreError>>;

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

/// Locks the rows of these files, which the caller has sorted. Those among them that are to be `made`
/// if they are missing are made first, then all are locked, both in the order of files: so two
/// transactions never wait for each other.
pub(crate) async fn lock(
    transaction: &mut PgConnection,
    files: &[FileId],
    made: &[FileId],
) -> Result<States, StoreError> {
    if !made.is_empty() {
        create_missing(&mut *transaction, made).await?;
    }
    lock_present(transaction, files).await
}

fn key_columns(files: &[FileId]) -> (Vec<&str>, Vec<&str>) {
    files.iter().map(|file| (file.realm.as_str(), file.name.as_str())).unzip()
}

async fn create_missing(
    transaction: &mut PgConnection,
    files: &[FileId],
) -> Result<(), StoreError> {
    let (realms, names) = key_columns(files);
    let empty: Vec<StateRow> =
        files.iter().map(|file| row_of(file, &FileState::default())).collect();
    let states: Vec<&[u8]> = empty.iter().map(|row| row.state.as_slice()).collect();
    let checksums: Vec<&[u8]> = empty.iter().map(|row| row.checksum.as_bytes()).collect();
    sqlx::query!(
        r#"insert into file (realm, name, state, checksum)
         select wanted.realm, wanted.name, wanted.state, wanted.checksum
           from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
                as wanted (realm, name, state, checksum)
          where not exists (select from file f
                             where f.realm = wanted.realm and f.name = wanted.name)
          order by wanted.realm collate "C", wanted.name collate "C"
         on conflict do nothing"#,
        &realms as _,
        &names as _,
        &states as _,
        &checksums as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn lock_present(
    transaction: &mut PgConnection,
    files: &[FileId],
) -> Result<States, StoreError> {
    let (realms, names) = key_columns(files);
    let rows = sqlx::query!(
        "select f.realm, f.name, f.state, f.checksum
           from unnest($1::text[], $2::text[]) as wanted (realm, name)
           join file f on f.realm = wanted.realm and f.name = wanted.name
          order by f.realm, f.name
            for update of f",
        &realms as _,
        &names as _,
    )
    .fetch_all(transaction)
    .await?;
    rows.into_iter()
        .map(|row| {
            let file = file_id(&row.realm, &row.name)?;
            let state = state_of(&file, &row.state, &row.checksum);
            Ok((file, state))
        })
        .collect()
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
