//! Retention at work: bodies go and places stay, and nobody loses a body that he is just writing.

use std::time::Duration;

use bruri_domain::{
    Dot, DotRef, FileId, Retention, Sha256, Version,
    limits::{RETENTION_FILES_MAX, RETENTION_VERSIONS_MAX},
};
use bruri_store::{Pruned, Pruning, StoreError};
use bytes::Bytes;
use futures_util::future::join_all;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::kit::{
    FIRST_MICROS, NOTHING, Origin, Site, file_of, number, prune_all, pruning, until, verify_logs,
    version_of,
};

const MINUTE: u64 = 60_000_000;
const DAY: u64 = 24 * 60 * MINUTE;
const BODIES: &str = "select count(*) from body";
const PRUNED: &str = "select count(*) from record where pruned and body is null";

fn dot_ref(dot: &Dot) -> DotRef {
    dot.to_string().parse().unwrap()
}

/// Puts contents one after the other, a minute apart.
async fn put_each(site: &Site, file: &FileId, contents: &[&str]) -> Vec<Dot> {
    let mut dots = Vec::new();
    for content in contents {
        dots.push(site.put(file, content).await.dot.unwrap());
        site.clock.advance(MINUTE);
    }
    dots
}

/// The contents of a file's versions, oldest first; none where one was pruned.
async fn contents(site: &Site, file: &FileId) -> Vec<Option<String>> {
    let mut contents = Vec::new();
    for entry in site.store.versions(file, None, 1000).await.unwrap().into_iter().rev() {
        let content = match site.store.version(file, Some(&dot_ref(&entry.dot))).await {
            Ok((_, content)) => {
                assert!(!entry.pruned);
                Some(String::from_utf8(content.unwrap().to_vec()).unwrap())
            }
            Err(StoreError::BodyGone(dot)) => {
                assert!(entry.pruned && dot == entry.dot);
                None
            }
            Err(error) => panic!("{error:?}"),
        };
        contents.push(content);
    }
    contents
}

