//! The site's vector, read once a change and looked at by every supplier.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bruri_domain::{Cursor, Sha256, limits::VECTOR_RETRY_MILLIS};
use bruri_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_millis(VECTOR_RETRY_MILLIS);

/// How far this site has each log, as last read.
pub(crate) struct Vector {
    current: watch::Sender<Arc<Vec<Cursor>>>,
}

impl Vector {
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { current: watch::Sender::new(Arc::new(store.vector().await?)) })
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<Cursor>>> {
        self.current.subscribe()
    }

    /// Reads the vector after every change until `stop`.
    pub(crate) async fn follow(&self, store: &Store, stop: CancellationToken) {
        let mut news = store.changes();
        let mut readable = true;
        loop {
            match store.vector().await {
                Ok(vector) => {
                    self.show(vector);
                    readable = true;
                }
                Err(error) => {
                    if std::mem::replace(&mut readable, false) {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot read how far the logs are; trying on"
                        );
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                more = news.changed() => if more.is_err() { return },
                // The change that could not be read may have been the last for a long time.
                () = tokio::time::sleep(RETRY), if !readable => {}
            }
        }
    }

    fn show(&self, vector: Vec<Cursor>) {
        self.current.send_if_modified(|current| {
            let changed = **current != vector;
            if changed {
                *current = Arc::new(vector);
            }
            changed
        });
    }
}

/// The first 8 bytes of a hash over a whole vector, for heartbeats.
pub(crate) fn vector_hash(vector: &[Cursor]) -> [u8; 8] {
    let mut text = String::new();
    for cursor in vector {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", cursor.log.id, cursor.sequence, cursor.chain);
    }
    let mut hash = [0; 8];
    hash.copy_from_slice(&Sha256::of(text.as_bytes()).0[..8]);
    hash
}
