//! What a site does that is told of a fork: it drops the branch that gave way, and no state that it copied knows of it.

use bruri_store::{ApplyError, Snapshot, StoreError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    forks::{Scene, end, forked, give_way, log_of, versions},
    kit::{Site, Twin, file_of, next_batch, pull, pull_control, pull_own, verify_logs},
    snapshot::{chunk, fill_all, take, take_all},
};

/// The scene, and Paris that took the states and all history of London's branch from London.
async fn copied(database: &PgConnectOptions) -> (Scene, Site, Twin) {
    let scene = forked(database).await;
    let twin = Twin::create(database, 2).await;
    let paris = Site::open("paris", &twin.options).await;
    take_all(&scene.london.store, &paris.store).await;
    (scene, paris, twin)
}

/// Paris and Tokyo have what there is, and it is the same.
async fn assert_healed(scene: &Scene, paris: &Site) {
    let Scene { london, tokyo, .. } = scene;
    pull_own(&tokyo.store, &london.store).await;
    for from in [tokyo, london] {
        pull(&from.store, &paris.store).await;
    }
    pull(&london.store, &tokyo.store).await;
    for (file, count) in [(1, 1), (2, 1), (3, 1), (4, 3), (5, 2)] {
        let file = file_of(file);
        assert_eq!(versions(paris, &file).await, count, "{file}");
        let ours = paris.store.known_of(&file).await.unwrap();
        assert_eq!(ours, tokyo.store.known_of(&file).await.unwrap(), "{file}");
        assert!(!paris.store.rebuild(&file).await.unwrap(), "{file}");
    }
    verify_logs(&paris.store, &paris.pool).await;
}

