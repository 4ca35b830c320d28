//! A log that forked: where its branches part, and how the records of the void branch move to a new epoch.

use std::collections::BTreeMap;

use crate::{
    Author, Chain, Context, Cursor, Dot, Epoch, FileId, Log, LogId, LogKind, Predecessor, Random,
    SiteName, Stamp, Version,
    limits::FORK_PROBES_MAX,
    mutant::{self, Mutant},
};

/// Where two branches of a log part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parting {
    /// The last place that both have.
    pub common: Cursor,
    /// The chain of the branch that stays, one place further.
    pub stays: Chain,
}

impl Parting {
    /// The first place of the branch that stays.
    pub fn sequence(&self) -> u64 {
        self.common.sequence.saturating_add(1)
    }
}

/// The payload of a record by which the site of its log says that another log of its own forked, and which branch
/// stays: whoever took the other one, from whomever, drops it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Branch {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// The log that forked.
    pub epoch: Epoch,
    /// Its kind.
    pub kind: LogKind,
    /// What it followed.
    pub predecessor: Option<Predecessor>,
    /// The last sequence that both branches have.
    pub common: u64,
    /// The chain there.
    pub common_chain: Chain,
    /// The chain of the branch that stays, one place further.
    pub stays: Chain,
}

impl Branch {
    /// What the origin tells of where its log parted.
    pub fn of(parting: &Parting, random: Random, stamp: Stamp) -> Self {
        let Cursor { log, sequence, chain } = &parting.common;
        Self {
            random,
            stamp,
            epoch: log.id.epoch,
            kind: log.kind,
            predecessor: log.predecessor,
            common: *sequence,
            common_chain: *chain,
            stays: parting.stays,
        }
    }

    /// Where the log of that site parted.
    pub fn parting(&self, site: &SiteName) -> Parting {
        let id = LogId { site: site.clone(), epoch: self.epoch };
        let log = Log { id, kind: self.kind, predecessor: self.predecessor };
        let common = Cursor { log, sequence: self.common, chain: self.common_chain };
        Parting { common, stays: self.stays }
    }
}

/// Whether records, told by their sequences and chains, are of the branch that gave way: they have another chain where
/// the branch that stays begins.
pub fn is_void(
    records: impl IntoIterator<Item = (u64, Chain)>,
    (sequence, stays): (u64, Chain),
) -> bool {
    let mut there = records.into_iter().filter(|(at, _)| *at == sequence);
    there.any(|(_, chain)| chain != stays) && !mutant::is(Mutant::VoidTakenBack)
}

/// The search for the last place at which two branches of a log agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Search {
    /// Both have the same chain here; 0, the beginning, they always share.
    agreed: u64,
    /// From here on they are known to differ, or one of them has ended.
    differing: u64,
}

impl Search {
    /// Begins with a branch of that length that is known to have forked from the other.
    pub fn within(length: u64) -> Self {
        Self { agreed: 0, differing: length.saturating_add(1) }
    }

    /// The sequences at which to compare next, ascending; none where the place is found.
    pub fn probes(&self) -> Vec<u64> {
        let between = self.differing.saturating_sub(self.agreed).saturating_sub(1);
        let count = between.min(FORK_PROBES_MAX);
        let step = |n: u64| u128::from(between).saturating_mul(n.into()).checked_div(count.into());
        let offset = |n: u64| step(n).and_then(|n| u64::try_from(n).ok()).unwrap_or(between);
        (1..=count).map(|n| self.agreed.saturating_add(offset(n))).collect()
    }

    /// Takes in what the comparison at these sequences said.
    pub fn narrow(&mut self, compared: impl IntoIterator<Item = (u64, bool)>) {
        for (sequence, agrees) in compared {
            if agrees {
                self.agreed = self.agreed.max(sequence);
            } else {
                self.differing = self.differing.min(sequence);
            }
        }
    }

    /// The last sequence that is known to be common.
    pub fn common(&self) -> u64 {
        self.agreed
    }
}

/// Where the versions of a void branch went.
#[derive(Clone, Debug)]
pub struct Moved {
    log: LogId,
    /// The last sequence of the log that is not void.
    common: u64,
    files: BTreeMap<FileId, BTreeMap<u64, Dot>>,
}

impl Moved {
    /// Of the records of `log` after `common`, none has moved yet.
    pub fn beyond(log: LogId, common: u64) -> Self {
        Self { log, common, files: BTreeMap::new() }
    }

    /// A version of that file has moved.
    pub fn note(&mut self, file: FileId, sequence: u64, to: Dot) {
        self.files.entry(file).or_default().insert(sequence, to);
    }

