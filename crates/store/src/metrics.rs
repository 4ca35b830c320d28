//! What the store counts; operators find the names in the README.

use std::{sync::LazyLock, time::Duration};

use bruri_domain::Ending;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};

/// Of group commits, epochs, conflicts, retention, and what is remembered of phones.
struct Instruments {
    seconds: Histogram<f64>,
    backups: Histogram<u64>,
    failures: Counter<u64>,
    epochs: Counter<u64>,
    conflicts: Gauge<u64>,
    conflicts_opened: Counter<u64>,
    not_remembered: Counter<u64>,
    versions_pruned: Counter<u64>,
    bodies_dropped: Counter<u64>,
    bodies_damaged: Counter<u64>,
    repairs: Counter<u64>,
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
        epochs: meter
            .u64_counter("bruri_epochs_opened")
            .with_description("New epochs of this site's logs, by what ended the old one")
            .build(),
        conflicts: meter
            .u64_gauge("bruri_conflicts_open")
            .with_description("Files with heads of different bodies")
            .build(),
        conflicts_opened: meter
            .u64_counter("bruri_conflicts_opened")
            .with_description("Conflicts that came to be known through this process")
            .build(),
        not_remembered: meter
            .u64_counter("bruri_remembered_dropped")
            .with_description("Times that there was no room for what a phone had seen")
            .build(),
        versions_pruned: meter
            .u64_counter("bruri_retention_versions")
            .with_description("Versions whose bodies retention dropped")
            .build(),
        bodies_dropped: meter
            .u64_counter("bruri_retention_bodies")
            .with_description("Bodies deleted because no version needs them any more")
            .build(),
        bodies_damaged: meter
            .u64_counter("bruri_damaged_bodies")
            .with_description("Bodies that were found damaged or missing")
            .build(),
        repairs: meter
            .u64_counter("bruri_repairs")
            .with_description("What was damaged and is put right, by what it was")
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

pub(crate) fn epoch_opened(why: Ending) {
    INSTRUMENTS.epochs.add(1, &[KeyValue::new("why", why.name())]);
}

pub(crate) fn open_conflicts(count: u64) {
    INSTRUMENTS.conflicts.record(count, &[]);
}

pub(crate) fn conflicts_opened(count: usize) {
    INSTRUMENTS.conflicts_opened.add(count as u64, &[]);
}

pub(crate) fn not_remembered() {
    INSTRUMENTS.not_remembered.add(1, &[]);
}

pub(crate) fn pruned(versions: u64, bodies: u64) {
    INSTRUMENTS.versions_pruned.add(versions, &[]);
    INSTRUMENTS.bodies_dropped.add(bodies, &[]);
}

pub(crate) fn damaged(bodies: u64) {
    INSTRUMENTS.bodies_damaged.add(bodies, &[]);
}

pub(crate) fn repaired(what: &'static str, count: u64) {
    INSTRUMENTS.repairs.add(count, &[KeyValue::new("what", what)]);
}
