//! What is done to a site, in Postgres first: what it draws and stamps is read from its log and done in memory.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use bruri_domain::{
    Author, Chain, Context, Control, Cursor, Dot, FileId, LogId, LogKind, PhoneKey, Remembered,
    Retention, Sha256, Stamp, fork::Parting,
};
use bruri_replication::{
    engine::io::{Done, Job},
    store::{Store as _, perform},
};
use bruri_simulation::{
    commits::{Draft, Stored},
    names,
};
use bruri_store::Pruning;
use bruri_wire::{
    control::decode_control,
    proto::replication::v1 as proto,
    record::{RawRecord, decode_envelope, decode_version},
};
use bytes::Bytes;
use futures_util::future::join_all;
use rand::{Rng as _, rngs::StdRng};

use crate::kit::{Site, is_suspect, key, phone, subject};

pub(crate) const FILES: usize = 4;
const PHONES: u8 = 3;

pub(crate) struct Sites {
    pub(crate) all: Vec<Site>,
    pub(crate) rng: StdRng,
    /// What was tried.
    pub(crate) tried: Vec<&'static str>,
}

/// What a phone sends.
struct Sent {
    file: FileId,
    content: Option<Bytes>,
    by: u8,
}

impl Sites {
    /// One command at some site.
    pub(crate) async fn command(&mut self) {
        let site = self.rng.random_range(0..self.all.len());
        let file = names::file(self.rng.random_range(0..FILES));
        self.all[site].clock.0.fetch_add(self.rng.random_range(1..2_000_000), Ordering::SeqCst);
        let name = match self.rng.random_range(0..100) {
            0..30 => self.put(site).await,
            30..38 => self.take(site).await,
            38..48 => self.look(site, &file).await,
            48..50 => self.blind(site, &file),
            50..52 => self.asked(site).await,
            52..84 => self.apply(site).await,
            84..89 => self.erase(site, &file).await,
            89..92 => self.lift(site, &file).await,
            92..95 => self.prune(site).await,
            95..97 => self.set_back(site).await,
            97 => self.give_up(site).await,
            98 if !self.tried.contains(&"epoch") => self.open_epoch(site).await,
            _ => self.keep_to_branches(site).await,
        };
        self.tried.push(name);
        let count = self.tried.len();
        let context = format!("{name}, command {count}, at {site}");
        let site = &self.all[site];
        site.give_receipts().await;
        site.compare_vector(&context).await;
        site.compare_snapshot(&context).await;
        for number in 0..FILES {
            site.compare_file(&names::file(number), &context).await;
        }
    }

