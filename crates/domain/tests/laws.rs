//! Laws 4 and 6 and what law 7 asks of a file's state, over records drawn by chance; and what is
//! served where there are several heads.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers; a test may panic")]

use std::collections::BTreeMap;

use bruri_domain::{
    Applied, Author, Body, Context, Dot, Epoch, FileId, FileName, FileState, Head, LogId, RealmId,
    Sha256, SiteName, Stamp, Version,
};
use proptest::{prelude::*, sample::Index};

const LOGS: usize = 4;

/// What a log may hold of one file.
#[derive(Clone, Debug)]
enum Record {
    Version {
        dot: Dot,
        generation: u64,
        version: Box<Version>,
    },
    /// By a writer that knew this generation.
    Erasure(u64),
}

/// What is drawn of a record.
#[derive(Clone, Debug)]
struct Drawn {
    log: usize,
    generation: u64,
    erasure: bool,
    /// Of the records before it, those that the writer had seen.
    seen: u32,
    /// The writer had seen all of the last one's log up to it.
    all_below: bool,
    stamp: Stamp,
    body: Option<u8>,
    /// Only of a body.
    suspect: bool,
}

impl Record {
    fn apply(&self, state: &mut FileState) -> Option<Applied> {
        match self {
            Self::Version { dot, generation, version } => {
                Some(state.apply(dot, *generation, version))
            }
            Self::Erasure(generation) => {
                state.erase(*generation);
                None
            }
        }
    }
}

fn log(number: usize) -> LogId {
    // The epochs of a site are in no order of time: 0 and 1 are logs of one site, as are 2 and 3.
    let site = SiteName::parse(&format!("s{}", number / 2)).expect("a site's name");
    LogId { site, epoch: Epoch(9 - number as u64) }
}

fn dot(number: usize, sequence: u64) -> Dot {
    Dot { log: log(number), sequence }
}

fn body(content: u8) -> Body {
    Body::of(&[content])
}

fn stamp(trusted: bool, micros: u64) -> Stamp {
    Stamp { trusted, micros }
}

fn version(context: Context, stamp: Stamp, body: Option<Body>) -> Version {
    let name = FileName::parse("299_16xxdata.txt").expect("a phone's name");
    let file = FileId { realm: RealmId::built_in(), name };
    let author = Author::Unknown;
    Version { random: [0; 16], stamp, file, context, body, suspect: false, author }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let stamps = (any::<bool>(), 0..6_u64).prop_map(|(trusted, micros)| stamp(trusted, micros));
    let generation = prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2_u64)];
    let erasure = prop::bool::weighted(0.1);
    let content = prop::option::weighted(0.8, 0..4_u8);
    let content = (content, prop::bool::weighted(0.3));
    (0..LOGS, generation, erasure, any::<u32>(), any::<bool>(), stamps, content).prop_map(
        |(log, generation, erasure, seen, all_below, stamp, (body, suspect))| Drawn {
            log,
            generation,
            erasure,
            seen,
            all_below,
            stamp,
            body,
            suspect: suspect && body.is_some(),
        },
    )
}

/// Records in the order in which they were written.
fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(drawn(), 1..14).prop_map(|list| {
        let mut records = Vec::new();
        let mut sequences = [0; LOGS];
        for one in &list {
            if one.erasure {
                records.push(Record::Erasure(one.generation));
                continue;
            }
            // Records of other files lie between those of this one.
            sequences[one.log] += 1 + u64::from(one.stamp.micros % 2 == 0);
            let dot = dot(one.log, sequences[one.log]);
            let version = version(seen(one, &records), one.stamp, one.body.map(body));
            let version = Box::new(Version { suspect: one.suspect, ..version });
            records.push(Record::Version { dot, generation: one.generation, version });
        }
        records
    })
}

fn seen(one: &Drawn, before: &[Record]) -> Context {
    let mut context = Context::default();
    for (at, record) in before.iter().enumerate() {
        if let Record::Version { dot, .. } = record
            && one.seen & (1 << at) != 0
        {
            if one.all_below {
                context.raise_to(dot);
            } else {
                context.add(dot);
            }
        }
    }
    context
}

/// Records twice: as written, and in another order that respects that of each log.
fn two_orders() -> impl Strategy<Value = (Vec<Record>, Vec<Record>)> {
    records().prop_flat_map(|records| {
        let turns: Vec<usize> = (0..records.len()).collect();
        let reordered = Just(turns).prop_shuffle().prop_map({
            let records = records.clone();
            move |turns| in_turn(&records, &turns)
        });
        (Just(records), reordered)
    })
}

