//! What `bruri pki` works with: names, files, the CA, and reports of certificates.

pub(crate) mod authority;
pub(crate) mod certificate;
pub(crate) mod deployment_key;
pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod report;
