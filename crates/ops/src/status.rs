//! Which gRPC code a failure is.

use std::error::Error;

use bruri_store::StoreError;
use tonic::Status;

/// The one place that turns a failure of the store into a gRPC code. The operator reads what can be done
/// about it; the causes go to the log.
pub fn status(error: &StoreError) -> Status {
    match error {
        StoreError::UnknownFile(_)
        | StoreError::UnknownVersion { .. }
        | StoreError::UnknownConflict(_) => Status::not_found(error.to_string()),
        StoreError::AmbiguousDot { .. } => Status::invalid_argument(error.to_string()),
        StoreError::BodyGone(_)
        | StoreError::NoConflict(_)
        | StoreError::NoHead { .. }
        | StoreError::Barred
        | StoreError::NotBarred
        | StoreError::TooManyErasures
        | StoreError::TooManyMembers
        | StoreError::TooManyInvites
        | StoreError::NotReadByAll(_)
        | StoreError::AnotherSite { .. }
        | StoreError::AnotherKey
        | StoreError::TooManyLogs(_)
        | StoreError::BranchTooLong { .. }
        | StoreError::NotThere(_)
        | StoreError::BelowFloor(_)
        | StoreError::HistoryIncomplete
        | StoreError::StatesIncomplete
        | StoreError::SnapshotMoved
        | StoreError::PartingUnheard(_) => Status::failed_precondition(error.to_string()),
        StoreError::Migrate(_) => {
            tracing::error!(error = error as &dyn Error, "answering FAILED_PRECONDITION");
            Status::failed_precondition(error.to_string())
        }
        StoreError::Corrupt { .. } => {
            tracing::error!(error = error as &dyn Error, "answering INTERNAL");
            Status::internal(error.to_string())
        }
        StoreError::Database(_) | StoreError::Compression(_) => {
            tracing::warn!(error = error as &dyn Error, "answering UNAVAILABLE");
            try_again(error)
        }
        StoreError::Busy
        | StoreError::BodyAbsent(_)
        | StoreError::CommitFailed
        | StoreError::NumberSeen(_)
        | StoreError::ErasedMeanwhile
        | StoreError::LookupFailed
        | StoreError::Stopping => try_again(error),
    }
}

fn try_again(error: &StoreError) -> Status {
    Status::unavailable(format!("{error}; try again"))
}

#[cfg(test)]
mod tests {
    use bruri_domain::{FileId, FileName, RealmId};
    use tonic::Code;

    use super::*;

    fn file() -> FileId {
        FileId { realm: RealmId::built_in(), name: FileName::parse("299_16xxdata.txt").unwrap() }
    }

    #[test]
    fn what_is_unknown_is_not_found_and_what_may_pass_is_unavailable() {
        let dot = || "london/9f/1".to_owned();
        for (error, code, text) in [
            (
                StoreError::UnknownFile(file()),
                Code::NotFound,
                "nothing is known of file default/299_16xxdata.txt",
            ),
            (
                StoreError::UnknownVersion { file: file(), dot: dot() },
                Code::NotFound,
                "file default/299_16xxdata.txt has no version london/9f/1 here",
            ),
            (
                StoreError::AmbiguousDot { dot: dot() },
                Code::InvalidArgument,
                "london/9f/1 may be of several logs: write more digits of its epoch",
            ),
            (
                StoreError::Busy,
                Code::Unavailable,
                "too many requests wait for the database; try again",
            ),
            (StoreError::Stopping, Code::Unavailable, "the site is stopping; try again"),
            (
                StoreError::Database(sqlx::Error::PoolTimedOut),
                Code::Unavailable,
                "the database did not answer as it should; try again",
            ),
            (
                StoreError::Corrupt { table: "file", column: "checksum", row: file().to_string() },
                Code::Internal,
                "table file, row default/299_16xxdata.txt: column checksum is damaged",
            ),
        ] {
            let status = status(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
