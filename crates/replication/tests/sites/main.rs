//! Sites that replicate over real sockets, each with a database of its own on the server that
//! `DATABASE_URL` names.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "small numbers; the kit fails the test by panicking"
)]

mod catch_up;
mod credit;
mod erased;
mod forged;
mod fresh;
mod kit;
mod level;
mod lines;
mod pruned;
mod refusals;
mod relays;
mod repair;
mod snapshot;
mod twins;
