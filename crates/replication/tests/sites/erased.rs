//! Records that an erasure took the payload of: believed once the erasure is known here, and not before.

use bruri_domain::{Cursor, LogKind};
use bruri_wire::record::RawRecord;

use crate::kit::{
    Deployment, Forged, Script, Then, eventually, logged,
    raw::hello,
    records::{backup, batch, log},
    site::{file, file_id},
};

const NAME: &str = "early";

/// Law 7.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_shows_an_erasure_which_has_not_come_waits_for_it_and_goes_on_then() {
    let deployment = Deployment::new();
    let key = deployment.key.clone();
    let whole = backup(299, b"Name=a\r\n", &key);
    let erased = RawRecord { payload: None, ..whole };
    let (bare, end) = batch(&log(NAME, LogKind::Files), &[erased], &[]);
    let (hello, vector) = (hello(NAME, &key), vec![end.clone()]);
    let script = Script { hello, vector, batches: vec![bare], then: Then::Beats };
    let early = Forged::start(deployment.tls(NAME), script).await;
    let site = deployment.place("site").await.start(&[early.address]).await;
    let why = "the payload is missing, and no erasure is known here that took it";
    eventually("it waits", async || !logged::lines(&["INFO", NAME, why]).is_empty()).await;
    let has_come = |vector: Vec<Cursor>| vector.contains(&end);
    assert!(!has_come(site.vector().await));

    let subject = key.subject_hash(file_id(&file(299)).subject());
    site.store.erase(subject, [1; 16], "uid 0").await.unwrap();

    eventually("its log goes on", async || has_come(site.vector().await)).await;
    assert_eq!(site.get(&file(299)).await, None);
    assert_eq!(early.streams(), 1, "the connection stays");
}
