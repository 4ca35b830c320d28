//! Certificates told to people.

use std::{fmt::Write, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;
use bruri_pki::{
    SiteKey,
    certificate::{self, Certificate},
    deployment_key,
    files::{self, CA_CERT, CA_KEY, DEPLOYMENT_KEY, SITE_CERT, SITE_KEY},
};
use time::OffsetDateTime;

const OTHERS: u32 = 0o077;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// A certificate's file, or a folder of `init` or `issue`.
pub(crate) fn of_path(path: &Path, now: OffsetDateTime) -> anyhow::Result<String> {
    let mut report = Report { text: String::new(), now };
    if path.is_dir() {
        report.folder(path)?;
    } else {
        let found = certificate::read(path)?;
        let found = found.with_context(|| format!("there is no {}", path.display()))?;
        report.certificates(path, &found);
    }
    Ok(report.text)
}

struct Report {
    text: String,
    now: OffsetDateTime,
}

impl Report {
    fn folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        let authorities = certificate::read(&folder.join(CA_CERT))?;
        let site = certificate::read(&folder.join(SITE_CERT))?;
        anyhow::ensure!(
            authorities.is_some() || site.is_some(),
            "{} holds neither {CA_CERT} nor {SITE_CERT}",
            folder.display()
        );
        if let Some(authorities) = &authorities {
            self.certificates(&folder.join(CA_CERT), authorities);
            self.key(&folder.join(CA_KEY), authorities, "not here; it is at the first site")?;
        }
        if let Some(site) = &site {
            self.certificates(&folder.join(SITE_CERT), site);
            self.signed(site, authorities.as_deref().unwrap_or_default());
            self.key(&folder.join(SITE_KEY), site.get(..1).unwrap_or_default(), "MISSING")?;
        }
        self.deployment_key(folder)
    }

    fn certificates(&mut self, path: &Path, certificates: &[Certificate]) {
        for certificate in certificates {
            self.head(path);
            match (&certificate.name, certificate.is_ca) {
                (Some((deployment, Some(site))), false) => {
                    self.line("site", site);
                    self.line("deployment", deployment);
                }
                (Some((deployment, None)), true) => self.line("CA of deployment", deployment),
                (_, true) => self.line("CA", "of no deployment that it names"),
                (_, false) => self.line("site", "NONE: peers will refuse this certificate"),
            }
            let validity = self.validity(certificate);
            self.line("valid", &validity);
            self.line("sha256", &certificate.fingerprint());
        }
    }

    fn validity(&self, certificate: &Certificate) -> String {
        let (from, to) = (certificate.not_before, certificate.not_after);
        let state = if self.now > to {
            "EXPIRED".to_owned()
        } else if self.now < from {
            "NOT YET VALID".to_owned()
        } else {
            let left = to.unix_timestamp().saturating_sub(self.now.unix_timestamp());
            format!("{} days left", left / SECONDS_A_DAY)
        };
        format!("{} to {} ({state})", from.date(), to.date())
    }

    fn signed(&mut self, site: &[Certificate], authorities: &[Certificate]) {
        let Some(leaf) = site.first() else { return };
        let intermediates = site.iter().skip(1);
        let signed = if authorities.iter().any(|authority| leaf.is_signed_by(authority)) {
            "by the CA in ca.crt"
        } else if intermediates.clone().any(|between| leaf.is_signed_by(between)) {
            "by the next certificate in its file"
        } else {
            "NOT by the CA in ca.crt"
        };
        self.line("signed", signed);
    }

    fn key(&mut self, path: &Path, of: &[Certificate], where_missing: &str) -> anyhow::Result<()> {
        let Some(text) = files::read(path)? else {
            self.line("key", where_missing);
            return Ok(());
        };
        let fits = match SiteKey::read(&text) {
            Ok(key) if of.iter().any(|of| key.fits(of)) => "fits",
            Ok(_) => "DOES NOT FIT the certificate",
            Err(_) => "cannot be read",
        };
        let line = format!("{} {fits}{}", name(path), readers(path)?);
        self.line("key", &line);
        Ok(())
    }

    fn deployment_key(&mut self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(DEPLOYMENT_KEY);
        self.head(&path);
        let state = match deployment_key::read(folder) {
            Ok(Some(_)) => format!("present{}", readers(&path)?),
            Ok(None) => "MISSING: copy it from another site".to_owned(),
            Err(error) => error.to_string(),
        };
        self.line("deployment key", &state);
        Ok(())
    }

    fn head(&mut self, path: &Path) {
        // Writing into a string does not fail, here and below.
        let _ = writeln!(self.text, "{}", path.display());
    }

    fn line(&mut self, title: &str, value: &str) {
        let _ = writeln!(self.text, "  {title:<17} {value}");
    }
}

/// Says so where others than the owner may read a secret.
fn readers(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mode = fs::metadata(path).with_context(cannot)?.permissions().mode() & 0o777;
    if mode & OTHERS == 0 {
        return Ok(String::new());
    }
    Ok(format!(", OPEN TO OTHERS (mode {mode:o}): chmod 600 {}", path.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
