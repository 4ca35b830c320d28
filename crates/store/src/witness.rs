//! What this process saw committed of the site's logs, kept beside the database: a database that was rolled
//! back knows nothing of it, this file does.
//!
//! Two slots of fixed size are written in turn, each with a count and a checksum: a torn write leaves the
//! other. The kernel keeps what a killed process wrote; against a power cut it is synced within a second.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bruri_domain::{Chain, Epoch, LogKind, Sha256, Witness, limits::WITNESS_SYNC_MILLIS};
use tokio_util::sync::CancellationToken;

const SYNC: Duration = Duration::from_millis(WITNESS_SYNC_MILLIS);
/// Apart, so that no torn write hurts both.
const SLOT_AT: [u64; 2] = [0, 4096];
const WITNESS_BYTES: usize = 8 + 8 + 32;
/// A count, the witness of each log, and a checksum over them.
const SLOT_BYTES: usize = 8 + 2 * WITNESS_BYTES + 32;

/// The last place of each log that this process saw committed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) control: Option<Witness>,
    pub(crate) files: Option<Witness>,
}

impl Seen {
    pub(crate) fn of(&self, kind: LogKind) -> Option<&Witness> {
        match kind {
            LogKind::Control => self.control.as_ref(),
            LogKind::Files => self.files.as_ref(),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Witness> {
        self.control.into_iter().chain(self.files)
    }

    /// A commit of the same epoch that is told late takes nothing back.
    fn note(&mut self, kind: LogKind, new: Witness) {
        let place = match kind {
            LogKind::Control => &mut self.control,
            LogKind::Files => &mut self.files,
        };
        let is_older = |old: &Witness| old.epoch == new.epoch && old.sequence > new.sequence;
        if !place.as_ref().is_some_and(is_older) {
            *place = Some(new);
        }
    }

    fn encode(&self, count: u64) -> [u8; SLOT_BYTES] {
        let mut bytes = count.to_be_bytes().to_vec();
        for witness in [self.control, self.files] {
            // No log has a chain of zeros: the hash would have to be known before.
            let none = Witness { epoch: Epoch(0), sequence: 0, chain: Chain(Sha256([0; 32])) };
            let Witness { epoch, sequence, chain } = witness.unwrap_or(none);
            bytes.extend(epoch.0.to_be_bytes());
            bytes.extend(sequence.to_be_bytes());
            bytes.extend(chain.0.as_bytes());
        }
        let checksum = Sha256::of(&bytes);
        bytes.extend(checksum.as_bytes());
        let mut slot = [0; SLOT_BYTES];
        slot.copy_from_slice(&bytes);
        slot
    }

    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Self)> {
        let (told, checksum) = slot.split_last_chunk::<32>()?;
        if Sha256::of(told).as_bytes() != checksum {
            return None;
        }
        let (count, witnesses) = told.split_first_chunk::<8>()?;
        let (control, files) = witnesses.split_at_checked(WITNESS_BYTES)?;
        let is_there = |told: &Witness| told.chain.0.as_bytes().iter().any(|byte| *byte != 0);
        let control = Some(witness(control)?).filter(is_there);
        let files = Some(witness(files)?).filter(is_there);
        Some((u64::from_be_bytes(*count), Self { control, files }))
    }
}

fn witness(bytes: &[u8]) -> Option<Witness> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (sequence, chain) = rest.split_first_chunk::<8>()?;
    let chain = Chain(Sha256::from_slice(chain)?);
    let (epoch, sequence) = (Epoch(u64::from_be_bytes(*epoch)), u64::from_be_bytes(*sequence));
    Some(Witness { epoch, sequence, chain })
}

/// What was seen, in memory and, where there is a file, on disk.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    seen: Seen,
    count: u64,
    file: Option<Arc<File>>,
    /// Written since the last sync.
    is_dirty: bool,
}

