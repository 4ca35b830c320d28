//! What phones do, and what goes wrong.

use bruri_domain::{
    Author, Envelope, LogKind, PhoneKey, RecordKind, Sha256, Stamp, limits::LIVE_LAG_RECORDS_MAX,
};
use bruri_replication::engine::io::Input;
use bruri_wire::record::{RawRecord, encode_envelope};
use bytes::Bytes;
use rand::Rng as _;

use crate::{
    Broken,
    commits::{Draft, Stored},
    names,
    world::World,
};

impl World {
    /// One thing that a phone does or that goes wrong.
    pub(crate) fn act(&mut self) -> Result<(), Broken> {
        let faults = self.options.faults;
        let mut chance = self.rng.random_range(0..100_u32);
        let mut is = |weight: u32| {
            let hit = chance < weight;
            chance = chance.saturating_sub(weight);
            if hit {
                chance = u32::MAX;
            }
            hit
        };
        if is(faults.cuts) {
            self.change_a_line();
        } else if is(faults.crashes) {
            let (site, down) = (self.some_site(), self.rng.random_range(1000..4_000_000));
            self.crash(site, down);
        } else if is(faults.slow) {
            let line = (self.some_site(), self.some_site());
            if !self.lines.slow.remove(&line) {
                self.lines.slow.insert(line);
            }
        } else if is(faults.stalls) {
            let (site, until) = (self.some_site(), self.now + self.rng.random_range(0..3_000_000));
            self.sites[site].stalled_until = until;
        } else if is(faults.bursts) {
            self.burst();
        } else if is(faults.restores) {
            let (site, down) = (self.some_site(), self.rng.random_range(1000..2_000_000));
            if self.rng.random_bool(0.5) {
                self.take_dump(site);
            } else {
                self.restore(site, down);
            }
        } else if self.options.later_release && is(faults.unknown) {
            self.write_unknown();
        } else if is(faults.erasures) {
            let site = self.some_site();
            if self.is_up(site) {
                self.erase_or_lift(site);
            }
        } else if is(faults.damage) {
            let site = self.some_site();
            self.damage(site);
        } else if self.options.retires && is(1) {
            let (at, site) = (self.some_site(), self.some_site());
            // Of a log that forked only its origin can say which branch stays, and only who has the other one what it
            // was: all are let meet first, as operators are told to.
            let went_back = self.sites.iter().any(|site| site.went_back);
            if self.is_up(at) && !went_back && !self.is_ahead_somewhere() {
                self.retire(at, site);
            }
        } else {
            self.phone()?;
        }
        Ok(())
    }

    /// Of a file of its own, so that the truth need not remember each version.
    fn burst(&mut self) {
        let number = self.some_site();
        if !self.is_up(number) {
            return;
        }
        let site = &self.sites[number];
        let file = names::file(self.options.users);
        for _ in 0..LIVE_LAG_RECORDS_MAX + 100 {
            let micros = site.clock.issuer.issue(site.clock.wall(self.now));
            let (random, number): ([u8; 16], u64) = (self.rng.random(), self.rng.random());
            site.memory.commit(Draft {
                file: file.clone(),
                content: Some(number.to_string().into()),
                suspect: false,
                phone: None,
                author: Author::Unknown,
                random,
                stamp: Stamp { micros, trusted: site.clock.trusted },
            });
        }
        self.input_now(number, Input::Changed);
    }

    /// The first site runs a later release, which writes what the others cannot read.
    fn write_unknown(&mut self) {
        if !self.is_up(0) {
            return;
        }
        let payload: [u8; 16] = self.rng.random();
        let payload = Bytes::copy_from_slice(&payload);
        let kind = if self.rng.random_bool(0.5) { LogKind::Control } else { LogKind::Files };
        let envelope = Envelope {
            kind: RecordKind::Unknown(4242),
            subject: None,
            generation: 0,
            payload: Sha256::of(&payload),
        };
        let raw = RawRecord { envelope: encode_envelope(&envelope), payload: Some(payload) };
        self.sites[0].memory.commit_unknown(kind, raw);
        self.input_now(0, Input::Changed);
    }

    /// Whether a phone is served there: otherwise it waits, or goes elsewhere.
    fn is_up(&self, number: usize) -> bool {
        let site = &self.sites[number];
        let answers = site.process.is_some() && site.stalled_until <= self.now;
        answers && site.memory.gate_is_open()
    }

