//! Which release each site runs, and what it can read: a record of a new kind is written once all can read it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Random, RecordKind, SiteName, Stamp};

/// The payload of a record by which the site of its log says what it can read from then on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// The release, e.g. `0.1.0`; for people.
    pub release: String,
    /// The kinds of records that it applies, as envelopes number them.
    pub kinds: BTreeSet<i32>,
}

impl Release {
    /// Whether this counts and not the other, of two of one site.
    pub fn outranks(&self, other: &Self) -> bool {
        (self.stamp.micros, self.random) > (other.stamp.micros, other.random)
    }
}

/// What each site has last said of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Releases(BTreeMap<SiteName, Release>);

impl Releases {
    /// Takes in what one record of a site tells.
    pub fn apply(&mut self, site: SiteName, release: Release) {
        match self.0.get(&site) {
            Some(known) if !release.outranks(known) => {}
            _ => drop(self.0.insert(site, release)),
        }
    }

    /// What a site has last said.
    pub fn get(&self, site: &SiteName) -> Option<&Release> {
        self.0.get(site)
    }

    /// Those of the sites that would have to keep a record of that kind, with that number, unread. One that has said
    /// nothing yet reads what the first release reads.
    pub fn cannot_read<'a>(
        &self,
        (kind, number): (RecordKind, i32),
        sites: impl IntoIterator<Item = &'a SiteName>,
    ) -> Vec<SiteName> {
        if RecordKind::FIRST.contains(&kind) {
            return Vec::new();
        }
        let reads = |site: &SiteName| self.get(site).is_some_and(|it| it.kinds.contains(&number));
        sites.into_iter().filter(|site| !reads(site)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteName {
        SiteName::parse(name).unwrap()
    }

    fn release(micros: u64, kinds: &[i32]) -> Release {
        let stamp = Stamp { micros, trusted: true };
        let kinds = kinds.iter().copied().collect();
        Release { random: [0; 16], stamp, release: "0.2.0".to_owned(), kinds }
    }

    #[test]
    fn a_new_kind_is_written_once_every_site_has_said_that_it_reads_it() {
        let sites = [site("london"), site("paris"), site("tokyo")];
        let new = (RecordKind::Unknown(99), 99);
        let mut releases = Releases::default();
        assert_eq!(releases.cannot_read(new, &sites), sites);
        releases.apply(site("london"), release(1, &[1, 99]));
        releases.apply(site("tokyo"), release(1, &[1]));
        assert_eq!(releases.cannot_read(new, &sites), [site("paris"), site("tokyo")]);
        releases.apply(site("paris"), release(1, &[99]));
        releases.apply(site("tokyo"), release(2, &[1, 99]));
        assert!(releases.cannot_read(new, &sites).is_empty());
        // Put back to the release before; and what it said earlier comes late.
        releases.apply(site("paris"), release(3, &[1]));
        releases.apply(site("paris"), release(2, &[99]));
        assert_eq!(releases.cannot_read(new, &sites), [site("paris")]);
    }

    #[test]
    fn what_the_first_release_reads_waits_for_nobody() {
        let releases = Releases::default();
        assert!(releases.cannot_read((RecordKind::Backup, 1), &[site("london")]).is_empty());
    }
}
