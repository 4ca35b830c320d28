//! Every SQL statement: logs, records, bodies, file states, history.
//!
//! Two functions write versions, [`committer`] for those of this site and [`apply`] for those of others,
//! both through `records::write` in one transaction each: lock the files in order, decide with
//! [`bruri_domain::FileState`], take the numbers last. What phones had seen is kept beside ([`remembered`]),
//! and so are the conflicts that versions open and end (`conflicts`). Records that concern no file go
//! through `control`; what was erased is in `erasures`, and `erasing` carries it out. Nothing that decides correctness uses
//! notifications, advisory locks, sequences, temporary tables, triggers, `xmin` or logical slots, so
//! that any database with the Postgres protocol will do.

mod again;
pub mod apply;
mod bodies;
mod columns;
pub mod committer;
mod conflicts;
mod control;
mod copied;
mod counts;
mod damaged;
mod digest;
mod dropped;
mod epochs;
mod erasing;
mod erasures;
mod error;
mod files;
mod filling;
mod fork;
mod gate;
mod giving_up;
mod group;
pub mod history;
mod jobs;
mod judge;
mod logs;
pub mod lookup;
mod members;
mod metrics;
mod newer;
mod noticed;
mod numbers;
mod open;
mod own;
mod partings;
mod progress;
pub mod prune;
mod realms;
mod rebuild;
pub mod receipts;
mod records;
mod refold;
mod releases;
pub mod remembered;
mod scrub;
mod snapshot;
mod supply;
mod told;
mod unread;
mod unwritten;
mod wakeups;
mod wanted;
mod witness;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bruri_domain::{Clock, DeploymentKey, Issuer, SiteName, Stamp};
use sqlx::PgPool;
use tokio::sync::Notify;

pub use apply::{ApplyError, Incoming, IncomingBatch};
pub use committer::{Backup, Committed, Outcome};
pub use conflicts::{ConflictEnd, ConflictEntry, ConflictHead, ConflictKey};
pub use copied::{Copied, CopiedFile, CopiedHead};
pub use counts::Counts;
pub use damaged::Mended;
pub use digest::{Proof, Remade};
pub use erasures::Ordered;
pub use error::StoreError;
pub use history::{FileEntry, Standing, VersionEntry};
pub use lookup::{Found, Lookup, Served};
pub use members::News;
pub use open::{MIGRATOR, Options, connect};
pub use prune::{Pruned, Pruning};
pub use receipts::{ErasureEntry, ReceiptEntry};
pub use scrub::Scrubbed;
pub use snapshot::{Gap, IncomingStates, Snapshot};
pub use supply::Page;
pub use unwritten::{Held, Mark};

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
    clock_trusted: AtomicBool,
    own: own::Own,
    gate: gate::Gate,
    wakeups: wakeups::Wakeups,
    unwritten: unwritten::Unwritten,
    told: told::Told,
    /// An erasure was carried out here: a receipt is due.
    erased: Notify,
    /// A body is lacking that peers may have.
    lacking: Notify,
    /// A site told that a log of its own forked: what is held of the void branch must go.
    parted: Notify,
    realms: realms::Realms,
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

    /// From now on records say whether their origin trusted its clock; where it does not, retention drops nothing.
    pub fn trust_clock(&self, trusted: bool) {
        self.inner.clock_trusted.store(trusted, Ordering::Relaxed);
    }

    /// The stamp of a record that is written now.
    pub(crate) fn stamp(&self) -> Stamp {
        let micros = self.inner.issuer.issue(self.inner.clock.now_micros());
        Stamp { micros, trusted: self.trusts_clock() }
    }

    /// Whether records say so now.
    pub fn trusts_clock(&self) -> bool {
        self.inner.clock_trusted.load(Ordering::Relaxed)
    }

    fn pool(&self) -> &PgPool {
        &self.inner.pool
    }
}
