//! Why a phone was refused: what it is told, and the one place that turns that into a status.

use bruri_domain::{InvalidFileName, limits::FILE_BYTES_MAX};
use bruri_store::StoreError;
use http::StatusCode;

/// Why a phone did not get what it asked for. The texts are what the phone is sent: they tell what to do and
/// nothing of the inside; causes are for the log.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The phone's address is in none of the realm's source networks.
    #[error("this address is not one of the office's networks")]
    Source,
    /// A method that BRURI does not have.
    #[error("only GET, HEAD, PUT, DELETE and OPTIONS are served")]
    Method,
    /// The path holds what no phone sends.
    #[error("the path holds what no phone sends: %, \\, .., ? or something outside ASCII")]
    Path,
    /// The last part of the path is no file's name.
    #[error(transparent)]
    FileName(#[from] InvalidFileName),
    /// No realm covers the directory.
    #[error("no such directory: set BRURI to this server alone, or end it in /PhoneBackup")]
    Directory,
    /// A phone's report.
    #[error("phone reports are not accepted here; nothing was kept")]
    Report,
    /// Nothing is stored under that name, or it was deleted.
    #[error("there is no backup of that name")]
    NotFound,
    /// A PUT that does not say how long its body is, or that there is none.
    #[error("send Content-Length, or a chunked body")]
    NoLength,
    /// A PUT of a part of a file.
    #[error("send the whole file: Content-Range is not accepted")]
    Part,
    /// A PUT whose body is not the file itself.
    #[error(
        "send the file as it is: no Content-Encoding, and chunked is the only Transfer-Encoding"
    )]
    Encoded,
    /// A body above the bound.
    #[error("a file may have {FILE_BYTES_MAX} bytes at most")]
    TooLarge,
    /// A body that came too slowly.
    #[error("the file did not arrive in time; nothing was kept")]
    TooSlow,
    /// A body that ended early.
    #[error("the file did not arrive whole; nothing was kept")]
    CutShort(#[source] hyper::Error),
    /// Too many large bodies are in memory.
    #[error("too many large files are on their way; try again")]
    Crowded,
    /// The store did not answer in time. A backup may be stored all the same.
    #[error("the database did not answer in time; try again")]
    Late,
    /// What is stored of a file is damaged, and nobody who was asked has it.
    #[error(
        "what is stored of this file is damaged, and no other office could be asked; try again"
    )]
    Damaged,
    /// The store refused or failed.
    #[error("{}", store_text(.0))]
    Store(#[from] StoreError),
}

impl EdgeError {
    /// The one place that turns a failure into an HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Source | Self::Report => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path | Self::FileName(_) | Self::Part | Self::CutShort(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Directory | Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Crowded | Self::Late | Self::Damaged => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(error) => store_status(error),
        }
    }
}

fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::UnknownFile(_)
        | StoreError::UnknownVersion { .. }
        | StoreError::UnknownConflict(_) => StatusCode::NOT_FOUND,
        StoreError::Barred => StatusCode::FORBIDDEN,
        StoreError::Corrupt { .. }
        | StoreError::BodyGone(_)
        | StoreError::AmbiguousDot { .. }
        | StoreError::NoConflict(_)
        | StoreError::TooManyErasures
        | StoreError::NotBarred
        | StoreError::TooManyMembers
        | StoreError::TooManyInvites
        | StoreError::NotReadByAll(_)
        | StoreError::NoHead { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        StoreError::Busy
        | StoreError::BodyAbsent(_)
        | StoreError::AnotherSite { .. }
        | StoreError::AnotherKey
        | StoreError::TooManyLogs(_)
        | StoreError::BranchTooLong { .. }
        | StoreError::NotThere(_)
        | StoreError::BelowFloor(_)
        | StoreError::HistoryIncomplete
        | StoreError::StatesIncomplete
        | StoreError::SnapshotMoved
        | StoreError::PartingUnheard(_)
        | StoreError::Migrate(_)
        | StoreError::Compression(_)
        | StoreError::Database(_)
        | StoreError::CommitFailed
        | StoreError::NumberSeen(_)
        | StoreError::ErasedMeanwhile
        | StoreError::LookupFailed
        | StoreError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn store_text(error: &StoreError) -> &'static str {
    if matches!(error, StoreError::BodyAbsent(_)) {
        return "the backup is known here, but its bytes have yet to arrive; try again";
    }
    match store_status(error) {
        StatusCode::FORBIDDEN => {
            "what was kept of this extension was erased; an administrator must let it in again"
        }
        StatusCode::NOT_FOUND => "there is no backup of that name",
        StatusCode::INTERNAL_SERVER_ERROR => {
            "what is stored of this file is damaged; the administrator finds the cause in the log"
        }
        _ => "the database cannot be used at the moment; try again",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_phone_is_told_nothing_of_the_inside_and_the_log_everything() {
        let corrupt = StoreError::Corrupt { table: "file", column: "state", row: "x".into() };
        let error = EdgeError::from(corrupt);
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.to_string().contains("state"), "{error}");
        assert!(error.source().unwrap().to_string().contains("column state"));
    }

    #[test]
    fn a_database_that_is_away_means_come_again() {
        for error in [StoreError::Busy, StoreError::Stopping, StoreError::CommitFailed] {
            assert_eq!(EdgeError::from(error).status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
