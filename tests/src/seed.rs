//! Chance that can be repeated, sizes that can be set, and what a passing test has to say.

use std::env;
use std::io::{self, Write as _};

use anyhow::Context as _;

/// The seed of this run: `BRURI_E2E_SEED`, else a new one; printed, so that it can be set.
pub fn seed() -> anyhow::Result<u64> {
    let seed = match env::var("BRURI_E2E_SEED") {
        Ok(text) => text.parse().context("read BRURI_E2E_SEED")?,
        Err(_) => rand::random(),
    };
    tell(&format!("BRURI_E2E_SEED={seed}"));
    Ok(seed)
}

/// A size of a scenario: `BRURI_E2E_<NAME>`, else the default.
pub fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    let variable = format!("BRURI_E2E_{name}");
    match env::var(&variable) {
        Ok(text) => text.parse().with_context(|| format!("read {variable}")),
        Err(_) => Ok(default),
    }
}

/// Says a line that is seen though the test passes.
pub fn tell(line: &str) {
    // Nobody is left to tell where even this fails.
    let _ = writeln!(io::stderr(), "e2e: {line}");
}
