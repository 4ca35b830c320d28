//! Random commands come to the same in memory and in Postgres: states, vectors, chains, pages byte for byte.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test that overflows or finds nothing panics, as it should"
)]

mod commands;
mod compare;
mod kit;
mod snapshots;

use rand::{SeedableRng as _, rngs::StdRng};

use self::{commands::Sites, kit::Site};

const SITES: usize = 3;
const RUNS: u64 = 2;

/// `BRURI_COMMANDS` asks for more.
fn commands() -> u64 {
    let asked = std::env::var("BRURI_COMMANDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_postgres_come_to_the_same() {
    let first: u64 = std::env::var("BRURI_SEED").ok().and_then(|t| t.parse().ok()).unwrap_or(1);
    let mut tried = Vec::new();
    for run in first..first + RUNS {
        let mut all = Vec::new();
        for number in 0..SITES {
            all.push(Site::open(number, run).await);
        }
        let mut sites = Sites { all, rng: StdRng::seed_from_u64(run), tried: Vec::new() };
        for _ in 0..commands() {
            sites.command().await;
        }
        sites.compare_all().await;
        tried.extend(sites.tried);
        for site in sites.all {
            site.close().await;
        }
    }
    for name in [
        "erase", "lift", "set back", "branches", "give up", "epoch", "prune", "apply", "put",
        "look", "blind", "states", "fill",
    ] {
        assert!(tried.contains(&name), "{name} was not tried with seed {first}");
    }
}
