//! Who may do what with a file: users of this host, and the permission bits.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Permission to read a file or list a directory.
pub const READ: u32 = 0o4;
/// Permission to change a file or the entries of a directory.
pub const WRITE: u32 = 0o2;
/// Permission to enter a directory.
pub const ENTER: u32 = 0o1;

/// A user as the kernel sees it: no name, no group but those given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The user's name, for people.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The user's groups, the primary one first.
    pub gids: Vec<u32>,
}

impl User {
    /// Who this process acts as.
    pub fn current() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let mut gids = vec![nix::unistd::getegid().as_raw()];
        gids.extend(nix::unistd::getgroups().into_iter().flatten().map(nix::unistd::Gid::as_raw));
        let name = by(|user| user.uid == uid).map_or_else(|| uid.to_string(), |user| user.name);
        Self { name, uid, gids }
    }

    /// The user of this name in /etc/passwd.
    pub fn named(name: &str) -> Option<Self> {
        by(|user| user.name == name)
    }

    /// The user of this number; without an entry in /etc/passwd it has `gid` and its number as name.
    pub fn numbered(uid: u32, gid: u32) -> Self {
        by(|user| user.uid == uid).unwrap_or_else(|| Self {
            name: uid.to_string(),
            uid,
            gids: vec![gid],
        })
    }

    /// True for the superuser, whom no permission bit stops.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The primary group.
    pub fn gid(&self) -> u32 {
        self.gids.first().copied().unwrap_or(self.uid)
    }

    /// Whether the permission bits let this user do `what` ([`READ`], [`WRITE`], [`ENTER`]).
    pub fn may(&self, what: u32, file: &Metadata) -> bool {
        let bits = if file.uid() == self.uid {
            file.mode() >> 6
        } else if self.gids.contains(&file.gid()) {
            file.mode() >> 3
        } else {
            file.mode()
        };
        self.is_root() || bits & what == what
    }

    /// The first directory on the way to `path` that this user cannot enter.
    pub fn stopped_at(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let mut on_the_way: Vec<&Path> = path.ancestors().collect();
        on_the_way.reverse();
        for directory in on_the_way {
            if !self.may(ENTER, &fs::metadata(directory)?) {
                return Ok(Some(directory.to_owned()));
            }
        }
        Ok(None)
    }
}

fn by(wanted: impl Fn(&User) -> bool) -> Option<User> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().filter_map(entry).find(|user| wanted(user))
}

/// Reads a line of /etc/passwd: `name:password:uid:gid:…`.
fn entry(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gids: vec![gid] })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_line_of_passwd_is_read() {
        let user = entry("postgres:x:101:104:PostgreSQL administrator,,,:/var/lib:/bin/bash");
        let expected = User { name: "postgres".to_owned(), uid: 101, gids: vec![104] };
        assert_eq!(user, Some(expected));
        assert_eq!(entry("garbage"), None);
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let root = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let closed = root.path().join("closed");
        fs::create_dir_all(closed.join("inner")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = User { name: "stranger".to_owned(), uid: 54_321, gids: vec![54_321] };

        assert_eq!(stranger.stopped_at(root.path()).unwrap(), None);
        assert_eq!(stranger.stopped_at(&closed.join("inner")).unwrap(), Some(closed));
    }
}
