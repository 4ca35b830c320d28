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
    deployment.sites[2].spawn().unwrap();
    deployment.sites[2].ready().await.unwrap();
    eventually(PATIENCE, "a snapshot", async || {
        ensure!(is_under_way(&deployment.sites[2]).await?, "none is under way");
        Ok(())
    })
    .await
    .unwrap();
    let mut struck = Vec::new();
    for (victim, own) in [(2, "701"), (0, "702"), (2, "703"), (1, "704")] {
        if is_under_way(&deployment.sites[2]).await.unwrap() {
            struck.push(victim);
        }
        deployment.sites[victim].kill().await.unwrap();
        deployment.sites[victim].spawn().unwrap();
        deployment.sites[victim].ready().await.unwrap();
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

fn phone_at(deployment: &Deployment) -> Phone {
    Phone::new(deployment.sites[2].phones())
}

/// States are being copied, or history is being filled in.
async fn is_under_way(site: &Site) -> anyhow::Result<bool> {
    let database = site.database().await?;
    let copying = database.execute("select from snapshot").await?;
    let filling = database.execute("select from log where floor_sequence is not null").await?;
    Ok(copying > 0 || filling > 0)
}
