//! Every SQL statement: logs, records, bodies, file states, history.
//!
//! Two functions write versions, [`committer`] for those of this site and [`apply`] for those of others,
//! both through `records::write` in one transaction each: lock the files in order, decide with
//! [`bruri_domain::FileState`], take the numbers last. Nothing that decides correctness uses
//! notifications, advisory locks, sequences, temporary tables, triggers, `xmin` or logical slots, so
//! that any database with the Postgres protocol will do.

pub mod apply;
mod bodies;
mod columns;
pub mod committer;
mod counts;
mod error;
mod files;
mod group;
pub mod history;
mod logs;
pub mod lookup;
mod metrics;
mod open;
mod records;
mod supply;
mod wakeups;

use std::sync::Arc;

use bruri_domain::{Clock, DeploymentKey, Issuer, SiteName};
use sqlx::PgPool;

pub use apply::{ApplyError, Incoming, IncomingBatch};
pub use committer::{Backup, Committed, Outcome};
pub use counts::Counts;
pub use error::StoreError;
pub use history::{FileEntry, Standing, VersionEntry};
pub use lookup::{Found, Lookup};
pub use open::{MIGRATOR, Options, connect};
pub use supply::Page;

/// A site's store: clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    site: SiteName,
    key: DeploymentKey,
    clock: Arc<dyn Clock>,
    issuer: Issuer,
    own: logs::OwnLogs,
    wakeups: wakeups::Wakeups,
}

impl Store {
    /// The site that the database belongs to.
    pub fn site(&self) -> &SiteName {
        &self.inner.site
    }

    /// The deployment key.
    pub fn key(&self) -> &DeploymentKey {
        &self.inner.key
    }

    /// The clock that stamps records.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    fn pool(&self) -> &PgPool {
        &self.inner.pool
    }
}
