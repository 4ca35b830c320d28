//! Whoever should not be at the replication port: refused with a reason, while others are served.

use std::path::Path;
use std::time::Duration;

use bruri_tests::deployment::Pki;
use bruri_tests::{Bodies, Book, Deployment, Phone, Site, eventually, level, tls};
use bruri_wire::proto::replication::v1::subscribe_request::Request;
use bruri_wire::proto::replication::v1::{Hello, SubscribeRequest};
use rand::RngCore as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tonic::Status;

use crate::turn;

const PATIENCE: Duration = Duration::from_secs(20);
const GARBAGE_BYTES: usize = 64 * 1024;
/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_replication_port_are_refused_and_logged_while_others_are_served() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let london = &deployment.sites[0];
    let folder = deployment.folder();
    let paris = deployment.pki().issue("paris", &folder.join("paris-pki")).await.unwrap();
    let other = Pki::make(&folder.join("other"), "globex").await.unwrap();
    let other = other.issue("tokyo", &folder.join("other-pki")).await.unwrap();

    another_deployment_is_refused(london, &other).await;
    another_sites_name_is_refused(london, &paris).await;
    garbage_is_refused(london, &paris).await;

    others_are_served(&deployment).await;
    let log = "select 1 from log where site not in ('london', 'tokyo')";
    let strangers = format!("create temporary table strangers as {log}");
    assert_eq!(london.database().await.unwrap().execute(&strangers).await.unwrap(), 0);
}

async fn another_deployment_is_refused(site: &Site, pki: &Path) {
    subscribe(site, pki, "tokyo").await.unwrap_err();
    let line = site.says("refused a connection from 127.").await.unwrap();
    assert!(line.contains("its certificate was not signed by a CA in our ca_file"), "{line}");
}

async fn another_sites_name_is_refused(site: &Site, pki: &Path) {
    let error = subscribe(site, pki, "tokyo").await.unwrap_err();
    assert!(format!("{error:#}").contains("Hello names site"), "{error:#}");
    let line = site.says("refused a peer").await.unwrap();
    assert!(line.contains("the certificate paris"), "{line}");
}

async fn garbage_is_refused(site: &Site, pki: &Path) {
    let mut garbage = vec![0; GARBAGE_BYTES];
    rand::rng().fill_bytes(&mut garbage);
    let mut plain = tls::reach(site.peers()).await.unwrap();
    closes_on(&mut plain, &garbage).await;
    site.says("it does not speak TLS").await.unwrap();
    let mut stream = tls::handshake(site.peers(), Some(pki)).await.unwrap();
    closes_on(&mut stream, &garbage).await;
    let mut stream = tls::handshake(site.peers(), Some(pki)).await.unwrap();
    closes_on(&mut stream, &[PREFACE, &garbage].concat()).await;
}

/// Sends bytes and waits for the end of the connection.
async fn closes_on<S>(stream: &mut S, bytes: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // It may hang up before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it never hung up");
}

/// Opens a subscription, with a certificate and a Hello that says this name.
pub(crate) async fn subscribe(site: &Site, pki: &Path, name: &str) -> anyhow::Result<()> {
    let mut client = tls::client(site.peers(), pki).await?;
    let hello =
        Hello { site: name.to_owned(), protocol_min: 1, protocol_max: 1, ..Hello::default() };
    let request = SubscribeRequest { request: Some(Request::Hello(hello)) };
    let said = tokio_stream::iter([request]);
    let mut heard = timeout(PATIENCE, client.subscribe(said)).await??.into_inner();
    let refusal: Result<_, Status> = timeout(PATIENCE, async {
        while heard.message().await?.is_some() {}
        Ok(())
    })
    .await?;
    Ok(refusal?)
}

async fn others_are_served(deployment: &Deployment) {
    let (london, tokyo) = (&deployment.sites[0], &deployment.sites[1]);
    let body = Bodies::new(1).next(500);
    let file = "299_16xxdata.txt";
    Phone::new(london.phones()).back_up(file, &body, &Book::default()).await.unwrap();
    eventually(PATIENCE, "the backup is at tokyo", async || {
        let got = Phone::new(tokyo.phones()).restore(file).await?;
        anyhow::ensure!(got.as_deref() == Some(&body), "it is not");
        Ok(())
    })
    .await
    .unwrap();
    level(&deployment.sites).await.unwrap();
}
