//! What simulated sites exchange: records as the real ones, with what is true about them.

use std::collections::BTreeSet;

use bruri_domain::{Dot, Version};

use super::oracle;

/// The number of a file in a run.
pub(crate) type FileNo = usize;

/// Numbers of records: the versions that a writer really knew.
pub(crate) type Truth = BTreeSet<usize>;

/// A record of a simulated log.
pub(crate) struct Record {
    /// Unique in a run, whatever the dot: stands for the random bits of a real one.
    pub(crate) number: usize,
    pub(crate) dot: Dot,
    pub(crate) file: FileNo,
    /// The erasure generation that the writer knew.
    pub(crate) generation: u64,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Version(Box<Written>),
    Erasure,
}

/// A version for the rule, the same for the model, and the truth for the verdict only.
pub(crate) struct Written {
    pub(crate) version: Version,
    pub(crate) context: oracle::Context,
    pub(crate) truth: Truth,
}

impl Record {
    /// What it is a version with, where it is one.
    pub(crate) fn written(&self) -> Option<&Written> {
        match &self.content {
            Content::Version(written) => Some(written),
            Content::Erasure => None,
        }
    }
}
