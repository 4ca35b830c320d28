//! `bruri history` and `bruri site`, run as people run them, against a site in memory that speaks the
//! real protocol on a real socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;
mod memory;
mod reach;
