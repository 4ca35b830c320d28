//! How fresh a read must be, and how a site joins its own state of a file with what peers tell of theirs.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    Context, Dot, FileState, Head,
    limits::{FRESHNESS_MILLIS_DEFAULT, FRESHNESS_MILLIS_MAX},
};

/// How old what a site knows of the others may be for a read to be answered without asking them.
/// Written `300ms`, or `strict`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// So old at most.
    Within(Duration),
    /// The others are always asked.
    Strict,
}

/// A text that is no freshness.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "freshness is `strict`, or a number of milliseconds from 1 to {FRESHNESS_MILLIS_MAX} like `300ms`"
)]
pub struct InvalidFreshness;

impl Default for Freshness {
    fn default() -> Self {
        Self::Within(Duration::from_millis(FRESHNESS_MILLIS_DEFAULT))
    }
}

impl Freshness {
    /// Reads it as it is written.
    ///
    /// # Errors
    /// Where it is neither `strict` nor milliseconds within the bound.
    pub fn parse(text: &str) -> Result<Self, InvalidFreshness> {
        if text == "strict" {
            return Ok(Self::Strict);
        }
        let digits = text.strip_suffix("ms").filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let millis = digits.and_then(|digits| digits.parse().ok());
        let millis = millis.filter(|millis| (1..=FRESHNESS_MILLIS_MAX).contains(millis));
        millis.map(|millis| Self::Within(Duration::from_millis(millis))).ok_or(InvalidFreshness)
    }

    /// Whether knowledge of that age does without asking.
    pub fn is_met_by(self, age: Duration) -> bool {
        match self {
            Self::Within(bound) => age <= bound,
            Self::Strict => false,
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within(bound) => write!(f, "{}ms", bound.as_millis()),
            Self::Strict => f.write_str("strict"),
        }
    }
}