    /// The version as it is written again: the same random bits, time, body and author; where it names dots of
    /// the void branch, the new ones stand.
    #[must_use]
    pub fn version(&self, version: &Version) -> Version {
        let dots = self.files.get(&version.file);
        let moved = |dot: &Dot| self.dot(dot, dots);
        let author = match &version.author {
            Author::Operator { name, restored } => {
                Author::Operator { name: name.clone(), restored: restored.as_ref().map(moved) }
            }
            Author::Merge { operator, heads } => Author::Merge {
                operator: operator.clone(),
                heads: heads.iter().map(moved).collect(),
            },
            known @ (Author::Phone(_) | Author::Unknown) => known.clone(),
        };
        let context = self.context(&version.context, dots);
        Version { context, author, ..version.clone() }
    }

    /// The same of a version of the branch that stays, under a number that both branches have: a context that names
    /// it may mean the other branch's. What is written again knows the first one, and nobody is asked to choose.
    #[must_use]
    pub fn version_that_stays(&self, version: &Version, dot: &Dot) -> Version {
        let mut again = self.version(version);
        again.context.add(dot);
        again
    }

    fn dot(&self, dot: &Dot, dots: Option<&BTreeMap<u64, Dot>>) -> Dot {
        let is_void = dot.log == self.log && dot.sequence > self.common;
        let moved = dots.filter(|_| is_void).and_then(|dots| dots.get(&dot.sequence));
        moved.unwrap_or(dot).clone()
    }

    fn context(&self, context: &Context, dots: Option<&BTreeMap<u64, Dot>>) -> Context {
        let mut kept = context.without(&self.log, self.common);
        let void = dots.into_iter().flatten();
        let seen = |sequence: u64| context.covers(&Dot { log: self.log.clone(), sequence });
        for (_, to) in void.filter(|(sequence, _)| seen(**sequence)) {
            kept.add(to);
        }
        kept.bounded([])
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Epoch, FileName, RealmId, SiteName, Stamp};

    proptest! {
        #[test]
        fn the_last_common_place_is_found_in_a_few_rounds(
            (length, common) in (1..10_000_000_u64).prop_flat_map(|n| (Just(n), 0..n)),
        ) {
            let (mut search, mut rounds) = (Search::within(length), 0);
            loop {
                let probes = search.probes();
                if probes.is_empty() {
                    break;
                }
                prop_assert!(probes.len() as u64 <= FORK_PROBES_MAX);
                prop_assert!(probes.iter().all(|n| (1..=length).contains(n)));
                search.narrow(probes.into_iter().map(|n| (n, n <= common)));
                rounds += 1;
            }
            prop_assert_eq!(search.common(), common);
            prop_assert!(rounds <= 5, "{} rounds", rounds);
        }
    }

    fn dot(epoch: u64, sequence: u64) -> Dot {
        let site = SiteName::parse("london").unwrap();
        Dot { log: LogId { site, epoch: Epoch(epoch) }, sequence }
    }

    fn version(context: Context, restored: Option<Dot>) -> Version {
        Version {
            random: [7; 16],
            stamp: Stamp { trusted: true, micros: 5 },
            file: FileId {
                realm: RealmId::built_in(),
                name: FileName::parse("299_16xxdata.txt").unwrap(),
            },
            context,
            body: None,
            suspect: false,
            author: Author::Operator { name: "anna".to_owned(), restored },
        }
    }

    #[test]
    fn a_moved_version_has_seen_the_same_versions_under_their_new_dots() {
        let mut moved = Moved::beyond(dot(1, 1).log, 90);
        let file = version(Context::default(), None).file;
        moved.note(file.clone(), 91, dot(2, 4));
        moved.note(file, 95, dot(2, 8));
        let mut context = Context::default();
        context.raise_to(&dot(1, 92));
        context.raise_to(&dot(3, 6));

        let again = moved.version(&version(context, Some(dot(1, 91))));

        for (seen, is_seen) in [
            (dot(1, 90), true),
            (dot(1, 91), false),
            (dot(1, 92), false),
            (dot(2, 4), true),
            (dot(2, 3), false),
            (dot(2, 8), false),
            (dot(3, 6), true),
        ] {
            assert_eq!(again.context.covers(&seen), is_seen, "{seen}");
        }
        assert_eq!(again.random, [7; 16]);
        let author = Author::Operator { name: "anna".to_owned(), restored: Some(dot(2, 4)) };
        assert_eq!(again.author, author);
    }

    #[test]
    fn a_moved_version_keeps_what_it_says_of_the_common_part_and_of_other_logs() {
        let moved = Moved::beyond(dot(1, 1).log, 90);
        let mut context = Context::default();
        context.raise_to(&dot(1, 80));
        context.add(&dot(1, 85));
        context.raise_to(&dot(2, 200));
        let original = version(context, Some(dot(1, 90)));
        assert_eq!(moved.version(&original), original);
    }
}
