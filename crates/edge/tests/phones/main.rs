//! The edge over a real database, spoken to as phones, and others, speak: raw bytes on a socket.
//! `DATABASE_URL` names a server on which databases can be created.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests; a test may panic"
)]

mod addresses;
mod bodies;
mod connections;
mod crowd;
mod delivery;
mod fresh;
mod garbage;
mod kit;
mod log;
mod protocol;
mod stop;
mod store;
