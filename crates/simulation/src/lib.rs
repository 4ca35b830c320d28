//! The real replication engine over simulated sites, network, disks and clocks.
//!
//! A schedule is drawn from a seed and runs in one thread, event after event: the same seed gives the same run. Read in this
//! order: [`options`] (what is drawn), [`memory`] (a site's store), `site`, `epochs`, `network`, `world` (the event loop), `wires`, `actions`
//! (phones and faults), `asks` (reads that ask other sites), `restores` (databases that go back in time) and `laws` (what must
//! hold).

#![expect(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "simulated times and counts are small, and names made here are names"
)]

mod actions;
mod asks;
mod epochs;
mod laws;
pub mod memory;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod names;
mod network;
pub mod options;
mod restores;
mod site;
mod wires;
mod world;

pub use laws::Broken;
pub use options::Options;
pub use world::Report;

/// Runs one schedule.
///
/// # Errors
/// The law that was broken, and how.
pub fn run(options: &Options) -> Result<Report, Broken> {
    world::World::new(options).run()
}
