//! Which versions of a file are heads, and which head a phone gets.

use crate::{
    Body, Context, Dot, Sha256, Stamp, Version,
    mutant::{self, Mutant},
};

/// What a site keeps per file to decide what it serves.
///
/// Applying versions is commutative, associative and idempotent as long as each log's records come in
/// the log's order: what is served depends only on the set of records known (law 4).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileState {
    generation: u64,
    /// In the order of their dots.
    heads: Vec<Head>,
    context: Context,
}

/// A version that no other known version supersedes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its address.
    pub dot: Dot,
    /// The origin's time.
    pub stamp: Stamp,
    /// None for a deletion.
    pub body: Option<Body>,
    /// Its origin judged the body to be no phone's file: it is a head only where nothing else is.
    pub suspect: bool,
}

/// What became of a version that was applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It is a head now.
    Head,
    /// Another version that is known supersedes it, or it was applied before.
    Superseded,
    /// It was erased: only its place in the log is kept.
    Erased,
}

impl FileState {
    /// Puts a state together again from its parts, sorting the heads.
    pub fn from_parts(generation: u64, mut heads: Vec<Head>, context: Context) -> Self {
        heads.sort_by(|a, b| a.dot.cmp(&b.dot));
        Self { generation, heads, context }
    }

    /// How often the subject was erased.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The versions that no other known version supersedes, in the order of their dots.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Everything ever seen of this file in this generation.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Takes in a version that was written under that generation. The records of one log must come in
    /// its order, each at least once.
    pub fn apply(&mut self, dot: &Dot, generation: u64, version: &Version) -> Applied {
        let Version { stamp, body, suspect, .. } = *version;
        let head = Head { dot: dot.clone(), stamp, body, suspect };
        self.take(head, generation, &version.context)
    }

    /// The same of what merges like versions of a file and is none.
    pub fn take(&mut self, version: Head, generation: u64, context: &Context) -> Applied {
        if generation < self.generation {
            return Applied::Erased;
        }
        if generation > self.generation {
            // Written after an erasure whose own record has not arrived yet.
            self.forget(generation);
        }
        if version.suspect && !mutant::is(Mutant::SuspectCounts) {
            return self.take_suspect(version);
        }
        self.heads.retain(|head| !head.suspect && !context.covers(&head.dot));
        let dot = version.dot.clone();
        let superseded = self.context.covers(&dot);
        if !superseded {
            self.add_head(version);
        }
        self.context.unite(context);
        // A log arrives in order, so every version of this file up to here is known.
        self.context.raise_to(&dot);
        self.mutate();
        if superseded { Applied::Superseded } else { Applied::Head }
    }

    /// A suspect version drops no head and adds nothing to the context but its dot, whatever its writer had seen. Where
    /// there is nothing else it is a head, the last one of each log: that much depends on no order of logs.
    fn take_suspect(&mut self, version: Head) -> Applied {
        let dot = version.dot.clone();
        let superseded = self.context.covers(&dot) || self.heads.iter().any(|head| !head.suspect);
        if !superseded {
            self.heads.retain(|head| head.dot.log != dot.log);
            self.add_head(version);
        }
        self.context.raise_to(&dot);
        if superseded { Applied::Superseded } else { Applied::Head }
    }

    fn mutate(&mut self) {
        if mutant::is(Mutant::ClocksOnly)
            && let Some(newest) = self.heads.iter().max_by_key(|head| head.stamp.micros).cloned()
        {
            self.heads = vec![newest];
        }
        if mutant::is(Mutant::ContextOfHeads) {
            self.context = Context::default();
            self.heads.iter().for_each(|head| self.context.raise_to(&head.dot));
        }
    }

    /// Takes in an erasure by a writer that knew `generation`: nothing of it or before remains.
    pub fn erase(&mut self, generation: u64) {
        self.raise_to(generation.saturating_add(1));
    }

    /// Forgets what is of an older generation than that of its subject.
    pub fn raise_to(&mut self, generation: u64) {
        if generation > self.generation {
            self.forget(generation);
        }
    }

    /// Whether nothing was ever known of it in this generation.
    pub fn is_blank(&self) -> bool {
        self.heads.is_empty() && self.context.logs().next().is_none()
    }

    fn forget(&mut self, generation: u64) {
        *self = Self { generation, ..Self::default() };
    }

    fn add_head(&mut self, head: Head) {
        let place = self.heads.partition_point(|other| other.dot < head.dot);
        self.heads.insert(place, head);
    }

    /// The head that a phone gets: the highest by (has a body, clock trusted, time, site, epoch,
    /// sequence). None where nothing is known; a deletion where every head is one.
    pub fn served(&self) -> Option<&Head> {
        self.heads.iter().max_by(|a, b| a.rank().cmp(&b.rank()))
    }

    /// Two heads with different bodies: written without knowledge of each other. Suspect ones contradict nothing.
    pub fn is_conflict(&self) -> bool {
        let is_suspect = self.heads.iter().any(|head| head.suspect);
        !is_suspect && self.heads.windows(2).any(|pair| pair[0].body != pair[1].body)
    }

    /// There is a head, and every head has this body (none: is a deletion). Writing it again would
    /// tell nothing new.
    pub fn all_heads_are(&self, body: Option<Sha256>) -> bool {
        let same = |head: &Head| head.body.map(|b| b.sha256) == body;
        !self.heads.is_empty() && self.heads.iter().all(same)
    }

    /// The context of a writer who has seen all that is known here, within a record's bounds.
    pub fn whole_context(&self) -> Context {
        self.context.bounded(self.heads.iter().map(|head| &head.dot))
    }
}

impl Head {
    pub(crate) fn rank(&self) -> (bool, Stamp, &Dot) {
        (self.body.is_some(), self.stamp, &self.dot)
    }
}
