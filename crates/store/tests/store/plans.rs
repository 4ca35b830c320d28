//! Every statement finds its rows by an index: asked of the database itself, for the very statements that
//! the store has prepared.

use bruri_domain::{Body, Context, Cursor, Dot, Freshness, RealmId, RealmSettings, fork::Parting};
use sqlx::{
    AssertSqlSafe, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use bytes::Bytes;

use crate::kit::{FIRST_MICROS, NOTHING, Origin, Site, file_of, key};

/// Statements that are meant to read a whole table, by how they begin.
const WHOLE: [&str; 17] = [
    "select site, epoch, kind,",
    "select sum(sequence)",
    "select count(*) as \"count!\" from log",
    "select count(*) as \"count!\" from file",
    "select name, deployment_key_check from site",
    "select count(*) as \"count!\" from conflict",
    "select noted_micros from remembered",
    // As much of them as the limit says.
    "select sha256 from dropped_body",
    "with chosen as",
    "select known.site as",
    // A row for each job, and for each erasure or those of them that are due: not for each phone.
    "update job set after_realm",
    "select subject, random",
    // A row for each site, or log.
    "select site, release, kinds",
    "select log.site, log.epoch, kind, predecessor_epoch",
    "select id, site, epoch, kind, predecessor_epoch",
    // A comparison with a peer looks at all.
    "select distinct r.realm as",
    // A row for each realm.
    "select id, state from realm",
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
    store.write_remembered().await.unwrap();
    store.sweep_remembered(10).await.unwrap();
    store.rebuild(&file).await.unwrap();
    let vector = store.vector().await.unwrap();
    let files = vector.iter().find(|at| at.sequence > 0).unwrap();
    let ahead = Cursor { sequence: files.sequence + 1, ..files.clone() };
    store.peer_has(&[ahead]).await.unwrap();
    let common = Cursor::at_beginning(files.log.clone());
    store.set_back(&Parting { common, stays: files.chain }).await.unwrap();
    let mut tokyo = Origin::new("tokyo", 7);
    for micros in 1..3 {
        tokyo.backup(&file, b"c", micros);
        store.apply(&tokyo.batch()).await.unwrap();
    }
    ask_of_retention(site, &mut tokyo).await;
    ask_of_conflicts(site).await;
    ask_of_erasures(site).await;
    ask_of_realms(site).await;
    let mut context = Context::default();
    context.raise_to(&Dot { log: tokyo.log().clone(), sequence: 99 });
    store.note_told(&context);
    store.told(&tokyo.log().site).await.unwrap();
    store.peer_was_told(std::slice::from_ref(&dot)).await.unwrap();
    store.contents(&[Body::of(b"c")]).await.unwrap();
    store.apply_unread().await.unwrap();
    store.announce("0.2.0").await.unwrap();
    store.drop_void_branches().await.unwrap();
    store.snapshot().await.unwrap();
    store.states_after(None).await.unwrap();
    store.proof().await.unwrap();
}

async fn ask_of_erasures(site: &Site) {
    let (store, file) = (&site.store, file_of(3));
    site.put(&file, "a").await;
    let subject = key().subject_hash(file.subject());
    store.erase(subject, [1; 16], "uid 0").await.unwrap();
    store.give_receipts().await.unwrap();
    store.erasures(Some(subject), 9).await.unwrap();
    store.generations(&[subject].into()).await.unwrap();
    site.commit(&file, Some(b"b")).await.unwrap_err();
    store.lift(subject, [2; 16], "uid 0").await.unwrap();
}

async fn ask_of_realms(site: &Site) {
    let realm = RealmId::built_in();
    for freshness in [Freshness::Strict, Freshness::default()] {
        let change = |settings: &mut RealmSettings| settings.freshness = freshness;
        site.store.change_realm(&realm, change, String::new()).await.unwrap();
    }
}

async fn ask_of_conflicts(site: &Site) {
    let (store, file) = (&site.store, file_of(2));
    site.put(&file, "a").await;
    for (epoch, content) in [(8, b"b"), (9, b"c")] {
        let mut tokyo = Origin::new("tokyo", epoch);
        tokyo.backup(&file, content, 1);
        store.apply(&tokyo.batch()).await.unwrap();
    }
    let open = store.conflicts(None, 10).await.unwrap();
    store.conflict_heads(&open[0], 1000).await.unwrap();
    store.conflicts_ever(None, 10).await.unwrap();
    store.conflict(&file, None).await.unwrap();
    store.open_conflicts().await.unwrap();
    site.get_by(1, &file).await;
    site.put_by(1, &file, "d").await;
    assert!(store.conflict(&file, None).await.unwrap().end.is_some());
}

async fn ask_of_retention(site: &Site, tokyo: &mut Origin) {
    let (store, file) = (&site.store, file_of(1));
    site.prune(&NOTHING).await;
    tokyo.backup(&file, b"d", 9);
    tokyo.backup(&file, b"e", 9);
    store.apply(&tokyo.pruned_batch()).await.unwrap();
    site.put(&file, "f").await;
    store.wanted_bodies(9).await.unwrap();
    tokyo.backup(&file_of(2), b"g", 9);
    store.apply(&tokyo.pruned_batch()).await.unwrap();
    store.store_wanted(&Bytes::from("g")).await.unwrap();
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
            let derived = ["Function Scan", "Subquery Scan", "CTE Scan"];
            let derived = derived.iter().any(|node| line.contains(node));
            // A table of one row at most, and indexes that hold nothing but logs with a gap, or that forked.
            let small =
                [" on snapshot", "using log_floor", "using log_parting_due", "using log_stays"];
            let small = small.iter().any(|part| line.contains(part));
            let table = line.contains("Scan") && !derived && !small;
            let narrow = if line.contains(" on record") {
                ["sequence", "name", "body"].iter().any(|column| condition.contains(column))
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