    /// Phones write different files at the same moment.
    async fn put(&mut self, site: usize) -> &'static str {
        let (first, count) = (self.rng.random_range(0..FILES), self.rng.random_range(1..=FILES));
        let sent: Vec<Sent> =
            (first..first + count).map(|number| self.sent(number % FILES)).collect();
        let site = &self.all[site];
        let log = site.open_log(LogKind::Files);
        let before = site.end(&log);
        let sending = sent.iter().map(|s| site.send(&s.file, s.content.clone(), s.by));
        let taken = join_all(sending).await;
        let mut written = Vec::new();
        for raw in site.real.records_after(&log, before).await.unwrap().records {
            let version = decode_version(raw.payload.as_ref().unwrap()).unwrap();
            let sent = sent.iter().find(|sent| sent.file == version.file).unwrap();
            let stored = site.commit(sent, version.author, version.random, version.stamp);
            assert!(matches!(stored, Stored::Version(..)), "{stored:?}");
            written.push(version.file);
        }
        site.compare_page(&log, before, "put").await;
        for (sent, taken) in sent.iter().zip(taken).filter(|(s, _)| !written.contains(&s.file)) {
            let stamp = Stamp { trusted: true, micros: 0 };
            let stored = site.commit(sent, Author::Unknown, [0; 16], stamp);
            assert_eq!(stored, if taken { Stored::Nothing } else { Stored::Barred });
        }
        "put"
    }

    fn sent(&mut self, file: usize) -> Sent {
        let content = match self.rng.random_range(0..7_u8) {
            0 => None,
            1 => Some(Bytes::from_static(b"no phone's file")),
            number => Some(Bytes::from(format!("Name={number}\r\n"))),
        };
        Sent { file: names::file(file), content, by: self.rng.random_range(0..PHONES) }
    }

    async fn look(&mut self, site: usize, file: &FileId) -> &'static str {
        let (site, by) = (&self.all[site], self.rng.random_range(0..PHONES));
        if let Some(served) = site.served(file).await {
            site.real.remember(Site::mark(file, by), served.remembered);
            let memory = site.memory.serve(file, &PhoneKey::from(&phone(by)));
            assert_eq!(served.state, memory.state);
        }
        "look"
    }

    fn blind(&mut self, site: usize, file: &FileId) -> &'static str {
        let (site, by) = (&self.all[site], self.rng.random_range(0..PHONES));
        site.real.remember(Site::mark(file, by), Remembered::Blind);
        site.memory.blind(file, &PhoneKey::from(&phone(by)));
        "blind"
    }

    /// A phone is answered with what another site told of one of its logs, also before its records are here.
    async fn asked(&mut self, site: usize) -> &'static str {
        let of = (site + self.rng.random_range(1..self.all.len())) % self.all.len();
        let (ahead, of) = (self.rng.random_range(0..4), &self.all[of]);
        let log = of.open_log(LogKind::Files);
        let site = &self.all[site];
        let mut context = Context::default();
        context.raise_to(&Dot { sequence: site.end(&log) + ahead, log });
        site.real.note_told(&context);
        site.memory.note_told(&context);
        let told = of.real.site();
        assert_eq!(site.real.told(told).await.unwrap(), site.memory.told(told).await.unwrap());
        "asked"
    }

    /// Batches of a peer's logs, applied to Postgres at the same time.
    async fn apply(&mut self, to: usize) -> &'static str {
        let from = (to + self.rng.random_range(1..self.all.len())) % self.all.len();
        let cut = self.rng.random_range(1..6);
        let (from, to) = (&self.all[from], &self.all[to]);
        let mut jobs = Vec::new();
        for theirs in from.memory.cursors() {
            let ours = to.cursor(&theirs);
            if ours.sequence < theirs.sequence && !to.memory.appends_to(&theirs.log.id) {
                jobs.extend(from.batch(ours, cut).await);
            }
        }
        // Of two erasures the first one counts what it took, and a body that one batch lacks another may bring: these
        // come one after the other.
        let is_lone = |(from, batch): &(Cursor, proto::Batch)| {
            from.log.kind == LogKind::Control || !batch.absent_bodies.is_empty()
        };
        let (lone, files): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_lone);
        for job in &lone {
            let real = applied(&to.real, job).await;
            assert_eq!(real, applied(&to.memory, job).await, "{}", job.0.log.id);
            // A body that was erased may still serve a record that comes without it, until it is deleted.
            to.give_receipts().await;
        }
        let real = join_all(files.iter().map(|job| applied(&to.real, job))).await;
        for (job, real) in files.iter().zip(real) {
            assert_eq!(real, applied(&to.memory, job).await, "{}", job.0.log.id);
        }
        "apply"
    }

    async fn erase(&mut self, site: usize, file: &FileId) -> &'static str {
        let (site, random) = (&self.all[site], self.rng.random());
        site.real.erase(subject(file), random, "simulated").await.unwrap();
        site.memory.erase(file, random, site.last_control().await.stamp());
        "erase"
    }

    async fn lift(&mut self, site: usize, file: &FileId) -> &'static str {
        let (site, random) = (&self.all[site], self.rng.random());
        let is_lifted = site.real.lift(subject(file), random, "simulated").await.is_ok();
        let stamp = if is_lifted {
            site.last_control().await.stamp()
        } else {
            Stamp { trusted: true, micros: 0 }
        };
        assert_eq!(site.memory.lift(file, random, stamp), is_lifted);
        if is_lifted { "lift" } else { "not lifted" }
    }

    async fn prune(&mut self, site: usize) -> &'static str {
        let nothing = Some(Duration::ZERO);
        let all = Some(Duration::from_secs(self.rng.random_range(0..20)));
        let retention =
            Retention { all, days: nothing, weeks: nothing, months: nothing, thins: false };
        let pruning = Pruning { retention, only_call_log: |_, _| false, rest: Duration::ZERO };
        let site = &self.all[site];
        let now = site.clock.0.load(Ordering::SeqCst);
        let real = site.real.prune(&pruning).await.unwrap();
        assert_eq!(real.versions, site.memory.prune(&retention, now));
        "prune"
    }

    /// A log that nobody writes to goes back, as after a fork: its other branch is refused from then on, and where it
    /// is the site's own it tells so and writes again what was on it.
    async fn set_back(&mut self, site: usize) -> &'static str {
        let closed = |site: &Site, cursor: &Cursor| {
            let id = &cursor.log.id;
            let is_open = site.memory.open_logs().contains(id);
            !is_open && cursor.log.kind == LogKind::Files && cursor.sequence > 2
        };
        let has_own = |site: &&Site| {
            let is_own = |at: &Cursor| at.log.id.site == *site.real.site() && closed(site, at);
            site.memory.cursors().iter().any(is_own)
        };
        let own = self.all.iter().find(has_own);
        if self.tried.contains(&if own.is_some() { "set back" } else { "peer set back" }) {
            return "nothing set back";
        }
        let name = if own.is_some() { "set back" } else { "peer set back" };
        let site = own.unwrap_or(&self.all[site]);
        site.give_up().await;
        let cursors = site.memory.cursors();
        let is_set_back = |at: &&Cursor| {
            closed(site, at) && (own.is_none() || at.log.id.site == *site.real.site())
        };
        let Some(end) = cursors.iter().find(is_set_back) else { return "nothing set back" };
        let back = Cursor { sequence: end.sequence - 2, ..end.clone() };
        let chain = site.memory.chain_at(&back).await.unwrap().unwrap();
        let stays = Chain(Sha256::of(b"another branch"));
        let parting = Parting { common: Cursor { chain, ..back }, stays };
        site.real.set_back(&parting).await.unwrap();
        // Of a peer's log no record is written.
        let told = match site.controls().await.pop() {
            Some(Control::Branch(branch)) => (branch.random, branch.stamp),
            _ => ([0; 16], Stamp { trusted: false, micros: 0 }),
        };
        assert!(site.memory.set_back(&parting, told).is_some());
        name
    }

    /// What sites told of logs of theirs that forked is done with.
    async fn keep_to_branches(&mut self, site: usize) -> &'static str {
        let due = self.all.iter().find(|site| site.memory.has_due_partings());
        let site = due.unwrap_or(&self.all[site]);
        site.real.drop_void_branches().await.unwrap();
        if site.memory.keep_to_staying_branches() { "branches" } else { "no branches" }
    }

    async fn give_up(&mut self, site: usize) -> &'static str {
        self.all[site].give_up().await;
        "give up"
    }

    /// A peer has more of the site's own log than the site, or was told of more: both open the next epochs.
    async fn open_epoch(&mut self, site: usize) -> &'static str {
        let site = &self.all[site];
        let log = site.open_log(LogKind::Files);
        let end = site.memory.cursors().into_iter().find(|cursor| cursor.log.id == log).unwrap();
        let ahead = Cursor { sequence: end.sequence + 1, chain: Chain(Sha256::of(b"more")), ..end };
        let told = Dot { log: log.clone(), sequence: ahead.sequence };
        let is_told = self.rng.random_bool(0.5);
        let real = if is_told {
            site.real.peer_was_told(std::slice::from_ref(&told)).await.unwrap();
            Vec::new()
        } else {
            site.real.peer_has(std::slice::from_ref(&ahead)).await.unwrap()
        };
        let known = site.memory.open_logs();
        let vector = site.real.vector().await.unwrap();
        let opened = vector.into_iter().map(|cursor| cursor.log);
        let is_new =
            |log: &bruri_domain::Log| site.real.appends_to(&log.id) && !known.contains(&log.id);
        site.memory.draw_epochs(opened.filter(is_new).collect());
        if is_told {
            site.memory.peer_was_told(&[told]).await.unwrap();
        } else {
            assert_eq!(real, site.memory.peer_has(&[ahead]).await.unwrap());
        }
        assert_ne!(site.open_log(LogKind::Files), log);
        "epoch"
    }
}

