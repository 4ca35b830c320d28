//! Folders of certificates and keys: read with a bound, written once, never over what is there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bruri_domain::limits::TLS_FILE_BYTES_MAX;

use crate::error::{Context, Outcome, PkiError};

/// The CAs that sites trust.
pub const CA_CERT: &str = "ca.crt";
/// The key of the CA.
pub const CA_KEY: &str = "ca.key";
/// The site's certificate.
pub const SITE_CERT: &str = "site.crt";
/// Its key.
pub const SITE_KEY: &str = "site.key";
/// The deployment's key.
pub const DEPLOYMENT_KEY: &str = "deployment.key";

const FOLDER_MODE: u32 = 0o700;
const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;

/// A file to write.
#[derive(Debug)]
pub struct NewFile<'a> {
    name: &'static str,
    text: &'a str,
    mode: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// It was not there.
    Made,
    /// It was there, with the same content.
    Kept,
}

impl<'a> NewFile<'a> {
    /// One that all may read.
    pub fn public(name: &'static str, text: &'a str) -> Self {
        Self { name, text, mode: PUBLIC_MODE }
    }

    /// One that only its owner may read.
    pub fn secret(name: &'static str, text: &'a str) -> Self {
        Self { name, text, mode: SECRET_MODE }
    }
}

/// The pki folder of the data folder that brurid has unless told otherwise.
pub fn default_dir() -> Outcome<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/brurid/pki"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("HOME is not set; name the folder with --dir")?;
    Ok(Path::new(&home).join(".local/state/brurid/pki"))
}

/// The first of these files that the folder has.
pub fn first_of(folder: &Path, names: &[&'static str]) -> Outcome<Option<&'static str>> {
    for &name in names {
        let path = folder.join(name);
        // A dangling link is in the way as well.
        if path.is_symlink() || path.try_exists().with_context(|| cannot("read", &path))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Reads a file, where there is one.
pub fn read(path: &Path) -> Outcome<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(cannot("read", path)),
    };
    let mut bytes = Vec::new();
    file.take(TLS_FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(|| cannot("read", path))?;
    let text =
        String::from_utf8(bytes).ok().with_context(|| format!("{} is no text", path.display()))?;
    Ok(Some(text))
}

/// Writes all of the files, or none. One that is there stays if it has the same content, and is an
/// error otherwise.
pub fn write_new(folder: &Path, files: &[NewFile<'_>]) -> Outcome<Vec<(&'static str, Written)>> {
    make_folder(folder)?;
    let mut done = Vec::new();
    for file in files {
        match write_one(folder, file) {
            Ok(written) => done.push((file.name, written)),
            Err(error) => {
                take_back(folder, &done);
                return Err(error);
            }
        }
    }
    Ok(done)
}

fn make_folder(folder: &Path) -> Outcome<()> {
    if folder.is_dir() {
        return Ok(());
    }
    // Others may pass through the folders above: Postgres has its own below the same.
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(|| cannot("make", parent))?;
    }
    DirBuilder::new().mode(FOLDER_MODE).create(folder).with_context(|| cannot("make", folder))
}

fn write_one(folder: &Path, file: &NewFile<'_>) -> Outcome<Written> {
    let path = folder.join(file.name);
    match OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path) {
        Ok(mut open) => {
            let written = open.write_all(file.text.as_bytes()).and_then(|()| open.sync_all());
            if written.is_err() {
                take_back(folder, &[(file.name, Written::Made)]);
            }
            written.with_context(|| cannot("write", &path))?;
            Ok(Written::Made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if read(&path)?.as_deref() == Some(file.text) {
                return Ok(Written::Kept);
            }
            Err(PkiError::new(format!(
                "{} is there with another content; nothing was changed",
                path.display()
            )))
        }
        Err(error) => Err(error).context(cannot("write", &path)),
    }
}

/// Writes a file in the place of another one, at once: whoever reads sees the old or the new one.
pub fn replace(folder: &Path, file: &NewFile<'_>) -> Outcome<()> {
    make_folder(folder)?;
    let (path, new) = (folder.join(file.name), folder.join(format!(".{}.new", file.name)));
    // One that a crash left behind.
    let _ = fs::remove_file(&new);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut open = options.write(true).create_new(true).mode(file.mode).open(&new)?;
        open.write_all(file.text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| cannot("write", &path))
}

/// Removes what was made. A failure leaves a file that the next try names, so it is not told.
fn take_back(folder: &Path, done: &[(&'static str, Written)]) {
    for (name, _) in done.iter().filter(|(_, written)| *written == Written::Made) {
        let _ = fs::remove_file(folder.join(name));
    }
}

fn cannot(verb: &str, path: &Path) -> String {
    format!("cannot {verb} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_written_or_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(SITE_KEY), "other").unwrap();
        let files = [NewFile::public(SITE_CERT, "cert"), NewFile::secret(SITE_KEY, "key")];
        let error = write_new(dir.path(), &files).unwrap_err().to_string();
        assert!(error.contains("site.key is there with another content"), "{error}");
        assert!(!dir.path().join(SITE_CERT).exists());
        assert_eq!(fs::read_to_string(dir.path().join(SITE_KEY)).unwrap(), "other");
    }

    #[test]
    fn a_file_with_the_same_content_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CA_CERT), "ca").unwrap();
        let files = [NewFile::public(CA_CERT, "ca"), NewFile::public(SITE_CERT, "cert")];
        let written = write_new(dir.path(), &files).unwrap();
        assert_eq!(written, [(CA_CERT, Written::Kept), (SITE_CERT, Written::Made)]);
    }

    #[test]
    fn a_dangling_link_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join(CA_KEY)).unwrap();
        assert_eq!(first_of(dir.path(), &[CA_CERT, CA_KEY]).unwrap(), Some(CA_KEY));
    }
}
