//! From which networks phones are served: those of an office, since the default realm asks for no password.

use std::net::IpAddr;

use crate::EdgeError;

/// Loopback, private (RFC 1918), link-local and unique local (`fc00::/7`) addresses, IPv4 also where it is
/// mapped into IPv6.
pub(crate) fn admit(address: IpAddr) -> Result<(), EdgeError> {
    let is_near = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    };
    if is_near { Ok(()) } else { Err(EdgeError::Source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offices_networks_are_served_and_no_others() {
        for address in [
            "127.0.0.1",
            "127.255.0.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.7.7",
            "169.254.9.9",
            "::1",
            "fe80::1",
            "fc00::1",
            "fdff::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(admit(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "192.169.0.1",
            "169.253.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "2001:db8::1",
            "fec0::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(admit(address.parse().unwrap()).is_err(), "{address}");
        }
    }
}
