//! Databases that go back in time, and logs that fork for it.

use std::collections::BTreeSet;

use bruri_domain::{
    Chain, Cursor, LogId,
    fork::{Parting, Search},
    mutant::{self, Mutant},
};
use bruri_replication::{
    engine::io::{Input, Job, LinkId},
    store::Store as _,
};
use futures_util::FutureExt as _;
use rand::Rng as _;

use crate::{
    epochs::Restored,
    memory::Memory,
    world::{What, World},
};

impl World {
    /// A copy of a site's database is made, to be put back some time.
    pub(crate) fn take_dump(&mut self, number: usize) {
        let site = &mut self.sites[number];
        site.dump = Some((site.memory.dump(), self.truth.phones_of(number)));
    }

    /// A site's database goes back to the last copy; what it had taken since and nobody else has may be lost.
    pub(crate) fn restore(&mut self, number: usize, down_micros: u64) {
        // One that goes back again while its fork is being healed appends its branch twice.
        if self.sites[number].went_back {
            return;
        }
        if self.is_ahead_somewhere() {
            return;
        }
        let Some((dump, phones)) = self.sites[number].dump.clone() else {
            return self.take_dump(number);
        };
        self.sites[number].went_back = true;
        let how = match self.rng.random_range(0..6) {
            0 => Restored::Promoted,
            1 => Restored::DumpPutBack,
            // A branch that took the void one from a hub is not told by the origin to drop it.
            _ if self.options.hubs > 0 => Restored::Promoted,
            // What a retired site had seen of the branch that is lost nobody can tell.
            _ if self.retired.is_some() => Restored::Promoted,
            // Of what was only read of it nobody would tell, alone.
            2 | 3 if !self.was_read(number) => Restored::VolumePutBack,
            _ => Restored::RolledBack,
        };
        // Where a standby takes over, the process may go on with it.
        let goes_on = how == Restored::Promoted && self.rng.random_bool(0.5);
        if !goes_on {
            self.crash(number, down_micros);
        }
        if matches!(how, Restored::RolledBack | Restored::VolumePutBack) {
            self.part(number);
        }
        self.sites[number].memory.restore(dump, how);
        self.truth.put_back(number, phones);
        let anywhere: BTreeSet<[u8; 16]> =
            self.sites.iter().flat_map(|site| site.memory.all_held()).collect();
        let there = self.sites[number].memory.all_known();
        self.truth.went_back(&there, &anywhere);
        self.report.restored += 1;
        if goes_on {
            // It polls the counters.
            self.input_now(number, Input::Changed);
        }
    }

    /// Whether a state that came with a snapshot knows of records that are not here yet: with their origin they may go
    /// for good, and then no two sites come to the same.
    pub(crate) fn is_ahead_somewhere(&self) -> bool {
        self.sites.iter().any(|site| !site.memory.is_filled() || site.memory.is_ahead())
    }

    /// Whether phones elsewhere were answered with numbers of its logs of which there is no record yet.
    fn was_read(&self, number: usize) -> bool {
        let name = &self.sites[number].name;
        self.sites.iter().any(|site| !site.memory.lock().told(name).is_empty())
    }

    /// Some lines of a site are cut: a log forks only where nobody tells its origin what it lost.
    fn part(&mut self, number: usize) {
        for other in (0..self.sites.len()).filter(|other| *other != number) {
            if self.rng.random_bool(0.5) {
                self.lines.cut.extend([(number, other), (other, number)]);
            }
        }
    }

    /// Whether a process dies in the middle of a batch; only a store that moves the cursor first minds.
    pub(crate) fn dies_in(&mut self, number: usize, job: &Job) -> bool {
        let can_die = mutant::is(Mutant::CursorFirst) && matches!(job, Job::Apply { .. });
        let dies = can_die && self.rng.random_ratio(1, 50);
        self.sites[number].memory.beside().dies = dies;
        dies
    }

    /// Compares our branch of a log with the peer's and sets ours back, as the shell of the engine does.
    pub(crate) fn settle(&mut self, number: usize, incarnation: u64, link: LinkId, log: LogId) {
        if self.alive(number, incarnation).is_none() {
            return;
        }
        let place = usize::try_from(link.0).unwrap_or(usize::MAX);
        let peer = self.sites[number].peers.get(place).copied().unwrap_or(number);
        let cut = self.is_cut(number, peer) || self.is_cut(peer, number);
        let error = if cut || self.sites[peer].process.is_none() {
            Some("no answer".to_owned())
        } else {
            self.set_back(number, peer, &log).err().map(str::to_owned)
        };
        self.input(number, incarnation, Input::Settled { link, log, error });
    }

    /// Branches that gave way are dropped, of which their sites told.
    pub(crate) fn keep_to_branches(&mut self, number: usize, incarnation: u64) {
        if self.alive(number, incarnation).is_none() {
            return;
        }
        if self.sites[number].stalled_until > self.now {
            return self.after(100_000, What::KeepToBranches { site: number, incarnation });
        }
        if self.sites[number].memory.keep_to_staying_branches() {
            self.note_effects(number);
            self.tell_soon(number, Input::Changed);
        }
    }

    fn set_back(&mut self, number: usize, peer: usize, log: &LogId) -> Result<(), &'static str> {
        let (ours, theirs) = (&self.sites[number].memory, &self.sites[peer].memory);
        ours.end_snapshot();
        let Some(end) = ours.cursors().into_iter().find(|cursor| cursor.log.id == *log) else {
            return Ok(());
        };
        let (mut search, mut forked_at) = (Search::within(end.sequence), None);
        loop {
            let probes = search.probes();
            if probes.is_empty() {
                break;
            }
            let mut compared = Vec::new();
            for sequence in probes {
                let place = Cursor { sequence, ..end.clone() };
                let (ours, theirs) = (chain_at(ours, &place)?, chain_at(theirs, &place)?);
                if let Some(theirs) = theirs.filter(|_| theirs != ours)
                    && forked_at.is_none_or(|(at, _)| sequence < at)
                {
                    forked_at = Some((sequence, theirs));
                }
                compared.push((sequence, ours == theirs));
            }
            search.narrow(compared);
        }
        let place = Cursor { sequence: search.common(), ..end };
        let Some((_, stays)) = forked_at.filter(|(at, _)| *at == place.sequence + 1) else {
            return Ok(());
        };
        let Some(chain) = chain_at(ours, &place)? else { return Ok(()) };
        let parting = Parting { common: Cursor { chain, ..place }, stays };
        let told = (self.rng.random(), self.stamp(number));
        if let Some(moved) = self.sites[number].memory.set_back(&parting, told) {
            self.truth.moved(moved);
            self.report.forked += 1;
            self.note_effects(number);
        }
        Ok(())
    }
}

/// The chain there; none where the log is not so long, an error where history is missing.
fn chain_at(memory: &Memory, place: &Cursor) -> Result<Option<Chain>, &'static str> {
    let chain = memory.chain_at(place).now_or_never();
    chain.map_or(Err("no answer"), |chain| chain.map_err(|_| "history is missing"))
}
