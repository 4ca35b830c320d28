//! Every statement finds its rows by an index: asked of the database itself, for the very statements that
//! the store has prepared.

use sqlx::{
    AssertSqlSafe, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{FIRST_MICROS, Origin, Site, file_of, key};

/// Statements that are meant to read a whole table, by how they begin.
const WHOLE: [&str; 5] = [
    "select site, epoch, kind,",
    "select sum(sequence)",
    "select count(*) as \"count!\" from log",
    "select count(*) as \"count!\" from file",
    "select name, deployment_key_check from site",
];

/// Everything that a store can be asked, over one connection.
async fn ask_everything(site: &Site) {
    let (store, file) = (&site.store, file_of(1));
    site.put(&file, "a").await;
    let dot = site.put(&file, "b").await.dot.unwrap();
    site.put(&file, "b").await;
    site.remove(&file).await;
    site.get(&file).await;
    let named = dot.to_string().parse().unwrap();
    store.files("", None, 10).await.unwrap();
    store.versions(&file, Some(&named), 10).await.unwrap();
    store.version(&file, Some(&named)).await.unwrap();
    store.records_after(&dot.log, 0).await.unwrap();
    store.chain_at(&store.vector().await.unwrap()[0]).await.unwrap();
    store.counts().await.unwrap();
    let mut tokyo = Origin::new("tokyo", 7);
    for micros in 1..3 {
        tokyo.backup(&file, b"c", micros);
        store.apply(&tokyo.batch()).await.unwrap();
    }
}

/// A statement and the plan that it is run by.
struct Planned {
    statement: String,
    lines: Vec<String>,
}

async fn plans(pool: &PgPool) -> Vec<Planned> {
    let mut connection = pool.acquire().await.unwrap();
    let prepared = sqlx::raw_sql(
        "select name, statement, parameter_types::text[] as types from pg_prepared_statements",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut plans = Vec::new();
    for row in prepared {
        let (name, statement): (String, String) = (row.get("name"), row.get("statement"));
        let types: Vec<String> = row.get("types");
        let nulls: Vec<String> = types.iter().map(|of| format!("null::{of}")).collect();
        let nulls =
            if nulls.is_empty() { String::new() } else { format!("({})", nulls.join(", ")) };
        let explain = format!("explain execute {name}{nulls}");
        let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *connection).await;
        let lines = lines.unwrap().iter().map(|line| line.get(0)).collect();
        plans.push(Planned { statement, lines });
    }
    plans
}

impl Planned {
    fn has(&self, node: &str) -> bool {
        self.lines.iter().any(|line| line.contains(node))
    }

    fn may_read_all(&self) -> bool {
        WHOLE.iter().any(|begin| self.statement.starts_with(begin))
    }

    /// Places where the plan reads more than it was asked for: a whole table, or a whole log.
    fn wide_scans(&self) -> Vec<String> {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.trim()).collect();
        let mut wide = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let condition = lines.get(at + 1).filter(|below| below.starts_with("Index Cond"));
            let condition = condition.copied().unwrap_or_default();
            let derived = line.contains("Function Scan") || line.contains("Subquery Scan");
            let table = line.contains("Scan") && !derived;
            let narrow = if line.contains(" on record") {
                condition.contains("sequence") || condition.contains("name")
            } else {
                !condition.is_empty()
            };
            if table && !narrow {
                wide.push(format!("{line} {condition}"));
            }
        }
        wide
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn every_statement_finds_its_rows_by_an_index(_: PgPoolOptions, database: PgConnectOptions) {
    let pool = bruri_store::connect(database, 1).await.unwrap();
    let site = Site::over(pool, "london", key(), FIRST_MICROS).await.unwrap();
    site.start();
    ask_everything(&site).await;
    let plans = plans(&site.pool).await;
    assert!(plans.len() > 18, "only {} statements", plans.len());
    for plan in plans.iter().filter(|plan| !plan.may_read_all()) {
        let wide = plan.wide_scans();
        assert!(wide.is_empty(), "{}\n{}\n{wide:?}", plan.statement, plan.lines.join("\n"));
        let sorts_files = plan.statement.contains("starts_with") && plan.has("Sort");
        assert!(!sorts_files, "a page reads all files: {}", plan.lines.join("\n"));
    }
    site.close().await;
}
