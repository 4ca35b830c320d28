//! The data directory of a `brurid`: made on first use, owned by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use crate::access::User;

const LOCK_FILE: &str = "brurid.lock";
const PID_BYTES_MAX: usize = 16;

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // The kernel frees the lock with the file, however the process ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process owns it.
    #[error(
        "data directory {} is in use by another brurid{owner}; stop that one, or set site.data_dir",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that owns it, as far as it is known.
        owner: String,
    },
    /// It cannot be made or written.
    #[error("failed to use data directory {}; set site.data_dir to one that this user may write", .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory where it is missing, and takes it for this process.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        // As root the private Postgres runs as another user, who must pass through.
        let mode = if User::current().is_root() { 0o755 } else { 0o700 };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unusable)?;
        }
        make_dir(path, mode).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let mut lock = lock_file(&path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { owner: owner(&lock), path });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        write_owner(&mut lock).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is: absolute, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The process that owns the directory at `path`, if one does; changes nothing.
pub fn in_use(path: &Path) -> Option<String> {
    let lock = File::open(path.join(LOCK_FILE)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(owner(&lock)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Makes a directory with this mode whatever the umask, unless it exists.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(directory.join(LOCK_FILE))
}

fn write_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn owner(lock: &File) -> String {
    let mut start = [0; PID_BYTES_MAX];
    // Without the number the message still says all that matters.
    let read = lock.read_at(&mut start, 0).unwrap_or(0);
    match String::from_utf8_lossy(&start[..read]).trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");

        let first = DataDir::open(&path).unwrap();
        let refusal = DataDir::open(&path).unwrap_err();
        let own_pid = std::process::id();
        assert!(refusal.to_string().contains(&format!("(process {own_pid})")), "{refusal}");
        assert_eq!(in_use(&path), Some(format!(" (process {own_pid})")));

        drop(first);
        assert_eq!(in_use(&path), None);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();

        let refusal = DataDir::open(&file.join("data")).unwrap_err();

        assert!(refusal.to_string().contains("set site.data_dir"), "{refusal}");
    }
}
