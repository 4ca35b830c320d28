//! Addresses that nobody else uses.
//!
//! All of 127.0.0.0/8 is this host. Each site takes an address of its own there with the same few
//! ports, so that it keeps them over restarts and no two tests ever want the same.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// Below the ports that the kernel hands out by itself.
const PHONES: u16 = 18_080;
const PEERS: u16 = 17_440;
const METRICS: u16 = 19_464;

/// 127.0.0.0 and 127.0.0.1 are taken where the number of the process ends in zeros.
static NEXT: AtomicU8 = AtomicU8::new(2);

/// An address of this host that is used by one site, or one end of a link.
#[derive(Clone, Copy, Debug)]
pub struct Address(Ipv4Addr);

impl Address {
    /// One that this process has not handed out before, and no other process that runs now.
    pub fn take() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        Self(Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Where phones go.
    pub fn phones(self) -> SocketAddr {
        (self.0, PHONES).into()
    }

    /// Where other sites go.
    pub fn peers(self) -> SocketAddr {
        (self.0, PEERS).into()
    }

    /// Where metrics are read.
    pub fn metrics(self) -> SocketAddr {
        (self.0, METRICS).into()
    }
}