impl Memory {
    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen
    }

    pub(crate) fn note(&self, kind: LogKind, witness: Witness) {
        let mut kept = self.lock();
        kept.seen.note(kind, witness);
        kept.write();
    }

    /// From now on keeps it in this file, too, and goes on from what it says. Returns false where that is
    /// nothing: it is missing or damaged.
    pub(crate) fn keep_in(&self, path: &Path) -> bool {
        match open(path) {
            Ok((file, told)) => {
                let is_told = told.is_some();
                let (count, seen) = told.unwrap_or_default();
                *self.lock() = Kept { seen, count, file: Some(Arc::new(file)), is_dirty: false };
                is_told
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no witness of commits can be kept");
                false
            }
        }
    }

    /// What must be synced.
    fn dirty(&self) -> Option<Arc<File>> {
        let mut kept = self.lock();
        std::mem::replace(&mut kept.is_dirty, false).then(|| kept.file.clone()).flatten()
    }

    /// Syncs what was written, every second, until `stop`.
    pub(crate) async fn sync(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SYNC);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let Some(file) = self.dirty() else { continue };
            let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
            if let Ok(Err(error)) = synced {
                tracing::warn!(%error, "cannot sync the witness of commits");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whatever a panic left behind is a witness still, at worst an older one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// One write into the page cache; where it fails, there is no witness on disk from then on.
    fn write(&mut self) {
        let Some(file) = &self.file else { return };
        self.count = self.count.wrapping_add(1);
        let at = if self.count.is_multiple_of(2) { SLOT_AT[0] } else { SLOT_AT[1] };
        match file.write_all_at(&self.seen.encode(self.count), at) {
            Ok(()) => self.is_dirty = true,
            Err(error) => {
                tracing::warn!(%error, "the witness of commits cannot be written any more");
                self.file = None;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Option<(u64, Seen)>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    let told = SLOT_AT.iter().filter_map(|at| {
        let mut slot = [0; SLOT_BYTES];
        file.read_exact_at(&mut slot, *at).ok()?;
        Seen::decode(&slot)
    });
    let told = told.max_by_key(|(count, _)| *count);
    Ok((file, told))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file that vanishes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("bruri-witness-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn read(&self) -> Seen {
            let memory = Memory::default();
            memory.keep_in(&self.0);
            memory.seen()
        }

        fn damage(&self, at: u64) {
            let file = OpenOptions::new().write(true).open(&self.0).unwrap();
            file.write_all_at(&[0xff; 9], at + 20).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn at(sequence: u64) -> Witness {
        let chain = Chain(Sha256::of(&sequence.to_be_bytes()));
        Witness { epoch: Epoch(7), sequence, chain }
    }

    fn seen(sequence: u64) -> Seen {
        Seen { control: None, files: Some(at(sequence)) }
    }

    #[test]
    fn what_was_seen_last_is_read_again() {
        let scratch = Scratch::new("again");
        assert_eq!(scratch.read(), Seen::default());
        for last in [3, 4] {
            let memory = Memory::default();
            memory.keep_in(&scratch.0);
            memory.note(LogKind::Files, at(last));
            assert_eq!(scratch.read(), seen(last));
        }
        let memory = Memory::default();
        memory.keep_in(&scratch.0);
        memory.note(LogKind::Control, at(1));
        assert_eq!(scratch.read(), Seen { control: Some(at(1)), files: Some(at(4)) });
    }

    #[test]
    fn a_commit_that_is_told_late_takes_nothing_back_and_another_epoch_counts() {
        let memory = Memory::default();
        memory.note(LogKind::Files, at(4));
        memory.note(LogKind::Files, at(3));
        assert_eq!(memory.seen(), seen(4));
        let next = Witness { epoch: Epoch(8), ..at(1) };
        memory.note(LogKind::Files, next);
        assert_eq!(memory.seen().files, Some(next));
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before_and_two_leave_nothing() {
        let scratch = Scratch::new("torn");
        let memory = Memory::default();
        memory.keep_in(&scratch.0);
        memory.note(LogKind::Files, at(1));
        memory.note(LogKind::Files, at(2));
        // The first write went to the second slot.
        scratch.damage(SLOT_AT[0]);
        assert_eq!(scratch.read(), seen(1));
        scratch.damage(SLOT_AT[1]);
        assert_eq!(scratch.read(), Seen::default());
    }
}
