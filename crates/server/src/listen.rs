//! Binding of the daemon's TCP listeners, with errors that say what to do.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something listens there already.
    #[error("another process uses {address}; see `ss -ltnp`, or set {key}")]
    InUse {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address belongs to no interface of this host.
    #[error("this host has no address {}; see `ip address`, or set {key}", .address.ip())]
    NotOurs {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// A port that only privileged users may open.
    #[error(
        "this user may not open {address}; choose a port of 1024 or above for {key}, \
         or give the service CAP_NET_BIND_SERVICE"
    )]
    Forbidden {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Anything else that the kernel said.
    #[error("failed to listen on {address} ({key})")]
    Other {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Opens `address`, which the configuration names under `key`.
pub async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { key, address },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { key, address },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { key, address },
        _ => ListenError::Other { key, address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();

        let error = bind("edge.http", address).await.unwrap_err();

        let expected = format!("another process uses {address}; see `ss -ltnp`, or set edge.http");
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_named() {
        let address = "192.0.2.1:8080".parse().unwrap();
        let error = bind("edge.http", address).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "this host has no address 192.0.2.1; see `ip address`, or set edge.http"
        );
    }
}
