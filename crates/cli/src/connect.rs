//! Finding the site to ask, and reaching it.

use std::{
    env,
    error::Error,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bruri_wire::limits::{CLI_CONNECT_SECONDS_MAX, OPS_REQUEST_SECONDS_MAX};
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;

/// Where the daemon of a machine has its socket, unless told otherwise.
const SYSTEM_SOCKET: &str = "/var/lib/brurid/ops.sock";
/// The same for a daemon that somebody runs for himself, below his home directory.
const OWN_SOCKET: &str = ".local/state/brurid/ops.sock";

/// A site, by the socket of its daemon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SiteAddress(PathBuf);

/// Why a text is no site's address.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected unix:PATH, or a path; to ask a site on another machine, run bruri there, e.g. by ssh"
)]
pub(crate) struct InvalidSiteAddress;

impl FromStr for SiteAddress {
    type Err = InvalidSiteAddress;

    fn from_str(text: &str) -> Result<Self, InvalidSiteAddress> {
        let path = match text.strip_prefix("unix:") {
            Some(path) => path.strip_prefix("//").unwrap_or(path),
            None if text.contains("://") => return Err(InvalidSiteAddress),
            None => text,
        };
        if path.is_empty() { Err(InvalidSiteAddress) } else { Ok(Self(path.into())) }
    }
}

impl SiteAddress {
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Connects to the site that is named, or else to the one of this machine.
pub(crate) async fn connect(site: Option<&SiteAddress>) -> Result<Channel, Failure> {
    let path = match site {
        Some(SiteAddress(path)) => path.clone(),
        None => first_of(usual_places())?,
    };
    let text = path.to_str().ok_or_else(|| {
        Failure::Usage(format!("the path of a socket must be UTF-8: {}", path.display()))
    })?;
    let invalid = |error| unreachable(&path, &error);
    Endpoint::from_shared(format!("unix:{text}"))
        .map_err(invalid)?
        .connect_timeout(Duration::from_secs(CLI_CONNECT_SECONDS_MAX))
        .timeout(Duration::from_secs(OPS_REQUEST_SECONDS_MAX))
        .connect()
        .await
        .map_err(invalid)
}

fn usual_places() -> Vec<PathBuf> {
    let home = env::home_dir().map(|home| home.join(OWN_SOCKET));
    [Some(SYSTEM_SOCKET.into()), home].into_iter().flatten().collect()
}

/// The first that is there. One that cannot be looked at may be there.
fn first_of(places: Vec<PathBuf>) -> Result<PathBuf, Failure> {
    let (mut tried, mut hidden) = (Vec::new(), None);
    for place in places {
        match place.symlink_metadata() {
            Ok(_) => return Ok(place),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                hidden.get_or_insert(place);
            }
            Err(_) => tried.push(place.display().to_string()),
        }
    }
    hidden.ok_or_else(|| {
        Failure::Unreachable(format!(
            "no brurid runs here: there is no socket at {}; start one, or name its socket with --site",
            tried.join(" nor at ")
        ))
    })
}

fn unreachable(path: &Path, error: &(dyn Error + 'static)) -> Failure {
    let shown = path.display();
    let kind = io_cause(error).map(io::Error::kind);
    Failure::Unreachable(match kind {
        Some(io::ErrorKind::NotFound) => {
            format!("there is no socket at {shown}: is brurid running?")
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("the brurid that made {shown} has ended: start it again")
        }
        Some(io::ErrorKind::PermissionDenied) => format!(
            "you may not connect to {shown}: run bruri as the user that runs brurid, e.g. with sudo"
        ),
        _ => format!("cannot reach the site at {shown}: {}", innermost(error)),
    })
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_that_is_there_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        std::fs::write(place("second"), "").unwrap();
        std::fs::write(place("third"), "").unwrap();
        let places = vec![place("first"), place("second"), place("third")];
        assert_eq!(first_of(places).unwrap(), place("second"));
    }

    #[test]
    fn where_no_socket_is_all_places_are_named() {
        let refused = first_of(vec!["/nowhere/a".into(), "/nowhere/b".into()]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no brurid runs here: there is no socket at /nowhere/a nor at /nowhere/b; start one, or \
             name its socket with --site"
        );
    }
}
