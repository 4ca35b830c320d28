//! What is remembered of phones on its way to the table: in memory, in front of it, so that a backup sees the
//! entry of a restore that this process answered just before.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{FileId, PhoneKey, Remembered, limits::REMEMBERED_UNWRITTEN_MAX};
use tokio::sync::Notify;

use crate::metrics;

/// Where an entry is kept.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Mark {
    /// The file.
    pub file: FileId,
    /// Who asked for it, or wrote it.
    pub phone: PhoneKey,
}

/// An entry that may yet turn out to be wrong; see [`crate::Store::hold`].
#[derive(Debug)]
pub struct Held {
    mark: Mark,
    number: u64,
}

/// An entry that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) remembered: Remembered,
    pub(crate) noted_micros: u64,
    number: u64,
}

/// The entries that are not in the table yet, and those that are held.
#[derive(Default)]
pub(crate) struct Unwritten {
    slots: Mutex<Slots>,
    noted: Notify,
}

#[derive(Default)]
struct Slots {
    by_mark: HashMap<Mark, Slot>,
    next_number: u64,
}

struct Slot {
    /// Tells an entry from a later one at the same mark.
    number: u64,
    remembered: Remembered,
    noted_micros: u64,
    is_written: bool,
    is_held: bool,
}

impl Unwritten {
    pub(crate) fn get(&self, mark: &Mark) -> Option<Remembered> {
        self.slots().by_mark.get(mark).map(|slot| slot.remembered.clone())
    }

    /// Replaces what was noted before. Where there is no room it is not kept, and counted.
    pub(crate) fn note(&self, mark: Mark, remembered: Remembered, now_micros: u64) {
        self.put(mark, remembered, now_micros, false);
    }

    /// Forgets what is not written yet of these files.
    pub(crate) fn forget(&self, files: &[FileId]) {
        self.slots().by_mark.retain(|mark, _| files.binary_search(&mark.file).is_err());
    }

    /// The same, and stays until [`Unwritten::settle`].
    pub(crate) fn hold(&self, mark: Mark, remembered: Remembered, now_micros: u64) -> Option<Held> {
        let number = self.put(mark.clone(), remembered, now_micros, true)?;
        Some(Held { mark, number })
    }

    fn put(
        &self,
        mark: Mark,
        remembered: Remembered,
        noted_micros: u64,
        is_held: bool,
    ) -> Option<u64> {
        let mut slots = self.slots();
        let is_full = slots.by_mark.len() >= REMEMBERED_UNWRITTEN_MAX;
        if is_full && !slots.by_mark.contains_key(&mark) {
            metrics::not_remembered();
            return None;
        }
        slots.next_number = slots.next_number.wrapping_add(1);
        let number = slots.next_number;
        let slot = Slot { number, remembered, noted_micros, is_written: false, is_held };
        slots.by_mark.insert(mark, slot);
        drop(slots);
        self.noted.notify_one();
        Some(number)
    }

    /// Lets go of an entry: as it is where it turned out to be right, else as blind. One that was replaced
    /// meanwhile stays what it is.
    pub(crate) fn settle(&self, held: &Held, is_right: bool) {
        let mut slots = self.slots();
        let Some(slot) = slots.by_mark.get_mut(&held.mark) else { return };
        if slot.number != held.number {
            return;
        }
        slot.is_held = false;
        if !is_right {
            slot.remembered = Remembered::Blind;
            slot.is_written = false;
            // What is being written of it just now is not this.
            slots.renumber(&held.mark);
        } else if slot.is_written {
            slots.by_mark.remove(&held.mark);
        }
        drop(slots);
        self.noted.notify_one();
    }

    /// Waits until something may be there to be written.
    pub(crate) async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Has whoever waits look again.
    pub(crate) fn wake(&self) {
        self.noted.notify_one();
    }

    /// At most so many entries that are to be written.
    pub(crate) fn some(&self, entries_max: usize) -> Vec<Entry> {
        let slots = self.slots();
        let waiting = slots.by_mark.iter().filter(|(_, slot)| !slot.is_written);
        let entries = waiting.map(|(mark, slot)| Entry {
            mark: mark.clone(),
            remembered: slot.remembered.clone(),
            noted_micros: slot.noted_micros,
            number: slot.number,
        });
        entries.take(entries_max).collect()
    }

