//! What happens to the sites: phones, links, clocks, erasures, failed-over databases, all by chance.

use std::rc::Rc;

use bruri_domain::{Body, Sha256, SiteName};

use super::{
    draw::Draw,
    mutant::Mutant,
    record::{FileNo, Record, Truth},
    site::{Put, Site, SiteClock},
    verdict::{Check, Verdict},
};

const PHONES: usize = 3;
const YEAR_MICROS: i64 = 31_557_600_000_000;

/// How a run differs from others of its seed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) lost_tails: bool,
    pub(crate) mutant: Option<Mutant>,
}

/// The sites of a run, and a true account of what was done to them.
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    pub(crate) files: usize,
    /// Versions that a phone got a 2xx for.
    pub(crate) acknowledged: Vec<Rc<Record>>,
    /// Erasures, each with the versions that its site knew then.
    pub(crate) erasures: Vec<(Rc<Record>, Truth)>,
    /// Records of which a lost tail took the last copy.
    pub(crate) lost: Truth,
    linked: Vec<Vec<bool>>,
    draw: Draw,
    plan: Plan,
    verdict: Verdict,
}

/// Runs one schedule and judges how it ended.
pub(crate) fn run(seed: u64, plan: Plan) -> Verdict {
    let mut draw = Draw::from_seed(seed);
    let steps = 20 + draw.below(70);
    let mut world = World::new(draw, plan);
    for step in 1..steps {
        world.step(step);
    }
    world.heal();
    let mut verdict = std::mem::take(&mut world.verdict);
    verdict.judge(&world);
    verdict
}

impl World {
    fn new(mut draw: Draw, plan: Plan) -> Self {
        let count = 2 + draw.below(4);
        let files = 1 + draw.below(3);
        let sites = (0..count)
            .map(|i| {
                let name = SiteName::parse(&format!("s{i}")).expect("a site's name");
                let clock = clock(&mut draw);
                Site::new(name, clock, files, (&mut draw, plan.mutant))
            })
            .collect();
        Self {
            sites,
            files,
            acknowledged: Vec::new(),
            erasures: Vec::new(),
            lost: Truth::new(),
            linked: vec![vec![true; count]; count],
            draw,
            plan,
            verdict: Verdict::default(),
        }
    }

    fn step(&mut self, step: usize) {
        let (dice, site) = (self.draw.below(100), self.draw.below(self.sites.len()));
        let (file, phone) = (self.draw.below(self.files), self.draw.below(PHONES));
        let put = Put { step, phone, file, body: body(step, &mut self.draw) };
        match dice {
            0..30 => {
                self.put(site, put);
            }
            30..45 => self.get_and_perhaps_put(site, put),
            45..48 => self.erase(site, step, file),
            48..59 => self.toggle_link(),
            59 => self.sites[site].clock = clock(&mut self.draw),
            62..64 => self.sites[site].get_in_vain(phone, file),
            60..62 if self.plan.lost_tails => self.lose_tail(site),
            _ => self.pull(site),
        }
        self.compare_with_the_model(site);
    }

    /// Returns the version, unless the file had this body already.
    fn put(&mut self, site: usize, put: Put) -> Option<Rc<Record>> {
        let record = self.sites[site].put(put);
        self.verdict.tally.deletions += usize::from(record.is_some() && put.body.is_none());
        self.verdict.tally.confirmed += usize::from(record.is_none());
        self.acknowledged.extend(record.clone());
        record
    }

    fn get_and_perhaps_put(&mut self, site: usize, put: Put) {
        self.sites[site].get(put.phone, put.file);
        if self.draw.percent(50) {
            return;
        }
        let record = self.put(site, put);
        let served = self.sites[site].files[put.file].state.served();
        // A file without a head is deleted as well as one whose head is a deletion.
        let as_sent = served.map_or(put.body.is_none(), |head| {
            head.body == put.body && record.as_ref().is_none_or(|record| record.dot == head.dot)
        });
        self.verdict.expect(Check::OwnWriteIsServed, as_sent, || format!("step {}", put.step));
    }

    fn erase(&mut self, site: usize, step: usize, file: FileNo) {
        let known = self.sites[site].files[file].history.values().map(|r| r.number).collect();
        let record = self.sites[site].erase(step, file);
        self.erasures.push((record, known));
        self.verdict.tally.erasures += 1;
    }

    fn toggle_link(&mut self) {
        let (a, b) = (self.draw.below(self.sites.len()), self.draw.below(self.sites.len()));
        let up = self.draw.percent(50);
        self.linked[a][b] = up;
        self.linked[b][a] = up;
    }

    fn lose_tail(&mut self, site: usize) {
        let tail = self.sites[site].lose_tail(&mut self.draw);
        self.verdict.tally.lost_tails += 1;
        for record in tail {
            if !self.is_in_a_log(&record) {
                self.lost.insert(record.number);
            }
        }
    }

    pub(crate) fn is_in_a_log(&self, record: &Rc<Record>) -> bool {
        self.sites.iter().any(|site| {
            let log = site.logs.get(&record.dot.log);
            log.is_some_and(|log| log.iter().any(|held| Rc::ptr_eq(held, record)))
        })
    }

    fn pull(&mut self, site: usize) {
        let peer = self.draw.below(self.sites.len());
        if site == peer || !self.linked[site][peer] {
            return;
        }
        let limits: &[usize] = self.draw.pick(&[&[0, 1], &[0, 1, 3], &[100]]);
        self.pull_from(site, peer, limits);
    }

    fn pull_from(&mut self, site: usize, peer: usize, limits: &[usize]) {
        if let Ok([site, peer]) = self.sites.get_disjoint_mut([site, peer]) {
            site.pull(peer, limits, &mut self.draw);
        }
    }

    /// All links are up, and every site pulls from every other until nothing can be new.
    fn heal(&mut self) {
        let count = self.sites.len();
        for _ in 0..count {
            for site in self.draw.shuffled(0..count) {
                for peer in self.draw.shuffled(0..count) {
                    self.pull_from(site, peer, &[usize::MAX]);
                }
            }
        }
        (0..count).for_each(|site| self.compare_with_the_model(site));
    }

    fn compare_with_the_model(&mut self, site: usize) {
        for replica in &self.sites[site].files {
            self.verdict.tally.conflicts += usize::from(replica.state.is_conflict());
            // A mutant differs from the model; the question is whether the truth shows that it does.
            if self.plan.mutant.is_none() {
                let difference = replica.difference();
                let same = difference.is_none();
                self.verdict.expect(Check::AsTheModel, same, || difference.unwrap_or_default());
            }
        }
    }
}

fn clock(draw: &mut Draw) -> SiteClock {
    let skew_micros = match draw.below(6) {
        0..3 => 0,
        3 => draw.between(-5_000_000, 5_000_000),
        4 => draw.between(10, 40) * YEAR_MICROS,
        _ => -draw.between(10, 40) * YEAR_MICROS,
    };
    // A clock that is decades wrong and believed is the worst that can be.
    let trusted = skew_micros.abs() < YEAR_MICROS || draw.percent(50);
    SiteClock { skew_micros, trusted }
}

/// A deletion, one of two bodies that come again and again, or one that never does.
fn body(step: usize, draw: &mut Draw) -> Option<Body> {
    let content = match draw.below(100) {
        0..12 => return None,
        12..32 => draw.below(2),
        _ => step + 2,
    };
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&content.to_le_bytes());
    Some(Body { sha256: Sha256(hash), bytes: 1 })
}
