//! Several committers and several peers at once over the same files, old and new: no deadlock, and the
//! same end everywhere.

use bruri_domain::{FileId, FileState};
use bruri_store::Store;
use futures_util::future::{join, join_all};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::task::JoinSet;

use crate::kit::{Site, Twin, file_of, number, pull, verify_logs};

/// Backups and removals of files by chance, so many at a time.
async fn write(site: &Site, seed: u64, turns: usize, files: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    for turn in 0..turns {
        let chosen: Vec<(FileId, Option<String>)> = (0..20)
            .map(|n| {
                // Later turns meet files that are new to all.
                let file = file_of(random.random_range(0..files) + turn);
                let content = random.random_bool(0.9).then(|| format!("{seed} {turn} {n}"));
                (file, content)
            })
            .collect();
        let commits = chosen
            .iter()
            .map(|(file, content)| site.commit(file, content.as_ref().map(String::as_bytes)));
        for answer in join_all(commits).await {
            answer.unwrap();
        }
    }
}

/// Deadlocks are tried again, so that only the database tells of them; it counts when a session ends.
async fn deadlocks(pool: &PgPool) -> i64 {
    number(pool, "select deadlocks from pg_stat_database where datname = current_database()").await
}

async fn assert_no_deadlock(database: &PgConnectOptions) {
    let pool = PgPoolOptions::new().connect_with(database.clone()).await.unwrap();
    assert_eq!(deadlocks(&pool).await, 0);
    pool.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn committers_with_overlapping_groups_never_wait_for_each_other_in_a_circle(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let sites = [0; 5].map(|_| Site::open("london", &database));
    let sites = join_all(sites).await;
    let writers = sites.iter().zip(0..).map(|(site, seed)| write(site, seed, 40, 30));
    join_all(writers).await;
    let records = number(&sites[0].pool, "select count(*) from record").await;
    assert_eq!(verify_logs(&sites[0].store, &sites[0].pool).await, records.cast_unsigned());
    for site in sites {
        site.close().await;
    }
    assert_no_deadlock(&database).await;
}

fn states(entries: Vec<bruri_store::FileEntry>) -> Vec<(FileId, FileState)> {
    entries.into_iter().map(|entry| (entry.file, entry.state)).collect()
}

/// Pulls from all the others, each twice at once, until told to stop.
fn pull_all(sites: &[Site], tasks: &mut JoinSet<()>, stop: &tokio_util::sync::CancellationToken) {
    for to in sites {
        for from in sites.iter().chain(sites).filter(|from| from.store.site() != to.store.site()) {
            let (from, to, stop) = (from.store.clone(), to.store.clone(), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    pull(&from, &to).await;
                    tokio::task::yield_now().await;
                }
            });
        }
    }
}

async fn level(sites: &[Site]) {
    let stores: Vec<&Store> = sites.iter().map(|site| &site.store).collect();
    for to in &stores {
        for from in &stores {
            pull(from, to).await;
        }
    }
}

/// Law 4.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn sites_that_write_the_same_files_and_pull_from_each_other_meanwhile_end_equal(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (second, third) = join(Twin::create(&database, 2), Twin::create(&database, 3)).await;
    let databases = [&database, &second.options, &third.options];
    let names = ["london", "tokyo", "paris"];
    let sites = names.iter().zip(databases).map(|(name, database)| Site::open(name, database));
    let sites = join_all(sites).await;
    let (mut tasks, stop) = (JoinSet::new(), tokio_util::sync::CancellationToken::new());
    pull_all(&sites, &mut tasks, &stop);
    join_all(sites.iter().zip(10..).map(|(site, seed)| write(site, seed, 10, 8))).await;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    level(&sites).await;

    let mut ends = Vec::new();
    for site in sites {
        let count = verify_logs(&site.store, &site.pool).await;
        let mut vector = site.store.vector().await.unwrap();
        // Of an empty log the others do not know yet.
        vector.retain(|cursor| cursor.sequence > 0);
        ends.push((count, vector, states(site.store.files("", None, 1000).await.unwrap())));
        site.close().await;
    }
    assert!(ends[0].0 > 300 && ends[0].2.len() > 8, "{} records", ends[0].0);
    assert!(ends[0] == ends[1] && ends[0] == ends[2], "{ends:#?}");
    for database in databases {
        assert_no_deadlock(database).await;
    }
    second.drop_it().await;
    third.drop_it().await;
}
