//! Offices that dial hubs only: real processes that joined, each with its own list of whom it dials.

use std::time::Duration;

use anyhow::ensure;
use bruri_tests::{Bodies, Book, Deployment, Phone, Site, eventually};
use bruri_wire::proto::site::v1::peer::State;

use crate::turn;

const PATIENCE: Duration = Duration::from_mins(1);
const FILE: &str = "299_16xxdata.txt";

/// A hub that dials these hubs, and whoever dials it.
async fn make_hub(site: &mut Site, others: &[&str]) {
    site.stop().await.unwrap();
    let settings = site.settings_mut();
    settings.dial = others.iter().map(ToString::to_string).collect();
    settings.is_hub = true;
    site.start().await.unwrap();
}

/// Has a site join that dials only this hub.
async fn add_office(deployment: &mut Deployment, name: &str, hub: &str) {
    let mut site = deployment.newcomer(name).unwrap();
    site.settings_mut().dial = vec![hub.to_owned()];
    site.join(&deployment.invite(name).await.unwrap()).await.unwrap();
    site.start().await.unwrap();
    deployment.sites.push(site);
}

/// Waits until a site has exactly these peers, all live.
async fn has_peers(site: &Site, names: &[&str]) {
    eventually(PATIENCE, &format!("{} has the peers {names:?}", site.name()), async || {
        let peers = site.ops().await?.status().await?.peers;
        let mut live: Vec<_> = peers.iter().filter(|peer| peer.state() == State::Live).collect();
        live.sort_by_key(|peer| &peer.site);
        let found: Vec<_> = live.iter().map(|peer| peer.site.as_str()).collect();
        ensure!(found == names && peers.len() == names.len(), "{peers:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offices_that_dial_one_hub_each_have_each_others_backups_and_no_other_peer() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    acme.add("paris").await.unwrap();
    make_hub(&mut acme.sites[0], &["paris"]).await;
    make_hub(&mut acme.sites[1], &["london"]).await;
    add_office(&mut acme, "bern", "london").await;
    add_office(&mut acme, "oslo", "paris").await;

    has_peers(&acme.sites[0], &["bern", "paris"]).await;
    has_peers(&acme.sites[1], &["london", "oslo"]).await;
    has_peers(&acme.sites[2], &["london"]).await;
    has_peers(&acme.sites[3], &["paris"]).await;

    let (bern, oslo) = (&acme.sites[2], &acme.sites[3]);
    let body = Bodies::new(1).next(500);
    Phone::new(bern.phones()).back_up(FILE, &body, &Book::default()).await.unwrap();
    eventually(PATIENCE, "the backup of bern is at oslo", async || {
        let got = Phone::new(oslo.phones()).restore(FILE).await?;
        ensure!(got.as_deref() == Some(&*body), "it is not");
        Ok(())
    })
    .await
    .unwrap();
    let status = oslo.ops().await.unwrap().status().await.unwrap();
    assert_eq!(status.peers.len(), 1, "{:?}", status.peers);
}
