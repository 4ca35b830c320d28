//! The protobuf contracts and their conversions to domain types.
//!
//! [`proto`] is what proto/ says, in Rust; nobody else sees prost. The other modules are written by hand.

pub mod control;
pub mod member;
pub mod question;
pub mod realm;
pub mod record;
pub mod replication;
mod site;

/// The bounds of what goes over the wire, for those who see nothing else of the domain.
pub use bruri_domain::limits;
pub use prost_types::Timestamp;

/// The descriptors of every package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.binpb");

/// Generated from proto/bruri by `cargo xtask codegen`, one module per package.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::arithmetic_side_effects,
    reason = "generated"
)]
pub mod proto {
    pub mod conflict {
        pub mod v1 {
            include!("generated/bruri.conflict.v1.rs");
        }
    }
    pub mod erasure {
        pub mod v1 {
            include!("generated/bruri.erasure.v1.rs");
        }
    }
    pub mod history {
        pub mod v1 {
            include!("generated/bruri.history.v1.rs");
        }
    }
    pub mod membership {
        pub mod v1 {
            include!("generated/bruri.membership.v1.rs");
        }
    }
    pub mod realm {
        pub mod v1 {
            include!("generated/bruri.realm.v1.rs");
        }
    }
    pub mod record {
        pub mod v1 {
            include!("generated/bruri.record.v1.rs");
        }
    }
    pub mod replication {
        pub mod v1 {
            include!("generated/bruri.replication.v1.rs");
        }
    }
    pub mod site {
        pub mod v1 {
            include!("generated/bruri.site.v1.rs");
        }
    }
}
