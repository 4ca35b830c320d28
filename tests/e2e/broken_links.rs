//! Sites that cannot reach each other: each goes on alone, and nothing is lost when they meet again.

use std::time::Duration;

use bruri_tests::link::Link;
use bruri_tests::{
    Bodies, Book, Deployment, Phone, Scatter, Site, agree, eventually, every_backup_is_there,
    level, number, scatter, seed, tell,
};
use tokio::time::Instant;

use crate::turn;

const FILE: &str = "299_16xxdata.txt";
const SLOW: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(20);
const LEVEL: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn sites_that_cannot_reach_each_other_go_on_alone_and_agree_when_they_meet_again() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    let (mut london, mut tokyo) = (Phone::new(sites[0].phones()), Phone::new(sites[1].phones()));
    let (mut bodies, book) = (Bodies::new(1), Book::default());

    for break_it in [Link::freeze, Link::cut] {
        deployment.links(0, 1).for_each(break_it);
        let (here, there) = (bodies.next(500), bodies.next(700));
        london.back_up(FILE, &here, &book).await.unwrap();
        tokyo.back_up(FILE, &there, &book).await.unwrap();
        assert_eq!(london.restore(FILE).await.unwrap(), Some(here));
        assert_eq!(tokyo.restore(FILE).await.unwrap(), Some(there));

        deployment.links(0, 1).for_each(Link::heal);

        level(sites).await.unwrap();
        agree(sites).await.unwrap();
        assert_eq!(london.restore(FILE).await.unwrap(), tokyo.restore(FILE).await.unwrap());
    }
    every_backup_is_there(sites, &book).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_many_backups_on_both_sides_of_a_cut_both_sites_soon_prove_the_same() {
    let _turn = turn::alone().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    let book = Book::default();
    deployment.links(0, 1).for_each(Link::cut);
    let backups = number("DIVERGED", 500).unwrap();
    let addresses: Vec<_> = sites.iter().map(Site::phones).collect();
    let first = seed().unwrap() / 2;
    for (seed, address) in (first..).zip(&addresses) {
        // The same users at both.
        let what = Scatter { backups, bytes_max: 4096, seed };
        scatter(std::slice::from_ref(address), what, &book).await.unwrap();
    }
    let here = sites[0].database().await.unwrap();
    let there = sites[1].database().await.unwrap();

    deployment.links(0, 1).for_each(Link::heal);
    let healed = Instant::now();
    while here.vector().await.unwrap() != there.vector().await.unwrap() {
        assert!(healed.elapsed() < LEVEL, "the logs are not equal");
    }
    let level = healed.elapsed();
    let said = sites[0].bruri(&["site", "prove"]).await.unwrap();
    tell(&format!(
        "{backups} backups at each of two sites, apart: equal logs {level:?} after the heal, proved equal after {:?}",
        healed.elapsed()
    ));

    assert!(said.contains("london  proved") && said.contains("tokyo   proved"), "{said}");
    agree(sites).await.unwrap();
    every_backup_is_there(sites, &book).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_slow_link_a_backup_takes_as_long_as_the_link_and_not_much_more() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    deployment.links(0, 1).for_each(|link| link.delay(SLOW));
    let (mut here, mut there) =
        (Phone::new(deployment.sites[0].phones()), Phone::new(deployment.sites[1].phones()));
    let body = Bodies::new(1).next(500);

    here.back_up(FILE, &body, &Book::default()).await.unwrap();
    let began = tokio::time::Instant::now();
    let asked = there.restore(FILE).await.unwrap();
    assert!(asked.is_none() || began.elapsed() >= SLOW, "nothing is faster than the link");

    let there = tokio::sync::Mutex::new(there);
    eventually(PATIENCE, "the backup is at tokyo", async || {
        let got = there.lock().await.restore(FILE).await?;
        anyhow::ensure!(got.as_deref() == Some(&body), "it is not");
        Ok(())
    })
    .await
    .unwrap();
}
