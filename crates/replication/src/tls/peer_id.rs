//! What a certificate says about its site: `spiffe://<deployment>/site/<name>`.

use std::fmt;

use bruri_domain::{InvalidSiteName, SiteName, limits::DEPLOYMENT_NAME_CHARS_MAX};
use rustls::CommonState;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::Refusal;

const SCHEME: &str = "spiffe://";

/// A site as its certificate names it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PeerId {
    /// The deployment that the site belongs to: 1 to 63 of a-z, 0-9, `-` and `.`.
    pub deployment: String,
    /// The site's name.
    pub site: SiteName,
}

/// Why a certificate names no site.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPeerId {
    /// It cannot be read at all.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It was not made for a site.
    #[error("the certificate names no site: it has no URI spiffe://DEPLOYMENT/site/NAME")]
    Missing,
    /// It is ambiguous whose it is.
    #[error("the certificate has {0} spiffe URIs, expected one")]
    Several(usize),
    /// It has such a URI, of another form.
    #[error("{0:?} is not of the form spiffe://DEPLOYMENT/site/NAME")]
    Form(String),
    /// The deployment's name is not allowed.
    #[error("not a deployment's name: expected 1 to 63 of a-z, 0-9, - and .")]
    Deployment,
    /// The site's name is not allowed.
    #[error("not a site's name: expected 1 to 32 of a-z, 0-9 and -")]
    Site,
}

impl PeerId {
    /// Reads the one SPIFFE URI of a certificate; other names in it are not looked at.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidPeerId> {
        let certificate =
            EndEntityCert::try_from(certificate).map_err(|_| InvalidPeerId::Unreadable)?;
        let mut uris = certificate.valid_uri_names().filter(|uri| is_spiffe(uri));
        let first = uris.next().ok_or(InvalidPeerId::Missing)?;
        match uris.count() {
            0 => Self::parse(first),
            more => Err(InvalidPeerId::Several(more.saturating_add(1))),
        }
    }

    /// Whom a handshake has proved the other side to be.
    pub(super) fn of_session(session: &CommonState) -> Result<Self, Refusal> {
        let chain = session.peer_certificates().unwrap_or_default();
        Ok(Self::of_certificate(chain.first().ok_or(Refusal::NoCertificate)?)?)
    }

    /// Reads `spiffe://<deployment>/site/<name>`, in exactly this form.
    pub fn parse(uri: &str) -> Result<Self, InvalidPeerId> {
        let form = || InvalidPeerId::Form(uri.chars().take(URI_CHARS_SHOWN).collect());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(form)?;
        let (deployment, site) = rest.split_once("/site/").ok_or_else(form)?;
        if !is_deployment(deployment) {
            return Err(InvalidPeerId::Deployment);
        }
        Ok(Self { deployment: deployment.to_owned(), site: SiteName::parse(site)? })
    }
}

/// What a refusal shows of a URI that someone else wrote.
const URI_CHARS_SHOWN: usize = 120;

/// Schemes are case-insensitive; one in capitals counts here, and is refused for its form.
fn is_spiffe(uri: &str) -> bool {
    uri.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

fn is_deployment(text: &str) -> bool {
    (1..=DEPLOYMENT_NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

impl From<InvalidSiteName> for InvalidPeerId {
    fn from(_: InvalidSiteName) -> Self {
        Self::Site
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/site/{}", self.deployment, self.site)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::SanType;

    use super::*;
    use crate::tls::testing::self_signed;

    fn of_uris(uris: &[&str]) -> Result<PeerId, InvalidPeerId> {
        let sans = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        PeerId::of_certificate(&self_signed(sans))
    }

    #[test]
    fn a_spiffe_uri_names_deployment_and_site() {
        let id = PeerId::parse("spiffe://acme.example/site/new-york-2").unwrap();
        assert_eq!((id.deployment.as_str(), id.site.as_str()), ("acme.example", "new-york-2"));
        assert_eq!(id.to_string(), "spiffe://acme.example/site/new-york-2");
    }

    #[test]
    fn any_other_form_is_refused() {
        let long = format!("spiffe://{}/site/london", "a".repeat(64));
        let wrong = [
            "https://acme/site/london",
            "SPIFFE://acme/site/london",
            "spiffe://acme/london",
            "spiffe://acme/site/",
            "spiffe://acme/site/london/",
            "spiffe://acme/site/london/site/tokyo",
            "spiffe://acme/site/London",
            "spiffe:///site/london",
            "spiffe://Acme/site/london",
            "spiffe://acme:443/site/london",
            "spiffe://acme/x/site/london",
            &long,
        ];
        for uri in wrong {
            assert!(PeerId::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_certificate_with_one_spiffe_uri_names_its_site() {
        let id = of_uris(&["https://acme.example/", "spiffe://acme/site/london"]).unwrap();
        assert_eq!(id.to_string(), "spiffe://acme/site/london");
    }

    #[test]
    fn a_certificate_with_no_or_several_spiffe_uris_names_none() {
        assert_eq!(of_uris(&[]), Err(InvalidPeerId::Missing));
        assert_eq!(of_uris(&["https://acme/site/london"]), Err(InvalidPeerId::Missing));
        let two = ["spiffe://acme/site/london", "SPIFFE://acme/site/tokyo"];
        assert_eq!(of_uris(&two), Err(InvalidPeerId::Several(2)));
        let garbage = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
        assert_eq!(PeerId::of_certificate(&garbage), Err(InvalidPeerId::Unreadable));
    }
}