fn some(contents: &[&str]) -> Vec<Option<String>> {
    contents.iter().map(|c| (!c.is_empty()).then(|| (*c).to_owned())).collect()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn while_the_clock_is_not_trusted_nothing_is_dropped_however_old_it_seems(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    put_each(&site, &file_of(1), &["a", "b"]).await;
    site.clock.advance(4000 * DAY);
    site.store.trust_clock(false);
    prune_all(&site.store, &NOTHING).await;
    assert_eq!(contents(&site, &file_of(1)).await, some(&["a", "b"]));

    site.store.trust_clock(true);
    prune_all(&site.store, &NOTHING).await;
    assert_eq!(contents(&site, &file_of(1)).await, some(&["", "b"]));
    site.close().await;
}

/// Law 2.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn retention_drops_bodies_and_never_a_place_in_the_log(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    put_each(&site, &file_of(1), &["a", "b", "c"]).await;
    site.remove(&file_of(1)).await;
    put_each(&site, &file_of(1), &["d"]).await;
    let records = "select count(*) from record where payload is not null";
    let before = number(&site.pool, records).await;
    let pruned = site.prune(&NOTHING).await;
    assert_eq!(pruned, Pruned { versions: 3, bodies: 3, more: false });
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("d")));
    let versions = site.store.versions(&file_of(1), None, 9).await.unwrap();
    assert_eq!(versions.iter().filter(|entry| entry.pruned).count(), 3);
    assert_eq!(number(&site.pool, records).await, before);
    assert_eq!((number(&site.pool, BODIES).await, number(&site.pool, PRUNED).await), (1, 3));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 5);
    assert_eq!(site.prune(&NOTHING).await, Pruned::default());
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn bursts_that_differ_in_call_log_only_are_thinned_after_a_day(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(1);
    let written = ["ines;1", "ines;2", "mia;2", "mia;3", "mia;4", "mia;5"];
    put_each(&site, &file, &written).await;
    let by_default = pruning(Retention::default());
    site.clock.set(FIRST_MICROS + DAY - 1);
    prune_all(&site.store, &by_default).await;
    assert_eq!(contents(&site, &file).await, some(&written));
    site.clock.set(FIRST_MICROS + DAY + 4 * MINUTE);
    prune_all(&site.store, &by_default).await;
    assert_eq!(contents(&site, &file).await, some(&["", "ines;2", "", "", "", "mia;5"]));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn heads_and_the_ancestors_of_open_heads_stay_whatever_the_policy(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (file, mut tokyo) = (file_of(1), Origin::new("tokyo", 7));
    let dots = put_each(&site, &file, &["ancestor", "passed over", "mine"]).await;
    let mut theirs: Version = version_of(&file, b"theirs", FIRST_MICROS - 5);
    theirs.context.add(&dots[0]);
    tokyo.add_body(b"theirs");
    tokyo.version(&theirs, 0);
    site.store.apply(&tokyo.batch()).await.unwrap();
    site.prune(&NOTHING).await;
    assert_eq!(contents(&site, &file).await, some(&["theirs", "ancestor", "", "mine"]));
    // A phone of which nothing is remembered ends the conflict, and with it what it held.
    site.put_by(9, &file, "both").await;
    site.prune(&NOTHING).await;
    assert_eq!(contents(&site, &file).await, some(&["", "", "", "", "both"]));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_stays_as_long_as_any_version_of_any_file_needs_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for n in [1, 2] {
        put_each(&site, &file_of(n), &["shared"]).await;
    }
    put_each(&site, &file_of(1), &["own"]).await;
    let pruned = site.prune(&NOTHING).await;
    assert_eq!((pruned.versions, pruned.bodies), (1, 0));
    assert_eq!(site.get(&file_of(2)).await, Some(Bytes::from("shared")));
    put_each(&site, &file_of(2), &["own"]).await;
    let pruned = site.prune(&NOTHING).await;
    assert_eq!((pruned.versions, pruned.bodies), (1, 1));
    assert_eq!(number(&site.pool, BODIES).await, 1);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_history_longer_than_one_look_is_judged_whole(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let count = RETENTION_VERSIONS_MAX as usize * 2 + 3;
    let written: Vec<String> = (0..count).map(|n| format!("ines;{n}")).collect();
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    put_each(&site, &file_of(1), &written).await;
    site.clock.set(FIRST_MICROS + 9 * DAY);
    prune_all(&site.store, &pruning(Retention::default())).await;
    // The last of each quarter of an hour, of which there are fifteen minutes.
    let kept = contents(&site, &file_of(1)).await.into_iter().flatten().collect::<Vec<_>>();
    let expected: Vec<&str> =
        (0..count).filter(|n| n % 15 == 14 || n + 1 == count).map(|n| written[n]).collect();
    assert_eq!(kept, expected);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_pass_goes_on_where_the_last_turn_of_any_process_ended_and_then_rests(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let files: Vec<_> = (0..RETENTION_FILES_MAX as usize + 3)
        .map(|n| (file_of(n), format!("{n}").into_bytes()))
        .collect();
    for answer in site.commit_together(&files).await {
        answer.unwrap();
    }
    join_all(files.iter().map(|(file, _)| site.put(file, "next"))).await;
    let twin = Site::open("london", &database).await;
    let resting = Pruning { rest: Duration::from_hours(1), ..NOTHING };
    let first = site.prune(&resting).await;
    assert_eq!((first.versions, first.more), (u64::from(RETENTION_FILES_MAX), true));
    let second = twin.prune(&resting).await;
    assert_eq!((second.versions, second.more), (3, false));
    site.put(&file_of(1), "last").await;
    assert_eq!(site.prune(&resting).await, Pruned::default());
    site.pool.execute("update job set due_at = now()").await.unwrap();
    assert_eq!(site.prune(&resting).await.versions, 1);
    site.close().await;
    twin.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_turn_is_taken_over_from_a_process_that_died_and_from_no_other(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    put_each(&site, &file_of(1), &["a", "b"]).await;
    let held = "insert into job values ('retention', 7, now() + interval '1 h', now())";
    site.pool.execute(held).await.unwrap();
    assert_eq!(site.prune(&NOTHING).await, Pruned::default());
    site.pool.execute("update job set leased_until = now()").await.unwrap();
    assert_eq!(site.prune(&NOTHING).await.versions, 1);
    assert_eq!(number(&site.pool, "select fence from job").await, 8);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_damaged_file_keeps_its_bodies_and_holds_up_no_other(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for n in 1..=3 {
        put_each(&site, &file_of(n), &[&format!("{n} a"), &format!("{n} b")]).await;
    }
    let damage = "update file set checksum = sha256('x') where name = '2_16xxdata.txt'";
    site.pool.execute(damage).await.unwrap();
    assert_eq!(site.prune(&NOTHING).await.versions, 2);
    assert_eq!(number(&site.pool, BODIES).await, 4);
    site.close().await;
}

async fn prune_until(site: &Site, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        site.prune(&NOTHING).await;
    }
}

const GONE: &str = "select (count(*) = 0)::int::bigint from body where bytes = 8";

/// All at once put the same body to files of their own, find it served, and supersede it, while two
/// processes drop whatever is superseded; the next turn begins when the body itself is gone.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn no_body_is_lost_that_sixteen_writers_write_while_it_is_dropped(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let sites = join_all([0; 4].map(|_| Site::open("london", &database))).await;
    let (stop, all) = (CancellationToken::new(), Barrier::new(16));
    let writers = (0..16).map(async |n| {
        let (site, file) = (&sites[n % sites.len()], file_of(n));
        for turn in 0..15 {
            site.put(&file, "the same").await;
            assert_eq!(site.get(&file).await, Some(Bytes::from("the same")), "{n} {turn}");
            site.put(&file, format!("own of {n} in {turn}")).await;
            all.wait().await;
            if turn % 3 == 0 {
                until("it is gone", async || number(&site.pool, GONE).await == 1).await;
            }
        }
        site.put(&file, "the same").await;
    });
    let writing = async {
        join_all(writers).await;
        stop.cancel();
    };
    tokio::join!(writing, prune_until(&sites[0], &stop), prune_until(&sites[1], &stop));
    for n in 0..16 {
        assert_eq!(sites[0].get(&file_of(n)).await, Some(Bytes::from("the same")));
    }
    // Its clock may be behind that of the other, whose versions are then from the future.
    sites[0].clock.advance(DAY);
    sites[0].prune(&NOTHING).await;
    assert_eq!(number(&sites[0].pool, BODIES).await, 1, "and what nobody needs is gone");
    assert_eq!(number(&sites[0].pool, "select count(*) from dropped_body").await, 0);
    verify_logs(&sites[0].store, &sites[0].pool).await;
    for site in sites {
        site.close().await;
    }
}

/// Deletes the body, once, between the moment a writer finds it and the moment its record is checked, as
/// where retention commits just then. Triggers fire in the order of their names.
const DELETED_MEANWHILE: &str = r#"
    create sequence meanwhile;
    create function delete_body() returns trigger language plpgsql as $$
    begin
        if nextval('meanwhile') = 1 then
            -- Without a look at the references, which another transaction would not see either.
            perform set_config('session_replication_role', 'replica', true);
            delete from body where sha256 = new.body;
            perform set_config('session_replication_role', 'origin', true);
        end if;
        return null;
    end $$;
    create trigger "A" after insert on record for each row execute function delete_body()"#;

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_writer_whose_body_is_deleted_before_its_record_is_checked_writes_it_again(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    // A body without any reference, as between dropping and deleting.
    site.put(&file_of(1), "the same").await;
    site.pool.execute("update record set body = null, pruned = true").await.unwrap();
    sqlx::raw_sql(DELETED_MEANWHILE).execute(&site.pool).await.unwrap();
    site.put(&file_of(2), "the same").await;
    assert_eq!(number(&site.pool, "select last_value from meanwhile").await, 2);
    assert_eq!(site.get(&file_of(2)).await, Some(Bytes::from("the same")));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 2);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_somebody_is_just_referencing_is_passed_over_and_not_waited_for(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    put_each(&site, &file_of(1), &["the same", "b"]).await;
    let mut other = database.connect().await.unwrap();
    other.execute("begin").await.unwrap();
    let hash = Sha256::of(b"the same");
    let reference = "insert into record (log, sequence, envelope, chain, body)
                     values (99, 1, '', $1, $1)";
    sqlx::query(reference).bind(hash.as_bytes()).execute(&mut other).await.unwrap();
    let pruned = tokio::time::timeout(Duration::from_secs(5), site.prune(&NOTHING)).await;
    assert_eq!(pruned.unwrap(), Pruned { versions: 1, bodies: 0, more: false });
    other.execute("commit").await.unwrap();
    assert_eq!(site.prune(&NOTHING).await.bodies, 0);
    assert_eq!(number(&site.pool, BODIES).await, 2);
    assert_eq!(number(&site.pool, "select count(*) from dropped_body").await, 0);
    other.close().await.unwrap();
    site.close().await;
}
