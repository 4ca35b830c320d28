//! The event loop: sites, their engines, and what is under way between them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use bruri_domain::{DeploymentKey, Log, LogId};
use bruri_replication::{
    engine::io::{
        Ask, Effect, Fetch, Input, Job, LinkError, LinkId, SubscriptionId, SupplyId, Time,
    },
    store::perform,
};
use futures_util::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    Broken, Options,
    laws::Truth,
    network::{Connection, Lines, Message, Stream},
    report::Report,
    site::{Site, refused},
};

pub(crate) const KEY: [u8; 32] = [7; 32];
/// How long all has to become equal once nothing happens any more: what is on its way over a line that was slow, 4 MiB
/// at most, goes on at 8 kB/s.
const PATIENCE_MICROS: u64 = 600_000_000;
/// Events of one schedule of a few sites: an engine that never rests is a fault (law 9).
const EVENTS_MAX: u64 = 3_000_000;
/// The same for each site around hubs.
const EVENTS_EACH_MAX: u64 = 100_000;

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) rng: StdRng,
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) numbered: u64,
    pub(crate) sites: Vec<Site>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) lines: Lines,
    pub(crate) truth: Truth,
    pub(crate) report: Report,
    /// The site that an operator retired.
    pub(crate) retired: Option<usize>,
    events_max: u64,
    /// Bytes that each site has sent, where they are counted.
    pub(crate) traffic: Option<Vec<u64>>,
    /// Through how many sites the last records came to a site, where that is noted.
    pub(crate) paths: Option<BTreeMap<(usize, LogId), u32>>,
}

#[derive(Debug)]
pub(crate) enum What {
    Input { site: usize, incarnation: u64, input: Input },
    Job { site: usize, incarnation: u64, job: Job },
    Due { site: usize, incarnation: u64 },
    Dial { site: usize, incarnation: u64, link: LinkId },
    Deliver { connection: u64, subscription: SubscriptionId, to_client: bool },
    GiveUp { connection: u64 },
    OpenGate { site: usize, incarnation: u64 },
    Settle { site: usize, incarnation: u64, link: LinkId, log: LogId },
    LookAfter { site: usize, incarnation: u64 },
    KeepToBranches { site: usize, incarnation: u64 },
    Fetch { site: usize, incarnation: u64, link: LinkId, number: u64, fetch: Fetch },
    Restart { site: usize },
    Act,
}

