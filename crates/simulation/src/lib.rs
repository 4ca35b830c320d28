//! The real replication engine over simulated sites, network, disks and clocks.
//!
//! A schedule is drawn from a seed and runs in one thread, event after event: the same seed gives the same run. Read in this
//! order: [`options`] (what is drawn), [`memory`] (a site's store) with [`commits`], `applies`, `controls` and `retention`, `site`, `epochs`,
//! `network`, `world` (the event loop), `processes`, `wires`, `actions` (phones and faults), `erasures` (operators), `asks` (reads that ask other sites),
//! `restores` (databases that go back in time), [`snapshots`] and `laws` (what must hold). [`hubs`] is another run: many
//! offices around a few hubs.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "simulated times and counts are small, and names made here are names"
)]

mod actions;
mod applies;
mod asks;
pub mod commits;
mod controls;
mod damage;
mod epochs;
mod erasures;
mod filling;
pub mod hubs;
mod laws;
pub mod memory;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod names;
mod network;
pub mod options;
mod partings;
mod processes;
mod report;
mod restores;
mod retention;
mod site;
pub mod snapshots;
mod wires;
mod world;

pub use laws::Broken;
pub use options::Options;
pub use report::Report;

/// Runs one schedule.
///
/// # Errors
/// The law that was broken, and how.
pub fn run(options: &Options) -> Result<Report, Broken> {
    world::World::new(options).run()
}
