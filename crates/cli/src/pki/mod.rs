//! What `bruri pki` tells of certificates.

pub(crate) mod report;
