//! Rules that look right and are wrong. The verdict must catch each.

use bruri_domain::{Context, FileState, Head};

use super::record::{Content, Record};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// A site that lost the tail of its log goes on numbering in the same epoch.
    NumbersReused,
    /// The newest time wins, whoever had seen what.
    ClocksOnly,
    /// An erasure empties the file but leaves no trace of it.
    EraseWithoutGeneration,
    /// The file's context is what its heads' dots say.
    ContextOfHeads,
    /// A phone whose PUT was accepted is taken to have seen all that was here by then.
    AcceptedMeansSeen,
}

impl Mutant {
    /// Does to a state what the wrong rule would have done with this record.
    pub(crate) fn spoil(self, state: &mut FileState, before: &FileState, record: &Record) {
        match self {
            Self::ClocksOnly => keep_the_newest(state, before, record),
            Self::EraseWithoutGeneration => {
                if matches!(record.content, Content::Erasure) {
                    *state =
                        FileState::from_parts(before.generation(), Vec::new(), Context::default());
                }
            }
            Self::ContextOfHeads => {
                let mut context = Context::default();
                for head in state.heads() {
                    context.raise_to(&head.dot);
                }
                *state = FileState::from_parts(state.generation(), state.heads().to_vec(), context);
            }
            // The site is what is wrong here, not the state.
            Self::NumbersReused | Self::AcceptedMeansSeen => {}
        }
    }
}

fn keep_the_newest(state: &mut FileState, before: &FileState, record: &Record) {
    let Some(written) = record.written() else { return };
    if record.generation != state.generation() {
        return;
    }
    let rivals = if before.generation() == state.generation() { before.heads() } else { &[] };
    let (dot, version) = (record.dot.clone(), &written.version);
    let this = Head { dot, stamp: version.stamp, body: version.body, suspect: false };
    let newest = rivals
        .iter()
        .chain([&this])
        .max_by(|a, b| (a.stamp.micros, &a.dot).cmp(&(b.stamp.micros, &b.dot)))
        .cloned();
    *state = FileState::from_parts(
        state.generation(),
        newest.into_iter().collect(),
        state.context().clone(),
    );
}
