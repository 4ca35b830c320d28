//! The cluster on disk: made once by `initdb`, whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use tokio::process::Command;
use tokio::time::timeout;

use super::plan::Plan;
use super::{DATABASE_USER, PostgresError};
use crate::access::User;
use crate::data_dir::make_dir;

/// A slow card in a small machine needs most of a minute.
const INITDB_SECONDS_MAX: u64 = 300;
const PASSWORD_BYTES: usize = 32;
/// What every unfinished cluster's name begins with.
const DRAFT: &str = "data.new";

/// Makes what is missing of the cluster and returns its password.
pub(super) async fn prepare(plan: &Plan) -> Result<String, PostgresError> {
    let layout = &plan.layout;
    let root = layout.root();
    make_dir(root, 0o755)
        .and_then(|()| make_owned_dir(&layout.sockets(), &plan.user))
        .and_then(|()| remove_drafts(root))
        .map_err(PostgresError::doing(format!("prepare {}", root.display())))?;
    if plan.exists {
        adopt(plan)?;
        return read_password(&layout.password_file());
    }
    let password = new_password()?;
    write_secret(&layout.password_file(), &format!("*:*:*:{DATABASE_USER}:{password}\n"))?;
    make(plan, &password).await?;
    Ok(password)
}

/// A command that runs a program of Postgres as `user`, with nothing of our environment.
pub(super) fn command(program: &OsStr, user: &User) -> Command {
    let mut command = Command::new(program);
    // A group of its own: ^C at a terminal reaches us first, and we stop it in order.
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").process_group(0);
    if User::current().is_root() {
        command.uid(user.uid).gid(user.gid());
    }
    command.stdin(Stdio::null());
    command
}

async fn make(plan: &Plan, password: &str) -> Result<(), PostgresError> {
    let root = plan.layout.root();
    // The number keeps the `initdb` of a brurid that was killed away from our directory.
    let draft = root.join(format!("{DRAFT}-{}", std::process::id()));
    let password_file = root.join(format!("{DRAFT}-password"));
    let doing = || PostgresError::doing(format!("make the database in {}", root.display()));
    make_owned_dir(&draft, &plan.user).map_err(doing())?;
    write_secret(&password_file, password)?;
    give(&password_file, &plan.user).map_err(doing())?;
    initdb(plan, &draft, &password_file).await?;
    fs::remove_file(&password_file)
        .and_then(|()| fs::rename(&draft, plan.layout.data()))
        .and_then(|()| File::open(root)?.sync_all())
        .map_err(doing())
}

async fn initdb(plan: &Plan, directory: &Path, password_file: &Path) -> Result<(), PostgresError> {
    let mut initdb = command(plan.install.program("initdb").as_os_str(), &plan.user);
    initdb
        .arg("--pgdata")
        .arg(directory)
        .arg("--pwfile")
        .arg(password_file)
        .arg(format!("--username={DATABASE_USER}"))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums"])
        .args(["--no-instructions", "--no-clean"])
        .kill_on_drop(true);
    let limit = Duration::from_secs(INITDB_SECONDS_MAX);
    let failed = |said| PostgresError::Failed { program: "initdb", said };
    let output = timeout(limit, initdb.output())
        .await
        .map_err(|_| failed(format!("not done within {INITDB_SECONDS_MAX} s")))?
        .map_err(PostgresError::doing(format!("run initdb as {}", plan.user.name)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim().replace('\n', "; "))));
    }
    Ok(())
}

/// A cluster that root owns, e.g. one restored from an archive, is given to the user that runs it.
fn adopt(plan: &Plan) -> Result<(), PostgresError> {
    let data = plan.layout.data();
    let adopted = fs::metadata(&data).and_then(|metadata| {
        if metadata.uid() == plan.user.uid { Ok(()) } else { give_all(&data, &plan.user) }
    });
    adopted.map_err(PostgresError::doing(format!(
        "give {} to user {}",
        data.display(),
        plan.user.name
    )))
}

fn give_all(path: &Path, user: &User) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), user)?;
        }
    }
    lchown(path, Some(user.uid), Some(user.gid()))
}

fn make_owned_dir(path: &Path, user: &User) -> io::Result<()> {
    make_dir(path, 0o700)?;
    give(path, user)
}

fn give(path: &Path, user: &User) -> io::Result<()> {
    if User::current().is_root() {
        chown(path, Some(user.uid), Some(user.gid()))?;
    }
    Ok(())
}

/// Removes what an interrupted `initdb` left.
fn remove_drafts(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let is_draft = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(DRAFT));
        if is_draft && path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if is_draft {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn new_password() -> Result<String, PostgresError> {
    use std::fmt::Write as _;
    let mut bytes = [0; PASSWORD_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| io::Error::other(error.to_string()))
        .map_err(PostgresError::doing("draw random bytes for a password"))?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

fn write_secret(file: &Path, secret: &str) -> Result<(), PostgresError> {
    let write = || -> io::Result<()> {
        if let Err(error) = fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = OpenOptions::new();
        let mut written = options.write(true).create_new(true).mode(0o600).open(file)?;
        written.write_all(secret.as_bytes())?;
        written.sync_all()
    };
    write().map_err(PostgresError::doing(format!("write {}", file.display())))
}

fn read_password(file: &PathBuf) -> Result<String, PostgresError> {
    let missing = || PostgresError::NoPassword { file: file.clone() };
    let line = match fs::read_to_string(file) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(PostgresError::doing(format!("read {}", file.display()))(error)),
    };
    let password = line.trim_end().rsplit(':').next().unwrap_or_default();
    if password.is_empty() { Err(missing()) } else { Ok(password.to_owned()) }
}
