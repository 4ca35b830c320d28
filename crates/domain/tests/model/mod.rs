//! Simulated sites that run the real rule and, beside it, a model of the rule that is too slow and
//! too plain to be wrong.
//!
//! Read in this order: [`record`] (what sites exchange), [`oracle`] (the model: whole history, plain
//! sets), [`replica`] (one file at one site, by the rule and by the model), [`site`] (logs, clock,
//! what phones were served), [`schedule`] (what happens to the sites), [`verdict`] (what must be true
//! at the end), [`mutant`] (wrong rules that must be caught), [`draw`] (where chance comes from).

pub(crate) mod draw;
pub(crate) mod mutant;
pub(crate) mod oracle;
pub(crate) mod record;
pub(crate) mod replica;
pub(crate) mod schedule;
pub(crate) mod site;
pub(crate) mod verdict;
