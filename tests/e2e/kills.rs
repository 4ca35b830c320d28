//! Processes that are killed at the worst moments: whatever a phone was promised is there afterwards.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use bruri_tests::agreement::database_has;
use bruri_tests::load::Counts;
use bruri_tests::site::STOP;
use bruri_tests::{Book, Deployment, Load, Site, agree, level, number, seed, tell};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use crate::turn;

/// Phones at the site that is hit, and at the other one.
const PHONES_HERE: usize = 24;
const PHONES_THERE: usize = 4;
/// Backups that must be on their way when the blow falls.
const UNANSWERED_MIN: usize = 8;
const KILLS: usize = 20;
/// The blow falls after 0 to so many, and so far into whatever is going on then.
const ACKNOWLEDGED_BEFORE: usize = 200;
const INTO_A_COMMIT_MICROS: u64 = 10_000;

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Brurid,
    Postgres,
}

/// What a series of kills did.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    acknowledged: usize,
    unanswered: Vec<usize>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, acknowledged, unanswered } = self;
        write!(
            f,
            "{kills} kills, {acknowledged} backups acknowledged before them, unanswered at each: \
             {unanswered:?}"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_brurid_loses_an_acknowledged_backup() {
    let _turn = turn::shared().await;
    survives(Victim::Brurid).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_postgres_loses_an_acknowledged_backup() {
    let _turn = turn::shared().await;
    survives(Victim::Postgres).await.unwrap();
}

async fn survives(victim: Victim) -> anyhow::Result<()> {
    let mut deployment = Deployment::start(&["london", "tokyo"]).await?;
    let mut random = StdRng::seed_from_u64(seed()?);
    let (mut tally, book) = (Tally::default(), Book::default());
    for _ in 0..number("KILLS", KILLS)? {
        let (london, tokyo) = deployment.pair()?;
        let (here, there) = if random.random() { (london, tokyo) } else { (tokyo, london) };
        let there = Load::start(there.phones(), PHONES_THERE, random.random(), &book);
        round(here, victim, &mut random, &mut tally, &book).await?;
        let others = there.end().await?;
        ensure!((others.refused, others.unanswered) == (0, 0), "the other site too: {others:?}");
    }
    tell(&format!("{victim:?}: {tally}"));
    nothing_is_lost(&deployment.sites, &book).await
}

/// Loads a site, kills its `brurid` or its Postgres, starts it again, and looks for what was promised.
async fn round(
    site: &mut Site,
    victim: Victim,
    random: &mut StdRng,
    tally: &mut Tally,
    book: &Book,
) -> anyhow::Result<()> {
    let promised = Book::default();
    let load = Load::start(site.phones(), PHONES_HERE, random.random(), &promised);
    let acknowledged = random.random_range(0..ACKNOWLEDGED_BEFORE);
    load.reaches(Counts { acknowledged, unanswered: UNANSWERED_MIN }).await?;
    sleep(Duration::from_micros(random.random_range(0..INTO_A_COMMIT_MICROS))).await;
    load.reaches(Counts { acknowledged, unanswered: UNANSWERED_MIN }).await?;
    let Counts { unanswered, .. } = load.counts();
    match victim {
        Victim::Brurid => site.kill().await?,
        Victim::Postgres => {
            site.kill_postgres()?;
            let status = site.ended(STOP).await?;
            ensure!(!status.success(), "without its database brurid ended with 0");
        }
    }
    let ended = load.broken().await?;
    let lost_sight_of = ended.refused.strict_add(ended.unanswered);
    ensure!(unanswered >= UNANSWERED_MIN, "only {unanswered} were unanswered");
    ensure!(lost_sight_of == PHONES_HERE, "the blow missed some phones: {ended:?}");
    site.start().await?;
    let entries = promised.entries();
    database_has(site, &entries).await?;
    book.extend(&entries);
    tally.kills += 1;
    tally.acknowledged += entries.len();
    tally.unanswered.push(unanswered);
    Ok(())
}

async fn nothing_is_lost(sites: &[Site], book: &Book) -> anyhow::Result<()> {
    level(sites).await?;
    // No sequence is missing or doubled, at any site.
    agree(sites).await?;
    for site in sites {
        database_has(site, &book.entries()).await?;
        site.database().await?.no_backup_is_doubled().await?;
    }
    Ok(())
}
