//! What a site's Postgres holds, read as an operator could.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, ensure};
use bruri_domain::limits::FILE_BYTES_MAX;
use bruri_domain::{Chain, Epoch, Log, LogId, LogKind, Predecessor, Sha256, SiteName};
use bruri_wire::record::decode_version;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _, ValueRef as _};

/// How whatever zstd compressed begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A log: site, epoch, kind.
pub type LogName = (String, i64, i16);
/// How far each log that has any records is applied: sequence and chain.
pub type Vector = BTreeMap<LogName, (i64, Vec<u8>)>;
/// What decides which version a phone gets, by file.
pub type States = BTreeMap<(String, String), FileRow>;

/// A row of the table `file`, without what is of this site only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileRow {
    state: Vec<u8>,
    checksum: Vec<u8>,
    served_body: Option<Vec<u8>>,
}

/// A site's database.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
}

impl Database {
    /// Connects with a URL.
    pub async fn at(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("read the URL of a database")?;
        Self::open(options).await
    }

    /// Connects as this command of a shell would: `PGPASSFILE=… …/psql -h … -U … …`.
    pub async fn of_command(command: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let [password_file, _psql, "-h", socket, "-U", user, database] = words[..] else {
            anyhow::bail!("no psql command: {command}");
        };
        let file = password_file.strip_prefix("PGPASSFILE=").context("no PGPASSFILE")?;
        let line = fs::read_to_string(file).context("read the password")?;
        let password = line.trim().rsplit(':').next().unwrap_or_default();
        let options = PgConnectOptions::new_without_pgpass()
            .socket(socket)
            .username(user)
            .password(password)
            .database(database);
        Self::open(options).await
    }

    /// Does what nobody should, past foreign keys; it must change one row.
    pub async fn damage(&self, statement: &str) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        let past_keys = "set local session_replication_role = replica";
        sqlx::query(past_keys).execute(&mut *transaction).await?;
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction);
        let rows = done.await.with_context(|| statement.to_owned())?.rows_affected();
        anyhow::ensure!(rows == 1, "{statement}: changed {rows} rows");
        Ok(transaction.commit().await?)
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&self, statement: &str) -> anyhow::Result<u64> {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&self.pool).await;
        Ok(done.with_context(|| statement.to_owned())?.rows_affected())
    }

    /// Whether a snapshot is under way: states are being copied, or history is being filled in.
    pub async fn is_filling(&self) -> anyhow::Result<bool> {
        let copying = self.execute("select from snapshot").await?;
        let filling = self.execute("select from log where floor_sequence is not null").await?;
        Ok(copying > 0 || filling > 0)
    }

    /// How far each log is applied.
    pub async fn vector(&self) -> anyhow::Result<Vector> {
        let rows =
            sqlx::query("select site, epoch, kind, sequence, chain from log where sequence > 0");
        let rows = rows.fetch_all(&self.pool).await.context("read the logs")?;
        rows.iter()
            .map(|row| Ok((log_name(row)?, (row.try_get("sequence")?, row.try_get("chain")?))))
            .collect()
    }

    /// The states of all files.
    pub async fn states(&self) -> anyhow::Result<States> {
        let rows = sqlx::query("select realm, name, state, checksum, served_body from file");
        let rows = rows.fetch_all(&self.pool).await.context("read the files")?;
        rows.iter()
            .map(|row| {
                let state = FileRow {
                    state: row.try_get("state")?,
                    checksum: row.try_get("checksum")?,
                    served_body: row.try_get("served_body")?,
                };
                Ok(((row.try_get("realm")?, row.try_get("name")?), state))
            })
            .collect()
    }

    /// Every version that has a body: its file and the hash by which its body is kept.
    pub async fn versions(&self) -> anyhow::Result<Vec<(String, Sha256)>> {
        let rows = sqlx::query("select name, body from record where body is not null");
        let rows = rows.fetch_all(&self.pool).await.context("read the versions")?;
        rows.iter()
            .map(|row| {
                let hash = Sha256::from_slice(row.try_get("body")?).context("no hash")?;
                Ok((row.try_get("name")?, hash))
            })
            .collect()
    }

    /// The hashes of the bodies that the database really holds, of those that it should.
    pub async fn bodies(&self, wanted: &[Sha256]) -> anyhow::Result<BTreeSet<Sha256>> {
        let wanted: Vec<&[u8]> = wanted.iter().map(Sha256::as_bytes).collect();
        let rows = sqlx::query_scalar("select content from body where sha256 = any($1)");
        let rows: Vec<Vec<u8>> =
            rows.bind(wanted).fetch_all(&self.pool).await.context("read bodies")?;
        rows.iter()
            .map(|content| {
                let body = zstd::bulk::decompress(content, FILE_BYTES_MAX);
                Ok(Sha256::of(&body.context("decompress a body")?))
            })
            .collect()
    }

    /// Every value of every table as its bytes, with where it stands; every row also as Postgres prints it, and what
    /// is compressed also as it was.
    pub async fn export(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let tables = sqlx::query_scalar::<_, String>(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables
              where table_schema not in ('pg_catalog', 'information_schema')",
        );
        let mut values = Vec::new();
        for table in tables.fetch_all(&self.pool).await.context("list the tables")? {
            let rows = AssertSqlSafe(format!("select t::text as row_as_text, t.* from {table} t"));
            let rows = sqlx::query(rows).fetch_all(&self.pool).await;
            for row in rows.with_context(|| format!("read table {table}"))? {
                export_row(&table, &row, &mut values)?;
            }
        }
        Ok(values)
    }

    /// Sequences of the open `files` log after this one, in order: what a polling reader sees.
    pub async fn sequences_after(&self, sequence: i64) -> anyhow::Result<Vec<i64>> {
        let sequences = sqlx::query_scalar(
            "select r.sequence from record r join log l on l.id = r.log
              where l.is_open and l.kind = 2 and r.sequence > $1 order by r.sequence",
        );
        sequences.bind(sequence).fetch_all(&self.pool).await.context("read sequences")
    }

    /// Fails unless each log holds every record from 1 to its end exactly once, each with the chain
    /// value that follows from the one before.
    pub async fn logs_are_whole(&self) -> anyhow::Result<()> {
        let logs = sqlx::query("select * from log").fetch_all(&self.pool).await;
        for row in logs.context("read the logs")? {
            let name = log_name(&row)?;
            self.log_is_whole(&row).await.with_context(|| format!("log {name:?}"))?;
        }
        Ok(())
    }

    /// Fails where one backup has become two versions; no two bodies of a test are equal. A version of a log that
    /// forked may stand there twice, with the same random bits.
    pub async fn no_backup_is_doubled(&self) -> anyhow::Result<()> {
        let rows = sqlx::query("select payload from record where body is not null");
        let rows = rows.fetch_all(&self.pool).await.context("read the versions")?;
        let mut seen = BTreeMap::new();
        for row in rows {
            let version = decode_version(row.try_get("payload")?).context("decode a version")?;
            let backup = (version.file, version.body.map(|body| body.sha256));
            let first = *seen.entry(backup.clone()).or_insert(version.random);
            ensure!(first == version.random, "{backup:?} is there twice");
        }
        Ok(())
    }

    async fn log_is_whole(&self, log: &PgRow) -> anyhow::Result<()> {
        let records = sqlx::query(
            "select sequence, envelope, chain from record where log = $1 order by sequence",
        );
        let id: i32 = log.try_get("id")?;
        let records = records.bind(id).fetch_all(&self.pool).await.context("read the records")?;
        let mut chain = Chain::begin(&domain_log(log)?);
        let mut sequence = 0_i64;
        for record in records {
            let found: i64 = record.try_get("sequence")?;
            ensure!(found == sequence.strict_add(1), "after {sequence} comes {found}");
            sequence = found;
            chain = chain.next(record.try_get("envelope")?);
            let stored: &[u8] = record.try_get("chain")?;
            ensure!(stored == chain.0.as_bytes(), "the chain is broken at {sequence}");
        }
        let end: i64 = log.try_get("sequence")?;
        ensure!(sequence == end, "the counter is at {end}, the last record is {sequence}");
        let stored: &[u8] = log.try_get("chain")?;
        ensure!(stored == chain.0.as_bytes(), "the chain differs from that of the records");
        Ok(())
    }

    async fn open(options: PgConnectOptions) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await;
        Ok(Self { pool: pool.context("connect to the database of a site")? })
    }
}