/// Each place says whose turn it is: the log of that record delivers its next one. Erasures are in
/// other logs, so each comes whenever its own turn is.
fn in_turn(records: &[Record], turns: &[usize]) -> Vec<Record> {
    let log_of = |at: &usize| match &records[*at] {
        Record::Version { dot, .. } => Ok(&dot.log),
        Record::Erasure(_) => Err(*at),
    };
    let mut waiting: Vec<usize> = (0..records.len()).collect();
    let mut order = Vec::new();
    for turn in turns {
        let next = waiting.iter().position(|at| log_of(at) == log_of(turn));
        order.extend(next.map(|place| records[waiting.remove(place)].clone()));
    }
    order
}

fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> FileState {
    let mut state = FileState::default();
    for record in records {
        record.apply(&mut state);
    }
    state
}

fn heads(state: &FileState) -> Vec<Dot> {
    state.heads().iter().map(|head| head.dot.clone()).collect()
}

/// The generation that a set of records speaks of.
fn generation(records: &[Record]) -> u64 {
    let spoken = records.iter().map(|record| match record {
        Record::Version { generation, .. } => *generation,
        Record::Erasure(generation) => generation + 1,
    });
    spoken.max().unwrap_or(0)
}

/// The versions of the newest generation that none of that generation was written with knowledge of; where all are
/// suspect, the last of each log.
fn nobody_knew(records: &[Record]) -> Vec<Dot> {
    let newest = generation(records);
    let versions: Vec<(&Dot, &Version)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Version { dot, generation, version } if *generation == newest => {
                Some((dot, &**version))
            }
            _ => None,
        })
        .collect();
    let proper = || versions.iter().filter(|(_, version)| !version.suspect);
    let known = |dot: &Dot| proper().any(|(_, version)| version.context.covers(dot));
    let mut dots: Vec<Dot> =
        proper().map(|(dot, _)| *dot).filter(|dot| !known(dot)).cloned().collect();
    if proper().next().is_none() {
        let of_logs: BTreeMap<&LogId, &Dot> =
            versions.iter().map(|(dot, _)| (&dot.log, *dot)).collect();
        dots = of_logs.into_values().cloned().collect();
    }
    dots.sort();
    dots
}

/// The same versions by clocks that tell something else.
fn with_other_clocks(records: &[Record], stamps: &[Stamp]) -> Vec<Record> {
    let mut records = records.to_vec();
    for (record, other) in records.iter_mut().zip(stamps) {
        if let Record::Version { version, .. } = record {
            version.stamp = *other;
        }
    }
    records
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (any::<bool>(), any::<u64>()).prop_map(|(trusted, micros)| stamp(trusted, micros))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Law 4.
    #[test]
    fn every_order_that_respects_each_log_ends_in_the_same_state((one, other) in two_orders()) {
        prop_assert_eq!(one.len(), other.len());
        prop_assert_eq!(fold(&one), fold(&other));
    }

    #[test]
    fn redelivery_changes_nothing((_, records) in two_orders(), again in any::<[Index; 4]>()) {
        let mut state = FileState::default();
        for delivered in 1..=records.len() {
            records[delivered - 1].apply(&mut state);
            let before = state.clone();
            for index in again {
                let applied = records[index.index(delivered)].apply(&mut state);
                prop_assert_ne!(applied, Some(Applied::Head));
                prop_assert_eq!(&state, &before);
            }
        }
    }

    /// Law 6.
    #[test]
    fn a_version_supersedes_what_its_context_covers_whatever_the_clocks_say_and_only_that(
        (_, records) in two_orders(), stamps in prop::collection::vec(any_stamp(), 14),
    ) {
        let state = fold(&records);
        prop_assert_eq!(heads(&state), nobody_knew(&records));
        let other = fold(&with_other_clocks(&records, &stamps));
        prop_assert_eq!(heads(&state), heads(&other));
        prop_assert_eq!(state.context(), other.context());
    }

    /// Law 7, of one file's state.
    #[test]
    fn nothing_of_an_older_generation_is_ever_a_head((_, records) in two_orders()) {
        let mut state = FileState::default();
        for delivered in 1..=records.len() {
            let before = state.generation();
            let applied = records[delivered - 1].apply(&mut state);
            let newest = generation(&records[..delivered]);
            prop_assert_eq!(state.generation(), newest);
            if let Record::Version { generation, .. } = &records[delivered - 1] {
                prop_assert_eq!(applied == Some(Applied::Erased), *generation < before);
            }
            for dot in heads(&state) {
                let of_newest = |record: &Record| matches!(record,
                    Record::Version { dot: other, generation, .. }
                        if *other == dot && *generation == newest);
                prop_assert!(records.iter().any(of_newest), "{} was erased", dot);
            }
        }
    }

    #[test]
    fn what_became_of_a_version_is_told(records in records()) {
        let mut state = FileState::default();
        for record in &records {
            let applied = record.apply(&mut state);
            if let Record::Version { dot, .. } = record {
                let is_head = heads(&state).contains(dot);
                prop_assert_eq!(applied == Some(Applied::Head), is_head);
            }
        }
    }

    #[test]
    fn a_state_is_put_together_again_from_its_parts(records in records()) {
        let state = fold(&records);
        let mut parts = state.heads().to_vec();
        parts.reverse();
        let again = FileState::from_parts(state.generation(), parts, state.context().clone());
        prop_assert_eq!(again, state);
    }

    #[test]
    fn the_served_version_is_a_head_and_no_head_outranks_it(records in records()) {
        let state = fold(&records);
        let rank = |head: &Head| (
            head.body.is_some(), head.stamp.trusted, head.stamp.micros,
            head.dot.log.site.as_str().to_owned(), head.dot.log.epoch.0, head.dot.sequence,
        );
        let highest = state.heads().iter().map(rank).max();
        prop_assert_eq!(state.served().map(rank), highest);
        prop_assert_eq!(state.served().is_none(), state.heads().is_empty());
    }
}

