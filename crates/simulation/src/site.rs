//! A site: its store, its clock, and its process while that is up.

use std::collections::BTreeMap;

use bruri_domain::{DeploymentKey, Epoch, Issuer, Log, LogId, LogKind, Membership, SiteName};
use bruri_replication::engine::{
    Engine,
    io::{Done, Failure, Job, LinkId, SubscriptionId, SupplyId, Unapplied},
};
use rand::{Rng as _, rngs::StdRng};

use crate::{Options, epochs::Dump, laws::Phones, memory::Memory, names, world::KEY};

/// 2025-10-09, in microseconds since 1970.
const START_MICROS: i64 = 1_760_000_000_000_000;

/// A site: what survives a crash, and what does not.
pub(crate) struct Site {
    pub(crate) name: SiteName,
    pub(crate) memory: Memory,
    pub(crate) clock: Clock,
    /// A copy of its database, with what its phones were known to have seen then.
    pub(crate) dump: Option<(Dump, Phones)>,
    /// Its database went back in time.
    pub(crate) went_back: bool,
    /// Whom each link leads to.
    pub(crate) peers: Vec<usize>,
    /// None while its process is down.
    pub(crate) process: Option<Process>,
    /// Counts its processes.
    pub(crate) incarnation: u64,
    /// Its store does not answer until then.
    pub(crate) stalled_until: u64,
}

pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) began: u64,
    pub(crate) due: Option<u64>,
    pub(crate) supplies: BTreeMap<SupplyId, (u64, SubscriptionId)>,
    pub(crate) supplied: u64,
    pub(crate) connections: BTreeMap<LinkId, u64>,
    /// As the engine was told.
    pub(crate) members: Membership,
}

/// A machine's wall clock, which may be decades off.
pub(crate) struct Clock {
    skew_micros: i64,
    pub(crate) issuer: Issuer,
    pub(crate) trusted: bool,
}

impl Clock {
    pub(crate) fn wall(&self, now: u64) -> u64 {
        START_MICROS.saturating_add(self.skew_micros).saturating_add_unsigned(now).unsigned_abs()
    }
}

impl Site {
    pub(crate) fn new(number: usize, options: &Options, rng: &mut StdRng) -> Self {
        let name = names::site(number);
        let log = |kind, rng: &mut StdRng| Log {
            id: LogId { site: name.clone(), epoch: Epoch(rng.random()) },
            kind,
            predecessor: None,
        };
        let own = vec![log(LogKind::Control, rng), log(LogKind::Files, rng)];
        let skew = options.skew_seconds.get(number).copied().unwrap_or(0);
        let peers = options.dialled(number);
        Self {
            memory: Memory::new(DeploymentKey::new(KEY), own),
            clock: Clock {
                skew_micros: skew.saturating_mul(1_000_000),
                issuer: Issuer::after(0),
                trusted: true,
            },
            dump: None,
            went_back: false,
            name,
            peers,
            process: None,
            incarnation: 0,
            stalled_until: 0,
        }
    }
}

/// What a store that does not answer says to a job.
pub(crate) fn refused(job: Job) -> Done {
    let failure = Failure {
        text: "the store does not answer".to_owned(),
        damaged: false,
        below_floor: false,
    };
    match job {
        Job::ReadVector { number } => Done::Vector { number, result: Err(failure) },
        Job::ReadPage { supply, log, after } => {
            Done::Page { supply, log, after, result: Err(failure) }
        }
        Job::ReadChain { supply, wanted } => Done::Chain { supply, wanted, result: Err(failure) },
        Job::HearOwn { link, theirs } => Done::OwnHeard { link, theirs, result: Err(failure) },
        Job::ReadTold { supply, .. } => Done::Told { supply, told: Err(failure) },
        Job::JudgeOwn { supply, wanted, chain } => {
            Done::OwnJudged { supply, wanted, chain, result: Err(failure) }
        }
        Job::ReadParted { link, theirs } => Done::Parted { link, theirs, result: Err(failure) },
        Job::Apply { from, .. } => {
            let result = Err(Unapplied::Store(failure));
            Done::Applied { from, result }
        }
        Job::ReadSnapshot | Job::GiveSnapshotUp => Done::Snapshot { result: Err(failure) },
        Job::Take { .. } => Done::Taken { result: Err(Unapplied::Store(failure)) },
    }
}
