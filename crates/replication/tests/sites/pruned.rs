//! Records whose bodies retention dropped before a peer asked for them.

use std::time::Duration;

use bruri_domain::Retention;
use bruri_store::{Pruning, StoreError};

use crate::kit::{
    Deployment, Site,
    equal::{assert_equal, rows},
    site::file_id,
};

const FILE: &str = "299_16xxdata.txt";

async fn prune(site: &Site) -> u64 {
    let none = Some(Duration::ZERO);
    let retention = Retention { all: none, days: none, weeks: none, months: none, thins: true };
    let pruning = Pruning { retention, only_call_log: |_, _| true, rest: Duration::ZERO };
    site.store.prune(&pruning).await.unwrap().versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_takes_what_was_pruned_as_pruned_and_serves_the_rest() {
    let deployment = Deployment::new();
    let (london, tokyo) = (deployment.place("london").await, deployment.place("tokyo").await);
    let (at_london, at_tokyo) = (london.address, tokyo.address);
    let london = london.start(&[at_tokyo]).await;
    for content in [&b"Name=old\r\n"[..], b"Name=older\r\n", b"Name=new\r\n"] {
        london.put(FILE, content).await;
    }
    assert_eq!(prune(&london).await, 2);

    let tokyo = tokyo.start(&[at_london]).await;
    tokyo.until_served(FILE, Some(b"Name=new\r\n")).await;
    // What comes later is as ever.
    tokyo.put(FILE, &b"Name=newest\r\n"[..]).await;
    london.until_served(FILE, Some(b"Name=newest\r\n")).await;
    assert_equal(&[&london, &tokyo]).await;
    assert_eq!(rows(&tokyo).await[..2], [4, 2]);

    let versions = tokyo.store.versions(&file_id(FILE), None, 9).await.unwrap();
    let pruned: Vec<bool> = versions.iter().map(|entry| entry.pruned).collect();
    assert_eq!(pruned, [false, false, true, true]);
    let oldest = versions[3].dot.to_string().parse().unwrap();
    let gone = tokyo.store.version(&file_id(FILE), Some(&oldest)).await;
    assert!(matches!(gone, Err(StoreError::BodyGone(_))), "{gone:?}");
    assert_eq!(tokyo.store.wanted_bodies(9).await.unwrap(), []);
}
