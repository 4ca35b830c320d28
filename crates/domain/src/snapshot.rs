//! From where logs go on at a site that has taken a snapshot.

use crate::{
    Cursor,
    mutant::{self, Mutant},
};

/// Notes how far a supplier had its logs before it read the next states, beside what was noted before: the least
/// counts, and nothing of a log that one of them did not have. Every state that was copied knows of what is before
/// these places.
#[must_use]
pub fn least(noted: &[Cursor], theirs: &[Cursor]) -> Vec<Cursor> {
    if mutant::is(Mutant::LastVectorCounts) {
        return theirs.to_vec();
    }
    let of = |cursor: &Cursor| theirs.iter().find(|other| other.log.id == cursor.log.id);
    let both = noted.iter().filter_map(|ours| Some((ours, of(ours)?)));
    both.map(|(a, b)| if b.sequence < a.sequence { b } else { a }.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Log, LogId, LogKind, SiteName};

    fn cursor(site: &str, sequence: u64) -> Cursor {
        let id = LogId { site: SiteName::parse(site).unwrap(), epoch: Epoch(1) };
        let log = Log { id, kind: LogKind::Files, predecessor: None };
        Cursor { sequence, ..Cursor::at_beginning(log) }
    }

    #[test]
    fn of_several_suppliers_the_least_counts_and_a_log_that_one_lacks_not_at_all() {
        let noted = [cursor("london", 10), cursor("paris", 20), cursor("tokyo", 30)];
        let theirs = [cursor("london", 15), cursor("tokyo", 25), cursor("rome", 5)];
        assert_eq!(least(&noted, &theirs), [cursor("london", 10), cursor("tokyo", 25)]);
    }
}
