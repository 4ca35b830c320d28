//! What a certificate says, as far as sites look at it.

use std::{fmt::Write, path::Path};

use crate::error::{Context, Outcome, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bruri_domain::limits::TLS_CERTIFICATES_MAX;
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, pem::Pem, prelude::FromDer,
};

use crate::{files, names};

const PEM_LINE: usize = 64;

/// One certificate.
#[derive(Debug)]
pub struct Certificate {
    /// The deployment, and the site unless it is a CA's; none where it has no such name.
    pub name: Option<(String, Option<String>)>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
    der: Vec<u8>,
}

/// Reads all the certificates of a file; none where it does not exist.
pub fn read(path: &Path) -> Outcome<Option<Vec<Certificate>>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let certificates = parse(&text).with_context(|| path.display().to_string())?;
    Ok(Some(certificates))
}

/// Reads all the certificates of a text.
pub fn parse(text: &str) -> Outcome<Vec<Certificate>> {
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(text.as_bytes()).take(TLS_CERTIFICATES_MAX) {
        let block = block.ok().context("the file is damaged")?;
        if block.label == "CERTIFICATE" {
            certificates.push(Certificate::parse(block.contents)?);
        }
    }
    ensure(!certificates.is_empty(), || "the file holds no certificate in PEM form")?;
    Ok(certificates)
}

impl Certificate {
    fn parse(der: Vec<u8>) -> Outcome<Self> {
        let parsed = parse_der(&der)?;
        let (validity, is_ca) = (parsed.validity(), parsed.is_ca());
        let (not_before, not_after) =
            (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        let name = name(&parsed);
        Ok(Self { name, is_ca, not_before, not_after, der })
    }

    /// SHA-256 of the whole certificate.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The certificate in PEM form.
    pub fn pem(&self) -> String {
        let body = STANDARD.encode(&self.der);
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in body.as_bytes().chunks(PEM_LINE) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
        text
    }

    /// SHA-256, written as openssl does.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for byte in self.sha256() {
            let colon = if text.is_empty() { "" } else { ":" };
            // Writing into a string does not fail.
            let _ = write!(text, "{colon}{byte:02X}");
        }
        text
    }

    /// Whether another has signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok(ours), Ok(theirs)) = (parse_der(&self.der), parse_der(&authority.der)) else {
            return false;
        };
        ours.issuer() == theirs.subject()
            && ours.verify_signature(Some(theirs.public_key())).is_ok()
    }

    /// Whether a key is the one it was made for.
    pub fn fits(&self, key: &KeyPair) -> bool {
        self.is_of(key.der_bytes())
    }

    /// Whether these are the bits of its public key.
    pub fn is_of(&self, public_key: &[u8]) -> bool {
        parse_der(&self.der)
            .is_ok_and(|ours| *ours.public_key().subject_public_key.data == *public_key)
    }
}

fn parse_der(der: &[u8]) -> Outcome<X509Certificate<'_>> {
    let (_, parsed) =
        X509Certificate::from_der(der).ok().context("the certificate cannot be read")?;
    Ok(parsed)
}

/// The one SPIFFE name; several are none, as sites see it.
fn name(parsed: &X509Certificate<'_>) -> Option<(String, Option<String>)> {
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.to_ascii_lowercase().starts_with("spiffe:") => Some(*uri),
        _ => None,
    });
    let first = uris.next()?;
    uris.next().is_none().then(|| names::read_uri(first)).flatten()
}
