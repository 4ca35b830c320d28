//! Operators who erase, lift and retire; and what sites do by themselves: receipts and retention.

use std::collections::BTreeSet;

use bruri_domain::{FileId, Random, Stamp};
use bruri_replication::engine::io::Input;
use rand::Rng as _;

use crate::{
    Broken, names,
    world::{What, World},
};

/// How often a site looks for what it has to do.
const LOOK_MICROS: u64 = 1_000_000;

/// An erasure that an operator was told is done.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    pub(crate) random: Random,
    pub(crate) site: usize,
    pub(crate) files: Vec<FileId>,
    /// What is older is erased.
    pub(crate) generation: u64,
    /// What was known of them there.
    pub(crate) known: BTreeSet<Random>,
}

impl World {
    /// An operator erases a user's extension at some site, or lifts the bar.
    pub(crate) fn erase_or_lift(&mut self, number: usize) {
        let user = self.rng.random_range(0..self.options.users);
        let (random, lifts): (Random, bool) = (self.rng.random(), self.rng.random_bool(0.5));
        let (file, stamp) = (names::file(user), self.stamp(number));
        let memory = &self.sites[number].memory;
        if lifts && memory.lift(&file, random, stamp) {
            return self.changed(number);
        }
        let users = (0..self.options.users).map(names::file);
        let files: Vec<FileId> = users.filter(|other| other.subject() == file.subject()).collect();
        let known = files.iter().flat_map(|file| memory.known(file).into_keys()).collect();
        let held = files.iter().map(|file| memory.look(file).state.generation());
        let generation = held.max().unwrap_or(0) + 1;
        memory.erase(&file, random, stamp);
        self.truth.ordered(Ordered { random, site: number, files, generation, known });
        self.report.erasures += 1;
        self.changed(number);
    }

    /// An operator retires a site, once in a schedule.
    pub(crate) fn retire(&mut self, at: usize, site: usize) {
        let hubs = self.options.hubs;
        let is_last = self.sites.len() < 3;
        if self.retired.is_some() || is_last || at == site || site < hubs {
            return;
        }
        self.retired = Some(site);
        let (random, stamp) = (self.rng.random(), self.stamp(at));
        self.sites[at].memory.retire(&names::site(site), random, stamp);
        self.report.retired += 1;
        self.changed(at);
    }

    pub(crate) fn stamp(&self, number: usize) -> Stamp {
        let clock = &self.sites[number].clock;
        let micros = clock.issuer.issue(clock.wall(self.now));
        Stamp { micros, trusted: clock.trusted }
    }

    /// Something was written at a site by its own.
    fn changed(&mut self, number: usize) {
        self.note_effects(number);
        self.input_now(number, Input::Changed);
    }

    /// What records that were applied change beside the store: what phones had seen, and who is let in.
    pub(crate) fn note_effects(&mut self, number: usize) {
        let site = &mut self.sites[number];
        let (forgotten, members) = (site.memory.take_forgotten(), site.memory.members());
        self.truth.forget_phones(number, &forgotten);
        if site.process.is_none() {
            return;
        }
        if site.memory.has_due_partings() {
            let (takes, incarnation) = (self.rng.random_range(0..300_000), site.incarnation);
            self.after(takes, What::KeepToBranches { site: number, incarnation });
        }
        let Some(process) = &mut self.sites[number].process else { return };
        if process.members != members {
            process.members = members.clone();
            self.tell_soon(number, Input::Members(members));
        }
    }

    /// A site gives its receipts and drops what retention lets go; then it rests a second.
    pub(crate) fn look_after(&mut self, number: usize, incarnation: u64) {
        if self.alive(number, incarnation).is_none() {
            return;
        }
        self.after(LOOK_MICROS, What::LookAfter { site: number, incarnation });
        let site = &self.sites[number];
        if site.stalled_until > self.now || !site.memory.gate_is_open() {
            return;
        }
        if let Some(retention) = &self.options.retention {
            let wall = site.clock.wall(self.now);
            self.report.pruned += site.memory.prune(retention, wall);
        }
        let mut has_given = false;
        while let Some(erasure) = self.sites[number].memory.due_receipt() {
            let (random, stamp) = (self.rng.random(), self.stamp(number));
            self.sites[number].memory.give_receipt(erasure, random, stamp);
            has_given = true;
        }
        if has_given {
            self.changed(number);
        }
    }

    /// Whether a site was retired, and that was not forgotten with a database that went back.
    pub(crate) fn is_retired(&self, number: usize) -> bool {
        let name = names::site(number);
        self.retired == Some(number)
            && (0..self.sites.len())
                .filter(|other| *other != number)
                .any(|other| self.sites[other].memory.members().admits(&name).is_err())
    }

    /// The sites that belong to the deployment.
    pub(crate) fn members(&self) -> Vec<usize> {
        (0..self.sites.len()).filter(|number| !self.is_retired(*number)).collect()
    }

    /// Nothing that was erased comes back once the erasure is known there (law 7).
    pub(crate) fn judge_erased(
        &self,
        number: usize,
        file: &FileId,
        known: &BTreeSet<Random>,
    ) -> Result<(), Broken> {
        let site = &self.sites[number];
        let of_file = self.truth.erasures().iter().filter(|ordered| ordered.files.contains(file));
        let ours = of_file.filter(|ordered| site.memory.knows_erasure(&ordered.random));
        let floor = ours.map(|ordered| ordered.generation).max().unwrap_or(0);
        let is_old = |random: &&Random| self.truth.generation_of(random).is_some_and(|g| g < floor);
        match known.iter().find(is_old) {
            Some(_) => {
                let how = format!("{file}: what was erased is back at {}", site.name);
                Err(Broken::new(7, how))
            }
            None => Ok(()),
        }
    }

    /// Erasures at the end: known everywhere, carried out and receipted by each site.
    pub(crate) fn judge_erasures(&mut self) -> Result<(), Broken> {
        let members = self.members();
        for number in &members {
            let site = &self.sites[*number];
            if site.memory.holds_erased() {
                return Err(Broken::new(7, format!("{} holds what was erased", site.name)));
            }
            for user in 0..self.options.users {
                let file = names::file(user);
                let known = site.memory.known(&file).into_keys().collect();
                self.judge_erased(*number, &file, &known)?;
            }
            for ordered in self.truth.erasures() {
                self.judge_ordered(*number, ordered, &members)?;
            }
        }
        Ok(())
    }

    fn judge_ordered(
        &self,
        number: usize,
        ordered: &Ordered,
        members: &[usize],
    ) -> Result<(), Broken> {
        let (site, origin) = (&self.sites[number], &self.sites[ordered.site]);
        if !site.memory.knows_erasure(&ordered.random) {
            // It was lost with the only database that knew it.
            let may_lack = origin.went_back || self.is_retired(ordered.site);
            let how = format!("{} lacks an erasure that {} ordered", site.name, origin.name);
            return if may_lack { Ok(()) } else { Err(Broken::new(1, how)) };
        }
        let receipts = site.memory.receipts(&ordered.random);
        for member in members {
            let given = receipts.get(&names::site(*member)).copied().unwrap_or(0);
            if given == 0 || (given > 1 && !self.sites[*member].went_back) {
                let how = format!("{given} receipts of {} for an erasure", names::site(*member));
                return Err(Broken::new(7, how));
            }
        }
        Ok(())
    }
}
