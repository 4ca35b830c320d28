//! What goes into the engine and what comes out of it.

use std::time::Duration;

use bruri_domain::{Cursor, FileId, LogId, Membership, SiteName};
use bruri_wire::proto::replication::v1 as proto;

pub use super::work::{Done, Failure, Job, Theirs, Unapplied};

/// What a consumer says.
pub type Ask = proto::subscribe_request::Request;
/// What a supplier says.
pub type Event = proto::subscribe_response::Event;

/// When something happens: since the engine began, by a clock that never jumps.
pub type Moment = Duration;

/// The two clocks of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// Orders what happens here.
    pub now: Moment,
    /// The wall clock, microseconds since 1970-01-01 UTC; may be wrong and jump.
    pub wall_micros: u64,
}

/// The way to one peer, by its place in the list of addresses.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u32);

/// A stream that we opened, to consume; the engine numbers them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriptionId(pub u64);

/// A stream that a peer opened, to be supplied; who accepts it numbers them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SupplyId(pub u64);

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// It is time; see [`super::Engine::due`].
    Tick,
    /// Some log of the store may have grown.
    Changed,
    /// Phones read here: peers should beat often.
    Read,
    /// The members of the deployment are these now.
    Members(Membership),
    /// A peer, named by its certificate, opened a stream.
    Opened {
        /// The stream.
        supply: SupplyId,
        /// Whose it is.
        peer: SiteName,
    },
    /// A consumer said something.
    Asked {
        /// On which stream.
        supply: SupplyId,
        /// What.
        ask: Ask,
    },
    /// What came on a consumer's stream is no message at all.
    Garbled {
        /// On which stream.
        supply: SupplyId,
        /// For people.
        text: String,
    },
    /// A message of ours has left the queue of a stream.
    Flushed(SupplyId),
    /// A consumer's stream is over.
    Left(SupplyId),
    /// A peer was reached, and its certificate names this site.
    Reached {
        /// The way.
        link: LinkId,
        /// Who is there.
        site: SiteName,
    },
    /// A peer could not be reached.
    Unreachable {
        /// The way.
        link: LinkId,
        /// Why.
        error: LinkError,
    },
    /// A supplier said something.
    Heard {
        /// On which stream.
        subscription: SubscriptionId,
        /// What.
        event: Event,
    },
    /// A stream of ours is over.
    Ended {
        /// The stream.
        subscription: SubscriptionId,
        /// Why.
        error: LinkError,
    },
    /// The store has done a job.
    Done(Done),
    /// A log that forked was set back to where its branches part, or could not be.
    Settled {
        /// With whose branch.
        link: LinkId,
        /// Which log.
        log: LogId,
        /// Why not.
        error: Option<String>,
    },
    /// A peer has answered what [`Effect::Fetch`] asked, or could not.
    Fetched {
        /// Who.
        link: LinkId,
        /// Which question.
        number: u64,
        /// What it told.
        result: Result<Portion, FetchError>,
    },
}

/// What is to be done about it.
#[derive(Debug)]
pub enum Effect {
    /// Connect to a peer; answered by [`Input::Reached`] or [`Input::Unreachable`].
    Dial(LinkId),
    /// Give the connection up, with all its streams.
    Hang(LinkId),
    /// Open a stream on the connection. Its end is told by [`Input::Ended`], unless we end it.
    Subscribe {
        /// On whose connection.
        link: LinkId,
        /// What to call the stream.
        subscription: SubscriptionId,
    },
    /// End a stream: nothing of it is heard any more.
    Unsubscribe(SubscriptionId),
    /// Say this to a supplier.
    Ask {
        /// On which stream.
        subscription: SubscriptionId,
        /// What.
        ask: Ask,
    },
    /// Say this to a consumer; told by [`Input::Flushed`] when it has left.
    Tell {
        /// On which stream.
        supply: SupplyId,
        /// What.
        event: Event,
    },
    /// End a consumer's stream and say why.
    Dismiss {
        /// The stream.
        supply: SupplyId,
        /// Why.
        why: Dismissal,
    },
    /// Have the store do something; answered by [`Input::Done`].
    Do(Job),
    /// Find out where our branch of a log parts from a peer's, which stays, and set ours back to there; answered by
    /// [`Input::Settled`].
    Settle {
        /// Whose branch stays.
        link: LinkId,
        /// Which log.
        log: LogId,
    },
    /// Ask a peer for the next portion of a snapshot; answered by [`Input::Fetched`].
    Fetch {
        /// Whom.
        link: LinkId,
        /// Counts the questions.
        number: u64,
        /// For what.
        fetch: Fetch,
    },
    /// From now on records are stamped so: whether our clock is trusted.
    TrustClock(bool),
}

/// What a peer is asked for that supplies a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fetch {
    /// The states of the next files.
    States {
        /// After this one; none at the beginning.
        after: Option<FileId>,
    },
    /// The next records of a log, to fill its history in.
    Records {
        /// After this place.
        from: Cursor,
    },
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Portion {
    /// States.
    States {
        /// The file after which they were asked for.
        after: Option<FileId>,
        /// What came.
        chunk: proto::StatesChunk,
    },
    /// Records.
    Records {
        /// The place after which they were asked for.
        from: Cursor,
        /// What came.
        batch: proto::Batch,
    },
}

/// Why it did not, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchError {
    /// The text.
    pub text: String,
    /// It has the place that was asked for with another chain: the log forked.
    pub parted: bool,
}

/// Why a link does not work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkError {
    /// For people.
    pub text: String,
    /// It will stay so until a person does something.
    pub needs_a_person: bool,
}

/// Why a consumer's stream is ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dismissal {
    /// The two sites cannot talk: a person must do something.
    Refused(String),
    /// What it said is not understood.
    Invalid(String),
    /// Our store does not answer.
    Away,
    /// It said no word in time.
    Silent,
}
