//! What records that concern no file come to in memory: erasures, lifts, receipts and members.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Control, DeploymentKey, Dot, Erased, Erasure, FileId, FileState, Lift, LogKind, Member,
    MemberState, Membership, Random, Receipt, Sha256, SiteName, Stamp,
};
use bruri_wire::control::encode_control;

use crate::memory::{Memory, Row, Tables};

/// What is known of what concerns no file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Controls {
    erased: BTreeMap<Sha256, Erased>,
    /// The erasures whose records are known.
    carried_out: BTreeMap<Random, CarriedOut>,
    /// The receipts of each erasure, site by site.
    receipts: BTreeMap<Random, BTreeMap<SiteName, BTreeSet<Random>>>,
    members: Membership,
    /// Files of which it was forgotten what phones had seen, until that is told.
    pub(crate) forgotten: BTreeSet<FileId>,
}

#[derive(Clone, Debug)]
struct CarriedOut {
    subject: Sha256,
    /// To which its subject was raised.
    generation: u64,
    versions: u64,
    bodies: u64,
}

impl Memory {
    /// Erases the subject of a file.
    pub fn erase(&self, file: &FileId, random: Random, stamp: Stamp) {
        let subject = self.key.subject_hash(file.subject());
        let erasure = Erasure { random, stamp, operator: "simulated".to_owned() };
        self.append(|tables| {
            let generation = tables.newest_generation(&subject, &self.key);
            Some((Control::Erasure(erasure), Some(subject), generation))
        });
    }

    /// Lets the subject of a file in again; `false` where it is not barred.
    pub fn lift(&self, file: &FileId, random: Random, stamp: Stamp) -> bool {
        let subject = self.key.subject_hash(file.subject());
        self.append(|tables| {
            let erased = tables.controls.erased.get(&subject)?;
            let erasures: Vec<Random> = erased.bars().copied().collect();
            let operator = "simulated".to_owned();
            let lift = Control::Lift(Lift { random, stamp, operator, erasures });
            erased.is_barred().then_some((lift, Some(subject), erased.generation()))
        })
    }

    /// Tells all that a site is retired.
    pub fn retire(&self, site: &SiteName, random: Random, stamp: Stamp) {
        let member = Member {
            random,
            stamp,
            site: site.clone(),
            state: MemberState::Retired,
            addresses: Vec::new(),
            issues: false,
            operator: "simulated".to_owned(),
        };
        self.append(|_| Some((Control::Member(member), None, 0)));
    }

    /// An erasure for which this site has given no receipt.
    pub fn due_receipt(&self) -> Option<Random> {
        let tables = self.lock();
        let site = tables.files_log().site;
        let controls = &tables.controls;
        let given = |erasure: &Random| {
            controls.receipts.get(erasure).is_some_and(|r| r.contains_key(&site))
        };
        controls.carried_out.keys().find(|erasure| !given(erasure)).copied()
    }

    /// Gives the receipt for an erasure.
    pub fn give_receipt(&self, erasure: Random, random: Random, stamp: Stamp) {
        self.append(|tables| {
            let done = tables.controls.carried_out.get(&erasure)?;
            let CarriedOut { subject, generation, versions, bodies } = done.clone();
            let receipt = Receipt { random, stamp, erasure, versions, bodies };
            Some((Control::Receipt(receipt), Some(subject), generation))
        });
    }

    /// Appends a record to the control log and applies it, unless there is none to append.
    fn append(&self, make: impl FnOnce(&Tables) -> Option<(Control, Option<Sha256>, u64)>) -> bool {
        self.judge(&[]);
        let (mut tables, mut beside) = (self.lock(), self.beside());
        let Some((control, subject, generation)) = make(&tables) else { return false };
        let open = tables.open_log(LogKind::Control);
        let raw = encode_control(&control, subject, generation);
        if let Some(rows) = tables.logs.get_mut(&open) {
            rows.push(raw, generation, None);
            beside.saw(&rows.cursor);
        }
        tables.apply_control(&open.site, (subject, generation), &control, &self.key);
        true
    }

    /// How often each of these subjects was erased, and what bars it.
    pub fn erased(&self) -> BTreeMap<Sha256, Erased> {
        self.lock().controls.erased.clone()
    }

    /// Whether an erasure is known here.
    pub fn knows_erasure(&self, erasure: &Random) -> bool {
        self.lock().controls.carried_out.contains_key(erasure)
    }

    /// How many receipts each site has given for an erasure.
    pub fn receipts(&self, erasure: &Random) -> BTreeMap<SiteName, usize> {
        let tables = self.lock();
        let receipts = tables.controls.receipts.get(erasure);
        let receipts = receipts.into_iter().flatten();
        receipts.map(|(site, receipts)| (site.clone(), receipts.len())).collect()
    }

    /// What is known of the sites.
    pub fn members(&self) -> Membership {
        self.lock().controls.members.clone()
    }

    /// The files of which it was forgotten since the last question what phones had seen.
    pub(crate) fn take_forgotten(&self) -> BTreeSet<FileId> {
        std::mem::take(&mut self.lock().controls.forgotten)
    }

    /// Whether anything is held of what is older than its subject's generation.
    pub fn holds_erased(&self) -> bool {
        let tables = self.lock();
        let rows = tables.logs.values().flat_map(|rows| &rows.records);
        let mut rows = rows.chain(tables.snapshot.early().map(|(_, row)| row));
        let is_old = rows.any(|row| {
            let version = row.version.as_ref();
            version.is_some_and(|v| row.generation < tables.floor(&v.file, &self.key))
        });
        let named = tables.referenced();
        is_old || tables.bodies.keys().any(|body| !named.contains(body))
    }
}

