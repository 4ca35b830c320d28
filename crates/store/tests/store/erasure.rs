//! Erasure: nothing of a subject is left but places in logs, whatever comes in which order.

use std::collections::BTreeSet;

use bruri_domain::{FileId, LogId, LogKind, Sha256, SiteName};
use bruri_store::{ErasureEntry, Outcome, StoreError};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{
    Origin, Site, Twin, file, file_of, found_in, key, mark_of, number, pull, pull_log, verify_logs,
    version_of,
};

fn subject(file: &FileId) -> Sha256 {
    key().subject_hash(file.subject())
}

async fn erase(site: &Site, file: &FileId) {
    site.store.erase(subject(file), rand::random(), "uid 0").await.unwrap();
}

async fn lift(site: &Site, file: &FileId) {
    site.store.lift(subject(file), rand::random(), "uid 0").await.unwrap();
}

/// What would tell of an extension and of these bodies, but for the subject's hash.
fn traces(extension: &str, bodies: &[&str]) -> Vec<String> {
    let hashes = bodies.iter().map(|body| Sha256::of(body.as_bytes()).to_string());
    hashes
        .chain(bodies.iter().map(|&body| body.to_owned()))
        .chain([format!("{extension}_")])
        .collect()
}

async fn log_of(site: &Site, kind: LogKind) -> LogId {
    let vector = site.store.vector().await.unwrap();
    let own = |log: &LogId| site.store.appends_to(log);
    vector.into_iter().find(|at| at.log.kind == kind && own(&at.log.id)).unwrap().log.id
}

async fn the_erasure(site: &Site, file: &FileId) -> ErasureEntry {
    let mut entries = site.store.erasures(Some(subject(file)), 9).await.unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// Laws 2 and 7.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_erasure_leaves_nothing_of_its_subject_but_places_in_the_log(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (one, two, other) = (file_of(299), file("299_96xxdata.txt"), file_of(300));
    for (file, content) in
        [(&one, "old words"), (&one, "new words"), (&two, "more words"), (&other, "new words")]
    {
        site.put(file, content).await;
    }
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.backup(&one, b"their words", 1);
    site.store.apply(&tokyo.batch()).await.unwrap();
    site.get_by(1, &one).await;
    site.store.write_remembered().await.unwrap();
    let traces = traces("299", &["old words", "more words", "their words"]);
    assert!(found_in(&site.pool, &traces).await.len() > 8);

    erase(&site, &one).await;
    site.store.give_receipts().await.unwrap();

    assert_eq!(found_in(&site.pool, &traces).await, Vec::<String>::new());
    for file in [&one, &two] {
        assert_eq!(site.get(file).await, None);
        assert!(matches!(site.store.rebuild(file).await, Ok(false)));
    }
    assert_eq!(site.get(&other).await.as_deref(), Some(&b"new words"[..]));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 4 + 1 + 2);
    let entry = the_erasure(&site, &one).await;
    let [receipt] = entry.receipts.as_slice() else { panic!("{entry:?}") };
    assert_eq!((receipt.versions, receipt.bodies), (4, 4));
    let missing: Vec<&str> = entry.missing.iter().map(SiteName::as_str).collect();
    assert_eq!((entry.generation, missing, entry.lifted), (1, vec!["tokyo"], None));
    site.close().await;
}