/// What a store makes of a batch: where its cursor is, or that it refuses.
async fn applied<S: bruri_replication::store::Store>(
    store: &S,
    (from, batch): &(Cursor, proto::Batch),
) -> Option<Cursor> {
    let peer = from.log.id.site.clone();
    let job = Job::Apply { from: from.clone(), batch: batch.clone(), peer };
    match perform(job, store, &key()).await {
        Done::Applied { result, .. } => result.ok(),
        other => panic!("{other:?}"),
    }
}

impl Site {
    pub(crate) fn end(&self, log: &LogId) -> u64 {
        let cursors = self.memory.cursors();
        cursors.iter().find(|cursor| cursor.log.id == *log).map_or(0, |cursor| cursor.sequence)
    }

    /// Where this site has a log of which a peer has that.
    fn cursor(&self, theirs: &Cursor) -> Cursor {
        let ours = self.memory.cursors().into_iter().find(|c| c.log.id == theirs.log.id);
        ours.unwrap_or_else(|| Cursor::at_beginning(theirs.log.clone()))
    }

    fn commit(&self, sent: &Sent, author: Author, random: [u8; 16], stamp: Stamp) -> Stored {
        self.memory.commit(Draft {
            file: sent.file.clone(),
            content: sent.content.clone(),
            suspect: is_suspect(sent.content.as_ref()),
            phone: Some(PhoneKey::from(&phone(sent.by))),
            author,
            random,
            stamp,
        })
    }

