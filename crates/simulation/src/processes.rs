//! Processes: they start, die with all that was under way in them, and start again.

use std::collections::BTreeMap;

use bruri_domain::{
    DeploymentKey, Membership,
    limits::{PEER_ANSWER_MILLIS_MAX, SNAPSHOT_LAG_RECORDS_DEFAULT},
};
use bruri_replication::{
    engine::{Engine, Identity, io::Input},
    store::with_open,
};
use rand::Rng as _;

use crate::{
    network::Connection,
    site::Process,
    world::{KEY, What, World},
};

impl World {
    pub(crate) fn start(&mut self, number: usize) {
        let seed = self.rng.random();
        let Some(site) = self.sites.get_mut(number).filter(|site| site.process.is_none()) else {
            return;
        };
        let identity = Identity {
            site: site.name.clone(),
            key_check: DeploymentKey::new(KEY).check(),
            release: "0.1.0".to_owned(),
        };
        let links = u32::try_from(site.peers.len()).unwrap_or(0);
        site.memory.open();
        let vector = with_open(&site.memory, site.memory.cursors());
        let mut engine = Engine::new(&identity, vector, links, seed);
        let beyond = self.options.snapshots.map(|snapshots| snapshots.beyond);
        engine.snapshot_beyond(beyond.unwrap_or(SNAPSHOT_LAG_RECORDS_DEFAULT));
        site.process = Some(Process {
            engine,
            began: self.now,
            due: None,
            supplies: BTreeMap::new(),
            supplied: 0,
            connections: BTreeMap::new(),
            members: Membership::default(),
        });
        let incarnation = site.incarnation;
        self.note_effects(number);
        self.after(1_000_000, What::LookAfter { site: number, incarnation });
        self.after(0, What::Due { site: number, incarnation });
        // No peer may ever answer.
        let patience = PEER_ANSWER_MILLIS_MAX * 1000;
        self.after(patience, What::OpenGate { site: number, incarnation });
    }

    /// A process dies at once, with all that was under way in it.
    pub(crate) fn crash(&mut self, number: usize, down_micros: u64) {
        let Some(site) = self.sites.get_mut(number).filter(|site| site.process.is_some()) else {
            return;
        };
        site.process = None;
        site.incarnation += 1;
        let theirs = |(id, c): (&u64, &Connection)| {
            (c.client == number || c.server == number).then_some(*id)
        };
        let ended: Vec<u64> = self.connections.iter().filter_map(theirs).collect();
        for connection in ended {
            self.close(connection);
        }
        self.after(down_micros, What::Restart { site: number });
    }

    pub(crate) fn alive(&mut self, site: usize, incarnation: u64) -> Option<&mut Process> {
        let site = self.sites.get_mut(site)?;
        site.process.as_mut().filter(|_| site.incarnation == incarnation)
    }

    pub(crate) fn tick(&mut self, site: usize, incarnation: u64) {
        let now = self.now;
        let Some(process) = self.alive(site, incarnation) else { return };
        if process.due.is_some_and(|due| due <= now) {
            process.due = None;
        }
        self.input(site, incarnation, Input::Tick);
    }
}
