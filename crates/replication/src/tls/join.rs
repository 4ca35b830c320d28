//! The site that we connect to while we have no certificate: known by the fingerprint of its CA.

use std::sync::Arc;

use bruri_domain::Sha256;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::verify_tls13_signature,
    server::ParsedCertificate,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use super::{
    ConnectError, PeerId, Refusal,
    connect::connect_with,
    verify::{JOIN, provider},
};

/// Opens a connection on which nothing but joining is served, to a site whose certificate is of the CA with
/// this fingerprint, and tells whose it is. Nobody else gets to read what is sent.
pub async fn join(address: &str, ca: [u8; 32]) -> Result<(Channel, PeerId), ConnectError> {
    let refused = |refusal| ConnectError::Refused { address: address.to_owned(), refusal };
    let failed = |error: Error| refused(Refusal::Failed(error.to_string()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority(Sha256(ca))))
        .with_no_client_auth();
    config.alpn_protocols = vec![JOIN.to_vec()];
    config.resumption = Resumption::disabled();
    connect_with(&TlsConnector::from(Arc::new(config)), address).await
}

/// Believes a site whose certificate a CA has signed that is shown along and has this fingerprint.
#[derive(Debug)]
struct PinnedAuthority(Sha256);

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| Sha256::of(shown) == self.0);
        let pinned = pinned.ok_or(Refusal::OtherAuthority)?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            provider().signature_verification_algorithms.all,
        )?;
        PeerId::of_certificate(end_entity).map_err(Refusal::from)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
