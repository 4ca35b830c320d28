//! bruri, the operators' command.

mod args;
mod commands;
mod connect;
mod failure;
mod json;
mod phone;
mod pki;
mod print;
mod text;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use time::OffsetDateTime;

use crate::{
    args::{Args, Command},
    failure::Failure,
    print::Output,
};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has read enough, as `head` does.
        Err(error) if failure::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even the complaint cannot be written, the exit code is all there is.
            let _ = writeln!(io::stderr(), "bruri: {error:#}");
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn run(args: &Args, mut out: &mut impl Write) -> anyhow::Result<()> {
    let mut output = Output { out: &mut out, json: args.json };
    match &args.command {
        Command::History(command) => {
            wait(commands::history::run(command, args.address.as_ref(), &mut output))
        }
        Command::Conflict(command) => {
            wait(commands::conflict::run(command, args.address.as_ref(), &mut output))
        }
        Command::Erase(args_of) => {
            wait(commands::erase::run(args_of, args.address.as_ref(), &mut output))
        }
        Command::Realm(command) => {
            wait(commands::realm::run(command, args.address.as_ref(), &mut output))
        }
        Command::Site(command) => {
            wait(commands::site::run(command, args.address.as_ref(), &mut output))
        }
        Command::Phone(command) => wait(commands::phone::run(command, &mut output)),
        Command::Pki(_) | Command::Completion { .. } if args.json => {
            Err(Failure::Usage("this command prints no JSON".to_owned()).into())
        }
        Command::Pki(command) => commands::pki::run(command, now(), &mut out),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "bruri", &mut script);
            Ok(out.write_all(&script)?)
        }
    }
}

/// Waits for a command that speaks to others.
fn wait(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(command)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command reads the clock; everything below takes the time"
)]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
