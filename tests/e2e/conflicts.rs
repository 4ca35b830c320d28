//! Versions that were written without knowledge of each other, at two real sites.

use std::time::Duration;

use bruri_tests::link::Link;
use bruri_tests::{
    Bodies, Book, Deployment, Phone, Site, agree, eventually, every_backup_is_there, level,
};
use serde_json::Value;

use crate::turn;

const FILE: &str = "299_16xxdata.txt";
const PATIENCE: Duration = Duration::from_secs(20);

async fn bruri(site: &Site, arguments: &[&str]) -> Value {
    let told = site.bruri(&[&["--json", "conflict"], arguments].concat()).await.unwrap();
    serde_json::from_str(&told).unwrap()
}

async fn open(site: &Site) -> Vec<Value> {
    bruri(site, &["list"]).await["conflicts"].as_array().unwrap().clone()
}

/// Law 6.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_on_its_way_is_in_conflict_with_one_that_did_not_see_it_until_one_is_chosen()
 {
    let _turn = turn::shared().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    let (mut london, mut tokyo) = (Phone::new(sites[0].phones()), Phone::new(sites[1].phones()));
    let (mut bodies, book) = (Bodies::new(1), Book::default());
    let [v1, v2, v3] = [500, 600, 700].map(|bytes| bodies.next(bytes));
    london.back_up(FILE, &v1, &book).await.unwrap();
    level(sites).await.unwrap();
    deployment.links(0, 1).for_each(Link::freeze);
    assert_eq!(tokyo.restore(FILE).await.unwrap(), Some(v1));
    london.back_up(FILE, &v2, &book).await.unwrap();
    deployment.links(0, 1).for_each(Link::heal);
    level(sites).await.unwrap();

    tokyo.back_up(FILE, &v3, &book).await.unwrap();

    level(sites).await.unwrap();
    agree(sites).await.unwrap();
    every_backup_is_there(sites, &book).await.unwrap();
    for site in sites {
        let listed = open(site).await;
        assert_eq!((listed.len(), listed[0]["name"].as_str()), (1, Some(FILE)), "{listed:?}");
    }
    assert_eq!(london.restore(FILE).await.unwrap(), tokyo.restore(FILE).await.unwrap());

    let shown = bruri(&sites[0], &["show", FILE]).await;
    let other = &shown["heads"][1]["version"];
    assert_eq!(other["standing"], "concurrent", "{shown}");
    let dot = other["dot"].as_str().unwrap();
    bruri(&sites[0], &["choose", FILE, dot]).await;

    level(sites).await.unwrap();
    for site in sites {
        assert!(open(site).await.is_empty());
        let shown = bruri(site, &["show", FILE]).await;
        assert!(shown["conflict"]["ended_at"].is_string(), "{shown}");
    }
    let chosen = london.restore(FILE).await.unwrap();
    assert_eq!(chosen, Some(v2), "v3 was served, being newer");
    assert_eq!(tokyo.restore(FILE).await.unwrap(), chosen);
    agree(sites).await.unwrap();
    counted(&sites[1]).await;
}

/// The metrics told of it.
async fn counted(site: &Site) {
    eventually(PATIENCE, "the metrics tell of the conflict", async || {
        let told = site.metrics().await?;
        for line in ["bruri_conflicts_open 0", "bruri_conflicts_opened_total 1"] {
            anyhow::ensure!(told.lines().any(|told| plain(told) == line), "no {line} in {told}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// A line without its labels.
fn plain(line: &str) -> String {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    format!("{name} {}", line.rsplit(' ').next().unwrap_or_default())
}
