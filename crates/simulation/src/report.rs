//! What schedules come to, in numbers.

use std::fmt;

/// What a schedule came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Backups and deletions that were acknowledged.
    pub acknowledged: u64,
    /// Answers to phones whose freshness was held against the truth.
    pub judged: u64,
    /// Events that were simulated.
    pub events: u64,
    /// Files that had more than one head in the end.
    pub conflicts: u64,
    /// Databases that went back in time.
    pub restored: u64,
    /// Logs that forked and were set back.
    pub forked: u64,
    /// Acknowledged and lost: they had not left a site whose database went back in time.
    pub lost: u64,
    /// Acknowledged and erased by an erasure that was not known where they were taken.
    pub erased: u64,
    /// Erasures that operators ordered.
    pub erasures: u64,
    /// Sites that were retired.
    pub retired: u64,
    /// Bodies that retention dropped.
    pub pruned: u64,
    /// Rows of files that turned bad and were made anew.
    pub damaged: u64,
    /// Portions of snapshots that were sent.
    pub portions: u64,
}

impl Report {
    /// Of two schedules together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            judged: self.judged + other.judged,
            events: self.events + other.events,
            conflicts: self.conflicts + other.conflicts,
            restored: self.restored + other.restored,
            forked: self.forked + other.forked,
            lost: self.lost + other.lost,
            erased: self.erased + other.erased,
            erasures: self.erasures + other.erasures,
            retired: self.retired + other.retired,
            pruned: self.pruned + other.pruned,
            damaged: self.damaged + other.damaged,
            portions: self.portions + other.portions,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, judged, conflicts, restored, forked, lost, .. } = self;
        let Self { erasures, erased, retired, pruned, damaged, portions, events, .. } = self;
        write!(
            f,
            "{acknowledged} backups acknowledged, {judged} answers judged, {conflicts} conflicts, {restored} databases that \
             went back, {forked} forks healed, {lost} backups lost with their only site, {erasures} erasures that took \
             {erased} backups unheard of, {retired} sites retired, {pruned} bodies pruned, {damaged} damaged rows, \
             {portions} portions of snapshots, {events} events"
        )
    }
}
