//! Several `brurid` on one database are one site.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_tests::database::Database;
use bruri_tests::deployment::{Pki, open_folder};
use bruri_tests::own_postgres::OwnPostgres;
use bruri_tests::{Bodies, Book, Phone, Settings, Site};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::turn;

const PHONES: usize = 64;
const BACKUPS_EACH: usize = 20;
const POLL: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn two_brurid_on_one_database_number_without_a_gap_and_see_each_others_backups_at_once() {
    let _turn = turn::shared().await;
    let folder = open_folder().unwrap();
    let postgres = OwnPostgres::start(folder.path()).await.unwrap();
    let url = postgres.url("bruri");
    let pki = Pki::make(&folder.path().join("pki"), "acme").await.unwrap();
    let pki = pki.issue("london", &folder.path().join("london-pki")).await.unwrap();
    let mut brurids = Vec::new();
    for name in ["one", "two"] {
        let parent = folder.path().join(name);
        std::fs::create_dir(&parent).unwrap();
        let settings = Settings {
            pki: Some(pki.clone()),
            database_url: Some(url.clone()),
            ..Settings::alone("london")
        };
        brurids.push(Site::make(&parent, settings).unwrap());
        brurids.last_mut().unwrap().start().await.unwrap();
    }
    let database = Database::at(&url).await.unwrap();
    let (done, is_done) = watch::channel(false);
    let mut reader = JoinSet::new();
    reader.spawn(read_in_order(database.clone(), is_done));

    let book = Book::default();
    let phones = [brurids[0].phones(), brurids[1].phones()];
    back_up_here_restore_there(phones, &book).await.unwrap();

    done.send_replace(true);
    let seen = reader.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(usize::try_from(seen), Ok(PHONES * BACKUPS_EACH), "the reader has missed some");
    database.logs_are_whole().await.unwrap();
    database.no_backup_is_doubled().await.unwrap();
    let stored = database.versions().await.unwrap();
    assert_eq!(stored.len(), book.entries().len());
}

/// Each phone backs up at one process, and restores at the other as soon as that is acknowledged.
async fn back_up_here_restore_there(addresses: [SocketAddr; 2], book: &Book) -> anyhow::Result<()> {
    let mut phones = JoinSet::new();
    for phone in 0..PHONES {
        let (here, there) = (addresses[phone % 2], addresses[(phone + 1) % 2]);
        phones.spawn(back_and_forth(phone, here, there, book.clone()));
    }
    while let Some(done) = phones.join_next().await {
        done.context("a phone panicked")??;
    }
    Ok(())
}

async fn back_and_forth(
    number: usize,
    here: SocketAddr,
    there: SocketAddr,
    book: Book,
) -> anyhow::Result<()> {
    let file = format!("{}_96xxdata.txt", 3000 + number);
    let (mut here, mut there) = (Phone::new(here), Phone::new(there));
    let mut bodies = Bodies::new(number as u64);
    for _ in 0..BACKUPS_EACH {
        let body = bodies.any(4096);
        here.back_up(&file, &body, &book).await?;
        let got = there.restore(&file).await?;
        ensure!(got.as_deref() == Some(&body), "the other process serves an older {file}");
    }
    Ok(())
}

/// Reads as a supplier does: what comes after the last seen. Fails where it had to skip one.
async fn read_in_order(database: Database, done: watch::Receiver<bool>) -> anyhow::Result<i64> {
    let mut last = 0;
    loop {
        let is_last_turn = *done.borrow();
        for sequence in database.sequences_after(last).await? {
            ensure!(sequence == last + 1, "after {last} the reader saw {sequence}");
            last = sequence;
        }
        if is_last_turn {
            return Ok(last);
        }
        sleep(POLL).await;
    }
}
