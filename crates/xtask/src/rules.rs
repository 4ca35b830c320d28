//! The layers of the workspace as tables: who may depend on whom, and who on which crates of others.
//! A new line here is the most discussed kind of change.

/// A crate of ours and the crates of ours that it may use.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// The crate.
    pub name: &'static str,
    /// What it may use.
    pub uses: Reach,
    /// What its tests may use besides.
    pub tests_use: &'static [&'static str],
}

/// How far a crate may reach.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// Every crate of ours.
    All,
    /// These, and none by way of a new line in a manifest only.
    Only(&'static [&'static str]),
}

/// Arrows only point down: nothing below knows what stands above.
pub const LAYERS: &[Layer] = &[
    layer("bruri-domain", &[]),
    Layer {
        name: "bruri-wire",
        uses: Reach::Only(&["bruri-domain"]),
        // Its tests compile the protos as the generator does.
        tests_use: &["bruri-xtask"],
    },
    layer("bruri-phonefile", &[]),
    layer("bruri-store", &["bruri-domain", "bruri-wire"]),
    // Bytes of phones come in and go out unread, so it has no use for the wire's types.
    layer("bruri-edge", &["bruri-domain", "bruri-store"]),
    layer("bruri-replication", &["bruri-domain", "bruri-store", "bruri-wire"]),
    // What it tells about peers is handed in by the server.
    layer("bruri-ops", &["bruri-domain", "bruri-store", "bruri-wire"]),
    // Certificates are no matter of a running site: whoever has the CA may make them.
    layer("bruri-pki", &["bruri-domain"]),
    // It sees what any other gRPC client can see.
    layer("bruri-cli", &["bruri-pki", "bruri-wire"]),
    layer(
        "bruri-server",
        &[
            "bruri-domain",
            "bruri-edge",
            "bruri-ops",
            // What looks into bodies is handed to the layers that do not.
            "bruri-phonefile",
            "bruri-pki",
            "bruri-replication",
            "bruri-store",
            "bruri-wire",
        ],
    ),
    // Never delivered: it holds the engine against the laws.
    layer("bruri-simulation", &["bruri-domain", "bruri-replication", "bruri-store", "bruri-wire"]),
    Layer { name: "bruri-tests", uses: Reach::All, tests_use: &[] },
    layer("bruri-xtask", &[]),
];

const fn layer(name: &'static str, uses: &'static [&'static str]) -> Layer {
    Layer { name, uses: Reach::Only(uses), tests_use: &[] }
}

/// A technology and the crates of ours that may use it.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The crates of others that make it up.
    pub crates: &'static [&'static str],
    /// Who may use it.
    pub open_to: &'static [&'static str],
    /// Whose tests may use it besides.
    pub open_to_tests_of: &'static [&'static str],
}

/// One door per technology, so that there is one place to look at when it changes.
pub const DOORS: &[Door] = &[
    Door {
        crates: &["sqlx", "sqlx-core", "sqlx-postgres"],
        // The server waits for its private Postgres.
        open_to: &["bruri-store", "bruri-server", "bruri-tests"],
        // A database for each test.
        open_to_tests_of: &["bruri-edge", "bruri-ops", "bruri-replication", "bruri-simulation"],
    },
    Door {
        crates: &["prost", "prost-types", "tonic-prost"],
        open_to: &["bruri-wire"],
        open_to_tests_of: &[],
    },
    Door {
        crates: &["protox", "prost-build", "tonic-build", "tonic-prost-build"],
        open_to: &["bruri-xtask"],
        open_to_tests_of: &[],
    },
    Door {
        crates: &["tonic", "tonic-health", "tonic-reflection"],
        open_to: &[
            "bruri-wire",
            "bruri-replication",
            "bruri-ops",
            "bruri-cli",
            "bruri-server",
            "bruri-tests",
        ],
        open_to_tests_of: &[],
    },
    Door {
        crates: &["hyper"],
        // The command behaves like a phone.
        open_to: &["bruri-edge", "bruri-server", "bruri-tests", "bruri-cli"],
        open_to_tests_of: &[],
    },
    Door {
        crates: &["hyper-util"],
        // The command behaves like a phone; replication wraps a stream that tonic is to speak over.
        open_to: &["bruri-edge", "bruri-server", "bruri-tests", "bruri-cli", "bruri-replication"],
        open_to_tests_of: &["bruri-ops"],
    },
    Door {
        crates: &["rcgen", "x509-parser"],
        open_to: &["bruri-pki"],
        // Certificates as a stranger would make them.
        open_to_tests_of: &["bruri-replication"],
    },
    Door {
        crates: &["anyhow", "clap"],
        open_to: &["bruri-server", "bruri-cli", "bruri-xtask", "bruri-tests", "bruri-simulation"],
        open_to_tests_of: &[],
    },
];

/// All that is compiled into the domain: hashes and error texts, nothing that could do I/O.
pub const DOMAIN: &str = "bruri-domain";

/// See [`DOMAIN`]; to be extended with a reason only.
pub const DOMAIN_USES: &[&str] = &[
    // hmac and sha2 with what they are made of
    "block-buffer",
    "cfg-if",
    "cmov",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "digest",
    "hmac",
    "hybrid-array",
    "sha2",
    "typenum",
    // thiserror with what derives it
    "proc-macro2",
    "quote",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
];

/// Crates that must not be in the graph at all; deny.toml says the same with reasons.
pub const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl-sys", "reqwest"];
