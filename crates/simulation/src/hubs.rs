//! Many offices around a few hubs: who has what when, over how many sites it comes, and what it costs.

use std::{fmt, ops::Range};

use bruri_domain::LogId;
use bruri_replication::engine::io::Job;

use crate::{Broken, Options, names, network::PING_BYTES, world::World};

const SECOND: u64 = 1_000_000;
/// How often it is looked whether all have all.
const LOOK_MICROS: u64 = SECOND / 4;
/// How long all may need to have what everyone wrote.
const ALL_HAVE_MICROS: u64 = 120 * SECOND;
/// After so long logs come the shortest way: links count as good after 10 s.
const SETTLED_MICROS: u64 = 30 * SECOND;
const IDLE_SECONDS: u64 = 20;

/// Sites through which a version may come, its origin and its last one among the ends.
pub const HOPS_MAX: u32 = 3;
/// Bytes that a site may send in a second while nothing happens, on average.
pub const IDLE_BYTES_MAX: u64 = 1000;
/// Simulated time after which the loss of a hub may not be felt any more.
pub const HEALED_MICROS: u64 = 5 * SECOND;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    sites: usize,
    hubs: usize,
    /// From the first word to all having what each wrote.
    began_micros: u64,
    /// From a second version of each to all having all.
    spread_micros: u64,
    hops: u32,
    /// Bytes a second that a site sends while nothing happens, on average over all.
    idle_bytes: u64,
    idle_bytes_hub: u64,
    /// Age of what the site knew of the others that knew it worst.
    age_micros: u64,
    healed_micros: u64,
    events: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: u64| {
            format!("{:.2} s", f64::from(u32::try_from(micros / 1000).unwrap_or(u32::MAX)) / 1000.0)
        };
        write!(
            f,
            "{} sites, {} of them hubs: all had a version of each {} after the first word; a second one of each was everywhere \
             after {}, through at most {} hops; idle, a site sends {} bytes a second, a hub {}, and knows the others as of {} ago at \
             most; a hub lost, all others had what was written at that moment after {}; {} events",
            self.sites,
            self.hubs,
            seconds(self.began_micros),
            seconds(self.spread_micros),
            self.hops,
            self.idle_bytes,
            self.idle_bytes_hub,
            seconds(self.age_micros),
            seconds(self.healed_micros),
            self.events
        )
    }
}

/// Runs offices around hubs: each writes, all rest, each writes again, and a hub is lost.
///
/// # Errors
/// What took too long, or cost too much.
pub fn run(options: &Options) -> Result<Outcome, Broken> {
    let (sites, hubs) = (options.sites, options.hubs);
    let mut world = World::new(options);
    world.run_for(2 * SECOND)?;
    world.everyone_writes(0..sites)?;
    world.until_all_have("what each wrote", 0..sites)?;
    let began_micros = world.now;
    world.run_for(SETTLED_MICROS)?;
    world.nobody_is_away()?;
    let traffic = world.idle_traffic()?;
    let age_micros = world.worst_age()?;
    let (hops, spread_micros) = world.longest_path()?;
    let healed_micros = world.loses_a_hub()?;
    let hub_bytes: u64 = traffic.iter().take(hubs).sum();
    Ok(Outcome {
        sites,
        hubs,
        began_micros,
        spread_micros,
        hops,
        idle_bytes: traffic.iter().sum::<u64>() / sites as u64,
        idle_bytes_hub: hub_bytes / hubs.max(1) as u64,
        age_micros,
        healed_micros,
        events: world.report.events,
    })
}

impl Outcome {
    /// Holds it against its bounds.
    ///
    /// # Errors
    /// What was too much.
    pub fn judge(&self) -> Result<(), Broken> {
        let too_much = |what: &str| Err(Broken::new(4, format!("{what}: {self}")));
        if self.hops > HOPS_MAX {
            return too_much("more hops than allowed");
        }
        if self.idle_bytes > IDLE_BYTES_MAX {
            return too_much("more idle traffic than allowed");
        }
        if self.healed_micros > HEALED_MICROS {
            return too_much("the loss of a hub was felt for too long");
        }
        Ok(())
    }
}

