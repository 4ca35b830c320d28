//! Five sites, thousands of backups: the same everywhere, and a check that notices when it is not.

use bruri_tests::{
    Book, Deployment, Scatter, Site, agree, every_backup_is_there, level, number, scatter, seed,
    tell,
};

use crate::turn;

const SITES: [&str; 5] = ["london", "tokyo", "paris", "lima", "oslo"];
const BYTES_MAX: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn backups_at_random_sites_are_the_same_everywhere_and_one_lost_row_is_noticed() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&SITES).await.unwrap();
    let sites = &deployment.sites;
    let addresses: Vec<_> = sites.iter().map(Site::phones).collect();
    let backups = number("BACKUPS", 2000).unwrap();
    let what = Scatter { backups, bytes_max: BYTES_MAX, seed: seed().unwrap() };
    let book = Book::default();

    let refused = scatter(&addresses, what, &book).await.unwrap();
    tell(&format!("{backups} backups at five sites, {refused} refused for the moment"));

    level(sites).await.unwrap();
    for site in sites {
        let records = site.ops().await.unwrap().records("files").await.unwrap();
        assert_eq!(records, backups as u64, "{}", site.name());
    }
    agree(sites).await.unwrap();
    every_backup_is_there(sites, &book).await.unwrap();

    remove_a_record(&sites[2]).await;

    let noticed = format!("{:#}", agree(sites).await.unwrap_err());
    assert!(noticed.contains("the logs of paris: "), "{noticed}");
    let noticed = format!("{:#}", every_backup_is_there(sites, &book).await.unwrap_err());
    assert!(noticed.contains("the history of paris: "), "{noticed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_changed_by_hand_is_noticed() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    let what = Scatter { backups: 20, bytes_max: 200, seed: seed().unwrap() };
    scatter(&[sites[0].phones()], what, &Book::default()).await.unwrap();
    level(sites).await.unwrap();
    agree(sites).await.unwrap();

    let one = "update file set checksum = '\\x00' where name = (select min(name) from file)";
    assert_eq!(sites[1].database().await.unwrap().execute(one).await.unwrap(), 1);

    let noticed = format!("{:#}", agree(sites).await.unwrap_err());
    assert!(noticed.contains("tokyo and london differ in the files {"), "{noticed}");
}

async fn remove_a_record(site: &Site) {
    let one = "delete from record
                where (log, sequence) in (select log, sequence from record order by chain limit 1)";
    assert_eq!(site.database().await.unwrap().execute(one).await.unwrap(), 1);
}
