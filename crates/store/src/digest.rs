//! What this site serves, summed up at one moment.
//!
//! It is read from the rows themselves and not kept beside them: so it costs commits nothing, it cannot drift from
//! what is there, and every row is looked at on the way (decision 14).

use std::collections::BTreeMap;

use bruri_domain::{
    Cursor, Digest, FileId, FileState, Sha256,
    limits::{COMPARED_FILES_MAX, DAMAGED_FILES_MAX, DIGEST_ROWS_MAX},
};
use sqlx::{Executor as _, PgConnection};

use crate::{
    Store, StoreError,
    columns::signed,
    files::{self, file_id, row_of},
    logs,
};

/// What a site serves, and of which records that was made.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// How far each log was applied, those left out that are still empty; in the order of sites and epochs.
    pub vector: Vec<Cursor>,
    /// The files that hold anything.
    pub digest: Digest,
    /// Files whose rows are damaged or missing, and so not in it; at most [`DAMAGED_FILES_MAX`].
    pub damaged: Vec<FileId>,
}

/// Files as they are now that they were made anew from their records.
#[derive(Clone, Debug, Default)]
pub struct Remade {
    /// Those that hold anything, each with its hash.
    pub files: BTreeMap<FileId, Sha256>,
    /// How many were something else before.
    pub repaired: u64,
}

/// A file's row with what stands beside its state.
struct FileRow {
    realm: String,
    name: String,
    state: Vec<u8>,
    checksum: Vec<u8>,
    served_body: Option<Vec<u8>>,
}

impl FileRow {
    /// The state, where all parts of the row agree.
    fn state(&self, file: &FileId) -> Option<FileState> {
        let state = files::state_of(file, &self.state, &self.checksum).ok()?;
        let served = row_of(file, &state).served_body;
        let agrees = served.map(|served| served.as_bytes().to_vec()) == self.served_body;
        agrees.then_some(state)
    }
}

/// What of a file is compared: nothing of one that holds nothing, since sites may have a row for it or none.
fn hash(file: &FileId, state: &FileState) -> Option<Sha256> {
    (!state.is_blank()).then(|| row_of(file, state).checksum)
}

impl Store {
    /// The vector as it is compared: without logs that are still empty, of which another site need not know.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn compared_vector(&self) -> Result<Vec<Cursor>, StoreError> {
        Ok(without_empty(self.vector().await?))
    }

    /// Sums up all files, as they were at one moment, with the vector of that moment.
    ///
    /// # Errors
    /// Where the database does not answer; a damaged row is told and no error.
    pub async fn proof(&self) -> Result<Proof, StoreError> {
        let mut transaction = self.pool().begin().await?;
        transaction.execute("set transaction isolation level repeatable read, read only").await?;
        let vector = without_empty(logs::vector(&mut transaction).await?);
        let mut proof = Proof { vector, ..Proof::default() };
        let mut last: Option<FileRow> = None;
        loop {
            let rows = page(&mut transaction, last.as_ref()).await?;
            let is_last = (rows.len() as u64) < DIGEST_ROWS_MAX;
            for row in &rows {
                proof.add(row)?;
            }
            last = rows.into_iter().next_back();
            if is_last {
                break;
            }
        }
        for file in missing(&mut transaction).await? {
            proof.damage(file);
        }
        Ok(proof)
    }

    /// The files of these buckets that hold anything, each with its hash, made anew from their records before.
    /// None where they are too many to tell. Of a file that cannot be made anew no hash is told.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn remade(&self, buckets: &[u16]) -> Result<Option<Remade>, StoreError> {
        let Some(files) = self.files_in(buckets).await? else { return Ok(None) };
        let mut remade = Remade::default();
        for file in files {
            match self.remake(&file, &mut remade).await {
                Ok(()) | Err(StoreError::Corrupt { .. } | StoreError::UnknownFile(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(remade))
    }

    async fn remake(&self, file: &FileId, remade: &mut Remade) -> Result<(), StoreError> {
        if self.mend_state(file).await? {
            remade.repaired = remade.repaired.saturating_add(1);
        }
        if let Some(hash) = hash(file, &self.state(file).await?) {
            remade.files.insert(file.clone(), hash);
        }
        Ok(())
    }

    /// The files of these buckets, whatever their rows hold; none where they are too many.
    async fn files_in(&self, buckets: &[u16]) -> Result<Option<Vec<FileId>>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        let (mut found, mut last): (Vec<FileId>, Option<FileId>) = (Vec::new(), None);
        loop {
            let files = keys(&mut connection, last.as_ref()).await?;
            let is_last = (files.len() as u64) < DIGEST_ROWS_MAX;
            last = files.last().cloned();
            let wanted = |file: &FileId| buckets.contains(&Digest::bucket_of(file));
            found.extend(files.into_iter().filter(wanted));
            if found.len() > COMPARED_FILES_MAX {
                return Ok(None);
            }
            if is_last {
                return Ok(Some(found));
            }
        }
    }
}

fn without_empty(mut vector: Vec<Cursor>) -> Vec<Cursor> {
    vector.retain(|cursor| cursor.sequence > 0);
    vector
}

impl Proof {
    fn add(&mut self, row: &FileRow) -> Result<(), StoreError> {
        let file = file_id(&row.realm, &row.name)?;
        match row.state(&file) {
            Some(state) => {
                if let Some(hash) = hash(&file, &state) {
                    self.digest.add(&file, &hash);
                }
            }
            None => self.damage(file),
        }
        Ok(())
    }

    fn damage(&mut self, file: FileId) {
        if self.damaged.len() < DAMAGED_FILES_MAX {
            self.damaged.push(file);
        }
    }
}

async fn page(
    connection: &mut PgConnection,
    after: Option<&FileRow>,
) -> Result<Vec<FileRow>, StoreError> {
    let rows = sqlx::query_as!(
        FileRow,
        "select realm, name, state, checksum, served_body from file
          where (realm, name) > ($1, $2) order by realm, name limit $3",
        after.map_or("", |row| row.realm.as_str()),
        after.map_or("", |row| row.name.as_str()),
        signed(DIGEST_ROWS_MAX),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

async fn keys(
    connection: &mut PgConnection,
    after: Option<&FileId>,
) -> Result<Vec<FileId>, StoreError> {
    let rows = sqlx::query!(
        "select realm, name from file
          where (realm, name) > ($1, $2) order by realm, name limit $3",
        after.map_or("", |file| file.realm.as_str()),
        after.map_or("", |file| file.name.as_str()),
        signed(DIGEST_ROWS_MAX),
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| file_id(&row.realm, &row.name)).collect()
}

/// Files of which there are records and no row.
async fn missing(connection: &mut PgConnection) -> Result<Vec<FileId>, StoreError> {
    let rows = sqlx::query!(
        r#"select distinct r.realm as "realm!", r.name as "name!" from record r
            where r.name is not null and r.realm is not null
              and not exists (select from file f where f.realm = r.realm and f.name = r.name)
            limit $1"#,
        signed(DAMAGED_FILES_MAX as u64),
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| file_id(&row.realm, &row.name)).collect()
}
