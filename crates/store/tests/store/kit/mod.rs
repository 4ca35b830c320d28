//! What the tests share: a site on a database, a second database, records on their way from one site to
//! another, and questions to the tables.

mod origin;
mod replicate;
mod retention;
mod site;
mod tables;

pub(crate) use origin::{Origin, version_of};
pub(crate) use replicate::{
    batch_of, next_batch, next_fill, pull, pull_control, pull_log, pull_own,
};
pub(crate) use retention::{NOTHING, prune_all, pruning};
pub(crate) use site::{FIRST_MICROS, Hand, Site, key, mark_of, phone};
pub(crate) use tables::{Waiting, dump, found_in, number, until, verify_logs};

use bruri_domain::{FileId, FileName, RealmId, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use sqlx::{PgConnection, postgres::PgConnectOptions};

/// A file of the built-in realm.
pub(crate) fn file(name: &str) -> FileId {
    FileId { realm: RealmId::built_in(), name: FileName::parse(name).unwrap() }
}

/// The file of the user with that extension.
pub(crate) fn file_of(extension: usize) -> FileId {
    file(&format!("{extension}_16xxdata.txt"))
}

/// Another database on the same server; drop it by [`Twin::drop_it`].
pub(crate) struct Twin {
    pub(crate) options: PgConnectOptions,
    name: String,
    first: PgConnectOptions,
}

impl Twin {
    pub(crate) async fn create(first: &PgConnectOptions, number: u32) -> Self {
        // A name of the test's own, so that what a failed run left behind is found and replaced.
        let digits = Sha256::of(first.get_database().unwrap().as_bytes()).to_string();
        let name = format!("bruri_twin_{number}_{}", &digits[..32]);
        let twin = Self { options: first.clone().database(&name), name, first: first.clone() };
        let mut connection = twin.remove().await;
        connection.execute(AssertSqlSafe(format!("create database {}", twin.name))).await.unwrap();
        connection.close().await.unwrap();
        twin
    }

    pub(crate) async fn drop_it(self) {
        self.remove().await.close().await.unwrap();
    }

    async fn remove(&self) -> PgConnection {
        let mut connection = self.first.connect().await.unwrap();
        let remove = format!("drop database if exists {} with (force)", self.name);
        connection.execute(AssertSqlSafe(remove)).await.unwrap();
        connection
    }
}
