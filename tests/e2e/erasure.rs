//! An extension that is erased at one of three real sites, while another is cut off and phones go on writing there.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use bruri_domain::Sha256;
use bruri_tests::link::Link;
use bruri_tests::{Bodies, Book, Deployment, Phone, Site, agree, eventually, level, programs};
use serde_json::Value;
use tokio::process::Command;

use crate::turn;

const FILES: [&str; 2] = ["299_16xxdata.txt", "299_96xxdata.txt"];
const OTHER: &str = "300_16xxdata.txt";
/// How long sites may take to hear of each other again, on a busy machine.
const HEARD: Duration = Duration::from_secs(30);

/// What would tell of the extension: its name, and its bodies by their hashes and first bytes.
struct Traces(Vec<String>);

impl Traces {
    fn of(bodies: &[Vec<u8>]) -> Self {
        let hashes = bodies.iter().map(|body| Sha256::of(body).to_string());
        Self(hashes.chain(["299_".to_owned()]).collect())
    }

    async fn are_gone_from(&self, site: &Site) -> anyhow::Result<()> {
        let found = site.database().await?.rows_with(&self.0).await?;
        ensure!(found.is_empty(), "{} still holds {found:?}", site.name());
        Ok(())
    }
}

async fn status_of(site: &Site, method: &str, file: &str, body: Option<&[u8]>) -> u16 {
    Phone::new(site.phones()).send(method, file, body).await.unwrap().status
}

/// Every site has given its receipt, as this one knows.
async fn all_receipts_are_at(site: &Site) -> anyhow::Result<Value> {
    let told = site.bruri(&["--json", "erase", "status", "299"]).await?;
    let told: Value = serde_json::from_str(&told)?;
    let erasure = &told["erasures"][0];
    let missing = erasure["missing_sites"].as_array().map_or(usize::MAX, Vec::len);
    let given = erasure["receipts"].as_array().map_or(0, Vec::len);
    ensure!((given, missing) == (3, 0), "{}: {told}", site.name());
    Ok(erasure.clone())
}

async fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    let mut copy = Command::new("cp");
    programs::output(copy.arg("-a").arg(from).arg(to)).await.unwrap();
}

/// Law 7.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_at_one_site_is_gone_from_all_and_neither_a_late_writer_nor_a_dump_brings_it_back()
 {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start_linked(&["london", "tokyo", "paris"]).await.unwrap();
    let (mut bodies, book) = (Bodies::new(1), Book::default());
    let erased: Vec<Vec<u8>> = (0..5).map(|_| bodies.next(3000)).collect();
    let (kept, new) = (bodies.next(3000), bodies.next(3000));
    let mut phone = Phone::new(deployment.sites[0].phones());
    for (file, body) in FILES.iter().chain(&FILES).zip(&erased) {
        phone.back_up(file, body, &book).await.unwrap();
    }
    phone.back_up(OTHER, &kept, &book).await.unwrap();
    level(&deployment.sites).await.unwrap();
    let copy = deployment.folder().join("yesterday");
    deployment.sites[2].stop().await.unwrap();
    copy_all(&deployment.sites[2].cluster(), &copy).await;
    deployment.sites[2].start().await.unwrap();
    let traces = Traces::of(&erased);

    for other in [0, 2] {
        deployment.links(1, other).for_each(Link::cut);
    }
    let sites = &deployment.sites;
    sites[0].bruri(&["erase", "299", "--yes"]).await.unwrap();
    for site in [&sites[0], &sites[2]] {
        eventually(HEARD, "it is erased", async || traces.are_gone_from(site).await).await.unwrap();
    }
    assert_eq!(status_of(&sites[1], "PUT", FILES[0], Some(&erased[4])).await, 204);

    for other in [0, 2] {
        deployment.links(1, other).for_each(Link::heal);
    }
    let mut told = Vec::new();
    for site in sites {
        let all =
            eventually(HEARD, "every receipt is there", async || all_receipts_are_at(site).await);
        told.push(all.await.unwrap());
        traces.are_gone_from(site).await.unwrap();
        for file in FILES {
            assert_eq!(status_of(site, "GET", file, None).await, 404);
            assert_eq!(status_of(site, "PUT", file, Some(&erased[0])).await, 403);
        }
        assert_eq!(Phone::new(site.phones()).restore(OTHER).await.unwrap(), Some(kept.clone()));
    }
    let counted = |site: &str| {
        let receipts = told[0]["receipts"].as_array().unwrap();
        receipts.iter().find(|receipt| receipt["site"] == site).unwrap()["versions"].clone()
    };
    assert_eq!([counted("london"), counted("tokyo"), counted("paris")], [4, 5, 4]);
    assert!(told.iter().all(|erasure| erasure["receipts"] == told[0]["receipts"]), "{told:?}");

    // Paris' machine is put back to the day before.
    deployment.sites[2].stop().await.unwrap();
    fs::remove_dir_all(deployment.sites[2].cluster()).unwrap();
    copy_all(&copy, &deployment.sites[2].cluster()).await;
    deployment.sites[2].start().await.unwrap();
    let sites = &deployment.sites;
    eventually(HEARD, "paris has erased it again", async || traces.are_gone_from(&sites[2]).await)
        .await
        .unwrap();
    level(sites).await.unwrap();
    agree(sites).await.unwrap();
    for site in sites {
        traces.are_gone_from(site).await.unwrap();
        all_receipts_are_at(site).await.unwrap();
    }

    sites[2].bruri(&["erase", "lift", "299"]).await.unwrap();
    eventually(HEARD, "tokyo lets it in", async || {
        let status = status_of(&sites[1], "PUT", FILES[0], Some(&new)).await;
        ensure!(status == 201, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    level(sites).await.unwrap();
    agree(sites).await.unwrap();
    for site in sites {
        assert_eq!(Phone::new(site.phones()).restore(FILES[0]).await.unwrap(), Some(new.clone()));
        assert_eq!(status_of(site, "GET", FILES[1], None).await, 404);
    }
}
