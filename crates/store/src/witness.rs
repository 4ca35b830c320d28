//! What this process saw committed of the site's logs, kept beside the database: a database that was rolled
//! back knows nothing of it, this file does.
//!
//! Where the whole machine was rolled back this file was, too. It says in which boot of the machine it was
//! written: since another boot, it is no proof until a peer has told what it has.
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
/// A count, the boot, the witness of each log, and a checksum over them.
const SLOT_BYTES: usize = 8 + 16 + 2 * WITNESS_BYTES + 32;

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

    fn encode(&self, count: u64, boot: Boot) -> [u8; SLOT_BYTES] {
        let mut bytes = count.to_be_bytes().to_vec();
        bytes.extend(boot.0.to_be_bytes());
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

    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Slot> {
        let (told, checksum) = slot.split_last_chunk::<32>()?;
        if Sha256::of(told).as_bytes() != checksum {
            return None;
        }
        let (count, rest) = told.split_first_chunk::<8>()?;
        let (boot, witnesses) = rest.split_first_chunk::<16>()?;
        let (control, files) = witnesses.split_at_checked(WITNESS_BYTES)?;
        let is_there = |told: &Witness| told.chain.0.as_bytes().iter().any(|byte| *byte != 0);
        let control = Some(witness(control)?).filter(is_there);
        let files = Some(witness(files)?).filter(is_there);
        let (count, boot) = (u64::from_be_bytes(*count), Boot(u128::from_be_bytes(*boot)));
        Some(Slot { count, boot, seen: Self { control, files } })
    }
}

fn witness(bytes: &[u8]) -> Option<Witness> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (sequence, chain) = rest.split_first_chunk::<8>()?;
    let chain = Chain(Sha256::from_slice(chain)?);
    let (epoch, sequence) = (Epoch(u64::from_be_bytes(*epoch)), u64::from_be_bytes(*sequence));
    Some(Witness { epoch, sequence, chain })
}

/// One writing of the file.
#[derive(Default)]
struct Slot {
    /// Which, from 1.
    count: u64,
    boot: Boot,
    seen: Seen,
}

/// A boot of the machine; 0 where the machine does not tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Boot(u128);

impl Boot {
    /// The running one: the kernel draws an id for each, random(4).
    pub(crate) fn running() -> Self {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
        Self(u128::from_str_radix(&digits, 16).unwrap_or_default())
    }
}

/// What a file told when it was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// It was missing or damaged.
    Nothing,
    /// It was written before the machine booted.
    BeforeBoot,
    SinceBoot,
}

/// What was seen, in memory and, where there is a file, on disk.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    seen: Seen,
    count: u64,
    boot: Boot,
    file: Option<Arc<File>>,
    /// Written since the last sync.
    is_dirty: bool,
    /// Nothing speaks for what was seen being all that was committed.
    is_in_doubt: bool,
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

    /// From now on keeps it in this file, too, and goes on from what it says; where that was not written in
    /// this boot, it is in doubt.
    pub(crate) fn keep_in(&self, path: &Path, boot: Boot) -> Told {
        let (file, last) = match open(path) {
            Ok((file, last)) => (Some(Arc::new(file)), last),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no witness of commits can be kept");
                (None, None)
            }
        };
        let told = match &last {
            None => Told::Nothing,
            Some(slot) if slot.boot == boot && boot != Boot::default() => Told::SinceBoot,
            Some(_) => Told::BeforeBoot,
        };
        let Slot { count, seen, .. } = last.unwrap_or_default();
        let is_in_doubt = told != Told::SinceBoot;
        *self.lock() = Kept { seen, count, boot, file, is_dirty: false, is_in_doubt };
        told
    }

    /// Whether the database may lack what nobody told of since the machine booted.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.lock().is_in_doubt
    }

    /// Nothing was committed yet, peers have told what they have, or what nobody can tell of was ended.
    pub(crate) fn confirm(&self) {
        let mut kept = self.lock();
        if std::mem::replace(&mut kept.is_in_doubt, false) {
            kept.write();
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
        // What is in doubt is so still after the next start, in the same boot too.
        let boot = if self.is_in_doubt { Boot::default() } else { self.boot };
        self.count = self.count.wrapping_add(1);
        let at = if self.count.is_multiple_of(2) { SLOT_AT[0] } else { SLOT_AT[1] };
        match file.write_all_at(&self.seen.encode(self.count, boot), at) {
            Ok(()) => self.is_dirty = true,
            Err(error) => {
                tracing::warn!(%error, "the witness of commits cannot be written any more");
                self.file = None;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Option<Slot>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    let told = SLOT_AT.iter().filter_map(|at| {
        let mut slot = [0; SLOT_BYTES];
        file.read_exact_at(&mut slot, *at).ok()?;
        Seen::decode(&slot)
    });
    let told = told.max_by_key(|slot| slot.count);
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
            self.open(1).0.seen()
        }

        fn open(&self, boot: u128) -> (Memory, Told) {
            let memory = Memory::default();
            let told = memory.keep_in(&self.0, Boot(boot));
            (memory, told)
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
            let (memory, _) = scratch.open(1);
            memory.note(LogKind::Files, at(last));
            assert_eq!(scratch.read(), seen(last));
        }
        let (memory, _) = scratch.open(1);
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
        let (memory, _) = scratch.open(1);
        memory.note(LogKind::Files, at(1));
        memory.note(LogKind::Files, at(2));
        // The first write went to the second slot.
        scratch.damage(SLOT_AT[0]);
        assert_eq!(scratch.read(), seen(1));
        scratch.damage(SLOT_AT[1]);
        assert_eq!(scratch.read(), Seen::default());
    }

    #[test]
    fn a_witness_of_another_boot_is_in_doubt_until_it_is_confirmed_whatever_is_seen_meanwhile() {
        let scratch = Scratch::new("boot");
        let (memory, told) = scratch.open(1);
        assert_eq!((told, memory.is_in_doubt()), (Told::Nothing, true));
        memory.note(LogKind::Files, at(1));
        assert!(memory.is_in_doubt());
        assert_eq!(scratch.open(1).1, Told::BeforeBoot);
        memory.confirm();
        assert!(!memory.is_in_doubt());
        assert_eq!(scratch.open(1).1, Told::SinceBoot);
        for _ in 0..2 {
            let (memory, told) = scratch.open(2);
            assert_eq!((told, memory.is_in_doubt()), (Told::BeforeBoot, true));
        }
        let (memory, _) = scratch.open(2);
        memory.confirm();
        assert!(!memory.is_in_doubt());
        let (memory, told) = scratch.open(2);
        assert_eq!((told, memory.is_in_doubt()), (Told::SinceBoot, false));
        assert_eq!(memory.seen(), seen(1));
    }

    #[test]
    fn a_machine_that_does_not_tell_its_boots_is_always_in_doubt_at_first() {
        let scratch = Scratch::new("untold");
        scratch.open(0).0.note(LogKind::Files, at(1));
        let (memory, told) = scratch.open(0);
        assert_eq!((told, memory.is_in_doubt()), (Told::BeforeBoot, true));
        assert_ne!(Boot::running(), Boot(0));
        assert_eq!(Boot::running(), Boot::running());
    }
}
