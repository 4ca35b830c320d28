//! Which versions of a file retention lets go: asked without a lock, since no version ever changes.

use bruri_domain::{
    Body, Dot, Fate, FileId, LogId, Retention, SiteName, Stamp, Version,
    limits::RETENTION_VERSIONS_MAX,
};
use bruri_wire::record::decode_version;
use bytes::Bytes;

use crate::{
    Store, StoreError,
    bodies::unpack,
    columns::{self, Row},
    prune::Pruning,
};

/// A version at its place in the history of its file.
pub(crate) struct Candidate {
    pub(crate) dot: Dot,
    pub(crate) place: Place,
    version: Version,
    /// Its body is here.
    is_whole: bool,
}

/// A place in the history of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    stamp_micros: i64,
    pub(crate) log: i32,
    pub(crate) sequence: i64,
}

impl Place {
    /// Before the newest version.
    pub(crate) const FIRST: Self =
        Self { stamp_micros: i64::MAX, log: i32::MAX, sequence: i64::MAX };
}

struct CandidateRow {
    site: String,
    epoch: i64,
    log: i32,
    sequence: i64,
    stamp_micros: i64,
    payload: Vec<u8>,
    is_whole: bool,
}

impl TryFrom<CandidateRow> for Candidate {
    type Error = StoreError;

    fn try_from(row: CandidateRow) -> Result<Self, StoreError> {
        let CandidateRow { log, sequence, stamp_micros, is_whole, .. } = row;
        let epoch = columns::epoch(row.epoch);
        let key = format!("{}/{epoch}/{sequence}", row.site);
        let (table, log_table) =
            (Row { table: "record", key: &key }, Row { table: "log", key: &key });
        let site = SiteName::parse(&row.site).map_err(|_| log_table.corrupt("site"))?;
        let dot = Dot { log: LogId { site, epoch }, sequence: table.number("sequence", sequence)? };
        let version = decode_version(&row.payload).map_err(|_| table.corrupt("payload"))?;
        Ok(Self { dot, place: Place { stamp_micros, log, sequence }, version, is_whole })
    }
}

impl Store {
    /// The versions of a file after a place, newest first, at most [`RETENTION_VERSIONS_MAX`].
    pub(crate) async fn candidates(
        &self,
        file: &FileId,
        after: Place,
    ) -> Result<Vec<Candidate>, StoreError> {
        let rows = sqlx::query_as!(
            CandidateRow,
            r#"select log.site, log.epoch, record.log, record.sequence,
                      record.stamp_micros as "stamp_micros!", payload as "payload!",
                      body is not null as "is_whole!"
                 from record join log on log.id = record.log
                where realm = $1 and name = $2 and payload is not null
                  and (record.stamp_micros, record.log, record.sequence) < ($3, $4, $5)
                order by record.stamp_micros desc, record.log desc, record.sequence desc
                limit $6"#,
            file.realm.as_str(),
            file.name.as_str(),
            after.stamp_micros,
            after.log,
            after.sequence,
            i64::from(RETENTION_VERSIONS_MAX),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(Candidate::try_from).collect()
    }

    async fn content(&self, body: Body) -> Result<Option<Bytes>, StoreError> {
        let packed = sqlx::query_scalar!(
            "select content from body where sha256 = $1",
            body.sha256.as_bytes()
        )
        .fetch_optional(self.pool())
        .await?;
        packed.map(|packed| unpack(body.sha256, body.bytes, &packed)).transpose()
    }
}

/// Judges the versions of a file one by one, newest first.
pub(crate) struct Judge<'a> {
    store: &'a Store,
    pruning: &'a Pruning,
    now_micros: u64,
    /// The nearest newer version that counts and is not pruned.
    next: Option<Next>,
}

struct Next {
    stamp: Stamp,
    /// None for a deletion.
    body: Option<Body>,
    /// What the body is, once it was asked for.
    content: Option<Bytes>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(store: &'a Store, pruning: &'a Pruning) -> Self {
        Self { store, pruning, now_micros: store.clock().now_micros(), next: None }
    }

    /// The body of this version, if it goes unless a head holds it.
    pub(crate) async fn goes(&mut self, candidate: &Candidate) -> Result<Option<Body>, StoreError> {
        let (stamp, body) = (candidate.version.stamp, candidate.version.body);
        if body.is_some() && !candidate.is_whole {
            // What took its place is known to be the next of what is older, too.
            return Ok(None);
        }
        let next = self.next.as_ref().map(|next| next.stamp);
        let fate = self.pruning.retention.fate(self.now_micros, stamp, next);
        let mut this = Next { stamp, body, content: None };
        let goes = match fate {
            Fate::Kept => false,
            Fate::Thinned => self.is_thinned(&mut this).await?,
            Fate::Dropped => true,
        };
        if Retention::counts(self.now_micros, stamp) {
            self.next = Some(this);
        }
        Ok(body.filter(|_| goes))
    }

    async fn is_thinned(&mut self, this: &mut Next) -> Result<bool, StoreError> {
        let Some(next) = &mut self.next else { return Ok(false) };
        let newer = next.content(self.store).await?;
        let older = this.content(self.store).await?;
        let (Some(older), Some(newer)) = (older, newer) else { return Ok(false) };
        Ok((self.pruning.only_call_log)(&older, &newer))
    }
}

impl Next {
    async fn content(&mut self, store: &Store) -> Result<Option<Bytes>, StoreError> {
        if let (None, Some(body)) = (&self.content, self.body) {
            self.content = store.content(body).await?;
        }
        Ok(self.content.clone())
    }
}
