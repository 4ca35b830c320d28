//! What replication counts and shows.

use std::sync::LazyLock;

use bruri_domain::SiteName;
use opentelemetry::{KeyValue, global, metrics::Counter};

use crate::{Replication, status::PeerState};

static APPLIED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("bruri")
        .u64_counter("bruri_replication_applied_records")
        .with_description("Records of peers that were applied")
        .build()
});

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
}

fn peer_label(status: &crate::PeerStatus) -> KeyValue {
    let name = status.site.as_ref().map_or(status.address.as_str(), SiteName::as_str);
    KeyValue::new("peer", name.to_owned())
}

pub(crate) fn applied(site: &SiteName, records: u64) {
    APPLIED.add(records, &[KeyValue::new("peer", site.to_string())]);
}
