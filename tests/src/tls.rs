//! The replication port as a stranger sees it: connections with any certificate, or none.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bruri_wire::proto::replication::v1::replication_service_client::ReplicationServiceClient;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::address::Address;

/// The certificate of a folder that `bruri pki issue` made.
pub fn certificate(pki: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(pki.join("site.crt")).context("read a certificate")
}

/// The certificate that a site presents to whoever connects.
pub async fn presented(address: SocketAddr) -> anyhow::Result<CertificateDer<'static>> {
    let stream = handshake(address, None).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.first().context("the site presents no certificate")?.clone().into_owned())
}

/// A TLS connection as the site of a folder that `bruri pki issue` made, or as nobody.
pub async fn handshake(
    address: SocketAddr,
    pki: Option<&Path>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let config = Arc::new(config(pki)?);
    let name = ServerName::from(address.ip());
    let stream = reach(address).await.context("reach a site as a stranger")?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    stream.context("shake hands as a stranger")
}

/// A client of the replication service that proves to be the site of this folder.
pub async fn client(
    address: SocketAddr,
    pki: &Path,
) -> anyhow::Result<ReplicationServiceClient<Channel>> {
    as_site(address, pki).await.map(ReplicationServiceClient::new)
}

/// A client of whatever is served to who has no certificate and wants to join.
pub async fn newcomer(address: SocketAddr) -> anyhow::Result<Channel> {
    let mut config = config(None)?;
    config.alpn_protocols = vec![b"bruri-join/1".to_vec()];
    let name = ServerName::from(address.ip());
    let stream = reach(address).await.context("reach a site as a newcomer")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    channel(stream.context("shake hands as a newcomer")?).await
}

/// A connection that proves to be the site of this folder.
pub async fn as_site(address: SocketAddr, pki: &Path) -> anyhow::Result<Channel> {
    channel(handshake(address, Some(pki)).await?).await
}

/// A connection without a certificate, as far as it goes.
pub async fn as_nobody(address: SocketAddr) -> anyhow::Result<Channel> {
    channel(handshake(address, None).await?).await
}

async fn channel(stream: TlsStream<TcpStream>) -> anyhow::Result<Channel> {
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::other("there is only one")))
    });
    let channel = Endpoint::from_static("http://peer").connect_with_connector(once).await;
    channel.context("speak HTTP/2 as a stranger")
}

/// Connects from an address that no site has seen before: refusals are logged once for each.
pub async fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(Address::take().peers().ip(), 0))?;
    socket.connect(address).await
}

fn config(pki: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let anyone = Arc::new(Anyone(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("choose TLS 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(anyone);
    let mut config = match pki {
        None => builder.with_no_client_auth(),
        Some(pki) => {
            let key = PrivateKeyDer::from_pem_file(pki.join("site.key")).context("read a key")?;
            builder.with_client_auth_cert(vec![certificate(pki)?], key).context("use a key")?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes whatever certificate a site presents: the site is to do the refusing.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
