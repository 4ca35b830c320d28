//! A log that forked is set back to where its branches part: found by asking the peer which places it shares.

use std::{collections::BTreeSet, time::Duration};

use bruri_domain::{
    Cursor, Epoch, Log, LogId, LogKind, fork::Search, limits::PEER_HANDSHAKE_SECONDS_MAX,
};
use bruri_store::{Store, StoreError};
use bruri_wire::{
    proto::replication::v1::{self as proto, replication_service_client::ReplicationServiceClient},
    replication::InvalidMessage,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::engine::io::{Ask, Event};

const ANSWER: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);

/// Why a log was not set back; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error("the peer says: {0}")]
    Status(#[from] tonic::Status),
    #[error("no word from the peer for too long")]
    Silent,
    #[error("the peer ended the stream")]
    Ended,
    #[error("the log was moved meanwhile")]
    Moved,
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares our branch of a log with the peer's and sets ours back to the last place that both have.
pub(crate) async fn settle(
    store: &Store,
    channel: Channel,
    hello: proto::Hello,
    log: &LogId,
) -> Result<(), SettleError> {
    let ours = end_of(store, log).await?;
    let mut stream = Probes::open(channel, hello).await?;
    let mut search = Search::within(ours.sequence);
    loop {
        let probes = search.probes();
        if probes.is_empty() {
            break;
        }
        let places = places(store, &ours, &probes).await?;
        search.narrow(compared(store, &mut stream, &places).await?);
    }
    let common = Cursor { sequence: search.common(), ..ours.clone() };
    let chain = store.chain_at(&common).await?.ok_or(SettleError::Moved)?;
    let common = Cursor { chain, ..common };
    if common.sequence < ours.sequence {
        store.set_back(&common).await?;
    }
    Ok(())
}

async fn end_of(store: &Store, log: &LogId) -> Result<Cursor, SettleError> {
    let vector = store.vector().await?;
    let ours = vector.into_iter().find(|cursor| cursor.log.id == *log);
    ours.ok_or(SettleError::Moved)
}

async fn places(store: &Store, ours: &Cursor, probes: &[u64]) -> Result<Vec<Cursor>, SettleError> {
    let mut places = Vec::with_capacity(probes.len());
    for sequence in probes {
        let place = Cursor { sequence: *sequence, ..ours.clone() };
        let chain = store.chain_at(&place).await?.ok_or(SettleError::Moved)?;
        places.push(Cursor { chain, ..place });
    }
    Ok(places)
}

/// A stream without credit: nothing but refusals comes.
struct Probes {
    asks: mpsc::Sender<proto::SubscribeRequest>,
    events: Streaming<proto::SubscribeResponse>,
}

impl Probes {
    async fn open(channel: Channel, hello: proto::Hello) -> Result<Self, SettleError> {
        let (asks, queue) = mpsc::channel(2);
        let hello = proto::SubscribeRequest { request: Some(Ask::Hello(hello)) };
        // The queue has room and its other end is held below.
        let _ = asks.send(hello).await;
        let mut client = ReplicationServiceClient::new(channel);
        let subscribed = timeout(ANSWER, client.subscribe(ReceiverStream::new(queue)));
        let events = subscribed.await.map_err(|_| SettleError::Silent)??.into_inner();
        Ok(Self { asks, events })
    }

    async fn want(&self, cursors: &[Cursor]) -> Result<(), SettleError> {
        let cursors = cursors.iter().map(Into::into).collect();
        let request = Some(Ask::Wants(proto::Wants { cursors }));
        let sent = self.asks.send(proto::SubscribeRequest { request }).await;
        sent.map_err(|_| SettleError::Ended)
    }

    /// The place that the next refusal is about.
    async fn refused(&mut self) -> Result<Cursor, SettleError> {
        loop {
            let next = timeout(ANSWER, self.events.message());
            let message =
                next.await.map_err(|_| SettleError::Silent)??.ok_or(SettleError::Ended)?;
            let Some(Event::Refusal(refusal)) = message.event else { continue };
            let wanted =
                refusal.wanted.ok_or(bruri_wire::replication::invalid("refusal.wanted"))?;
            return Ok(Cursor::try_from(wanted)?);
        }
    }
}

/// Asks for the log from each of these places, one after the other: a supplier refuses those that it has otherwise or
/// not at all. A log that nobody has ends each question, so that it is known when all is said.
async fn compared(
    store: &Store,
    stream: &mut Probes,
    places: &[Cursor],
) -> Result<Vec<(u64, bool)>, SettleError> {
    let mut compared = Vec::with_capacity(places.len());
    for place in places {
        let id = LogId { site: store.site().clone(), epoch: Epoch(rand::random()) };
        let last = Cursor::at_beginning(Log { id, kind: LogKind::Files, predecessor: None });
        stream.want(&[place.clone(), last.clone()]).await?;
        let mut refused = BTreeSet::new();
        loop {
            let about = stream.refused().await?;
            if about.log.id == last.log.id {
                break;
            }
            refused.insert(about.sequence);
        }
        compared.push((place.sequence, !refused.contains(&place.sequence)));
    }
    Ok(compared)
}
