//! An extension that is erased at one of three real sites, while another is cut off and phones go on writing there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use bruri_tests::link::Link;
use bruri_tests::{
    Bodies, Book, Deployment, Phone, Site, Traces, agree, eventually, level, programs,
};
use serde_json::Value;
use tokio::process::Command;

use crate::turn;

const FILES: [&str; 2] = ["299_16xxdata.txt", "299_96xxdata.txt"];
const OTHER: &str = "300_16xxdata.txt";
/// How long sites may take to hear of each other again, on a busy machine.
const HEARD: Duration = Duration::from_secs(30);

async fn status_of(site: &Site, method: &str, file: &str, body: Option<&[u8]>) -> u16 {
    Phone::new(site.phones()).send(method, file, body).await.unwrap().status
}

/// The receipts, once every site has given its own, as this one knows.
async fn all_receipts_are_at(site: &Site) -> anyhow::Result<Value> {
    let told = site.bruri(&["--json", "erase", "status", "299"]).await?;
    let told: Value = serde_json::from_str(&told)?;
    let erasure = &told["erasures"][0];
    let missing = erasure["missing_sites"].as_array().map_or(usize::MAX, Vec::len);
    let given = erasure["receipts"].as_array().map_or(0, Vec::len);
    ensure!((given, missing) == (3, 0), "{}: {told}", site.name());
    Ok(erasure["receipts"].clone())
}

async fn copy_all(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    programs::output(copy.arg("-a").arg(from).arg(to)).await.unwrap();
}

/// Three sites, an extension that is to be erased, and what must not be left of it.
struct Scene {
    deployment: Deployment,
    erased: Vec<Vec<u8>>,
    kept: Vec<u8>,
    traces: Traces,
    /// Paris' cluster before anything was erased.
    yesterday: PathBuf,
}

impl Scene {
    async fn new(bodies: &mut Bodies) -> Self {
        let sites = ["london", "tokyo", "paris"];
        let mut deployment = Deployment::start_linked(&sites).await.unwrap();
        let erased: Vec<Vec<u8>> = (0..5).map(|_| bodies.next(3000)).collect();
        let (kept, book) = (bodies.next(3000), Book::default());
        let mut phone = Phone::new(deployment.sites[0].phones());
        for (file, body) in FILES.iter().chain(&FILES).zip(&erased) {
            phone.back_up(file, body, &book).await.unwrap();
        }
        phone.back_up(OTHER, &kept, &book).await.unwrap();
        level(&deployment.sites).await.unwrap();
        let (yesterday, traces) = (
            deployment.folder().join("yesterday"),
            Traces::default().and("299_").and_hashes(&erased),
        );
        deployment.sites[2].stop().await.unwrap();
        copy_all(&deployment.sites[2].cluster(), &yesterday).await;
        deployment.sites[2].start().await.unwrap();
        Self { deployment, erased, kept, traces, yesterday }
    }

    fn sites(&self) -> &[Site] {
        &self.deployment.sites
    }

    /// The lines to Tokyo.
    fn lines(&self) -> impl Iterator<Item = &Link> {
        [0, 2].into_iter().flat_map(|other| self.deployment.links(1, other))
    }

    async fn is_gone_from(&self, site: &Site) {
        let gone = async || self.traces.are_gone_from(site).await;
        eventually(HEARD, "it is erased", gone).await.unwrap();
    }

    /// It is erased at London; Tokyo does not hear of it, and takes another backup.
    async fn erase(&self) {
        self.lines().for_each(Link::cut);
        self.sites()[0].bruri(&["erase", "299", "--yes"]).await.unwrap();
        self.is_gone_from(&self.sites()[0]).await;
        self.is_gone_from(&self.sites()[2]).await;
        let late = status_of(&self.sites()[1], "PUT", FILES[0], Some(&self.erased[4])).await;
        assert_eq!(late, 204);
        self.lines().for_each(Link::heal);
    }

    /// Nothing is left at any site, each has said so to all, and phones are refused.
    async fn is_gone_everywhere(&self) {
        let mut told = Vec::new();
        for site in self.sites() {
            let all = async || all_receipts_are_at(site).await;
            told.push(eventually(HEARD, "every receipt is there", all).await.unwrap());
            self.is_gone_from(site).await;
            for file in FILES {
                assert_eq!(status_of(site, "GET", file, None).await, 404);
                assert_eq!(status_of(site, "PUT", file, Some(&self.erased[0])).await, 403);
            }
            let other = Phone::new(site.phones()).restore(OTHER).await.unwrap();
            assert_eq!(other.as_ref(), Some(&self.kept));
        }
        let receipts = told[0].as_array().unwrap();
        let counted = |site: &str| {
            let of_site = receipts.iter().find(|receipt| receipt["site"] == site);
            of_site.unwrap()["versions"].clone()
        };
        assert_eq!([counted("london"), counted("tokyo"), counted("paris")], [4, 5, 4]);
        assert!(told.iter().all(|receipts| *receipts == told[0]), "{told:?}");
    }

    /// Paris' machine is put back to the day before.
    async fn put_back(&mut self) {
        let paris = &mut self.deployment.sites[2];
        paris.stop().await.unwrap();
        fs::remove_dir_all(paris.cluster()).unwrap();
        copy_all(&self.yesterday, &paris.cluster()).await;
        paris.start().await.unwrap();
        self.is_gone_from(&self.sites()[2]).await;
        level(self.sites()).await.unwrap();
        agree(self.sites()).await.unwrap();
    }

    /// From Paris; Tokyo's user comes back.
    async fn let_in_again(&self, new: &[u8]) {
        self.sites()[2].bruri(&["erase", "lift", "299"]).await.unwrap();
        let let_in = async || {
            let status = status_of(&self.sites()[1], "PUT", FILES[0], Some(new)).await;
            ensure!(status == 201, "{status}");
            Ok(())
        };
        eventually(HEARD, "tokyo lets it in", let_in).await.unwrap();
        level(self.sites()).await.unwrap();
        agree(self.sites()).await.unwrap();
        for site in self.sites() {
            let restored = Phone::new(site.phones()).restore(FILES[0]).await.unwrap();
            assert_eq!(restored.as_deref(), Some(new));
            assert_eq!(status_of(site, "GET", FILES[1], None).await, 404);
        }
    }
}

/// Law 7.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_at_one_site_is_gone_from_all_and_neither_a_late_writer_nor_a_dump_brings_it_back()
 {
    let _turn = turn::shared().await;
    let mut bodies = Bodies::new(1);
    let mut scene = Scene::new(&mut bodies).await;
    scene.erase().await;
    scene.is_gone_everywhere().await;
    scene.put_back().await;
    scene.is_gone_everywhere().await;
    scene.let_in_again(&bodies.next(3000)).await;
}
