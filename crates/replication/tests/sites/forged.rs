//! Suppliers that lie: what they say is refused, nothing of it is stored, and the others are served.

use std::time::Duration;

use bruri_domain::{Cursor, DeploymentKey, LogKind, limits::PAGE_RECORDS_MAX};
use bruri_replication::PeerState;
use bruri_wire::proto::replication::v1 as proto;
use tokio::time::sleep;

use crate::kit::{
    Deployment, Forged, Raw, Script, Site, Then,
    equal::{level, rows},
    eventually, logged,
    raw::{hello, hello_bytes},
    records::{UNKNOWN, backup, batch, log, record},
    site::file,
};

/// Longer than the next heartbeat, so that whatever is said is said twice.
const A_WHILE: Duration = Duration::from_millis(700);

/// A forged supplier, a site that pulls from it and from an honest one, and how the site was before.
struct Scene {
    deployment: Deployment,
    forged: Forged,
    honest: Site,
    site: Site,
    before: [i64; 4],
}

impl Scene {
    async fn set(deployment: Deployment, name: &str, script: Script) -> Self {
        let forged = Forged::start(deployment.tls(name), script).await;
        Self::with(deployment, forged).await
    }

    async fn with(deployment: Deployment, forged: Forged) -> Self {
        let (honest, place) =
            (deployment.place("honest").await.start(&[]).await, deployment.place("site").await);
        let before_place = place.start(&[]).await;
        let before = rows(&before_place).await;
        let (place, _) = before_place.stop().await;
        let site = place.start(&[forged.address, honest.place.address]).await;
        Self { deployment, forged, honest, site, before }
    }

    /// The peer is refused for that, and stays so; the honest one is live and served.
    async fn assert_refused(&self, text: &str) {
        self.site.until(self.forged.address, PeerState::Refused).await;
        sleep(A_WHILE).await;
        let status = self.site.peer(self.forged.address);
        assert_eq!(status.state, PeerState::Refused);
        assert!(status.last_error.contains(text), "{}", status.last_error);
        self.assert_others_served().await;
    }

    async fn assert_others_served(&self) {
        self.honest.put("299_16xxdata.txt", &b"Name=honest\r\n"[..]).await;
        self.site.until_served("299_16xxdata.txt", Some(b"Name=honest\r\n")).await;
        self.site.until(self.honest.place.address, PeerState::Live).await;
    }

    /// How many rows came, of records, bodies, files and logs, besides the honest ones.
    async fn stored(&self) -> [i64; 4] {
        let after = rows(&self.site).await;
        std::array::from_fn(|n| after[n] - self.before[n] - 1)
    }
}

/// What a liar sends of its files, after this place.
type Lie = fn(&Cursor, &DeploymentKey) -> proto::Batch;

/// A script that tells a lie about files, twice, and the truth about the control log.
fn lying(name: &str, key: &DeploymentKey, lie: Lie) -> (Script, Cursor) {
    let (files, control) = (log(name, LogKind::Files), log(name, LogKind::Control));
    let (truth, control_end) = batch(&control, &[record(UNKNOWN, b"truth")], &[]);
    let claim = Cursor { sequence: 4, ..files.clone() };
    let script = Script {
        hello: hello(name, key),
        vector: vec![claim, control_end.clone()],
        batches: vec![lie(&files, key), lie(&files, key), truth],
        then: Then::Beats,
    };
    (script, control_end)
}

