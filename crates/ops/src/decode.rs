//! Requests become domain types, once; what does not is `INVALID_ARGUMENT`.

use std::fmt::Display;

use bruri_domain::{
    DeploymentKey, DotRef, FileId, FileName, Random, RealmId, Sha256, Subject,
    limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX},
};
use bruri_wire::proto::{erasure::v1 as erasure, history::v1 as proto};
use tonic::Status;

fn invalid(error: impl Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A file that must be named; an empty realm is the one that is built in.
pub(crate) fn file(id: Option<proto::FileId>) -> Result<FileId, Status> {
    let id = id.ok_or_else(|| invalid("no file is named"))?;
    let realm = realm_id(&id.realm)?;
    Ok(FileId { realm, name: FileName::parse(&id.name).map_err(invalid)? })
}

fn realm_id(text: &str) -> Result<RealmId, Status> {
    if text.is_empty() { Ok(RealmId::built_in()) } else { RealmId::parse(text).map_err(invalid) }
}

/// Whom an erasure concerns, hidden.
pub(crate) fn subject(
    subject: Option<erasure::Subject>,
    key: &DeploymentKey,
) -> Result<Sha256, Status> {
    use erasure::subject::Subject as Named;
    let erasure::Subject { realm, subject } = subject.unwrap_or_default();
    match subject.ok_or_else(|| invalid("nobody is named"))? {
        Named::Extension(extension) => {
            let realm = realm_id(&realm)?;
            let subject = Subject::of_extension(&realm, &extension).map_err(invalid)?;
            Ok(key.subject_hash(subject))
        }
        Named::FileName(name) => {
            let file = file(Some(proto::FileId { realm, name }))?;
            Ok(key.subject_hash(Subject::of_file(&file).map_err(invalid)?))
        }
    }
}

/// The random bits of a record; none where the site is to make them.
pub(crate) fn random(id: &[u8]) -> Result<Option<Random>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    id.try_into().map(Some).map_err(|_| invalid("an id has 16 bytes"))
}

pub(crate) fn dot(text: &str) -> Result<DotRef, Status> {
    text.parse().map_err(invalid)
}

pub(crate) fn dot_if_any(text: &str) -> Result<Option<DotRef>, Status> {
    if text.is_empty() { Ok(None) } else { dot(text).map(Some) }
}

/// The beginning of names, in any case. Characters that no name has are refused rather than looked for.
pub(crate) fn name_prefix(text: &str) -> Result<String, Status> {
    let is_in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if text.chars().all(is_in_names) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(invalid("no file's name begins so: names are of a-z, 0-9, _ and ."))
    }
}

/// How many rows an answer may have.
pub(crate) struct Page {
    rows: u32,
}

pub(crate) fn page(size: u32) -> Result<Page, Status> {
    match size {
        0 => Ok(Page { rows: PAGE_ROWS_DEFAULT }),
        1..=PAGE_ROWS_MAX => Ok(Page { rows: size }),
        _ => Err(invalid(format_args!("a page has at most {PAGE_ROWS_MAX} rows"))),
    }
}

impl Page {
    /// What to ask the store for, to see whether there are more.
    pub(crate) fn with_one_more(&self) -> u32 {
        self.rows.saturating_add(1)
    }

    /// The rows of the page, and whether there are more.
    pub(crate) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let size = usize::try_from(self.rows).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        (rows, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_100_rows_unless_asked_for_up_to_1000() {
        for (asked, rows) in [(0, 100), (1, 1), (1000, 1000)] {
            assert_eq!(page(asked).unwrap().rows, rows);
        }
        assert_eq!(page(1001).err().unwrap().message(), "a page has at most 1000 rows");
    }

    #[test]
    fn a_prefix_is_of_characters_that_names_have() {
        assert_eq!(name_prefix("299_16XX").unwrap(), "299_16xx");
        assert_eq!(name_prefix("").unwrap(), "");
        for text in ["%", "a b", "\0", "é", "../"] {
            assert_eq!(name_prefix(text).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn a_file_without_a_realm_is_of_the_one_built_in() {
        let id = |realm: &str, name: &str| {
            file(Some(proto::FileId { realm: realm.to_owned(), name: name.to_owned() }))
        };
        let read = id("", "299_16XXdata.txt").unwrap();
        assert_eq!(read.to_string(), "default/299_16xxdata.txt");
        assert_eq!(id("guests", "9610data.txt").unwrap().realm.as_str(), "guests");
        for (realm, name) in [("A", "9610data.txt"), ("", "x.php"), ("", "")] {
            assert_eq!(id(realm, name).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(file(None).unwrap_err().message(), "no file is named");
    }
}
