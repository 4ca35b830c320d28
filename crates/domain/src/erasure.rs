//! What erasures come to: which generation of a subject counts, and whether it is barred.
//!
//! An erasure raises the generation of its subject for ever, and bars it until it is lifted. A lift names the
//! erasures that its writer knew, so one that he or she did not know of still bars: a denial wins. The outcome
//! depends on the set of records known, not on their order.

use std::collections::BTreeMap;

use crate::{
    Member, RealmChange, RecordKind, Release, Stamp,
    fork::Branch,
    mutant::{self, Mutant},
};

/// The random bits of a record; its name wherever it was written again.
pub type Random = [u8; 16];

/// The payload of a record that erases the subject of its envelope, and all that was written under the
/// envelope's generation or an older one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Erasure {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// Who erased.
    pub operator: String,
}

/// The payload of a record that lets its envelope's subject in again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lift {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// Who lifted.
    pub operator: String,
    /// The erasures that bar no longer.
    pub erasures: Vec<Random>,
}

/// The payload of a record by which the site of its log says that it has carried an erasure out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// The erasure.
    pub erasure: Random,
    /// Versions that lost their content there.
    pub versions: u64,
    /// Bodies that they named.
    pub bodies: u64,
}

/// The payload of a record that concerns no file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Control {
    /// A subject was erased.
    Erasure(Erasure),
    /// A subject is let in again.
    Lift(Lift),
    /// A site has carried an erasure out.
    Receipt(Receipt),
    /// What is known of a site.
    Member(Member),
    /// A realm wants something else.
    Realm(RealmChange),
    /// The site of the log runs another release.
    Release(Release),
    /// A log of the site forked.
    Branch(Branch),
}

impl Control {
    /// The random bits of the record.
    pub fn random(&self) -> &Random {
        match self {
            Self::Erasure(erasure) => &erasure.random,
            Self::Lift(lift) => &lift.random,
            Self::Receipt(receipt) => &receipt.random,
            Self::Member(member) => &member.random,
            Self::Realm(change) => &change.random,
            Self::Release(release) => &release.random,
            Self::Branch(branch) => &branch.random,
        }
    }

    /// The origin's time.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Erasure(erasure) => erasure.stamp,
            Self::Lift(lift) => lift.stamp,
            Self::Receipt(receipt) => receipt.stamp,
            Self::Member(member) => member.stamp,
            Self::Realm(change) => change.stamp,
            Self::Release(release) => release.stamp,
            Self::Branch(branch) => branch.stamp,
        }
    }

    /// The kind of the record that carries it.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Erasure(_) => RecordKind::Erasure,
            Self::Lift(_) => RecordKind::Lift,
            Self::Receipt(_) => RecordKind::Receipt,
            Self::Member(_) => RecordKind::Member,
            Self::Realm(_) => RecordKind::Realm,
            Self::Release(_) => RecordKind::Release,
            Self::Branch(_) => RecordKind::Branch,
        }
    }
}

/// What is known of the erasures of one subject.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Erased {
    generation: u64,
    erasures: BTreeMap<Random, Known>,
}

/// What is known of one erasure.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Known {
    is_erased: bool,
    is_lifted: bool,
}

impl Erased {
    /// Puts it together again: of each erasure, whether its own record is known, and whether it was lifted.
    pub fn from_parts(
        generation: u64,
        erasures: impl IntoIterator<Item = (Random, bool, bool)>,
    ) -> Self {
        let known = |(random, is_erased, is_lifted)| (random, Known { is_erased, is_lifted });
        Self { generation, erasures: erasures.into_iter().map(known).collect() }
    }

    /// Takes in an erasure by a writer that knew `generation`.
    pub fn erase(&mut self, random: Random, generation: u64) {
        if !mutant::is(Mutant::ErasesWithoutGeneration) {
            self.generation = self.generation.max(generation.saturating_add(1));
        }
        self.erasures.entry(random).or_default().is_erased = true;
    }

    /// Takes in a lift of these erasures, whose own records may come later.
    pub fn lift<'a>(&mut self, erasures: impl IntoIterator<Item = &'a Random>) {
        for random in erasures {
            self.erasures.entry(*random).or_default().is_lifted = true;
        }
    }

    /// What is older is erased.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The erasures that bar the subject: a lift must name them.
    pub fn bars(&self) -> impl Iterator<Item = &Random> {
        self.erasures.iter().filter(|(_, k)| k.is_erased && !k.is_lifted).map(|(random, _)| random)
    }

    /// Whether nothing is taken for the subject.
    pub fn is_barred(&self) -> bool {
        self.bars().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Erase(u8, u64),
        Lift(Vec<u8>),
    }

    fn random(number: u8) -> Random {
        [number; 16]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            // One erasure has one generation.
            (0..6_u8).prop_map(|n| Step::Erase(n, u64::from(n) / 2)),
            prop::collection::vec(0..6_u8, 0..4).prop_map(Step::Lift),
        ]
    }

    fn outcome(steps: &[Step]) -> Erased {
        let mut erased = Erased::default();
        for step in steps {
            match step {
                Step::Erase(number, generation) => erased.erase(random(*number), *generation),
                Step::Lift(numbers) => {
                    let randoms: Vec<Random> = numbers.iter().map(|n| random(*n)).collect();
                    erased.lift(&randoms);
                }
            }
        }
        erased
    }

    proptest! {
        #[test]
        fn erasures_and_lifts_come_to_the_same_in_every_order(
            (steps, shuffled) in prop::collection::vec(step(), 0..12)
                .prop_flat_map(|steps| (Just(steps.clone()), Just(steps).prop_shuffle())),
        ) {
            prop_assert_eq!(outcome(&steps), outcome(&shuffled));
            let twice: Vec<Step> = steps.iter().chain(&shuffled).cloned().collect();
            prop_assert_eq!(outcome(&steps), outcome(&twice));
        }
    }

    #[test]
    fn a_lift_lifts_what_it_names_and_an_erasure_that_it_did_not_know_still_bars() {
        let mut erased = Erased::default();
        assert!(!erased.is_barred());
        erased.erase(random(1), 0);
        erased.lift(&[random(1), random(2)]);
        assert_eq!((erased.generation(), erased.is_barred()), (1, false));
        erased.erase(random(2), 0);
        assert!(!erased.is_barred(), "its lift came first");
        erased.erase(random(3), 0);
        assert_eq!(erased.bars().collect::<Vec<_>>(), [&random(3)]);
        assert_eq!(erased.generation(), 1, "written without knowledge of each other");
        erased.erase(random(4), erased.generation());
        assert_eq!(erased.generation(), 2);
    }
}
