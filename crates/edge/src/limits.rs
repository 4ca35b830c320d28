//! How long phones are waited for, and how many at once.

use std::time::Duration;

use bruri_domain::limits::{
    EDGE_BODY_SECONDS_MAX, EDGE_BODY_STALL_SECONDS_MAX, EDGE_CONNECTIONS_MAX,
    EDGE_DRAIN_SECONDS_MAX, EDGE_HEAD_SECONDS_MAX, EDGE_IDLE_SECONDS_MAX, EDGE_LARGE_BODIES_MAX,
    EDGE_LINGER_SECONDS_MAX, EDGE_STORE_SECONDS_MAX,
};

/// Bounds of one edge; the default is what phones get, tests take shorter ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Large bodies in memory at once.
    pub large_bodies: usize,
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// Without a request, or without progress in reading the answer.
    pub idle: Duration,
    /// For a whole body.
    pub body: Duration,
    /// Without a byte of a body.
    pub body_stall: Duration,
    /// For reading what a refused phone still sends.
    pub linger: Duration,
    /// For the store's part in one request.
    pub store: Duration,
    /// For requests in flight when the site stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: EDGE_CONNECTIONS_MAX,
            large_bodies: EDGE_LARGE_BODIES_MAX,
            head: Duration::from_secs(EDGE_HEAD_SECONDS_MAX),
            idle: Duration::from_secs(EDGE_IDLE_SECONDS_MAX),
            body: Duration::from_secs(EDGE_BODY_SECONDS_MAX),
            body_stall: Duration::from_secs(EDGE_BODY_STALL_SECONDS_MAX),
            linger: Duration::from_secs(EDGE_LINGER_SECONDS_MAX),
            store: Duration::from_secs(EDGE_STORE_SECONDS_MAX),
            drain: Duration::from_secs(EDGE_DRAIN_SECONDS_MAX),
        }
    }
}