async fn assert_batch_refused(name: &str, lie: Lie, text: &str) {
    let deployment = Deployment::new();
    let (script, truth) = lying(name, &deployment.key, lie);
    let scene = Scene::set(deployment, name, script).await;
    scene.assert_refused(text).await;
    eventually("its other log goes on", async || scene.site.vector().await.contains(&truth)).await;
    // The other log's record and its cursor are all that came.
    assert_eq!(scene.stored().await, [1, 0, 0, 1]);
    assert_eq!(scene.forged.streams(), 1, "the connection stays");
    assert_eq!(logged::lines(&["ERROR", name, text]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_with_another_hash_is_refused() {
    let lie: Lie = |from, key| {
        let mut bent = backup(1, b"Name=a\r\n", key);
        bent.payload = backup(1, b"Name=b\r\n", key).payload;
        batch(from, &[backup(1, b"Name=a\r\n", key), bent], &[b"Name=a\r\n", b"Name=b\r\n"]).0
    };
    let text = "record 2: the payload's hash is not the one in the envelope";
    assert_batch_refused("liar-payload", lie, text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_not_that_of_the_envelopes_is_refused() {
    let lie: Lie = |from, key| {
        let (mut batch, _) = batch(from, &[backup(1, b"Name=a\r\n", key)], &[b"Name=a\r\n"]);
        batch.chain[31] ^= 1;
        batch
    };
    let text = "the chain after record 1 is not what the peer says";
    assert_batch_refused("liar-chain", lie, text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_of_another_extension_is_refused() {
    let lie: Lie = |from, _| {
        // Under another key the same file has another subject.
        let foreign = backup(1, b"Name=a\r\n", &DeploymentKey::new([8; 32]));
        batch(from, &[foreign], &[b"Name=a\r\n"]).0
    };
    let text = "record 1: the subject in the envelope is not that of the file";
    assert_batch_refused("liar-subject", lie, text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_hash_to_what_the_record_names_is_refused() {
    let lie: Lie = |from, key| batch(from, &[backup(1, b"Name=a\r\n", key)], &[b"Name=b\r\n"]).0;
    let text = "record 1: no body in the batch has the hash and size that it names";
    assert_batch_refused("liar-body", lie, text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_refused() {
    let lie: Lie = |from, key| {
        let (mut batch, _) = batch(from, &[backup(1, b"Name=a\r\n", key)], &[b"Name=a\r\n"]);
        batch.first_sequence = 2;
        batch
    };
    assert_batch_refused("liar-gap", lie, "the batch begins at 2, expected 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_too_many_records_is_refused() {
    let lie: Lie = |from, _| {
        let many: Vec<_> =
            (0..=PAGE_RECORDS_MAX).map(|n| record(UNKNOWN, &n.to_be_bytes())).collect();
        batch(from, &many, &[]).0
    };
    assert_batch_refused("liar-many", lie, "the batch has 513 records, expected 1 to 512").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_cannot_be_read_is_refused() {
    let lie: Lie = |from, _| {
        let mut bent = record(UNKNOWN, b"payload");
        bent.envelope = vec![0xff; 40].into();
        batch(from, &[bent], &[]).0
    };
    assert_batch_refused("liar-envelope", lie, "record 1: envelope cannot be decoded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_bound_ends_the_session_and_is_logged_once() {
    let name = "liar-flood";
    let deployment = Deployment::new();
    let (script, _) = lying(name, &deployment.key, |from, _| {
        batch(from, &[record(UNKNOWN, &vec![7; 5 * 1024 * 1024])], &[]).0
    });
    let scene = Scene::set(deployment, name, script).await;
    eventually("a third try", async || scene.forged.streams() >= 3).await;
    let text = "the peer sent what is not understood: Error, decoded message length too large";
    scene.assert_refused(text).await;
    assert_eq!(logged::lines(&["ERROR", name, text]).len(), 1);
    // All there may be is the other log.
    let [records, bodies, files, _] = scene.stored().await;
    assert!(records <= 1 && bodies == 0 && files == 0, "{records} {bodies} {files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_messages_is_refused_before_and_after_hello() {
    let name = "liar-garbage";
    let deployment = Deployment::new();
    let (greeting, garbage) = (hello_bytes(&hello(name, &deployment.key)), vec![0xff; 40]);
    for messages in [vec![garbage.clone()], vec![greeting, garbage]] {
        let deployment = Deployment::new();
        let forged = Forged::of_bytes(deployment.tls(name), &messages).await;
        let scene = Scene::with(deployment, forged).await;
        scene.assert_refused("the peer sent what is not understood: ").await;
        assert_eq!(scene.stored().await, [0, 0, 0, 0]);
    }
    assert_eq!(logged::lines(&["ERROR", name, "not understood"]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_another_protocol_is_tried_on_and_the_others_are_served() {
    let name = "liar-http";
    let deployment = Deployment::new();
    let forged = Forged::of_no_grpc(deployment.tls(name)).await;
    let scene = Scene::with(deployment, forged).await;
    eventually("a second try", async || scene.forged.streams() > 1).await;
    scene.assert_others_served().await;
    let status = scene.site.peer(scene.forged.address);
    assert_eq!(status.state, PeerState::Connecting);
    assert!(!status.last_error.is_empty());
    assert_eq!(scene.stored().await, [0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_name_in_hello_is_refused() {
    let name = "liar-name";
    let deployment = Deployment::new();
    for claimed in ["honest", "site"] {
        let (mut script, _) = lying(name, &deployment.key, |from, _| batch(from, &[], &[]).0);
        script.hello.site = claimed.to_owned();
        let scene = Scene::set(Deployment::new(), name, script).await;
        let text = format!("Hello names site {claimed:?}, the certificate {name}");
        scene.assert_refused(&text).await;
        assert_eq!(scene.stored().await, [0, 0, 0, 0]);
    }
    assert_eq!(logged::lines(&["ERROR", name, "Hello names site"]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deployment_key_in_hello_is_refused() {
    let name = "liar-key";
    let deployment = Deployment::new();
    let (mut script, _) = lying(name, &deployment.key, |from, _| batch(from, &[], &[]).0);
    script.hello.deployment_key_check = DeploymentKey::new([8; 32]).check().to_vec();
    let scene = Scene::set(deployment, name, script).await;
    scene.assert_refused("site liar-key has another deployment key").await;
    assert_eq!(scene.stored().await, [0, 0, 0, 0]);
    assert_eq!(logged::lines(&["ERROR", name, "another deployment key"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_certificate_at_a_peer_is_refused() {
    let deployment = Deployment::new();
    let (script, _) = lying("site", &deployment.key, |from, _| batch(from, &[], &[]).0);
    let scene = Scene::set(deployment, "site", script).await;
    scene.assert_refused("its certificate is of site, which is this site").await;
    assert_eq!(scene.stored().await, [0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_breaks_off_at_once_is_dialled_less_and_less_often() {
    let name = "breaker";
    let deployment = Deployment::new();
    let (mut script, _) = lying(name, &deployment.key, |from, _| batch(from, &[], &[]).0);
    script.then = Then::BreaksOff;
    let scene = Scene::set(deployment, name, script).await;
    eventually("a first try", async || scene.forged.streams() > 0).await;
    sleep(Duration::from_secs(4)).await;
    // 50, 100, 200, 400, 800, 1600 ms, or half of each: 4 s hold at most eight tries.
    assert!((4..=9).contains(&scene.forged.streams()), "{}", scene.forged.streams());
    scene.assert_others_served().await;
    assert_eq!(logged::lines(&["connected to a peer", name]).len(), 1);
    assert_eq!(logged::lines(&["WARN", name]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_unknown_kinds_are_kept_and_forwarded_byte_for_byte() {
    let name = "future";
    let deployment = Deployment::new();
    let from = log(name, LogKind::Files);
    let mut odd = record(UNKNOWN, b"what this release cannot read");
    // A field that this release does not know, in the envelope too: number 15, one byte.
    odd.envelope = [&odd.envelope[..], &[15 << 3, 1]].concat().into();
    let known = backup(5, b"Name=known\r\n", &deployment.key);
    let records = [record(UNKNOWN, b""), known, odd];
    let (sent, end) = batch(&from, &records, &[b"Name=known\r\n"]);
    let script = Script {
        hello: hello(name, &deployment.key),
        vector: vec![end.clone()],
        batches: vec![sent.clone()],
        then: Then::Beats,
    };
    let scene = Scene::set(deployment, name, script).await;
    scene.site.until_served(&file(5), Some(b"Name=known\r\n")).await;
    assert!(scene.site.vector().await.contains(&end));

    let (tls, hello) = (scene.deployment.tls("next"), hello("next", &scene.deployment.key));
    let mut raw = Raw::greet(&tls, scene.site.place.address, hello).await;
    raw.grant(1_000_000).await;
    raw.want(&[&from]).await;
    assert_eq!(raw.batch().await, sent);
    level(&[&scene.site]).await;
}
