//! One stream to one peer: pages within the credit it grants, then whatever is new, and heartbeats.

use std::{collections::BTreeMap, error::Error as _, sync::Arc, time::Duration};

use bruri_domain::{
    Cursor, Log, LogId, LogKind, SiteName,
    limits::{CREDIT_BYTES_MAX, HEARTBEAT_BUSY_MILLIS, HEARTBEAT_IDLE_MILLIS},
};
use bruri_store::{Store, StoreError};
use bruri_wire::{
    proto::replication::v1::{
        self as proto, refusal::Reason, subscribe_request::Request as Ask,
        subscribe_response::Event,
    },
    replication::{InvalidMessage, cursors},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Code, Status, Streaming};

use crate::{batch::credit_bytes, hello, vector::vector_hash};

const BUSY: Duration = Duration::from_millis(HEARTBEAT_BUSY_MILLIS);
const IDLE: Duration = Duration::from_millis(HEARTBEAT_IDLE_MILLIS);

/// What goes out.
pub(crate) type Out = Result<proto::SubscribeResponse, Status>;

/// Why a stream ended.
pub(crate) enum End {
    Gone,
    Message(InvalidMessage),
    /// What the peer sent is no message of ours at all.
    Garbled(Box<Status>),
    Store(StoreError),
}

impl End {
    pub(crate) fn log(&self, peer: &SiteName) {
        match self {
            Self::Gone => tracing::debug!(%peer, "a peer ended its stream"),
            Self::Message(error) => {
                tracing::warn!(%peer, %error, "a peer sent what is not understood");
            }
            Self::Garbled(status) => {
                let error = hello::bounded_text(status.message());
                tracing::warn!(%peer, error, "a peer sent what is not understood");
            }
            Self::Store(error) => {
                let error = error as &dyn std::error::Error;
                tracing::warn!(%peer, error, "cannot supply a peer");
            }
        }
    }

