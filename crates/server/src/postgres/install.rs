//! Which `PostgreSQL` programs are installed, and which of them a cluster needs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PostgresError;

/// The oldest major version that serves: the first with lz4 for stored bodies.
const MAJOR_MIN: u32 = 14;

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Search {
    /// A directory with `<major>/bin` in it, as Debian lays them out.
    pub root: PathBuf,
    /// Directories as in `PATH`, looked through after the former.
    pub path: OsString,
}

impl Search {
    /// Debian's directory and this process's `PATH`.
    pub fn system() -> Self {
        Self {
            root: PathBuf::from("/usr/lib/postgresql"),
            path: env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// The newest programs installed, or those of `major` where a cluster needs them.
    pub(super) fn find(&self, cluster: Option<(&Path, u32)>) -> Result<Install, PostgresError> {
        let mut installed: Vec<Install> = self
            .directories()
            .into_iter()
            .filter_map(Install::at)
            .filter(|install| install.major >= MAJOR_MIN)
            .collect();
        // The sort is stable: of equal majors Debian's directory stays before PATH.
        installed.sort_by_key(|install| std::cmp::Reverse(install.major));
        let majors: Vec<String> = installed.iter().map(|i| i.major.to_string()).collect();
        let wanted = |install: &Install| cluster.is_none_or(|(_, major)| install.major == major);
        match (installed.into_iter().find(wanted), cluster) {
            (Some(install), _) => Ok(install),
            (None, Some((directory, cluster))) => Err(PostgresError::OtherMajor {
                directory: directory.to_owned(),
                cluster,
                installed: if majors.is_empty() { "none".to_owned() } else { majors.join(", ") },
            }),
            (None, None) => Err(PostgresError::NoneInstalled {
                oldest: MAJOR_MIN,
                looked_in: format!("{}/*/bin and PATH", self.root.display()),
            }),
        }
    }

    /// Every directory that holds a server and its `initdb`.
    fn directories(&self) -> Vec<PathBuf> {
        let packaged = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let packaged = packaged.map(|entry| entry.path().join("bin"));
        // A link in PATH leads to the directory where the other programs are.
        let linked = env::split_paths(&self.path)
            .filter_map(|directory| directory.join("postgres").canonicalize().ok())
            .filter_map(|program| program.parent().map(Path::to_owned));
        packaged
            .chain(linked)
            .filter(|bin| ["postgres", "initdb"].iter().all(|name| bin.join(name).is_file()))
            .collect()
    }
}

/// Installed programs of one version.
#[derive(Clone, Debug)]
pub struct Install {
    bin: PathBuf,
    major: u32,
    version: String,
}

impl Install {
    fn at(bin: PathBuf) -> Option<Self> {
        let output =
            Command::new(bin.join("postgres")).arg("--version").env_clear().output().ok()?;
        let (version, major) = version(&String::from_utf8(output.stdout).ok()?)?;
        Some(Self { bin, major, version })
    }

    /// Where a program of this version is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The major version, e.g. 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The whole version, e.g. `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Reads what `postgres --version` prints, e.g. `postgres (PostgreSQL) 15.18 (Debian …)`.
fn version(printed: &str) -> Option<(String, u32)> {
    let (_, rest) = printed.split_once("(PostgreSQL) ")?;
    let version = rest.split_whitespace().next()?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((version.to_owned(), digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A directory with programs that say they are of `version`.
    fn plant(bin: &Path, version: &str) {
        fs::create_dir_all(bin).unwrap();
        for name in ["postgres", "initdb"] {
            let program = bin.join(name);
            fs::write(&program, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn printed_versions_are_read() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version(debian), Some(("15.18".to_owned(), 15)));
        assert_eq!(version("postgres (PostgreSQL) 19beta1\n"), Some(("19beta1".to_owned(), 19)));
        assert_eq!(version("sh: not found"), None);
    }

    #[test]
    fn the_newest_is_taken_unless_a_cluster_needs_another() {
        let root = tempfile::tempdir().unwrap();
        plant(&root.path().join("9/bin"), "9.6.24");
        plant(&root.path().join("15/bin"), "15.18");
        plant(&root.path().join("17/bin"), "17.2");
        let search = Search { root: root.path().to_owned(), path: OsString::new() };

        assert_eq!(search.find(None).unwrap().version(), "17.2");
        assert_eq!(search.find(Some((Path::new("/data"), 15))).unwrap().version(), "15.18");
    }

    #[test]
    fn a_link_in_path_leads_to_its_own_directory() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().canonicalize().unwrap().join("opt");
        plant(&bin, "16.1");
        let links = root.path().join("links");
        fs::create_dir(&links).unwrap();
        symlink(bin.join("postgres"), links.join("postgres")).unwrap();
        let search = Search { root: root.path().join("none"), path: links.into_os_string() };

        assert_eq!(search.find(None).unwrap().program("initdb"), bin.join("initdb"));
    }

    #[test]
    fn where_none_or_only_a_too_old_one_is_installed_the_error_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        plant(&root.path().join("13/bin"), "13.22");
        let search = Search { root: root.path().to_owned(), path: OsString::new() };

        let refusal = search.find(None).unwrap_err().to_string();

        assert!(refusal.contains("version 14 or later"), "{refusal}");
        assert!(refusal.contains("`apt-get install postgresql`, or set database.url"), "{refusal}");
    }
}