    /// These are in the table now; what came meanwhile is not.
    pub(crate) fn written(&self, entries: &[Entry]) {
        let mut slots = self.slots();
        for entry in entries {
            let Some(slot) = slots.by_mark.get_mut(&entry.mark) else { continue };
            if slot.number != entry.number {
                continue;
            }
            slot.is_written = true;
            if !slot.is_held {
                slots.by_mark.remove(&entry.mark);
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn renumber(&mut self, mark: &Mark) {
        self.next_number = self.next_number.wrapping_add(1);
        if let Some(slot) = self.by_mark.get_mut(mark) {
            slot.number = self.next_number;
        }
    }
}

#[cfg(test)]
mod tests {
    use bruri_domain::{FileName, FileState, Phone, RealmId};

    use super::*;

    fn mark(extension: usize) -> Mark {
        let name = FileName::parse(&format!("{extension}_16xxdata.txt")).unwrap();
        let phone = Phone::new([192, 0, 2, 1].into(), b"");
        Mark { file: FileId { realm: RealmId::built_in(), name }, phone: (&phone).into() }
    }

    fn seen() -> Remembered {
        Remembered::served(&FileState::default())
    }

    #[test]
    fn an_entry_is_seen_until_it_is_in_the_table() {
        let unwritten = Unwritten::default();
        unwritten.note(mark(1), seen(), 1);
        let writing = unwritten.some(10);
        assert_eq!(unwritten.get(&mark(1)), Some(seen()));
        unwritten.written(&writing);
        assert_eq!(unwritten.get(&mark(1)), None);
        assert!(unwritten.some(10).is_empty());
    }

    #[test]
    fn what_is_noted_while_the_one_before_is_written_is_written_next() {
        let unwritten = Unwritten::default();
        unwritten.note(mark(1), seen(), 1);
        let writing = unwritten.some(10);
        unwritten.note(mark(1), Remembered::Blind, 2);
        unwritten.written(&writing);
        assert_eq!(unwritten.get(&mark(1)), Some(Remembered::Blind));
        assert_eq!(unwritten.some(10)[0].remembered, Remembered::Blind);
    }

    #[test]
    fn a_held_entry_that_was_wrong_becomes_blind_though_it_is_written_or_being_written() {
        let unwritten = Unwritten::default();
        for is_written_first in [true, false] {
            let held = unwritten.hold(mark(1), seen(), 1).unwrap();
            let writing = unwritten.some(10);
            if is_written_first {
                unwritten.written(&writing);
                assert!(unwritten.some(10).is_empty());
                assert_eq!(unwritten.get(&mark(1)), Some(seen()));
            }
            unwritten.settle(&held, false);
            unwritten.written(&writing);
            assert_eq!(unwritten.some(10)[0].remembered, Remembered::Blind);
            unwritten.written(&unwritten.some(10));
            assert_eq!(unwritten.get(&mark(1)), None);
        }
    }

    #[test]
    fn a_held_entry_that_was_right_goes_once_it_is_written() {
        let unwritten = Unwritten::default();
        let held = unwritten.hold(mark(1), seen(), 1).unwrap();
        unwritten.written(&unwritten.some(10));
        unwritten.settle(&held, true);
        assert_eq!(unwritten.get(&mark(1)), None);
        let held = unwritten.hold(mark(1), seen(), 1).unwrap();
        unwritten.settle(&held, true);
        assert_eq!(unwritten.some(10).len(), 1);
    }

    #[test]
    fn a_held_entry_that_was_replaced_is_not_touched() {
        let unwritten = Unwritten::default();
        let held = unwritten.hold(mark(1), Remembered::Blind, 1).unwrap();
        unwritten.note(mark(1), seen(), 2);
        unwritten.settle(&held, false);
        assert_eq!(unwritten.get(&mark(1)), Some(seen()));
    }

    #[test]
    fn no_more_entries_wait_than_there_is_room_for() {
        let unwritten = Unwritten::default();
        (0..=REMEMBERED_UNWRITTEN_MAX).for_each(|n| unwritten.note(mark(n), seen(), 1));
        assert_eq!(unwritten.slots().by_mark.len(), REMEMBERED_UNWRITTEN_MAX);
        unwritten.note(mark(0), Remembered::Blind, 2);
        assert_eq!(unwritten.get(&mark(0)), Some(Remembered::Blind));
        assert_eq!(unwritten.get(&mark(REMEMBERED_UNWRITTEN_MAX)), None);
    }
}
