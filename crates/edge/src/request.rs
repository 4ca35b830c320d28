//! What a phone asks for, decided from method and path alone before anything else is read.

use bruri_domain::FileName;
use http::{Method, Uri};

use crate::EdgeError;

/// The directories of the built-in realm: what phones of Avaya's own servers have in BRURI, and none.
const DIRECTORIES: [&[&str]; 3] = [&[], &["PhoneBackup"], &["user", "backuprestore"]];

/// How the names of debug archives end.
const REPORT_SUFFIX: &[u8] = b"_report.tgz";

/// What a phone asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PhoneRequest {
    /// GET: the served version.
    Restore(FileName),
    /// HEAD: the same without its body.
    Look(FileName),
    /// PUT: a new version.
    Backup(FileName),
    /// DELETE: a version without a body.
    Remove(FileName),
    /// Any method on a debug archive.
    Report,
    /// OPTIONS: which methods there are.
    Options,
}

impl PhoneRequest {
    /// Reads method and path; a target with scheme and host counts as its path. The path is taken as it
    /// is: nothing in it is decoded or resolved. Directories, like names, are the same in any case,
    /// since people type them.
    ///
    /// # Errors
    /// Everything that no phone sends is refused: see the variants of [`EdgeError`].
    pub fn parse(method: &Method, target: &Uri) -> Result<Self, EdgeError> {
        let named: fn(FileName) -> Self = match *method {
            Method::GET => Self::Restore,
            Method::HEAD => Self::Look,
            Method::PUT => Self::Backup,
            Method::DELETE => Self::Remove,
            Method::OPTIONS => return Ok(Self::Options),
            _ => return Err(EdgeError::Method),
        };
        let path = target.path();
        if target.query().is_some() || !path.bytes().all(is_plain) || climbs(path) {
            return Err(EdgeError::Path);
        }
        let (directory, name) = path.rsplit_once('/').ok_or(EdgeError::Path)?;
        if !is_report(name) {
            let name = FileName::parse(name)?;
            return if is_covered(directory) { Ok(named(name)) } else { Err(EdgeError::Directory) };
        }
        if is_covered(directory) { Ok(Self::Report) } else { Err(EdgeError::Directory) }
    }

    /// The file, where there is one.
    pub fn file_name(&self) -> Option<&FileName> {
        match self {
            Self::Restore(name) | Self::Look(name) | Self::Backup(name) | Self::Remove(name) => {
                Some(name)
            }
            Self::Report | Self::Options => None,
        }
    }

    /// What metrics call it.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Restore(_) => "restore",
            Self::Look(_) => "look",
            Self::Backup(_) => "backup",
            Self::Remove(_) => "remove",
            Self::Report => "report",
            Self::Options => "options",
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\')
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "." | ".."))
}

/// One slash is as good as many: phones put one between BRURI and the name where BRURI ends in none, people
/// type another.
fn is_covered(directory: &str) -> bool {
    DIRECTORIES.iter().any(|known| {
        let mut parts = directory.split('/').filter(|part| !part.is_empty());
        known.iter().all(|k| parts.next().is_some_and(|part| part.eq_ignore_ascii_case(k)))
            && parts.next().is_none()
    })
}

/// `<extension>_<mac>_report.tgz` was seen; other families may put something else before the suffix.
fn is_report(name: &str) -> bool {
    let Some(start) = name.len().checked_sub(REPORT_SUFFIX.len()) else { return false };
    let (subject, suffix) = name.as_bytes().split_at(start);
    suffix.eq_ignore_ascii_case(REPORT_SUFFIX)
        && !subject.is_empty()
        && subject.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, target: &str) -> Result<PhoneRequest, EdgeError> {
        PhoneRequest::parse(method, &target.parse().unwrap())
    }

    fn status(method: &Method, target: &str) -> u16 {
        parse(method, target).unwrap_err().status().as_u16()
    }

    #[test]
    fn every_spelling_of_a_covered_address_names_the_same_file() {
        let file = FileName::parse("299_16xxdata.txt").unwrap();
        for target in [
            "/299_16xxdata.txt",
            "//299_16xxdata.txt",
            "/299_16XXDATA.TXT",
            "/PhoneBackup/299_16xxdata.txt",
            "/PhoneBackup//299_16xxdata.txt",
            "//phonebackup///299_16xxdata.txt",
            "/user/backuprestore/299_16xxdata.txt",
            "/User//BackupRestore/299_16xxdata.txt",
            "http://bruri.example:8080/299_16xxdata.txt",
            "http://192.0.2.1/PhoneBackup/299_16xxdata.txt",
        ] {
            let asked = parse(&Method::PUT, target).unwrap();
            assert_eq!(asked, PhoneRequest::Backup(file.clone()), "{target}");
        }
    }

    #[test]
    fn paths_that_no_phone_sends_are_refused() {
        for target in [
            "/",
            "/x.php",
            "/PhoneBackup",
            "/299_16xxdata.txt/",
            "/../299_16xxdata.txt",
            "/PhoneBackup/../299_16xxdata.txt",
            "/./299_16xxdata.txt",
            "/%2e%2e/299_16xxdata.txt",
            "/PhoneBackup%2f299_16xxdata.txt",
            "/%32%39%39_16xxdata.txt",
            "/299_16xxdata.txt%00",
            "/PhoneBackup\\299_16xxdata.txt",
            "/299_16xxdata.txt?",
            "/299_16xxdata.txt?a=b",
            "/é/299_16xxdata.txt",
            "*",
            &format!("/{}_16xxdata.txt", "1".repeat(300)),
        ] {
            assert_eq!(status(&Method::GET, target), 400, "{target}");
        }
        assert_eq!(status(&Method::GET, "bruri.example:80"), 400);
    }

    #[test]
    fn a_directory_of_no_realm_is_not_found() {
        for target in
            ["/x/299_16xxdata.txt", "/user/299_16xxdata.txt", "/PhoneBackup/a/1_adata.txt"]
        {
            assert_eq!(status(&Method::GET, target), 404, "{target}");
        }
        assert_eq!(status(&Method::PUT, "/x/1_64c3549e5334_report.tgz"), 404);
    }

    #[test]
    fn reports_are_told_from_files_and_from_nonsense() {
        for target in ["/8811149_64c3549e5334_report.tgz", "/PhoneBackup/1_A-b_REPORT.TGZ"] {
            assert_eq!(parse(&Method::PUT, target).unwrap(), PhoneRequest::Report, "{target}");
        }
        for target in ["/_report.tgz", "/a.b_report.tgz", "/report.tgz"] {
            assert_eq!(status(&Method::PUT, target), 400, "{target}");
        }
    }

    #[test]
    fn other_methods_are_refused_whatever_their_path() {
        for method in ["POST", "PROPFIND", "put", "TRACE", "CONNECT"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(status(&method, "/299_16xxdata.txt"), 405, "{method}");
            assert_eq!(status(&method, "/x.php"), 405);
        }
        assert_eq!(parse(&Method::OPTIONS, "*").unwrap(), PhoneRequest::Options);
        assert_eq!(parse(&Method::OPTIONS, "/x").unwrap(), PhoneRequest::Options);
    }
}
