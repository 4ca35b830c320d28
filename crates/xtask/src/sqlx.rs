//! The committed .sqlx: what Postgres says of every statement in crates/store, so that a build checks
//! them without a database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::{derived, workspace};

/// The environment variable that names a database whose user may create databases.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// Fails where the committed files are not what the statements and migrations give.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let fresh = fresh(root)?;
    derived::check(fresh.path(), &root.join(".sqlx"), "run `cargo xtask sqlx`")
}

/// Writes .sqlx.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let fresh = fresh(root)?;
    derived::replace(fresh.path(), &root.join(".sqlx"))
}

fn fresh(root: &Path) -> anyhow::Result<TempDir> {
    let server = std::env::var(DATABASE_URL)
        .with_context(|| format!("{DATABASE_URL} must name a database to check statements with"))?;
    let fresh = TempDir::new().context("create a temporary directory")?;
    let database = ScratchDatabase::create(&server)?;
    database.migrate(&root.join("migrations"))?;
    let _touched = Touched::touch(&root.join("crates/store/src/lib.rs"), fresh.path())?;
    let mut cargo = workspace::cargo(root);
    cargo
        .args(["check", "--quiet", "--package", "bruri-store", "--all-targets"])
        .env(DATABASE_URL, &database.url)
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", fresh.path());
    workspace::run(&mut cargo)?;
    Ok(fresh)
}

/// A database of our own on the given server, gone when this is dropped.
struct ScratchDatabase {
    server: String,
    name: String,
    url: String,
}

impl ScratchDatabase {
    fn create(server: &str) -> anyhow::Result<Self> {
        let name = format!("bruri_xtask_{}", std::process::id());
        let url = with_database(server, &name)
            .with_context(|| format!("{DATABASE_URL} names no database"))?;
        psql(server, &["-c", &format!("create database {name}")])?;
        Ok(Self { server: server.to_owned(), name, url })
    }

    fn migrate(&self, migrations: &Path) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(migrations).context("read directory migrations")? {
            files.push(entry?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        ensure!(!files.is_empty(), "{} holds no migration", migrations.display());
        for file in &files {
            let path = file.to_str().context("a migration's path is not UTF-8")?;
            psql(&self.url, &["-f", path])?;
        }
        Ok(())
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        let statement = format!("drop database {} with (force)", self.name);
        if let Err(error) = psql(&self.server, &["-c", &statement]) {
            println!("left database {} behind: {error:#}", self.name);
        }
    }
}

/// `url` with another database name: `postgres://user@host/name?host=/dir`.
fn with_database(url: &str, name: &str) -> Option<String> {
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = address.split_once("://")?;
    let (authority, _database) = rest.split_once('/')?;
    let question = if options.is_empty() { "" } else { "?" };
    Some(format!("{scheme}://{authority}/{name}{question}{options}"))
}

fn psql(url: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(psql_program());
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]).args(arguments);
    workspace::output(&mut command).map(drop)
}

/// Debian keeps the programs of each major version in a directory of its own; take the newest.
fn psql_program() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path())
        .filter(|path| path.join("bin/psql").exists())
        .max_by_key(|path| major_version(path))
        .map_or_else(|| "psql".into(), |path| path.join("bin/psql"))
}

fn major_version(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.parse().unwrap_or_default()
}

/// A source file that looks changed, so that cargo checks its crate anew and every statement is asked
/// about; it gets its old time back when this is dropped, so that other builds stay fresh.
struct Touched {
    path: PathBuf,
    before: SystemTime,
    now: SystemTime,
}

impl Touched {
    /// `made_now` is anything that was made just now: it tells the time.
    fn touch(path: &Path, made_now: &Path) -> anyhow::Result<Self> {
        let before =
            time_of(path).with_context(|| format!("read the time of {}", path.display()))?;
        let now = time_of(made_now)
            .with_context(|| format!("read the time of {}", made_now.display()))?;
        let touched = Self { path: path.to_owned(), before, now };
        set_time(path, now).with_context(|| format!("touch {}", path.display()))?;
        Ok(touched)
    }

    /// A file that somebody has edited meanwhile keeps its time, or the edit would go unseen.
    fn restore(&self) -> std::io::Result<()> {
        if time_of(&self.path)? == self.now { set_time(&self.path, self.before) } else { Ok(()) }
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            println!("{} keeps a newer time: {error}", self.path.display());
        }
    }
}

fn time_of(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn set_time(path: &Path, time: SystemTime) -> std::io::Result<()> {
    File::options().append(true).open(path)?.set_modified(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_an_address_changes() {
        let socket = with_database("postgres://u@localhost/a?host=/tmp/x/y", "b");
        assert_eq!(socket.unwrap(), "postgres://u@localhost/b?host=/tmp/x/y");
        let tcp = with_database("postgres://u:p@db.example:5432/a", "b");
        assert_eq!(tcp.unwrap(), "postgres://u:p@db.example:5432/b");
    }

    #[test]
    fn an_address_without_a_database_is_refused() {
        assert_eq!(with_database("postgres://localhost", "b"), None);
        assert_eq!(with_database("/tmp/x", "b"), None);
    }

    #[test]
    fn a_touched_file_gets_its_time_back() {
        let directory = TempDir::new().unwrap();
        let path = old_file(&directory);

        let touched = Touched::touch(&path, directory.path()).unwrap();
        let during = time_of(&path).unwrap();
        drop(touched);

        assert_eq!(during, time_of(directory.path()).unwrap());
        assert_eq!(time_of(&path).unwrap(), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_file_edited_meanwhile_keeps_its_time() {
        let directory = TempDir::new().unwrap();
        let path = old_file(&directory);

        let touched = Touched::touch(&path, directory.path()).unwrap();
        let edited = time_of(&path).unwrap() + std::time::Duration::from_secs(1);
        set_time(&path, edited).unwrap();
        drop(touched);

        assert_eq!(time_of(&path).unwrap(), edited);
    }

    fn old_file(directory: &TempDir) -> PathBuf {
        let path = directory.path().join("lib.rs");
        fs::write(&path, "").unwrap();
        set_time(&path, SystemTime::UNIX_EPOCH).unwrap();
        path
    }
}
