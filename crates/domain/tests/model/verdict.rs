//! What must be true of a run, by the true account of what was done.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use bruri_domain::Dot;

use super::{record::Record, replica::Replica, schedule::World, site::Site};

/// Something that no schedule may break.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Check {
    /// The rule says what the model says, after every step.
    AsTheModel,
    /// What a phone wrote that had seen everything here is what is served here.
    OwnWriteIsServed,
    /// Once all is known everywhere, all sites hold the same.
    AllSitesHoldTheSame,
    /// A file with a history is served, one without is not.
    HistoryIsServed,
    /// The heads are exactly the versions that no other was written with knowledge of.
    HeadsAreWhatNobodyKnew,
    /// An acknowledged version is in the history, or erased, or its last copy was lost.
    AcknowledgedIsKept,
    /// No version that an erasure was of is in a history.
    ErasedStaysErased,
}

/// What a run broke, with where it did first, and what it held.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) broken: BTreeMap<Check, String>,
    pub(crate) tally: Tally,
}

/// How often what matters came to pass; proves that schedules are not idle.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) acknowledged: usize,
    pub(crate) deletions: usize,
    pub(crate) confirmed: usize,
    pub(crate) conflicts: usize,
    pub(crate) erasures: usize,
    pub(crate) erased: usize,
    pub(crate) lost_tails: usize,
    pub(crate) lost: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.deletions += other.deletions;
        self.confirmed += other.confirmed;
        self.conflicts += other.conflicts;
        self.erasures += other.erasures;
        self.erased += other.erased;
        self.lost_tails += other.lost_tails;
        self.lost += other.lost;
    }
}

impl Verdict {
    /// Notes the first time that a check fails.
    pub(crate) fn expect(&mut self, check: Check, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.broken.entry(check).or_insert_with(why);
        }
    }

    /// Judges how a run ended.
    pub(crate) fn judge(&mut self, world: &World) {
        self.tally.acknowledged = world.acknowledged.len();
        self.tally.lost = world.lost.len();
        for file in 0..world.files {
            for (at, site) in world.sites.iter().enumerate() {
                let place = || format!("file {file} at site {at}");
                let replica = &site.files[file];
                let same = hold_the_same(replica, &world.sites[0].files[file]);
                self.expect(Check::AllSitesHoldTheSame, same, place);
                let served = replica.state.served().is_some();
                self.expect(Check::HistoryIsServed, served != replica.history.is_empty(), place);
                let heads: BTreeSet<&Dot> = replica.state.heads().iter().map(|h| &h.dot).collect();
                let right = heads == unsuperseded(replica);
                self.expect(Check::HeadsAreWhatNobodyKnew, right, place);
            }
        }
        world.sites.iter().for_each(|site| self.judge_acknowledged(world, site));
        world.sites.iter().for_each(|site| self.judge_erased(world, site));
    }

    fn judge_acknowledged(&mut self, world: &World, site: &Site) {
        for record in &world.acknowledged {
            let replica = &site.files[record.file];
            let kept = is_kept(replica, record);
            let erased = record.generation < generation_by_the_logs(world, record.file);
            let lost = world.lost.contains(&record.number);
            self.tally.erased += usize::from(erased);
            let place = || format!("{}", record.dot);
            self.expect(Check::AcknowledgedIsKept, kept || erased || lost, place);
        }
    }

    fn judge_erased(&mut self, world: &World, site: &Site) {
        for (erasure, known) in &world.erasures {
            let history = site.files[erasure.file].history.values();
            let back = history.into_iter().find(|record| known.contains(&record.number));
            let lost = world.lost.contains(&erasure.number);
            let place = || back.map_or_else(String::new, |record| record.dot.to_string());
            self.expect(Check::ErasedStaysErased, back.is_none() || lost, place);
        }
    }
}

fn hold_the_same(a: &Replica, b: &Replica) -> bool {
    let numbers = |replica: &Replica| -> Vec<_> {
        replica.history.iter().map(|(dot, record)| (dot.clone(), record.number)).collect()
    };
    a.state == b.state && numbers(a) == numbers(b)
}

/// The versions that no other was written with knowledge of.
fn unsuperseded(replica: &Replica) -> BTreeSet<&Dot> {
    let truths = replica.history.values().filter_map(|record| record.written());
    let known: BTreeSet<usize> = truths.flat_map(|w| w.truth.iter().copied()).collect();
    let history = replica.history.iter();
    history.filter(|(_, record)| !known.contains(&record.number)).map(|(dot, _)| dot).collect()
}

fn is_kept(replica: &Replica, record: &Rc<Record>) -> bool {
    replica.history.get(&record.dot).is_some_and(|held| Rc::ptr_eq(held, record))
}

/// The generation that the surviving records of a file speak of.
fn generation_by_the_logs(world: &World, file: usize) -> u64 {
    let logs = world.sites.iter().flat_map(|site| site.logs.values());
    let records = logs.flatten().filter(|record| record.file == file);
    let spoken = records.map(|r| r.generation + u64::from(r.written().is_none()));
    spoken.max().unwrap_or(0)
}
