//! Which bodies of a file's versions may go, and which always stay.
//!
//! The rule looks at a version and the one that follows it, newest first, so that a history of any length
//! is judged piece by piece. Time is the record's stamp, days are UTC's, weeks begin on Monday. Only bodies
//! go, never a place in a log (law 2); what was erased has none and is not asked about here.

use std::{fmt, time::Duration};

use crate::{Context, Dot, Stamp, limits::RETENTION_DAYS_MAX};

/// How long something is kept; none: for ever.
pub type Span = Option<Duration>;

const MICROS_A_QUARTER: u64 = 15 * 60 * 1_000_000;
const MICROS_A_DAY: u64 = 24 * 60 * 60 * 1_000_000;
const DAYS_A_WEEK: u64 = 7;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// What a realm keeps of the versions that nobody is served any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// Every version.
    pub all: Span,
    /// The last of each day.
    pub days: Span,
    /// The last of each week.
    pub weeks: Span,
    /// The last of each month.
    pub months: Span,
    /// Of versions that differ from the next one in call-log lines only, the last of each quarter of an
    /// hour is enough once they are a day old: by default a phone sends its whole file after every call.
    pub thins: bool,
}

impl Default for Retention {
    /// Every version for ever, but for thinning.
    fn default() -> Self {
        Self { all: None, days: None, weeks: None, months: None, thins: true }
    }
}

/// A text that is no retention.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "retention is a list like `all=30d,days=365d,weeks=forever,thin`: all, days, weeks and months, each with `forever` or \
     1 to {RETENTION_DAYS_MAX} days; and `thin`"
)]
pub struct InvalidRetention;

impl Retention {
    /// Reads it as it is written. Of what is not named nothing is kept for its own sake.
    ///
    /// # Errors
    /// Where a word is not known or named twice, or a number is out of bounds.
    pub fn parse(text: &str) -> Result<Self, InvalidRetention> {
        let nothing = Some(Duration::ZERO);
        let mut retention =
            Self { all: nothing, days: nothing, weeks: nothing, months: nothing, thins: false };
        for word in text.split(',') {
            let Some((name, span)) = word.split_once('=') else {
                let is_new = word == "thin" && !std::mem::replace(&mut retention.thins, true);
                is_new.then_some(()).ok_or(InvalidRetention)?;
                continue;
            };
            let place = match name {
                "all" => &mut retention.all,
                "days" => &mut retention.days,
                "weeks" => &mut retention.weeks,
                "months" => &mut retention.months,
                _ => return Err(InvalidRetention),
            };
            if std::mem::replace(place, read_span(span)?) != nothing {
                return Err(InvalidRetention);
            }
        }
        Ok(retention)
    }
}

fn read_span(text: &str) -> Result<Span, InvalidRetention> {
    if text == "forever" {
        return Ok(None);
    }
    let digits = text.strip_suffix('d').filter(|d| d.bytes().all(|byte| byte.is_ascii_digit()));
    let days: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let days = days.filter(|days| (1..=RETENTION_DAYS_MAX).contains(days));
    let seconds = days.and_then(|days| days.checked_mul(SECONDS_A_DAY));
    Ok(Some(Duration::from_secs(seconds.ok_or(InvalidRetention)?)))
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = [
            ("all", self.all),
            ("days", self.days),
            ("weeks", self.weeks),
            ("months", self.months),
        ];
        let mut words = Vec::new();
        for (name, span) in spans {
            match span {
                None => words.push(format!("{name}=forever")),
                Some(span) if span.as_secs() < SECONDS_A_DAY => {}
                Some(span) => words.push(format!("{name}={}d", span.as_secs() / SECONDS_A_DAY)),
            }
        }
        if self.thins {
            words.push("thin".to_owned());
        }
        f.write_str(&words.join(","))
    }
}

/// What becomes of a version's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It goes if it differs from that of the next version in call-log lines only; else it stays.
    Thinned,
    /// It goes.
    Dropped,
}

/// The heads of a file, each with the context that its record carries.
#[derive(Clone, Debug, Default)]
pub struct HeldBy(pub Vec<(Dot, Context)>);

impl HeldBy {
    /// Whether a version stays whatever the policy: it is a head, which is served or in conflict; or there
    /// are several heads, and it is an ancestor of all of them, which a merge begins from.
    pub fn holds(&self, dot: &Dot) -> bool {
        let is_head = self.0.iter().any(|(head, _)| head == dot);
        let are_open = self.0.len() > 1;
        is_head || (are_open && self.0.iter().all(|(_, context)| context.covers(dot)))
    }
}

impl Retention {
    /// What becomes of a version that no head [holds](HeldBy::holds), when the next one is `next`: the nearest
    /// that is newer, [counts](Self::counts) and still has its body or is a deletion. None: it is the
    /// newest, and stays.
    ///
    /// Applied again it drops nothing more, and applied daily it leaves what applying it once at the
    /// end leaves, as long as the heads are the same; a version that arrives late finds gone what went
    /// before it came.
    pub fn fate(&self, now_micros: u64, version: Stamp, next: Option<Stamp>) -> Fate {
        let Some(next) = next.filter(|_| Self::counts(now_micros, version)) else {
            return Fate::Kept;
        };
        let (at, next) = (version.micros, next.micros);
        let age = Duration::from_micros(now_micros.saturating_sub(at));
        let lasts = |span: Span| span.is_none_or(|span| age < span);
        let by_grain = lasts(self.days) && day(at) != day(next)
            || lasts(self.weeks) && week(at) != week(next)
            || lasts(self.months) && month(at) != month(next);
        if by_grain {
            return Fate::Kept;
        }
        let in_burst = at / MICROS_A_QUARTER == next / MICROS_A_QUARTER;
        let is_old = age >= Duration::from_micros(MICROS_A_DAY);
        match lasts(self.all) {
            true if self.thins && in_burst && is_old => Fate::Thinned,
            true => Fate::Kept,
            false => Fate::Dropped,
        }
    }

    /// Whether a version's stamp says when it was written. One that its origin doubted, or from the
    /// future, is kept and takes no other's place, so that a clock that is wrong keeps more.
    pub fn counts(now_micros: u64, version: Stamp) -> bool {
        version.trusted && version.micros <= now_micros
    }
}

/// Days since 1970-01-01.
fn day(micros: u64) -> u64 {
    micros / MICROS_A_DAY
}

/// Weeks since that of 1970-01-01, a Thursday.
fn week(micros: u64) -> u64 {
    day(micros).saturating_add(3) / DAYS_A_WEEK
}

/// Months since March of the year 0 in the Gregorian calendar, whose leap day is then a year's last (Howard
/// Hinnant, "chrono-compatible low-level date algorithms").
fn month(micros: u64) -> u64 {
    let days = day(micros).saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = (day_of_era / 1_460)
        .saturating_add(day_of_era / 146_096)
        .saturating_sub(day_of_era / 36_524);
    let year = day_of_era.saturating_sub(leap_days) / 365;
    let before = year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    let month = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    era.saturating_mul(400).saturating_add(year).saturating_mul(12).saturating_add(month)
}
