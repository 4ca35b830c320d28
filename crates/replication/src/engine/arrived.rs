//! Batches that have arrived and wait to be applied.

use std::collections::VecDeque;

use bruri_domain::SiteName;
use bruri_wire::proto::replication::v1 as proto;

use super::io::{LinkId, Moment, SubscriptionId};

/// Batches of a log that wait to be applied.
#[derive(Default)]
pub(crate) struct Arrived {
    queue: VecDeque<Queued>,
    /// The first of them is with the store.
    pub(crate) applying: bool,
    /// Nothing is tried before: the store did not answer.
    pub(crate) retry_at: Option<Moment>,
    /// The cursor was moved by somebody else: it must be read first.
    pub(crate) waits_for_reading: bool,
}

/// A batch with the stream that is to be granted its bytes.
#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) link: LinkId,
    pub(crate) peer: SiteName,
    pub(crate) subscription: SubscriptionId,
    pub(crate) bytes: u64,
    pub(crate) batch: proto::Batch,
}

impl Arrived {
    pub(crate) fn push(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    pub(crate) fn first(&self) -> Option<&Queued> {
        self.queue.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        self.applying = false;
        self.queue.pop_front()
    }

    /// Takes out what came from one peer, but not what is with the store.
    pub(crate) fn drop_from(&mut self, link: LinkId) -> Vec<Queued> {
        let kept = usize::from(self.applying);
        let rest = self.queue.split_off(kept.min(self.queue.len()));
        let (dropped, kept): (Vec<_>, Vec<_>) = rest.into_iter().partition(|q| q.link == link);
        self.queue.extend(kept);
        dropped
    }
}
