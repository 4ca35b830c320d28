//! What a certificate says, as far as sites look at it.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, pem::Pem, prelude::FromDer,
};

use super::{files, names};

const CERTIFICATES_MAX: usize = 16;

/// One certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The deployment, and the site unless it is a CA's; none where it has no such name.
    pub(crate) name: Option<(String, Option<String>)>,
    /// Whether it may sign others.
    pub(crate) is_ca: bool,
    /// From when it is valid.
    pub(crate) not_before: OffsetDateTime,
    /// Until when it is valid.
    pub(crate) not_after: OffsetDateTime,
    der: Vec<u8>,
}

/// Reads all the certificates of a file; none where it does not exist.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Vec<Certificate>>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let certificates = parse(&text).with_context(|| path.display().to_string())?;
    Ok(Some(certificates))
}

fn parse(text: &str) -> anyhow::Result<Vec<Certificate>> {
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(text.as_bytes()).take(CERTIFICATES_MAX) {
        let block = block.ok().context("the file is damaged")?;
        if block.label == "CERTIFICATE" {
            certificates.push(Certificate::parse(block.contents)?);
        }
    }
    anyhow::ensure!(!certificates.is_empty(), "the file holds no certificate in PEM form");
    Ok(certificates)
}

impl Certificate {
    fn parse(der: Vec<u8>) -> anyhow::Result<Self> {
        let parsed = parse_der(&der)?;
        let (validity, is_ca) = (parsed.validity(), parsed.is_ca());
        let (not_before, not_after) =
            (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        let name = name(&parsed);
        Ok(Self { name, is_ca, not_before, not_after, der })
    }

    /// SHA-256, written as openssl does.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for byte in Sha256::digest(&self.der) {
            let colon = if text.is_empty() { "" } else { ":" };
            // Writing into a string does not fail.
            let _ = write!(text, "{colon}{byte:02X}");
        }
        text
    }

    /// Whether another has signed it.
    pub(crate) fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok(ours), Ok(theirs)) = (parse_der(&self.der), parse_der(&authority.der)) else {
            return false;
        };
        ours.issuer() == theirs.subject()
            && ours.verify_signature(Some(theirs.public_key())).is_ok()
    }

    /// Whether a key is the one it was made for.
    pub(crate) fn fits(&self, key: &KeyPair) -> bool {
        parse_der(&self.der)
            .is_ok_and(|ours| *ours.public_key().subject_public_key.data == *key.der_bytes())
    }
}

fn parse_der(der: &[u8]) -> anyhow::Result<X509Certificate<'_>> {
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
