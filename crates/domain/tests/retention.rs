//! The rule of retention against what it means: whole histories, judged at once and without its arithmetic.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::{collections::BTreeSet, time::Duration};

use bruri_domain::{Context, Dot, Epoch, Fate, HeldBy, LogId, Retention, SiteName, Span, Stamp};
use proptest::prelude::*;

const MINUTE: u64 = 60 * 1_000_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// 2026-01-30, a Friday: months of 28 and 31 days follow, and weeks that do not end with them.
const BEGINNING: u64 = 20_483 * DAY;

#[derive(Clone, Debug, PartialEq)]
struct Version {
    at: Stamp,
    /// What it holds but for the call log.
    contacts: u8,
    is_held: bool,
}

/// Newest first, as the rule wants them.
fn retained(retention: &Retention, now: u64, history: &[Version]) -> Vec<Version> {
    let (mut next, mut kept) = (None::<&Version>, Vec::new());
    for version in history.iter().rev() {
        let fate = retention.fate(now, version.at, next.map(|next| next.at));
        let stays = match fate {
            Fate::Kept => true,
            Fate::Thinned => next.is_none_or(|next| next.contacts != version.contacts),
            Fate::Dropped => false,
        };
        if stays || version.is_held {
            kept.push(version.clone());
        }
        if Retention::counts(now, version.at) {
            next = Some(version);
        }
    }
    kept.reverse();
    kept
}

/// (year, month) of a day, by counting.
fn month(mut day: u64) -> (u64, u64) {
    let mut year = 1970;
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (number, days) in [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
            .into_iter()
            .enumerate()
        {
            if day < days {
                return (year, number as u64);
            }
            day -= days;
        }
        year += 1;
    }
}

/// The Monday of a day's week.
fn monday(day: u64) -> u64 {
    // 1970-01-05 was one.
    (day + 3) - (day + 3) % 7
}

/// What the rule means: each grain keeps the last of each of its stretches for its span.
fn meant(retention: &Retention, now: u64, history: &[Version]) -> Vec<Version> {
    let counting: Vec<&Version> =
        history.iter().filter(|v| v.at.trusted && v.at.micros <= now).collect();
    let stays = |version: &Version| {
        let Some(place) = counting.iter().position(|other| *other == version) else { return true };
        let Some(next) = counting.get(place + 1) else { return true };
        let (at, then) = (version.at.micros, next.at.micros);
        let age = now - at;
        let lasts = |span: Span| span.is_none_or(|span| u128::from(age) < span.as_micros());
        let whole = |micros| micros / DAY;
        let of_grain = (lasts(retention.days) && whole(at) != whole(then))
            || (lasts(retention.weeks) && monday(whole(at)) != monday(whole(then)))
            || (lasts(retention.months) && month(whole(at)) != month(whole(then)));
        let last_of_quarter = at / (15 * MINUTE) != then / (15 * MINUTE);
        let thinned =
            retention.thins && age >= DAY && !last_of_quarter && next.contacts == version.contacts;
        of_grain || (lasts(retention.all) && !thinned)
    };
    history.iter().filter(|version| version.is_held || stays(version)).cloned().collect()
}

fn spans() -> impl Strategy<Value = Span> {
    let hours = |hours| Some(Duration::from_secs(hours * 3600));
    prop_oneof![Just(None), Just(hours(0)), (0..2000_u64).prop_map(hours)]
}

fn policies() -> impl Strategy<Value = Retention> {
    (spans(), spans(), spans(), spans(), any::<bool>())
        .prop_map(|(all, days, weeks, months, thins)| Retention { all, days, weeks, months, thins })
}

/// Bursts over up to a quarter of a year, oldest first, no two at one time.
fn histories() -> impl Strategy<Value = Vec<Version>> {
    let step = prop_oneof![0..20 * MINUTE, 0..2 * DAY, 0..20 * DAY];
    let version = (step, 0..3_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.9));
    prop::collection::vec(version, 0..40).prop_map(|steps| {
        let mut micros = BEGINNING;
        let place = |(step, contacts, is_held, trusted)| {
            micros += step + 1;
            Version { at: Stamp { trusted, micros }, contacts, is_held }
        };
        steps.into_iter().map(place).collect()
    })
}

