//! Our own certificate, key and CAs, read from files and held against each other.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bruri_domain::limits::{TLS_CERTIFICATES_MAX, TLS_FILE_BYTES_MAX};
use rustls::{RootCertStore, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, UnixTime,
    pem::{self, PemObject},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{InvalidPeerId, PeerId, der, verify};

/// Where the site's certificates are, all in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The CAs that peers' certificates come from, one or several.
    pub ca_file: PathBuf,
    /// Our certificate, then the intermediate ones up to a CA if there are any.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// What the files hold, proved to fit together.
#[derive(Debug)]
pub struct Identity {
    id: PeerId,
    validity: Validity,
    authorities: Arc<RootCertStore>,
    cas: Vec<CertificateDer<'static>>,
    certified: CertifiedKey,
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

/// Why the files are of no use; each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or may not be read.
    #[error("cannot read {}: {source}; check the path and that brurid's user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any such file is.
    #[error("{} is larger than {TLS_FILE_BYTES_MAX} bytes; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is no PEM of the right kind.
    #[error("{} holds no {expected} in PEM form ({reason}); is it the right file?", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A file holds more certificates than are ever looked at.
    #[error("{} holds more than {TLS_CERTIFICATES_MAX} certificates; remove what is not needed", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be used.
    #[error("{}: {reason}; have it made again, e.g. by `bruri pki issue`", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Our certificate names no site.
    #[error("{}: {source}; have it made again, e.g. by `bruri pki issue`", path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        source: InvalidPeerId,
    },
    /// The private key is another certificate's, or of a kind that is not supported.
    #[error("the key {} does not fit the certificate {} ({reason}); copy both from the same place", key.display(), cert.display())]
    Key {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// Our certificate does not come from our CA.
    #[error("the certificate {} was not signed by a CA in {} for use between sites ({reason}); copy both from the same place", cert.display(), ca.display())]
    Chain {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the CAs.
        ca: PathBuf,
        /// What the verifier said.
        reason: String,
    },
    /// The files were replaced by those of another site.
    #[error("{} is now the certificate of {now}, but this is {was}; put the right one back, or restart brurid under the new name", path.display())]
    OtherIdentity {
        /// The file with the certificate.
        path: PathBuf,
        /// Whom it names now.
        now: PeerId,
        /// Who we are.
        was: PeerId,
    },
    /// TLS does not accept what the files hold, although all of the above was in order.
    #[error("TLS cannot be set up: {0}")]
    Config(#[from] rustls::Error),
}

impl Identity {
    /// Reads the files and holds them against each other. An expired certificate is no error: peers
    /// refuse it and say so, and the site serves its phones all the same.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let cas = read_certificates(&files.ca_file)?;
        let authorities = Arc::new(authorities(&cas, &files.ca_file)?);
        let chain = read_certificates(&files.cert_file)?;
        let key = read_key(&files.key_file)?;
        let leaf = chain.first().ok_or_else(|| certificate(files, "it is empty"))?;
        let id = PeerId::of_certificate(leaf)
            .map_err(|source| TlsError::Id { path: files.cert_file.clone(), source })?;
        let validity =
            der::validity(leaf).ok_or_else(|| certificate(files, "its dates cannot be read"))?;
        check_chain(&chain, validity, &authorities).map_err(|error| TlsError::Chain {
            cert: files.cert_file.clone(),
            ca: files.ca_file.clone(),
            reason: error.to_string(),
        })?;
        let certified = certify(chain, key, files)?;
        Ok(Self { id, validity, authorities, cas, certified })
    }

    /// Who the certificate says we are.
    pub fn id(&self) -> &PeerId {
        &self.id
    }

    /// When it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn authorities(&self) -> &Arc<RootCertStore> {
        &self.authorities
    }

    pub(super) fn certified(&self) -> CertifiedKey {
        self.certified.clone()
    }

    /// With the CAs at the end of the chain.
    pub(super) fn certified_with_cas(&self) -> CertifiedKey {
        let mut certified = self.certified.clone();
        certified.cert.extend(self.cas.iter().cloned());
        certified
    }
}

fn authorities(cas: &[CertificateDer<'static>], path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for authority in cas {
        store.add(authority.clone()).map_err(|error| TlsError::Certificate {
            path: path.to_owned(),
            reason: format!("a CA in it cannot be used ({error})"),
        })?;
    }
    Ok(store)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .take(TLS_CERTIFICATES_MAX.saturating_add(1))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_pem(path, "certificate", &error))?;
    match certificates.len() {
        0 => Err(no_pem(path, "certificate", &pem::Error::NoItemsFound)),
        1..=TLS_CERTIFICATES_MAX => Ok(certificates),
        _ => Err(TlsError::TooMany { path: path.to_owned() }),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| no_pem(path, "private key", &error))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(failed)?.take(TLS_FILE_BYTES_MAX.saturating_add(1));
    let length = file.read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(length).is_ok_and(|length| length <= TLS_FILE_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err(TlsError::TooLarge { path: path.to_owned() })
    }
}

