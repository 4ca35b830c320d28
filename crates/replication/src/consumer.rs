//! Keeps a session with one peer: dials, and dials again when it ends.

use std::{error::Error, sync::Arc, time::Duration};

use bruri_domain::limits::SESSION_SETTLED_MILLIS;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Replication,
    backoff::Backoff,
    session::{Session, SessionError},
    status::{Peer, PeerState},
};

const SETTLED: Duration = Duration::from_millis(SESSION_SETTLED_MILLIS);

impl Replication {
    /// One consumer per configured peer; run each as a task until `stop`.
    pub fn consumers(
        &self,
        stop: &CancellationToken,
    ) -> Vec<(String, impl Future<Output = ()> + Send + 'static)> {
        let consumer = |peer: &Arc<Peer>| {
            let (this, peer, stop) = (self.clone(), Arc::clone(peer), stop.clone());
            let address = peer.get().address;
            let consume = async move {
                let consumer = Consumer::new(&this, &peer);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = consumer.run() => {}
                }
            };
            (address, consume)
        };
        self.inner.peers.each().map(consumer).collect()
    }
}

struct Consumer<'a> {
    replication: &'a Replication,
    peer: &'a Peer,
    backoff: Backoff,
    /// Why there was no session, as it was last logged.
    logged: String,
    /// The last session broke as soon as it had begun.
    flaps: bool,
    /// The last wait was cut short.
    woken: bool,
}

impl<'a> Consumer<'a> {
    fn new(replication: &'a Replication, peer: &'a Peer) -> Self {
        let (backoff, logged) = (Backoff::default(), String::new());
        Self { replication, peer, backoff, logged, flaps: false, woken: false }
    }

    async fn run(mut self) {
        loop {
            let error = match Session::begin(self.replication, self.peer).await {
                Ok(session) => self.keep(session).await,
                Err(error) => error,
            };
            self.note(&error);
            self.wait(&error).await;
        }
    }

    /// Only a session that lasted is a success: a peer may take us in and break off at once, for ever.
    async fn keep(&mut self, session: Session<'_>) -> SessionError {
        if !self.flaps {
            let status = self.peer.get();
            let site = status.site.as_ref().map(tracing::field::display);
            tracing::info!(
                peer = site,
                address = status.address,
                release = status.release,
                "connected to a peer"
            );
        }
        let began = Instant::now();
        let error = session.run().await;
        self.flaps = began.elapsed() < SETTLED;
        if !self.flaps {
            self.backoff.succeeded();
            self.logged.clear();
        }
        error
    }

    /// Shows why there is no session; logged once until there is another reason.
    fn note(&mut self, error: &SessionError) {
        let text = error.to_string();
        let refused = error.needs_a_person();
        if self.logged != text {
            let (peer, error) = (self.peer.get(), error as &dyn Error);
            let (address, site) = (peer.address, peer.site.as_ref().map(ToString::to_string));
            if refused {
                tracing::error!(address, site, error, "a peer is refused or refuses us");
            } else {
                tracing::warn!(address, site, error, "no connection to a peer; trying on");
            }
            self.logged.clone_from(&text);
        }
        self.peer.change(|status| {
            status.state = if refused { PeerState::Refused } else { PeerState::Connecting };
            status.last_error = text;
        });
    }

    /// Waits until it is time to dial again, or the peer was seen: then it can be reached. Not twice in a
    /// row, or two sites whose sessions break at once would wake each other without end.
    async fn wait(&mut self, error: &SessionError) {
        let wait = sleep(self.backoff.failed(error.needs_a_person()));
        if self.woken {
            wait.await;
            self.woken = false;
            return;
        }
        tokio::select! {
            () = wait => {}
            () = self.peer.seen.notified() => self.woken = true,
        }
    }
}
