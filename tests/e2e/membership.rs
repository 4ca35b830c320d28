//! How sites become members, stay it, and cease to be it: real processes, real tokens, real certificates.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_pki::{Authority, Request, SiteKey, Token, files};
use bruri_tests::deployment::Pki;
use bruri_tests::{Bodies, Book, Deployment, Phone, Site, eventually, level, tls};
use bruri_wire::proto::membership::v1::RenewRequest;
use bruri_wire::proto::membership::v1::membership_service_client::MembershipServiceClient;
use bruri_wire::proto::replication::v1::SubscribeRequest;
use bruri_wire::proto::replication::v1::replication_service_client::ReplicationServiceClient;
use bruri_wire::proto::site::v1::Peer;
use bruri_wire::proto::site::v1::peer::State;
use time::OffsetDateTime;
use tonic::Code;

use crate::strangers::subscribe;
use crate::turn;

const PATIENCE: Duration = Duration::from_mins(1);
const FILE: &str = "299_16xxdata.txt";

async fn back_up(site: &Site, seed: u64) -> Vec<u8> {
    let body = Bodies::new(seed).next(500);
    Phone::new(site.phones()).back_up(FILE, &body, &Book::default()).await.unwrap();
    body
}

async fn serves(site: &Site, body: &[u8]) {
    let what = format!("the backup is at {}", site.name());
    eventually(PATIENCE, &what, async || {
        let got = Phone::new(site.phones()).restore(FILE).await?;
        ensure!(got.as_deref() == Some(body), "it is not");
        Ok(())
    })
    .await
    .unwrap();
}

async fn peers(site: &Site) -> anyhow::Result<Vec<Peer>> {
    Ok(site.ops().await?.status().await?.peers)
}

/// Waits until a site sees another one so.
async fn sees(site: &Site, peer: &str, state: State) -> String {
    let what = format!("{} sees {peer} {state:?}", site.name());
    eventually(PATIENCE, &what, async || {
        let peers = peers(site).await?;
        let found = peers.iter().find(|found| found.site == peer && found.state() == state);
        Ok(found.with_context(|| format!("{peers:?}"))?.last_error.clone())
    })
    .await
    .unwrap()
}

