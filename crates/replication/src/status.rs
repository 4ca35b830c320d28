//! How each peer is, for operators and metrics.

use bruri_domain::SiteName;

/// A peer as seen from here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerStatus {
    /// host:port, as configured.
    pub address: String,
    /// Whom its certificate names; none until it was reached once.
    pub site: Option<SiteName>,
    /// How the link is.
    pub state: PeerState,
    /// Why it is not live; empty where it is.
    pub last_error: String,
    /// When it was last heard, microseconds since 1970.
    pub last_heard_micros: Option<u64>,
    /// Records of its own logs that it has and this site has not applied.
    pub lag_records: u64,
    /// Its release.
    pub release: String,
    /// How far its clock is ahead of ours, in microseconds; none until it was measured.
    pub clock_offset_micros: Option<i64>,
}

/// How a link is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PeerState {
    /// Being dialled, or waiting to dial again.
    #[default]
    Connecting,
    /// Behind, with records arriving; or it has not told yet what it has.
    CatchingUp,
    /// Level; records arrive as they are written.
    Live,
    /// It will stay so until a person does something: see `last_error`.
    Refused,
}
