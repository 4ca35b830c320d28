//! `bruri pki`: a deployment's CA, its key, and the certificates of its sites.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use bruri_pki::{
    Authority, DAYS_MAX, deployment_key, files,
    files::{CA_CERT, CA_KEY, DEPLOYMENT_KEY, NewFile, SITE_CERT, SITE_KEY, Written, default_dir},
    names,
};
use clap::Subcommand;
use time::{Duration, OffsetDateTime};

use crate::pki::report;

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the CA and the key of a new deployment, once, at its first site
    Init {
        /// The deployment's name, e.g. acme or phones.acme.example
        #[arg(long, value_name = "NAME", value_parser = names::deployment)]
        deployment: String,
        /// Where to make them [default: /var/lib/brurid/pki for root, else ~/.local/state/brurid/pki]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Make a certificate for a site
    Issue {
        /// The site's name, as its configuration has it
        // Not `site`, which is the global option.
        #[arg(id = "name", value_name = "SITE", value_parser = names::site)]
        site: String,
        /// Where the CA is [default: /var/lib/brurid/pki for root, else ~/.local/state/brurid/pki]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Where to put the site's files; for this site itself, the folder of the CA [default: SITE-pki]
        #[arg(long, value_name = "OUTDIR")]
        out: Option<PathBuf>,
        /// How long the certificate is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
        days: i64,
    },
    /// Tell what a certificate, or each in a folder, says
    Show {
        /// A certificate, or a folder as made by `init` or `issue`
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
}

/// Does it.
pub(crate) fn run(
    command: &PkiCommand,
    now: OffsetDateTime,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        PkiCommand::Init { deployment, dir } => init(deployment, dir.as_deref(), now, out),
        PkiCommand::Issue { site, dir, out: folder, days } => {
            let folder = folder.clone().unwrap_or_else(|| PathBuf::from(format!("{site}-pki")));
            let until = now.saturating_add(Duration::days(*days));
            issue(&Issue { site, dir: dir.as_deref(), folder: &folder, until }, now, out)
        }
        PkiCommand::Show { path } => Ok(write!(out, "{}", report::of_path(path, now)?)?),
    }
}

fn init(
    deployment: &str,
    dir: Option<&Path>,
    now: OffsetDateTime,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let folder = folder_of(dir)?;
    let shown = folder.display();
    if let Some(name) = files::first_of(&folder, &[CA_CERT, CA_KEY])? {
        anyhow::bail!(
            "{shown} already holds a deployment's CA ({name}); nothing was changed. \
             To issue certificates with it: bruri pki issue SITE{}",
            dir_option(dir)
        );
    }
    let key = deployment_key::read(&folder)?;
    let kept = key.is_some();
    let authority = Authority::make(deployment, now)?;
    files::write_new(
        &folder,
        &[
            NewFile::public(CA_CERT, authority.trusted_pem()),
            NewFile::secret(CA_KEY, &authority.key_pem()),
            NewFile::secret(DEPLOYMENT_KEY, &key.map_or_else(deployment_key::make, Ok)?),
        ],
    )?;
    let until = authority.not_after().date();
    let made = if kept { "kept as it was" } else { "made" };
    let option = dir_option(dir);
    writeln!(out, "the deployment {deployment} is in {shown}:")?;
    writeln!(out, "  {CA_CERT:<15} the CA's certificate, valid until {until}; every site has it")?;
    writeln!(out, "  {CA_KEY:<15} its key: only here, with a copy in a safe place")?;
    writeln!(out, "  {DEPLOYMENT_KEY:<15} the deployment's key ({made}): every site has the same")?;
    writeln!(out, "next:")?;
    writeln!(out, "  for this site   bruri pki issue SITE{option} --out {shown}")?;
    writeln!(out, "  for each other  bruri pki issue SITE{option}")?;
    Ok(())
}

struct Issue<'a> {
    site: &'a str,
    dir: Option<&'a Path>,
    folder: &'a Path,
    until: OffsetDateTime,
}

fn issue(asked: &Issue<'_>, now: OffsetDateTime, out: &mut impl Write) -> anyhow::Result<()> {
    let &Issue { site, dir, folder, until } = asked;
    let source = folder_of(dir)?;
    let authority = Authority::load(&source, now)?;
    let key = deployment_key::read(&source)?.with_context(|| {
        format!("{} is missing: every site needs it", source.join(DEPLOYMENT_KEY).display())
    })?;
    let shown = folder.display();
    if let Some(name) = files::first_of(folder, &[SITE_CERT, SITE_KEY])? {
        anyhow::bail!(
            "{shown} already holds a site's certificate ({name}); nothing was changed. \
             To renew it, issue into another folder with --out and copy {SITE_CERT} and {SITE_KEY} over"
        );
    }
    let issued = authority.issue(site, now, until)?;
    let written = files::write_new(
        folder,
        &[
            NewFile::public(CA_CERT, authority.trusted_pem()),
            NewFile::public(SITE_CERT, &issued.cert_pem),
            NewFile::secret(SITE_KEY, &issued.key_pem),
            NewFile::secret(DEPLOYMENT_KEY, &key),
        ],
    )?;
    writeln!(out, "{shown} now holds the certificate of {site} in {}:", authority.deployment())?;
    for (name, written) in &written {
        let note = if *written == Written::Kept { " (was there)" } else { "" };
        writeln!(out, "  {name}{note}")?;
    }
    let cut = if issued.not_after < until { ", as long as the CA itself" } else { "" };
    writeln!(out, "valid until {}{cut}", issued.not_after.date())?;
    tell_next(site, folder, out)
}

fn tell_next(site: &str, folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let shown = folder.display();
    writeln!(out, "next:")?;
    if files::first_of(folder, &[CA_KEY])?.is_some() {
        writeln!(out, "  restart brurid here, if this is the pki folder of its data_dir")?;
    } else {
        writeln!(
            out,
            "  1. copy the files to {site}, to a new site before brurid first starts there, into"
        )?;
        writeln!(out, "     the pki folder of its data_dir, e.g.")?;
        writeln!(out, "     ssh root@{site} mkdir -p -m 700 /var/lib/brurid/pki")?;
        writeln!(out, "     scp -p {shown}/* root@{site}:/var/lib/brurid/pki/")?;
        writeln!(out, "  2. start or restart brurid there; for a renewal kill -HUP is enough")?;
        writeln!(out, "  3. remove {shown} here: it holds secrets")?;
    }
    Ok(())
}

fn folder_of(dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    Ok(dir.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?)
}

/// What the commands that are proposed need, to find the same CA.
fn dir_option(dir: Option<&Path>) -> String {
    dir.map_or_else(String::new, |dir| format!(" --dir {}", dir.display()))
}
