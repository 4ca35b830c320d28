//! What a supplier refuses, and that the rest goes on.

use std::time::Duration;

use bruri_domain::{Chain, Cursor, DeploymentKey, LogKind, Sha256};
use bruri_replication::PeerState;
use bruri_wire::proto::replication::v1::{
    Credit, refusal::Reason, subscribe_request::Request as Ask, subscribe_response::Event,
};
use tonic::Code;

use crate::kit::{
    Deployment, Raw, Site, eventually, logged,
    raw::{hello, hello_bytes, send_garbage},
    records::log,
};

const QUIET: Duration = Duration::from_millis(500);

async fn supplier(deployment: &Deployment, name: &str) -> (Site, Cursor) {
    let site = deployment.place(name).await.start(&[]).await;
    site.put_many(0..5).await;
    let own = site.vector().await.remove(0);
    (site, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_sent_from_there_is_refused_and_the_others_go_on() {
    let deployment = Deployment::new();
    let (site, own) = supplier(&deployment, "london").await;
    let unknown = log("nobody", LogKind::Files);
    let unknown_further = Cursor { sequence: 9, ..unknown.clone() };
    let ahead = Cursor { sequence: own.sequence + 1, ..own.clone() };
    let forked = Cursor { sequence: 3, chain: Chain(Sha256::of(b"another")), ..own.clone() };
    let (tls, beginning) = (deployment.tls("tokyo"), Cursor::at_beginning(own.log.clone()));
    for (wanted, reason, text) in [
        (&unknown, Reason::UnknownLog, "nobody/f11e500000000002 at 0: the log is not known here"),
        (&unknown_further, Reason::UnknownLog, "the log is not known here"),
        (&ahead, Reason::Ahead, "at 6: the log is not so long here: records were lost"),
        (&forked, Reason::GivesWay, "at 3: the log forked, and its origin gives way"),
    ] {
        let hello = hello("tokyo", &deployment.key);
        let mut raw = Raw::greet(&tls, site.place.address, hello).await;
        raw.grant(1_000_000).await;
        raw.want(&[wanted]).await;
        match raw.news(Duration::from_secs(10)).await {
            Some(Event::Refusal(refusal)) => {
                assert_eq!(refusal.reason(), reason);
                assert!(refusal.text.ends_with(text), "{}", refusal.text);
                assert_eq!(Cursor::try_from(refusal.wanted.unwrap()).unwrap(), *wanted);
            }
            other => panic!("{other:?}"),
        }
        assert!(raw.news(QUIET).await.is_none());
        raw.want(&[&beginning]).await;
        assert_eq!(raw.batch().await.entries.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_refused_on_one_stream_with_others_does_not_hold_them_up() {
    let deployment = Deployment::new();
    let (site, own) = supplier(&deployment, "london").await;
    let hello = hello("tokyo", &deployment.key);
    let mut raw = Raw::greet(&deployment.tls("tokyo"), site.place.address, hello).await;
    raw.grant(1_000_000).await;
    raw.want(&[&log("nobody", LogKind::Control), &Cursor::at_beginning(own.log.clone())]).await;
    assert!(matches!(raw.news(QUIET).await, Some(Event::Refusal(_))));
    assert_eq!(raw.batch().await.chain, own.chain.0.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_word_that_does_not_fit_is_refused() {
    let deployment = Deployment::new();
    let (site, _) = supplier(&deployment, "first-word").await;
    let good = || hello("first-word-peer", &deployment.key);
    let tls = deployment.tls("first-word-peer");
    let mut other_name = good();
    other_name.site = "first-word".to_owned();
    let mut other_key = good();
    other_key.deployment_key_check = DeploymentKey::new([8; 32]).check().to_vec();
    let mut too_new = good();
    (too_new.protocol_min, too_new.protocol_max) = (2, 3);
    for (first, text) in [
        (Ask::Credit(Credit { bytes: 1 }), "the first message was no Hello"),
        (
            Ask::Hello(other_name),
            "Hello names site \"first-word\", the certificate first-word-peer",
        ),
        (Ask::Hello(other_key), "site first-word-peer has another deployment key"),
        (Ask::Hello(too_new), "site first-word-peer speaks protocol 2 to 3, this site 1 to 1"),
    ] {
        for _ in 0..3 {
            let status = Raw::refused(&tls, site.place.address, first.clone()).await;
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert!(status.message().starts_with(text), "{}", status.message());
        }
        // Quotes are escaped in a line.
        let part = text.split('"').next().unwrap();
        assert_eq!(logged::lines(&["peer=first-word-peer", part]).len(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_logged_and_others_are_served() {
    let deployment = Deployment::new();
    let (site, own) = supplier(&deployment, "garbage-taker").await;
    let (tls, at) = (deployment.tls("garbage-sender"), site.place.address);
    let first = send_garbage(&tls, at, vec![vec![0xff; 40]]).await;
    assert_eq!(first.code(), Code::InvalidArgument, "{first}");
    let greeting = hello_bytes(&hello("garbage-sender", &deployment.key));
    let later = send_garbage(&tls, at, vec![greeting, vec![0xff; 40]]).await;
    assert_eq!(later.code(), Code::InvalidArgument, "{later}");
    eventually("a line", async || {
        // Once for each reason, however often it comes.
        let lines = logged::lines(&["peer=garbage-sender", "sent what is not understood"]).len();
        (1..=2).contains(&lines)
    })
    .await;

    let hello = hello("tokyo", &deployment.key);
    let mut raw = Raw::greet(&deployment.tls("tokyo"), at, hello).await;
    raw.grant(1_000_000).await;
    raw.want(&[&Cursor::at_beginning(own.log)]).await;
    assert_eq!(raw.batch().await.entries.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_with_different_deployment_keys_refuse_each_other() {
    let deployment = Deployment::new();
    let london = deployment.place("london").await;
    let tokyo = deployment.place_with_key("tokyo", DeploymentKey::new([8; 32])).await;
    let (at_london, at_tokyo) = (london.address, tokyo.address);
    let (london, tokyo) = (london.start(&[at_tokyo]).await, tokyo.start(&[at_london]).await);
    london.put_many(0..3).await;
    for (site, at) in [(&london, at_tokyo), (&tokyo, at_london)] {
        site.until(at, PeerState::Refused).await;
        let error = site.peer(at).last_error;
        assert!(error.contains("another deployment key: copy deployment.key"), "{error}");
    }
    assert_eq!(tokyo.vector().await.len(), 0);
}
