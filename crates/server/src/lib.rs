//! brurid, the daemon a branch runs: configuration, private Postgres, telemetry, wiring, lifecycle.
//!
//! Read in this order: [`config`] (what an operator sets), [`app`] (what runs and in which order), `services` (how
//! store, edge, replication and operators are joined), `membership` and [`join`] (how a site becomes one of a
//! deployment), `retention`,
//! [`lifecycle`] (when it stops), [`data_dir`] and [`postgres`] (where the data is), [`listen`],
//! [`telemetry`] and [`metrics_server`] (what is seen of it), [`check`] (what is wrong before a
//! start), [`clock`].

pub mod access;
pub mod app;
pub mod check;
pub mod clock;
pub mod config;
pub mod data_dir;
mod deployment_key;
pub mod join;
pub mod lifecycle;
pub mod listen;
mod membership;
pub mod metrics_server;
mod peers;
pub mod postgres;
mod proof;
mod retention;
mod services;
pub mod telemetry;
