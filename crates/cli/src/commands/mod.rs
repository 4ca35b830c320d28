//! One file for each command: its arguments, what it does, what it prints.

pub(crate) mod conflict;
pub(crate) mod erase;
pub(crate) mod history;
pub(crate) mod phone;
pub(crate) mod pki;
pub(crate) mod realm;
pub(crate) mod site;
