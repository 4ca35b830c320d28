//! Tables `realm` and `realm_settings`: what realms want. Kept in memory too, since every read asks.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use bruri_domain::{
    Body, Control, FileState, Head, RealmChange, RealmId, RealmSettings, limits::REALMS_MILLIS,
};
use bruri_wire::{
    realm::{decode_settings, encode_settings},
    record::{decode_state, encode_state},
};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::Row,
    control::{Draft, Place},
};

/// As last read.
#[derive(Debug, Default)]
pub(crate) struct Realms(RwLock<BTreeMap<RealmId, RealmSettings>>);

impl Realms {
    fn set(&self, realms: BTreeMap<RealmId, RealmSettings>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = realms;
    }
}

impl Store {
    /// What a realm wants, as known in memory: at most a second old while [`Store::keep_realms`] runs.
    pub fn realm(&self, realm: &RealmId) -> RealmSettings {
        let realms = self.inner.realms.0.read().unwrap_or_else(PoisonError::into_inner);
        realms.get(realm).copied().unwrap_or_default()
    }

    /// Changes what a realm wants, here and at every site that hears of it; what changes nothing writes nothing.
    /// Returns what it wants then.
    ///
    /// # Errors
    /// Where the database does not answer or its row is damaged.
    pub async fn change_realm(
        &self,
        realm: &RealmId,
        change: impl FnOnce(&mut RealmSettings) + Send,
        operator: String,
    ) -> Result<RealmSettings, StoreError> {
        let mut transaction = self.begin_append().await?;
        let state = lock(&mut transaction, realm).await?;
        let before = served(&mut transaction, realm, &state).await?;
        let mut settings = before;
        change(&mut settings);
        if settings == before {
            return Ok(settings);
        }
        let change = RealmChange {
            random: rand::random(),
            stamp: self.stamp(),
            operator,
            realm: realm.clone(),
            context: state.whole_context(),
            settings: encode_settings(&settings),
        };
        let draft = Draft { control: Control::Realm(change), subject: None, generation: 0 };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        self.appended(appended);
        self.read_realms().await?;
        Ok(settings)
    }

    /// Reads what realms want whenever a log has grown, soon after, until `stop`.
    pub async fn keep_realms(&self, stop: CancellationToken) {
        let mut changes = self.changes();
        let mut reachable = true;
        loop {
            match self.read_realms().await {
                Ok(()) => reachable = true,
                Err(error) => {
                    if std::mem::replace(&mut reachable, false) {
                        let error = &error as &dyn Error;
                        tracing::warn!(
                            error,
                            "what realms want cannot be read; it stays as it was"
                        );
                    }
                    changes.mark_changed();
                }
            }
            // Backups change logs all the time and realms hardly ever.
            let rest = tokio::time::sleep(Duration::from_millis(REALMS_MILLIS));
            let next = async {
                rest.await;
                changes.changed().await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                next = next => if next.is_err() { return },
            }
        }
    }

    /// Reads what realms want now; [`Store::keep_realms`] does so by itself.
    ///
    /// # Errors
    /// Where the database does not answer or a row is damaged.
    pub async fn read_realms(&self) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await?;
        let rows = sqlx::query!("select id, state from realm").fetch_all(&mut *connection).await?;
        let mut realms = BTreeMap::new();
        for row in rows {
            let realm = RealmId::parse(&row.id)
                .map_err(|_| Row { table: "realm", key: &row.id }.corrupt("id"))?;
            let state = state_of(&realm, &row.state)?;
            let settings = served(&mut connection, &realm, &state).await?;
            realms.insert(realm, settings);
        }
        self.inner.realms.set(realms);
        Ok(())
    }
}

/// Takes in what a record says of a realm.
pub(crate) async fn change(
    transaction: &mut PgConnection,
    place: Place<'_>,
    change: &RealmChange,
) -> Result<(), StoreError> {
    let mut state = lock(&mut *transaction, &change.realm).await?;
    let body = Body::of(&change.settings);
    let (dot, stamp) = (place.dot.clone(), change.stamp);
    let head = Head { dot, stamp, body: Some(body), suspect: false };
    state.take(head, 0, &change.context);
    sqlx::query!(
        "insert into realm_settings (sha256, settings) values ($1, $2) on conflict do nothing",
        body.sha256.as_bytes(),
        &change.settings,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "update realm set state = $2 where id = $1",
        change.realm.as_str(),
        encode_state(&state),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn lock(transaction: &mut PgConnection, realm: &RealmId) -> Result<FileState, StoreError> {
    sqlx::query!(
        "insert into realm (id, state) values ($1, $2) on conflict do nothing",
        realm.as_str(),
        encode_state(&FileState::default()),
    )
    .execute(&mut *transaction)
    .await?;
    let state =
        sqlx::query_scalar!("select state from realm where id = $1 for update", realm.as_str())
            .fetch_one(transaction)
            .await?;
    state_of(realm, &state)
}

fn state_of(realm: &RealmId, state: &[u8]) -> Result<FileState, StoreError> {
    decode_state(state).map_err(|_| Row { table: "realm", key: realm }.corrupt("state"))
}

/// What the record of highest rank says; the default where there is none.
async fn served(
    connection: &mut PgConnection,
    realm: &RealmId,
    state: &FileState,
) -> Result<RealmSettings, StoreError> {
    let Some(body) = state.served().and_then(|head| head.body) else {
        return Ok(RealmSettings::default());
    };
    let settings = sqlx::query_scalar!(
        "select settings from realm_settings where sha256 = $1",
        body.sha256.as_bytes(),
    )
    .fetch_optional(connection)
    .await?;
    let row = Row { table: "realm_settings", key: realm };
    let settings = settings.ok_or_else(|| row.corrupt("sha256"))?;
    decode_settings(&settings).map_err(|_| row.corrupt("settings"))
}
