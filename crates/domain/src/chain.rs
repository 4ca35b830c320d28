//! The running hash of a log: equal cursors with equal chains prove equal logs.

use std::fmt;

use crate::{Log, Sha256, dot::Predecessor};

/// The hash of a log up to one of its sequences.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Chain(pub Sha256);

impl Chain {
    /// The value before the first record: `sha256(site, epoch, predecessor)`. The site is preceded by
    /// its length, numbers are big-endian, a missing predecessor is one zero byte.
    pub fn begin(log: &Log) -> Self {
        let site = log.id.site.as_str().as_bytes();
        let length = u8::try_from(site.len()).unwrap_or(u8::MAX);
        let epoch = log.id.epoch.0.to_be_bytes();
        let predecessor = log.predecessor.as_ref().map_or_else(|| vec![0], predecessor_bytes);
        Self(Sha256::of_parts([&[length], site, &epoch[..], &predecessor[..]]))
    }

    /// The value after one more record: `sha256(previous, sha256(envelope))`.
    #[must_use]
    pub fn next(self, envelope: &[u8]) -> Self {
        Self(Sha256::of_parts([self.0.as_bytes(), Sha256::of(envelope).as_bytes()]))
    }
}

fn predecessor_bytes(predecessor: &Predecessor) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(predecessor.epoch.0.to_be_bytes());
    bytes.extend(predecessor.sequence.to_be_bytes());
    bytes.extend(predecessor.chain.0.as_bytes());
    bytes
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, LogId, LogKind, SiteName};

    fn log(site: &str, epoch: u64, predecessor: Option<Predecessor>) -> Log {
        let id = LogId { site: SiteName::parse(site).unwrap(), epoch: Epoch(epoch) };
        Log { id, kind: LogKind::Files, predecessor }
    }

    #[test]
    fn a_chain_tells_sites_epochs_predecessors_and_orders_apart() {
        let first = Chain::begin(&log("a", 1, None));
        let before = Predecessor { epoch: Epoch(1), sequence: 0, chain: first };
        let begins = [
            first,
            Chain::begin(&log("b", 1, None)),
            Chain::begin(&log("a", 2, None)),
            Chain::begin(&log("a", 2, Some(before))),
            Chain::begin(&log("a", 2, Some(Predecessor { sequence: 1, ..before }))),
        ];
        for (i, one) in begins.iter().enumerate() {
            assert!(begins.iter().skip(i + 1).all(|other| one != other), "{i}");
        }
        assert_ne!(first.next(b"x").next(b"y"), first.next(b"y").next(b"x"));
        assert_ne!(first.next(b"xy"), first.next(b"x").next(b"y"));
    }
}
