//! The deployment key, which hides subjects in envelopes and tells deployments apart.

use std::{fmt, str::FromStr};

use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::{Sha256, names::Subject};

/// 32 random bytes that all sites of a deployment share. Never printed.
#[derive(Clone)]
pub struct DeploymentKey([u8; 32]);

/// Why a text is no deployment key.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a deployment key: expected 64 hexadecimal digits")]
pub struct InvalidDeploymentKey;

impl DeploymentKey {
    /// Takes the bytes, which must be random.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The subject of an envelope: tells nothing without the key, and is the same at every site.
    pub fn subject_hash(&self, subject: Subject<'_>) -> Sha256 {
        let (kind, realm, text) = match subject {
            Subject::Extension { realm, extension } => ("extension", realm, extension),
            Subject::File { realm, name } => ("file", realm, name),
        };
        // None of the parts can hold a NUL, so no two subjects read the same.
        self.hmac(&[
            b"bruri subject\0",
            kind.as_bytes(),
            b"\0",
            realm.as_str().as_bytes(),
            b"\0",
            text.as_bytes(),
        ])
    }

    /// Tells keys apart without telling the key: what sites compare when they meet.
    pub fn check(&self) -> [u8; 16] {
        let mut check = [0; 16];
        check.copy_from_slice(&self.hmac(&[b"bruri deployment key check"]).0[..16]);
        check
    }

    /// The bytes, to be handed to a site that joins and to nobody else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text form that [`DeploymentKey::from_str`] reads; for the file that keeps it.
    pub fn to_file_text(&self) -> String {
        format!("{}\n", Sha256(self.0))
    }

    fn hmac(&self, parts: &[&[u8]]) -> Sha256 {
        // HMAC pads a key with zeros to the block of its hash (RFC 2104, section 2).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<sha2::Sha256>::new(&block.into());
        for part in parts {
            mac.update(part);
        }
        Sha256(mac.finalize().into_bytes().into())
    }
}

impl FromStr for DeploymentKey {
    type Err = InvalidDeploymentKey;

    fn from_str(text: &str) -> Result<Self, InvalidDeploymentKey> {
        let digits = text.trim_end().as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(InvalidDeploymentKey);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = pair_value(*pair).ok_or(InvalidDeploymentKey)?;
        }
        Ok(Self(bytes))
    }
}

fn pair_value(pair: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some((digit(pair[0])? << 4) | digit(pair[1])?)
}

impl fmt::Debug for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploymentKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, FileName, RealmId};

    fn hash(key: &DeploymentKey, realm: &str, name: &str) -> Sha256 {
        let realm = RealmId::parse(realm).unwrap();
        let id = FileId { realm, name: FileName::parse(name).unwrap() };
        key.subject_hash(id.subject())
    }

    #[test]
    fn a_subject_hash_depends_on_key_realm_and_extension_only() {
        let (key, other) = (DeploymentKey::new([1; 32]), DeploymentKey::new([2; 32]));
        let one = hash(&key, "default", "299_16xxdata.txt");
        assert_eq!(one, hash(&key, "default", "299_96xxdata.txt"));
        assert_ne!(one, hash(&other, "default", "299_16xxdata.txt"));
        assert_ne!(one, hash(&key, "guests", "299_16xxdata.txt"));
        assert_ne!(one, hash(&key, "default", "300_16xxdata.txt"));
    }

    #[test]
    fn a_key_is_read_from_its_file_text_and_never_printed() {
        let key = DeploymentKey::new([0xab; 32]);
        let read: DeploymentKey = key.to_file_text().parse().unwrap();
        assert_eq!(read.check(), key.check());
        assert!(!format!("{key:?}").contains("ab"));
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"é".repeat(32)]
        {
            assert_eq!(text.parse::<DeploymentKey>().err(), Some(InvalidDeploymentKey), "{text}");
        }
    }
}
