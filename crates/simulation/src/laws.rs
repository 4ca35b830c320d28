//! What must hold, held against the truth, which no site knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bruri_domain::{Dot, FileId, LogId, PhoneKey};
use bruri_wire::record::RawRecord;
use bytes::Bytes;

use crate::{erasures::Ordered, memory::Served, names, network::Connection, world::World};

/// How long it may take to know so, in microseconds.
const PATIENCE_MICROS: u64 = 60_000_000;
const RECENT: Duration = Duration::from_secs(5);

type Random = [u8; 16];
type Known = BTreeSet<Random>;
/// What each phone knows of a file, where the site remembers it.
pub(crate) type Phones = BTreeMap<(usize, FileId, PhoneKey), Seen>;

/// What a phone has seen; of which generation, unless it is nothing at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    generation: Option<u64>,
    known: Known,
}

/// A law that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Its number.
    pub law: u8,
    /// How.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {}: {}", self.law, self.how)
    }
}

impl Broken {
    pub(crate) fn new(law: u8, how: impl Into<String>) -> Self {
        Self { law, how: how.into() }
    }

    pub(crate) fn never_level(world: &World) -> Self {
        let vector = |site: &crate::site::Site| {
            let told = site.memory.cursors().into_iter().filter(|c| c.sequence > 0);
            let told: Vec<_> = told.map(|c| format!("{} {}", c.log.id, c.sequence)).collect();
            format!("{}: {}", site.name, told.join(", "))
        };
        let vectors: Vec<_> = world.sites.iter().map(vector).collect();
        Self::new(4, format!("the sites never became equal: {}", vectors.join("; ")))
    }
}

/// What phones really knew when they wrote.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    phones: Phones,
    /// Everything that the writer of a version knew.
    versions: BTreeMap<Random, Version>,
    /// Every database that held them went back in time.
    may_be_lost: Known,
    /// Some site knew them, or was to get them, and its database went back.
    fell_behind: Known,
    /// They were of a void branch, and have new places that writers before knew nothing of.
    moved: Known,
    erasures: Vec<Ordered>,
}

#[derive(Debug)]
struct Version {
    file: FileId,
    knew: Known,
    site: usize,
    at: u64,
    generation: u64,
    /// It supersedes nothing.
    suspect: bool,
}

impl Truth {
    pub(crate) fn served(
        &mut self,
        site: usize,
        file: &FileId,
        phone: &PhoneKey,
        (generation, known): (u64, &Known),
    ) {
        let seen = Seen { generation: Some(generation), known: self.closure(known) };
        self.phones.insert((site, file.clone(), phone.clone()), seen);
    }

    pub(crate) fn forget(&mut self, site: usize, file: &FileId, phone: &PhoneKey) {
        self.phones.insert((site, file.clone(), phone.clone()), Seen::default());
    }

    /// A phone's version was accepted; whether it knew all that was known there.
    pub(crate) fn wrote(
        &mut self,
        (site, file, phone): (usize, &FileId, &PhoneKey),
        (random, suspect): (Random, bool),
        (generation, known): (u64, &Known),
        at: u64,
    ) -> bool {
        let entry = (site, file.clone(), phone.clone());
        // What was seen before an erasure says nothing of what came after it.
        let counts = |seen: &&Seen| seen.generation.is_none_or(|seen| seen == generation);
        let seen = self.phones.get(&entry).filter(counts).map(|seen| seen.known.clone());
        let knew = seen.unwrap_or_else(|| self.closure(known));
        let saw_all = known.is_subset(&knew);
        let mut with_it = knew.clone();
        with_it.insert(random);
        self.phones.insert(entry, Seen { generation: Some(generation), known: with_it });
        self.versions
            .insert(random, Version { file: file.clone(), knew, site, at, generation, suspect });
        saw_all
    }

    /// What phones at a site know, to be put back with its database.
    pub(crate) fn phones_of(&self, site: usize) -> Phones {
        let at_site = self.phones.iter().filter(|((at, ..), _)| *at == site);
        at_site.map(|(entry, known)| (entry.clone(), known.clone())).collect()
    }

    pub(crate) fn put_back(&mut self, site: usize, phones: Phones) {
        self.phones.retain(|(at, ..), _| *at != site);
        self.phones.extend(phones);
    }

    /// What is remembered of these files is gone, so their phones are taken to know all that the site knows.
    pub(crate) fn forget_phones(&mut self, site: usize, files: &BTreeSet<FileId>) {
        self.phones.retain(|(at, file, _), _| *at != site || !files.contains(file));
    }

    /// An operator was told that it is erased.
    pub(crate) fn ordered(&mut self, ordered: Ordered) {
        self.erasures.push(ordered);
    }

    pub(crate) fn erasures(&self) -> &[Ordered] {
        &self.erasures
    }

    /// Under which generation a version was taken.
    pub(crate) fn generation_of(&self, random: &Random) -> Option<u64> {
        Some(self.versions.get(random)?.generation)
    }

    pub(crate) fn moved(&mut self, versions: Known) {
        self.moved.extend(versions);
    }

