//! What must be equal at all sites, and what every site must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_domain::Sha256;
use tokio::task::JoinSet;

use crate::ops::Ops;
use crate::phone::{Book, Entry};
use crate::site::Site;
use crate::{database::Database, eventually};

/// How long sites may take to hand over what others wrote, on a busy machine.
const LEVEL: Duration = Duration::from_mins(1);
/// Requests to one site at a time.
const READERS: usize = 4;

/// Waits until all sites have applied the same logs to the same place.
pub async fn level(sites: &[Site]) -> anyhow::Result<()> {
    let databases = databases(sites).await?;
    let names = names(sites);
    eventually(LEVEL, "the sites are level", async || {
        let mut vectors = Vec::new();
        for (_, database) in &databases {
            vectors.push(database.vector().await?);
        }
        let equal = vectors.iter().all(|vector| vector == &vectors[0]);
        ensure!(equal, "the vectors of {names} differ: {vectors:?}");
        Ok(())
    })
    .await
}

/// Fails, naming a site, unless all sites hold equal whole logs and equal states of all files.
pub async fn agree(sites: &[Site]) -> anyhow::Result<()> {
    let databases = databases(sites).await?;
    for (name, database) in &databases {
        // One that fell far behind took states first, and its logs are level before its history is all there.
        eventually(LEVEL, "all history", async || {
            ensure!(!database.is_filling().await?, "history of {name} is missing");
            Ok(())
        })
        .await?;
        database.logs_are_whole().await.with_context(|| format!("the logs of {name}"))?;
    }
    let Some(((first, reference), others)) = databases.split_first() else { return Ok(()) };
    let (vector, states) = (reference.vector().await?, reference.states().await?);
    for (name, database) in others {
        let found = database.vector().await?;
        ensure!(found == vector, "{name} and {first} have applied different logs");
        let found = database.states().await?;
        let differing = states.keys().chain(found.keys());
        let differing: BTreeSet<_> =
            differing.filter(|file| states.get(file) != found.get(file)).collect();
        ensure!(differing.is_empty(), "{name} and {first} differ in the files {differing:?}");
    }
    Ok(())
}

/// Fails, naming a site, unless each site gives out every backup of the book, by version.
pub async fn every_backup_is_there(sites: &[Site], book: &Book) -> anyhow::Result<()> {
    let mut expected: BTreeMap<String, BTreeSet<Sha256>> = BTreeMap::new();
    for Entry { file, hash } in book.entries() {
        expected.entry(file).or_default().insert(hash);
    }
    for site in sites {
        site_has(site, &expected)
            .await
            .with_context(|| format!("the history of {}", site.name()))?;
    }
    Ok(())
}

/// Fails unless the site's database holds every backup of these entries, with its very body.
pub async fn database_has(site: &Site, entries: &[Entry]) -> anyhow::Result<()> {
    let database = site.database().await?;
    let versions: BTreeSet<_> = database.versions().await?.into_iter().collect();
    let hashes: Vec<Sha256> = entries.iter().map(|entry| entry.hash).collect();
    let bodies = database.bodies(&hashes).await?;
    let is_held = |entry: &Entry| {
        versions.contains(&(entry.file.clone(), entry.hash)) && bodies.contains(&entry.hash)
    };
    let lost = entries.iter().filter(|entry| !is_held(entry)).count();
    ensure!(lost == 0, "{} has lost {lost} of {}", site.name(), entries.len());
    Ok(())
}

async fn site_has(
    site: &Site,
    expected: &BTreeMap<String, BTreeSet<Sha256>>,
) -> anyhow::Result<()> {
    let ops = site.ops().await?;
    let mut readers = JoinSet::new();
    for (file, hashes) in expected.clone() {
        if readers.len() >= READERS {
            finished(&mut readers).await?;
        }
        readers.spawn(file_has(ops.clone(), file, hashes));
    }
    while !readers.is_empty() {
        finished(&mut readers).await?;
    }
    Ok(())
}

async fn finished(readers: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match readers.join_next().await {
        Some(result) => result.context("a reader panicked")?,
        None => Ok(()),
    }
}

/// Gets every version of a file and hashes it.
async fn file_has(mut ops: Ops, file: String, hashes: BTreeSet<Sha256>) -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    for version in ops.versions(&file).await? {
        let hash = Sha256::of(&ops.body(&file, &version.dot).await?);
        ensure!(hash.to_string() == version.body_sha256, "{} has another body", version.dot);
        found.insert(hash);
    }
    let lost = hashes.difference(&found).count();
    ensure!(lost == 0, "{lost} of {} backups of {file} are lost", hashes.len());
    Ok(())
}

async fn databases(sites: &[Site]) -> anyhow::Result<Vec<(&str, Database)>> {
    let mut databases = Vec::new();
    for site in sites {
        databases.push((site.name(), site.database().await?));
    }
    Ok(databases)
}

fn names(sites: &[Site]) -> String {
    sites.iter().map(Site::name).collect::<Vec<_>>().join(", ")
}
