//! A site that was off: it catches up by itself, and serves its phones meanwhile.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bruri_tests::{
    Book, Deployment, Ops, Phone, Scatter, Site, agree, eventually, every_backup_is_there, level,
    number, scatter, seed, tell,
};

use crate::turn;

const FILE: &str = "299_16xxdata.txt";
const PATIENCE: Duration = Duration::from_mins(2);
const BYTES_MAX: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_off_catches_up_and_answers_gets_while_it_does() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start(&["london", "tokyo", "oslo"]).await.unwrap();
    let (book, known) = (Book::default(), "Button Clicks=1\r\n".repeat(20).into_bytes());
    let mut at_london = Phone::new(deployment.sites[0].phones());
    at_london.back_up(FILE, &known, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();
    deployment.sites[2].stop().await.unwrap();

    let addresses: Vec<_> = deployment.sites[..2].iter().map(Site::phones).collect();
    let backups = number("BACKLOG", 5000).unwrap();
    let what = Scatter { backups, bytes_max: BYTES_MAX, seed: seed().unwrap() };
    scatter(&addresses, what, &book).await.unwrap();

    let oslo = &mut deployment.sites[2];
    let began = Instant::now();
    oslo.spawn().unwrap();
    let served = serve_until(oslo, backups as u64 + 1, &known).await.unwrap();
    tell(&format!(
        "{backups} backups caught up within {:?} of the start, {served}",
        began.elapsed()
    ));
    assert!(served.while_behind > 0);

    oslo.ready().await.unwrap();
    level(&deployment.sites).await.unwrap();
    agree(&deployment.sites).await.unwrap();
    every_backup_is_there(&deployment.sites[2..], &book).await.unwrap();
}

struct Served {
    while_behind: usize,
    slowest: Duration,
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} GETs served meanwhile, the slowest in {:?}", self.while_behind, self.slowest)
    }
}

/// Restores a file again and again until the site has so many records; counts what was served before.
async fn serve_until(site: &Site, records: u64, expected: &[u8]) -> anyhow::Result<Served> {
    let mut ops: Ops = eventually(PATIENCE, "operators are served", || site.ops()).await?;
    let mut phone = eventually(PATIENCE, "phones are served", async || {
        let mut phone = Phone::new(site.phones());
        phone.restore(FILE).await.map(|_| phone)
    })
    .await?;
    let mut served = Served { while_behind: 0, slowest: Duration::ZERO };
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let got = phone.restore(FILE).await?;
        let took = asked.elapsed();
        ensure!(got.as_deref() == Some(expected), "another body was served");
        if ops.records("files").await? >= records {
            return Ok(served);
        }
        served.while_behind += 1;
        served.slowest = served.slowest.max(took);
        ensure!(began.elapsed() < PATIENCE, "not caught up within {PATIENCE:?}");
    }
}
