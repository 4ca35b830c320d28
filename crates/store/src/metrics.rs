//! What the store counts; operators find the names in the README.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    global,
    metrics::{Counter, Histogram},
};

/// Of group commits.
struct Instruments {
    seconds: Histogram<f64>,
    backups: Histogram<u64>,
    failures: Counter<u64>,
}

/// Made at first use, when the meter provider is set.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("bruri");
    Instruments {
        seconds: meter
            .f64_histogram("bruri_commit_seconds")
            .with_description("Time of one group commit, in seconds")
            .with_boundaries(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
            .build(),
        backups: meter
            .u64_histogram("bruri_commit_backups")
            .with_description("Backups in one group commit")
            .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
            .build(),
        failures: meter
            .u64_counter("bruri_commit_failures")
            .with_description("Backups that were refused because their commit failed")
            .build(),
    }
});

pub(crate) fn committed(backups: usize, took: Duration) {
    INSTRUMENTS.seconds.record(took.as_secs_f64(), &[]);
    INSTRUMENTS.backups.record(backups as u64, &[]);
}

pub(crate) fn commit_failed(backups: usize) {
    INSTRUMENTS.failures.add(backups as u64, &[]);
}
