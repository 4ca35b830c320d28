//! What a peer that asks does not know of a file.

use std::collections::BTreeMap;

use bruri_domain::{Body, FileId, FileState, Sha256};
use bytes::Bytes;

use crate::{Store, StoreError, bodies::unpack, columns::Row};

impl Store {
    /// All that is known of a file now; of one that is not known the generation of its subject at most, so that what was
    /// erased is older than that.
    ///
    /// # Errors
    /// Where the row is damaged or the database does not answer.
    pub async fn known_of(&self, file: &FileId) -> Result<FileState, StoreError> {
        match self.state(file).await {
            Err(StoreError::UnknownFile(_)) => {}
            known => return known,
        }
        match self.blank(&[file]).await?.into_iter().next() {
            // The row may have come with the records, since we looked.
            Some(Err(damaged)) => match self.state(file).await {
                Err(StoreError::UnknownFile(_)) => Err(damaged),
                known => known,
            },
            blank => blank.unwrap_or_else(|| Ok(FileState::default())),
        }
    }

    /// The states of files of which there is no row: nothing but the generations of their subjects. In their order. A
    /// file of which there are records lacks its row, and is damaged.
    pub(crate) async fn blank(
        &self,
        files: &[&FileId],
    ) -> Result<Vec<Result<FileState, StoreError>>, StoreError> {
        let realms: Vec<&str> = files.iter().map(|file| file.realm.as_str()).collect();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let subjects: Vec<Sha256> =
            files.iter().map(|file| self.key().subject_hash(file.subject())).collect();
        let subjects: Vec<&[u8]> = subjects.iter().map(Sha256::as_bytes).collect();
        let rows = sqlx::query_as!(
            Blank,
            r#"select coalesce(e.generation, 0) as "generation!",
                      exists (select from record r
                               where r.realm = wanted.realm and r.name = wanted.name) as "has_records!"
                 from unnest($1::text[], $2::text[], $3::bytea[]) with ordinality
                      as wanted (realm, name, subject, place)
                 left join erased e on e.subject = wanted.subject
                order by wanted.place"#,
            &realms as _,
            &names as _,
            &subjects as _,
        )
        .fetch_all(self.pool())
        .await?;
        let blank = |(Blank { generation, has_records }, file): (_, &&FileId)| {
            let table = Row { table: "file", key: *file };
            if has_records {
                return Err(table.corrupt("state"));
            }
            let mut state = FileState::default();
            state.raise_to(table.number("generation", generation)?);
            Ok(state)
        };
        Ok(rows.into_iter().zip(files).map(blank).collect())
    }

    /// Those of these bodies that are here and whole; of others note is taken, so that they are fetched from peers.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn contents(&self, wanted: &[Body]) -> Result<BTreeMap<Sha256, Bytes>, StoreError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let hashes: Vec<&[u8]> = wanted.iter().map(|body| body.sha256.as_bytes()).collect();
        let rows = sqlx::query!(
            "select sha256, bytes, content from body where sha256 = any($1::bytea[])",
            &hashes as _,
        )
        .fetch_all(self.pool())
        .await?;
        let (mut contents, mut damaged) = (BTreeMap::new(), Vec::new());
        for row in rows {
            let sha256 = Row { table: "body", key: &"asked for" }.sha256("sha256", &row.sha256)?;
            let bytes = u64::try_from(row.bytes).unwrap_or(u64::MAX);
            match unpack(sha256, bytes, &row.content) {
                Ok(content) => drop(contents.insert(sha256, content)),
                Err(_) => damaged.push(sha256),
            }
        }
        self.note_damaged(&damaged).await?;
        Ok(contents)
    }
}

struct Blank {
    generation: i64,
    has_records: bool,
}
