//! What a site remembers of a phone and a file, since phones do not say which version they had seen.

use crate::{
    Context, Dot, FileState, Phone, Version,
    mutant::{self, Mutant},
};

/// What a phone is known to have seen of a file. It is local to a site, and losing it costs a conflict
/// more or less, never data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remembered {
    /// The phone asked for the file and its whole answer was not delivered: nobody knows what it has.
    Blind,
    /// It was served, or it wrote.
    Seen {
        /// The erasure generation of the file then.
        generation: u64,
        /// What it had seen by then, within the bounds of a record.
        context: Context,
    },
}

/// Tells phones apart: the IP address, and the MAC where the phone tells it. Printed `192.0.2.1` or
/// `192.0.2.1 64c3549e5334`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PhoneKey(String);

impl PhoneKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Phone> for PhoneKey {
    fn from(phone: &Phone) -> Self {
        Self(match &phone.mac {
            Some(mac) => format!("{} {mac}", phone.address),
            None => phone.address.to_string(),
        })
    }
}

impl Remembered {
    /// The phone was served from a file in this state; being told that there is nothing counts as served.
    pub fn served(state: &FileState) -> Self {
        Self::Seen { generation: state.generation(), context: state.whole_context() }
    }

    /// A version of the phone's was accepted as `dot` by a file that was in the state `before`.
    ///
    /// The phone knows that version's own context and the version, not what else the file holds: another
    /// phone's version may lie between. So the dot is added singly, unless all that the file held of this
    /// log was seen.
    pub fn accepted(before: &FileState, dot: &Dot, version: &Version) -> Self {
        let mut context = version.context.clone();
        let all_seen = context.covers_log(&dot.log, before.context());
        if all_seen || mutant::is(Mutant::AcceptedForSeen) {
            context.raise_to(dot);
        } else {
            context.add(dot);
        }
        Self::Seen { generation: before.generation(), context: context.bounded([dot]) }
    }
}

impl FileState {
    /// The context that a version of the phone's carries: what is remembered, or where nothing is, or it
    /// is of before an erasure, all that is known here.
    pub fn context_for(&self, remembered: Option<&Remembered>) -> Context {
        match remembered {
            Some(Remembered::Blind) if !mutant::is(Mutant::LostForServed) => Context::default(),
            Some(Remembered::Seen { generation, context }) if *generation == self.generation() => {
                context.clone()
            }
            Some(_) | None => self.whole_context(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Author, Body, Epoch, FileId, FileName, LogId, RealmId, SiteName, Stamp,
        limits::CONTEXT_DOTS_MAX,
    };

    fn dot(site: &str, sequence: u64) -> Dot {
        let log = LogId { site: SiteName::parse(site).unwrap(), epoch: Epoch(1) };
        Dot { log, sequence }
    }

    fn version(context: Context) -> Version {
        let name = FileName::parse("299_16xxdata.txt").unwrap();
        Version {
            random: [0; 16],
            stamp: Stamp { trusted: true, micros: 1 },
            file: FileId { realm: RealmId::built_in(), name },
            context,
            body: Some(Body::of(b"a")),
            suspect: false,
            author: Author::Unknown,
        }
    }

    /// Has the phone write, and returns what is remembered of it then.
    fn write(state: &mut FileState, phone: Option<&Remembered>, dot: &Dot) -> Remembered {
        let version = version(state.context_for(phone));
        let accepted = Remembered::accepted(state, dot, &version);
        state.apply(dot, state.generation(), &version);
        accepted
    }

    fn heads(state: &FileState) -> Vec<u64> {
        state.heads().iter().map(|head| head.dot.sequence).collect()
    }

    #[test]
    fn a_phone_that_writes_twice_supersedes_its_own_version_only() {
        let mut state = FileState::default();
        let nothing = Remembered::served(&state);
        let one = write(&mut state, Some(&nothing), &dot("london", 1));
        write(&mut state, Some(&Remembered::Blind), &dot("london", 2));
        write(&mut state, Some(&one), &dot("london", 3));
        assert_eq!(heads(&state), [2, 3]);
    }

    #[test]
    fn another_phones_version_between_accepted_and_the_next_is_not_taken_for_seen() {
        let mut state = FileState::default();
        let nothing = Remembered::served(&state);
        let other = write(&mut state, Some(&nothing), &dot("london", 4));
        let one = write(&mut state, Some(&nothing), &dot("london", 5));
        let Remembered::Seen { context, .. } = &one else { panic!("it wrote") };
        assert!(context.covers(&dot("london", 5)) && !context.covers(&dot("london", 4)));
        write(&mut state, Some(&one), &dot("london", 6));
        assert_eq!(heads(&state), [4, 6]);
        write(&mut state, Some(&other), &dot("london", 7));
        assert_eq!(heads(&state), [6, 7]);
    }

    #[test]
    fn a_phone_that_was_served_supersedes_all_that_was_there_and_a_blind_one_nothing() {
        let mut state = FileState::default();
        write(&mut state, None, &dot("london", 1));
        write(&mut state, Some(&Remembered::Blind), &dot("tokyo", 9));
        assert_eq!(state.heads().len(), 2);
        let served = Remembered::served(&state);
        write(&mut state, Some(&served), &dot("london", 2));
        assert_eq!(heads(&state), [2]);
    }

    #[test]
    fn what_was_remembered_before_an_erasure_counts_for_nothing() {
        let mut state = FileState::default();
        let old = write(&mut state, None, &dot("london", 1));
        state.erase(0);
        write(&mut state, None, &dot("tokyo", 7));
        assert_eq!(state.context_for(Some(&old)), state.whole_context());
        assert_eq!(state.context_for(Some(&Remembered::Blind)), Context::default());
    }

    #[test]
    fn a_phone_that_never_reads_goes_on_superseding_its_own_beyond_the_bound_of_dots() {
        let mut state = FileState::default();
        write(&mut state, None, &dot("london", 1));
        let mut context = Context::default();
        (1..=CONTEXT_DOTS_MAX as u64).for_each(|n| context.add(&dot("london", n * 2 + 1)));
        let mut phone = Remembered::Seen { generation: 0, context };
        for sequence in [9001, 9003, 9005] {
            phone = write(&mut state, Some(&phone), &dot("london", sequence));
        }
        assert_eq!(heads(&state), [1, 9005]);
    }

    #[test]
    fn a_phone_is_its_address_and_its_mac_where_it_tells_it() {
        let key = |agent: &[u8]| {
            PhoneKey::from(&Phone::new([192, 0, 2, 1].into(), agent)).as_str().to_owned()
        };
        assert_eq!(key(b"AVAYA/9608"), "192.0.2.1");
        assert_eq!(key(b"AVAYA/J179-4.0.7.0 (MAC:64C3549e5334)"), "192.0.2.1 64c3549e5334");
    }
}
