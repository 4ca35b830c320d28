//! Whether a site's two stores answer the same.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{Cursor, FileId, LogId, Sha256};
use bruri_replication::store::Store as _;
use bruri_simulation::names;
use bruri_store::Page;

use crate::{
    commands::{FILES, Sites},
    kit::{Site, subject},
};

/// Of each body whether it is there.
fn bodies(page: &Page) -> BTreeMap<Sha256, bool> {
    let here = page.bodies.iter().map(|body| (Sha256::of(body), true));
    here.chain(page.absent.iter().map(|hash| (*hash, false))).collect()
}

fn by_log(mut vector: Vec<Cursor>) -> Vec<Cursor> {
    vector.sort_by(|a, b| a.log.id.cmp(&b.log.id));
    vector
}

impl Site {
    pub(crate) async fn compare_file(&self, file: &FileId, context: &str) {
        let (real, memory) = (self.real.known_of(file).await.unwrap(), self.memory.look(file));
        assert_eq!(real, memory.state, "{context}: {file}");
        let answer = self.served(file).await;
        let body = answer.and_then(|answer| answer.version).map(|found| found.content);
        assert_eq!(body, memory.body, "{context}: {file}");
    }

    pub(crate) async fn compare_vector(&self, context: &str) {
        let (real, memory) = (self.real.vector().await.unwrap(), self.memory.cursors());
        assert_eq!(by_log(real), by_log(memory), "{context}");
    }

    pub(crate) async fn compare_page(&self, log: &LogId, after: u64, context: &str) {
        let real = self.real.records_after(log, after).await;
        let memory = self.memory.records_after(log, after).await;
        let (real, memory) = match (real, memory) {
            (Ok(real), Ok(memory)) => (real, memory),
            (real, memory) => {
                let refusals = [real, memory].map(|page| page.unwrap_err().to_string());
                return assert_eq!(refusals[0], refusals[1], "{context}: {log} after {after}");
            }
        };
        assert_eq!(bodies(&real), bodies(&memory), "{context}: {log} after {after}");
        assert_eq!(real.chains, memory.chains, "{context}: {log} after {after}");
        assert_eq!(real.records, memory.records, "{context}: {log} after {after}");
    }
}

impl Sites {
    /// All that can be asked, of every site.
    pub(crate) async fn compare_all(&self) {
        for site in &self.all {
            let context = site.real.site().to_string();
            site.compare_vector(&context).await;
            for cursor in site.memory.cursors() {
                for after in [0, cursor.sequence / 2, cursor.sequence] {
                    site.compare_page(&cursor.log.id, after, &context).await;
                    let at = Cursor { sequence: after, ..cursor.clone() };
                    let real = site.real.chain_at(&at).await.map_err(|error| error.to_string());
                    let memory = site.memory.chain_at(&at).await.map_err(|error| error.to_string());
                    assert_eq!(real, memory, "{context}");
                }
            }
            let files: Vec<FileId> = (0..FILES).map(names::file).collect();
            for file in &files {
                site.compare_file(file, &context).await;
            }
            let subjects: BTreeSet<_> = files.iter().map(subject).collect();
            let real = site.real.generations(&subjects).await.unwrap();
            let memory = bruri_replication::store::Store::generations(&site.memory, &subjects);
            // A subject that was only lifted, or asked for, has no generation.
            let real: Vec<_> = real.into_iter().filter(|(_, generation)| *generation > 0).collect();
            let memory = memory.await.unwrap();
            let memory: Vec<_> =
                memory.into_iter().filter(|(_, generation)| *generation > 0).collect();
            assert_eq!(real, memory, "{context}");
        }
    }
}
