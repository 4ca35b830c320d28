//! Policies for tests, and passes over all files.

use std::time::Duration;

use bruri_domain::Retention;
use bruri_store::{Pruning, Store};

/// Keeps what it must.
pub(crate) const NOTHING: Pruning = pruning(Retention {
    all: Some(Duration::ZERO),
    days: Some(Duration::ZERO),
    weeks: Some(Duration::ZERO),
    months: Some(Duration::ZERO),
    thins: true,
});

/// That policy, at once; what follows a `;` is the call log.
pub(crate) const fn pruning(retention: Retention) -> Pruning {
    Pruning { retention, only_call_log, rest: Duration::ZERO }
}

fn only_call_log(one: &[u8], other: &[u8]) -> bool {
    let contacts = |body: &[u8]| body.split(|byte| *byte == b';').next().map(<[u8]>::to_vec);
    contacts(one) == contacts(other)
}

/// One pass.
pub(crate) async fn prune_all(store: &Store, pruning: &Pruning) {
    while store.prune(pruning).await.unwrap().more {}
}
