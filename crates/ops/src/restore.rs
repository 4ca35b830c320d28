//! Putting an older version back, or none: a new version with the old body, or a deletion (law 2).

use bruri_domain::{Author, Dot, DotRef, FileId};
use bruri_store::{Backup, Outcome, StoreError, VersionEntry};

use crate::Ops;

/// What a restore came to.
pub(crate) struct Restored {
    /// The version that phones get now.
    pub(crate) version: VersionEntry,
    /// A version was made.
    pub(crate) appended: bool,
}

/// Appends a version with the body of one of the heads of a file that is in conflict. It covers them all, and so
/// ends the conflict.
pub(crate) async fn choose(
    ops: &Ops,
    file: &FileId,
    dot: &DotRef,
    operator: String,
) -> Result<Restored, StoreError> {
    let head = ops.store.head_in_conflict(file, dot).await?;
    restore(ops, file, &DotRef::from(&head), operator).await
}

/// Appends a version with the body of an older one, or a deletion where the older one is a deletion.
/// It carries the context of all that is known here, so that it is what phones get.
pub(crate) async fn restore(
    ops: &Ops,
    file: &FileId,
    dot: &DotRef,
    operator: String,
) -> Result<Restored, StoreError> {
    let (old, content) = ops.store.version(file, Some(dot)).await?;
    let author = Author::Operator { name: operator.clone(), restored: Some(old.dot.clone()) };
    let backup = Backup { file: file.clone(), content, author, suspect: false };
    let committed = ops.commits.commit(&ops.store, backup).await?;
    let appended = match committed.outcome {
        Outcome::Created | Outcome::Replaced | Outcome::Removed => true,
        Outcome::Confirmed | Outcome::NotThere => false,
    };
    let now = committed.dot.as_ref().map(DotRef::from);
    // Should this fail, the restore stands, and asking again finds that it is there already.
    let (version, _) = ops.store.version(file, now.as_ref()).await?;
    tracing::info!(
        file.realm = %file.realm,
        file.name = %file.name,
        operator,
        restored = %old.dot,
        version = %version.dot,
        appended,
        "an operator put a version back"
    );
    Ok(Restored { version, appended })
}

/// Appends a deletion that covers all that is known here; none where phones get nothing already.
pub(crate) async fn delete(
    ops: &Ops,
    file: &FileId,
    operator: String,
) -> Result<Option<Dot>, StoreError> {
    let author = Author::Operator { name: operator.clone(), restored: None };
    let backup = Backup { file: file.clone(), content: None, author, suspect: false };
    let committed = ops.commits.commit(&ops.store, backup).await?;
    let deletion = committed.dot.filter(|_| committed.outcome == Outcome::Removed);
    if let Some(deletion) = &deletion {
        tracing::info!(
            file.realm = %file.realm, file.name = %file.name, operator, version = %deletion,
            "an operator deleted a file"
        );
    }
    Ok(deletion)
}
