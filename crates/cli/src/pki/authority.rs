//! The deployment's CA: made once, then issuing.

use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use super::{
    certificate,
    files::{self, CA_CERT, CA_KEY},
    names,
};

/// The longest that anything is valid: as long as the CA, ten years.
pub(crate) const DAYS_MAX: i64 = 3650;
/// Certificates are valid from a little earlier, since the sites' clocks differ.
const BACKDATED: Duration = Duration::days(1);

/// A CA with its key.
pub(crate) struct Authority {
    deployment: String,
    cert_pem: String,
    not_after: OffsetDateTime,
    key: KeyPair,
}

/// What a site gets.
pub(crate) struct Issued {
    /// Its certificate.
    pub(crate) cert_pem: String,
    /// The key of it.
    pub(crate) key_pem: String,
    /// Until when it is valid.
    pub(crate) not_after: OffsetDateTime,
}

impl Authority {
    /// A new CA for a deployment.
    pub(crate) fn make(deployment: &str, now: OffsetDateTime) -> anyhow::Result<Self> {
        let key = make_key()?;
        let not_after = now.saturating_add(Duration::days(DAYS_MAX));
        let mut params = params("bruri CA", deployment, names::deployment_uri(deployment))?;
        params.not_before = now.saturating_sub(BACKDATED);
        params.not_after = not_after;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).context("cannot make the CA")?.pem();
        Ok(Self { deployment: deployment.to_owned(), cert_pem, not_after, key })
    }

    /// The CA in a folder.
    pub(crate) fn load(folder: &Path, now: OffsetDateTime) -> anyhow::Result<Self> {
        let (cert_path, key_path) = (folder.join(CA_CERT), folder.join(CA_KEY));
        let missing = || {
            format!(
                "{} holds no CA with its key; make one with: bruri pki init --deployment NAME, \
                 or name the folder that has it with --dir",
                folder.display()
            )
        };
        let cert_pem = files::read(&cert_path)?.with_context(missing)?;
        let key = KeyPair::from_pem(&files::read(&key_path)?.with_context(missing)?)
            .ok()
            .with_context(|| format!("{} cannot be read as a key", key_path.display()))?;
        let shown = cert_path.display();
        let certificates = certificate::read(&cert_path)?.with_context(missing)?;
        let [certificate] = &certificates[..] else {
            anyhow::bail!("{shown} holds several certificates; expected that of the CA alone");
        };
        let Some((deployment, None)) = certificate.name.clone().filter(|_| certificate.is_ca)
        else {
            anyhow::bail!("{shown} was not made by `bruri pki init`: it is no deployment's CA");
        };
        anyhow::ensure!(certificate.fits(&key), "{} is not the key of {shown}", key_path.display());
        let not_after = certificate.not_after;
        anyhow::ensure!(not_after > now, "the CA {shown} has expired on {}", not_after.date());
        Ok(Self { deployment, cert_pem, not_after, key })
    }

    /// A certificate for a site, valid until then or as long as the CA.
    pub(crate) fn issue(
        &self,
        site: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> anyhow::Result<Issued> {
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, &self.key)
            .context("cannot issue with this CA")?;
        let key = make_key()?;
        let not_after = until.min(self.not_after);
        let mut params = params(site, &self.deployment, names::site_uri(&self.deployment, site))?;
        params.not_before = now.saturating_sub(BACKDATED);
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).context("cannot make the certificate")?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), not_after })
    }

    /// The deployment that it is of.
    pub(crate) fn deployment(&self) -> &str {
        &self.deployment
    }

    /// Its certificate, as the file holds it.
    pub(crate) fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its key, as the file holds it.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Until when it is valid.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

fn make_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn params(name: &str, deployment: &str, uri: String) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, deployment);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().context("cannot name it")?)];
    Ok(params)
}
