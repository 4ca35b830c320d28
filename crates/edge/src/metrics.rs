//! What the edge counts; names and units are listed in the README of the project.

use std::{sync::LazyLock, time::Duration};

use http::StatusCode;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, UpDownCounter},
};

struct Instruments {
    requests: Counter<u64>,
    request_seconds: Histogram<f64>,
    connections: UpDownCounter<i64>,
    reads: Counter<u64>,
    suspects: Counter<u64>,
}

/// Made at first use, when the meter provider is set.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("bruri");
    Instruments {
        requests: meter
            .u64_counter("bruri_requests")
            .with_description("Requests of phones by operation and status")
            .build(),
        request_seconds: meter
            .f64_histogram("bruri_request_seconds")
            .with_description("Time from a phone's headers to the answer, in seconds")
            .with_boundaries(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
            .build(),
        connections: meter
            .i64_up_down_counter("bruri_edge_connections")
            .with_description("Connections of phones that are open")
            .build(),
        reads: meter
            .u64_counter("bruri_reads")
            .with_description("Files that phones were given, by how fresh they are known to be")
            .build(),
        suspects: meter
            .u64_counter("bruri_suspect_backups")
            .with_description(
                "Backups that are empty, cut off or no phone's file: kept, and superseding nothing",
            )
            .build(),
    }
});

pub(crate) fn answered(operation: &'static str, status: StatusCode, took: Duration) {
    let operation = KeyValue::new("operation", operation);
    INSTRUMENTS.request_seconds.record(took.as_secs_f64(), std::slice::from_ref(&operation));
    let status = KeyValue::new("status", i64::from(status.as_u16()));
    INSTRUMENTS.requests.add(1, &[operation, status]);
}

/// A file was read for a phone; `freshness` is bounded, asked or local.
pub(crate) fn read(freshness: &'static str) {
    INSTRUMENTS.reads.add(1, &[KeyValue::new("freshness", freshness)]);
}

/// A backup looks like no phone's file.
pub(crate) fn suspect() {
    INSTRUMENTS.suspects.add(1, &[]);
}

/// A connection that was answered without a request.
pub(crate) fn refused(status: StatusCode) {
    let status = KeyValue::new("status", i64::from(status.as_u16()));
    INSTRUMENTS.requests.add(1, &[KeyValue::new("operation", "none"), status]);
}

pub(crate) fn opened() {
    INSTRUMENTS.connections.add(1, &[]);
}

pub(crate) fn closed() {
    INSTRUMENTS.connections.add(-1, &[]);
}
