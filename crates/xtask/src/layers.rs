//! The rules of [`crate::rules`], applied to what cargo knows of the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::ensure;

use crate::metadata::{Dependency, Kind, Metadata, Node, Package, Resolve};
use crate::rules::{BANNED, DOMAIN, DOMAIN_USES, DOORS, Door, LAYERS, Layer, Reach};

/// Fails where the workspace in `root` breaks a rule, naming every breach.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let breaches = breaches(&Metadata::read(root)?);
    ensure!(breaches.is_empty(), "layers: {}", breaches.join("\nlayers: "));
    Ok(())
}

/// Every breach, in words.
#[must_use]
pub fn breaches(metadata: &Metadata) -> Vec<String> {
    let members: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .collect();
    let ours: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();

    let mut found = Vec::new();
    for package in &members {
        match LAYERS.iter().find(|layer| layer.name == package.name) {
            Some(layer) => found.extend(forbidden_arrows(layer, package, &ours)),
            None => found.push(format!("{} has no layer in xtask's rules.rs", package.name)),
        }
        found.extend(DOORS.iter().flat_map(|door| forbidden_doors(door, package)));
    }
    if let Some(resolve) = &metadata.resolve {
        found.extend(impurities(metadata, resolve));
        found.extend(banned(metadata, resolve));
    }
    found
}

fn forbidden_arrows(layer: &Layer, package: &Package, ours: &BTreeSet<&str>) -> Vec<String> {
    let Reach::Only(uses) = layer.uses else { return Vec::new() };
    let allowed = |dependency: &Dependency| {
        let name = dependency.name.as_str();
        uses.contains(&name)
            || (dependency.kind == Some(Kind::Dev) && layer.tests_use.contains(&name))
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| ours.contains(dependency.name.as_str()) && !allowed(dependency))
        .map(|dependency| format!("{} must not use {}", package.name, dependency.name))
        .collect()
}

fn forbidden_doors(door: &Door, package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    if door.open_to.contains(&name) {
        return Vec::new();
    }
    let allowed = |dependency: &Dependency| {
        dependency.kind == Some(Kind::Dev) && door.open_to_tests_of.contains(&name)
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| door.crates.contains(&dependency.name.as_str()))
        .filter(|dependency| !allowed(dependency))
        .map(|dependency| {
            format!("{name} must not use {}: only {} may", dependency.name, door.open_to.join(", "))
        })
        .collect()
}

/// What the domain is compiled with but should not be.
fn impurities(metadata: &Metadata, resolve: &Resolve) -> Vec<String> {
    let names = names(metadata);
    let nodes: BTreeMap<&str, &Node> =
        resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let domain = metadata.packages.iter().filter(|package| package.name == DOMAIN);

    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = domain.map(|package| package.id.as_str()).collect();
    while let Some(id) = waiting.pop() {
        for edge in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            let ordinary = edge.dep_kinds.iter().any(|reason| reason.kind.is_none());
            if ordinary && reached.insert(edge.pkg.as_str()) {
                waiting.push(&edge.pkg);
            }
        }
    }
    let used: BTreeSet<&str> = reached.iter().filter_map(|id| names.get(id).copied()).collect();
    used.into_iter()
        .filter(|name| !DOMAIN_USES.contains(name))
        .map(|name| format!("{DOMAIN} must not be compiled with {name}"))
        .collect()
}

fn banned(metadata: &Metadata, resolve: &Resolve) -> Vec<String> {
    let names = names(metadata);
    resolve
        .nodes
        .iter()
        .filter_map(|node| names.get(node.id.as_str()))
        .filter(|name| BANNED.contains(name))
        .map(|name| format!("{name} is banned: see deny.toml"))
        .collect()
}

fn names(metadata: &Metadata) -> BTreeMap<&str, &str> {
    metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect()
}
