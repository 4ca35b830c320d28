//! A site's key, and its request for a certificate.

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use bruri_domain::limits::CERTIFICATE_REQUEST_BYTES_MAX;

use crate::{
    authority::make_key,
    certificate::Certificate,
    error::{Context, Outcome, ensure},
};

/// The private key of a site.
pub struct SiteKey(KeyPair);

/// A request for a certificate, whose sender has proved to hold the key it names.
pub struct Request(pub(crate) CertificateSigningRequestParams);

impl SiteKey {
    /// A new one.
    pub fn make() -> Outcome<Self> {
        make_key().map(Self)
    }

    /// Reads one as a file holds it.
    pub fn read(pem: &str) -> Outcome<Self> {
        KeyPair::from_pem(pem).ok().context("it cannot be read as a key").map(Self)
    }

    /// As a file holds it.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Whether a certificate was made for it.
    pub fn fits(&self, certificate: &Certificate) -> bool {
        certificate.fits(&self.0)
    }

    /// Asks for a certificate; the signer decides what it says.
    pub fn request(&self) -> Outcome<String> {
        let params = CertificateParams::default();
        let request = params.serialize_request(&self.0).context("cannot ask for a certificate")?;
        request.pem().context("cannot ask for a certificate")
    }
}

impl Request {
    /// Reads a request and checks that it was signed with the key it names.
    pub fn read(pem: &str) -> Outcome<Self> {
        ensure(pem.len() <= CERTIFICATE_REQUEST_BYTES_MAX, || {
            format!("a request for a certificate has at most {CERTIFICATE_REQUEST_BYTES_MAX} bytes")
        })?;
        let read = CertificateSigningRequestParams::from_pem(pem);
        read.ok()
            .context("the request for a certificate is damaged or of an unknown kind")
            .map(Self)
    }

    /// Tells keys apart.
    pub fn key_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.public_key.der_bytes()).into()
    }
}
