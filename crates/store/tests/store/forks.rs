//! A log that forked: the branch that peers hold stays, and what only the void branch held is kept.

use std::collections::BTreeSet;

use bruri_domain::{Cursor, DotRef, FileId, LogKind, fork::Parting};
use bruri_store::{ApplyError, Standing, StoreError};
use sqlx::{
    AssertSqlSafe, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Site, Twin, dump, file_of, next_batch, number, pull, pull_own, verify_logs};

/// London, and Tokyo that has all of its log before London's database was put back.
pub(crate) struct Scene {
    pub(crate) london: Site,
    pub(crate) tokyo: Site,
    twin: Twin,
    /// Where the branches part.
    pub(crate) common: Cursor,
}

/// London's file 1 is of before; files 2 and 3 are of the branch that Tokyo holds; 4 and 5 of that which
/// London wrote after the dump was put back, without witness.
pub(crate) async fn forked(database: &PgConnectOptions) -> Scene {
    let scene = gone_back(database).await;
    for text in ["four", "four again", "four at last"] {
        scene.london.put(&file_of(4), text).await;
    }
    scene.london.put(&file_of(5), "five").await;
    scene.london.remove(&file_of(5)).await;
    scene
}

/// Before London has written anything else.
async fn gone_back(database: &PgConnectOptions) -> Scene {
    let twin = Twin::create(database, 1).await;
    let (london, tokyo) =
        (Site::open("london", database).await, Site::open("tokyo", &twin.options).await);
    london.put(&file_of(1), "before").await;
    let common = log_of(&london, None).await;
    london.put(&file_of(2), "two").await;
    london.put(&file_of(3), "three").await;
    pull(&london.store, &tokyo.store).await;
    put_back(&london, &common).await;
    london.close().await;
    let london = Site::open("london", database).await;
    Scene { london, tokyo, twin, common }
}

/// The site's open log of files, or the one like that.
pub(crate) async fn log_of(site: &Site, like: Option<&Cursor>) -> Cursor {
    let vector = site.store.vector().await.unwrap();
    let is_it = |at: &&Cursor| match like {
        Some(like) => at.log.id == like.log.id,
        None => at.log.kind == LogKind::Files && site.store.appends_to(&at.log.id),
    };
    vector.iter().find(is_it).unwrap().clone()
}

/// As a dump of then would have it.
async fn put_back(site: &Site, to: &Cursor) {
    for statement in [
        "delete from record where sequence > 1".to_owned(),
        format!("update log set sequence = 1, chain = '\\x{}' where kind = 2", to.chain),
        "delete from file where name <> '1_16xxdata.txt'".to_owned(),
    ] {
        site.pool.execute(AssertSqlSafe(statement)).await.unwrap();
    }
}

pub(crate) async fn versions(site: &Site, file: &FileId) -> usize {
    site.store.versions(file, None, 9).await.map_or(0, |versions| versions.len())
}

/// London is told what Tokyo has, and gives way.
pub(crate) async fn give_way(scene: &Scene) {
    let theirs = log_of(&scene.tokyo, Some(&scene.common)).await;
    let forked = scene.london.store.peer_has(&[theirs]).await.unwrap();
    assert_eq!(forked.first(), Some(&scene.common.log.id));
    scene.london.store.set_back(&parting(scene).await).await.unwrap();
}

/// Tokyo's branch stays.
async fn parting(scene: &Scene) -> Parting {
    let next = Cursor { sequence: scene.common.sequence + 1, ..scene.common.clone() };
    let stays = scene.tokyo.store.chain_at(&next).await.unwrap().unwrap();
    Parting { common: scene.common.clone(), stays }
}

pub(crate) async fn end(scene: Scene) {
    scene.london.close().await;
    scene.tokyo.close().await;
    scene.twin.drop_it().await;
}

