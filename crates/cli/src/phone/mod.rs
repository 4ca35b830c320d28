//! A phone's side of the protocol: which address it builds from BRURI, and its one attempt.

pub(crate) mod address;
pub(crate) mod attempt;
