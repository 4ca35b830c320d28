//! The part of `cargo metadata` that the layer rules read.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::workspace;

/// Crates for other platforms do not count, so that the lists are the same everywhere.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Every package that the workspace is built of, and who uses whom.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// Ours and, unless read without them, those of others.
    pub packages: Vec<Package>,
    /// The ids of ours.
    pub workspace_members: Vec<String>,
    /// Absent where only the manifests were read.
    pub resolve: Option<Resolve>,
}

/// A package with the dependencies that its manifest names.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Unique among all packages.
    pub id: String,
    /// The name, e.g. `bruri-domain`.
    pub name: String,
    /// In the order of the manifest.
    pub dependencies: Vec<Dependency>,
}

/// A dependency as a manifest names it.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// The package's own name, whatever it is renamed to.
    pub name: String,
    /// Absent for an ordinary one.
    pub kind: Option<Kind>,
}

/// What a dependency is for, where it is not simply part of the crate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// For tests, examples and benches.
    Dev,
    /// For the build script.
    Build,
}

/// The graph that cargo chose.
#[derive(Clone, Debug, Deserialize)]
pub struct Resolve {
    /// One for each package that is used.
    pub nodes: Vec<Node>,
}

/// A package in the graph.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// The package's id.
    pub id: String,
    /// What it uses.
    pub deps: Vec<Edge>,
}

/// One package using another.
#[derive(Clone, Debug, Deserialize)]
pub struct Edge {
    /// The id of the used one.
    pub pkg: String,
    /// What for; there may be several reasons.
    pub dep_kinds: Vec<EdgeKind>,
}

/// A reason for one package to use another.
#[derive(Clone, Debug, Deserialize)]
pub struct EdgeKind {
    /// Absent for an ordinary one.
    pub kind: Option<Kind>,
}

impl Metadata {
    /// Reads the manifests and the graph of the workspace in `root`.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        Self::from_cargo(root, &["--filter-platform", PLATFORM])
    }

    /// Reads the manifests alone; this needs neither a lock file nor any crate of others.
    pub fn read_manifests(root: &Path) -> anyhow::Result<Self> {
        Self::from_cargo(root, &["--no-deps", "--offline"])
    }

    fn from_cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut cargo = workspace::cargo(root);
        cargo.args(["metadata", "--format-version", "1"]).args(arguments);
        let output = workspace::output(&mut cargo)?;
        serde_json::from_slice(&output).context("read the output of cargo metadata")
    }
}