fn export_row(table: &str, row: &PgRow, values: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    for column in row.columns() {
        let value = row.try_get_raw(column.ordinal())?;
        if value.is_null() {
            continue;
        }
        let place = format!("{table} {}", column.name());
        let bytes = value.as_bytes().map_err(|error| anyhow::anyhow!("read {place}: {error}"))?;
        if bytes.starts_with(&ZSTD_MAGIC) {
            let body = zstd::bulk::decompress(bytes, FILE_BYTES_MAX);
            values.push((place.clone(), body.with_context(|| format!("decompress {place}"))?));
        }
        values.push((place, bytes.to_vec()));
    }
    Ok(())
}

fn log_name(row: &PgRow) -> anyhow::Result<LogName> {
    Ok((row.try_get("site")?, row.try_get("epoch")?, row.try_get("kind")?))
}

fn domain_log(row: &PgRow) -> anyhow::Result<Log> {
    let (site, epoch, kind) = log_name(row)?;
    let before: Option<i64> = row.try_get("predecessor_epoch")?;
    let predecessor = match before {
        None => None,
        Some(epoch) => Some(Predecessor {
            epoch: Epoch(epoch.cast_unsigned()),
            sequence: row.try_get::<i64, _>("predecessor_sequence")?.cast_unsigned(),
            chain: Chain(
                Sha256::from_slice(row.try_get("predecessor_chain")?).context("no chain")?,
            ),
        }),
    };
    let kind = if kind == 1 { LogKind::Control } else { LogKind::Files };
    let site = SiteName::parse(&site).map_err(|_| anyhow::anyhow!("no name of a site: {site}"))?;
    Ok(Log { id: LogId { site, epoch: Epoch(epoch.cast_unsigned()) }, kind, predecessor })
}
