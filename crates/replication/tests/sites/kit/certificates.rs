//! A CA, and certificates of sites in folders that vanish with them.

use std::fs;

use bruri_replication::tls::{Tls, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

pub(crate) const DEPLOYMENT: &str = "acme";

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

pub(crate) struct Certificate {
    files: TlsFiles,
    _dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, site: &str) -> Certificate {
        let uri = format!("spiffe://{DEPLOYMENT}/site/{site}");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();

        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            ca_file: path("ca.crt"),
            cert_file: path("site.crt"),
            key_file: path("site.key"),
        };
        fs::write(&files.ca_file, self.0.pem()).unwrap();
        fs::write(&files.cert_file, leaf.pem()).unwrap();
        fs::write(&files.key_file, key.serialize_pem()).unwrap();
        Certificate { files, _dir: dir }
    }
}

impl Certificate {
    pub(crate) fn tls(&self) -> Tls {
        Tls::load(self.files.clone()).unwrap()
    }
}
