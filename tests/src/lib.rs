//! The kit: whole sites as real processes, phones, operators, broken links, and what must hold of them.
//!
//! Read in this order: [`deployment`] (sites that know each other), [`site`] (one of them), [`phone`],
//! [`mod@scatter`] and [`load`] (what phones do), [`ops`] (what operators ask), [`agreement`] (what must be equal
//! everywhere), [`link`] (what goes wrong between sites), [`lag`] (how long a backup takes to the other
//! end). The rest is what these are made of.

pub mod address;
pub mod agreement;
pub mod body;
pub mod database;
pub mod deployment;
pub mod http;
pub mod lag;
pub mod link;
pub mod load;
pub mod ops;
pub mod own_postgres;
pub mod phone;
pub mod process;
pub mod programs;
pub mod scatter;
pub mod seed;
pub mod site;
pub mod tls;
pub mod traces;
pub mod wait;

pub use agreement::{agree, every_backup_is_there, level};
pub use body::Bodies;
pub use deployment::Deployment;
pub use load::Load;
pub use ops::Ops;
pub use phone::{Book, Phone};
pub use scatter::{Scatter, scatter};
pub use seed::{number, seed, tell};
pub use site::{Settings, Site};
pub use traces::Traces;
pub use wait::eventually;
