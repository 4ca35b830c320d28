//! Faults that a test may build into the real code, to see that the laws are really held: with the feature
//! `mutants` only; without it every question is answered no when it is compiled.

/// A fault. One at a time, of one thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// The newest version by the clocks wins, whoever knew of whom.
    ClocksOnly,
    /// The file's context is the dots of its heads.
    ContextOfHeads,
    /// After a PUT its phone is taken to have seen all of the log up to it.
    AcceptedForSeen,
    /// A GET that was not delivered is remembered as served.
    LostForServed,
    /// A log that is caught up rides the live stream as well.
    BothStreams,
    /// A peer is as fresh as its heartbeat's arrival.
    FreshOnArrival,
    /// A relay's own age is not added.
    RelayIsFresh,
    /// A heartbeat vouches for own records that were not read yet.
    UnreadIsKnown,
    /// A site counts as level with a peer that has more.
    LaggingIsLevel,
    /// A log of another is not taken from anybody but its origin.
    OriginOnly,
    /// An epoch ends only where the database is another one, so that numbers are given twice.
    NumbersReused,
    /// After a fork the branch that gave way is taken back from whoever still has it.
    VoidTakenBack,
    /// A log is taken from the next source as soon as that has more, whatever the last one was given to send.
    ImpatientSources,
    /// A peer that has less of a log than this site is taken to have the same.
    UnlikeIsLevel,
    /// After a snapshot the logs go on from where the supplier had them when it read the last states, not the first.
    LastVectorCounts,
    /// An erasure takes what is here and does not raise the generation.
    ErasesWithoutGeneration,
    /// A record whose body the peer has no more counts as erased.
    PrunedForErased,
    /// The cursor moves before the rows of a batch are written.
    CursorFirst,
    /// What peers tell for one read is stored.
    AnswersStored,
    /// A body that is no phone's file counts as any other.
    SuspectCounts,
    /// What a damaged row still says is merged with what its records come to.
    RepairedMerged,
    /// Numbers are given before it is judged whether an epoch has ended.
    EpochOpenedLate,
}

/// All of them.
pub const ALL: [Mutant; 22] = [
    Mutant::ClocksOnly,
    Mutant::ContextOfHeads,
    Mutant::AcceptedForSeen,
    Mutant::LostForServed,
    Mutant::BothStreams,
    Mutant::FreshOnArrival,
    Mutant::RelayIsFresh,
    Mutant::UnreadIsKnown,
    Mutant::LaggingIsLevel,
    Mutant::OriginOnly,
    Mutant::NumbersReused,
    Mutant::VoidTakenBack,
    Mutant::ImpatientSources,
    Mutant::UnlikeIsLevel,
    Mutant::LastVectorCounts,
    Mutant::ErasesWithoutGeneration,
    Mutant::PrunedForErased,
    Mutant::CursorFirst,
    Mutant::AnswersStored,
    Mutant::SuspectCounts,
    Mutant::RepairedMerged,
    Mutant::EpochOpenedLate,
];

#[cfg(feature = "mutants")]
thread_local! {
    static CURRENT: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread's code has that fault, or none.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    CURRENT.set(mutant);
}

/// Whether the code has that fault.
#[cfg(feature = "mutants")]
pub fn is(mutant: Mutant) -> bool {
    CURRENT.get() == Some(mutant)
}

/// Whether the code has that fault: it has none.
#[cfg(not(feature = "mutants"))]
pub const fn is(_: Mutant) -> bool {
    false
}