impl FileState {
    /// What a site knows that has what this one and the other know: as if it had applied the versions of both. Of two
    /// generations the newer stays; within one, a head stays that both have or that the other's context does not
    /// cover.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        if self.generation() != other.generation() {
            let newer = if self.generation() > other.generation() { self } else { other };
            return newer.clone();
        }
        let dots = |state: &Self| -> BTreeSet<Dot> {
            state.heads().iter().map(|head| head.dot.clone()).collect()
        };
        let (ours, theirs) = (dots(self), dots(other));
        let stays = |head: &&Head, has: &BTreeSet<Dot>, context: &Context| {
            has.contains(&head.dot) || !context.covers(&head.dot)
        };
        let kept = self.heads().iter().filter(|head| stays(head, &theirs, other.context()));
        let added = other.heads().iter().filter(|head| !ours.contains(&head.dot));
        let added = added.filter(|head| stays(head, &ours, self.context()));
        let mut heads: Vec<Head> = kept.chain(added).cloned().collect();
        if heads.iter().any(|head| !head.suspect) {
            heads.retain(|head| !head.suspect);
        }
        let mut context = self.context().clone();
        context.unite(other.context());
        Self::from_parts(self.generation(), heads, context)
    }

    /// Whether this tells a reader anything who knows the file in that generation up to that context. An older
    /// generation tells nothing.
    pub fn is_news_to(&self, generation: u64, context: &Context) -> bool {
        let same = self.generation() == generation;
        self.generation() > generation || (same && !context.covers_all(self.context()))
    }

    /// The heads that such a reader does not know, highest rank first.
    pub fn unknown_to(&self, generation: u64, context: &Context) -> Vec<&Head> {
        let of_another = self.generation() != generation;
        let unknown = |head: &&Head| of_another || !context.covers(&head.dot);
        let mut heads: Vec<&Head> = self.heads().iter().filter(unknown).collect();
        heads.sort_by(|a, b| b.rank().cmp(&a.rank()));
        heads
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Author, Body, Epoch, FileId, FileName, LogId, RealmId, SiteName, Stamp, Version};

    const LOGS: usize = 3;

    /// Which log, what its writer had seen of each, by how much the generation grows, its time, whether it is suspect.
    type Write = (usize, [u64; LOGS], bool, u64, bool);

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let write = (0..LOGS, [0..6_u64, 0..6, 0..6], prop::bool::weighted(0.05), 0..9_u64);
        let write = (write, prop::bool::weighted(0.4));
        let flat = |((log, seen, erased, micros), suspect)| (log, seen, erased, micros, suspect);
        prop::collection::vec(write.prop_map(flat), 1..16)
    }

    fn dot(log: usize, sequence: u64) -> Dot {
        let site = SiteName::parse(["london", "tokyo", "paris"][log]).unwrap();
        Dot { log: LogId { site, epoch: Epoch(1) }, sequence }
    }

    /// The logs that these writes leave: nobody had seen more of a log than there was, and who had seen a version had
    /// seen what its writer had.
    fn logs(writes: &[Write]) -> [Vec<(u64, Version)>; LOGS] {
        let mut logs = [const { Vec::<(u64, Version)>::new() }; LOGS];
        let mut generation = 0;
        for (number, (log, seen, erased, micros, suspect)) in writes.iter().enumerate() {
            let mut context = Context::default();
            for (other, upto) in seen.iter().enumerate() {
                let upto = (*upto).min(logs[other].len() as u64);
                context.raise_to(&dot(other, upto));
                for (_, version) in &logs[other][..usize::try_from(upto).unwrap()] {
                    context.unite(&version.context);
                }
            }
            generation += u64::from(*erased);
            let name = FileName::parse("299_16xxdata.txt").unwrap();
            let version = Version {
                random: [0; 16],
                stamp: Stamp { trusted: true, micros: *micros },
                file: FileId { realm: RealmId::built_in(), name },
                context,
                body: (number % 4 > 0).then(|| Body::of(&[u8::try_from(number % 3).unwrap()])),
                suspect: *suspect && number % 4 > 0,
                author: Author::Unknown,
            };
            logs[*log].push((generation, version));
        }
        logs
    }

    /// What a site knows that has applied so much of each log.
    fn site(logs: &[Vec<(u64, Version)>; LOGS], upto: [usize; LOGS]) -> FileState {
        let mut state = FileState::default();
        for (number, log) in logs.iter().enumerate() {
            for (place, (generation, version)) in log.iter().take(upto[number]).enumerate() {
                state.apply(&dot(number, place as u64 + 1), *generation, version);
            }
        }
        state
    }

    proptest! {
        #[test]
        fn joined_states_are_that_of_a_site_which_knows_what_both_know(
            writes in writes(), a in [0..6_usize, 0..6, 0..6], b in [0..6_usize, 0..6, 0..6],
        ) {
            let logs = logs(&writes);
            let both = std::array::from_fn(|log| a[log].max(b[log]));
            let (one, other) = (site(&logs, a), site(&logs, b));
            let joined = one.joined(&other);
            prop_assert_eq!(&joined, &site(&logs, both));
            prop_assert_eq!(&joined, &other.joined(&one));
            prop_assert_eq!(&joined, &joined.joined(&one));
        }

        #[test]
        fn what_is_no_news_changes_nothing_and_what_is_unknown_is_all_that_is_lacking(
            writes in writes(), a in [0..6_usize, 0..6, 0..6], b in [0..6_usize, 0..6, 0..6],
        ) {
            let logs = logs(&writes);
            let (reader, asked) = (site(&logs, a), site(&logs, b));
            let joined = reader.joined(&asked);
            let (generation, seen) = (reader.generation(), reader.context());
            if !asked.is_news_to(generation, seen) {
                prop_assert_eq!(&joined, &reader);
            }
            let unknown = asked.unknown_to(generation, seen);
            for head in joined.heads() {
                prop_assert!(reader.heads().contains(head) || unknown.contains(&head));
            }
        }
    }

    #[test]
    fn freshness_is_read_as_it_is_written_and_only_within_its_bound() {
        for text in ["strict", "300ms", "1ms", "60000ms"] {
            assert_eq!(Freshness::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Freshness::default().to_string(), "300ms");
        for text in ["", "0ms", "60001ms", "300", "-1ms", "+3ms", "3 ms", "Strict", "1s"] {
            assert_eq!(Freshness::parse(text), Err(InvalidFreshness), "{text}");
        }
    }

    #[test]
    fn strict_is_met_by_nothing() {
        assert!(!Freshness::Strict.is_met_by(Duration::ZERO));
        let within = Freshness::default();
        assert!(within.is_met_by(Duration::from_millis(300)));
        assert!(!within.is_met_by(Duration::from_millis(301)));
    }
}
