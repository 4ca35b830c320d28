//! Deployments for tests: CAs, and sites with their files in folders that vanish with them.

use std::{fs, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::tls::{Tls, TlsFiles, verify};

/// A deployment's CA.
pub(crate) struct Authority {
    deployment: String,
    root: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Certificates between ours and the root, in PEM.
    between: String,
}

/// A site's files.
pub(crate) struct Site {
    pub(crate) files: TlsFiles,
    dir: TempDir,
}

/// What a certificate says.
pub(crate) struct Leaf {
    pub(crate) uris: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Authority {
    pub(crate) fn new(deployment: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(deployment), key()).unwrap();
        let (root, between) = (issuer.pem(), String::new());
        Self { deployment: deployment.to_owned(), root, issuer, between }
    }

    /// One that this one has signed, with the same root.
    pub(crate) fn intermediate(&self) -> Self {
        let params = authority("intermediate");
        let issuer = CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap();
        let between = issuer.pem();
        Self { deployment: self.deployment.clone(), root: self.root.clone(), issuer, between }
    }

    pub(crate) fn issue(&self, site: &str) -> Site {
        self.issue_leaf(&Leaf::site(&self.deployment, site))
    }

    pub(crate) fn issue_leaf(&self, leaf: &Leaf) -> Site {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            ca_file: path("ca.crt"),
            cert_file: path("site.crt"),
            key_file: path("site.key"),
        };
        let site = Site { files, dir };
        self.issue_into(&site, leaf);
        site
    }

    /// Replaces a site's files.
    pub(crate) fn issue_into(&self, site: &Site, leaf: &Leaf) {
        let key = key();
        let certificate = leaf.params().signed_by(&key, &self.issuer).unwrap();
        fs::write(&site.files.ca_file, &self.root).unwrap();
        fs::write(&site.files.cert_file, certificate.pem() + &self.between).unwrap();
        fs::write(&site.files.key_file, key.serialize_pem()).unwrap();
    }
}

impl Site {
    pub(crate) fn tls(&self) -> Tls {
        Tls::load(self.files.clone()).unwrap()
    }

    /// Trusts another CA too.
    pub(crate) fn trust(&self, other: &Authority) {
        assert!(self.dir.path().exists());
        let ours = fs::read_to_string(&self.files.ca_file).unwrap();
        fs::write(&self.files.ca_file, ours + &other.root).unwrap();
    }
}

impl Leaf {
    pub(crate) fn site(deployment: &str, site: &str) -> Self {
        Self::with_uri(&format!("spiffe://{deployment}/site/{site}"))
    }

    pub(crate) fn with_uri(uri: &str) -> Self {
        let (not_before, not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        Self { uris: vec![uri.to_owned()], not_before, not_after }
    }

    pub(crate) fn expired(self) -> Self {
        Self { not_after: date_time_ymd(2021, 1, 1), ..self }
    }

    fn params(&self) -> CertificateParams {
        let sans = self.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        let mut params = params(sans.collect(), self.not_before, self.not_after);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }
}

pub(crate) fn self_signed(sans: Vec<SanType>) -> CertificateDer<'static> {
    let params = params(sans, date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
    params.self_signed(&key()).unwrap().into()
}

pub(crate) fn self_signed_between(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> CertificateDer<'static> {
    params(Vec::new(), not_before, not_after).self_signed(&key()).unwrap().into()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(Vec::new(), date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn params(
    sans: Vec<SanType>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = sans;
    params.not_before = not_before;
    params.not_after = not_after;
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A client that shows this site's certificate, or none, and accepts any server.
pub(crate) fn lenient(site: Option<&Site>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(verify::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(verify::provider())));
    Arc::new(match site {
        None => builder.with_no_client_auth(),
        Some(site) => {
            let chain = vec![CertificateDer::from_pem_file(&site.files.cert_file).unwrap()];
            let key = PemObject::from_pem_file(&site.files.key_file).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
