//! Schedules in which every law holds; more of them by the command.

use std::sync::atomic::{AtomicU64, Ordering};

use bruri_simulation::{Options, Report, hubs, run};

/// `BRURI_SCHEDULES` asks for more.
fn schedules() -> u64 {
    let asked = std::env::var("BRURI_SCHEDULES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// The sums of what was acknowledged and judged.
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
fn work(next: &AtomicU64) -> (u64, u64) {
    let (mut acknowledged, mut judged) = (0, 0);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > schedules() {
            return (acknowledged, judged);
        }
        let options = Options::draw(seed);
        match run(&options) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                judged += report.judged;
            }
            Err(broken) => panic!("{broken}\n{options:#?}"),
        }
    }
}

#[test]
fn the_laws_hold_whatever_happens_between_the_sites() {
    let (threads, next) = (std::thread::available_parallelism().unwrap().get(), AtomicU64::new(1));
    let sums: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let tried = sums.iter().any(|(acknowledged, judged)| *acknowledged > 0 && *judged > 0);
    assert!(tried, "nothing was tried: {sums:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let options = Options { millis: 4000, ..Options::draw(3) };
    let [one, two] = [(); 2].map(|()| run(&options).map(|report: Report| report.events));
    assert_eq!(one, two);
}

#[test]
fn around_hubs_all_have_all_over_three_hops_and_the_loss_of_one_is_soon_healed() {
    let outcome = hubs::run(&Options::around_hubs(1, 30, 6)).unwrap();
    outcome.judge().unwrap();
}
