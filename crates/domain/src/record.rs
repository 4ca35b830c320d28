//! What a log holds: envelopes that every release can read, and payloads.

use std::net::IpAddr;

use crate::{Context, Dot, FileId, Sha256, Stamp, limits::USER_AGENT_BYTES_MAX};

/// How the payload of a record is read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RecordKind {
    /// A version with a body.
    Backup,
    /// A version without one.
    Deletion,
    /// All that was known of a subject is erased.
    Erasure,
    /// A subject that was erased is let in again.
    Lift,
    /// A site has carried an erasure out.
    Receipt,
    /// What is known of a site of the deployment.
    Member,
    /// What a realm wants.
    Realm,
    /// Which release a site runs.
    Release,
    /// A log forked, and which branch of it stays.
    Branch,
    /// A kind of a later release: kept and forwarded unread.
    Unknown(i32),
}

/// The part of a record that every release can read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// How the payload is read.
    pub kind: RecordKind,
    /// Whom it concerns, hidden; none for a record that concerns nobody.
    pub subject: Option<Sha256>,
    /// The erasure generation of the subject that the writer knew.
    pub generation: u64,
    /// The hash of the payload's bytes.
    pub payload: Sha256,
}

/// The payload of a backup or a deletion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Made when the backup was accepted; unique within the log.
    pub random: [u8; 16],
    /// The origin's time.
    pub stamp: Stamp,
    /// The file it is a version of.
    pub file: FileId,
    /// What the writer had seen of the file.
    pub context: Context,
    /// None in a deletion.
    pub body: Option<Body>,
    /// The origin judged the body to be empty, cut off or no phone file at all.
    pub suspect: bool,
    /// Who wrote it.
    pub author: Author,
}

impl RecordKind {
    /// The kinds that this release reads.
    pub const KNOWN: [Self; 9] = [
        Self::Backup,
        Self::Deletion,
        Self::Erasure,
        Self::Lift,
        Self::Receipt,
        Self::Member,
        Self::Realm,
        Self::Release,
        Self::Branch,
    ];

    /// Those that every release reads. What comes later is written once all sites can read it.
    pub const FIRST: [Self; 9] = Self::KNOWN;

    /// Whether the payload is a version of a file.
    pub fn is_version(self) -> bool {
        matches!(self, Self::Backup | Self::Deletion)
    }
}

impl Version {
    /// The kind of the record that carries this version.
    pub fn kind(&self) -> RecordKind {
        if self.body.is_some() { RecordKind::Backup } else { RecordKind::Deletion }
    }
}

/// A body, named by its content.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Body {
    /// The hash of the bytes.
    pub sha256: Sha256,
    /// How many there are.
    pub bytes: u64,
}

impl Body {
    /// Names these bytes.
    pub fn of(content: &[u8]) -> Self {
        Self { sha256: Sha256::of(content), bytes: content.len() as u64 }
    }
}

/// Who wrote a version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Author {
    /// A phone, at the edge.
    Phone(Phone),
    /// A person or program that used the operators' services.
    Operator {
        /// Who it was.
        name: String,
        /// The version that was put back, where this is a restore.
        restored: Option<Dot>,
    },
    /// A union of heads.
    Merge {
        /// Who asked for it.
        operator: String,
        /// The heads.
        heads: Vec<Dot>,
    },
    /// One that this release does not know.
    Unknown,
}

/// A phone as the edge saw it. It belongs to no user.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Phone {
    /// Where its request came from.
    pub address: IpAddr,
    /// 12 lower-case hexadecimal digits, where its User-Agent has them.
    pub mac: Option<String>,
    /// At most 256 bytes, without control characters.
    pub user_agent: String,
}

impl Phone {
    /// Reads what a phone tells of itself: J100 phones send `AVAYA/J179-<version> (MAC:<12 digits>)`;
    /// what other families send is observed, unconfirmed, so nothing depends on it.
    pub fn new(address: IpAddr, user_agent: &[u8]) -> Self {
        let mut user_agent: String =
            String::from_utf8_lossy(user_agent).chars().filter(|c| !c.is_control()).collect();
        let end = (0..=USER_AGENT_BYTES_MAX).rev().find(|at| user_agent.is_char_boundary(*at));
        user_agent.truncate(end.unwrap_or(0));
        Self { address, mac: mac(&user_agent), user_agent }
    }
}

fn mac(user_agent: &str) -> Option<String> {
    let upper = user_agent.to_ascii_uppercase();
    let at = upper.find("MAC:")?;
    let rest = user_agent.get(at..)?.get("MAC:".len()..)?;
    let digits: String =
        rest.chars().take(17).filter(|c| !matches!(c, ':' | '-')).take(12).collect();
    let fits = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(user_agent: &[u8]) -> Phone {
        Phone::new([192, 0, 2, 1].into(), user_agent)
    }

    #[test]
    fn a_mac_is_read_from_the_user_agent_where_it_has_one() {
        for (text, mac) in [
            ("AVAYA/J179-4.0.7.0 (MAC:64C3549e5334)", Some("64c3549e5334")),
            ("AVAYA (mac:64:c3:54:9e:53:34)", Some("64c3549e5334")),
            ("AVAYA/9608 (MAC:64c3549e533)", None),
            ("AVAYA/9608", None),
            ("", None),
            ("MAC:", None),
            ("ſMAC:zzzzzzzzzzzz", None),
        ] {
            assert_eq!(phone(text.as_bytes()).mac.as_deref(), mac, "{text}");
        }
    }

    #[test]
    fn a_user_agent_is_kept_short_and_printable() {
        assert_eq!(phone(b"a\r\nb\x1b[1m\xff").user_agent, "ab[1m\u{fffd}");
        let long = phone("é".repeat(400).as_bytes()).user_agent;
        assert_eq!(long.len(), USER_AGENT_BYTES_MAX);
    }
}
