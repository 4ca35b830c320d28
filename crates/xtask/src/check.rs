//! `cargo xtask check`: all that can be said of the project without running it.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use crate::{codegen, laws, layers, sizes, sqlx, workspace};

type Step = (&'static str, fn(&Path) -> anyhow::Result<()>);

/// Quick ones first.
const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("sizes", sizes::check),
    ("laws", laws::check),
    ("layers", layers::check),
    ("codegen", codegen::check),
    ("clippy", clippy),
    ("doc", doc),
    ("sqlx", statements),
];

/// Takes every step, says how long each took, and fails where one did.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let begun = Instant::now();
        let result = step(root);
        let seconds = begun.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("check {name}: ok ({seconds:.1} s)"),
            Err(error) => {
                println!("{error:#}\ncheck {name}: FAILED ({seconds:.1} s)");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn fmt(root: &Path) -> anyhow::Result<()> {
    workspace::run(workspace::cargo(root).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> anyhow::Result<()> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    workspace::run(workspace::cargo(root).args(arguments))
}

fn doc(root: &Path) -> anyhow::Result<()> {
    let mut cargo = workspace::cargo(root);
    cargo.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    workspace::run(&mut cargo)
}

/// The build has compared the statements with .sqlx already; only a database can tell whether .sqlx
/// still speaks the truth.
fn statements(root: &Path) -> anyhow::Result<()> {
    if std::env::var_os(sqlx::DATABASE_URL).is_none() {
        println!("SKIPPED: freshness of .sqlx: {} is not set", sqlx::DATABASE_URL);
        return Ok(());
    }
    sqlx::check(root)
}
