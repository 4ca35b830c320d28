//! The operators' services over a real Unix socket, on a real Postgres.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod conflicts;
mod erasures;
mod files;
mod kit;
mod members;
mod realms;
mod restore;
mod running;
mod socket;
mod versions;
