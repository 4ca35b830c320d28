//! Sites that meet over real sockets.

use std::{
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bruri_domain::limits::{PEER_CONNECTIONS_MAX, PEER_HANDSHAKE_SECONDS_MAX};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    transport::Channel,
};
use tower::{Service, ServiceExt};

use super::{
    ConnectError, PeerConnection, Refusal, Tls, TlsError, connect, incoming, server,
    testing::{Authority, Leaf, Site, lenient},
    verify,
};

/// A site that answers every request with the name of the peer that asked.
struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listening {
    async fn start(tls: &Tls) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let peers = incoming(listener, tls.clone(), &tasks, stop.clone());
        let answer = tower::service_fn(|request: Request<Body>| {
            let asked_by = request.extensions().get::<PeerConnection>().cloned().unwrap();
            assert!(asked_by.address.ip().is_loopback());
            let answer = Response::builder().header("peer", asked_by.peer.to_string());
            std::future::ready(Ok::<_, Infallible>(answer.body(Body::empty()).unwrap()))
        });
        tasks.spawn(async move { server().serve_with_incoming(answer, peers).await.unwrap() });
        Self { address, stop, tasks }
    }

    async fn meet(&self, tls: &Tls) -> Result<Channel, Refusal> {
        match connect(tls, &self.address.to_string()).await {
            Ok((channel, _)) => Ok(channel),
            Err(ConnectError::Refused { refusal, .. }) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn ask(channel: &Channel) -> Result<String, tonic::transport::Error> {
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    let mut channel = channel.clone();
    let answer = channel.ready().await?.call(request).await?;
    Ok(answer.headers()["peer"].to_str().unwrap().to_owned())
}

fn two_sites() -> (Site, Site) {
    let acme = Authority::new("acme");
    (acme.issue("london"), acme.issue("tokyo"))
}

#[tokio::test]
async fn sites_of_one_deployment_know_each_other_on_both_sides() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let address = listening.address.to_string();
    let (channel, peer) = connect(&tokyo.tls(), &address).await.unwrap();
    assert_eq!(peer.to_string(), "spiffe://acme/site/london");
    assert_eq!(ask(&channel).await.unwrap(), "spiffe://acme/site/tokyo");
}

#[tokio::test]
async fn a_host_name_need_not_be_in_the_certificate() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let address = format!("localhost:{}", listening.address.port());
    assert!(connect(&tokyo.tls(), &address).await.is_ok());
}

#[tokio::test]
async fn a_site_of_another_ca_is_refused_on_both_sides() {
    let london = Authority::new("acme").issue("london");
    let stranger = Authority::new("acme").issue("tokyo");
    let listening = Listening::start(&london.tls()).await;
    assert_eq!(listening.meet(&stranger.tls()).await.unwrap_err(), Refusal::UnknownAuthority);

    let (london, acme) = (Authority::new("acme"), Authority::new("acme"));
    let tokyo = acme.issue("tokyo");
    tokyo.trust(&london);
    let listening = Listening::start(&london.issue("london").tls()).await;
    assert_eq!(listening.meet(&tokyo.tls()).await.unwrap_err(), Refusal::TheirUnknownAuthority);
}

#[tokio::test]
async fn a_site_of_another_deployment_is_refused_even_with_our_ca() {
    let acme = Authority::new("acme");
    let london = acme.issue("london");
    let other = acme.issue_leaf(&Leaf::site("beta", "tokyo"));
    let listening = Listening::start(&london.tls()).await;
    let refusal = listening.meet(&other.tls()).await.unwrap_err();
    assert_eq!(refusal.to_string(), "its certificate is of the deployment acme, ours is beta");
}

#[tokio::test]
async fn our_own_name_is_refused() {
    let acme = Authority::new("acme");
    let (london, copy) = (acme.issue("london"), acme.issue("london"));
    let listening = Listening::start(&london.tls()).await;
    let refusal = listening.meet(&copy.tls()).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::OwnName(name) if name.as_str() == "london"), "{refusal}");
}