impl Tables {
    /// What is older of a file is erased.
    pub(crate) fn floor(&self, file: &FileId, key: &DeploymentKey) -> u64 {
        if self.controls.erased.is_empty() {
            return 0;
        }
        let erased = self.controls.erased.get(&key.subject_hash(file.subject()));
        erased.map_or(0, Erased::generation)
    }

    /// Whether its subject was ever erased.
    pub(crate) fn is_erased(&self, file: &FileId, key: &DeploymentKey) -> bool {
        self.controls.erased.contains_key(&key.subject_hash(file.subject()))
    }

    pub(crate) fn is_barred(&self, file: &FileId, key: &DeploymentKey) -> bool {
        let erased = self.controls.erased.get(&key.subject_hash(file.subject()));
        erased.is_some_and(Erased::is_barred)
    }

    /// A file's state, at least at the generation of its subject.
    pub(crate) fn state(&self, file: &FileId, key: &DeploymentKey) -> FileState {
        let mut state = self.files.get(file).cloned().unwrap_or_default();
        state.raise_to(self.floor(file, key));
        state
    }

    /// The generations of those among these subjects that were erased.
    pub(crate) fn generations(&self, subjects: &BTreeSet<Sha256>) -> BTreeMap<Sha256, u64> {
        let known =
            |subject: &Sha256| Some((*subject, self.controls.erased.get(subject)?.generation()));
        subjects.iter().filter_map(known).collect()
    }

    /// That of a subject or of its files: a version may have come before the erasure that its generation tells of.
    fn newest_generation(&self, subject: &Sha256, key: &DeploymentKey) -> u64 {
        let of_files = self.files_of(subject, key).into_iter();
        let held = of_files.map(|file| self.files[&file].generation()).max().unwrap_or(0);
        self.controls.erased.get(subject).map_or(0, Erased::generation).max(held)
    }

    fn files_of(&self, subject: &Sha256, key: &DeploymentKey) -> Vec<FileId> {
        let of_subject = |file: &&FileId| key.subject_hash(file.subject()) == *subject;
        self.files.keys().filter(of_subject).cloned().collect()
    }

    /// What a record of a site's control log changes here, however often it is applied.
    pub(crate) fn apply_control(
        &mut self,
        site: &SiteName,
        (subject, generation): (Option<Sha256>, u64),
        control: &Control,
        key: &DeploymentKey,
    ) {
        match (control, subject) {
            (Control::Erasure(erasure), Some(subject)) => {
                let erased = self.controls.erased.entry(subject).or_default();
                erased.erase(erasure.random, generation);
                let below = erased.generation().max(generation + 1);
                let (versions, bodies) = self.carry_out(&subject, below, key);
                let nothing = CarriedOut { subject, generation, versions: 0, bodies: 0 };
                let done = self.controls.carried_out.entry(erasure.random).or_insert(nothing);
                done.generation = generation + 1;
                done.versions += versions;
                done.bodies += bodies;
            }
            (Control::Lift(lift), Some(subject)) => {
                self.controls.erased.entry(subject).or_default().lift(&lift.erasures);
            }
            (Control::Receipt(receipt), _) => {
                let receipts = self.controls.receipts.entry(receipt.erasure).or_default();
                receipts.entry(site.clone()).or_default().insert(receipt.random);
            }
            (Control::Member(member), _) => self.controls.members.apply(member.clone()),
            (Control::Branch(branch), _) => self.told_parting(&branch.parting(site)),
            // What says nothing of files here.
            (
                Control::Realm(_) | Control::Release(_) | Control::Erasure(_) | Control::Lift(_),
                _,
            ) => {}
        }
    }

    /// Leaves nothing of a subject's older records but their places. Returns how many versions lost their content,
    /// and how many different bodies they named.
    fn carry_out(&mut self, subject: &Sha256, below: u64, key: &DeploymentKey) -> (u64, u64) {
        let files = self.files_of(subject, key);
        let (mut versions, mut bodies) = (0, BTreeSet::new());
        let rows = self.logs.values_mut().flat_map(|rows| &mut rows.records);
        for row in rows.chain(self.snapshot.early_rows_mut()) {
            let is_of = |file: &FileId| files.contains(file);
            let is_old = row.version.as_ref().is_some_and(|version| is_of(&version.file));
            if is_old && row.generation < below {
                versions += 1;
                bodies.extend(row.body().filter(|_| !row.is_pruned).map(|body| body.sha256));
                row.forget();
            }
        }
        for file in &files {
            self.rebuild(file, key);
        }
        self.snapshot.step_back(&files, &self.files);
        self.remembered.retain(|(file, _), _| !files.contains(file));
        self.controls.forgotten.extend(files);
        self.sweep();
        (versions, bodies.len() as u64)
    }

    /// The bodies that records name which were not pruned.
    pub(crate) fn referenced(&self) -> BTreeSet<Sha256> {
        let rows = self.logs.values().flat_map(|rows| &rows.records);
        let rows = rows.chain(self.snapshot.early().map(|(_, row)| row));
        let bodies = rows.filter(|row| !row.is_pruned).filter_map(Row::body);
        bodies.map(|body| body.sha256).collect()
    }

    /// Removes the bodies that nobody names.
    pub(crate) fn sweep(&mut self) {
        let named = self.referenced();
        self.bodies.retain(|hash, _| named.contains(hash));
    }

    pub(crate) fn row_mut(&mut self, dot: &Dot) -> Option<&mut Row> {
        if let Some(early) = self.snapshot.early_mut(dot) {
            return Some(early);
        }
        let place = usize::try_from(dot.sequence).ok()?.checked_sub(1)?;
        self.logs.get_mut(&dot.log)?.records.get_mut(place)
    }
}
