//! How much a site holds, for its operators.

use crate::{Store, StoreError};

/// `undefined_function` and `feature_not_supported` of the SQL standard, and what a database says that
/// tells its size to some of its users only.
const NOT_TOLD: [&str; 3] = ["42883", "0A000", "42501"];

/// How much a site holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    /// Files of which at least one version is known.
    pub files: u64,
    /// What the database takes on disk; none where it does not tell.
    pub database_bytes: Option<u64>,
}

impl Store {
    /// Counts what the site holds.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        // A file's row is made with its first version.
        let files = sqlx::query_scalar!(r#"select count(*) as "count!" from file"#)
            .fetch_one(self.pool())
            .await?;
        let files = u64::try_from(files).unwrap_or(0);
        Ok(Counts { files, database_bytes: self.database_bytes().await? })
    }

    async fn database_bytes(&self) -> Result<Option<u64>, StoreError> {
        let bytes = sqlx::query_scalar!("select pg_database_size(current_database())")
            .fetch_one(self.pool())
            .await;
        match bytes {
            Ok(bytes) => Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok())),
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| NOT_TOLD.contains(&code.as_ref())) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