    fn some_site(&mut self) -> usize {
        self.rng.random_range(0..self.sites.len())
    }

    fn change_a_line(&mut self) {
        let (a, b) = (self.some_site(), self.some_site());
        let (cut, both) = (self.rng.random_bool(0.5), self.rng.random_bool(0.7));
        let lines = if both { vec![(a, b), (b, a)] } else { vec![(a, b)] };
        for (from, to) in lines.into_iter().filter(|(from, to)| from != to) {
            if cut {
                self.lines.cut.insert((from, to));
            } else {
                self.mend(from, to);
            }
        }
    }

    /// A phone reads, writes or removes its user's file, at the site where it stands.
    fn phone(&mut self) -> Result<(), Broken> {
        let number = self.rng.random_range(0..self.options.phones);
        let site = number % self.sites.len();
        if !self.is_up(site) {
            return Ok(());
        }
        let (phone, user) = (names::phone(number), self.rng.random_range(0..self.options.users));
        match self.rng.random_range(0..100) {
            0..40 => self.put(site, user, &phone),
            40..46 => self.remove(site, user, &phone),
            46..75 => self.get(site, user, &phone),
            _ => {
                self.get(site, user, &phone)?;
                self.put(site, user, &phone)
            }
        }
    }

    fn get(&mut self, site: usize, user: usize, phone: &PhoneKey) -> Result<(), Broken> {
        let file = names::file(user);
        self.input_now(site, Input::Read);
        // Some realms want to ask.
        let asked = self.now.is_multiple_of(3).then(|| self.asked(site, &file)).flatten();
        let served = if let Some(told) = asked {
            self.judge_asked(site, &file, &told)?;
            self.sites[site].memory.note(&file, phone, &told.state);
            self.report.judged += 1;
            told
        } else {
            let served = self.sites[site].memory.serve(&file, phone);
            self.judge_freshness(site, &file, &served)?;
            served
        };
        if self.rng.random_range(0..100) < self.options.faults.lost_answers {
            self.sites[site].memory.blind(&file, phone);
            self.truth.forget(site, &file, phone);
        } else {
            let generation = served.state.generation();
            self.truth.served(site, &file, phone, (generation, &served.known));
        }
        if self.now.is_multiple_of(4) {
            self.judge_state(site, &file)?;
        }
        self.judge_erased(site, &file, &served.known)
    }

    pub(crate) fn put(&mut self, site: usize, user: usize, phone: &PhoneKey) -> Result<(), Broken> {
        let number: u64 = self.rng.random();
        // Now and then what another phone sent already.
        let text = match number % 100 {
            0..10 => "Name=same\r\n".to_owned(),
            // No phone's file.
            10..18 => number.to_string(),
            _ => format!("Name={number}\r\n"),
        };
        self.write(site, user, phone, Some(&text.into()))
    }

    fn remove(&mut self, site: usize, user: usize, phone: &PhoneKey) -> Result<(), Broken> {
        self.write(site, user, phone, None)
    }

    fn write(
        &mut self,
        number: usize,
        user: usize,
        phone: &PhoneKey,
        content: Option<&Bytes>,
    ) -> Result<(), Broken> {
        let (file, random) = (names::file(user), self.rng.random());
        let suspect = content.is_some_and(|content| !content.contains(&b'='));
        let site = &self.sites[number];
        let micros = site.clock.issuer.issue(site.clock.wall(self.now));
        let stamp = Stamp { micros, trusted: site.clock.trusted };
        let before = site.memory.look(&file);
        let (generation, known) = (before.state.generation(), before.known);
        let draft = Draft {
            file: file.clone(),
            content: content.cloned(),
            suspect,
            phone: Some(phone.clone()),
            author: Author::Unknown,
            random,
            stamp,
        };
        match site.memory.commit(draft) {
            Stored::Barred => {}
            Stored::Nothing => self.truth.served(number, &file, phone, (generation, &known)),
            Stored::Version(..) => {
                self.report.acknowledged += 1;
                let saw_all = self.truth.wrote(
                    (number, &file, phone),
                    (random, suspect),
                    (generation, &known),
                    self.now,
                );
                self.judge_write(number, &file, content, saw_all && !suspect)?;
            }
        }
        self.input_now(number, Input::Changed);
        Ok(())
    }
}
