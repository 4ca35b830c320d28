//! What would tell of somebody, sought in all that a site keeps.
//!
//! Every table, value by value, compressed ones also as they were, and every file of the data directory. Not the
//! cluster's own files: what Postgres has not vacuumed or recycled yet (dead rows, WAL) goes when it does that. Nor the
//! log: that is of whoever keeps what a site writes to its standard output.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use bruri_domain::Sha256;

use crate::site::Site;

/// What is sought.
#[derive(Clone, Debug, Default)]
pub struct Traces(Vec<Trace>);

#[derive(Clone, Debug)]
struct Trace {
    /// For people: the text, and how it is written.
    what: String,
    bytes: Vec<u8>,
}

impl Traces {
    /// Adds a text: in UTF-8, in UTF-16LE, and each of these in hexadecimal digits, small and capital.
    #[must_use]
    pub fn and(self, text: &str) -> Self {
        let wide = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.and_bytes(&format!("{text} in UTF-8"), text.as_bytes().to_vec())
            .and_bytes(&format!("{text} in UTF-16LE"), wide)
    }

    /// Adds the hashes of bodies.
    #[must_use]
    pub fn and_hashes(self, bodies: &[Vec<u8>]) -> Self {
        bodies.iter().map(|body| Sha256::of(body)).fold(self, |traces, hash| {
            traces.and_bytes(&format!("hash {hash}"), hash.as_bytes().to_vec())
        })
    }

    fn and_bytes(mut self, what: &str, bytes: Vec<u8>) -> Self {
        let small = hexadecimal(&bytes);
        let capital = small.to_ascii_uppercase();
        self.0.push(Trace { what: format!("{what}, small hexadecimal"), bytes: small });
        self.0.push(Trace { what: format!("{what}, capital hexadecimal"), bytes: capital });
        self.0.push(Trace { what: what.to_owned(), bytes });
        self
    }

    /// What of it is at a site, which must run, and where.
    pub async fn found_at(&self, site: &Site) -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for (place, bytes) in site.database().await?.export().await? {
            found.extend(self.found_in(&place, &bytes));
        }
        self.look_into(&site.data_dir(), &site.cluster(), &mut found)?;
        Ok(found)
    }

    /// Fails where a site still holds any of it.
    pub async fn are_gone_from(&self, site: &Site) -> anyhow::Result<()> {
        let found = self.found_at(site).await?;
        ensure!(found.is_empty(), "{} still holds {found:?}", site.name());
        Ok(())
    }

    fn look_into(
        &self,
        folder: &Path,
        but: &Path,
        found: &mut BTreeSet<String>,
    ) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).context("list a folder of a site")? {
            let entry = entry.context("list a folder of a site")?;
            let (path, kind) = (entry.path(), entry.file_type().context("read a file's type")?);
            found.extend(self.found_in("a file's name", path.as_os_str().as_encoded_bytes()));
            if kind.is_dir() && path != but {
                self.look_into(&path, but, found)?;
            } else if kind.is_file() {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                found.extend(self.found_in(&path.display().to_string(), &bytes));
            }
        }
        Ok(())
    }

    fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let is_here = |trace: &&Trace| bytes.windows(trace.bytes.len()).any(|w| w == trace.bytes);
        let told = |trace: &Trace| format!("{place}: {}", trace.what);
        self.0.iter().filter(is_here).map(told).collect()
    }
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_every_way_it_may_be_written() {
        let traces = Traces::default().and("Žofie");
        let wide: Vec<u8> = "Žofie".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let written = ["Žofie".as_bytes().to_vec(), wide];
        let digits = written.iter().map(|bytes| hexadecimal(bytes));
        for small in digits {
            assert_eq!(traces.found_in("here", &small).len(), 1);
            assert_eq!(traces.found_in("here", &small.to_ascii_uppercase()).len(), 1);
        }
        for bytes in written {
            assert_eq!(traces.found_in("here", &[b"..".to_vec(), bytes].concat()).len(), 1);
        }
        assert!(traces.found_in("here", "Zofie".as_bytes()).is_empty());
    }
}
