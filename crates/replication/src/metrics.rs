//! What replication counts and shows.

use std::{sync::LazyLock, time::Duration};

use bruri_domain::SiteName;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

use crate::{Replication, status::PeerState};

static APPLIED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("bruri")
        .u64_counter("bruri_replication_applied_records")
        .with_description("Records of peers that were applied")
        .build()
});

static ASKS: LazyLock<(Counter<u64>, Histogram<f64>)> = LazyLock::new(|| {
    let meter = global::meter("bruri");
    let counter = meter
        .u64_counter("bruri_asks")
        .with_description("Questions to peers while a phone waited, by what came of them")
        .build();
    let seconds = meter
        .f64_histogram("bruri_ask_seconds")
        .with_description("Time from a question to a peer until its answer, in seconds")
        .with_boundaries(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.5, 1.0])
        .build();
    (counter, seconds)
});

static COMPARISONS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("bruri")
        .u64_counter("bruri_comparisons")
        .with_description("Comparisons of all files with a peer's, by what came of them")
        .build()
});

static PORTIONS: LazyLock<(Counter<u64>, Counter<u64>)> = LazyLock::new(|| {
    let meter = global::meter("bruri");
    let fetched = meter
        .u64_counter("bruri_snapshot_portions_fetched")
        .with_description("Portions of a snapshot that were asked of peers, by what came of them")
        .build();
    let supplied = meter
        .u64_counter("bruri_snapshot_portions_supplied")
        .with_description("Portions of snapshots that peers were given")
        .build();
    (fetched, supplied)
});

/// Which half of a snapshot a portion is of.
#[derive(Clone, Copy)]
pub(crate) enum Half {
    States,
    Records,
}

impl Half {
    fn label(self) -> KeyValue {
        KeyValue::new("of", if matches!(self, Self::States) { "states" } else { "records" })
    }
}

/// A peer was asked for a portion of a snapshot.
pub(crate) fn fetched(half: Half, arrived: bool) {
    let outcome = if arrived { "arrived" } else { "failed" };
    PORTIONS.0.add(1, &[half.label(), KeyValue::new("outcome", outcome)]);
}

/// A peer was given a portion of a snapshot.
pub(crate) fn supplied(half: Half) {
    PORTIONS.1.add(1, &[half.label()]);
}

/// All files were compared with a peer's.
pub(crate) fn compared(outcome: &'static str) {
    COMPARISONS.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// A peer was asked, and that came of it.
pub(crate) fn asked(outcome: &'static str, took: Duration) {
    let (counter, seconds) = &*ASKS;
    counter.add(1, &[KeyValue::new("outcome", outcome)]);
    seconds.record(took.as_secs_f64(), &[]);
}

/// Shows lag and link of every peer, and until when our certificate is valid.
pub(crate) fn observe(replication: &Replication) {
    let meter = global::meter("bruri");
    let tls = replication.inner.tls.clone();
    meter
        .i64_observable_gauge("bruri_certificate_not_after_seconds")
        .with_description("Until when this site's certificate is valid, in seconds since 1970")
        .with_callback(move |gauge| gauge.observe(tls.validity().not_after, &[]))
        .build();
    let shown = replication.clone();
    meter
        .u64_observable_gauge("bruri_replication_lag_records")
        .with_description("Records that a peer has and this site has not applied")
        .with_callback(move |gauge| {
            for status in shown.peers() {
                gauge.observe(status.lag_records, &[peer_label(&status)]);
            }
        })
        .build();
    let shown = replication.clone();
    meter
        .u64_observable_gauge("bruri_replication_live")
        .with_description("1 while a peer's records arrive as they are written")
        .with_callback(move |gauge| {
            for status in shown.peers() {
                let live = u64::from(status.state == PeerState::Live);
                gauge.observe(live, &[peer_label(&status)]);
            }
        })
        .build();
    let shown = replication.clone();
    meter
        .f64_observable_gauge("bruri_clock_offset_seconds")
        .with_description("How far a peer's clock is ahead of this site's, in seconds")
        .with_callback(move |gauge| {
            for status in shown.peers() {
                if let Some(micros) = status.clock_offset_micros {
                    gauge.observe(seconds(micros), &[peer_label(&status)]);
                }
            }
        })
        .build();
    let store = replication.inner.store.clone();
    meter
        .u64_observable_gauge("bruri_clock_trusted")
        .with_description("0 while peers agree against this site's clock, or it has just jumped")
        .with_callback(move |gauge| gauge.observe(u64::from(store.trusts_clock()), &[]))
        .build();
}

/// Microseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "nobody reads an offset of centuries to the microsecond"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn peer_label(status: &crate::PeerStatus) -> KeyValue {
    let name = status.site.as_ref().map_or(status.address.as_str(), SiteName::as_str);
    KeyValue::new("peer", name.to_owned())
}

pub(crate) fn applied(site: &SiteName, records: u64) {
    APPLIED.add(records, &[KeyValue::new("peer", site.to_string())]);
}
