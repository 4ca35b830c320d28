//! A database for each site of a test; gone with it.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};

pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("bruri_replication_{}_{number}", std::process::id());
        execute(format!("create database {name}")).await;
        Self { name }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        server().database(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database {} with (force)", self.name);
        let dropped = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(execute(drop));
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

fn server() -> PgConnectOptions {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a Postgres for tests");
    url.parse().expect("DATABASE_URL is postgres://…")
}

async fn execute(statement: String) {
    let mut connection = PgConnection::connect_with(&server()).await.unwrap();
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
