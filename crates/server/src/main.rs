//! `brurid`: the command line of the daemon.

use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use bruri_server::config::Config;
use bruri_server::{
    app::{self, Purpose},
    check, join,
};
use clap::{Parser, Subcommand};

/// Open files that `brurid` asks for: phones, peers, operators and the database with room to spare.
const OPEN_FILES: u64 = 16_384;

/// Keeps the backups of a branch's desk phones, and shares them with the other branches.
#[derive(Debug, Parser)]
#[command(name = "brurid", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM or ^C; SIGHUP reads certificates and the log level again
    Serve {
        #[command(flatten)]
        source: Source,
    },
    /// Run the private database alone, to restore a dump into it, until SIGTERM or ^C
    Postgres {
        #[command(flatten)]
        source: Source,
    },
    /// Make this machine a site of a deployment, with a token that `bruri site invite` printed
    Join {
        /// The token; - reads it from the standard input, where no list of processes shows it
        #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
        token: Option<String>,
        /// A file that holds it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        source: Source,
    },
    /// Say whether a start would succeed, a line for each finding; 1 where it would not
    Check {
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Debug, clap::Args)]
struct Source {
    /// The configuration; default: /etc/brurid/brurid.toml where it exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell where even this fails.
            let _ = writeln!(io::stderr(), "brurid: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    // TLS would panic at its first use without one, should a second provider ever be linked in.
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Two at least: a thread that blocks on another task's work must not be the only one.
    let workers = thread::available_parallelism().map_or(2, NonZero::get).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("start the runtime")?;
    match args.command {
        Command::Serve { source } => {
            let config = Config::load(source.config.as_deref())?;
            raise_open_files();
            runtime.block_on(app::run(config, Purpose::Serve))
        }
        Command::Postgres { source } => {
            let config = Config::load(source.config.as_deref())?;
            runtime.block_on(app::run(config, Purpose::HoldPostgres))
        }
        Command::Join { token, token_file, source } => {
            let file = token.as_deref().filter(|token| *token == "-").map(PathBuf::from);
            let token = match (file.or(token_file), token) {
                (Some(file), _) => join::read_token(&file)?,
                (None, token) => token.unwrap_or_default(),
            };
            let config = Config::load(source.config.as_deref())?;
            let told = runtime.block_on(join::join(&config, &token))?;
            io::stdout().lock().write_all(told.as_bytes()).context("print")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { source } => runtime.block_on(print_check(source.config.as_deref())),
    }
}

/// Every phone's connection is an open file, and the usual limit of 1024 is for programs that use
/// `select`. Without more, the edge closes idle connections sooner.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn print_check(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let findings = match Config::load(file) {
        Ok(config) => check::check(&config).await,
        Err(error) => {
            let text = format!("configuration: {:#}", anyhow::Error::from(error));
            vec![check::Finding::Problem(text)]
        }
    };
    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}").context("print")?;
    }
    let has_problem = findings.iter().any(check::Finding::is_problem);
    Ok(if has_problem { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
