//! `cargo xtask`: one subcommand for each check, and `check` for all of them.

use bruri_xtask::{check, codegen, laws, layers, sizes, sqlx, workspace};
use clap::{Parser, Subcommand};

fn main() -> anyhow::Result<()> {
    let root = workspace::root();
    match Xtask::parse().command {
        Command::Check => check::run(&root),
        Command::Codegen { check: true } => codegen::check(&root),
        Command::Codegen { check: false } => codegen::write(&root),
        Command::Laws => laws::check(&root),
        Command::Layers => layers::check(&root),
        Command::ReleaseProtos => codegen::write_released(&root),
        Command::Sizes => sizes::check(&root),
        Command::Sqlx { check: true } => sqlx::check(&root),
        Command::Sqlx { check: false } => sqlx::write(&root),
    }
}

/// The checks that hold the project together.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, layers, sizes, freshness of derived files, documentation.
    Check,
    /// Write crates/wire/src/generated from proto/.
    Codegen {
        /// Write nothing; fail where the committed files differ.
        #[arg(long)]
        check: bool,
    },
    /// Every law in ARCHITECTURE.md names tests that are there.
    Laws,
    /// Who may depend on whom, and on what.
    Layers,
    /// Write proto/released.binpb, which later protos must stay compatible with: once a release.
    ReleaseProtos,
    /// Files that have grown too long.
    Sizes,
    /// Write .sqlx from the statements in crates/store; needs `DATABASE_URL`.
    Sqlx {
        /// Write nothing; fail where the committed files differ.
        #[arg(long)]
        check: bool,
    },
}