impl World {
    fn run_for(&mut self, micros: u64) -> Result<(), Broken> {
        let end = self.now + micros;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    /// Each of these writes a version of its own user's file.
    fn everyone_writes(&mut self, sites: Range<usize>) -> Result<(), Broken> {
        sites.into_iter().try_for_each(|site| self.put(site, site, &names::phone(site)))
    }

    /// Runs until these sites have the same; returns how long that took.
    fn until_all_have(&mut self, what: &str, sites: Range<usize>) -> Result<u64, Broken> {
        let began = self.now;
        while !self.have_the_same(sites.clone()) {
            self.run_for(LOOK_MICROS)?;
            if self.now - began > ALL_HAVE_MICROS {
                let how = format!("not all have {what} after {} s", ALL_HAVE_MICROS / SECOND);
                return Err(Broken::new(4, how));
            }
        }
        Ok(self.now - began)
    }

    fn have_the_same(&self, sites: Range<usize>) -> bool {
        let vector = |site: usize| {
            let cursors = self.sites[site].memory.cursors().into_iter();
            cursors.filter(|cursor| cursor.sequence > 0).map(|c| (c.log.id, c.sequence, c.chain.0))
        };
        let mut first: Vec<_> = vector(sites.start).collect();
        first.sort();
        sites.skip(1).all(|site| {
            let mut vector: Vec<_> = vector(site).collect();
            vector.sort();
            vector == first
        })
    }

    fn nobody_is_away(&self) -> Result<(), Broken> {
        for site in &self.sites {
            let away = site.process.as_ref().map(|process| process.engine.away());
            if let Some(gone) = away.and_then(|away| away.first()) {
                let how = format!("{} takes {gone} for away though nothing is wrong", site.name);
                return Err(Broken::new(5, how));
            }
        }
        Ok(())
    }

    /// Bytes a second that each site sends while nothing happens.
    fn idle_traffic(&mut self) -> Result<Vec<u64>, Broken> {
        self.traffic = Some(vec![0; self.sites.len()]);
        self.run_for(IDLE_SECONDS * SECOND)?;
        let mut traffic = self.traffic.take().unwrap_or_default();
        for connection in self.connections.values() {
            // Each end sends one half.
            for end in [connection.client, connection.server] {
                traffic[end] +=
                    PING_BYTES / 2 * IDLE_SECONDS / bruri_domain::limits::PEER_PING_SECONDS;
            }
        }
        Ok(traffic.into_iter().map(|bytes| bytes / IDLE_SECONDS).collect())
    }

    /// How old what a site knows of the others is, at most.
    fn worst_age(&mut self) -> Result<u64, Broken> {
        let mut worst = 0;
        for site in &mut self.sites {
            let Some(process) = &mut site.process else { continue };
            let until = process.engine.fresh_until();
            let until = until.map(|until| process.began + crate::world::micros(until));
            let until = until.ok_or_else(|| {
                Broken::new(5, format!("{} does not know how fresh it is", site.name))
            })?;
            worst = worst.max(self.now.saturating_sub(until));
        }
        Ok(worst)
    }

    /// Through how many sites a version comes, at most, and how long it takes.
    fn longest_path(&mut self) -> Result<(u32, u64), Broken> {
        self.paths = Some(std::collections::BTreeMap::new());
        let all = 0..self.sites.len();
        self.everyone_writes(all.clone())?;
        let took = self.until_all_have("a second version of each", all)?;
        let paths = self.paths.take().unwrap_or_default();
        Ok((paths.into_values().max().unwrap_or(0), took))
    }

    /// Notes from whom a site takes records of a log.
    pub(crate) fn note_path(&mut self, number: usize, job: &Job) {
        let Some(paths) = &mut self.paths else { return };
        let Job::Apply { from, peer, .. } = job else { return };
        let log: &LogId = &from.log.id;
        let before =
            names::number(peer).and_then(|there| paths.get(&(there, log.clone()))).copied();
        paths.insert((number, log.clone()), before.unwrap_or(0) + 1);
    }

    /// The first hub falls silent, and at that moment each of the others writes once more; returns how long it takes until
    /// all of them have that.
    fn loses_a_hub(&mut self) -> Result<u64, Broken> {
        for other in 1..self.sites.len() {
            self.lines.cut.insert((0, other));
            self.lines.cut.insert((other, 0));
        }
        let others = 1..self.sites.len();
        self.everyone_writes(others.clone())?;
        self.until_all_have("what was written when a hub was lost", others)
    }
}
