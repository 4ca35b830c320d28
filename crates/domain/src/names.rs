//! What phones, operators and certificates name: files, families, realms and sites.

use std::{fmt, sync::Arc};

use crate::limits::{EXTENSION_DIGITS_MAX, REALM_ID_CHARS_MAX, SITE_NAME_CHARS_MAX, TAG_CHARS_MAX};

const SUFFIX: &str = "data.txt";

/// Bytes of the longest name.
const LONGEST_BYTES: usize = EXTENSION_DIGITS_MAX + 1 + TAG_CHARS_MAX + SUFFIX.len();

/// The one file without an extension: the menu that all 9610 phones of an office share
/// (9600 Administrator Guide R1.5, 9610 pages).
const SHARED_9610: &str = "9610data.txt";

/// The canonical name of a file: `<extension>_<tag>data.txt` or `9610data.txt`, in lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileName(Arc<str>);

/// Why a name is none that a phone uses.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a phone's file name: expected <extension>_<tag>data.txt with 1 to 32 digits and a tag of \
     1 to 16 of a-z 0-9, for example 299_16xxdata.txt, or 9610data.txt"
)]
pub struct InvalidFileName;

impl FileName {
    /// Reads a name in any case. Nothing in it is decoded, trimmed or resolved.
    pub fn parse(text: &str) -> Result<Self, InvalidFileName> {
        if text.len() > LONGEST_BYTES {
            return Err(InvalidFileName);
        }
        let canonical = text.to_ascii_lowercase();
        if canonical == SHARED_9610 || split(&canonical).is_some() {
            Ok(Self(canonical.into()))
        } else {
            Err(InvalidFileName)
        }
    }

    /// The canonical name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number a user logs in with; none for the file that all 9610 phones share.
    pub fn extension(&self) -> Option<&str> {
        split(&self.0).map(|(extension, _)| extension)
    }

    /// The family of phones that share the file.
    pub fn family(&self) -> Family {
        match split(&self.0).map_or("9610", |(_, tag)| tag) {
            "16xx" => Family::Series16xx,
            "96xx" => Family::Series96xx,
            "9610" => Family::Model9610,
            _ => Family::Other,
        }
    }
}

fn extension_fits(text: &str) -> bool {
    (1..=EXTENSION_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn split(canonical: &str) -> Option<(&str, &str)> {
    let (extension, tag) = canonical.strip_suffix(SUFFIX)?.split_once('_')?;
    let extension_fits = extension_fits(extension);
    let tag_fits = (1..=TAG_CHARS_MAX).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (extension_fits && tag_fits).then_some((extension, tag))
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The phones that share one file, by its tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// 1603, 1608, 1616 (1600 Administrator Guide 16-601443 issue 5, p. 107).
    Series16xx,
    /// 96x0 and 96x1 with H.323 firmware (9600 Administrator Guide, "Backup").
    Series96xx,
    /// 9610, written by administrators only (9600 Administrator Guide R1.5, 9610 pages).
    Model9610,
    /// Any other tag: stored as it comes, since the names of B189 and J100 H.323 phones are
    /// undocumented (observed, unconfirmed).
    Other,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Series16xx => "16xx",
            Self::Series96xx => "96xx",
            Self::Model9610 => "9610",
            Self::Other => "other",
        })
    }
}

/// A realm's id: 1 to 32 of a-z, 0-9 and `-`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RealmId(Arc<str>);

/// Why a text is no realm id.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a realm id: expected 1 to 32 of a-z, 0-9 and -")]
pub struct InvalidRealmId;

impl RealmId {
    /// Reads a realm id.
    pub fn parse(text: &str) -> Result<Self, InvalidRealmId> {
        is_label(text, REALM_ID_CHARS_MAX).then(|| Self(text.into())).ok_or(InvalidRealmId)
    }

    /// The realm that is built in, the same at every site.
    pub fn built_in() -> Self {
        Self("default".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A site's name: 1 to 32 of a-z, 0-9 and `-`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SiteName(Arc<str>);

/// Why a text is no site's name.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a site's name: expected 1 to 32 of a-z, 0-9 and -")]
pub struct InvalidSiteName;

impl SiteName {
    /// Reads a site's name.
    pub fn parse(text: &str) -> Result<Self, InvalidSiteName> {
        is_label(text, SITE_NAME_CHARS_MAX).then(|| Self(text.into())).ok_or(InvalidSiteName)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// What a phone names: a realm and a canonical file name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId {
    /// The realm whose directory the phone named.
    pub realm: RealmId,
    /// The file in it.
    pub name: FileName,
}

impl FileId {
    /// What an erasure of this file would be of.
    pub fn subject(&self) -> Subject<'_> {
        match self.name.extension() {
            Some(extension) => Subject::Extension { realm: &self.realm, extension },
            None => Subject::File { realm: &self.realm, name: self.name.as_str() },
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.realm, self.name)
    }
}

/// What an erasure is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject<'a> {
    /// All files of an extension, of every family.
    Extension {
        /// The realm it is in.
        realm: &'a RealmId,
        /// Its digits.
        extension: &'a str,
    },
    /// One file without an extension.
    File {
        /// The realm it is in.
        realm: &'a RealmId,
        /// Its canonical name.
        name: &'a str,
    },
}

/// Why a text names no subject.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSubject {
    /// Not the digits with which a user logs in.
    #[error("an extension is 1 to {EXTENSION_DIGITS_MAX} digits")]
    Extension,
    /// Not a file, or one that goes with its extension.
    #[error("name an extension, or a file that has none: {SHARED_9610}")]
    File,
}

impl<'a> Subject<'a> {
    /// All files of an extension.
    ///
    /// # Errors
    /// [`InvalidSubject::Extension`] where it is none.
    pub fn of_extension(realm: &'a RealmId, extension: &'a str) -> Result<Self, InvalidSubject> {
        if extension_fits(extension) {
            Ok(Self::Extension { realm, extension })
        } else {
            Err(InvalidSubject::Extension)
        }
    }