/// A time within or after such a history.
fn times() -> impl Strategy<Value = u64> {
    (0..200_u64, 0..DAY).prop_map(|(days, micros)| BEGINNING + days * DAY + micros)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_grain_keeps_the_last_of_each_of_its_stretches_for_its_span(
        policy in policies(), history in histories(), now in times(),
    ) {
        prop_assert_eq!(retained(&policy, now, &history), meant(&policy, now, &history));
    }

    #[test]
    fn what_is_held_and_the_newest_always_stay(
        policy in policies(), history in histories(), now in times(),
    ) {
        let kept = retained(&policy, now, &history);
        prop_assert!(history.iter().filter(|v| v.is_held).all(|v| kept.contains(v)));
        prop_assert!(history.last().is_none_or(|newest| kept.contains(newest)));
    }

    #[test]
    fn retention_that_runs_daily_leaves_what_running_once_at_the_end_leaves(
        policy in policies(), history in histories(), now in times(), days in 1..40_u64,
    ) {
        let mut daily = history.clone();
        for day in 0..=days {
            daily = retained(&policy, now + day * DAY, &daily);
        }
        let once = retained(&policy, now + days * DAY, &history);
        prop_assert_eq!(&daily, &once);
        prop_assert_eq!(&retained(&policy, now + days * DAY, &once), &once);
    }

    #[test]
    fn what_arrives_late_costs_no_version_that_was_kept_without_it_but_by_taking_its_place(
        policy in policies(), history in histories(), now in times(),
    ) {
        // A version from the future, or one whose origin doubts its clock, takes nobody's place.
        for (trusted, micros) in [(true, now + 1), (true, u64::MAX), (false, now), (false, 0)] {
            let late = Version { at: Stamp { trusted, micros }, contacts: 9, is_held: false };
            let mut more = history.clone();
            let place = more.partition_point(|version| version.at.micros < micros);
            more.insert(place, late.clone());
            let mut expected = retained(&policy, now, &history);
            let place = expected.partition_point(|version| version.at.micros < micros);
            expected.insert(place, late);
            prop_assert_eq!(retained(&policy, now, &more), expected);
        }
    }

    #[test]
    fn by_default_all_stays_but_what_the_next_within_its_quarter_of_an_hour_holds_too(
        history in histories(), now in times(),
    ) {
        let kept = retained(&Retention::default(), now, &history);
        for (version, next) in history.iter().zip(history.iter().skip(1)) {
            let apart = next.at.micros / (15 * MINUTE) != version.at.micros / (15 * MINUTE);
            let young = now < version.at.micros + DAY;
            if young || apart && next.at.trusted {
                prop_assert!(kept.contains(version));
            }
        }
        // Whatever contacts there were, they can be put back.
        let contacts = |list: &[Version]| list.iter().map(|v| v.contacts).collect::<BTreeSet<_>>();
        prop_assert_eq!(contacts(&kept), contacts(&history));
    }
}

fn dot(sequence: u64) -> Dot {
    let log = LogId { site: SiteName::parse("london").unwrap(), epoch: Epoch(1) };
    Dot { log, sequence }
}

fn having_seen(sequences: &[u64]) -> Context {
    let mut context = Context::default();
    for sequence in sequences {
        context.add(&dot(*sequence));
    }
    context
}

#[test]
fn heads_are_held_and_the_ancestors_of_all_while_there_are_several() {
    let held = |heads: &[(u64, &[u64])]| -> Vec<u64> {
        let heads = heads.iter().map(|(head, seen)| (dot(*head), having_seen(seen))).collect();
        let held_by = HeldBy(heads);
        (1..10).filter(|sequence| held_by.holds(&dot(*sequence))).collect()
    };
    assert_eq!(held(&[]), [0; 0]);
    assert_eq!(held(&[(5, &[1, 2, 3])]), [5]);
    assert_eq!(held(&[(5, &[1, 2, 3]), (8, &[1, 2, 4])]), [1, 2, 5, 8]);
    assert_eq!(held(&[(5, &[1, 2, 3]), (8, &[1, 2, 4]), (9, &[2])]), [2, 5, 8, 9]);
}

#[test]
fn a_month_ends_where_the_calendar_says() {
    let only_months = Retention {
        all: Some(Duration::ZERO),
        days: Some(Duration::ZERO),
        weeks: Some(Duration::ZERO),
        months: None,
        thins: false,
    };
    let trusted = |micros| Stamp { trusted: true, micros };
    // The first years, those around the leap day of 2000, and around the one that 2100 does not have.
    for day in (0..1000).chain(10_900..11_300).chain(47_400..47_600) {
        let fate = only_months.fate(u64::MAX, trusted(day * DAY), Some(trusted((day + 1) * DAY)));
        assert_eq!(fate == Fate::Kept, month(day) != month(day + 1), "day {day}");
    }
}

#[test]
fn a_retention_is_read_as_it_is_written_and_only_within_its_bounds() {
    let default = "all=forever,days=forever,weeks=forever,months=forever,thin";
    assert_eq!(Retention::default().to_string(), default);
    for text in [default, "all=30d,days=365d,months=forever,thin", "weeks=1d", "thin"] {
        assert_eq!(Retention::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "all", "all=0d", "all=36501d", "all=1h", "all=1d,all=2d", "thin,thin", "x=1d"]
    {
        assert!(Retention::parse(text).is_err(), "{text}");
    }
}
