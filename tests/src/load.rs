//! Many phones that back up one file after the other, until told to stop or until something breaks.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::body::Bodies;
use crate::phone::{Book, Phone};

/// Bytes of the largest body.
const BYTES_MAX: usize = 4096;

/// Phones at work.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    counts: watch::Sender<Counts>,
    phones: JoinSet<End>,
}

/// How far the phones are, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Backups that were sent and not answered.
    pub unanswered: usize,
    /// Backups that were answered with a 2xx.
    pub acknowledged: usize,
}

/// How a phone ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Stopped,
    Refused,
    Unanswered,
}

/// How all ended; what was acknowledged stands in the book.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Phones that were answered with something else than a 2xx.
    pub refused: usize,
    /// Phones whose last backup was not answered at all.
    pub unanswered: usize,
}

impl Load {
    /// Sends so many phones to one address, each with a file of its own; no two bodies are equal.
    pub fn start(address: SocketAddr, phones: usize, seed: u64, book: &Book) -> Self {
        let mut load = Self {
            stop: CancellationToken::new(),
            counts: watch::Sender::default(),
            phones: JoinSet::new(),
        };
        for phone in 0..phones {
            let worker = Worker {
                phone: Phone::new(address),
                file: format!("{}_96xxdata.txt", 5000_usize.strict_add(phone)),
                bodies: Bodies::new(seed.wrapping_add(phone as u64)),
                book: book.clone(),
                counts: load.counts.clone(),
            };
            load.phones.spawn(worker.run(load.stop.clone()));
        }
        load
    }

    /// How far the phones are, at this moment.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until so many backups are acknowledged, and so many on their way.
    pub async fn reaches(&self, least: Counts) -> anyhow::Result<()> {
        let mut seen = self.counts.subscribe();
        let reached = |now: &Counts| {
            now.unanswered >= least.unanswered && now.acknowledged >= least.acknowledged
        };
        seen.wait_for(reached).await.context("the phones are gone")?;
        Ok(())
    }

    /// Lets every phone finish what it has begun.
    pub async fn end(mut self) -> anyhow::Result<Ended> {
        self.stop.cancel();
        self.finish().await
    }

    /// Waits until every phone has ended because something broke.
    pub async fn broken(mut self) -> anyhow::Result<Ended> {
        self.finish().await
    }

    async fn finish(&mut self) -> anyhow::Result<Ended> {
        let mut ended = Ended::default();
        while let Some(end) = self.phones.join_next().await {
            let count = match end.context("a phone panicked")? {
                End::Stopped => continue,
                End::Refused => &mut ended.refused,
                End::Unanswered => &mut ended.unanswered,
            };
            *count = count.strict_add(1);
        }
        Ok(ended)
    }
}

struct Worker {
    phone: Phone,
    file: String,
    bodies: Bodies,
    book: Book,
    counts: watch::Sender<Counts>,
}

impl Worker {
    async fn run(mut self, stop: CancellationToken) -> End {
        while !stop.is_cancelled() {
            let body = self.bodies.any(BYTES_MAX);
            self.counts.send_modify(|now| now.unanswered = now.unanswered.strict_add(1));
            let got = self.phone.send("PUT", &self.file, Some(&body)).await;
            self.counts.send_modify(|now| now.unanswered = now.unanswered.strict_sub(1));
            match got {
                Ok(got) if (200..300).contains(&got.status) => self.book.note(&self.file, &body),
                Ok(_) => return End::Refused,
                Err(_) => return End::Unanswered,
            }
            self.counts.send_modify(|now| now.acknowledged = now.acknowledged.strict_add(1));
        }
        End::Stopped
    }
}
