//! What a schedule is: drawn from a seed, so that a failure can be run again.

use std::time::Duration;

use bruri_domain::Retention;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::snapshots::Snapshots;

/// A schedule. Times are simulated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Everything else is drawn from it.
    pub seed: u64,
    /// Sites.
    pub sites: usize,
    /// Users, each with one file.
    pub users: usize,
    /// Phones; each stands at one site.
    pub phones: usize,
    /// Milliseconds of phones and faults; then all is healed.
    pub millis: u64,
    /// What phones and faults do, on average each so many milliseconds.
    pub pause_millis: u64,
    /// Milliseconds one way, at most.
    pub delay_millis: u64,
    /// Chances in a hundred that an action is a cut, a crash, a stall of a store, and so on.
    pub faults: Faults,
    /// How far each site's clock is off, in seconds.
    pub skew_seconds: Vec<i64>,
    /// The first site runs a later release, which writes records of a kind that the others do not know.
    pub later_release: bool,
    /// So many sites, the first, are hubs: they dial all who dial them, and every other one dials two of them. None: each
    /// dials all.
    pub hubs: usize,
    /// Sites that are far behind take snapshots; never together with databases that go back in time.
    pub snapshots: Option<Snapshots>,
    /// What each site keeps of versions that nobody is served any more; none for all.
    pub retention: Option<Retention>,
    /// A site is retired some time.
    pub retires: bool,
}

/// Weights among a hundred actions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// A line is cut or mended, in one direction or both.
    pub cuts: u32,
    /// A process crashes; it comes back.
    pub crashes: u32,
    /// A line becomes slow or fast.
    pub slow: u32,
    /// A store does not answer for a while.
    pub stalls: u32,
    /// An answer to a phone is lost on the way.
    pub lost_answers: u32,
    /// More versions are written at once than a live stream catches up with.
    pub bursts: u32,
    /// A database is copied, or goes back to its copy.
    pub restores: u32,
    /// A record of a kind that only a later release knows is written.
    pub unknown: u32,
    /// An operator erases an extension, or lets it in again.
    pub erasures: u32,
    /// A file's row in a database turns bad.
    pub damage: u32,
}

/// Hubs that a site dials which is none.
const HUBS_DIALLED: usize = 2;
const DECADES: i64 = 1_000_000_000;

impl Options {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let sites = rng.random_range(2..=5);
        let mut one_in = |n: u32| rng.random_ratio(1, n);
        let (later_release, hubs) = (one_in(4), if sites > 2 && one_in(3) { 2 } else { 0 });
        let mut up_to = |most: u32| rng.random_range(0..=most);
        let faults = Faults {
            cuts: up_to(14),
            crashes: up_to(5),
            slow: up_to(4),
            stalls: up_to(4),
            lost_answers: up_to(12),
            bursts: up_to(1),
            restores: up_to(4).saturating_sub(1),
            unknown: up_to(10),
            erasures: 0,
            damage: 0,
        };
        let skew = |rng: &mut StdRng| match rng.random_range(0..6) {
            0 => rng.random_range(-5..=5),
            1 => DECADES,
            2 => -DECADES,
            _ => 0,
        };
        let mut drawn = Self {
            seed,
            sites,
            users: rng.random_range(1..=3),
            phones: rng.random_range(sites..=sites * 3),
            millis: rng.random_range(3_000..=25_000),
            pause_millis: rng.random_range(30..=400),
            delay_millis: [0, 1, 10, 50, 200][rng.random_range(0..5)],
            faults,
            skew_seconds: (0..sites).map(|_| skew(&mut rng)).collect(),
            later_release,
            hubs,
            snapshots: None,
            retention: None,
            retires: false,
        };
        // Drawn last, so that a seed's other options stay as they were.
        drawn.faults.erasures = rng.random_range(0..=5_u32).saturating_sub(2);
        let seconds = rng.random_range(1..=8);
        drawn.retention = rng.random_ratio(1, 3).then(|| short(Duration::from_secs(seconds)));
        drawn.retires = sites > 2 && rng.random_ratio(1, 5);
        if rng.random_ratio(1, 6) {
            // Logs seldom fork, so in some schedules little else happens.
            drawn.faults.restores = rng.random_range(4..=12);
        }
        drawn.faults.damage = rng.random_range(0..=3_u32).saturating_sub(1);
        drawn.snapshots = Snapshots::draw(seed, drawn.millis);
        // A head that came ahead of its log may be the only trace of what a database lost; then only the log's site can
        // say that it is to be written again.
        drawn.retires &= drawn.snapshots.is_none() || drawn.faults.restores == 0;
        drawn
    }
}

impl Options {
    /// Offices around hubs, without phones and faults.
    #[must_use]
    pub fn around_hubs(seed: u64, sites: usize, hubs: usize) -> Self {
        Self {
            sites,
            users: sites,
            phones: sites,
            millis: 0,
            delay_millis: 50,
            faults: Faults::default(),
            skew_seconds: Vec::new(),
            later_release: false,
            hubs,
            snapshots: None,
            retention: None,
            retires: false,
            ..Self::draw(seed)
        }
    }

    /// The hubs that a site dials which is none itself: other ones for each, so that the work is shared.
    fn hubs_of(&self, site: usize) -> impl Iterator<Item = usize> {
        let (hubs, first) = (self.hubs, site % self.hubs.max(1));
        let apart = 1 + (site / hubs.max(1)) % hubs.saturating_sub(1).max(1);
        (0..HUBS_DIALLED.min(hubs)).map(move |n| (first + n * apart) % hubs)
    }

    /// Whom a site dials.
    pub(crate) fn dialled(&self, site: usize) -> Vec<usize> {
        let others = || (0..self.sites).filter(move |other| *other != site);
        if self.hubs == 0 {
            return others().collect();
        }
        if site >= self.hubs {
            return self.hubs_of(site).collect();
        }
        others()
            .filter(|other| *other < self.hubs || self.hubs_of(*other).any(|h| h == site))
            .collect()
    }
}

/// Keeps every version for so long and then none but the newest and what is held.
fn short(all: Duration) -> Retention {
    let nothing = Some(Duration::ZERO);
    Retention { all: Some(all), days: nothing, weeks: nothing, months: nothing, thins: false }
}