/// A state whose heads were all written without knowledge of each other.
fn concurrent(writes: &[(usize, u64, Stamp, Option<u8>)]) -> FileState {
    let mut state = FileState::default();
    for &(log, sequence, stamp, content) in writes {
        let version = version(Context::default(), stamp, content.map(body));
        state.apply(&dot(log, sequence), 0, &version);
    }
    state
}

#[test]
fn a_body_then_trust_then_time_then_site_epoch_and_sequence_decide_what_is_served() {
    let (right, wrong) = (stamp(true, 5), stamp(false, 9));
    for (why, higher, lower) in [
        ("a body", (0, 1, wrong, Some(1)), (3, 1, stamp(true, 9), None)),
        ("a trusted clock", (0, 1, right, Some(1)), (3, 1, wrong, Some(2))),
        ("a later time", (0, 1, stamp(true, 6), Some(1)), (3, 1, right, Some(2))),
        ("a later site", (2, 1, right, Some(1)), (0, 2, right, Some(2))),
        ("a higher epoch", (0, 1, right, Some(1)), (1, 2, right, Some(2))),
        ("a higher sequence", (0, 2, right, Some(1)), (0, 1, right, Some(2))),
    ] {
        let expected = dot(higher.0, higher.1);
        // Of one log only one order can be; of two logs either.
        let orders: &[_] = if higher.0 == lower.0 {
            &[[lower, higher]]
        } else {
            &[[lower, higher], [higher, lower]]
        };
        for order in orders {
            let state = concurrent(order);
            assert_eq!(state.heads().len(), 2, "{why}");
            assert_eq!(state.served().map(|head| &head.dot), Some(&expected), "{why}");
        }
    }
}

#[test]
fn heads_with_equal_bodies_are_no_conflict() {
    let at = stamp(true, 1);
    let (one, two, deletion) = (Some(1), Some(2), None);
    for (bodies, conflict) in [
        (&[][..], false),
        (&[one], false),
        (&[one, one], false),
        (&[deletion, deletion], false),
        (&[one, two], true),
        (&[one, deletion], true),
        (&[one, one, two], true),
    ] {
        let writes: Vec<_> =
            bodies.iter().zip(0..).map(|(body, log)| (log, 1, at, *body)).collect();
        assert_eq!(concurrent(&writes).is_conflict(), conflict, "{bodies:?}");
    }
}

#[test]
fn a_body_tells_nothing_new_only_where_every_head_is_it() {
    let at = stamp(true, 1);
    let hash = |content: u8| Some(body(content).sha256);
    let two = concurrent(&[(0, 1, at, Some(1)), (1, 1, at, Some(2))]);
    let same = concurrent(&[(0, 1, at, Some(1)), (1, 1, at, Some(1))]);
    let deleted = concurrent(&[(0, 1, at, None)]);
    let unknown = FileState::default();
    let cases: [(&FileState, Option<Sha256>, bool); 8] = [
        (&two, hash(1), false),
        (&two, hash(2), false),
        (&same, hash(1), true),
        (&same, hash(2), false),
        (&same, None, false),
        (&deleted, None, true),
        (&unknown, None, false),
        (&unknown, hash(1), false),
    ];
    for (state, body, expected) in cases {
        assert_eq!(state.all_heads_are(body), expected, "{state:?} {body:?}");
    }
}
