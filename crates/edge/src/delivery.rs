//! Whether a phone got the whole answer to its GET, which decides what it is taken to have seen.
//!
//! What is known: hyper has taken the whole answer, the kernel has taken every byte of it from hyper, and until
//! the next request of the connection or its end neither side reported it broken. What is not: that the phone
//! has read it. A phone that vanishes without a word after the kernel took the last byte counts as one
//! that has it; so does one behind a proxy that took the answer in its place. To be wrong costs that a version
//! is superseded which its writer did not see; it stays in the history.
//!
//! Until all that is known the phone is *blind*, also where it went away before there was an answer, or
//! heard that there is none to be had (503): it supersedes nothing then.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bruri_domain::Remembered;
use bruri_store::{Held, Mark, Store};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// What one connection still has to find out about its last GET.
pub(crate) struct Delivery {
    store: Store,
    stage: Mutex<Stage>,
}

#[derive(Default)]
enum Stage {
    /// Nothing.
    #[default]
    Idle,
    /// The phone waits for its answer.
    Owed { mark: Mark, answer: Option<Remembered>, is_taken: bool },
    /// The kernel has the answer; it may yet turn out that the phone has not.
    Sent(Held),
}

impl Delivery {
    pub(crate) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, stage: Mutex::default() })
    }

    /// A request came in, so what was sent before it has arrived.
    pub(crate) fn next(&self) {
        self.end();
    }

    /// A phone asks for a file.
    pub(crate) fn ask(&self, mark: Mark) {
        *self.stage() = Stage::Owed { mark, answer: None, is_taken: false };
    }

    /// What the phone has seen once it has the answer that is given now.
    pub(crate) fn answer(&self, remembered: Remembered) {
        if let Stage::Owed { answer, .. } = &mut *self.stage() {
            *answer = Some(remembered);
        }
    }

    /// Hyper has taken the whole answer.
    fn taken(&self) {
        if let Stage::Owed { is_taken, .. } = &mut *self.stage() {
            *is_taken = true;
        }
    }

    /// The kernel has all that hyper took. The entry is there from now on, for a phone that sends its next
    /// request on another connection while this one is open.
    pub(crate) fn flushed(&self) {
        let mut stage = self.stage();
        *stage = match std::mem::take(&mut *stage) {
            Stage::Owed { mark, answer: Some(answer), is_taken: true } => {
                self.store.hold(mark, answer).map_or(Stage::Idle, Stage::Sent)
            }
            other => other,
        };
    }

    /// The connection is broken.
    pub(crate) fn broke(&self) {
        let mut stage = self.stage();
        *stage = match std::mem::take(&mut *stage) {
            Stage::Sent(held) => {
                self.store.settle(&held, false);
                Stage::Idle
            }
            other => other,
        };
    }

    /// Nothing more will be heard of the last answer.
    fn end(&self) {
        match std::mem::take(&mut *self.stage()) {
            Stage::Idle => {}
            Stage::Owed { mark, .. } => self.store.remember(mark, Remembered::Blind),
            Stage::Sent(held) => self.store.settle(&held, true),
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.end();
    }
}

/// A body that tells when hyper has taken it whole.
pub(crate) struct Told {
    content: Full<Bytes>,
    delivery: Arc<Delivery>,
}

impl Told {
    pub(crate) fn new(content: Full<Bytes>, delivery: &Arc<Delivery>) -> Self {
        let told = Self { content, delivery: Arc::clone(delivery) };
        told.tell_at_end();
        told
    }

    fn tell_at_end(&self) {
        if self.content.is_end_stream() {
            self.delivery.taken();
        }
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.content).poll_frame(cx);
        self.tell_at_end();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