/// Law 6: both branches have a second version, which a context can only call by that number.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_was_written_with_knowledge_of_one_branch_hides_nothing_of_the_other(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = gone_back(&database).await;
    let Scene { london, tokyo, common, .. } = &scene;
    let file = file_of(2);
    london.put_by(1, &file, "of the branch that gives way").await;
    let theirs = log_of(tokyo, Some(common)).await;
    london.store.peer_has(&[theirs]).await.unwrap();
    // Before it is known where the branches part.
    london.put_by(1, &file, "knows the one before").await;
    london.store.set_back(&parting(&scene).await).await.unwrap();
    pull_own(&tokyo.store, &london.store).await;
    pull(&london.store, &tokyo.store).await;
    for site in [london, tokyo] {
        let (entries, mut heads) = (site.store.files("", None, 9).await.unwrap(), Vec::new());
        let entry = entries.iter().find(|entry| entry.file == file).unwrap();
        for head in entry.state.heads() {
            let dot = head.dot.to_string().parse().unwrap();
            let (_, content) = site.store.version(&file, Some(&dot)).await.unwrap();
            heads.push(String::from_utf8(content.unwrap().to_vec()).unwrap());
        }
        heads.sort();
        assert!(heads.contains(&"two".to_owned()), "{heads:?}");
        assert!(heads.contains(&"knows the one before".to_owned()), "{heads:?}");
        assert!(!site.store.rebuild(&file).await.unwrap());
        verify_logs(&site.store, &site.pool).await;
    }
    end(scene).await;
}