/// The server's own judgement, of a client that accepts any server.
async fn judged(site: &Site, client: Arc<ClientConfig>) -> Refusal {
    let listening = Listening::start(&site.tls()).await;
    let tcp = TcpStream::connect(listening.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(client).connect(name, tcp).await.unwrap();
    // As a real client does, before it hears whether it is welcome, and on while the answer arrives.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    tls.get_ref().0.readable().await.unwrap();
    for _ in 0..3 {
        tls.write_all(b"more").await.unwrap();
    }
    let mut bytes = Vec::new();
    Refusal::of_handshake(&tls.read_to_end(&mut bytes).await.unwrap_err())
}

#[tokio::test]
async fn a_server_refuses_other_deployments_and_its_own_name() {
    let acme = Authority::new("acme");
    let london = acme.issue("london");
    for leaf in [Leaf::site("beta", "tokyo"), Leaf::site("acme", "london")] {
        let client = acme.issue_leaf(&leaf);
        assert_eq!(judged(&london, lenient(Some(&client))).await, Refusal::TheirIdentity);
    }
    let nameless = acme.issue_leaf(&Leaf { uris: Vec::new(), ..Leaf::site("acme", "tokyo") });
    assert_eq!(judged(&london, lenient(Some(&nameless))).await, Refusal::TheirIdentity);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let london = Authority::new("acme").issue("london");
    let refusal = judged(&london, lenient(None)).await;
    assert_eq!(refusal, Refusal::Theirs("CertificateRequired".to_owned()));
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let (london, _) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let roots = RootCertStore::empty();
    let old = ClientConfig::builder_with_provider(verify::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(listening.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let error = TlsConnector::from(Arc::new(old)).connect(name, tcp).await.unwrap_err();
    assert_eq!(Refusal::of_handshake(&error), Refusal::Theirs("ProtocolVersion".to_owned()));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let acme = Authority::new("acme");
    let london = acme.issue("london");
    let expired = acme.issue_leaf(&Leaf::site("acme", "tokyo").expired());
    let refusal = Listening::start(&expired.tls()).await.meet(&london.tls()).await.unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
    let refusal = Listening::start(&london.tls()).await.meet(&expired.tls()).await.unwrap_err();
    assert_eq!(refusal, Refusal::TheirExpired);
}

#[tokio::test]
async fn garbage_is_refused_and_the_others_are_served() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let before = listening.meet(&tokyo.tls()).await.unwrap();
    let mut garbage = TcpStream::connect(listening.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(3), garbage.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.len() < 16, "an alert at most");
    assert!(ask(&before).await.is_ok());
    assert!(ask(&listening.meet(&tokyo.tls()).await.unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_crowd_of_silent_connections_keeps_no_peer_out() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(listening.address).await.unwrap());
    }
    let begun = Instant::now();
    let channel = listening.meet(&tokyo.tls()).await.unwrap();
    assert!(ask(&channel).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_silent_connection_is_dropped_in_time() {
    let (london, _) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let mut silent = TcpStream::connect(listening.address).await.unwrap();
    let patience = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX + 2);
    let mut answer = Vec::new();
    timeout(patience, silent.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn connections_from_peers_are_bounded_and_one_that_ends_makes_room() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let tls = tokyo.tls();
    let mut channels = Vec::new();
    for _ in 0..PEER_CONNECTIONS_MAX {
        channels.push(listening.meet(&tls).await.unwrap());
    }
    assert_eq!(listening.meet(&tls).await.unwrap_err(), Refusal::Closed);
    channels.pop();
    let again = async { while listening.meet(&tls).await.is_err() {} };
    timeout(Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test]
async fn new_handshakes_use_reloaded_certificates_and_old_connections_go_on() {
    let acme = Authority::new("acme");
    let (london, tokyo) = (acme.issue("london"), acme.issue("tokyo"));
    let (ours, theirs) = (london.tls(), tokyo.tls());
    let listening = Listening::start(&ours).await;
    let old = listening.meet(&theirs).await.unwrap();
    let before = shown(listening.address, &theirs).await;

    let validity = ours.validity();
    let renewed =
        Leaf { not_after: rcgen::date_time_ymd(2110, 1, 1), ..Leaf::site("acme", "london") };
    acme.issue_into(&london, &renewed);
    ours.reload().unwrap();

    assert_ne!(ours.validity(), validity);
    let after = shown(listening.address, &theirs).await;
    assert_ne!(after, before);
    assert_eq!(after, CertificateDer::from_pem_file(&london.files.cert_file).unwrap());
    assert!(ask(&old).await.is_ok());
    assert!(ask(&listening.meet(&theirs).await.unwrap()).await.is_ok());
}

/// The certificate that a site shows.
async fn shown(address: SocketAddr, tls: &Tls) -> CertificateDer<'static> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tls.connector().connect(name, tcp).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_ca_that_was_taken_away_lets_nobody_in_any_more() {
    let (old, new) = (Authority::new("acme"), Authority::new("acme"));
    let (london, tokyo) = (new.issue("london"), old.issue("tokyo"));
    london.trust(&old);
    tokyo.trust(&new);
    let (ours, theirs) = (london.tls(), tokyo.tls());
    let listening = Listening::start(&ours).await;
    assert!(listening.meet(&theirs).await.is_ok());
    new.issue_into(&london, &Leaf::site("acme", "london"));
    ours.reload().unwrap();
    assert_eq!(listening.meet(&theirs).await.unwrap_err(), Refusal::TheirUnknownAuthority);
}

#[tokio::test]
async fn a_reload_that_fails_leaves_everything_as_it_was() {
    let (london, tokyo) = two_sites();
    let ours = london.tls();
    let listening = Listening::start(&ours).await;
    fs::write(&london.files.cert_file, "not a certificate").unwrap();
    assert!(matches!(ours.reload(), Err(TlsError::Pem { .. })));
    assert!(listening.meet(&tokyo.tls()).await.is_ok());
}

#[tokio::test]
async fn a_reload_into_another_site_is_refused() {
    let acme = Authority::new("acme");
    let london = acme.issue("london");
    let ours = london.tls();
    acme.issue_into(&london, &Leaf::site("acme", "tokyo"));
    assert!(matches!(ours.reload(), Err(TlsError::OtherIdentity { .. })));
    assert_eq!(ours.ours().site.as_str(), "london");
}

#[tokio::test]
async fn peers_of_both_cas_in_a_ca_file_are_trusted() {
    let (old, new) = (Authority::new("acme"), Authority::new("acme"));
    let london = old.issue("london");
    london.trust(&new);
    let listening = Listening::start(&london.tls()).await;
    let (paris, tokyo) = (old.issue("paris"), new.issue("tokyo"));
    tokyo.trust(&old);
    for site in [paris, tokyo] {
        assert!(listening.meet(&site.tls()).await.is_ok());
    }
}

#[tokio::test]
async fn a_channel_whose_connection_ended_stays_dead() {
    let (london, tokyo) = two_sites();
    let listening = Listening::start(&london.tls()).await;
    let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = relay.local_addr().unwrap().to_string();
    let behind = listening.address;
    let cut = CancellationToken::new();
    let cutting = cut.clone();
    listening.tasks.spawn(async move {
        let (mut from, _) = relay.accept().await.unwrap();
        let mut to = TcpStream::connect(behind).await.unwrap();
        tokio::select! {
            () = cutting.cancelled() => {}
            _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        }
        // The relay goes on listening: a second connection would be seen.
        drop((from, to));
        assert!(timeout(Duration::from_secs(1), relay.accept()).await.is_err());
    });
    let (channel, _) = connect(&tokyo.tls(), &address).await.unwrap();
    assert!(ask(&channel).await.is_ok());
    cut.cancel();
    for _ in 0..3 {
        assert!(timeout(Duration::from_secs(1), ask(&channel)).await.unwrap().is_err());
    }
    listening.stop.cancel();
    listening.tasks.close();
    timeout(Duration::from_secs(5), listening.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_told_apart() {
    let (_, tokyo) = two_sites();
    let tls = tokyo.tls();
    for address in ["", "london", "london:", "london:x", "london:70000", "[::1:7440", "a b:1"] {
        let error = connect(&tls, address).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address { .. }), "{address}");
        assert!(error.needs_a_person());
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let error = connect(&tls, &free.to_string()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(!error.needs_a_person());
    let error = connect(&tls, "nowhere.invalid:7440").await.unwrap_err();
    assert!(!error.needs_a_person(), "{error}");
}

#[tokio::test]
async fn a_port_that_is_not_ours_is_told_apart() {
    let (_, tokyo) = two_sites();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = TaskTracker::new();
    web.spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp.shutdown().await.unwrap();
        tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await.ok();
    });
    match connect(&tokyo.tls(), &address).await.unwrap_err() {
        ConnectError::Refused { refusal, .. } => assert_eq!(refusal, Refusal::NotTls),
        error => panic!("{error}"),
    }
}
