//! `bruri-bench`: loads a site as many phones would, and measures.
//!
//! It shares the processors with what it measures, so it runs on one thread and changes a few bytes of a
//! request that is made once.

mod load;
mod mesh;
mod template;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bruri_tests::lag;
use clap::{Parser, Subcommand};

use load::{Kind, Load, Measured};

/// Loads a site of bruri as many phones would, and measures
#[derive(Debug, Parser)]
#[command(name = "bruri-bench")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Backups: each body is another one
    Put(LoadArgs),
    /// Restores, of files that are put first
    Get(LoadArgs),
    /// Backups: every file so many times, as fast as answers come
    Fill {
        #[command(flatten)]
        load: LoadArgs,
        /// How many times
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
    /// Backups at a steady rate, each file in turn
    Pace {
        #[command(flatten)]
        load: LoadArgs,
        /// Backups a second, all connections together
        #[arg(long, default_value_t = 200)]
        rate: u32,
    },
    /// The same among sites under load, which are started for it, over lines that take their time
    Mesh(mesh::Mesh),
    /// From the 2xx at one site to the first GET at another that has the backup
    Lag {
        /// Where backups are sent, e.g. 127.0.0.1:8080
        from: SocketAddr,
        /// Where they are read
        to: SocketAddr,
        /// How many, one after the other
        #[arg(long, default_value_t = 100)]
        tries: usize,
        /// Bytes of a body
        #[arg(long, default_value_t = 4096)]
        bytes: usize,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct LoadArgs {
    /// The site's address for phones, e.g. 127.0.0.1:8080
    address: SocketAddr,
    /// Connections that are kept open, each with one request at a time
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How long to load before that
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Bytes of a body
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Files, spread evenly over the connections
    #[arg(long, default_value_t = 10_000)]
    files: u32,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell where even this fails.
            let _ = writeln!(io::stderr(), "bruri-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every request was answered as it should.
fn run(command: Command) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    match command {
        Command::Put(args) => runtime.block_on(measure(Kind::Put, &args)),
        Command::Get(args) => runtime.block_on(measure(Kind::Get, &args)),
        Command::Fill { load, rounds } => runtime.block_on(fill(&load, rounds)),
        Command::Pace { load, rate } => runtime.block_on(pace(&load, rate)),
        Command::Mesh(mesh) => runtime.block_on(mesh.run()).map(|()| true),
        Command::Lag { from, to, tries, bytes } => {
            let lags = runtime.block_on(lag::measure(from, to, tries, bytes))?;
            writeln!(io::stdout(), "{}", lag::summary(&lags)).context("print")?;
            Ok(true)
        }
    }
}

impl LoadArgs {
    fn load(&self) -> Load {
        Load {
            address: self.address,
            connections: self.connections.max(1),
            files: self.files.max(self.connections),
            bytes: self.bytes,
        }
    }
}

async fn fill(args: &LoadArgs, rounds: u32) -> anyhow::Result<bool> {
    let load = args.load();
    let measured = load.fill(rounds).await?;
    print(Kind::Put, &load, &measured).context("print")?;
    Ok(true)
}

async fn pace(args: &LoadArgs, rate: u32) -> anyhow::Result<bool> {
    let load = args.load();
    let measured = load.pace(rate, Duration::from_secs(args.seconds)).await?;
    print(Kind::Put, &load, &measured).context("print")?;
    Ok(measured.errors.is_empty())
}

async fn measure(kind: Kind, args: &LoadArgs) -> anyhow::Result<bool> {
    let load = args.load();
    if kind == Kind::Get {
        load.fill(1).await?;
    }
    load.run(kind, Duration::from_secs(args.warm_up)).await?;
    let measured = load.run(kind, Duration::from_secs(args.seconds)).await?;
    print(kind, &load, &measured).context("print")?;
    Ok(measured.errors.is_empty())
}

fn print(kind: Kind, load: &Load, measured: &Measured) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{kind}  {} connections  {} bytes  {} requests  {:.0}/s  {}",
        load.connections,
        load.bytes,
        measured.micros.len(),
        measured.rate(),
        lag::summary(&measured.micros),
    )?;
    for (error, count) in &measured.errors {
        writeln!(out, "     {count} x {error}")?;
    }
    Ok(())
}
