//! What a writer had seen of one file.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Dot, LogId,
    limits::{CONTEXT_DOTS_MAX, CONTEXT_LOGS_MAX},
};

/// Per log, the sequence up to which all versions of the file were seen, and single dots beyond it.
///
/// Always in its one normal form: no empty entry, no dot at or below or directly after `upto`. So equal
/// knowledge is equal contexts.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Context {
    logs: BTreeMap<LogId, Seen>,
}

/// What was seen of one file in one log.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seen {
    upto: u64,
    dots: BTreeSet<u64>,
}

impl Seen {
    /// Every version of the file up to this sequence was seen.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Single versions beyond, ascending.
    pub fn dots(&self) -> impl Iterator<Item = u64> + '_ {
        self.dots.iter().copied()
    }

    fn covers(&self, sequence: u64) -> bool {
        sequence <= self.upto || self.dots.contains(&sequence)
    }

    fn covers_all(&self, other: &Self) -> bool {
        other.upto <= self.upto && other.dots.iter().all(|sequence| self.covers(*sequence))
    }

    fn raise_to(&mut self, sequence: u64) {
        self.upto = self.upto.max(sequence);
        self.settle();
    }

    fn add(&mut self, sequence: u64) {
        self.dots.insert(sequence);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(first) = self.dots.first().copied() {
            if first > self.upto.saturating_add(1) {
                break;
            }
            self.dots.pop_first();
            self.upto = self.upto.max(first);
        }
    }
}

impl Context {
    /// Whether the writer had seen that version.
    pub fn covers(&self, dot: &Dot) -> bool {
        self.logs.get(&dot.log).is_some_and(|seen| seen.covers(dot.sequence))
    }

    /// Whether all that the other had seen in that log was seen. False where it cannot be told.
    pub fn covers_log(&self, log: &LogId, other: &Self) -> bool {
        let (mine, theirs) = (self.logs.get(log), other.logs.get(log));
        theirs.is_none_or(|theirs| mine.is_some_and(|mine| mine.covers_all(theirs)))
    }

    /// Whether all that the other had seen was seen. False where it cannot be told.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.logs.keys().all(|log| self.covers_log(log, other))
    }

    /// The last sequence of a log that was seen; 0 where none was.
    pub fn last_of(&self, log: &LogId) -> u64 {
        self.logs.get(log).map_or(0, |seen| seen.dots.last().copied().unwrap_or(seen.upto))
    }

    /// Adds one version, and nothing below it.
    pub fn add(&mut self, dot: &Dot) {
        if !self.covers(dot) {
            self.logs.entry(dot.log.clone()).or_default().add(dot.sequence);
        }
    }

    /// Adds every version up to that one: true of a reader who applied the log in order.
    pub fn raise_to(&mut self, dot: &Dot) {
        if dot.sequence > 0 {
            self.logs.entry(dot.log.clone()).or_default().raise_to(dot.sequence);
        }
    }

    /// Adds all that the other had seen.
    pub fn unite(&mut self, other: &Self) {
        for (log, seen) in &other.logs {
            let mine = self.logs.entry(log.clone()).or_default();
            mine.dots.extend(seen.dots.iter().copied());
            mine.raise_to(seen.upto);
        }
    }

    /// The same without what was seen of one log after that sequence.
    #[must_use]
    pub fn without(&self, log: &LogId, after: u64) -> Self {
        let mut kept = self.clone();
        if let Some(seen) = kept.logs.get_mut(log) {
            seen.upto = seen.upto.min(after);
            seen.dots.retain(|sequence| *sequence <= after);
        }
        kept.logs.retain(|_, seen| *seen != Seen::default());
        kept
    }

    /// What was seen, per log in order.
    pub fn logs(&self) -> impl ExactSizeIterator<Item = (&LogId, &Seen)> {
        self.logs.iter()
    }

    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// A copy within the bounds of a record: at most 256 logs, those of `heads` before others, and at
    /// most 4096 single dots, the later before the earlier: those are sooner heads. What is left out can
    /// only cost a conflict, never data: a context that knows less supersedes less.
    #[must_use]
    pub fn bounded<'a>(&self, heads: impl IntoIterator<Item = &'a Dot>) -> Self {
        let mut bounded = self.clone();
        if bounded.logs.len() > CONTEXT_LOGS_MAX {
            let kept = kept_logs(&bounded, heads.into_iter().map(|dot| &dot.log));
            bounded.logs.retain(|log, _| kept.contains(log));
        }
        let mut room = CONTEXT_DOTS_MAX;
        for seen in bounded.logs.values_mut() {
            while seen.dots.len() > room {
                seen.dots.pop_first();
            }
            room = room.saturating_sub(seen.dots.len());
        }
        // A log of which nothing was kept is no entry: equal knowledge is equal contexts.
        bounded.logs.retain(|_, seen| *seen != Seen::default());
        bounded
    }
}

