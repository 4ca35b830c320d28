//! The scenarios: whole sites, real processes, and what people and faults do to them.
//!
//! Sizes can be set: `BRURI_E2E_BACKUPS`, `BRURI_E2E_KILLS`, `BRURI_E2E_BACKLOG`, `BRURI_E2E_TRIES`,
//! `BRURI_E2E_MOVES`, `BRURI_E2E_PAUSED_MOVES`, `BRURI_E2E_AT_ONCE`; and the chance repeated: `BRURI_E2E_SEED`.

#![cfg(test)]
#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]

mod broken_links;
mod catch_up;
mod conflicts;
mod damage;
mod erasure;
mod erasure_traces;
mod five_sites;
mod fresh;
mod hubs;
mod kills;
mod lag;
mod lost_tails;
mod membership;
mod operators;
mod running;
mod shared_database;
mod snapshot;
mod strangers;
mod turn;
