//! What a backup or a deletion comes to, decided while nothing else changes the file.

use crate::{Context, FileState, Remembered, Sha256};

/// Who writes: that tells which versions the new one supersedes.
#[derive(Clone, Copy, Debug)]
pub enum Writer<'a> {
    /// One who sees all that is known here.
    Operator,
    /// A phone, with what is remembered of it.
    Phone(Option<&'a Remembered>),
}

/// What a backup or a deletion comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Every head has this body already: no version is made, and the writer knows all there is.
    Confirmed,
    /// There is nothing to delete here: no version is made, and the writer hears so.
    NotThere,
    /// A version is made, with this context.
    Version(Context),
}

impl FileState {
    /// Decides what it comes to that the writer sends this body, or deletes the file (none). Every store
    /// asks here, under the file's lock.
    pub fn decide(&self, body: Option<Sha256>, writer: Writer<'_>) -> Decision {
        let is_there = self.served().is_some_and(|head| head.body.is_some());
        match body {
            None if !is_there => Decision::NotThere,
            Some(_) if self.all_heads_are(body) && !self.is_outdone_by(writer) => {
                Decision::Confirmed
            }
            _ => Decision::Version(match writer {
                Writer::Operator => self.whole_context(),
                Writer::Phone(remembered) => self.context_for(remembered),
            }),
        }
    }
}

impl FileState {
    /// Whether the writer was given what is not known here yet: a peer told of it while the log is still bringing it.
    /// A body that equals the heads here says something new then all the same: that this is what is to stay.
    fn is_outdone_by(&self, writer: Writer<'_>) -> bool {
        match writer {
            Writer::Phone(Some(Remembered::Seen { generation, context })) => {
                *generation == self.generation() && !self.context().covers_all(context)
            }
            Writer::Phone(_) | Writer::Operator => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Dot, Epoch, Head, LogId, SiteName, Stamp};

    /// A file whose heads have these bodies, none for a deletion.
    fn file(bodies: &[Option<&[u8]>]) -> FileState {
        let log = LogId { site: SiteName::parse("london").unwrap(), epoch: Epoch(1) };
        let mut context = Context::default();
        let mut heads = Vec::new();
        for (sequence, body) in (1..).zip(bodies) {
            let dot = Dot { log: log.clone(), sequence };
            context.raise_to(&dot);
            let stamp = Stamp { trusted: true, micros: sequence };
            heads.push(Head { dot, stamp, body: body.map(Body::of), suspect: false });
        }
        FileState::from_parts(0, heads, context)
    }

    #[test]
    fn only_a_body_that_every_head_has_is_confirmed() {
        let same = file(&[Some(b"a"), Some(b"a")]);
        let other = file(&[Some(b"a"), Some(b"b")]);
        for writer in
            [Writer::Operator, Writer::Phone(None), Writer::Phone(Some(&Remembered::Blind))]
        {
            assert_eq!(same.decide(Some(Sha256::of(b"a")), writer), Decision::Confirmed);
            assert!(matches!(other.decide(Some(Sha256::of(b"a")), writer), Decision::Version(_)));
        }
    }

    #[test]
    fn what_a_phone_sends_that_saw_more_than_is_known_here_supersedes_it() {
        let known = file(&[Some(b"a")]);
        let seen = Remembered::served(&file(&[Some(b"a"), Some(b"b")]));
        let Remembered::Seen { context, .. } = seen.clone() else { panic!("it was served") };
        let version = Decision::Version(context);
        assert_eq!(known.decide(Some(Sha256::of(b"a")), Writer::Phone(Some(&seen))), version);
        let erased = FileState::from_parts(1, known.heads().to_vec(), Context::default());
        let again = erased.decide(Some(Sha256::of(b"a")), Writer::Phone(Some(&seen)));
        assert_eq!(again, Decision::Confirmed);
    }

    #[test]
    fn a_deletion_needs_something_to_delete() {
        for nothing in [file(&[]), file(&[None]), file(&[None, None])] {
            assert_eq!(nothing.decide(None, Writer::Operator), Decision::NotThere);
            assert!(matches!(
                nothing.decide(Some(Sha256::of(b"a")), Writer::Operator),
                Decision::Version(_)
            ));
        }
        let served = file(&[Some(b"a"), None]);
        assert!(matches!(served.decide(None, Writer::Operator), Decision::Version(_)));
    }

    #[test]
    fn an_operator_supersedes_all_and_a_phone_what_is_remembered_of_it() {
        let state = file(&[Some(b"a"), Some(b"b")]);
        let decide = |writer| state.decide(Some(Sha256::of(b"c")), writer);
        let whole = Decision::Version(state.whole_context());
        assert_eq!(decide(Writer::Operator), whole);
        assert_eq!(decide(Writer::Phone(None)), whole);
        let blind = Decision::Version(Context::default());
        assert_eq!(decide(Writer::Phone(Some(&Remembered::Blind))), blind);
    }
}
