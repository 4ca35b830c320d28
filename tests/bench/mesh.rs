//! Sites under load, each with each over lines that take their time: how long from the 2xx at one site to the
//! first GET at another that has the backup; and what a bad line to one of them costs the others.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_tests::link::Link;
use bruri_tests::{Bodies, Deployment, Phone, Site, lag};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

/// Connections of phones at each site.
const WRITERS: u32 = 5;
/// Files of each of them.
const FILES: u32 = 20;
/// Of so many backups one is the same as others.
const EQUAL_EVERY: u32 = 10;
/// Between two looks at the other site.
const LOOK: Duration = Duration::from_millis(1);
/// So much before half a round trip has passed the first look is taken.
const EARLY: Duration = Duration::from_millis(2);
/// A backup that takes longer is lost.
const LOST: Duration = Duration::from_secs(30);
/// After a line has changed.
const SETTLE: Duration = Duration::from_secs(5);
/// The same load before the first measurement: connections to the databases are opened, and statements planned.
const WARM: Duration = Duration::from_secs(5);
/// What the slow line carries: 64 kbit/s.
const NARROW_BYTES_A_SECOND: u32 = 8000;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Mesh {
    /// How many sites
    #[arg(long, default_value_t = 5)]
    sites: u32,
    /// Backups a second at each
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Milliseconds there and back between two sites
    #[arg(long, default_value_t = 50)]
    round_trip: u32,
    /// Bytes of a body; of ten backups one is the same as others
    #[arg(long, default_value_t = 2000)]
    bytes: usize,
    /// Of so many backups one is looked for at another site
    #[arg(long, default_value_t = 10)]
    look_every: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many measurements, of each sort in turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How old an answer may be before a site asks the others: by default it never does, and what is measured is
    /// how long records take to it
    #[arg(long, default_value = "60000ms")]
    freshness: String,
    /// What becomes of all lines of the last site, every second time; the others are measured
    #[arg(long)]
    bad: Option<Bad>,
}

/// How a line can be bad.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Bad {
    /// Nothing comes through, and nobody is told
    Dead,
    /// 64 kbit/s
    Narrow,
}

/// What was seen.
#[derive(Debug)]
struct Seen {
    /// From 2xx to 2xx, in microseconds.
    lags: Histogram<u64>,
    /// How long the 2xx took, in microseconds.
    puts: Histogram<u64>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        let new = || Histogram::new_with_bounds(1, 60_000_000, 3).context("make a histogram");
        Ok(Self { lags: new()?, puts: new()? })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.lags.add(&other.lags).context("add up")?;
        self.puts.add(&other.puts).context("add up")
    }
}

impl Mesh {
    /// Starts the sites, measures and prints.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        ensure!((2..=20).contains(&self.sites), "2 to 20 sites can be measured");
        ensure!(self.rate > 0 && self.look_every > 0, "rates must be more than 0");
        let names: Vec<String> = (1..=self.sites).map(|number| format!("site{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let deployment = Deployment::start_linked(&names).await?;
        self.mend(&deployment);
        let freshness = format!("freshness={}", self.freshness);
        deployment.sites[0].bruri(&["realm", "set", "default", &freshness]).await?;
        sleep(SETTLE).await;
        let last = deployment.sites.len().saturating_sub(1);
        let watched = if self.bad.is_some() { last } else { deployment.sites.len() };
        self.load(&deployment.sites, watched, WARM).await?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            good.push(self.measure("all lines good", &deployment.sites, watched).await?);
            if let Some(how) = self.bad {
                lines_of(&deployment, last).for_each(|link| self.spoil(link, how));
                sleep(SETTLE).await;
                let what = format!("{how:?}: the lines of {}", names[last]).to_lowercase();
                bad.push(self.measure(&what, &deployment.sites, watched).await?);
                self.mend(&deployment);
                bruri_tests::level(&deployment.sites).await?;
            }
        }
        sum_up("all lines good", &good)?;
        if !bad.is_empty() {
            sum_up("one site's bad", &bad)?;
        }
        Ok(())
    }

    fn half_trip(&self) -> Duration {
        Duration::from_millis(u64::from(self.round_trip)).div_f64(2.0)
    }

    fn mend(&self, deployment: &Deployment) {
        let all = 0..deployment.sites.len();
        all.flat_map(|site| lines_of(deployment, site)).for_each(|link| {
            link.delay(self.half_trip());
        });
    }

    fn spoil(&self, link: &Link, how: Bad) {
        match how {
            Bad::Dead => link.freeze(),
            Bad::Narrow => link.narrow(self.half_trip(), NARROW_BYTES_A_SECOND),
        }
    }