    /// One file.
    ///
    /// # Errors
    /// [`InvalidSubject::File`] where it has an extension: that is what is to be named.
    pub fn of_file(file: &'a FileId) -> Result<Self, InvalidSubject> {
        match file.subject() {
            Subject::Extension { .. } => Err(InvalidSubject::File),
            subject @ Subject::File { .. } => Ok(subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_phones_use_are_read_in_any_case() {
        for (text, canonical, extension, family) in [
            ("299_16xxdata.txt", "299_16xxdata.txt", Some("299"), Family::Series16xx),
            ("5120_96XXDATA.TXT", "5120_96xxdata.txt", Some("5120"), Family::Series96xx),
            ("299_9610data.txt", "299_9610data.txt", Some("299"), Family::Model9610),
            ("9610Data.txt", "9610data.txt", None, Family::Model9610),
            ("1_j1xxdata.txt", "1_j1xxdata.txt", Some("1"), Family::Other),
        ] {
            let name = FileName::parse(text).unwrap();
            assert_eq!(name.as_str(), canonical);
            assert_eq!(name.extension(), extension);
            assert_eq!(name.family(), family);
        }
    }

    #[test]
    fn a_name_of_32_digits_and_16_characters_is_the_longest() {
        let longest = format!("{}_{}data.txt", "1".repeat(32), "a".repeat(16));
        assert!(FileName::parse(&longest).is_ok());
        for longer in [
            format!("{}_{}data.txt", "1".repeat(33), "a".repeat(15)),
            format!("{}_{}data.txt", "1".repeat(31), "a".repeat(17)),
            format!("{}_16xxdata.txt", "1".repeat(300)),
        ] {
            assert_eq!(FileName::parse(&longer), Err(InvalidFileName));
        }
    }

    #[test]
    fn every_other_name_is_refused() {
        for text in [
            "",
            "x.php",
            "_16xxdata.txt",
            "299_data.txt",
            "299_16xxdata.txt.php",
            "..",
            "299_16xxdata.txt\0",
            "299_16xxdata.txt ",
            " 299_16xxdata.txt",
            "299_16-xdata.txt",
            "29a_16xxdata.txt",
            "\u{661}_16xxdata.txt",
            "299_16xx_data.txt",
            "16xxdata.txt",
            "46xxdata.txt",
            "%32_16xxdata.txt",
            "../299_16xxdata.txt",
            "a/299_16xxdata.txt",
            "299_\u{212a}data.txt",
            ".htaccess",
            "299_16xxdata.tx",
        ] {
            assert_eq!(FileName::parse(text), Err(InvalidFileName), "{text:?}");
        }
    }

    #[test]
    fn a_subject_is_the_extension_or_else_the_whole_name() {
        let id = |name| FileId { realm: RealmId::built_in(), name: FileName::parse(name).unwrap() };
        let (one, other) = (id("299_16xxdata.txt"), id("299_96xxdata.txt"));
        assert_eq!(one.subject(), other.subject());
        let shared = id("9610data.txt");
        assert!(matches!(shared.subject(), Subject::File { name: "9610data.txt", .. }));
    }

    #[test]
    fn a_subject_is_named_by_its_extension_or_by_a_file_that_has_none() {
        let realm = RealmId::built_in();
        let id = |name| FileId { realm: realm.clone(), name: FileName::parse(name).unwrap() };
        assert!(Subject::of_extension(&realm, "0299").is_ok());
        for text in ["", "29a", "-1", " 299", "２９９", &"1".repeat(33)] {
            assert_eq!(Subject::of_extension(&realm, text), Err(InvalidSubject::Extension));
        }
        assert!(Subject::of_file(&id("9610data.txt")).is_ok());
        assert_eq!(Subject::of_file(&id("299_16xxdata.txt")), Err(InvalidSubject::File));
    }

    #[test]
    fn site_names_are_short_lower_case_labels() {
        assert_eq!(SiteName::parse("new-york-2").unwrap().as_str(), "new-york-2");
        for text in ["", "London", "a/b", "a b", "é", &"a".repeat(33)] {
            assert_eq!(SiteName::parse(text), Err(InvalidSiteName), "{text:?}");
        }
    }
}
