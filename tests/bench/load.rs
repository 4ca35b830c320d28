//! Connections that send one request after the other, each with files of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_tests::http::{Answer, Connection};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval};

use crate::template::{Get, Put, is_of};

/// Which requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Put,
    Get,
}

/// What is sent where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: u32,
    pub(crate) files: u32,
    pub(crate) bytes: usize,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How long the answers took that were as they should be.
    pub(crate) micros: Histogram<u64>,
    /// All others, in words.
    pub(crate) errors: BTreeMap<String, u64>,
    /// For how long.
    elapsed: Duration,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "PUT",
            Self::Get => "GET",
        })
    }
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).context("make a histogram")?;
        Ok(Self { micros, errors: BTreeMap::new(), elapsed: Duration::ZERO })
    }

    /// Good answers a second.
    #[expect(clippy::cast_precision_loss, reason = "it is rounded for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn note(&mut self, began: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.micros.saturating_record(micros);
            }
            Err(error) => {
                let count = self.errors.entry(error).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.micros.add(&other.micros).context("add up")?;
        for (error, count) in &other.errors {
            let sum = self.errors.entry(error.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        Ok(())
    }
}

impl Load {
    /// Puts every file so many times.
    pub(crate) async fn fill(&self, rounds: u32) -> anyhow::Result<Measured> {
        let measured = self.all(Kind::Put, Until::Rounds(rounds)).await?;
        ensure!(measured.errors.is_empty(), "cannot put the files: {:?}", measured.errors);
        Ok(measured)
    }

    /// Puts so many files a second, each connection its share.
    pub(crate) async fn pace(&self, rate: u32, time: Duration) -> anyhow::Result<Measured> {
        let end = Instant::now().checked_add(time).context("compute the end")?;
        let pause = Duration::from_secs(1).saturating_mul(self.connections).checked_div(rate);
        let pause = pause.context("the rate is 0")?.max(Duration::from_micros(1));
        self.all(Kind::Put, Until::Paced(end, pause)).await
    }

    /// Sends as fast as answers come.
    pub(crate) async fn run(&self, kind: Kind, time: Duration) -> anyhow::Result<Measured> {
        let end = Instant::now().checked_add(time).context("compute the end")?;
        self.all(kind, Until::Time(end)).await
    }

    async fn all(&self, kind: Kind, until: Until) -> anyhow::Result<Measured> {
        let began = Instant::now();
        let mut connections = JoinSet::new();
        for number in 0..self.connections {
            let load = *self;
            connections.spawn(async move { load.one(kind, number, until).await });
        }
        let mut all = Measured::new()?;
        while let Some(measured) = connections.join_next().await {
            all.add(&measured.context("a connection panicked")??)?;
        }
        all.elapsed = began.elapsed();
        Ok(all)
    }

    async fn one(self, kind: Kind, number: u32, until: Until) -> anyhow::Result<Measured> {
        let mut measured = Measured::new()?;
        let (mut put, mut get) = (Put::new(self.address, self.bytes), Get::new(self.address));
        let mut connection = Connection::open(self.address).await.context("connect")?;
        let step = usize::try_from(self.connections).context("count")?;
        let files = (number..self.files).step_by(step);
        let mut left = until.files(files);
        let mut turns = until.turns();
        while !until.is_over()
            && let Some(file) = left.next()
        {
            if let Some(turns) = &mut turns {
                turns.tick().await;
            }
            let request = match kind {
                Kind::Put => put.request(file),
                Kind::Get => get.request(file),
            };
            let began = Instant::now();
            let outcome = match connection.exchange(request).await {
                Ok(answer) => self.judge(kind, file, answer),
                Err(error) => {
                    connection = Connection::open(self.address).await.context("connect again")?;
                    Err(error.to_string())
                }
            };
            measured.note(began, outcome);
        }
        Ok(measured)
    }

    fn judge(&self, kind: Kind, file: u32, answer: Answer<'_>) -> Result<(), String> {
        match (kind, answer.status) {
            (Kind::Put, 201 | 204) => Ok(()),
            (Kind::Get, 200) if is_of(answer.body, file, self.bytes) => Ok(()),
            (Kind::Get, 200) => Err("the body of something else".to_owned()),
            (_, status) => Err(format!("status {status}")),
        }
    }
}

/// When a connection has done enough.
#[derive(Clone, Copy, Debug)]
enum Until {
    Rounds(u32),
    Time(Instant),
    /// Then, with a pause between two.
    Paced(Instant, Duration),
}

impl Until {
    fn is_over(self) -> bool {
        matches!(self, Self::Time(end) | Self::Paced(end, _) if Instant::now() >= end)
    }

    fn files(
        self,
        files: impl Iterator<Item = u32> + Clone + Send + 'static,
    ) -> Box<dyn Iterator<Item = u32> + Send> {
        match self {
            Self::Rounds(rounds) => Box::new((0..rounds).flat_map(move |_| files.clone())),
            Self::Time(_) | Self::Paced(..) => Box::new(files.cycle()),
        }
    }

    fn turns(self) -> Option<Interval> {
        match self {
            Self::Paced(_, pause) => Some(interval(pause)),
            Self::Rounds(_) | Self::Time(_) => None,
        }
    }
}
