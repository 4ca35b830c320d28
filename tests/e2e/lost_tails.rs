//! Databases that go back in time: a site finds out, gives no number twice, and gets back what it had lost.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bruri_tests::agreement::database_has;
use bruri_tests::link::Link;
use bruri_tests::load::Counts;
use bruri_tests::own_postgres::OwnPostgres;
use bruri_tests::{
    Bodies, Book, Deployment, Load, Phone, Site, agree, eventually, every_backup_is_there, level,
    number, tell,
};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::turn;

/// Acknowledged, shipped, and then lost.
const LOST: usize = 500;
const BEFORE: usize = 50;
const PHONES: usize = 8;
/// How long a site may take to be complete again once it has contact.
const COMPLETE: Duration = Duration::from_secs(5);
/// How long a fork may take: a void branch of 600 records moves first.
const HEALED: Duration = Duration::from_secs(30);
/// What a site says when it opens an epoch, and when records had to move.
const OPENED: &str = "a new epoch begins";
const FORKED: &str = "a log forked";

/// Phones back up files of their own, from this extension on.
async fn back_up(site: &Site, from: usize, count: usize, book: &Book) -> anyhow::Result<()> {
    back_up_seeded(0, site, from..from + count, book).await
}

/// The same; another seed makes other bodies.
async fn back_up_seeded(
    seed: usize,
    site: &Site,
    extensions: Range<usize>,
    book: &Book,
) -> anyhow::Result<()> {
    let mut phones = JoinSet::new();
    for first in 0..PHONES {
        let (mut phone, book) = (Phone::new(site.phones()), book.clone());
        let own = extensions.clone().skip(first).step_by(PHONES);
        phones.spawn(async move {
            for extension in own {
                let body = Bodies::new((seed + extension) as u64).next(2000);
                phone.back_up(&format!("{extension}_96xxdata.txt"), &body, &book).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = phones.join_next().await {
        done.context("a phone panicked")??;
    }
    Ok(())
}

/// Waits until the first site has all of the book again, and tells how long that took.
async fn complete_again(site: &Site, book: &Book, limit: Duration) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let entries = book.entries();
    eventually(limit, "the site is complete again", async || database_has(site, &entries).await)
        .await?;
    Ok(began.elapsed())
}

/// All sites hold every backup, in equal logs, none of them twice.
async fn nothing_is_lost(sites: &[Site], book: &Book) -> anyhow::Result<()> {
    level(sites).await?;
    agree(sites).await?;
    every_backup_is_there(sites, book).await?;
    for site in sites {
        site.database().await?.no_backup_is_doubled().await?;
    }
    Ok(())
}

/// Phones write as soon as the site is there again, and it is complete in time.
async fn goes_on(deployment: &Deployment, book: &Book, limit: Duration) -> anyhow::Result<()> {
    let london = &deployment.sites[0];
    let since = Book::default();
    let load = Load::start(london.phones(), PHONES, 1, &since);
    let took = complete_again(london, book, limit).await?;
    load.reaches(Counts { acknowledged: 100, unanswered: 0 }).await?;
    let ended = load.end().await?;
    ensure!((ended.refused, ended.unanswered) == (0, 0), "phones were refused: {ended:?}");
    book.extend(&since.entries());
    tell(&format!("complete again after {took:?}, {} backups meanwhile", since.entries().len()));
    nothing_is_lost(&deployment.sites, book).await
}

/// Two sites, the first on a Postgres that can fail over.
async fn beside_own_postgres(folder: &Path) -> anyhow::Result<(OwnPostgres, Deployment)> {
    let postgres = OwnPostgres::start(folder).await?;
    let mut deployment = Deployment::make_direct(&["london", "tokyo"]).await?;
    deployment.sites[0].settings_mut().database_url = Some(postgres.url("bruri"));
    deployment.start_all().await?;
    Ok((postgres, deployment))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lacks_500_records_is_found_out_and_completed_by_peers() {
    let _turn = turn::shared().await;
    let folder = bruri_tests::deployment::open_folder().unwrap();
    let (mut postgres, deployment) = beside_own_postgres(folder.path()).await.unwrap();
    let (lost, book) = (number("LOST", LOST).unwrap(), Book::default());
    back_up(&deployment.sites[0], 1000, BEFORE, &book).await.unwrap();
    let standby = postgres.lagging_standby().await.unwrap();
    back_up(&deployment.sites[0], 2000, lost, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();

    postgres.fail_over(standby).await.unwrap();

    let since = Book::default();
    let body = Bodies::new(1).next(2000);
    let mut phone = Phone::new(deployment.sites[0].phones());
    phone.back_up("299_96xxdata.txt", &body, &since).await.unwrap();
    book.extend(&since.entries());
    goes_on(&deployment, &book, COMPLETE).await.unwrap();
    let said = deployment.sites[0].said();
    assert!(said.contains(OPENED) && !said.contains(FORKED), "{said}");
    let metrics = deployment.sites[0].metrics().await.unwrap();
    assert!(metrics.contains("bruri_epochs_opened_total{"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_standby_takes_over_that_lacks_records_all_come_back_though_no_phone_writes() {
    let _turn = turn::shared().await;
    let folder = bruri_tests::deployment::open_folder().unwrap();
    let (mut postgres, deployment) = beside_own_postgres(folder.path()).await.unwrap();
    let book = Book::default();
    back_up(&deployment.sites[0], 1000, BEFORE, &book).await.unwrap();
    let standby = postgres.lagging_standby().await.unwrap();
    back_up(&deployment.sites[0], 2000, BEFORE, &book).await.unwrap();
    // Of these even the log is lost.
    back_up(&deployment.sites[1], 3000, BEFORE, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();

    postgres.fail_over(standby).await.unwrap();

    complete_again(&deployment.sites[0], &book, COMPLETE).await.unwrap();
    nothing_is_lost(&deployment.sites, &book).await.unwrap();
}

/// What happened before the site starts again.
struct Yesterday {
    deployment: Deployment,
    book: Book,
    /// Of the cluster as it was then.
    copy: PathBuf,
}

fn witness_beside(copy: &Path) -> PathBuf {
    copy.with_extension("witness")
}

impl Yesterday {
    /// A site's cluster was copied while it stood still, went on for a day, and was put back.
    async fn put_back() -> anyhow::Result<Self> {
        let mut deployment = Deployment::start_linked(&["london", "tokyo"]).await?;
        let (book, copy) = (Book::default(), deployment.folder().join("yesterday"));
        back_up(&deployment.sites[0], 1000, BEFORE, &book).await?;
        level(&deployment.sites).await?;
        deployment.sites[0].stop().await?;
        copy_all(&deployment.sites[0].cluster(), &copy).await?;
        fs::copy(deployment.sites[0].witness(), witness_beside(&copy))?;
        deployment.sites[0].start().await?;
        back_up(&deployment.sites[0], 2000, LOST, &book).await?;
        level(&deployment.sites).await?;
        deployment.sites[0].stop().await?;
        fs::remove_dir_all(deployment.sites[0].cluster()).context("remove a cluster")?;
        copy_all(&copy, &deployment.sites[0].cluster()).await?;
        Ok(Self { deployment, book, copy })
    }

    /// The file that tells what was committed is of yesterday, too.
    fn put_witness_back(&mut self) -> anyhow::Result<()> {
        let from = witness_beside(&self.copy);
        fs::copy(from, self.london().witness()).map(|_| ()).context("put a witness back")
    }

    fn london(&mut self) -> &mut Site {
        &mut self.deployment.sites[0]
    }
}

async fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    bruri_tests::programs::output(copy.arg("-a").arg(from).arg(to)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_yesterday_is_found_out_by_the_witness_before_a_peer_is_heard() {
    let _turn = turn::shared().await;
    let mut yesterday = Yesterday::put_back().await.unwrap();
    yesterday.london().start().await.unwrap();
    yesterday.london().says(OPENED).await.unwrap();
    let Yesterday { deployment, book, .. } = yesterday;
    goes_on(&deployment, &book, COMPLETE).await.unwrap();
    assert!(!deployment.sites[0].said().contains(FORKED));
    let status = deployment.sites[0].bruri(&["site", "status"]).await.unwrap();
    assert!(status.contains("CONTINUES"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_yesterday_without_witness_is_found_out_by_a_peer_before_a_number_is_given() {
    let _turn = turn::shared().await;
    let mut yesterday = Yesterday::put_back().await.unwrap();
    fs::remove_file(yesterday.london().witness()).unwrap();
    yesterday.london().start().await.unwrap();
    let Yesterday { deployment, book, .. } = yesterday;
    goes_on(&deployment, &book, COMPLETE).await.unwrap();
    let said = deployment.sites[0].said();
    assert!(said.contains(OPENED) && !said.contains(FORKED), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_yesterday_alone_and_without_witness_numbers_nothing_before_a_new_epoch() {
    let _turn = turn::shared().await;
    let mut yesterday = Yesterday::put_back().await.unwrap();
    fs::remove_file(yesterday.london().witness()).unwrap();
    yesterday.deployment.links(0, 1).for_each(Link::cut);
    yesterday.london().start().await.unwrap();
    let book = yesterday.book.clone();
    back_up(yesterday.london(), 3000, LOST, &book).await.unwrap();
    yesterday.london().says(OPENED).await.unwrap();

    yesterday.deployment.links(0, 1).for_each(Link::heal);

    let Yesterday { deployment, .. } = yesterday;
    goes_on(&deployment, &book, COMPLETE).await.unwrap();
    assert!(!deployment.sites[0].said().contains(FORKED));
}

/// As where a volume is rolled back while its machine goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_yesterday_alone_with_its_witness_forks_and_is_healed_when_the_sites_meet() {
    let _turn = turn::shared().await;
    let mut yesterday = Yesterday::put_back().await.unwrap();
    yesterday.put_witness_back().unwrap();
    yesterday.deployment.links(0, 1).for_each(Link::cut);
    yesterday.london().start().await.unwrap();
    let book = yesterday.book.clone();
    // Files that the other branch has, too, and some of its own.
    back_up_seeded(50_000, yesterday.london(), 2000..2100, &book).await.unwrap();
    back_up(yesterday.london(), 3000, LOST, &book).await.unwrap();

    yesterday.deployment.links(0, 1).for_each(Link::heal);

    let Yesterday { deployment, .. } = yesterday;
    goes_on(&deployment, &book, HEALED).await.unwrap();
    deployment.sites[0].says(FORKED).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_restored_into_a_new_cluster_is_found_out_and_completed() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let (book, dump) = (Book::default(), deployment.folder().join("bruri.dump"));
    back_up(&deployment.sites[0], 1000, BEFORE, &book).await.unwrap();
    postgres_tool(&deployment.sites[0], "pg_dump", &["-Fc", "-f"], &dump).await.unwrap();
    back_up(&deployment.sites[0], 2000, LOST, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();
    deployment.sites[0].stop().await.unwrap();
    let data = deployment.sites[0].cluster();
    fs::remove_dir_all(data.parent().unwrap()).unwrap();
    fs::remove_file(deployment.sites[0].witness()).unwrap();
    deployment.sites[0].start_postgres().await.unwrap();
    let restore = ["-d", "bruri", "--clean", "--if-exists", "--single-transaction"];
    postgres_tool(&deployment.sites[0], "pg_restore", &restore, &dump).await.unwrap();
    deployment.sites[0].stop().await.unwrap();
    deployment.sites[0].start().await.unwrap();

    goes_on(&deployment, &book, COMPLETE).await.unwrap();

    let said = deployment.sites[0].said();
    assert!(said.contains(OPENED) && !said.contains(FORKED), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_its_whole_database_gets_its_own_backups_back() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let book = Book::default();
    back_up(&deployment.sites[0], 1000, BEFORE, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();
    deployment.sites[0].stop().await.unwrap();
    fs::remove_dir_all(deployment.sites[0].cluster().parent().unwrap()).unwrap();
    deployment.sites[0].start().await.unwrap();

    goes_on(&deployment, &book, COMPLETE).await.unwrap();
}

/// Runs a program of Postgres on the site's private database, as the README shows.
async fn postgres_tool(
    site: &Site,
    program: &str,
    arguments: &[&str],
    file: &Path,
) -> anyhow::Result<()> {
    let line = site.says("to look into the database: ").await?;
    let (_, command) = line.split_once("to look into the database: ").unwrap_or_default();
    let words: Vec<&str> = command.split_whitespace().collect();
    let [password_file, psql, "-h", socket, "-U", user, _] = words[..] else {
        anyhow::bail!("no psql command: {command}");
    };
    let tool = PathBuf::from(psql).with_file_name(program);
    let (_, password_file) = password_file.split_once('=').context("no PGPASSFILE")?;
    let mut tool = Command::new(tool);
    tool.env("PGPASSFILE", password_file).args(["-h", socket, "-U", user]);
    if program == "pg_dump" {
        tool.args(["-d", "bruri"]);
    }
    bruri_tests::programs::output(tool.args(arguments).arg(file)).await.map(|_| ())
}
