//! The rule in `FileState` against a model of it and against the truth, over sites that lose links,
//! clocks and log tails; and wrong rules that the truth must give away.
//!
//! `BRURI_SEED` is the first schedule (default 0), `BRURI_SCHEDULES` how many follow.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers; a test may panic")]
#![expect(clippy::print_stdout, reason = "what the schedules held is worth reading")]

mod model;

use std::{collections::BTreeMap, env};

use model::{
    mutant::Mutant,
    schedule::{Plan, run},
    verdict::{Check, Tally, Verdict},
};

const SCHEDULES_DEFAULT: u64 = 1500;
/// A mutant is caught if one of so many schedules gives it away.
const MUTANT_SCHEDULES: u64 = 300;

#[test]
fn every_schedule_ends_as_the_model_and_the_truth_say() {
    let tally = hold(Plan::default());
    println!("without lost tails: {tally:?}");
    let Tally { acknowledged, deletions, confirmed, conflicts, erasures, erased, .. } = tally;
    for (what, count) in [
        ("acknowledged", acknowledged),
        ("deletions", deletions),
        ("confirmed", confirmed),
        ("conflicts", conflicts),
        ("erasures", erasures),
        ("erased", erased),
    ] {
        assert!(count > 0 || replay(), "no schedule held any {what}");
    }
}

#[test]
fn every_schedule_with_lost_log_tails_ends_as_the_model_and_the_truth_say() {
    let tally = hold(Plan { lost_tails: true, mutant: None });
    println!("with lost tails: {tally:?}");
    assert!(tally.lost_tails > 0 && tally.lost > 0 || replay(), "no schedule lost a record");
}

#[test]
fn numbers_reused_after_a_lost_tail_lose_acknowledged_versions() {
    catch(Mutant::NumbersReused, Check::AcknowledgedIsKept);
}

#[test]
fn clocks_alone_hide_versions_that_nobody_knew() {
    catch(Mutant::ClocksOnly, Check::HeadsAreWhatNobodyKnew);
}

#[test]
fn an_erasure_without_a_generation_lets_the_erased_come_back() {
    catch(Mutant::EraseWithoutGeneration, Check::ErasedStaysErased);
}

#[test]
fn a_context_of_the_heads_alone_brings_superseded_versions_back() {
    catch(Mutant::ContextOfHeads, Check::HeadsAreWhatNobodyKnew);
}

#[test]
fn accepted_taken_for_seen_hides_versions_that_nobody_knew() {
    catch(Mutant::AcceptedMeansSeen, Check::HeadsAreWhatNobodyKnew);
}

/// The true rule breaks nothing in any schedule.
fn hold(plan: Plan) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds(SCHEDULES_DEFAULT) {
        tally.add(&sound(seed, plan).tally);
    }
    tally
}

fn sound(seed: u64, plan: Plan) -> Verdict {
    let verdict = run(seed, plan);
    let broken = &verdict.broken;
    assert!(
        broken.is_empty(),
        "schedule {seed} is broken: {broken:#?}\nagain: BRURI_SEED={seed} BRURI_SCHEDULES=1"
    );
    verdict
}

/// The check gives the mutant away in schedules that the true rule passes.
fn catch(mutant: Mutant, check: Check) {
    let lost_tails = mutant == Mutant::NumbersReused;
    let mut caught: BTreeMap<Check, u64> = BTreeMap::new();
    for seed in seeds(MUTANT_SCHEDULES) {
        sound(seed, Plan { lost_tails, mutant: None });
        for broken in run(seed, Plan { lost_tails, mutant: Some(mutant) }).broken.into_keys() {
            *caught.entry(broken).or_default() += 1;
        }
    }
    println!("{mutant:?}: {caught:?}");
    let times = caught.get(&check).copied().unwrap_or(0);
    let enough = times * MUTANT_SCHEDULES >= seeds(MUTANT_SCHEDULES).count() as u64 && times > 0;
    assert!(enough || replay(), "{check:?} does not catch {mutant:?}: {caught:?}");
}

fn seeds(schedules_default: u64) -> impl Iterator<Item = u64> {
    let first = number("BRURI_SEED").unwrap_or(0);
    let count = number("BRURI_SCHEDULES").unwrap_or(schedules_default);
    (0..count).map(move |n| first.wrapping_add(n))
}

/// A single schedule that is run again need not hold everything.
fn replay() -> bool {
    number("BRURI_SCHEDULES").is_some_and(|count| count < MUTANT_SCHEDULES)
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