/// The parser's own texts may quote the file, and that may be a key.
fn no_pem(path: &Path, expected: &'static str, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::NoItemsFound => "there is none",
        _ => "it is damaged",
    };
    TlsError::Pem { path: path.to_owned(), expected, reason: reason.to_owned() }
}

fn certificate(files: &TlsFiles, reason: &str) -> TlsError {
    TlsError::Certificate { path: files.cert_file.clone(), reason: reason.to_owned() }
}

/// Whether the chain leads to a CA, both as a server's and as a client's, at the moment from which it
/// is valid: whether it still is, peers judge by their own clocks.
fn check_chain(
    chain: &[CertificateDer<'_>],
    validity: Validity,
    authorities: &RootCertStore,
) -> Result<(), webpki::Error> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(webpki::Error::UnknownIssuer);
    };
    let leaf = EndEntityCert::try_from(leaf)?;
    let since_1970 = Duration::from_secs(u64::try_from(validity.not_before).unwrap_or(0));
    let algorithms = verify::provider().signature_verification_algorithms.all;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let now = UnixTime::since_unix_epoch(since_1970);
        let roots = &authorities.roots;
        leaf.verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)?;
    }
    Ok(())
}

fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &TlsFiles,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &verify::provider()).map_err(|error| TlsError::Key {
        key: files.key_file.clone(),
        cert: files.cert_file.clone(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::testing::{Authority, Leaf};

    #[test]
    fn files_that_fit_name_the_site_and_its_dates() {
        let site = Authority::new("acme").issue("london");
        let identity = Identity::load(&site.files).unwrap();
        assert_eq!(identity.id().to_string(), "spiffe://acme/site/london");
        assert_eq!(
            identity.validity().not_after,
            Leaf::site("acme", "london").not_after.unix_timestamp()
        );
    }

    #[test]
    fn an_expired_certificate_loads() {
        let site = Authority::new("acme").issue_leaf(&Leaf::site("acme", "london").expired());
        assert!(Identity::load(&site.files).is_ok());
    }

    #[test]
    fn a_chain_through_an_intermediate_certificate_loads() {
        let site = Authority::new("acme").intermediate().issue("london");
        assert!(Identity::load(&site.files).is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let site = Authority::new("acme").issue("london");
        fs::remove_file(&site.files.key_file).unwrap();
        let text = Identity::load(&site.files).unwrap_err().to_string();
        assert!(text.contains("site.key") && text.contains("check the path"), "{text}");
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let mut ours = Authority::new("acme").issue("london");
        let other = Authority::new("acme").issue("london");
        ours.files.ca_file.clone_from(&other.files.ca_file);
        let text = Identity::load(&ours.files).unwrap_err().to_string();
        assert!(text.contains("was not signed by a CA in"), "{text}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = Authority::new("acme");
        let (mut ours, other) = (authority.issue("london"), authority.issue("london"));
        ours.files.key_file.clone_from(&other.files.key_file);
        assert!(matches!(Identity::load(&ours.files), Err(TlsError::Key { .. })));
    }

    #[test]
    fn a_certificate_without_a_site_is_refused() {
        let site = Authority::new("acme").issue_leaf(&Leaf::with_uri("https://london.example/"));
        let refused = Identity::load(&site.files).unwrap_err();
        assert!(matches!(refused, TlsError::Id { source: InvalidPeerId::Missing, .. }));
    }

    #[test]
    fn swapped_and_damaged_files_are_refused_without_quoting_them() {
        let site = Authority::new("acme").issue("london");
        let key = fs::read_to_string(&site.files.key_file).unwrap();
        for text in [key.clone(), key.replace("PRIVATE KEY", "CERTIFICATE"), key.replace("END", "")]
        {
            fs::write(&site.files.cert_file, &text).unwrap();
            let refused = format!("{:?}", Identity::load(&site.files).unwrap_err());
            assert!(refused.contains("site.crt"), "{refused}");
            let secret = key.lines().nth(1).unwrap();
            assert!(!refused.contains(&secret[..12]), "{refused}");
        }
    }

    #[test]
    fn files_beyond_the_bounds_are_refused() {
        let site = Authority::new("acme").issue("london");
        let cert = fs::read_to_string(&site.files.cert_file).unwrap();
        fs::write(&site.files.ca_file, cert.repeat(TLS_CERTIFICATES_MAX + 1)).unwrap();
        assert!(matches!(Identity::load(&site.files), Err(TlsError::TooMany { .. })));
        fs::write(&site.files.ca_file, cert.repeat(1000)).unwrap();
        assert!(matches!(Identity::load(&site.files), Err(TlsError::TooLarge { .. })));
    }
}
