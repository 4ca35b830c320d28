//! The checks that hold the project together, and the makers of the files that are derived from others.

#![expect(clippy::print_stdout, reason = "a command for developers talks on standard output")]

pub mod check;
pub mod codegen;
pub mod derived;
pub mod laws;
pub mod layers;
pub mod metadata;
pub mod rules;
pub mod sizes;
pub mod sqlx;
pub mod workspace;
