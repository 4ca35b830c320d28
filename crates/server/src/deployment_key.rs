//! The file that holds the deployment key.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use bruri_domain::DeploymentKey;

/// Bytes of the file that are read: the 64 digits, and room for line ends.
const FILE_BYTES_MAX: u64 = 1024;

/// A key as it was found or made.
pub(crate) struct FoundKey {
    pub(crate) key: DeploymentKey,
    /// It was made just now: nothing was stored under it yet.
    pub(crate) is_new: bool,
}

/// Reads the key, or makes the deployment's first one where there is none.
pub(crate) fn find(path: &Path) -> anyhow::Result<FoundKey> {
    if let Some(key) = read(path)? {
        return Ok(FoundKey { key, is_new: false });
    }
    let key = DeploymentKey::new(rand::random());
    write(path, &key).with_context(|| format!("write {}", path.display()))?;
    tracing::info!(file = %path.display(), "made a deployment key");
    Ok(FoundKey { key, is_new: true })
}

/// Reads the key, if there is one.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<DeploymentKey>> {
    match fs::File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(|| reading(path))?;
            text.parse().map(Some).with_context(|| reading(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| reading(path)),
    }
}

/// Takes a new key back because the database was filled under another one.
pub(crate) fn refuse_new(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    bail!(
        "{} is missing, and the database was filled under it: put the file back from a copy of the \
         data directory or from another site of the deployment",
        path.display()
    )
}

fn reading(path: &Path) -> String {
    format!("read the deployment key from {}", path.display())
}

/// Writes a key where there is none.
pub(crate) fn write(path: &Path, key: &DeploymentKey) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.to_file_text().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pki/deployment.key");
        let made = find(&path).unwrap();
        let found = find(&path).unwrap();
        assert!(made.is_new && !found.is_new);
        assert_eq!(made.key.check(), found.key.check());
    }

    #[test]
    fn a_damaged_key_is_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deployment.key");
        fs::write(&path, "not a key").unwrap();
        let error = format!("{:#}", find(&path).err().unwrap());
        assert!(error.contains("deployment.key") && error.contains("64 hexadecimal"), "{error}");
    }

    #[test]
    fn a_new_key_is_taken_back_where_the_database_has_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deployment.key");
        find(&path).unwrap();
        let error = refuse_new(&path).unwrap_err().to_string();
        assert!(error.contains("put the file back") && !path.exists(), "{error}");
    }
}
