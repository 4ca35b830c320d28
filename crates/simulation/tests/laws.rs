//! Schedules in which every law holds; more of them by the command.

use bruri_simulation::{Options, Report, run};

/// `BRURI_SCHEDULES` asks for more.
fn schedules() -> u64 {
    let asked = std::env::var("BRURI_SCHEDULES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn the_laws_hold_whatever_happens_between_the_sites() {
    let mut sum = Report::default();
    for seed in 1..=schedules() {
        let options = Options::draw(seed);
        match run(&options) {
            Ok(report) => {
                sum.acknowledged += report.acknowledged;
                sum.judged += report.judged;
            }
            Err(broken) => panic!("{broken}\n{options:#?}"),
        }
    }
    assert!(sum.acknowledged > 0 && sum.judged > 0, "nothing was tried: {sum:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let options = Options { millis: 4000, ..Options::draw(3) };
    let [one, two] = [(); 2].map(|()| run(&options).map(|report| report.events));
    assert_eq!(one, two);
}
