//! Who may run beside whom: what is measured on idle sites runs alone.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::const_new(());

/// Beside others.
pub(crate) async fn shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}

/// Alone.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}