    async fn measure(&self, what: &str, sites: &[Site], watched: usize) -> anyhow::Result<Seen> {
        let seen = self.load(sites, watched, Duration::from_secs(self.seconds)).await?;
        let resident = sites.iter().take(watched).map(Site::resident_bytes);
        let resident = resident.collect::<anyhow::Result<Vec<_>>>()?;
        let most = resident.into_iter().max().unwrap_or_default() / (1024 * 1024);
        let (count, lags, puts) =
            (seen.lags.len(), lag::summary(&seen.lags), lag::summary(&seen.puts));
        let line = format!("{what}: lag of {count} {lags}; PUT {puts}; brurid at most {most} MiB");
        writeln!(io::stdout(), "{line}").context("print")?;
        Ok(seen)
    }

    /// Phones at all sites for so long.
    async fn load(&self, sites: &[Site], watched: usize, time: Duration) -> anyhow::Result<Seen> {
        let addresses: Vec<_> = sites.iter().map(Site::phones).collect();
        let end = Instant::now().checked_add(time);
        let end = end.context("compute the end")?;
        let mut writers = JoinSet::new();
        for (place, at) in addresses.iter().enumerate() {
            let others = addresses.iter().take(watched).filter(|other| *other != at);
            let others = if place < watched { others.copied().collect() } else { Vec::new() };
            for number in 0..WRITERS {
                let mesh = self.clone();
                let (at, others) = (*at, others.clone());
                let prefix = format!("{}{number}", place.saturating_add(1));
                writers.spawn(async move { mesh.write(at, &others, &prefix, end).await });
            }
        }
        let mut seen = Seen::new()?;
        while let Some(writer) = writers.join_next().await {
            seen.add(&writer.context("a phone panicked")??)?;
        }
        Ok(seen)
    }

    /// One connection that backs up at its share of the rate, and looks for some of it elsewhere.
    async fn write(
        &self,
        at: SocketAddr,
        others: &[SocketAddr],
        prefix: &str,
        end: Instant,
    ) -> anyhow::Result<Seen> {
        let mut seen = Seen::new()?;
        let mut phone = Phone::new(at);
        let mut readers: VecDeque<Phone> = others.iter().map(|other| Phone::new(*other)).collect();
        let (mut bodies, equal) = (Bodies::new(rand::random()), Bodies::new(0).next(self.bytes));
        let pause = Duration::from_secs(1).saturating_mul(WRITERS).checked_div(self.rate);
        let mut turns = interval(pause.context("the rate is 0")?);
        // Not all at once.
        sleep(rand::random_range(Duration::ZERO..turns.period())).await;
        turns.reset();
        for number in 0_u32.. {
            turns.tick().await;
            if Instant::now() >= end {
                break;
            }
            let is_equal = number % EQUAL_EVERY == EQUAL_EVERY - 1;
            let body = if is_equal { equal.clone() } else { bodies.next(self.bytes) };
            let file = format!("{prefix}{:04}_96xxdata.txt", number % FILES);
            let began = Instant::now();
            let got = phone.send("PUT", &file, Some(&body)).await?;
            ensure!((200..300).contains(&got.status), "PUT {file}: {}", got.status);
            let acknowledged = Instant::now();
            seen.puts.saturating_record(micros(acknowledged.duration_since(began)));
            if number.is_multiple_of(self.look_every)
                && !is_equal
                && let Some(mut reader) = readers.pop_front()
            {
                self.look(&mut reader, &file, &body, acknowledged).await?;
                // The others come first.
                readers.push_back(reader);
                seen.lags.saturating_record(micros(acknowledged.elapsed()));
            }
        }
        Ok(seen)
    }

    /// Waits until a phone at another site reads it.
    async fn look(
        &self,
        reader: &mut Phone,
        file: &str,
        body: &[u8],
        acknowledged: Instant,
    ) -> anyhow::Result<()> {
        sleep(self.half_trip().saturating_sub(EARLY)).await;
        while reader.restore(file).await?.as_deref() != Some(body) {
            ensure!(acknowledged.elapsed() < LOST, "{file} did not arrive within {LOST:?}");
            sleep(LOOK).await;
        }
        Ok(())
    }
}

fn lines_of(deployment: &Deployment, site: usize) -> impl Iterator<Item = &Link> {
    let others = (0..deployment.sites.len()).filter(move |other| *other != site);
    others.flat_map(move |other| deployment.links(site, other))
}

fn sum_up(what: &str, rounds: &[Seen]) -> anyhow::Result<()> {
    let median = |quantile: f64| {
        let mut all: Vec<_> =
            rounds.iter().map(|seen| seen.lags.value_at_quantile(quantile)).collect();
        all.sort_unstable();
        let micros = all.get(all.len() / 2).copied().unwrap_or_default();
        Duration::from_micros(micros).as_secs_f64() * 1000.0
    };
    let (p50, p99, count) = (median(0.5), median(0.99), rounds.len());
    let line = format!("{what}: medians of {count}: p50 {p50:.1} ms, p99 {p99:.1} ms");
    writeln!(io::stdout(), "{line}").context("print")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
