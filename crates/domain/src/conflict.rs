//! When a file comes to be in conflict, and when it no longer is.

use crate::{Dot, FileState};

/// What a version changed about the conflict of its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConflictChange {
    /// From now on there are heads with different bodies.
    Opened,
    /// There were before, and the version is one more head.
    Joined,
    /// It left no heads with different bodies.
    Ended,
}

impl ConflictChange {
    /// What a version that was just applied changed, given whether the file was in conflict before.
    pub fn by(dot: &Dot, was_conflict: bool, state: &FileState) -> Option<Self> {
        match (was_conflict, state.is_conflict()) {
            (false, true) => Some(Self::Opened),
            (true, false) => Some(Self::Ended),
            (true, true) => {
                state.heads().iter().any(|head| head.dot == *dot).then_some(Self::Joined)
            }
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Context, Epoch, Head, LogId, SiteName, Stamp};

    fn dot(sequence: u64) -> Dot {
        let log = LogId { site: SiteName::parse("london").unwrap(), epoch: Epoch(1) };
        Dot { log, sequence }
    }

    fn state(heads: &[(u64, &[u8])]) -> FileState {
        let head = |(sequence, body): &(u64, &[u8])| Head {
            dot: dot(*sequence),
            stamp: Stamp { trusted: true, micros: 1 },
            body: Some(Body::of(body)),
            suspect: false,
        };
        FileState::from_parts(0, heads.iter().map(head).collect(), Context::default())
    }

    #[test]
    fn a_conflict_is_opened_by_another_body_joined_by_a_further_head_and_ended_by_what_covers() {
        let (none, two) = (state(&[(1, b"a")]), state(&[(1, b"a"), (2, b"b")]));
        let three = state(&[(1, b"a"), (2, b"b"), (3, b"b")]);
        let by = |dot_of, was, state| ConflictChange::by(&dot(dot_of), was, state);
        assert_eq!(by(1, false, &none), None);
        assert_eq!(by(2, false, &two), Some(ConflictChange::Opened));
        assert_eq!(by(3, true, &three), Some(ConflictChange::Joined));
        assert_eq!(by(9, true, &three), None, "it was superseded when it came");
        assert_eq!(by(4, true, &state(&[(4, b"c")])), Some(ConflictChange::Ended));
    }

    #[test]
    fn equal_bodies_are_no_conflict() {
        let same = state(&[(1, b"a"), (2, b"a")]);
        assert_eq!(ConflictChange::by(&dot(2), false, &same), None);
        assert_eq!(ConflictChange::by(&dot(2), true, &same), Some(ConflictChange::Ended));
    }
}
