//! A log that is far behind has a stream of its own.

use crate::kit::{
    Deployment, Forged, Mode, Proxy, Raw, Script, Then,
    equal::assert_equal,
    eventually,
    raw::hello,
    records::{UNKNOWN, batch, log, record},
};
use bruri_domain::{
    Cursor, LogKind,
    limits::{LIVE_LAG_RECORDS_MAX, PAGE_RECORDS_MAX},
};
use bruri_replication::PeerState;
use bruri_wire::proto::replication::v1 as proto;

#[tokio::test(flavor = "multi_thread")]
async fn a_site_far_behind_catches_up_then_goes_live_while_the_other_writes_on() {
    let deployment = Deployment::new();
    let london = deployment.place("london").await.start(&[]).await;
    london.put_many(0..4000).await;
    let line = Proxy::to(london.place.address).await;
    line.set(Mode::Cut);
    let tokyo = deployment.place("tokyo").await.start(&[line.address]).await;
    let mut seen = vec![tokyo.peer(line.address).state];
    line.set(Mode::Slow(2_000_000));
    let write = london.put_many(10_000..12_000);
    let watch = eventually("live", async || {
        let state = tokyo.peer(line.address).state;
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        state == PeerState::Live
    });
    tokio::join!(write, watch);
    assert_eq!(seen, [PeerState::Connecting, PeerState::CatchingUp, PeerState::Live]);
    assert_equal(&[&london, &tokyo]).await;
    assert_eq!(tokyo.peer(line.address).lag_records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_not_told_what_it_has_is_not_live() {
    let deployment = Deployment::new();
    let (hello, then) = (hello("quiet", &deployment.key), Then::Silence);
    let script = Script { hello, vector: Vec::new(), batches: Vec::new(), then };
    let quiet = Forged::start(deployment.tls("quiet"), script).await;
    let site = deployment.place("london").await.start(&[quiet.address]).await;
    let greeted = async || !site.peer(quiet.address).release.is_empty();
    eventually("its Hello", greeted).await;
    assert_eq!(site.peer(quiet.address).state, PeerState::CatchingUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_level_goes_on_while_another_catches_up() {
    let deployment = Deployment::new();
    // The files' log stops half-way; were they on one stream, or one behind the other, the control log
    // would wait for it.
    let (files, control) = (log("halting", LogKind::Files), log("halting", LogKind::Control));
    let (mut batches, _) = pages(&files, 1);
    let (small, control_end) = batch(&control, &[record(UNKNOWN, b"small")], &[]);
    batches.push(small);
    let files_end = Cursor { sequence: 3 * LIVE_LAG_RECORDS_MAX, ..files };
    let script = Script {
        hello: hello("halting", &deployment.key),
        vector: vec![files_end, control_end.clone()],
        batches,
        then: Then::Beats,
    };
    let forged = Forged::start(deployment.tls("halting"), script).await;
    let site = deployment.place("london").await.start(&[forged.address]).await;
    eventually("the control log", async || site.vector().await.contains(&control_end)).await;
    eventually("a page", async || site.peer(forged.address).lag_records == 1024).await;
    assert_eq!(site.peer(forged.address).state, PeerState::CatchingUp);
    assert_eq!(forged.streams(), 2);
}

/// Pages of records of a kind that nobody knows, and the end of the log.
fn pages(from: &Cursor, count: u64) -> (Vec<proto::Batch>, Cursor) {
    let (mut batches, mut end) = (Vec::new(), from.clone());
    for page in 0..count {
        let number = |n: u64| record(UNKNOWN, &(page * PAGE_RECORDS_MAX + n).to_be_bytes());
        let records: Vec<_> = (0..PAGE_RECORDS_MAX).map(number).collect();
        let (next, to) = batch(&end, &records, &[]);
        batches.push(next);
        end = to;
    }
    (batches, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn control_logs_are_sent_before_the_others() {
    let deployment = Deployment::new();
    let (files, control) = (log("third", LogKind::Files), log("third", LogKind::Control));
    let ((mut batches, files_end), (others, control_end)) = (pages(&files, 3), pages(&control, 3));
    batches.extend(others);
    let (hello_of_third, vector) = (hello("third", &deployment.key), vec![files_end, control_end]);
    let script = Script { hello: hello_of_third, vector, batches, then: Then::Beats };
    let third = Forged::start(deployment.tls("third"), script).await;
    let site = deployment.place("london").await.start(&[third.address]).await;
    site.until(third.address, PeerState::Live).await;

    let hello = hello("tokyo", &deployment.key);
    let mut raw = Raw::greet(&deployment.tls("tokyo"), site.place.address, hello).await;
    raw.want(&[&files, &control]).await;
    raw.grant(1_000_000).await;
    let mut kinds = Vec::new();
    for _ in 0..6 {
        kinds.push(raw.batch().await.log.unwrap().kind());
    }
    let (control, files) = (proto::LogKind::Control, proto::LogKind::Files);
    assert_eq!(kinds, [control, control, control, files, files, files]);
}