    /// The next records of a log as a supplier sends them, at most so many.
    /// None where a snapshot passed them over.
    pub(crate) async fn batch(&self, from: Cursor, most: usize) -> Option<(Cursor, proto::Batch)> {
        let before = from.sequence;
        self.compare_page(&from.log.id, before, "batch").await;
        let mut page = self.real.records_after(&from.log.id, before).await.ok()?;
        page.records.truncate(most);
        let chain = page.chains[page.records.len() - 1];
        let named: BTreeSet<Sha256> = page.records.iter().filter_map(body_of).collect();
        let is_named = |body: &Bytes| named.contains(&Sha256::of(body));
        let entry = |raw: RawRecord| proto::Entry { envelope: raw.envelope, payload: raw.payload };
        let batch = proto::Batch {
            log: Some((&from.log).into()),
            first_sequence: before + 1,
            entries: page.records.into_iter().map(entry).collect(),
            bodies: page.bodies.into_iter().filter(is_named).collect(),
            chain: chain.0.as_bytes().to_vec(),
            absent_bodies: page
                .absent
                .iter()
                .filter(|hash| named.contains(hash))
                .map(|hash| hash.as_bytes().to_vec())
                .collect(),
        };
        Some((from, batch))
    }

    /// Ends a snapshot that is not filled in.
    async fn give_up(&self) {
        self.real.give_snapshot_up().await.unwrap();
        self.memory.end_snapshot();
    }

    async fn last_control(&self) -> Control {
        self.controls().await.pop().unwrap()
    }

    /// What the site has written in Postgres and not yet in memory.
    async fn controls(&self) -> Vec<Control> {
        let log = self.open_log(LogKind::Control);
        self.controls_after(&log, self.end(&log)).await
    }

    async fn controls_after(&self, log: &LogId, after: u64) -> Vec<Control> {
        let records = self.real.records_after(log, after).await.unwrap().records;
        let read = |raw: RawRecord| {
            let envelope = decode_envelope(&raw.envelope).unwrap();
            decode_control(&envelope, &raw.payload.unwrap()).unwrap().unwrap()
        };
        records.into_iter().map(read).collect()
    }

    /// Receipts as they are due, so that erased bodies are gone on both sides.
    pub(crate) async fn give_receipts(&self) {
        let log = self.open_log(LogKind::Control);
        let before = self.end(&log);
        self.real.give_receipts().await.unwrap();
        for control in self.controls_after(&log, before).await {
            let Control::Receipt(receipt) = control else { panic!("{control:?}") };
            self.memory.give_receipt(receipt.erasure, receipt.random, receipt.stamp);
        }
        assert_eq!(self.memory.due_receipt(), None);
    }
}

fn body_of(raw: &RawRecord) -> Option<Sha256> {
    let envelope = decode_envelope(&raw.envelope).ok()?;
    let payload = raw.payload.as_ref().filter(|_| envelope.kind.is_version())?;
    Some(decode_version(payload).ok()?.body?.sha256)
}
