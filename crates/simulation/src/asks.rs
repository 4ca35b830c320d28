//! A read that asks the other sites, in an instant, over the lines that are open.

use std::{cmp::Ordering, collections::BTreeSet, time::Duration};

use bruri_domain::{
    FileId, SiteName,
    mutant::{self, Mutant},
};

use crate::{Broken, memory::Served, names, world::World};

impl World {
    /// What a phone gets at a site that asks all the others which are not away; none where one of them has not told.
    pub(crate) fn asked(&mut self, number: usize, file: &FileId) -> Option<Served> {
        let process = self.sites.get_mut(number)?.process.as_mut()?;
        let now = Duration::from_micros(self.now - process.began);
        let standing = process.engine.standing(now, |_| true);
        let site = self.sites.get(number)?;
        let (mut told, mut told_by) = (site.memory.look(file), BTreeSet::new());
        for way in &standing.ways {
            let Some((peer, theirs)) = self.told_over(number, &way.site, file) else { continue };
            join(&mut told, theirs);
            told_by.insert(way.site.clone());
            for behind in &way.forward {
                if let Some((_, theirs)) = self.told_over(peer, behind, file) {
                    join(&mut told, theirs);
                    told_by.insert(behind.clone());
                }
            }
        }
        let is_complete = standing.strangers == 0 && standing.needed.is_subset(&told_by);
        if mutant::is(Mutant::AnswersStored) && is_complete {
            site.memory.store_answer(file, &told.state);
        }
        is_complete.then_some(told)
    }

    /// What a site tells one that dials it.
    fn told_over(&self, from: usize, name: &SiteName, file: &FileId) -> Option<(usize, Served)> {
        let peers = &self.sites.get(from)?.peers;
        let to = peers.iter().copied().find(|peer| names::site(*peer) == *name)?;
        let site = self.sites.get(to)?;
        let answers = site.process.is_some() && site.stalled_until <= self.now;
        let reached = !self.is_cut(from, to) && !self.is_cut(to, from);
        (answers && reached).then(|| (to, site.memory.look(file)))
    }

    /// All that the sites have which are not away is in an answer that says that they were asked.
    pub(crate) fn judge_asked(
        &self,
        number: usize,
        file: &FileId,
        told: &Served,
    ) -> Result<(), Broken> {
        let site = &self.sites[number];
        let Some(process) = &site.process else { return Ok(()) };
        // A site of which nothing was ever heard is no site yet.
        let heard: BTreeSet<_> = site.memory.cursors().into_iter().map(|c| c.log.id.site).collect();
        let present = |other: &usize| {
            let name = names::site(*other);
            let away = process.engine.away().contains(&name);
            heard.contains(&name) && !away && !self.is_retired(*other)
        };
        for other in (0..self.sites.len()).filter(present) {
            let theirs = self.sites[other].memory.look(file);
            let is_older = theirs.state.generation() < told.state.generation();
            if !is_older && !theirs.known.is_subset(&told.known) {
                let how =
                    format!("{file}: asked at {}, but {} has more", site.name, names::site(other));
                return Err(Broken::new(5, how));
            }
        }
        Ok(())
    }
}

/// Of two generations the newer counts.
fn join(told: &mut Served, theirs: Served) {
    let (ours, generation) = (told.state.generation(), theirs.state.generation());
    told.state = told.state.joined(&theirs.state);
    match ours.cmp(&generation) {
        Ordering::Less => told.known = theirs.known,
        Ordering::Equal => told.known.extend(theirs.known),
        Ordering::Greater => {}
    }
}
