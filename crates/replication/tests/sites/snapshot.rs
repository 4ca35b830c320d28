//! A site that is far behind: states first, history after, wherever it is interrupted.

use std::time::Duration;

use bruri_domain::LogKind;
use bruri_store::Snapshot;

use crate::kit::{
    Deployment, Forged, Mode, Proxy, Script, Site, Then,
    equal::assert_equal,
    eventually,
    raw::hello,
    records::{UNKNOWN, batch, log, record},
    site::{Place, file, file_id},
};

const FILES: u32 = 3000;

async fn far_behind(deployment: &Deployment, name: &str) -> Place {
    let mut place = deployment.place(name).await;
    place.snapshot_beyond = 500;
    place
}

/// A site with two versions of each file.
async fn full(deployment: &Deployment) -> Site {
    let london = deployment.place("london").await.start(&[]).await;
    london.put_many(0..FILES).await;
    for extension in (0..FILES).step_by(7) {
        london.put(&file(extension), format!("Name={extension} newer\r\n")).await;
    }
    london
}

async fn until_whole(site: &Site) {
    eventually("all history", async || site.store.snapshot().await.unwrap() == Snapshot::default())
        .await;
}

/// Whether states came by themselves, and not with the log.
async fn took_snapshot(site: &Site) -> bool {
    let query = "select count(*) from log where heads_sequence > 0";
    sqlx::query_scalar::<_, i64>(query).fetch_one(&site.pool).await.unwrap() > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_site_serves_all_before_its_history_is_here_and_ends_equal() {
    let deployment = Deployment::new();
    let london = full(&deployment).await;
    let line = Proxy::to(london.place.address).await;
    line.set(Mode::Slow(400_000));
    let tokyo = far_behind(&deployment, "tokyo").await.start(&[line.address]).await;
    eventually("all states", async || {
        let snapshot = tokyo.store.snapshot().await.unwrap();
        snapshot.copying.is_none() && !snapshot.gaps.is_empty()
    })
    .await;
    for extension in [0, 7, 8, FILES - 1] {
        assert_eq!(tokyo.get(&file(extension)).await, london.get(&file(extension)).await);
    }
    // What is written meanwhile comes at once, past the history that is still on its way.
    london.put(&file(9), &b"Name=meanwhile\r\n"[..]).await;
    tokyo.until_served(&file(9), Some(b"Name=meanwhile\r\n")).await;
    assert_ne!(tokyo.store.snapshot().await.unwrap(), Snapshot::default());
    line.set(Mode::Forward);
    until_whole(&tokyo).await;
    assert_equal(&[&london, &tokyo]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_snapshot_goes_on_and_nobody_is_told_that_there_is_nothing() {
    let deployment = Deployment::new();
    let london = full(&deployment).await;
    let line = Proxy::to(london.place.address).await;
    line.set(Mode::Slow(400_000));
    let tokyo = far_behind(&deployment, "tokyo").await.start(&[line.address]).await;
    let copying = async |site: &Site| site.store.snapshot().await.unwrap().copying;
    eventually("some states", async || copying(&tokyo).await.is_some()).await;
    line.set(Mode::Cut);
    let missing = file(FILES - 1);
    let asked = tokyo.ask("9999_16xxdata.txt", Duration::from_millis(200)).await;
    assert!(asked.told.is_in_the_dark && !asked.told.is_complete, "{asked:?}");
    tokyo.put("77777_16xxdata.txt", &b"Name=meanwhile\r\n"[..]).await;
    let before = copying(&tokyo).await.unwrap();
    let (place, _) = tokyo.stop().await;

    line.set(Mode::Forward);
    let tokyo = place.start(&[line.address]).await;
    let goes_on = tokyo.store.snapshot().await.unwrap();
    assert!(goes_on.copying.is_none_or(|(_, files)| files >= before.1));
    until_whole(&tokyo).await;
    assert!(took_snapshot(&tokyo).await);
    assert_eq!(tokyo.get(&missing).await, london.get(&missing).await);
    let own = tokyo.store.known_of(&file_id("77777_16xxdata.txt")).await.unwrap();
    assert_eq!(own.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_behind_by_little_takes_no_snapshot_and_one_without_history_supplies_none() {
    let deployment = Deployment::new();
    let london = full(&deployment).await;
    let at_london = london.place.address;
    let line = Proxy::to(at_london).await;
    line.set(Mode::Slow(400_000));
    let tokyo = far_behind(&deployment, "tokyo").await.start(&[line.address]).await;
    eventually("all states", async || {
        let snapshot = tokyo.store.snapshot().await.unwrap();
        snapshot.copying.is_none() && !snapshot.gaps.is_empty()
    })
    .await;
    // It asks for all records, which Tokyo has not: it takes what Tokyo has, and the rest when that comes.
    let at_tokyo = tokyo.place.address;
    let oslo = deployment.place("oslo").await.start(&[at_tokyo]).await;
    oslo.until_served(&file(FILES - 1), Some(format!("Name={}\r\n", FILES - 1).as_bytes())).await;
    line.set(Mode::Forward);
    until_whole(&tokyo).await;
    until_whole(&oslo).await;
    assert_equal(&[&london, &tokyo, &oslo]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_release_without_snapshots_the_logs_are_taken_as_ever() {
    let deployment = Deployment::new();
    let files = log("older", LogKind::Files);
    let number = |n: u64| record(UNKNOWN, &n.to_be_bytes());
    let (page, end) = batch(&files, &(0..100).map(number).collect::<Vec<_>>(), &[]);
    let script = Script {
        hello: hello("older", &deployment.key),
        vector: vec![end.clone()],
        batches: vec![page],
        then: Then::Beats,
    };
    let older = Forged::start(deployment.tls("older"), script).await;
    let mut place = deployment.place("london").await;
    place.snapshot_beyond = 10;
    let london = place.start(&[older.address]).await;
    eventually("all records", async || london.vector().await.contains(&end)).await;
}
