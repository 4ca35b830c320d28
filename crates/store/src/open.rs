//! Connecting, migrating, and taking possession of a database.

use std::{sync::Arc, time::Duration};

use bruri_domain::{Clock, DeploymentKey, Issuer, SiteName};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    Inner, Store, StoreError, erasing, gate::Gate, own, realms::Realms, told::Told,
    unwritten::Unwritten, wakeups::Wakeups,
};

/// The tables, in the order they came to be.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// What the store must know of its site.
pub struct Options {
    /// The site's name; a database belongs to one site.
    pub site: SiteName,
    /// The deployment key; a database is filled under one key.
    pub key: DeploymentKey,
    /// Stamps records.
    pub clock: Arc<dyn Clock>,
}

/// Opens a pool of at most `connections_max` connections. Every statement but migrations ends within
/// 10 s, or the database ends it.
pub async fn connect(
    options: PgConnectOptions,
    connections_max: u32,
) -> Result<PgPool, sqlx::Error> {
    let options = options.application_name("brurid").options([
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ]);
    // The pool would only say that it timed out: a first connection tells why there is none.
    options.connect().await?.close().await?;
    PgPoolOptions::new()
        .max_connections(connections_max)
        .min_connections(1)
        // A phone tries once: better to wait for a busy machine than to refuse.
        .acquire_timeout(Duration::from_secs(8))
        .max_lifetime(Duration::from_mins(30))
        .after_connect(|connection, _| {
            Box::pin(async {
                fix_plans(&mut *connection).await?;
                identify(connection).await
            })
        })
        .connect_with(options)
        .await
}

/// Every statement looks rows up by a key, but a plan that was made while the tables were empty scans
/// them, and is kept while they fill. Where a database has no such settings, its own plans stand.
async fn fix_plans(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    for setting in [
        "set enable_seqscan = off",
        "set enable_bitmapscan = off",
        "set enable_hashjoin = off",
        "set enable_mergejoin = off",
        "set plan_cache_mode = force_generic_plan",
        "set jit = off",
    ] {
        if let Err(error) = connection.execute(setting).await {
            tracing::debug!(%error, setting, "the database has no such setting");
        }
    }
    Ok(())
}

/// Notes in the session which database this is, for the statement that numbers. Asked once a connection:
/// a Postgres that is not in recovery keeps its system identifier and timeline for as long as it runs, and
/// a connection ends with it. A connection to a standby would survive its promotion, so none is kept.
async fn identify(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    let identified = sqlx::query_scalar!(
        "select case when not pg_is_in_recovery() then set_config(
                'bruri.identity',
                (select system_identifier from pg_control_system()) || '/'
                    || left(pg_walfile_name(pg_current_wal_lsn()), 8),
                false) end",
    )
    .fetch_one(connection)
    .await;
    match identified {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(sqlx::Error::Configuration(
            "the database is a standby in recovery: it takes no writes".into(),
        )),
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "the database does not tell which one it is");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

impl Store {
    /// Brings the tables up to date, and makes the database this site's or finds that it is; opens the
    /// site's logs where there are none.
    ///
    /// # Errors
    /// [`StoreError::AnotherSite`] and [`StoreError::AnotherKey`] where the database is not ours.
    pub async fn open(pool: PgPool, options: Options) -> Result<Self, StoreError> {
        migrate(&pool).await?;
        claim(&pool, &options).await?;
        let (own, stamp_micros) = own::open(&pool, &options.site).await?;
        erasing::fill_subjects(&pool, &options.key).await?;
        let issuer = Issuer::after(stamp_micros);
        let inner = Inner {
            pool,
            site: options.site,
            key: options.key,
            clock: options.clock,
            issuer,
            clock_trusted: true.into(),
            own,
            gate: Gate::new(),
            wakeups: Wakeups::new(),
            unwritten: Unwritten::default(),
            told: Told::default(),
            erased: tokio::sync::Notify::new(),
            parted: tokio::sync::Notify::new(),
            lacking: tokio::sync::Notify::new(),
            realms: Realms::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.apply_unread().await?;
        store.read_realms().await?;
        Ok(store)
    }
}

/// On a connection of its own, without the time limits of the others: a migration may take long, and one
/// `brurid` waits while another migrates.
async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?.detach();
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        let unlimited = sqlx::query("select set_config($1, '0', false)").bind(setting);
        unlimited.execute(&mut connection).await?;
    }
    // While the `brurid` of a site are upgraded one by one, the old ones start on the new tables, which
    // are made so that both releases work.
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.set_ignore_missing(true);
    migrator.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn claim(pool: &PgPool, options: &Options) -> Result<(), StoreError> {
    let check = options.key.check();
    sqlx::query!(
        "insert into site (name, deployment_key_check) values ($1, $2) on conflict do nothing",
        options.site.as_str(),
        &check,
    )
    .execute(pool)
    .await?;
    let owner = sqlx::query!("select name, deployment_key_check from site").fetch_one(pool).await?;
    if owner.name != options.site.as_str() {
        return Err(StoreError::AnotherSite { owner: owner.name, asked: options.site.clone() });
    }
    if owner.deployment_key_check != check {
        return Err(StoreError::AnotherKey);
    }
    Ok(())
}
