//! A site that is far behind takes states first and its history after, whoever is killed meanwhile.

use std::time::Duration;

use anyhow::ensure;
use bruri_tests::{
    Book, Deployment, Phone, Scatter, Site, agree, eventually, every_backup_is_there, level,
    number, scatter, seed, tell,
};

use crate::turn;

const FILE: &str = "299_16xxdata.txt";
const PATIENCE: Duration = Duration::from_mins(2);
const BYTES_MAX: usize = 4096;
const FETCHED: &str = "bruri_snapshot_portions_fetched_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_site_far_behind_serves_first_and_fills_its_history_in_whoever_is_killed() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start(&["london", "tokyo", "oslo"]).await.unwrap();
    let book = Book::default();
    level(&deployment.sites).await.unwrap();
    deployment.sites[2].stop().await.unwrap();
    let addresses: Vec<_> = deployment.sites[..2].iter().map(Site::phones).collect();
    let backups = number("BACKLOG", 5000).unwrap();
    let what = Scatter { backups, bytes_max: BYTES_MAX, seed: seed().unwrap() };
    scatter(&addresses, what, &book).await.unwrap();
    let known = b"Button Clicks=1\r\n".repeat(20);
    Phone::new(addresses[0]).back_up(FILE, &known, &book).await.unwrap();
    level(&deployment.sites[..2]).await.unwrap();

    deployment.sites[2].settings_mut().snapshot_records = Some(500);
    begin(&mut deployment.sites[2]).await.unwrap();
    let mut struck = Vec::new();
    for (victim, own) in [(2, "701"), (0, "702"), (2, "703"), (1, "704")] {
        if is_under_way(&deployment.sites[2]).await.unwrap() {
            struck.push(victim);
        }
        kill(&mut deployment.sites[victim]).await.unwrap();
        let mut phone = Phone::new(deployment.sites[2].phones());
        let file = format!("{own}_16xxdata.txt");
        phone.back_up(&file, own.as_bytes(), &book).await.unwrap();
        // It is here, or another site is asked; never is a phone told that there is nothing.
        let got =
            eventually(PATIENCE, "an answer", async || phone_at(&deployment).restore(FILE).await);
        assert_eq!(got.await.unwrap().as_deref(), Some(&known[..]));
    }
    tell(&format!("{backups} backups behind; of the sites {struck:?} were killed under way"));
    assert!(!struck.is_empty());

    eventually(PATIENCE, "all history", async || {
        ensure!(!is_under_way(&deployment.sites[2]).await?, "it is under way");
        Ok(())
    })
    .await
    .unwrap();
    level(&deployment.sites).await.unwrap();
    agree(&deployment.sites).await.unwrap();
    every_backup_is_there(&deployment.sites[2..], &book).await.unwrap();
}

/// One portion is taken in while the next is on its way: no kill loses more.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_either_end_of_a_snapshot_costs_a_portion_and_what_was_on_its_way() {
    let _turn = turn::shared().await;
    let sites = ["london", "tokyo", "oslo", "turku", "bergen"];
    let mut deployment = Deployment::start(&sites).await.unwrap();
    let book = Book::default();
    level(&deployment.sites).await.unwrap();
    for behind in 2..5 {
        deployment.sites[behind].stop().await.unwrap();
        deployment.sites[behind].settings_mut().snapshot_records = Some(500);
    }
    let addresses: Vec<_> = deployment.sites[..2].iter().map(Site::phones).collect();
    let backups = number("BACKLOG", 5000).unwrap();
    let what = Scatter { backups, bytes_max: BYTES_MAX, seed: seed().unwrap() };
    scatter(&addresses, what, &book).await.unwrap();
    level(&deployment.sites[..2]).await.unwrap();

    // Of what it has taken nothing is fetched again though its suppliers are killed.
    begin(&mut deployment.sites[2]).await.unwrap();
    let mut kills = 0;
    for victim in [0, 1] {
        if begun(&deployment.sites[2]).await.unwrap() {
            kills += 1;
        }
        kill(&mut deployment.sites[victim]).await.unwrap();
    }
    filled(&deployment.sites[2]).await.unwrap();
    level(&deployment.sites[..3]).await.unwrap();
    let arrived = deployment.sites[2].counted(FETCHED, "arrived").await.unwrap();
    let failed = deployment.sites[2].counted(FETCHED, "failed").await.unwrap();

    // As many as it takes from suppliers that stay.
    begin(&mut deployment.sites[3]).await.unwrap();
    filled(&deployment.sites[3]).await.unwrap();
    let needed = deployment.sites[3].counted(FETCHED, "arrived").await.unwrap();
    deployment.sites[3].stop().await.unwrap();

    let before = supplied(&deployment).await.unwrap();
    begin(&mut deployment.sites[4]).await.unwrap();
    let mut own_kills = 0;
    for _ in 0..3 {
        if begun(&deployment.sites[4]).await.unwrap() {
            own_kills += 1;
        }
        kill(&mut deployment.sites[4]).await.unwrap();
    }
    filled(&deployment.sites[4]).await.unwrap();
    let given = supplied(&deployment).await.unwrap() - before;
    tell(&format!(
        "{arrived} portions, {failed} lost with {kills} kills of suppliers, \
         {needed} without any, {} more given with {own_kills} kills of the taker",
        given.saturating_sub(needed)
    ));
    assert!(kills > 0 && own_kills > 0);
    assert!(failed <= kills, "{failed} lost beside {arrived} for {kills} kills");
    assert!(given <= needed + 2 * own_kills, "{given} for {needed} and {own_kills} kills");
    deployment.sites[3].spawn().unwrap();
    deployment.sites[3].ready().await.unwrap();
    level(&deployment.sites).await.unwrap();
    agree(&deployment.sites).await.unwrap();
}

/// How many portions those have given that were there first.
async fn supplied(deployment: &Deployment) -> anyhow::Result<u64> {
    let mut sum = 0;
    for site in &deployment.sites[..3] {
        sum += site.counted("bruri_snapshot_portions_supplied_total", "").await?;
    }
    Ok(sum)
}

/// Kills a site and starts it again.
async fn kill(site: &mut Site) -> anyhow::Result<()> {
    site.kill().await?;
    site.spawn()?;
    site.ready().await
}

/// Starts a site that is far behind, and waits until its snapshot is under way.
async fn begin(site: &mut Site) -> anyhow::Result<()> {
    site.spawn()?;
    site.ready().await?;
    eventually(PATIENCE, "a snapshot", async || {
        ensure!(is_under_way(site).await?, "none is under way");
        Ok(())
    })
    .await
}

/// Waits until a portion was fetched since the site's start; `false` where it is over already.
async fn begun(site: &Site) -> anyhow::Result<bool> {
    eventually(PATIENCE, "a portion", async || {
        ensure!(site.counted(FETCHED, "").await? > 0 || !is_under_way(site).await?, "none yet");
        Ok(())
    })
    .await?;
    is_under_way(site).await
}

async fn filled(site: &Site) -> anyhow::Result<()> {
    eventually(PATIENCE, "all history", async || {
        ensure!(!is_under_way(site).await?, "it is under way");
        Ok(())
    })
    .await
}

fn phone_at(deployment: &Deployment) -> Phone {
    Phone::new(deployment.sites[2].phones())
}

async fn is_under_way(site: &Site) -> anyhow::Result<bool> {
    site.database().await?.is_filling().await
}
