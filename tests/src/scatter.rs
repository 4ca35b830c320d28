//! A known number of backups, thrown at several sites by several phones at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::body::Bodies;
use crate::phone::{Book, Phone};

/// Phones at work.
const PHONES: usize = 16;
/// Extensions from which users log in.
const EXTENSIONS: u32 = 200;
/// A site that refuses more often has more than a moment of weakness.
const REFUSED_MAX: usize = 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is thrown.
#[derive(Clone, Copy, Debug)]
pub struct Scatter {
    /// Backups in all; no two bodies are equal.
    pub backups: usize,
    /// Bytes of the largest body.
    pub bytes_max: usize,
    /// Decides who backs up what where.
    pub seed: u64,
}

/// Sends the backups until each is acknowledged and noted; returns how many were refused for the moment.
pub async fn scatter(sites: &[SocketAddr], what: Scatter, book: &Book) -> anyhow::Result<usize> {
    ensure!(!sites.is_empty(), "there is no site to send to");
    let mut phones = JoinSet::new();
    for phone in 0..PHONES {
        let share = what.backups.strict_add(phone).strict_div(PHONES);
        let seed = what.seed.wrapping_add(phone as u64);
        let mine = Scatter { backups: share, seed, ..what };
        phones.spawn(wander(sites.to_vec(), mine, book.clone()));
    }
    let mut refused = 0_usize;
    while let Some(done) = phones.join_next().await {
        refused = refused.strict_add(done.context("a phone panicked")??);
    }
    Ok(refused)
}

/// One phone after the other, at a random site each time, with the file of a random user.
async fn wander(sites: Vec<SocketAddr>, what: Scatter, book: Book) -> anyhow::Result<usize> {
    let mut random = StdRng::seed_from_u64(what.seed);
    let mut bodies = Bodies::new(random.random());
    let mut phones: Vec<Phone> = sites.into_iter().map(Phone::new).collect();
    let mut refused = 0;
    for _ in 0..what.backups {
        let extension = random.random_range(2000..2000_u32.strict_add(EXTENSIONS));
        let family = if random.random() { "16xx" } else { "96xx" };
        let site = random.random_range(0..phones.len());
        let body = bodies.any(what.bytes_max);
        let file = format!("{extension}_{family}data.txt");
        refused = back_up(&mut phones[site], &file, &body, &book).await?.strict_add(refused);
    }
    Ok(refused)
}

/// A busy machine may refuse for the moment. A real phone would leave it at that; here the number counts.
async fn back_up(phone: &mut Phone, file: &str, body: &[u8], book: &Book) -> anyhow::Result<usize> {
    let mut refused = 0_usize;
    while refused < REFUSED_MAX {
        let got = phone.send("PUT", file, Some(body)).await?;
        match got.status {
            200..300 => {
                book.note(file, body);
                return Ok(refused);
            }
            503 => sleep(RETRY_AFTER).await,
            status => bail!("PUT {file}: {status}"),
        }
        refused = refused.strict_add(1);
    }
    bail!("PUT {file}: refused {REFUSED_MAX} times")
}