/// Law 1.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_origin_gives_way_appends_its_branch_again_and_loses_nothing(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let Scene { london, tokyo, common, .. } = &scene;
    let randoms = "select count(distinct payload) from record where name is not null";
    let before = number(&london.pool, randoms).await;

    give_way(&scene).await;

    assert_eq!(log_of(london, Some(common)).await, *common);
    assert_eq!(log_of(london, None).await.sequence, 5);
    assert_eq!(number(&london.pool, randoms).await, before);
    pull_own(&tokyo.store, &london.store).await;
    pull(&london.store, &tokyo.store).await;
    for site in [london, tokyo] {
        for (n, expected) in [
            (1, Some("before")),
            (2, Some("two")),
            (3, Some("three")),
            (4, Some("four at last")),
            (5, None),
        ] {
            let got = site.get(&file_of(n)).await;
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{n}");
        }
        assert_eq!((versions(site, &file_of(4)).await, versions(site, &file_of(5)).await), (3, 2));
        let conflicts = site.store.files("", None, 9).await.unwrap();
        assert!(conflicts.iter().all(|entry| entry.state.heads().len() == 1), "{conflicts:?}");
        // Eight versions, two of them once more under numbers of their own, and which branch stays.
        assert_eq!(verify_logs(&site.store, &site.pool).await, 11);
    }
    let vectors = [london.store.vector().await.unwrap(), tokyo.store.vector().await.unwrap()];
    let grown = |vector: &Vec<Cursor>| {
        vector.iter().filter(|at| at.sequence > 0).cloned().collect::<Vec<_>>()
    };
    assert_eq!(grown(&vectors[0]), grown(&vectors[1]));
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_was_written_again_is_listed_once_also_page_by_page(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    give_way(&scene).await;
    pull_own(&scene.tokyo.store, &scene.london.store).await;
    let store = &scene.london.store;
    let rows = "select count(*) from record where name is not null";
    assert_eq!(number(&scene.london.pool, rows).await, 10, "eight, two of them once more");

    for length in [1, 2, 9] {
        let mut listed = Vec::new();
        for n in 1..6 {
            let (file, mut after): (_, Option<DotRef>) = (file_of(n), None);
            loop {
                let page = store.versions(&file, after.as_ref(), length).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(DotRef::from(&last.dot));
                listed.extend(page.into_iter().map(|entry| (entry.version.random, entry.standing)));
            }
        }
        let randoms: BTreeSet<_> = listed.iter().map(|(random, _)| *random).collect();
        assert_eq!((listed.len(), randoms.len()), (8, 8), "in pages of {length}");
        let served = listed.iter().filter(|(_, standing)| *standing == Standing::Served).count();
        assert_eq!(served, 5, "in pages of {length}");
    }
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_site_that_pulled_the_void_branch_goes_back_and_gets_all_from_the_origin(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let twin = Twin::create(&database, 2).await;
    let paris = Site::open("paris", &twin.options).await;
    pull(&scene.london.store, &paris.store).await;
    assert_eq!(paris.get(&file_of(4)).await.unwrap(), "four at last");
    give_way(&scene).await;
    pull_own(&scene.tokyo.store, &scene.london.store).await;

    paris.store.set_back(&parting(&scene).await).await.unwrap();
    assert_eq!(paris.get(&file_of(4)).await, None);
    pull(&scene.london.store, &paris.store).await;

    for n in 1..6 {
        assert_eq!(paris.get(&file_of(n)).await, scene.london.get(&file_of(n)).await, "{n}");
    }
    assert_eq!(verify_logs(&paris.store, &paris.pool).await, 11);
    assert_eq!(versions(&paris, &file_of(4)).await, 3);
    paris.close().await;
    twin.drop_it().await;
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_log_is_set_back_once_and_only_where_it_is_closed_and_has_that_place(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let Scene { london, common, .. } = &scene;
    let before = dump(&london.pool).await;
    let refused = london.store.set_back(&parting(&scene).await).await;
    assert!(matches!(refused, Err(StoreError::NotThere(_))), "it is open: {refused:?}");
    let theirs = log_of(&scene.tokyo, Some(common)).await;
    let elsewhere =
        london.store.set_back(&Parting { common: theirs.clone(), stays: theirs.chain }).await;
    assert!(matches!(elsewhere, Err(StoreError::NotThere(_))), "{elsewhere:?}");
    assert_eq!(dump(&london.pool).await, before);

    give_way(&scene).await;

    let before = dump(&london.pool).await;
    let again = london.store.set_back(&parting(&scene).await).await;
    assert!(matches!(again, Err(StoreError::NotThere(_))), "{again:?}");
    // From now on what it holds stays.
    let other = Cursor { sequence: 1, chain: theirs.chain, ..common.clone() };
    assert!(london.store.peer_has(&[other]).await.unwrap().is_empty());
    assert_eq!(dump(&london.pool).await, before);
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_appended_again_carries_the_same_random_bits_and_no_void_dot(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let london = &scene.london;
    let all = |entries: Vec<bruri_store::VersionEntry>| -> BTreeSet<[u8; 16]> {
        entries.iter().map(|entry| entry.version.random).collect()
    };
    let before = all(london.store.versions(&file_of(4), None, 9).await.unwrap());

    give_way(&scene).await;

    let entries = london.store.versions(&file_of(4), None, 9).await.unwrap();
    let new = log_of(london, None).await.log.id;
    for (entry, expected) in entries.iter().zip([2_u64, 1, 0]) {
        assert_eq!(entry.dot.log, new);
        let (mut dots, common) = (0, (&scene.common.log.id, 1));
        for (log, seen) in entry.version.context.logs() {
            assert!(*log == new || (log, seen.upto()) == common, "{log}");
            assert!(*log == new || seen.dots().count() == 0);
            dots += if *log == new { seen.upto() + seen.dots().count() as u64 } else { 0 };
        }
        assert_eq!(dots, expected, "{}", entry.dot);
    }
    assert_eq!(all(entries), before);
    end(scene).await;
}

/// Law 1: the branch that stays may be nowhere else than at the site that is asked last.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_void_branch_is_not_taken_back_from_a_peer_that_has_not_heard_of_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let twin = Twin::create(&database, 2).await;
    let paris = Site::open("paris", &twin.options).await;
    pull(&scene.london.store, &paris.store).await;
    give_way(&scene).await;
    let void = next_batch(&paris.store, &scene.london.store, &scene.common.log.id).await.unwrap();

    let refused = scene.london.store.apply(&void).await;

    assert!(matches!(refused, Err(ApplyError::VoidBranch(_))), "{refused:?}");
    assert_eq!(log_of(&scene.london, Some(&scene.common)).await, scene.common);
    pull_own(&scene.tokyo.store, &scene.london.store).await;
    assert_eq!(scene.london.get(&file_of(3)).await.unwrap(), "three");
    paris.close().await;
    twin.drop_it().await;
    end(scene).await;
}

/// Law 6: what a phone writes is served, also where the database lost numbers that another site has seen.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_number_that_somebody_has_seen_is_not_given_again(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    london.put(&file_of(1), "before").await;
    let common = log_of(&london, None).await;
    london.put(&file_of(2), "two").await;
    london.put(&file_of(2), "lost").await;
    pull(&london.store, &tokyo.store).await;
    tokyo.put(&file_of(2), "of tokyo, who saw what was lost").await;
    put_back(&london, &common).await;
    london.close().await;
    let london = Site::open("london", &database).await;
    // The log of the writer is heard of before what it had seen.
    pull(&tokyo.store, &london.store).await;

    london.put(&file_of(2), "new").await;

    assert_eq!(london.get(&file_of(2)).await.unwrap(), "new");
    let next = log_of(&london, None).await;
    assert_ne!(next.log.id, common.log.id);
    assert_eq!(next.log.predecessor.map(|p| p.sequence), Some(1));
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}
