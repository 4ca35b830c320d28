//! Damaged rows: a file's state that is not what its checksum says. Whoever reads it has it made anew from its records.

use std::collections::BTreeSet;

use bruri_domain::{
    Context, DeploymentKey, FileId, FileState,
    mutant::{self, Mutant},
};
use rand::{Rng as _, seq::IteratorRandom as _};

use crate::{
    memory::{Memory, Tables},
    world::World,
};

impl World {
    /// Some file's row at a site turns bad.
    pub(crate) fn damage(&mut self, site: usize) {
        let memory = &self.sites[site].memory;
        if !memory.is_filled() {
            // It is served again only once all records are here.
            return;
        }
        let Some(file) = memory.files().into_keys().choose(&mut self.rng) else { return };
        let keeps_context = self.rng.random_bool(0.5);
        memory.damage(&file, keeps_context);
        self.report.damaged += 1;
    }
}

impl Memory {
    /// A row loses the heads that its context covers, or all that it held. Whoever reads it finds that its checksum is
    /// wrong.
    fn damage(&self, file: &FileId, keeps_context: bool) {
        let mut tables = self.lock();
        let Some(state) = tables.files.get_mut(file) else { return };
        let context = if keeps_context { state.context().clone() } else { Context::default() };
        *state = FileState::from_parts(state.generation(), Vec::new(), context);
        tables.damaged.insert(file.clone());
    }
}

impl Tables {
    /// Makes the damaged rows anew, before anybody reads one.
    pub(crate) fn mend(&mut self, key: &DeploymentKey) {
        let damaged: BTreeSet<FileId> = std::mem::take(&mut self.damaged);
        for file in &damaged {
            let row = self.files.get(file).cloned().unwrap_or_default();
            self.rebuild(file, key);
            if mutant::is(Mutant::RepairedMerged)
                && let Some(state) = self.files.get_mut(file)
            {
                *state = state.joined(&row);
            }
        }
    }
}