fn kept_logs<'a>(context: &'a Context, first: impl Iterator<Item = &'a LogId>) -> BTreeSet<LogId> {
    let mut kept = BTreeSet::new();
    for log in first.filter(|log| context.logs.contains_key(log)).chain(context.logs.keys()) {
        if kept.len() == CONTEXT_LOGS_MAX {
            break;
        }
        kept.insert(log.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Epoch, SiteName};

    fn dot(site: u64, sequence: u64) -> Dot {
        let site_name = SiteName::parse(&format!("s{site}")).unwrap();
        Dot { log: LogId { site: site_name, epoch: Epoch(site) }, sequence }
    }

    fn seen_dots() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
        prop::collection::vec((0..3_u64, 1..12_u64, any::<bool>()), 0..12)
    }

    fn context(steps: &[(u64, u64, bool)]) -> Context {
        let mut context = Context::default();
        for &(site, sequence, all_below) in steps {
            if all_below {
                context.raise_to(&dot(site, sequence));
            } else {
                context.add(&dot(site, sequence));
            }
        }
        context
    }

    fn covered(context: &Context) -> BTreeSet<(u64, u64)> {
        (0..3)
            .flat_map(|site| (1..14).map(move |sequence| (site, sequence)))
            .filter(|&(site, sequence)| context.covers(&dot(site, sequence)))
            .collect()
    }

    proptest! {
        #[test]
        fn a_union_covers_what_either_covers_and_nothing_else(a in seen_dots(), b in seen_dots()) {
            let (a, b) = (context(&a), context(&b));
            let mut union = a.clone();
            union.unite(&b);
            let expected = covered(&a).union(&covered(&b)).copied().collect();
            prop_assert_eq!(covered(&union), expected);
        }

        #[test]
        fn equal_knowledge_is_equal_contexts(a in seen_dots(), b in seen_dots()) {
            let (a, b) = (context(&a), context(&b));
            prop_assert_eq!(a == b, covered(&a) == covered(&b));
        }

        #[test]
        fn a_union_is_commutative_associative_and_idempotent(
            a in seen_dots(), b in seen_dots(), c in seen_dots(),
        ) {
            let united = |list: &[&[(u64, u64, bool)]]| {
                let mut all = Context::default();
                for one in list {
                    all.unite(&context(one));
                }
                all
            };
            prop_assert_eq!(united(&[&a, &b, &c]), united(&[&c, &a, &b, &a]));
        }
    }

    #[test]
    fn a_bounded_context_names_256_logs_and_those_of_the_heads_first() {
        let mut whole = Context::default();
        (0..400).for_each(|site| whole.raise_to(&dot(site, 7)));
        let head = dot(399, 7);
        let bounded = whole.bounded([&head]);
        assert_eq!(bounded.logs().len(), CONTEXT_LOGS_MAX);
        assert!(bounded.covers(&head));
    }

    #[test]
    fn a_bounded_context_holds_4096_single_dots() {
        let mut whole = Context::default();
        for n in 1..6000 {
            whole.add(&dot(n % 3, n * 2));
        }
        let bounded = whole.bounded([]);
        assert_eq!(
            bounded.logs().map(|(_, seen)| seen.dots().count()).sum::<usize>(),
            CONTEXT_DOTS_MAX
        );
        let (earliest, latest) = (dot(2, 4), dot(2, 11_998));
        assert!(whole.covers(&earliest) && !bounded.covers(&earliest));
        assert!(bounded.covers(&latest));
    }
}
