//! Why a command did not do what it was asked, and the exit code for it.

use std::{error::Error, io};

use tonic::{Code, Status};

use crate::print::plain;

/// Why a command did not do what it was asked; every other error counts as refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Refused, or not found.
    #[error("{0}")]
    Refused(String),
    /// Asked for in a way that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or not now.
    #[error("{0}")]
    Unreachable(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if status.source().is_some() {
            return Self::Unreachable(format!("the site went away: {}", causes(&status)));
        }
        let text = match status.message() {
            "" => status.code().description().to_owned(),
            message => plain(message),
        };
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable(text),
            Code::InvalidArgument => Self::Usage(text),
            _ => Self::Refused(text),
        }
    }
}

/// The innermost of a chain of causes, which says what happened.
fn causes(status: &Status) -> String {
    let mut cause: &dyn Error = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    plain(&cause.to_string())
}

/// What the process ends with, as the help says.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Unreachable(_)) => 3,
        Some(Failure::Refused(_)) | None => 1,
    }
}

/// Whether what was to be printed was not wanted any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_refuses_is_told_in_its_words_and_by_exit_code() {
        for (status, code, text) in [
            (Status::not_found("nothing is known of it"), 1, "nothing is known of it"),
            (Status::unavailable("try again"), 3, "try again"),
            (Status::invalid_argument("not a dot"), 2, "not a dot"),
            (Status::deadline_exceeded(""), 3, "Deadline expired before operation could complete"),
            (Status::internal("a\u{1b}[2Jb"), 1, "a\\u{1b}[2Jb"),
        ] {
            let error = anyhow::Error::from(Failure::from(status));
            assert_eq!((exit_code(&error), error.to_string().as_str()), (code, text));
        }
        assert_eq!(exit_code(&anyhow::anyhow!("anything else")), 1);
        assert_eq!(exit_code(&Failure::Usage(String::new()).into()), 2);
    }
}
