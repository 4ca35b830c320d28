//! When an epoch of this site's logs ends: as soon as the database may have lost the end of a log.
//!
//! A number that was given and lost must not be given again, or two records would share an address. A
//! restored dump, a rolled-back machine or a failed-over database shows in one of three ways: the database
//! is another one, this process remembers more than the log holds, or a peer has more. Then the site opens a
//! new epoch, and fetches the tail of the old one from its peers.

use crate::{
    Chain, Cursor, Epoch,
    mutant::{self, Mutant},
};

/// Which database numbers a log: of a Postgres its system identifier and timeline, which changes with
/// each promotion. Only equality counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity(pub String);

/// What somebody saw of a log of this site: the process that committed it, or a peer that has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Witness {
    /// The log's epoch.
    pub epoch: Epoch,
    /// A sequence that was committed; 0 says only that the epoch was opened.
    pub sequence: u64,
    /// The chain there.
    pub chain: Chain,
}

/// What the database holds of the log that a witness speaks of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The site still appends to it.
    pub is_open: bool,
    /// Its last sequence.
    pub sequence: u64,
    /// The chain at the witness's sequence; none beyond the end, and where that is not kept.
    pub chain: Option<Chain>,
}

/// Why an epoch ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Another database numbers now: a standby was promoted, or a dump restored elsewhere.
    AnotherDatabase,
    /// An epoch was opened of which the database knows nothing.
    EpochLost,
    /// Records were committed that the database does not hold.
    TailLost,
    /// The database holds another record at a sequence that was committed.
    Forked,
    /// Since the machine booted, or the witness was lost, nobody could tell what the database lacks.
    Unconfirmed,
}

impl Ending {
    /// One word, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnotherDatabase => "another_database",
            Self::EpochLost => "epoch_lost",
            Self::TailLost => "tail_lost",
            Self::Forked => "forked",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl From<&Cursor> for Witness {
    fn from(cursor: &Cursor) -> Self {
        let Cursor { log, sequence, chain } = cursor;
        Self { epoch: log.id.epoch, sequence: *sequence, chain: *chain }
    }
}

impl Witness {
    /// What this says against going on in the open epoch. A witness that has seen less than the log holds
    /// says nothing: several processes append to it. Nor does one of a closed log: what is missing there
    /// comes from peers.
    pub fn ending(&self, held: Option<&Held>) -> Option<Ending> {
        match held {
            None => Some(Ending::EpochLost),
            Some(held) if !held.is_open => None,
            Some(held) if held.sequence < self.sequence => Some(Ending::TailLost),
            Some(held) => self.is_fork(held).then_some(Ending::Forked),
        }
    }

