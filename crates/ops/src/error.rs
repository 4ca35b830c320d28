//! Why the operators' services cannot be served.

use std::{io, path::PathBuf};

use bruri_domain::limits::SOCKET_PATH_BYTES_MAX;

/// Why the operators' services cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// Somebody answers at the path.
    #[error(
        "another process serves the operators' socket {}; stop that one, or set ops.socket",
        .path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a socket is there, and is left alone.
    #[error("{} exists and is no socket; remove it, or set ops.socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Longer than the kernel allows.
    #[error(
        "the path of the operators' socket is too long: {}; a socket is made in a directory beside it, \
         whose path may have {SOCKET_PATH_BYTES_MAX} bytes: set ops.socket",
        .path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error(
        "failed to make the operators' socket {}; set ops.socket to a path in a directory that this \
         user may write",
        .path.display()
    )]
    Unusable {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptors that reflection tells do not fit together.
    #[error("the descriptors of the services cannot be read")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// The server ended by itself.
    #[error("the operators' services ended")]
    Ended(#[from] tonic::transport::Error),
}