/// Law 7.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_barred_subject_is_refused_until_it_is_lifted_and_leaves_no_name(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (erased, other) = (file_of(299), file_of(300));
    site.put(&erased, "old words").await;
    erase(&site, &erased).await;
    for file in [&erased, &file("299_96xxdata.txt")] {
        let refused = site.commit(file, Some(b"still logged in")).await;
        assert!(matches!(refused, Err(StoreError::Barred)), "{refused:?}");
        assert_eq!(site.remove(file).await.outcome, Outcome::NotThere);
        assert_eq!(site.get_by(1, file).await, None);
    }
    site.store.write_remembered().await.unwrap();
    site.store.give_receipts().await.unwrap();
    let traces = traces("299", &["old words", "still logged in"]);
    assert_eq!(found_in(&site.pool, &traces).await, Vec::<String>::new());
    site.put(&other, "not concerned").await;
    let lift_other = site.store.lift(subject(&other), rand::random(), "uid 0").await;
    assert!(matches!(lift_other, Err(StoreError::NotBarred)), "{lift_other:?}");

    lift(&site, &erased).await;
    site.put(&erased, "new").await;
    assert_eq!(site.get(&erased).await.as_deref(), Some(&b"new"[..]));
    let entries = site.store.files("", None, 9).await.unwrap();
    let generations: Vec<u64> = entries.iter().map(|entry| entry.state.generation()).collect();
    assert_eq!(generations, [1, 0]);
    assert!(matches!(site.store.rebuild(&erased).await, Ok(false)));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_lift_does_not_lift_an_erasure_that_it_did_not_know(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    let file = file_of(299);
    erase(&london, &file).await;
    erase(&tokyo, &file).await;
    lift(&london, &file).await;
    london.put(&file, "a").await;
    pull(&london.store, &tokyo.store).await;
    pull(&tokyo.store, &london.store).await;
    for site in [&london, &tokyo] {
        assert_eq!(site.get(&file).await.as_deref(), Some(&b"a"[..]), "of the new generation");
        let refused = site.commit(&file, Some(b"b")).await;
        assert!(matches!(refused, Err(StoreError::Barred)), "{refused:?}");
    }
    lift(&tokyo, &file).await;
    pull(&tokyo.store, &london.store).await;
    london.put(&file, "b").await;
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

/// Laws 4 and 7. London backed up before it heard of Tokyo's erasure, and Tokyo's user came back after it.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn whatever_order_an_erasure_and_versions_come_in_the_same_is_left(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    let file = file_of(299);
    london.put(&file, "before").await;
    pull(&london.store, &tokyo.store).await;
    erase(&tokyo, &file).await;
    tokyo.store.give_receipts().await.unwrap();
    london.put(&file, "not heard of it").await;
    lift(&tokyo, &file).await;
    tokyo.put(&file, "after").await;
    let (files, erasure, after) = (
        log_of(&london, LogKind::Files).await,
        log_of(&tokyo, LogKind::Control).await,
        log_of(&tokyo, LogKind::Files).await,
    );
    let old = traces("299", &["before", "not heard of it"]);
    let old = &old[..4];
    let mut states = BTreeSet::new();
    for (number, order) in (2..).zip([
        [&files, &erasure, &after],
        [&files, &after, &erasure],
        [&erasure, &files, &after],
        [&erasure, &after, &files],
        [&after, &files, &erasure],
        [&after, &erasure, &files],
    ]) {
        let third = Twin::create(&database, number).await;
        let paris = Site::open("paris", &third.options).await;
        for log in order {
            let from = if log.site.as_str() == "london" { &london } else { &tokyo };
            pull_log(&from.store, &paris.store, log).await;
        }
        paris.store.give_receipts().await.unwrap();
        assert_eq!(paris.get(&file).await.as_deref(), Some(&b"after"[..]), "{order:?}");
        assert_eq!(found_in(&paris.pool, old).await, Vec::<String>::new(), "{order:?}");
        let entries = paris.store.files("", None, 9).await.unwrap();
        let of_file: Vec<_> = entries.iter().map(|entry| &entry.state).collect();
        states.insert(format!("{of_file:?}"));
        assert!(matches!(paris.store.rebuild(&file).await, Ok(false)), "{order:?}");
        assert_eq!(number_of_payloads(&paris).await, 1, "{order:?}");
        paris.close().await;
        third.drop_it().await;
    }
    assert_eq!(states.len(), 1, "{states:?}");
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

async fn number_of_payloads(site: &Site) -> i64 {
    number(&site.pool, "select count(payload) from record where name is not null").await
}

/// Law 7. What London acknowledged before it heard of the erasure is erased with the rest, and its receipt counts
/// it; a copy without payload is all that others get of it.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_was_written_elsewhere_meanwhile_is_erased_and_counted_there(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    let file = file_of(299);
    london.put(&file, "before").await;
    pull(&london.store, &tokyo.store).await;
    erase(&tokyo, &file).await;
    london.put(&file, "meanwhile").await;
    for _ in 0..2 {
        pull(&tokyo.store, &london.store).await;
        london.store.give_receipts().await.unwrap();
        tokyo.store.give_receipts().await.unwrap();
        pull(&london.store, &tokyo.store).await;
    }
    for site in [&london, &tokyo] {
        let left = found_in(&site.pool, &traces("299", &["before", "meanwhile"])).await;
        assert_eq!(left, Vec::<String>::new());
        let entry = the_erasure(site, &file).await;
        let receipts = entry.receipts.iter().map(|r| (r.site.as_str(), r.versions, r.bodies));
        assert_eq!(receipts.collect::<Vec<_>>(), [("london", 2, 2), ("tokyo", 1, 1)]);
        assert!(entry.missing.is_empty(), "{entry:?}");
        assert_eq!(verify_logs(&site.store, &site.pool).await, 2 + 3);
    }
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

/// Law 7: a peer that does not know of the erasure yet sends it whole.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_what_comes_later_under_an_older_generation_only_the_place_is_kept(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    erase(&site, &file).await;
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.backup(&file, b"late", 1);
    tokyo.backup(&file_of(300), b"other", 2);
    site.store.apply(&tokyo.batch()).await.unwrap();
    tokyo.add_body(b"again");
    tokyo.version(&version_of(&file, b"again", 3), 1);
    assert_eq!(site.get(&file).await, None);
    let left = found_in(&site.pool, &traces("299", &["late"])).await;
    assert_eq!(left, Vec::<String>::new());
    site.store.apply(&tokyo.batch()).await.unwrap();
    assert_eq!(site.get(&file).await.as_deref(), Some(&b"again"[..]), "of the new generation");
    assert_eq!(site.get(&file_of(300)).await.as_deref(), Some(&b"other"[..]));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 3 + 1);
    site.close().await;
}

