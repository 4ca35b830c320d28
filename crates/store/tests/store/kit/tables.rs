//! Questions to the tables.

use std::time::Duration;

use bruri_domain::{Chain, Sha256};
use bruri_store::Store;
use sqlx::{AssertSqlSafe, PgPool, Row as _};

/// The one number that a query tells.
pub(crate) async fn number(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// All that a site has stored, row by row: equal dumps are equal databases.
pub(crate) async fn dump(pool: &PgPool) -> Vec<String> {
    let mut rows = Vec::new();
    for table in ["log", "record", "body", "file"] {
        let query = format!("select t::text from {table} t order by 1");
        let found = sqlx::query_scalar::<_, String>(AssertSqlSafe(query)).fetch_all(pool).await;
        rows.extend(found.unwrap().into_iter().map(|row| format!("{table} {row}")));
    }
    rows
}

/// The rows of any table that hold one of these texts, as text or among bytes.
pub(crate) async fn found_in(pool: &PgPool, texts: &[String]) -> Vec<String> {
    let tables = sqlx::query_scalar::<_, String>(
        "select table_name::text from information_schema.tables where table_schema = 'public'",
    );
    let mut found = Vec::new();
    for table in tables.fetch_all(pool).await.unwrap() {
        let query = AssertSqlSafe(format!("select t::text from {table} t"));
        let rows = sqlx::query_scalar::<_, String>(query).fetch_all(pool).await.unwrap();
        let holds =
            |row: &String| texts.iter().any(|text| row.contains(text) || row.contains(&hex(text)));
        found.extend(rows.into_iter().filter(holds).map(|row| format!("{table} {row}")));
    }
    found
}

fn hex(text: &str) -> String {
    text.bytes().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).unwrap()
}

/// Checks law 3 over every log that the site knows: no gap, every record's chain follows from the one
/// before and its envelope, and the log's row is at the last. Returns the number of records.
pub(crate) async fn verify_logs(store: &Store, pool: &PgPool) -> u64 {
    let mut count = 0;
    for cursor in store.vector().await.unwrap() {
        let rows = sqlx::query(
            "select sequence, envelope, record.chain from record
              where log = (select id from log where site = $1 and epoch = $2) order by sequence",
        )
        .bind(cursor.log.id.site.as_str())
        .bind(cursor.log.id.epoch.0.cast_signed())
        .fetch_all(pool)
        .await
        .unwrap();
        let (mut chain, mut sequence) = (Chain::begin(&cursor.log), 0);
        for row in rows {
            sequence += 1;
            chain = chain.next(row.get("envelope"));
            assert_eq!(row.get::<i64, _>("sequence"), sequence, "gap in {}", cursor.log.id);
            assert_eq!(Sha256::from_slice(row.get("chain")), Some(chain.0), "{sequence}");
        }
        assert_eq!((cursor.sequence.cast_signed(), cursor.chain), (sequence, chain));
        count += cursor.sequence;
    }
    count
}

/// Sessions of this database that wait for a lock.
pub(crate) struct Waiting<'a>(pub(crate) &'a PgPool);

impl Waiting<'_> {
    pub(crate) async fn count(&self) -> i64 {
        number(
            self.0,
            "select count(*) from pg_stat_activity
              where datname = current_database() and wait_event_type = 'Lock'",
        )
        .await
    }
}

/// Asks until it is true; fails after 30 s.
pub(crate) async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asking).await;
    assert!(asked.is_ok(), "never came true: {what}");
}