struct Scheduled {
    at: u64,
    number: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed ^ 0x5151);
        let sites = (0..options.sites).map(|n| Site::new(n, options, &mut rng)).collect();
        let mut world = Self {
            options: options.clone(),
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            numbered: 0,
            sites,
            connections: BTreeMap::new(),
            lines: Lines::default(),
            truth: Truth::default(),
            report: Report::default(),
            retired: None,
            events_max: EVENTS_MAX.max(EVENTS_EACH_MAX * options.sites as u64),
            traffic: None,
            paths: None,
        };
        world.start_all();
        world.after(0, What::Act);
        world
    }

    /// Runs to the end, then until all is quiet, and holds the outcome against the laws.
    pub(crate) fn run(mut self) -> Result<Report, Broken> {
        let end = self.options.millis * 1000;
        while self.now < end {
            self.step()?;
        }
        self.heal();
        let deadline = self.now + PATIENCE_MICROS;
        loop {
            while !self.is_level() {
                self.step()?;
                if self.now > deadline {
                    return Err(Broken::never_level(&self));
                }
            }
            self.await_freshness()?;
            // What had arrived of a site that was retired may have been applied since.
            if self.is_level() {
                break;
            }
        }
        self.judge()?;
        Ok(self.report)
    }

    pub(crate) fn step(&mut self) -> Result<(), Broken> {
        self.report.events += 1;
        if self.report.events > self.events_max {
            return Err(Broken::new(9, "the engines never rest"));
        }
        let Some(Reverse(next)) = self.queue.pop() else {
            return Err(Broken::new(9, "nothing happens any more"));
        };
        self.now = self.now.max(next.at);
        match next.what {
            What::Input { site, incarnation, input } => {
                self.input(site, incarnation, input);
                self.judge_turn(site)?;
            }
            What::Job { site, incarnation, job } => self.job(site, incarnation, job),
            What::Due { site, incarnation } => self.tick(site, incarnation),
            What::Dial { site, incarnation, link } => self.dialled(site, incarnation, link),
            What::Deliver { connection, subscription, to_client } => {
                self.deliver(connection, subscription, to_client);
            }
            What::GiveUp { connection } => self.give_up(connection),
            What::OpenGate { site, incarnation } => {
                if self.alive(site, incarnation).is_some() && self.sites[site].memory.open_gate() {
                    self.tell_soon(site, Input::Changed);
                }
            }
            What::Settle { site, incarnation, link, log } => {
                self.settle(site, incarnation, link, log);
            }
            What::LookAfter { site, incarnation } => self.look_after(site, incarnation),
            What::KeepToBranches { site, incarnation } => self.keep_to_branches(site, incarnation),
            What::Fetch { site, incarnation, link, number, fetch } => {
                self.answer_portion((site, incarnation), (link, number), fetch);
            }
            What::Restart { site } => self.start(site),
            What::Act => self.act_in_turn()?,
        }
        Ok(())
    }

    pub(crate) fn act_in_turn(&mut self) -> Result<(), Broken> {
        if self.now >= self.options.millis * 1000 {
            return Ok(());
        }
        self.act()?;
        let pause = self.rng.random_range(1..=self.options.pause_millis * 2000);
        self.after(pause, What::Act);
        Ok(())
    }

    pub(crate) fn after(&mut self, micros: u64, what: What) {
        self.numbered += 1;
        let (at, number) = (self.now + micros, self.numbered);
        self.queue.push(Reverse(Scheduled { at, number, what }));
    }

    /// How long a message takes; each one another time, so that two streams overtake each other.
    pub(crate) fn delay(&mut self) -> u64 {
        let most = self.options.delay_millis * 1000;
        300 + self.rng.random_range(most / 2..=most)
    }

    /// Hands in what happened, and does what the engine asks for.
    pub(crate) fn input(&mut self, number: usize, incarnation: u64, input: Input) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(number) else { return };
        let Some(process) = site.process.as_mut().filter(|_| site.incarnation == incarnation)
        else {
            return;
        };
        let time = Time {
            now: Duration::from_micros(now - process.began),
            wall_micros: site.clock.wall(now),
        };
        let effects = process.engine.handle(time, input);
        let due = process.began + micros(process.engine.due()).max(micros(time.now) + 1);
        let is_sooner = process.due.is_none_or(|known| due < known);
        if is_sooner {
            process.due = Some(due);
        }
        for effect in effects {
            self.carry_out(number, effect);
        }
        if is_sooner {
            self.after(due.saturating_sub(now), What::Due { site: number, incarnation });
        }
    }

    pub(crate) fn input_now(&mut self, site: usize, input: Input) {
        let incarnation = self.sites.get(site).map_or(0, |site| site.incarnation);
        self.input(site, incarnation, input);
    }

    pub(crate) fn carry_out(&mut self, number: usize, effect: Effect) {
        let Some(site) = self.sites.get_mut(number) else { return };
        let (site_number, incarnation) = (number, site.incarnation);
        match effect {
            Effect::Dial(link) => {
                let delay = self.delay();
                self.after(delay, What::Dial { site: number, incarnation, link });
            }
            Effect::Hang(link) => {
                let connection = site.process.as_mut().and_then(|p| p.connections.remove(&link));
                if let Some(connection) = connection {
                    self.close_but(connection, Some(number));
                }
            }
            Effect::Subscribe { link, subscription } => {
                let connection = site.process.as_ref().and_then(|p| p.connections.get(&link));
                let Some(connection) = connection.copied() else { return };
                if let Some(open) = self.connections.get_mut(&connection) {
                    open.streams.insert(subscription, Stream::default());
                }
                self.send(connection, subscription, false, Message::Open);
            }
            Effect::Unsubscribe(subscription) => self.unsubscribe(number, subscription),
            Effect::Ask { subscription, ask } => {
                if let Some(connection) = self.connection_of(number, subscription) {
                    self.note_wants(connection, subscription, &ask);
                    self.send(connection, subscription, false, Message::Ask(ask));
                }
            }
            Effect::Tell { supply, event } => self.tell(number, supply, Message::Event(event)),
            Effect::Dismiss { supply, why } => {
                let error = LinkError { text: format!("{why:?}"), needs_a_person: false };
                self.tell(number, supply, Message::End(error));
            }
            Effect::Do(job) => {
                let takes = 100 + self.rng.random_range(0..2000);
                self.after(takes, What::Job { site: number, incarnation, job });
            }
            Effect::Settle { link, log } => {
                let takes = 2 * self.delay();
                self.after(takes, What::Settle { site: number, incarnation, link, log });
            }
            Effect::Fetch { link, number, fetch } => {
                self.ask_portion(site_number, link, number, fetch);
            }
            Effect::TrustClock(trusted) => site.clock.trusted = trusted,
        }
    }

    fn note_wants(&mut self, connection: u64, subscription: SubscriptionId, ask: &Ask) {
        let Ask::Wants(wants) = ask else { return };
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        let logs = wants.cursors.iter().filter_map(|cursor| cursor.log.clone());
        let logs = logs.filter_map(|log| Some(Log::try_from(log).ok()?.id));
        connection.wanted.insert(subscription, logs.collect());
    }

    /// After every turn: what holds between two of them.
    fn judge_turn(&self, site: usize) -> Result<(), Broken> {
        let process = self.sites.get(site).and_then(|site| site.process.as_ref());
        let links = process.into_iter().flat_map(|process| process.connections.values());
        let mut ours = links.filter_map(|connection| self.connections.get(connection));
        ours.try_for_each(crate::laws::rides_one_stream)
    }

    pub(crate) fn connection_of(&self, site: usize, subscription: SubscriptionId) -> Option<u64> {
        let process = self.sites.get(site)?.process.as_ref()?;
        process.connections.values().copied().find(|id| {
            self.connections.get(id).is_some_and(|c| c.streams.contains_key(&subscription))
        })
    }

    pub(crate) fn tell(&mut self, site: usize, supply: SupplyId, message: Message) {
        let process = self.sites.get(site).and_then(|site| site.process.as_ref());
        let Some(stream) = process.and_then(|process| process.supplies.get(&supply)).copied()
        else {
            return;
        };
        self.send(stream.0, stream.1, true, message);
    }

    // The store.

    pub(crate) fn job(&mut self, number: usize, incarnation: u64, job: Job) {
        let now = self.now;
        if self.alive(number, incarnation).is_none() {
            return;
        }
        let Some(site) = self.sites.get(number) else { return };
        if site.stalled_until > now {
            let takes = 10_000;
            let done = refused(job);
            return self
                .after(takes, What::Input { site: number, incarnation, input: Input::Done(done) });
        }
        let key = DeploymentKey::new(KEY);
        let open = site.memory.open_logs();
        let dies = self.dies_in(number, &job);
        self.note_path(number, &job);
        let site = &self.sites[number];
        let Some(done) = perform(job, &site.memory, &key).now_or_never() else { return };
        if dies {
            return self.crash(number, 100_000);
        }
        self.note_effects(number);
        let given_again = self.sites[number].memory.take_given_again();
        let has_given = !given_again.is_empty();
        self.truth.moved(given_again);
        if has_given || self.sites[number].memory.open_logs() != open {
            // The store says so whenever it has written.
            self.tell_soon(number, Input::Changed);
        }
        // The process may crash between the commit and its answer.
        let takes = 50 + self.rng.random_range(0..500);
        self.after(takes, What::Input { site: number, incarnation, input: Input::Done(done) });
    }

    /// Every site is up and has the same of every log.
    pub(crate) fn is_level(&self) -> bool {
        let members = self.members();
        let sites = || members.iter().map(|number| &self.sites[*number]);
        let rests = |site: &Site| {
            let is_due = site.memory.due_receipt().is_some();
            let has_rest = is_due || site.memory.has_due_partings();
            site.process.is_some() && !has_rest && site.memory.is_filled()
        };
        if !sites().all(rests) {
            return false;
        }
        let vector = |site: &Site| {
            let cursors = site.memory.cursors().into_iter().filter(|cursor| cursor.sequence > 0);
            cursors.map(|c| (c.log.id, c.sequence, c.chain.0)).collect::<BTreeSet<_>>()
        };
        let mut vectors = sites().map(vector);
        let first = vectors.next();
        vectors.all(|vector| Some(&vector) == first.as_ref())
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
