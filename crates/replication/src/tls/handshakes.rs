//! The connections in handshake: bounded, and a crowd of silent ones cannot keep others out.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bruri_domain::limits::PEER_HANDSHAKES_MAX;
use tokio_util::sync::CancellationToken;

/// Who is in handshake, oldest first.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    begun: VecDeque<Begun>,
    last: u64,
}

#[derive(Debug)]
struct Begun {
    number: u64,
    address: IpAddr,
    pushed_out: CancellationToken,
}

/// One place in the table, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    handshakes: Arc<Handshakes>,
    number: u64,
    pushed_out: CancellationToken,
}

impl Handshakes {
    /// Takes a place. Where all are taken, the oldest of the address that has the most of them loses
    /// its own: a handshake takes milliseconds, so who is still here after many others came is silent.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr) -> Slot {
        let mut table = self.lock();
        if table.begun.len() >= PEER_HANDSHAKES_MAX {
            table.push_one_out();
        }
        table.last = table.last.wrapping_add(1);
        let number = table.last;
        let pushed_out = CancellationToken::new();
        table.begun.push_back(Begun { number, address, pushed_out: pushed_out.clone() });
        Slot { handshakes: Arc::clone(self), number, pushed_out }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn push_one_out(&mut self) {
        let count = |address| self.begun.iter().filter(|begun| begun.address == address).count();
        // The last of equals is taken, which from the back is the oldest.
        let crowded = self
            .begun
            .iter()
            .rev()
            .map(|begun| begun.address)
            .max_by_key(|&address| count(address));
        let oldest = self.begun.iter().position(|begun| Some(begun.address) == crowded);
        if let Some(begun) = oldest.and_then(|oldest| self.begun.remove(oldest)) {
            begun.pushed_out.cancel();
        }
    }
}

impl Slot {
    /// Ends when the place was given to another.
    pub(super) async fn pushed_out(&self) {
        self.pushed_out.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshakes.lock().begun.retain(|begun| begun.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn the_oldest_of_the_crowd_makes_room_and_others_stay() {
        let handshakes = Arc::new(Handshakes::default());
        let peer = handshakes.begin(PEER);
        let flood: Vec<Slot> =
            (0..PEER_HANDSHAKES_MAX * 2).map(|_| handshakes.begin(FLOOD)).collect();
        assert!(!peer.pushed_out.is_cancelled());
        let (old, new) = flood.split_at(PEER_HANDSHAKES_MAX + 1);
        assert!(old.iter().all(|slot| slot.pushed_out.is_cancelled()));
        assert!(new.iter().all(|slot| !slot.pushed_out.is_cancelled()));
        assert_eq!(handshakes.lock().begun.len(), PEER_HANDSHAKES_MAX);
    }

    #[test]
    fn among_equals_the_oldest_makes_room() {
        let handshakes = Arc::new(Handshakes::default());
        let slots: Vec<Slot> = (0..=PEER_HANDSHAKES_MAX)
            .map(|i| handshakes.begin(IpAddr::from([10, 0, 1, u8::try_from(i).unwrap()])))
            .collect();
        let pushed_out: Vec<usize> =
            (0..slots.len()).filter(|&i| slots[i].pushed_out.is_cancelled()).collect();
        assert_eq!(pushed_out, [0]);
    }

    #[test]
    fn a_finished_handshake_leaves_its_place() {
        let handshakes = Arc::new(Handshakes::default());
        for _ in 0..PEER_HANDSHAKES_MAX * 2 {
            assert!(!handshakes.begin(PEER).pushed_out.is_cancelled());
        }
        assert_eq!(handshakes.lock().begun.len(), 0);
    }
}