    /// What nobody knows any more since a site's database went back; and what that site knows no more, but others may:
    /// a claim to have all that it has says nothing of these until it has them again.
    pub(crate) fn went_back(&mut self, there: &Known, anywhere: &Known) {
        let fell_behind = self.versions.keys().filter(|random| !there.contains(*random));
        self.fell_behind.extend(fell_behind);
        let gone = self.versions.keys().filter(|random| !anywhere.contains(*random));
        self.may_be_lost.extend(gone);
    }

    /// Who knows a version knows what its writer knew, unless it is suspect.
    fn closure(&self, known: &Known) -> Known {
        let deeper = known.iter().filter_map(|random| self.versions.get(random));
        let deeper = deeper.filter(|version| !version.suspect);
        let mut all: Known = deeper.flat_map(|version| version.knew.iter().copied()).collect();
        all.extend(known.iter().copied());
        all
    }
}

/// A log rides one stream of a connection, never two: it would come twice, without end.
pub(crate) fn rides_one_stream(connection: &Connection) -> Result<(), Broken> {
    if connection.wanted.len() < 2 {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for log in connection.wanted.values().flatten() {
        if !seen.insert(log) {
            return Err(Broken::new(9, format!("{log} is wanted on two streams of a connection")));
        }
    }
    Ok(())
}

impl World {
    /// A version whose writer had seen all that is known here is what is served (law 6).
    pub(crate) fn judge_write(
        &mut self,
        site: usize,
        file: &FileId,
        content: Option<&Bytes>,
        saw_all: bool,
    ) -> Result<(), Broken> {
        let memory = &self.sites[site].memory;
        let served = memory.look(file);
        // One that was written again shows as a conflict even where its writer's successors were known.
        let head = served.state.served().and_then(|head| memory.random(&head.dot));
        let is_moved = head.is_some_and(|random| self.truth.moved.contains(&random));
        if saw_all && served.body.as_ref() != content && !is_moved {
            return Err(Broken::new(6, format!("{file}: a version that knew all is not served")));
        }
        Ok(())
    }

    /// All that the sites had which are not away, as long ago as the answer claims, is known here.
    pub(crate) fn judge_freshness(
        &mut self,
        number: usize,
        file: &FileId,
        served: &Served,
    ) -> Result<(), Broken> {
        self.report.judged += 1;
        let Some(process) = &mut self.sites[number].process else { return Ok(()) };
        let until = process.engine.fresh_until();
        let site = &self.sites[number];
        let Some((process, until)) = site.process.as_ref().zip(until) else { return Ok(()) };
        let until = process.began + u64::try_from(until.as_micros()).unwrap_or(0);
        let away: BTreeSet<usize> = (0..self.sites.len())
            .filter(|other| process.engine.away().contains(&names::site(*other)))
            .collect();
        // A site of which nothing was ever heard is no site yet.
        let heard: BTreeSet<_> = site.memory.cursors().into_iter().map(|c| c.log.id.site).collect();
        let counts = |version: &(&Random, &Version)| {
            let (random, version) = version;
            version.file == *file
                && version.at < until
                && !self.truth.fell_behind.contains(*random)
                && version.generation >= served.state.generation()
                && !away.contains(&version.site)
                && !self.is_retired(version.site)
                && heard.contains(&names::site(version.site))
        };
        let late = self.truth.versions.iter().find(|v| counts(v) && !served.known.contains(v.0));
        match late {
            Some((_, version)) => Err(Broken::new(
                5,
                format!(
                    "{file} at {}: fresh until {until}, but what {} took at {} is not here",
                    site.name,
                    names::site(version.site),
                    version.at
                ),
            )),
            None => Ok(()),
        }
    }

    /// What is served comes from the records that are known, and from nothing else.
    pub(crate) fn judge_state(&self, number: usize, file: &FileId) -> Result<(), Broken> {
        let site = &self.sites[number];
        if site.memory.is_folded(file) {
            return Ok(());
        }
        let how = format!("{file}: the state at {} is not that of its records", site.name);
        Err(Broken::new(4, how))
    }

    /// Once all is healed and level, every site comes to know that it has all, and takes none for away: a retired one
    /// is waited for no more.
    pub(crate) fn await_freshness(&mut self) -> Result<(), Broken> {
        let deadline = self.now + PATIENCE_MICROS;
        let members = self.members();
        while let Some(number) = members.iter().copied().find(|number| !self.is_fresh(*number)) {
            self.step()?;
            if self.now > deadline {
                let how = format!("{} never comes to know that it is fresh", names::site(number));
                return Err(Broken::new(4, how));
            }
        }
        Ok(())
    }

    fn is_fresh(&mut self, number: usize) -> bool {
        let Some(process) = &mut self.sites[number].process else { return false };
        let now = Duration::from_micros(self.now - process.began);
        let standing = process.engine.freshness(now);
        let is_recent = |until: Duration| now.saturating_sub(until) < RECENT;
        standing.away == 0 && standing.strangers == 0 && standing.until.is_some_and(is_recent)
    }

    /// Holds what the sites came to against the truth.
    pub(crate) fn judge(&mut self) -> Result<(), Broken> {
        let members = self.members();
        for site in members.iter().map(|number| &self.sites[*number]) {
            if !site.memory.is_whole() {
                return Err(Broken::new(3, format!("a log of {} has a gap", site.name)));
            }
        }
        self.judge_erasures()?;
        let sites: Vec<_> = members.iter().map(|number| &self.sites[*number]).collect();
        let known = sites.iter().flat_map(|site| site.memory.all_known()).collect::<Known>();
        let floor = |version: &Version| sites[0].memory.look(&version.file).state.generation();
        let is_erased = |version: &Version| version.generation < floor(version);
        let foreseen: Known = self.truth.erasures.iter().flat_map(|e| e.known.clone()).collect();
        let erased = self.truth.versions.iter().filter(|(_, version)| is_erased(version));
        let erased: Vec<Random> = erased.map(|(random, _)| *random).collect();
        self.report.erased +=
            erased.iter().filter(|random| !foreseen.contains(*random)).count() as u64;
        // What a retired site had and told nobody, and what came only there.
        let is_gone = |(random, version): &(&Random, &Version)| {
            self.is_retired(version.site)
                || (self.retired.is_some() && self.truth.fell_behind.contains(*random))
        };
        let gone = self.truth.versions.iter().filter(is_gone).map(|(random, _)| *random);
        let gone: Vec<Random> = gone.filter(|random| !known.contains(random)).collect();
        for random in erased.iter().chain(&gone) {
            self.truth.versions.remove(random);
        }
        self.truth.may_be_lost.retain(|random| self.truth.versions.contains_key(random));
        let lost: Vec<Random> = self.truth.may_be_lost.difference(&known).copied().collect();
        for random in &lost {
            self.truth.versions.remove(random);
        }
        self.report.lost += lost.len() as u64;
        for number in 0..self.options.users {
            self.judge_file(&names::file(number), &members)?;
        }
        let sites: Vec<_> = members.iter().map(|number| &self.sites[*number]).collect();
        let states: Vec<_> =
            sites.iter().map(|site| (site.memory.files(), site.memory.erased())).collect();
        if let Some(other) = states.iter().position(|files| *files != states[0]) {
            let how = format!("{} and {} hold other states", sites[0].name, sites[other].name);
            return Err(Broken::new(4, how));
        }
        let records: Vec<_> = sites.iter().map(|site| site.memory.records()).collect();
        let is_written = |records: &BTreeMap<LogId, Vec<RawRecord>>| {
            let written = records.iter().filter(|(_, log)| !log.is_empty());
            written.map(|(id, log)| (id.clone(), log.clone())).collect::<BTreeMap<_, _>>()
        };
        if let Some(other) = records.iter().position(|r| is_written(r) != is_written(&records[0])) {
            let how = format!("{} and {} hold other bytes", sites[0].name, sites[other].name);
            return Err(Broken::new(8, how));
        }
        Ok(())
    }

    fn judge_file(&mut self, file: &FileId, members: &[usize]) -> Result<(), Broken> {
        let of_file =
            |(random, version): (&Random, &Version)| (version.file == *file).then_some(*random);
        let all: Known = self.truth.versions.iter().filter_map(of_file).collect();
        for site in members.iter().map(|number| &self.sites[*number]) {
            let known = site.memory.known(file);
            if let Some(lost) = all.iter().find(|random| !known.contains_key(*random)) {
                let origin = names::site(self.truth.versions[lost].site);
                let how =
                    format!("{file}: a version that {origin} took is not known at {}", site.name);
                return Err(Broken::new(1, how));
            }
        }
        let (suspect, proper): (Known, Known) =
            all.iter().partition(|random| self.truth.versions[*random].suspect);
        let superseded: Known = proper
            .iter()
            .flat_map(|random| self.truth.versions[random].knew.iter().copied())
            .collect();
        let site = &self.sites[members[0]];
        let known = site.memory.known(file);
        let expected: Known =
            proper.difference(&superseded).filter(|r| known.contains_key(*r)).copied().collect();
        let state = site.memory.files().remove(file).unwrap_or_default();
        // By what makes them unique: a version may have been written again.
        let by_dot: BTreeMap<_, _> = known.iter().map(|(random, dot)| (dot, *random)).collect();
        let random = |dot: &Dot| site.memory.random(dot).or_else(|| by_dot.get(dot).copied());
        let heads: Known = state.heads().iter().filter_map(|head| random(&head.dot)).collect();
        self.report.conflicts += u64::from(state.is_conflict());
        if proper.is_empty() && !suspect.is_empty() {
            // Which of them depends on their logs.
            return if heads.is_empty() || !heads.is_subset(&suspect) {
                Err(Broken::new(
                    6,
                    format!("{file}: the heads are {heads:?}, but only {suspect:?} is known"),
                ))
            } else {
                Ok(())
            };
        }
        // One of a void branch may show as a conflict again; nothing may be hidden.
        if !heads.is_superset(&expected)
            || heads.difference(&expected).any(|r| !self.truth.moved.contains(r))
        {
            let how = format!("{file}: the heads are {heads:?}, but nobody knew of {expected:?}");
            return Err(Broken::new(6, how));
        }
        Ok(())
    }
}