async fn leave(scene: Scene, paris: Site, twin: Twin) {
    paris.close().await;
    twin.drop_it().await;
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_site_that_took_the_branch_that_gave_way_from_a_third_one_drops_it_when_the_origin_says_so(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let Scene { london, tokyo, common, .. } = &scene;
    let twin = Twin::create(&database, 2).await;
    // Behind a hub that has London's void branch; and one that has nothing of London yet.
    let paris = Site::open("paris", &twin.options).await;
    pull(&london.store, &paris.store).await;
    assert_eq!(versions(&paris, &file_of(4)).await, 3);

    give_way(&scene).await;
    // Without a word of where the branches part, nothing is dropped.
    assert_eq!(paris.store.drop_void_branches().await.unwrap(), 0);
    pull_control(&london.store, &paris.store).await;

    assert_eq!(paris.store.drop_void_branches().await.unwrap(), 1);
    assert_eq!(log_of(&paris, Some(common)).await, *common);
    assert_eq!(paris.store.drop_void_branches().await.unwrap(), 0);
    pull_own(&tokyo.store, &london.store).await;
    for from in [tokyo, london] {
        pull(&from.store, &paris.store).await;
    }
    assert_eq!(log_of(&paris, Some(common)).await, log_of(tokyo, Some(common)).await);
    assert_healed(&scene, &paris).await;
    paris.close().await;
    twin.drop_it().await;
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_branch_that_gave_way_is_taken_from_nobody_once_the_origin_has_said_so(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let Scene { london, common, .. } = &scene;
    let (hub, twin) = (Twin::create(&database, 2).await, Twin::create(&database, 3).await);
    let berlin = Site::open("berlin", &hub.options).await;
    let paris = Site::open("paris", &twin.options).await;
    pull(&london.store, &berlin.store).await;
    give_way(&scene).await;

    pull_control(&london.store, &paris.store).await;

    let void = next_batch(&berlin.store, &paris.store, &common.log.id).await.unwrap();
    let refused = paris.store.apply(&void).await;
    assert!(matches!(refused, Err(ApplyError::VoidBranch(_))), "{refused:?}");
    assert_eq!(versions(&paris, &file_of(4)).await, 0);
    for site in [berlin, paris] {
        site.close().await;
    }
    hub.drop_it().await;
    twin.drop_it().await;
    end(scene).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_snapshot_that_is_given_up_leaves_what_the_records_say_and_may_begin_anew(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (scene, paris, twin) = copied(&database).await;
    paris.put(&file_of(6), "of Paris").await;
    assert!(!paris.store.snapshot().await.unwrap().gaps.is_empty());

    paris.store.give_snapshot_up().await.unwrap();

    assert_eq!(paris.store.snapshot().await.unwrap(), Snapshot::default());
    assert_eq!(log_of(&paris, Some(&scene.common)).await.sequence, 0);
    for entry in paris.store.files("", None, 9).await.unwrap() {
        assert_eq!(entry.state.is_blank(), entry.file != file_of(6), "{entry:?}");
    }
    take_all(&scene.london.store, &paris.store).await;
    fill_all(&scene.london.store, &paris.store).await;
    for (file, count) in [(1, 1), (4, 3), (5, 2), (6, 1)] {
        assert_eq!(versions(&paris, &file_of(file)).await, count, "{file}");
        assert!(!paris.store.rebuild(&file_of(file)).await.unwrap(), "{file}");
    }
    verify_logs(&paris.store, &paris.pool).await;
    leave(scene, paris, twin).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn no_state_that_came_with_a_snapshot_knows_of_the_branch_that_gave_way(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (scene, paris, twin) = copied(&database).await;
    fill_all(&scene.london.store, &paris.store).await;
    give_way(&scene).await;
    pull_control(&scene.london.store, &paris.store).await;

    assert_eq!(paris.store.drop_void_branches().await.unwrap(), 1);

    for file in [4, 5] {
        let known = paris.store.known_of(&file_of(file)).await.unwrap();
        assert_eq!(known.context().last_of(&scene.common.log.id), 0, "{file}");
    }
    assert_healed(&scene, &paris).await;
    leave(scene, paris, twin).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_fork_that_is_told_in_the_middle_of_a_snapshot_ends_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (scene, paris, twin) = copied(&database).await;
    give_way(&scene).await;
    pull_control(&scene.london.store, &paris.store).await;

    // The void branch is not here: its records were passed over.
    assert_eq!(paris.store.drop_void_branches().await.unwrap(), 0);

    assert_eq!(paris.store.snapshot().await.unwrap(), Snapshot::default());
    assert_eq!(log_of(&paris, Some(&scene.common)).await.sequence, 0);
    assert_healed(&scene, &paris).await;
    leave(scene, paris, twin).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn states_are_taken_only_from_who_knows_of_the_same_forks(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scene = forked(&database).await;
    let Scene { london, .. } = &scene;
    let (hub, twin) = (Twin::create(&database, 2).await, Twin::create(&database, 3).await);
    let berlin = Site::open("berlin", &hub.options).await;
    let paris = Site::open("paris", &twin.options).await;
    pull(&london.store, &berlin.store).await;
    give_way(&scene).await;

    // Paris has heard, and is still to look whether it holds the void branch.
    pull_control(&london.store, &paris.store).await;
    let states = chunk(&berlin.store, None).await;
    let refused = paris.store.take_states(&states).await;
    assert!(matches!(refused, Err(StoreError::StatesIncomplete)), "{refused:?}");
    let supplied = paris.store.states_after(None).await;
    assert!(matches!(supplied, Err(StoreError::StatesIncomplete)), "{supplied:?}");

    paris.store.drop_void_branches().await.unwrap();
    let refused = paris.store.take_states(&states).await;
    assert!(matches!(refused, Err(StoreError::PartingUnheard(_))), "{refused:?}");

    pull_control(&london.store, &berlin.store).await;
    berlin.store.drop_void_branches().await.unwrap();
    while take(&berlin.store, &paris.store).await {}
    for site in [berlin, paris] {
        site.close().await;
    }
    hub.drop_it().await;
    twin.drop_it().await;
    end(scene).await;
}
