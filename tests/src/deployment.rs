//! Sites that know each other: certificates made by the real command, every site with all its peers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::link::Link;
use crate::site::{Settings, Site};
use crate::{level, programs};

/// Sites of one deployment, each ready.
#[derive(Debug)]
pub struct Deployment {
    // Dropped in this order: no process may outlive its folder.
    /// The sites, in the order of their names as given.
    pub sites: Vec<Site>,
    links: Vec<Linked>,
    pki: Pki,
    folder: TempDir,
}

/// A link and the sites that it joins, by their places.
#[derive(Debug)]
struct Linked {
    from: usize,
    to: usize,
    link: Link,
}

/// A deployment's CA.
#[derive(Clone, Debug)]
pub struct Pki {
    folder: PathBuf,
}

impl Deployment {
    /// Sites that reach each other directly.
    pub async fn start(names: &[&str]) -> anyhow::Result<Self> {
        let mut deployment = Self::make(names, false).await?;
        deployment.start_all().await?;
        Ok(deployment)
    }

    /// Sites that reach each other over links that can be cut.
    pub async fn start_linked(names: &[&str]) -> anyhow::Result<Self> {
        let mut deployment = Self::make(names, true).await?;
        deployment.start_all().await?;
        Ok(deployment)
    }

    /// A site by itself, without certificates.
    pub async fn start_alone(name: &str) -> anyhow::Result<Self> {
        let folder = open_folder()?;
        let pki = Pki { folder: folder.path().join("pki") };
        let site = Site::make(folder.path(), Settings::alone(name))?;
        let mut alone = Self { sites: vec![site], links: Vec::new(), pki, folder };
        alone.start_all().await?;
        Ok(alone)
    }

    /// The first site of a deployment, which holds its CA; others are to join.
    pub async fn found(name: &str) -> anyhow::Result<Self> {
        let folder = open_folder()?;
        let first = Site::make(folder.path(), Settings::alone(name))?;
        let pki = Pki::make(&first.pki(), "acme").await?;
        pki.issue(name, &first.pki()).await?;
        let mut deployment = Self { sites: vec![first], links: Vec::new(), pki, folder };
        deployment.start_all().await?;
        Ok(deployment)
    }

    /// A site that has not joined yet.
    pub fn newcomer(&self, name: &str) -> anyhow::Result<Site> {
        Site::make(self.folder.path(), Settings::alone(name))
    }

    /// A token for a site, as an operator at the first one gets it.
    pub async fn invite(&self, name: &str) -> anyhow::Result<String> {
        let said = self.sites[0].bruri(&["--json", "site", "invite", name]).await?;
        let said: serde_json::Value = serde_json::from_str(&said).context("read JSON")?;
        Ok(said["token"].as_str().context("there is no token")?.to_owned())
    }

    /// Has a site join and start.
    pub async fn add(&mut self, name: &str) -> anyhow::Result<()> {
        let mut site = self.newcomer(name)?;
        site.join(&self.invite(name).await?).await?;
        site.start().await?;
        self.sites.push(site);
        Ok(())
    }

    /// Two sites at once.
    pub fn pair(&mut self) -> anyhow::Result<(&mut Site, &mut Site)> {
        match self.sites.as_mut_slice() {
            [first, second, ..] => Ok((first, second)),
            _ => anyhow::bail!("there is no second site"),
        }
    }

    /// The two links between two sites: each dials the other.
    pub fn links(&self, one: usize, other: usize) -> impl Iterator<Item = &Link> {
        let joins = move |linked: &&Linked| {
            [(one, other), (other, one)].contains(&(linked.from, linked.to))
        };
        self.links.iter().filter(joins).map(|linked| &linked.link)
    }

    /// Where all is kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The deployment's CA.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Sites that will reach each other directly and do not run yet.
    pub async fn make_direct(names: &[&str]) -> anyhow::Result<Self> {
        Self::make(names, false).await
    }

    /// Sites that will reach each other over links that can be cut, and do not run yet.
    pub async fn make_linked(names: &[&str]) -> anyhow::Result<Self> {
        Self::make(names, true).await
    }

    async fn make(names: &[&str], linked: bool) -> anyhow::Result<Self> {
        let folder = open_folder()?;
        let pki = Pki::make(&folder.path().join("pki"), "acme").await?;
        let mut all: Vec<Settings> = names.iter().map(|name| Settings::alone(name)).collect();
        let mut links = Vec::new();
        for from in 0..all.len() {
            for to in (0..all.len()).filter(|to| *to != from) {
                let mut address = all[to].address.peers();
                if linked {
                    let link = Link::open(address).await?;
                    address = link.address();
                    links.push(Linked { from, to, link });
                }
                all[from].peer_addresses.push(address);
            }
            let out = folder.path().join(format!("{}-pki", all[from].name));
            all[from].pki = Some(pki.issue(&all[from].name, &out).await?);
        }
        let made = all.into_iter().map(|settings| Site::make(folder.path(), settings));
        Ok(Self { sites: made.collect::<Result<_, _>>()?, links, pki, folder })
    }

    /// Starts all, and waits until they are ready and level.
    pub async fn start_all(&mut self) -> anyhow::Result<()> {
        self.start_apart().await?;
        level(&self.sites).await
    }

    /// Starts all at once, and waits until they are ready, each by itself.
    pub async fn start_apart(&mut self) -> anyhow::Result<()> {
        self.sites.iter_mut().try_for_each(Site::spawn)?;
        for site in &mut self.sites {
            site.ready().await?;
        }
        Ok(())
    }
}

impl Pki {
    /// Makes the CA and the key of a deployment.
    pub async fn make(folder: &Path, deployment: &str) -> anyhow::Result<Self> {
        let folder = folder.to_owned();
        let arguments = ["pki", "init", "--deployment", deployment, "--dir"].map(PathBuf::from);
        programs::bruri(arguments.iter().chain([&folder])).await?;
        Ok(Self { folder })
    }

    /// Makes a site's certificate in a folder, which it returns.
    pub async fn issue(&self, site: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        let folder = folder.to_owned();
        let (dir, out) = (PathBuf::from("--dir"), PathBuf::from("--out"));
        let arguments = ["pki", "issue", site].map(PathBuf::from);
        programs::bruri(arguments.iter().chain([&dir, &self.folder, &out, &folder])).await?;
        Ok(folder)
    }
}

/// A folder for this test that whoever runs Postgres can pass through.
pub fn open_folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("bruri-e2e.")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .context("make a folder for this test")
}
