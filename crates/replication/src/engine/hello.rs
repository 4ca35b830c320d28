//! The first message in each direction: whether two sites may and can talk.

use bruri_domain::{RecordKind, SiteName, limits::PEER_TEXT_BYTES_MAX};
use bruri_wire::{proto::replication::v1 as proto, record::kind_number};

/// The releases of the protocol that this release speaks, from and to.
const PROTOCOL_MIN: u32 = 1;
const PROTOCOL_MAX: u32 = 1;

/// Why a peer's Hello is refused; each needs a person.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the first message was no Hello")]
    Missing,
    #[error("Hello names site {named:?}, the certificate {certified}")]
    AnotherSite { named: String, certified: SiteName },
    #[error("site {0} has our own name: give each site a name and a certificate of its own")]
    OwnName(SiteName),
    #[error(
        "site {0} has another deployment key: copy deployment.key from the first site before a site \
         takes its first backup"
    )]
    AnotherKey(SiteName),
    #[error(
        "site {site} speaks protocol {min} to {max}, this site {PROTOCOL_MIN} to {PROTOCOL_MAX}: \
         upgrade the older one"
    )]
    Protocol { site: SiteName, min: u32, max: u32 },
}

/// What this site says. `key_check` tells deployment keys apart.
pub(crate) fn ours(site: &SiteName, key_check: [u8; 16], release: &str) -> proto::Hello {
    proto::Hello {
        site: site.to_string(),
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        known_kinds: RecordKind::KNOWN.map(|kind| kind_number(kind).cast_unsigned()).to_vec(),
        deployment_key_check: key_check.to_vec(),
        release: release.to_owned(),
    }
}

/// Holds what a peer says against its certificate and against what we say.
pub(crate) fn check(
    theirs: &proto::Hello,
    certified: &SiteName,
    ours: &proto::Hello,
) -> Result<(), HelloError> {
    if theirs.site != certified.as_str() {
        let named = bounded_text(&theirs.site);
        return Err(HelloError::AnotherSite { named, certified: certified.clone() });
    }
    if certified.as_str() == ours.site {
        return Err(HelloError::OwnName(certified.clone()));
    }
    if theirs.protocol_min > PROTOCOL_MAX || theirs.protocol_max < PROTOCOL_MIN {
        let (min, max) = (theirs.protocol_min, theirs.protocol_max);
        return Err(HelloError::Protocol { site: certified.clone(), min, max });
    }
    if theirs.deployment_key_check != ours.deployment_key_check {
        return Err(HelloError::AnotherKey(certified.clone()));
    }
    Ok(())
}

/// A text of a peer as it may be shown and logged.
pub(crate) fn bounded_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(PEER_TEXT_BYTES_MAX / 4).collect()
}
