//! What the engine has the store do, and what came of it.

use std::collections::BTreeSet;

use bruri_domain::{Chain, Cursor, Dot, LogId, SiteName};
use bruri_store::{Page, Snapshot};
use bruri_wire::proto::replication::v1 as proto;

use super::io::{LinkId, Portion, SupplyId};

/// What a peer has of this site's own logs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Theirs {
    /// How far it is.
    pub cursors: Vec<Cursor>,
    /// Numbers that phones there were answered with, and of which it has no records.
    pub told: Vec<Dot>,
    /// Nothing that it said before is being heard still.
    pub is_all: bool,
}

/// Work for the store.
#[derive(Clone, Debug)]
pub enum Job {
    /// How far each log is.
    ReadVector {
        /// Counts the readings.
        number: u64,
    },
    /// The records after a sequence.
    ReadPage {
        /// For which stream.
        supply: SupplyId,
        /// Of which log.
        log: LogId,
        /// After which sequence.
        after: u64,
    },
    /// Our chain where a consumer left a log.
    ReadChain {
        /// For which stream.
        supply: SupplyId,
        /// Where it left it.
        wanted: Cursor,
    },
    /// Hear what a peer has of our own logs: more than we have means that our database lost a tail.
    HearOwn {
        /// By way of which link.
        link: LinkId,
        /// What it has.
        theirs: Theirs,
    },
    /// The numbers of a peer's logs that phones here were answered with, where there is no record of them.
    ReadTold {
        /// For which stream.
        supply: SupplyId,
        /// Whose.
        site: SiteName,
    },
    /// A consumer wants our own log from a place that we have otherwise, or not at all: which branch stays?
    JudgeOwn {
        /// For which stream.
        supply: SupplyId,
        /// The place.
        wanted: Cursor,
        /// Our chain there.
        chain: Option<Chain>,
    },
    /// Our chain at a place where the origin of a log says that it is now.
    ReadParted {
        /// By way of which link.
        link: LinkId,
        /// The place, as the origin has it.
        theirs: Cursor,
    },
    /// Check a batch and apply it.
    Apply {
        /// Where our cursor is.
        from: Cursor,
        /// What a peer sent.
        batch: proto::Batch,
        /// Who.
        peer: SiteName,
    },
    /// What this site has of a snapshot.
    ReadSnapshot,
    /// End a snapshot that is not filled in: a log forked that it brought forward.
    GiveSnapshotUp,
    /// Check a portion of a snapshot and take it in.
    Take {
        /// What a peer sent.
        portion: Portion,
    },
}

/// What the store did.
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::ReadVector`].
    Vector {
        /// The number of the reading.
        number: u64,
        /// All cursors, those of our own logs too, and which of these we append to.
        result: Result<(Vec<Cursor>, BTreeSet<LogId>), Failure>,
    },
    /// Of [`Job::HearOwn`]: the logs of which the peer's branch stays.
    OwnHeard {
        /// By way of which link.
        link: LinkId,
        /// What the peer has.
        theirs: Theirs,
        /// The logs.
        result: Result<Vec<LogId>, Failure>,
    },
    /// Of [`Job::ReadTold`].
    Told {
        /// For which stream.
        supply: SupplyId,
        /// The numbers.
        told: Result<Vec<Dot>, Failure>,
    },
    /// Of [`Job::JudgeOwn`]: whether the consumer's branch stays.
    OwnJudged {
        /// For which stream.
        supply: SupplyId,
        /// The place.
        wanted: Cursor,
        /// Our chain there.
        chain: Option<Chain>,
        /// Whether the consumer's branch stays.
        result: Result<bool, Failure>,
    },
    /// Of [`Job::ReadParted`].
    Parted {
        /// By way of which link.
        link: LinkId,
        /// The place, as the origin has it.
        theirs: Cursor,
        /// Our chain there.
        result: Result<Option<Chain>, Failure>,
    },
    /// Of [`Job::ReadPage`].
    Page {
        /// For which stream.
        supply: SupplyId,
        /// Of which log.
        log: LogId,
        /// After which sequence.
        after: u64,
        /// The records.
        result: Result<Page, Failure>,
    },
    /// Of [`Job::ReadChain`].
    Chain {
        /// For which stream.
        supply: SupplyId,
        /// Where the consumer left the log.
        wanted: Cursor,
        /// Our chain there; none where the log is not so long.
        result: Result<Option<Chain>, Failure>,
    },
    /// Of [`Job::Apply`].
    Applied {
        /// Where our cursor was.
        from: Cursor,
        /// Where it is.
        result: Result<Cursor, Unapplied>,
    },
    /// Of [`Job::ReadSnapshot`].
    Snapshot {
        /// What it has.
        result: Result<Snapshot, Failure>,
    },
    /// Of [`Job::Take`].
    Taken {
        /// What it has now.
        result: Result<Snapshot, Unapplied>,
    },
}

/// Why the store did not do a job.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// What it holds is damaged; else it does not answer.
    pub damaged: bool,
    /// A snapshot passed it over, and it is not filled in yet.
    pub below_floor: bool,
}

/// Why a batch was not applied; nothing of it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unapplied {
    /// It is wrong.
    Invalid(String),
    /// It lacks payloads, and no erasure that took them is known here yet.
    Unerased(String),
    /// Somebody else moved the cursor.
    CursorMoved,
    /// The store did not do it.
    Store(Failure),
}
