//! The streams that peers opened, and which of them has something to do: with hundreds of peers most have not.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::LogId;

use super::{
    Engine,
    io::{Moment, SupplyId},
    logs::Logs,
    supply::Supply,
};

/// All streams that peers opened.
#[derive(Default)]
pub(crate) struct Supplies {
    all: BTreeMap<SupplyId, Supply>,
    /// Something has happened that concerns them.
    stirred: BTreeSet<SupplyId>,
    /// When time alone has them do something.
    alarms: BTreeSet<(Moment, SupplyId)>,
    alarm: BTreeMap<SupplyId, Moment>,
}

impl Supplies {
    pub(crate) fn add(&mut self, supply: Supply) {
        self.stirred.insert(supply.id);
        self.all.insert(supply.id, supply);
    }

    pub(crate) fn get(&self, id: SupplyId) -> Option<&Supply> {
        self.all.get(&id)
    }

    /// One of them, for something to happen to it.
    pub(crate) fn stir(&mut self, id: SupplyId) -> Option<&mut Supply> {
        let supply = self.all.get_mut(&id)?;
        self.stirred.insert(id);
        Some(supply)
    }

    pub(crate) fn remove(&mut self, id: SupplyId) -> Option<Supply> {
        self.stirred.remove(&id);
        if let Some(at) = self.alarm.remove(&id) {
            self.alarms.remove(&(at, id));
        }
        self.all.remove(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Supply> {
        self.all.values()
    }

    /// Some log has grown, is new, or comes another way.
    pub(crate) fn moved(&mut self, log: &LogId, logs: &Logs) {
        for (id, supply) in &mut self.all {
            supply.moved(log, logs);
            self.stirred.insert(*id);
        }
    }

    /// When the first of them has something to do though nothing happens.
    pub(crate) fn due(&self) -> Moment {
        self.alarms.first().map_or(Moment::MAX, |(at, _)| *at)
    }

    /// Takes out which of them may have something to do now.
    pub(crate) fn take_stirred(&mut self, now: Moment) -> BTreeSet<SupplyId> {
        let mut stirred = std::mem::take(&mut self.stirred);
        stirred.extend(self.alarms.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id));
        stirred
    }

    /// One of them has done what there was to do.
    pub(crate) fn rest(&mut self, id: SupplyId) {
        self.stirred.remove(&id);
        let due = self.all.get(&id).map(Supply::due).filter(|due| *due < Moment::MAX);
        let before = match due {
            Some(due) => self.alarm.insert(id, due),
            None => self.alarm.remove(&id),
        };
        if before == due {
            return;
        }
        self.alarms.extend(due.map(|due| (due, id)));
        if let Some(before) = before {
            self.alarms.remove(&(before, id));
        }
    }
}

impl Engine {
    /// Every stream does what there is to do for it now.
    pub(super) fn supply(&mut self) {
        for id in self.supplies.take_stirred(self.time.now) {
            self.with_supply(id, Supply::go_on);
            self.supplies.rest(id);
        }
    }
}