    /// Whether the log holds another record at the place that was seen.
    pub fn is_fork(&self, held: &Held) -> bool {
        self.sequence > 0 && held.chain.is_some_and(|chain| chain != self.chain)
    }
}

/// Decides whether the open epoch must end before the next number is given. `numbered_by` is the
/// database that gave the last one, `now` the one that would give the next; one that is not known says
/// nothing.
pub fn ending<'a>(
    numbered_by: Option<&Identity>,
    now: Option<&Identity>,
    seen: impl IntoIterator<Item = (&'a Witness, Option<&'a Held>)>,
) -> Option<Ending> {
    if numbered_by.zip(now).is_some_and(|(before, now)| before != now) {
        return Some(Ending::AnotherDatabase);
    }
    let mut seen = seen.into_iter().filter(|_| !mutant::is(Mutant::NumbersReused));
    seen.find_map(|(witness, held)| witness.ending(held))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Sha256;

    /// A database with one log of the site, as a dump would hold it.
    #[derive(Clone, Debug, Default)]
    struct Database {
        identity: u64,
        numbered_by: Option<u64>,
        closed: BTreeMap<u64, Vec<Chain>>,
        open: (u64, Vec<Chain>),
    }

    impl Database {
        fn held(&self, witness: &Witness) -> Option<Held> {
            let is_open = self.open.0 == witness.epoch.0;
            let log = if is_open { &self.open.1 } else { self.closed.get(&witness.epoch.0)? };
            let at = usize::try_from(witness.sequence).unwrap().checked_sub(1);
            let chain = at.and_then(|at| log.get(at)).copied();
            Some(Held { is_open, sequence: log.len() as u64, chain })
        }

        fn ending(&self, seen: &[Witness]) -> Option<Ending> {
            let identity = |number: u64| Identity(number.to_string());
            let held: Vec<_> = seen.iter().map(|witness| self.held(witness)).collect();
            let (before, now) = (self.numbered_by.map(identity), identity(self.identity));
            let seen = seen.iter().zip(held.iter().map(Option::as_ref));
            ending(before.as_ref(), Some(&now), seen)
        }
    }

    /// A site whose database is now and then an older one, and every number that it ever gave.
    #[derive(Default)]
    struct Site {
        database: Database,
        dump: Database,
        epochs: u64,
        records: u64,
        given: BTreeMap<(u64, usize), Chain>,
        doubled: bool,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Number { process: usize },
        Dump,
        Restore { elsewhere: bool },
    }

    impl Site {
        /// Appends a record, in a new epoch where what was seen speaks against the open one.
        fn number(&mut self, seen: &[Witness]) -> Witness {
            if self.database.ending(seen).is_some() {
                self.epochs += 1;
                let next = (self.epochs, Vec::new());
                let (epoch, log) = std::mem::replace(&mut self.database.open, next);
                self.database.closed.insert(epoch, log);
            }
            self.database.numbered_by = Some(self.database.identity);
            self.records += 1;
            let chain = Chain(Sha256::of(&self.records.to_be_bytes()));
            let (epoch, log) = &mut self.database.open;
            log.push(chain);
            let place = (*epoch, log.len());
            self.doubled |= self.given.insert(place, chain).is_some();
            Witness { epoch: Epoch(place.0), sequence: place.1 as u64, chain }
        }

        fn restore(&mut self, elsewhere: bool) {
            let identity = self.database.identity + u64::from(elsewhere);
            self.database = Database { identity, ..self.dump.clone() };
        }
    }

    fn steps(processes: usize, elsewhere: BoxedStrategy<bool>) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..processes).prop_map(|process| Step::Number { process }),
            1 => Just(Step::Dump),
            1 => elsewhere.prop_map(|elsewhere| Step::Restore { elsewhere }),
        ];
        prop::collection::vec(step, 0..40)
    }

    /// Runs the steps; `remembers` says what is known to the process that numbers, of what each saw.
    fn gives_twice(
        steps: &[Step],
        remembers: fn(usize, &BTreeMap<usize, Witness>) -> Vec<Witness>,
    ) -> bool {
        let (mut site, mut seen) = (Site::default(), BTreeMap::new());
        for step in steps {
            match *step {
                Step::Number { process } => {
                    let witness = site.number(&remembers(process, &seen));
                    seen.insert(process, witness);
                }
                Step::Dump => site.dump = site.database.clone(),
                Step::Restore { elsewhere } => site.restore(elsewhere),
            }
        }
        site.doubled
    }

    proptest! {
        #[test]
        fn with_its_witness_a_process_gives_no_number_twice_whatever_is_restored(
            steps in steps(1, any::<bool>().boxed()),
        ) {
            let own = |process, seen: &BTreeMap<usize, Witness>| {
                seen.get(&process).copied().into_iter().collect()
            };
            prop_assert!(!gives_twice(&steps, own));
        }

        #[test]
        fn with_peers_that_have_all_no_process_gives_a_number_twice(
            steps in steps(3, any::<bool>().boxed()),
        ) {
            prop_assert!(!gives_twice(&steps, |_, seen| seen.values().copied().collect()));
        }

        #[test]
        fn where_nothing_is_restored_one_epoch_goes_on_whoever_numbers(
            processes in prop::collection::vec(0..3_usize, 0..40),
        ) {
            let (mut site, mut seen) = (Site::default(), BTreeMap::new());
            for process in processes {
                let own: Vec<_> = seen.get(&process).copied().into_iter().collect();
                seen.insert(process, site.number(&own));
            }
            prop_assert_eq!(site.epochs, 0);
        }
    }

    #[test]
    fn a_database_that_is_not_known_says_nothing_and_another_one_ends_the_epoch() {
        let (one, other) = (Identity("1/1".to_owned()), Identity("1/2".to_owned()));
        for (before, now, expected) in [
            (Some(&one), Some(&one), None),
            (Some(&one), Some(&other), Some(Ending::AnotherDatabase)),
            (None, Some(&one), None),
            (Some(&one), None, None),
        ] {
            assert_eq!(ending(before, now, []), expected);
        }
    }

    #[test]
    fn without_witness_and_peers_a_restored_dump_gives_numbers_twice() {
        let put = Step::Number { process: 0 };
        let steps = [put, Step::Dump, put, Step::Restore { elsewhere: false }, put];
        assert!(gives_twice(&steps, |_, _| Vec::new()));
    }
}
