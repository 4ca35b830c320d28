//! What a peer that asks does not know of a file.

use std::collections::BTreeMap;

use bruri_domain::{Body, FileId, FileState, Sha256};
use bytes::Bytes;

use crate::{Store, StoreError, bodies::unpack};

impl Store {
    /// All that is known of a file now; of one that is not known the generation of its subject at most, so that what was
    /// erased is older than that.
    ///
    /// # Errors
    /// Where the row is damaged or the database does not answer.
    pub async fn known_of(&self, file: &FileId) -> Result<FileState, StoreError> {
        match self.state(file).await {
            Err(StoreError::UnknownFile(_)) => {
                let blank = self.blank(&[file]).await?;
                Ok(blank.into_iter().next().unwrap_or_default())
            }
            known => known,
        }
    }

    /// The states of files of which there is no row: nothing but the generations of their subjects. In their order.
    pub(crate) async fn blank(&self, files: &[&FileId]) -> Result<Vec<FileState>, StoreError> {
        let subjects: Vec<Sha256> =
            files.iter().map(|file| self.key().subject_hash(file.subject())).collect();
        let erased = self.generations(&subjects.iter().copied().collect()).await?;
        let blank = |subject: &Sha256| {
            let mut state = FileState::default();
            state.raise_to(erased.get(subject).copied().unwrap_or(0));
            state
        };
        Ok(subjects.iter().map(blank).collect())
    }

    /// Those of these bodies that are here.
    ///
    /// # Errors
    /// Where one is damaged or the database does not answer.
    pub async fn contents(&self, wanted: &[Body]) -> Result<BTreeMap<Sha256, Bytes>, StoreError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let hashes: Vec<&[u8]> = wanted.iter().map(|body| body.sha256.as_bytes()).collect();
        let rows = sqlx::query!(
            "select sha256, content from body where sha256 = any($1::bytea[])",
            &hashes as _,
        )
        .fetch_all(self.pool())
        .await?;
        let mut contents = BTreeMap::new();
        for row in rows {
            let body = wanted.iter().find(|body| body.sha256.as_bytes() == row.sha256);
            let Some(body) = body else { continue };
            contents.insert(body.sha256, unpack(body.sha256, body.bytes, &row.content)?);
        }
        Ok(contents)
    }
}