/// Law 7, with phones that write while it is erased, most of them files that were not there before.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn no_writer_slips_past_an_erasure_that_is_under_way(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, second) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    let files: Vec<FileId> = (0..40).map(|n| file(&format!("299_{n}xxdata.txt"))).collect();
    let write = async |site: &Site, file: &FileId| {
        for n in 0..1000 {
            match site.commit(file, Some(format!("words {n}").as_bytes())).await {
                Ok(_) => {}
                Err(StoreError::Barred) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("never refused");
    };
    let writers = files.iter().zip([&site, &second].into_iter().cycle());
    let writers = join_all(writers.map(|(file, site)| write(site, file)));
    let erasing = async {
        while number(&site.pool, "select count(*) from record").await < 60 {
            tokio::task::yield_now().await;
        }
        erase(&second, &files[0]).await;
    };
    tokio::join!(writers, erasing);
    for site in [&site, &second] {
        site.store.write_remembered().await.unwrap();
        site.store.give_receipts().await.unwrap();
    }
    let left = found_in(&site.pool, &["299_".to_owned()]).await;
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(number(&site.pool, "select count(*) from body").await, 0);
    verify_logs(&site.store, &site.pool).await;
    let receipts = "select count(*) from control_place";
    assert_eq!(number(&site.pool, receipts).await, 2, "an erasure and its receipt");
    site.close().await;
    second.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_another_process_remembers_of_an_erased_file_is_not_written(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, second) =
        (Site::open("london", &database).await, Site::open_idle("london", &database).await);
    let file = file_of(299);
    site.put(&file, "old").await;
    let served = second.lookup.served(&file).await.unwrap();
    second.store.remember(mark_of(1, &file), served.remembered);
    erase(&site, &file).await;
    lift(&site, &file).await;
    second.store.write_remembered().await.unwrap();
    assert_eq!(number(&site.pool, "select count(*) from remembered").await, 0);
    site.close().await;
    second.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn however_many_processes_a_site_gives_one_receipt(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, second) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    for extension in 1..6 {
        erase(&site, &file_of(extension)).await;
    }
    let given = join_all([&site, &second, &site, &second].map(|site| site.store.give_receipts()));
    let given: u64 = given.await.into_iter().map(Result::unwrap).sum();
    assert_eq!(given, 5);
    assert_eq!(number(&site.pool, "select count(*) from erasure_receipt").await, 5);
    assert_eq!(verify_logs(&site.store, &site.pool).await, 10);
    site.close().await;
    second.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn files_of_a_release_that_did_not_note_subjects_are_found_all_the_same(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (first, then) = (file_of(299), file_of(300));
    site.put(&first, "one").await;
    site.put(&then, "two").await;
    let forget = "update file set subject = null";
    sqlx::query(forget).execute(&site.pool).await.unwrap();
    erase(&site, &first).await;
    assert_eq!(site.get(&first).await, None);
    site.close().await;
    let site = Site::open("london", &database).await;
    let unknown = "select count(*) from file where subject is null";
    assert_eq!(number(&site.pool, unknown).await, 0);
    erase(&site, &then).await;
    assert_eq!(number(&site.pool, "select count(*) from file").await, 0);
    site.close().await;
}

/// Law 7: the first backup of a file, and the erasure of its subject at the same moment.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_that_is_just_being_made_does_not_escape_its_erasure(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, second) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    for extension in 1..=100 {
        let file = file_of(extension);
        let (put, ()) = tokio::join!(site.commit(&file, Some(b"words")), erase(&second, &file));
        assert!(matches!(put, Ok(_) | Err(StoreError::Barred)), "{put:?}");
    }
    assert_eq!(number(&site.pool, "select count(*) from file").await, 0);
    assert_eq!(number_of_payloads(&site).await, 0);
    site.close().await;
    second.close().await;
}

/// Law 7: a peer that has not heard of the erasure is asked by a reader of that generation, and tells nothing.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_erased_file_without_a_row_is_read_in_the_generation_of_its_subject(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (file, other) = (file_of(1), file_of(2));
    site.put(&file, "of somebody").await;
    let before = site.store.known_of(&file).await.unwrap();

    erase(&site, &file).await;

    let served = site.lookup.served(&file).await.unwrap();
    assert!(served.version.is_none());
    assert_eq!(served.state.joined(&before), served.state);
    assert!(site.store.known_of(&file).await.unwrap().is_news_to(0, before.context()));
    assert_eq!(site.lookup.served(&other).await.unwrap().state.generation(), 0);
    site.close().await;
}