async fn refusal(site: &Site, token: &str) -> String {
    format!("{:#}", site.join(token).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_invited_joins_gets_all_and_is_known_to_the_others_without_a_restart() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    let before = back_up(&acme.sites[0], 1).await;
    acme.add("tokyo").await.unwrap();
    serves(&acme.sites[1], &before).await;
    let after = back_up(&acme.sites[1], 2).await;
    serves(&acme.sites[0], &after).await;

    acme.add("paris").await.unwrap();
    sees(&acme.sites[1], "paris", State::Live).await;
    sees(&acme.sites[2], "tokyo", State::Live).await;
    level(&acme.sites).await.unwrap();

    let members = acme.sites[2].bruri(&["site", "members"]).await.unwrap();
    let words: Vec<Vec<&str>> = members.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words[1][..3], ["london", "joined", "here"], "{members}");
    assert_eq!((words[2][0], words[3][0]), ("paris", "tokyo"), "{members}");
    let keys = acme.sites.iter().map(|s| fs::read(s.pki().join(files::DEPLOYMENT_KEY)).unwrap());
    assert!(keys.collect::<Vec<_>>().windows(2).all(|two| two[0] == two[1]));
    let site_file = acme.sites[1].pki().join("../site.toml");
    assert!(fs::read_to_string(site_file).unwrap().contains("name = \"tokyo\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_in_its_time_and_at_the_site_that_made_it() {
    let _turn = turn::shared().await;
    let acme = Deployment::found("london").await.unwrap();
    let (tokyo, thief) = (acme.newcomer("tokyo").unwrap(), {
        let mut thief = acme.newcomer("thief").unwrap();
        thief.settings_mut().name = "tokyo".to_owned();
        thief
    });
    let token = acme.invite("tokyo").await.unwrap();

    let mut forged: Token = token.parse().unwrap();
    forged.ca[0] ^= 1;
    assert!(
        refusal(&tokyo, &forged.text())
            .await
            .contains("its CA is not the one that the token names")
    );
    assert!(refusal(&tokyo, &token[..token.len() - 3]).await.contains("the token is damaged"));
    let paris = acme.newcomer("paris").unwrap();
    assert!(refusal(&paris, &token).await.contains("the token is for site tokyo"));
    another_key_is_refused(&acme, &token).await;

    // None of these has spent it; joining has, for everybody with another key.
    tokyo.join(&token).await.unwrap();
    assert!(refusal(&thief, &token).await.contains("was used already"));
    assert!(!thief.pki().join(files::DEPLOYMENT_KEY).exists());
    assert!(refusal(&tokyo, &token).await.contains("is a site of a deployment already"));

    let late = acme.invite("paris").await.unwrap();
    let database = acme.sites[0].database().await.unwrap();
    database.execute("update invite set expires_at = now() where site = 'paris'").await.unwrap();
    assert!(refusal(&paris, &late).await.contains("it has expired"));
    acme.sites[0].says("refused a site that wants to join").await.unwrap();
    for secret in [&token, &late] {
        assert!(!acme.sites[0].said().contains(&secret[7..40]), "a secret is in the log");
    }
}

/// What it holds was written under a key that no other site has.
async fn another_key_is_refused(acme: &Deployment, token: &str) {
    let mut held = acme.newcomer("held").unwrap();
    held.settings_mut().name = "tokyo".to_owned();
    fs::create_dir_all(held.pki()).unwrap();
    fs::write(held.pki().join(files::DEPLOYMENT_KEY), "07".repeat(32)).unwrap();
    let refused = refusal(&held, token).await;
    assert!(refused.contains("holds data under another deployment key"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_retired_is_refused_everywhere_on_old_streams_and_new_ones() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    acme.add("tokyo").await.unwrap();
    acme.add("paris").await.unwrap();
    for (at, of) in [(0, "tokyo"), (2, "tokyo"), (1, "london"), (1, "paris")] {
        sees(&acme.sites[at], of, State::Live).await;
    }

    acme.sites[0].bruri(&["site", "retire", "tokyo"]).await.unwrap_err();
    acme.sites[0].bruri(&["site", "retire", "tokyo", "--yes"]).await.unwrap();

    for peer in ["london", "paris"] {
        let error = sees(&acme.sites[1], peer, State::Refused).await;
        assert!(error.contains("site tokyo was retired"), "{error}");
    }
    let unheard = back_up(&acme.sites[1], 3).await;
    let heard = back_up(&acme.sites[0], 4).await;
    serves(&acme.sites[2], &heard).await;
    serves(&acme.sites[1], &unheard).await;
    acme.sites[1].stop().await.unwrap();
    acme.sites[1].start().await.unwrap();
    let pki = acme.sites[1].pki();
    for at in [0, 2] {
        let site = &acme.sites[at];
        let error = format!("{:#}", subscribe(site, &pki, "tokyo").await.unwrap_err());
        assert!(error.contains("site tokyo was retired"), "{error}");
        let error = renew(site, &pki).await.unwrap_err();
        assert!(error.message().contains("site tokyo was retired"), "{error}");
        serves(site, &heard).await;
    }
    serves(&acme.sites[1], &unheard).await;
    let error = format!("{:#}", acme.invite("tokyo").await.unwrap_err());
    assert!(error.contains("a retired name never comes back"), "{error}");
}

/// Asks a site to renew the certificate in a folder.
async fn renew(site: &Site, pki: &Path) -> Result<String, tonic::Status> {
    let read = |name| fs::read_to_string(pki.join(name)).unwrap();
    let key = SiteKey::read(&read(files::SITE_KEY)).unwrap();
    let asked = RenewRequest {
        certificate: read(files::SITE_CERT),
        certificate_request: key.request().unwrap(),
        forwarded: false,
    };
    let channel = tls::as_site(site.peers(), pki).await.unwrap();
    let renewed = MembershipServiceClient::new(channel).renew(asked).await?;
    Ok(renewed.into_inner().certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_or_has_no_certificate_reaches_nothing() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    acme.add("tokyo").await.unwrap();
    let london = &acme.sites[0];
    let pki = acme.pki().issue("mallory", &acme.folder().join("mallory-pki")).await.unwrap();
    let error = format!("{:#}", subscribe(london, &pki, "mallory").await.unwrap_err());
    assert!(error.contains("site mallory is no member"), "{error}");
    assert!(renew(london, &pki).await.unwrap_err().message().contains("is no member"));
    london.bruri(&["site", "admit", "mallory"]).await.unwrap();
    eventually(PATIENCE, "mallory is let in", async || {
        let error = format!("{:#}", subscribe(london, &pki, "mallory").await.unwrap_err());
        // It is, and has said nothing of a key.
        ensure!(error.contains("has another deployment key"), "{error}");
        Ok(())
    })
    .await
    .unwrap();

    let newcomer = tls::newcomer(london.peers()).await.unwrap();
    let said = tokio_stream::iter([SubscribeRequest::default()]);
    let refused = ReplicationServiceClient::new(newcomer.clone()).subscribe(said).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    let newcomer = tls::newcomer(london.peers()).await.unwrap();
    let refused = MembershipServiceClient::new(newcomer).renew(RenewRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    let nobody = async {
        let channel = tls::as_nobody(london.peers()).await?;
        let said = tokio_stream::iter([SubscribeRequest::default()]);
        anyhow::Ok(ReplicationServiceClient::new(channel).subscribe(said).await?)
    };
    assert!(nobody.await.is_err(), "without a certificate");
}

#[expect(clippy::disallowed_methods, reason = "the certificates are held against the real clock")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Gives a site a certificate that is about to end.
fn let_it_end_soon(site: &Site, authority: &Authority) {
    let key = fs::read_to_string(site.pki().join(files::SITE_KEY)).unwrap();
    let request = SiteKey::read(&key).unwrap().request().unwrap();
    let now = now();
    let (from, until) = (now - time::Duration::days(10), now + time::Duration::days(1));
    let request = Request::read(&request).unwrap();
    let ending = authority.sign(site.name(), &request, from, until).unwrap();
    fs::write(site.pki().join(files::SITE_CERT), ending).unwrap();
}

fn authority(pki: &Path) -> Authority {
    Authority::load(pki, now()).unwrap()
}

/// Restarts a site whose certificate is about to end, and waits until it presents another one.
async fn renewed(site: &mut Site, authority: &Authority) {
    site.stop().await.unwrap();
    let_it_end_soon(site, authority);
    let ending = tls::certificate(&site.pki()).unwrap();
    site.start().await.unwrap();
    eventually(PATIENCE, "the certificate is renewed", async || {
        let presented = tls::presented(site.peers()).await?;
        ensure!(presented != ending, "it is the old one");
        ensure!(presented == tls::certificate(&site.pki())?, "the file has another one");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_before_they_end_and_the_sites_go_on() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    acme.add("tokyo").await.unwrap();
    acme.add("paris").await.unwrap();
    let ca = authority(&acme.sites[0].pki());
    for place in [1, 0] {
        renewed(&mut acme.sites[place], &ca).await;
    }
    let body = back_up(&acme.sites[1], 5).await;
    for site in &acme.sites {
        serves(site, &body).await;
    }
    // A site without the CA passes a request on to the one that has it.
    let passed_on = renew(&acme.sites[1], &acme.sites[2].pki()).await.unwrap();
    assert!(passed_on.contains("BEGIN CERTIFICATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_rotated_while_the_sites_go_on() {
    let _turn = turn::shared().await;
    let mut acme = Deployment::found("london").await.unwrap();
    acme.add("tokyo").await.unwrap();
    let new = acme.folder().join("new");
    Pki::make(&new, "acme").await.unwrap();
    let old = authority(&acme.sites[0].pki());
    let stale = acme.pki().issue("paris", &acme.folder().join("paris-pki")).await.unwrap();

    // Both are trusted everywhere before the new one issues anything.
    let both = format!("{}{}", old.trusted_pem(), authority(&new).trusted_pem());
    for site in &acme.sites {
        trust(site, &both).await;
    }
    fs::copy(new.join(files::CA_KEY), acme.sites[0].pki().join(files::CA_KEY)).unwrap();
    for place in [1, 0] {
        renewed(&mut acme.sites[place], &old).await;
    }
    let body = back_up(&acme.sites[1], 6).await;
    serves(&acme.sites[0], &body).await;

    for site in &acme.sites {
        trust(site, authority(&new).trusted_pem()).await;
    }
    for place in [0, 1] {
        acme.sites[place].stop().await.unwrap();
        acme.sites[place].start().await.unwrap();
    }
    let body = back_up(&acme.sites[0], 7).await;
    serves(&acme.sites[1], &body).await;
    subscribe(&acme.sites[0], &stale, "paris").await.unwrap_err();
    acme.sites[0].says("its certificate was not signed by a CA in our ca_file").await.unwrap();
    acme.add("berlin").await.unwrap();
    serves(&acme.sites[2], &body).await;
}

async fn trust(site: &Site, authorities: &str) {
    fs::write(site.pki().join(files::CA_CERT), authorities).unwrap();
    site.hang_up().unwrap();
    site.says("certificates reloaded").await.unwrap();
}
