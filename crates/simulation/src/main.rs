//! Runs schedules until one breaks a law, and says which.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use bruri_simulation::{Broken, Options, Report, hubs, run};
use clap::Parser;

/// Runs the real replication engine over simulated sites, network, disks and clocks.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 1000)]
    schedules: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead, runs offices around so many hubs, without faults but the loss of a hub.
    #[arg(long)]
    hubs: Option<usize>,
    /// Offices around hubs, with the hubs.
    #[arg(long, default_value_t = 1000, requires = "hubs")]
    sites: usize,
    /// Builds each fault into the code in turn and tells where it is caught.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if arguments.mutants {
        return catch(&arguments);
    }
    if let Some(hubs) = arguments.hubs {
        return around_hubs(&arguments, hubs);
    }
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let outcome = std::thread::scope(|scope| {
        let work = || work(&arguments, &next);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let outcomes = workers.into_iter().map(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        outcomes.reduce(join)
    });
    let (sum, broken) = outcome.unwrap_or_default();
    println!(
        "seeds {} to {}: {sum}, {:.1} s",
        arguments.seed,
        arguments.seed.saturating_add(arguments.schedules).saturating_sub(1),
        began.elapsed().as_secs_f64()
    );
    match broken {
        None => ExitCode::SUCCESS,
        Some((options, broken)) => {
            eprintln!(
                "broken: {broken}\n{options:#?}\nrun it again with --schedules 1 --seed {}",
                options.seed
            );
            ExitCode::FAILURE
        }
    }
}

fn around_hubs(arguments: &Arguments, hubs: usize) -> ExitCode {
    let began = Instant::now();
    let options = Options::around_hubs(arguments.seed, arguments.sites, hubs);
    let outcome = hubs::run(&options).and_then(|outcome| {
        println!("{outcome}, {:.1} s", began.elapsed().as_secs_f64());
        outcome.judge()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            eprintln!(
                "broken: {broken}\nrun it again with --hubs {hubs} --sites {} --seed {}",
                arguments.sites, options.seed
            );
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "mutants")]
fn catch(arguments: &Arguments) -> ExitCode {
    let mut escaped = false;
    for mutant in bruri_domain::mutant::ALL {
        let caught =
            bruri_simulation::mutants::caught_at(mutant, arguments.seed, arguments.schedules);
        match caught {
            Some((seed, broken)) => println!("{mutant:?}: seed {seed}: {broken}"),
            None => {
                println!("{mutant:?}: escaped");
                escaped = true;
            }
        }
    }
    if escaped { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Outcome = (Report, Option<(Options, Broken)>);

/// Takes schedules until there are no more, or one is broken.
fn work(arguments: &Arguments, next: &AtomicU64) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= arguments.schedules {
            return outcome;
        }
        let options = Options::draw(arguments.seed.saturating_add(number));
        match run(&options) {
            Ok(report) => outcome = join(outcome, (report, None)),
            Err(broken) => {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                return join(outcome, (Report::default(), Some((options, broken))));
            }
        }
    }
}

fn join(one: Outcome, other: Outcome) -> Outcome {
    let report = one.0.and(&other.0);
    // The lower seed, so that the same arguments give the same answer.
    let broken = [one.1, other.1].into_iter().flatten().min_by_key(|(options, _)| options.seed);
    (report, broken)
}
