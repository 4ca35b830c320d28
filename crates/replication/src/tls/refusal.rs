//! Why a connection between two sites is refused, in words for the people who run them.

use std::io;

use bruri_domain::SiteName;
use rustls::{AlertDescription, CertificateError, Error as Rustls, OtherError};

use super::InvalidPeerId;

/// Why we refuse a peer, or it us. The texts go on after "refused PEER: ".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Its certificate is of our CA, and of another deployment.
    #[error("its certificate is of the deployment {theirs}, ours is {ours}")]
    OtherDeployment {
        /// The deployment it names.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It has our own name: it is this site itself, or was given a copy of our certificate.
    #[error(
        "its certificate is of {0}, which is this site: an address of this site itself, or a site that was given its certificate"
    )]
    OwnName(SiteName),
    /// Its certificate names no site.
    #[error(transparent)]
    Id(#[from] InvalidPeerId),
    /// Its certificate is of another CA.
    #[error("its certificate was not signed by a CA in our ca_file")]
    UnknownAuthority,
    /// Its CA is not the one that a token names.
    #[error(
        "its CA is not the one that the token names: the token is of another deployment or out of date, or somebody else answers there"
    )]
    OtherAuthority,
    /// Its certificate is too old.
    #[error("its certificate has expired (or our clock is wrong); have it renewed there")]
    Expired,
    /// Its certificate is too new.
    #[error("its certificate is not valid yet; compare the clocks of both sites")]
    NotYetValid,
    /// Its certificate cannot be used for other reasons.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// The handshake broke down otherwise.
    #[error("the TLS handshake failed: {0}")]
    Failed(String),
    /// It has no certificate.
    #[error("it has shown no certificate")]
    NoCertificate,
    /// It does not speak TLS.
    #[error("it does not speak TLS; is it the replication port of a bruri site?")]
    NotTls,
    /// It does not speak our TLS.
    #[error("it cannot agree on TLS 1.3 with us: {0}")]
    Incompatible(String),
    /// It does not know our CA.
    #[error("it refused us: our certificate was not signed by a CA in its ca_file")]
    TheirUnknownAuthority,
    /// Our certificate is too old, or too new, to it.
    #[error("it refused us: to its clock our certificate has expired or is not valid yet")]
    TheirExpired,
    /// It refused our certificate for what is in it; only its log says what.
    #[error(
        "it refused our certificate: another deployment, or its own name; its log has the reason"
    )]
    TheirIdentity,
    /// It refused us for other reasons.
    #[error("it refused us: {0}")]
    Theirs(String),
    /// It hung up.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// It said nothing, or too slowly.
    #[error("it did not finish the handshake in time")]
    Slow,
    /// It was pushed out by later connections while it said nothing.
    #[error("it had not finished its handshake when too many others began theirs")]
    Crowded,
    /// There are too many connections from peers.
    #[error("there are {0} connections from peers already")]
    TooMany(usize),
}

impl Refusal {
    /// What a failed handshake means.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Rustls>()) {
            Some(error) => Self::of_rustls(error),
            None => Self::Closed,
        }
    }

    fn of_rustls(error: &Rustls) -> Self {
        match error {
            Rustls::InvalidCertificate(error) => Self::of_certificate(error),
            Rustls::NoCertificatesPresented => Self::NoCertificate,
            Rustls::InvalidMessage(_) => Self::NotTls,
            Rustls::PeerIncompatible(_) | Rustls::NoApplicationProtocol => {
                Self::Incompatible(error.to_string())
            }
            Rustls::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Failed(error.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Other(OtherError(ours)) => match ours.downcast_ref::<Self>() {
                Some(refusal) => refusal.clone(),
                None => Self::Certificate(ours.to_string()),
            },
            E::UnknownIssuer | E::BadSignature => Self::UnknownAuthority,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            _ => Self::Certificate(error.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Self::TheirUnknownAuthority
            }
            AlertDescription::CertificateExpired => Self::TheirExpired,
            AlertDescription::CertificateUnknown => Self::TheirIdentity,
            other => Self::Theirs(format!("{other:?}")),
        }
    }
}

/// How a verifier of ours says no: rustls tells the peer `certificate_unknown` and hands the rest back
/// to `Refusal::of_handshake`.
impl From<Refusal> for Rustls {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(refusal))))
    }
}
