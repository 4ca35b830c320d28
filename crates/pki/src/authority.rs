//! The deployment's CA: made once, then issuing.

use std::path::Path;

use crate::error::{Context, Outcome, PkiError, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{
    certificate::{self, Certificate},
    files::{self, CA_CERT, CA_KEY},
    names,
    request::Request,
};

/// The longest that anything is valid: as long as the CA, ten years.
pub const DAYS_MAX: i64 = 3650;
/// Certificates are valid from a little earlier, since the sites' clocks differ.
const BACKDATED: Duration = Duration::days(1);

/// A CA with its key.
pub struct Authority {
    deployment: String,
    /// The CAs that sites trust, one or, during a rotation, several.
    trusted_pem: String,
    trusted: Vec<Certificate>,
    /// The one that issues.
    cert_pem: String,
    not_after: OffsetDateTime,
    key: KeyPair,
}

/// What a site gets.
pub struct Issued {
    /// Its certificate.
    pub cert_pem: String,
    /// The key of it.
    pub key_pem: String,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
}

impl Authority {
    /// A new CA for a deployment.
    pub fn make(deployment: &str, now: OffsetDateTime) -> Outcome<Self> {
        let key = make_key()?;
        let not_after = now.saturating_add(Duration::days(DAYS_MAX));
        let mut params = params("bruri CA", deployment, names::deployment_uri(deployment))?;
        params.not_before = now.saturating_sub(BACKDATED);
        params.not_after = not_after;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).context("cannot make the CA")?.pem();
        let trusted = certificate::parse(&cert_pem)?;
        let (deployment, trusted_pem) = (deployment.to_owned(), cert_pem.clone());
        Ok(Self { deployment, trusted_pem, trusted, cert_pem, not_after, key })
    }

    /// The CA in a folder.
    pub fn load(folder: &Path, now: OffsetDateTime) -> Outcome<Self> {
        let (cert_path, key_path) = (folder.join(CA_CERT), folder.join(CA_KEY));
        let missing = || {
            format!(
                "{} holds no CA with its key; make one with: bruri pki init --deployment NAME, \
                 or name the folder that has it with --dir",
                folder.display()
            )
        };
        let trusted_pem = files::read(&cert_path)?.with_context(missing)?;
        let key = KeyPair::from_pem(&files::read(&key_path)?.with_context(missing)?)
            .ok()
            .with_context(|| format!("{} cannot be read as a key", key_path.display()))?;
        let shown = cert_path.display();
        let trusted = certificate::read(&cert_path)?.with_context(missing)?;
        // During a rotation the file holds both CAs; the key says which of them issues.
        let certificate = trusted.iter().find(|certificate| certificate.fits(&key));
        let certificate = certificate
            .with_context(|| format!("{} is not the key of {shown}", key_path.display()))?;
        let Some((deployment, None)) = certificate.name.clone().filter(|_| certificate.is_ca)
        else {
            return Err(PkiError::new(format!(
                "{shown} was not made by `bruri pki init`: it is no deployment's CA"
            )));
        };
        let not_after = certificate.not_after;
        ensure(not_after > now, || format!("the CA {shown} has expired on {}", not_after.date()))?;
        let cert_pem = certificate.pem();
        Ok(Self { deployment, trusted_pem, trusted, cert_pem, not_after, key })
    }

    /// A certificate for a site, valid until then or as long as the CA.
    pub fn issue(&self, site: &str, now: OffsetDateTime, until: OffsetDateTime) -> Outcome<Issued> {
        let key = make_key()?;
        let (cert_pem, not_after) = self.certify(site, &key, now, until)?;
        Ok(Issued { cert_pem, key_pem: key.serialize_pem(), not_after })
    }

    /// A certificate for the key of a request; nothing else that the request says counts.
    pub fn sign(
        &self,
        site: &str,
        request: &Request,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Outcome<String> {
        Ok(self.certify(site, &request.0.public_key, now, until)?.0)
    }

    /// Another certificate for the site and the key of one of ours that is valid. The request proves that
    /// its sender has that key, so it does not matter by whom it was brought here. Returns the site's name
    /// and the certificate.
    pub fn renew(
        &self,
        current_pem: &str,
        request: &Request,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Outcome<(String, String)> {
        let site = self.holder(current_pem, request, now)?;
        let renewed = self.sign(&site, request, now, until)?;
        Ok((site, renewed))
    }

    /// The site whose certificate this is, if it is valid and the request was made with its key.
    fn holder(&self, pem: &str, request: &Request, now: OffsetDateTime) -> Outcome<String> {
        let chain = certificate::parse(pem)?;
        let leaf = chain.first().context("there is no certificate")?;
        let ours = self.trusted.iter().any(|ca| ca.is_ca && leaf.is_signed_by(ca));
        ensure(ours, || "the certificate was not signed by the deployment's CA")?;
        ensure(leaf.not_before <= now && now <= leaf.not_after, || "the certificate is not valid")?;
        ensure(
            leaf.is_of(request.0.public_key.der_bytes()),
            || "the request was not made with the key of the certificate",
        )?;
        match leaf.name.clone() {
            Some((deployment, Some(site))) if deployment == self.deployment && !leaf.is_ca => {
                Ok(site)
            }
            _ => Err(PkiError::new("the certificate names no site of the deployment")),
        }
    }

    fn certify(
        &self,
        site: &str,
        key: &impl PublicKeyData,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Outcome<(String, OffsetDateTime)> {
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, &self.key)
            .context("cannot issue with this CA")?;
        let not_after = until.min(self.not_after);
        let mut params = params(site, &self.deployment, names::site_uri(&self.deployment, site))?;
        params.not_before = now.saturating_sub(BACKDATED);
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &issuer).context("cannot make the certificate")?;
        Ok((certificate.pem(), not_after))
    }

    /// The deployment that it is of.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// What sites trust: its certificate and, during a rotation, the other CA's.
    pub fn trusted_pem(&self) -> &str {
        &self.trusted_pem
    }

    /// SHA-256 of the issuing CA's certificate.
    pub fn fingerprint(&self) -> Outcome<[u8; 32]> {
        let own = certificate::parse(&self.cert_pem)?;
        own.first().map(Certificate::sha256).context("the CA has no certificate")
    }

    /// Its key, as the file holds it.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

pub(crate) fn make_key() -> Outcome<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn params(name: &str, deployment: &str, uri: String) -> Outcome<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, deployment);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().context("cannot name it")?)];
    Ok(params)
}
