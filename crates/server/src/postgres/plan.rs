//! How a private Postgres would run here: which programs, as whom, where. Looks, changes nothing.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Install, PostgresError, Search};
use crate::access::User;

/// Bytes of a Unix socket's path on Linux, its closing NUL not counted.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The name of the socket that a server with port 5432 makes.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// How a private Postgres would run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The programs.
    pub install: Install,
    /// The user that runs them.
    pub user: User,
    /// Where everything is.
    pub layout: Layout,
    /// True where the cluster has been made already.
    pub exists: bool,
}

impl Plan {
    /// Looks at `data_dir`, which need not exist yet.
    pub fn make(data_dir: &Path, search: &Search) -> Result<Self, PostgresError> {
        let layout = Layout::within(data_dir);
        let major = layout.major()?;
        let data = layout.data();
        let install = search.find(major.map(|major| (data.as_path(), major)))?;
        let user = runner(&data, User::current())?;
        check_socket(&layout)?;
        check_way(&user, layout.root())?;
        Ok(Self { install, user, layout, exists: major.is_some() })
    }
}

/// Where the parts of a private Postgres are.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    fn within(data_dir: &Path) -> Self {
        Self { root: data_dir.join("postgres") }
    }

    /// The directory of all that follows; belongs to the user of `brurid`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster; belongs to the user that runs Postgres.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the socket is.
    pub fn sockets(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The password, in the form that `PGPASSFILE` takes.
    pub fn password_file(&self) -> PathBuf {
        self.root.join("pgpass")
    }

    /// The settings, written anew at each start.
    pub fn settings_file(&self) -> PathBuf {
        self.root.join("postgresql.conf")
    }

    /// The major version of the cluster, if there is one.
    fn major(&self) -> Result<Option<u32>, PostgresError> {
        let file = self.data().join("PG_VERSION");
        if !self.data().try_exists().map_err(unreadable(&file))? {
            return Ok(None);
        }
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(unreadable(&file))?,
        };
        text.trim().parse().map(Some).map_err(|_| PostgresError::NoVersion { file })
    }
}

fn unreadable(file: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    PostgresError::doing(format!("read {}", file.display()))
}

/// The user that runs Postgres on the cluster `data`: ourselves, or, since Postgres refuses root,
/// the cluster's owner, `postgres` or `nobody`.
fn runner(data: &Path, current: User) -> Result<User, PostgresError> {
    let owner = match fs::metadata(data) {
        Ok(metadata) => Some(User::numbered(metadata.uid(), metadata.gid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(data)(error)),
    };
    match owner {
        Some(owner) if !owner.is_root() && current.is_root() => Ok(owner),
        Some(owner) if !current.is_root() && owner.uid != current.uid => {
            Err(PostgresError::WrongOwner {
                directory: data.to_owned(),
                owner: owner.name,
                user: current.name,
            })
        }
        _ if current.is_root() => User::named("postgres")
            .or_else(|| User::named("nobody"))
            .filter(|user| !user.is_root())
            .ok_or(PostgresError::NoUser),
        _ => Ok(current),
    }
}

fn check_socket(layout: &Layout) -> Result<(), PostgresError> {
    let path = layout.sockets().join(SOCKET_NAME);
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(PostgresError::SocketPathTooLong { path, bytes, max: SOCKET_PATH_BYTES_MAX });
    }
    Ok(())
}

/// What of the way to `root` exists already must be open to `user`.
fn check_way(user: &User, root: &Path) -> Result<(), PostgresError> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let closed = user.stopped_at(existing).map_err(unreadable(existing))?;
    match closed {
        Some(directory) => Err(PostgresError::Closed { user: user.name.clone(), directory }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(data_dir: &Path) -> Result<Plan, PostgresError> {
        Plan::make(data_dir, &Search::system())
    }

    #[test]
    fn a_cluster_of_another_major_version_is_refused_with_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("postgres/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "11\n").unwrap();

        let refusal = plan(parent.path()).unwrap_err().to_string();

        for part in ["made by PostgreSQL 11", "postgresql-11`", "pg_upgrade", "dump"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn a_cluster_without_a_version_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("postgres/data");
        fs::create_dir_all(&data).unwrap();

        assert!(matches!(plan(parent.path()), Err(PostgresError::NoVersion { .. })));
        fs::write(data.join("PG_VERSION"), "fifteen").unwrap();
        assert!(matches!(plan(parent.path()), Err(PostgresError::NoVersion { .. })));
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
        let data_dir = PathBuf::from("/").join("x".repeat(SOCKET_PATH_BYTES_MAX));

        let refusal = plan(&data_dir).unwrap_err().to_string();

        assert!(refusal.contains("set site.data_dir to a shorter path"), "{refusal}");
        assert!(!data_dir.exists());
    }
}
