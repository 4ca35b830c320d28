//! Faults built into the real code, and the law that each must break.

use bruri_domain::mutant::{self, Mutant};

use crate::{Broken, Options, Report, run};

/// The law that catches a mutant.
pub fn law_of(mutant: Mutant) -> u8 {
    match mutant {
        Mutant::ClocksOnly
        | Mutant::ContextOfHeads
        | Mutant::AcceptedForSeen
        | Mutant::LostForServed
        | Mutant::SuspectCounts
        | Mutant::EpochOpenedLate => 6,
        Mutant::BothStreams => 9,
        Mutant::FreshOnArrival
        | Mutant::RelayIsFresh
        | Mutant::UnreadIsKnown
        | Mutant::LaggingIsLevel
        | Mutant::UnlikeIsLevel => 5,
        Mutant::VoidTakenBack | Mutant::PrunedForErased => 1,
        Mutant::ErasesWithoutGeneration => 7,
        Mutant::CursorFirst => 3,
        Mutant::AnswersStored
        | Mutant::OriginOnly
        | Mutant::RepairedMerged
        | Mutant::NumbersReused
        | Mutant::ImpatientSources
        | Mutant::LastVectorCounts => 4,
    }
}

/// Runs a schedule with a fault in the code.
///
/// # Errors
/// The law that was broken.
pub fn run_with(mutant: Mutant, options: &Options) -> Result<Report, Broken> {
    mutant::set(Some(mutant));
    let outcome = run(options);
    mutant::set(None);
    outcome
}

/// The first seed, of so many from `seed` on, at which the fault breaks the law it must break.
pub fn caught_at(mutant: Mutant, seed: u64, schedules: u64) -> Option<(u64, Broken)> {
    (seed..seed.saturating_add(schedules)).find_map(|seed| {
        let broken = run_with(mutant, &Options::draw(seed)).err()?;
        (broken.law == law_of(mutant)).then_some((seed, broken))
    })
}
