//! PUT and DELETE: a 2xx only after the version is durable (law 1).

use bruri_domain::{Author, FileName, Phone};
use bruri_store::{Backup, Committed, Outcome, StoreError};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::timeout;

use crate::{Edge, EdgeError, exchange::Done, metrics, response};

/// Stores a version, or a deletion where there is no content, and answers when it is durable. It is stored
/// also where the phone goes away meanwhile.
pub(crate) async fn store(
    edge: &Edge,
    name: &FileName,
    phone: Phone,
    content: Option<Bytes>,
) -> Result<Done, EdgeError> {
    let suspect = content.as_deref().is_some_and(edge.inner.is_suspect);
    let address = phone.address;
    let author = Author::Phone(phone);
    let backup = Backup { file: edge.file(name), content, suspect, author };
    let committed = timeout(edge.inner.limits.store, commit(edge, backup)).await;
    let Committed { outcome, dot } = committed.map_err(|_| EdgeError::Late)??;
    if suspect && outcome != Outcome::Confirmed {
        metrics::suspect();
        tracing::warn!(
            file.name = %name,
            phone.address = %address,
            "a backup is empty, cut off or no phone's file: it is kept in the history and supersedes nothing"
        );
    }
    let status = match outcome {
        Outcome::Created => StatusCode::CREATED,
        Outcome::Replaced | Outcome::Confirmed | Outcome::Removed => StatusCode::NO_CONTENT,
        Outcome::NotThere => return Err(EdgeError::NotFound),
    };
    Ok(Done { answer: response::empty(status), dot, error: None })
}

/// Commits it; where the file's row is damaged it is made anew first, since the phone tries once only.
async fn commit(edge: &Edge, backup: Backup) -> Result<Committed, StoreError> {
    let (commits, store) = (&edge.inner.commits, &edge.inner.store);
    match commits.commit(store, backup.clone()).await {
        Err(error) if error.is_damage() => {
            store.mend_state(&backup.file).await?;
            commits.commit(store, backup).await
        }
        committed => committed,
    }
}
