//! The store against a real Postgres: one module per rule book, one test per rule. `DATABASE_URL` names a
//! server on which databases can be created.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests; a test may panic"
)]

mod kit;

mod apply;
mod backups;
mod conflicts;
mod control;
mod damage;
mod epochs;
mod erasure;
mod forks;
mod groups;
mod history;
mod logs;
mod members;
mod open;
mod partings;
mod plans;
mod proof;
mod prune;
mod realms;
mod rebuild;
mod remembered;
mod snapshot;
mod stress;
mod supply;
mod told;
mod unread;
mod wanted;
mod writers;
