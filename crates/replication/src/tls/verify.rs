//! Who is let in: a certificate of our CA, for a site of our deployment that is not ourselves.
//!
//! A site is its SPIFFE name, wherever it is reached, so host names and addresses are not compared.
//! Everything else is as strict as TLS has it: chain, dates and purpose by webpki, signatures by the
//! provider. Sessions are never resumed: each connection proves its certificate anew, so that one that
//! was replaced, expired or lost its CA opens no more connections.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Identity, PeerId, Refusal, TlsError};

const HTTP2: &[u8] = b"h2";
/// The protocol of who has no certificate yet: HTTP/2, and nothing but joining is served.
pub(super) const JOIN: &[u8] = b"bruri-join/1";

/// The one provider of cryptography, whatever others a dependency brings in.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let chain =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(identity.authorities()), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Arc::new(ClientVerifier { ours: identity.id().clone(), chain });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For those who join: we prove who we are, with the CAs themselves along so that they can be held against
/// a fingerprint, and they do not.
pub(super) fn join_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_with_cas())));
    config.alpn_protocols = vec![JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

pub(super) fn client_config(identity: &Identity) -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(ServerVerifier {
        ours: identity.id().clone(),
        authorities: Arc::clone(identity.authorities()),
        provider: provider(),
    });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What both sides hold against a certificate whose chain is in order.
fn check_identity(ours: &PeerId, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
    let theirs = PeerId::of_certificate(certificate)?;
    if theirs.deployment != ours.deployment {
        let ours = ours.deployment.clone();
        return Err(Refusal::OtherDeployment { theirs: theirs.deployment, ours });
    }
    if theirs.site == ours.site {
        return Err(Refusal::OwnName(theirs.site));
    }
    Ok(())
}

/// Holds a client's certificate against webpki's rules, then ours.
#[derive(Debug)]
struct ClientVerifier {
    ours: PeerId,
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check_identity(&self.ours, end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Holds a server's certificate against webpki's rules but for the host's name, then ours.
#[derive(Debug)]
struct ServerVerifier {
    ours: PeerId,
    authorities: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.authorities,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        check_identity(&self.ours, end_entity)?;
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
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