    /// What the peer is told; nothing where it is gone.
    fn status(&self) -> Option<Status> {
        match self {
            Self::Gone => None,
            Self::Message(error) => Some(Status::invalid_argument(error.to_string())),
            Self::Garbled(status) => Some(Status::invalid_argument(status.message())),
            Self::Store(StoreError::Corrupt { .. }) => {
                Some(Status::data_loss("its records are damaged; its log says which"))
            }
            Self::Store(_) => Some(Status::unavailable("its database does not answer")),
        }
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One stream to one peer.
pub(crate) struct Supply {
    store: Store,
    vector: watch::Receiver<Arc<Vec<Cursor>>>,
    out: mpsc::Sender<Out>,
    wanted: BTreeMap<LogId, Position>,
    credit: u64,
    /// What the last heartbeats said.
    told: BTreeMap<LogId, u64>,
    beat_at: Instant,
}

struct Position {
    log: Log,
    sequence: u64,
}

impl Supply {
    pub(crate) fn new(
        store: Store,
        vector: watch::Receiver<Arc<Vec<Cursor>>>,
        out: mpsc::Sender<Out>,
    ) -> Self {
        Self {
            store,
            vector,
            out,
            wanted: BTreeMap::new(),
            credit: 0,
            told: BTreeMap::new(),
            beat_at: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, mut asks: Streaming<proto::SubscribeRequest>) -> End {
        let end = self.try_run(&mut asks).await.err().unwrap_or(End::Gone);
        if let Some(status) = end.status() {
            let _ = self.out.send(Err(status)).await;
        }
        end
    }

    async fn try_run(&mut self, asks: &mut Streaming<proto::SubscribeRequest>) -> Result<(), End> {
        self.beat().await?;
        loop {
            self.send_pages().await?;
            let due = self.beat_due();
            tokio::select! {
                ask = asks.message() => match ask {
                    Ok(Some(ask)) => self.take(ask).await?,
                    Err(status) if is_garbled(&status) => {
                        return Err(End::Garbled(Box::new(status)));
                    }
                    Ok(None) | Err(_) => return Ok(()),
                },
                changed = self.vector.changed() => changed.map_err(|_| End::Gone)?,
                () = tokio::time::sleep_until(due) => self.beat().await?,
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    async fn take(&mut self, ask: proto::SubscribeRequest) -> Result<(), End> {
        match ask.request {
            Some(Ask::Wants(wants)) => self.want(wants).await,
            Some(Ask::Credit(credit)) => {
                self.credit = self.credit.saturating_add(credit.bytes).min(CREDIT_BYTES_MAX);
                Ok(())
            }
            // A second Hello, or what a later release says: nothing that changes what is sent.
            Some(Ask::Hello(_)) | None => Ok(()),
        }
    }

    async fn want(&mut self, wants: proto::Wants) -> Result<(), End> {
        self.wanted.clear();
        for cursor in cursors(wants.cursors).map_err(End::Message)? {
            match self.refusal(&cursor).await? {
                None => {
                    let position = Position { log: cursor.log.clone(), sequence: cursor.sequence };
                    self.wanted.insert(cursor.log.id, position);
                }
                Some(refusal) => self.send(Event::Refusal(refusal)).await?,
            }
        }
        Ok(())
    }

    /// Whether the log can be sent from there: only if we have that place with the same chain.
    async fn refusal(&self, wanted: &Cursor) -> Result<Option<proto::Refusal>, StoreError> {
        let (reason, text) = match self.store.chain_at(wanted).await? {
            _ if !self.knows(&wanted.log.id) => (Reason::UnknownLog, "the log is not known here"),
            Some(chain) if chain == wanted.chain => return Ok(None),
            Some(_) => (Reason::Fork, "the log has another chain there: it forked"),
            None => (Reason::Ahead, "the log is not so long here: records were lost"),
        };
        let text = format!("{} at {}: {text}", wanted.log.id, wanted.sequence);
        Ok(Some(proto::Refusal { wanted: Some(wanted.into()), reason: reason.into(), text }))
    }

    fn knows(&self, log: &LogId) -> bool {
        self.vector.borrow().iter().any(|cursor| cursor.log.id == *log)
    }

    /// Sends a page of each wanted log in turn, control logs before the others, until all are at their
    /// tails or the credit is used up.
    async fn send_pages(&mut self) -> Result<(), End> {
        loop {
            let vector = Arc::clone(&self.vector.borrow_and_update());
            let behind = |cursor: &&Cursor| {
                let wanted = self.wanted.get(&cursor.log.id);
                wanted.is_some_and(|position| position.sequence < cursor.sequence)
            };
            let (control, others): (Vec<_>, Vec<_>) =
                vector.iter().filter(behind).partition(|c| c.log.kind == LogKind::Control);
            let next = if control.is_empty() { others } else { control };
            let next: Vec<LogId> = next.into_iter().map(|cursor| cursor.log.id.clone()).collect();
            if next.is_empty() {
                return Ok(());
            }
            for log in next {
                if self.credit == 0 {
                    return Ok(());
                }
                self.send_page(&log).await?;
            }
        }
    }

    async fn send_page(&mut self, id: &LogId) -> Result<(), End> {
        let Some(position) = self.wanted.get_mut(id) else { return Ok(()) };
        let page = self.store.records_after(id, position.sequence).await?;
        let Some(last) = page.chains.last() else {
            // The counter is ahead of the records.
            let (table, column) = ("record", "sequence");
            return Err(StoreError::Corrupt { table, column, row: id.to_string() }.into());
        };
        let chain = last.0.as_bytes().to_vec();
        let first_sequence = position.sequence.saturating_add(1);
        position.sequence = position.sequence.saturating_add(page.records.len() as u64);
        let entry = |raw: bruri_wire::record::RawRecord| proto::Entry {
            envelope: raw.envelope,
            payload: raw.payload,
        };
        let batch = proto::Batch {
            log: Some((&position.log).into()),
            first_sequence,
            entries: page.records.into_iter().map(entry).collect(),
            bodies: page.bodies,
            chain,
        };
        self.credit = self.credit.saturating_sub(credit_bytes(&batch));
        self.send(Event::Batch(batch)).await
    }

    fn beat_due(&self) -> Instant {
        let told = |cursor: &Cursor| self.told.get(&cursor.log.id) == Some(&cursor.sequence);
        let news = !self.vector.borrow().iter().all(told);
        let wait = if news { BUSY } else { IDLE };
        self.beat_at.checked_add(wait).unwrap_or(self.beat_at)
    }

    async fn beat(&mut self) -> Result<(), End> {
        let vector = Arc::clone(&self.vector.borrow());
        let news = |cursor: &&Cursor| self.told.get(&cursor.log.id) != Some(&cursor.sequence);
        let changed = vector.iter().filter(news).map(Into::into).collect();
        self.told = vector.iter().map(|c| (c.log.id.clone(), c.sequence)).collect();
        self.beat_at = Instant::now();
        let heartbeat = proto::Heartbeat {
            changed,
            vector_hash: vector_hash(&vector).to_vec(),
            sent_micros: self.store.clock().now_micros(),
        };
        self.send(Event::Heartbeat(heartbeat)).await
    }

    async fn send(&self, event: Event) -> Result<(), End> {
        let response = proto::SubscribeResponse { event: Some(event) };
        self.out.send(Ok(response)).await.map_err(|_| End::Gone)
    }
}

/// Whether the bytes that arrived are no message, as opposed to a line that broke.
fn is_garbled(status: &Status) -> bool {
    status.source().is_none() && matches!(status.code(), Code::Internal | Code::OutOfRange)
}
