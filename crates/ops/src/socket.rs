//! The operators' Unix socket: made for its owner only, taken over from a process that is gone, refused
//! where one is there.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bruri_domain::limits::{OPS_PROBE_SECONDS_MAX, SOCKET_PATH_BYTES_MAX};
use tokio::net::{UnixListener, UnixStream};

use crate::OpsError;

const OWNER_ONLY: u32 = 0o600;
const OWNER_ONLY_DIRECTORY: u32 = 0o700;

/// A bound socket. Its file is removed when it is dropped, unless somebody else's has taken its place.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Binds `path`; only the user that this process runs as may connect.
    ///
    /// # Errors
    /// [`OpsError::InUse`] where somebody answers there; [`OpsError::NotASocket`],
    /// [`OpsError::PathTooLong`], [`OpsError::Unusable`].
    pub async fn bind(path: &Path) -> Result<Self, OpsError> {
        let unusable = |source| OpsError::Unusable { path: path.to_owned(), source };
        make_way(path).await?;
        let staging = Staging::beside(path)?;
        fs::create_dir_all(staging.directory.parent().unwrap_or(Path::new("/")))
            .and_then(|()| staging.make())
            .map_err(unusable)?;
        let bound = staging.bind(path);
        staging.remove();
        bound.map_err(unusable)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(crate) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// The file of a bound socket, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file, which tell it from one that came later.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What stays is found to be stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Finds that the path is free, or held by the socket of a process that is gone.
async fn make_way(path: &Path) -> Result<(), OpsError> {
    let unusable = |source| OpsError::Unusable { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(OpsError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    }
    let probe = UnixStream::connect(path);
    match tokio::time::timeout(Duration::from_secs(OPS_PROBE_SECONDS_MAX), probe).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // One whose queue is full is alive as well.
        Ok(Ok(_)) | Err(_) => Err(OpsError::InUse { path: path.to_owned() }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpsError::InUse { path: path.to_owned() })
        }
        Ok(Err(error)) => Err(unusable(error)),
    }
}

/// A directory that nobody else may enter, in which the socket gets its mode before it is moved to its
/// place: so at no time, and whatever the umask, can somebody else connect.
struct Staging {
    directory: PathBuf,
    socket: PathBuf,
}

impl Staging {
    fn beside(path: &Path) -> Result<Self, OpsError> {
        // One name for each socket of each process.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".ops-{}-{count}", std::process::id());
        let directory = path.with_file_name(name);
        let socket = directory.join("s");
        let longest = path.as_os_str().len().max(socket.as_os_str().len());
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(OpsError::PathTooLong { path: path.to_owned() });
        }
        Ok(Self { directory, socket })
    }

    fn make(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.mode(OWNER_ONLY_DIRECTORY);
        match builder.create(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by a process that had our number and was killed in between.
                self.remove();
                builder.create(&self.directory)
            }
            done => done,
        }
    }

    fn bind(&self, path: &Path) -> io::Result<Socket> {
        let listener = UnixListener::bind(&self.socket)?;
        fs::set_permissions(&self.socket, Permissions::from_mode(OWNER_ONLY))?;
        let identity = identity(&self.socket)?;
        fs::rename(&self.socket, path)?;
        Ok(Socket { listener, file: SocketFile { path: path.to_owned(), identity } })
    }

    /// Takes away what is left of it; the socket itself has been moved.
    fn remove(&self) {
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_dir(&self.directory);
    }
}
