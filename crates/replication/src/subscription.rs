//! One `Subscribe` stream, as the consumer sees it.

use std::time::Duration;

use bruri_domain::{
    Cursor, SiteName,
    limits::{
        CREDIT_BYTES_GRANTED, PEER_HANDSHAKE_SECONDS_MAX, PEER_MESSAGE_BYTES_MAX,
        PEER_MESSAGE_SECONDS_MAX,
    },
};
use bruri_wire::proto::replication::v1::{
    self as proto, replication_service_client::ReplicationServiceClient,
    subscribe_request::Request as Ask, subscribe_response::Event,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    Replication,
    hello::{self, HelloError},
    session::SessionError,
};

const HANDSHAKE: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);
const MESSAGE: Duration = Duration::from_secs(PEER_MESSAGE_SECONDS_MAX);
/// Asks that wait to be sent: Hello, Credit and Wants of one turn.
const ASKS_MAX: usize = 8;

/// A stream on which both sides have said Hello and the first credit is granted.
pub(crate) struct Subscription {
    asks: mpsc::Sender<proto::SubscribeRequest>,
    events: Streaming<proto::SubscribeResponse>,
    /// The peer's release.
    pub(crate) release: String,
}

impl Subscription {
    pub(crate) async fn open(
        replication: &Replication,
        channel: Channel,
        certified: &SiteName,
    ) -> Result<Self, SessionError> {
        let inner = &replication.inner;
        let (asks, queue) = mpsc::channel(ASKS_MAX);
        let hello = Ask::Hello(hello::ours(&inner.store, inner.release));
        let credit = Ask::Credit(proto::Credit { bytes: CREDIT_BYTES_GRANTED });
        for ask in [hello, credit] {
            // The queue has room and its other end is held below.
            let _ = asks.send(proto::SubscribeRequest { request: Some(ask) }).await;
        }
        let mut client = ReplicationServiceClient::new(channel)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let subscribed = client.subscribe(ReceiverStream::new(queue));
        let response = timeout(HANDSHAKE, subscribed).await.map_err(|_| SessionError::Silent)??;
        let mut subscription = Self { asks, events: response.into_inner(), release: String::new() };
        let first = timeout(HANDSHAKE, subscription.next());
        let Event::Hello(theirs) = first.await.map_err(|_| SessionError::Silent)?? else {
            return Err(HelloError::Missing.into());
        };
        hello::check(&theirs, certified, &inner.store)?;
        subscription.release = hello::bounded_text(&theirs.release);
        Ok(subscription)
    }

    /// The next event. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            let message = timeout(MESSAGE, self.events.message());
            let message = message.await.map_err(|_| SessionError::Silent)??;
            // What a later release says beyond this one's events is passed over.
            if let Some(event) = message.ok_or(SessionError::Ended)?.event {
                return Ok(event);
            }
        }
    }

    /// Names the logs to be sent, in this order, and where each was left.
    pub(crate) async fn want(&self, cursors: &[Cursor]) -> Result<(), SessionError> {
        let cursors = cursors.iter().map(Into::into).collect();
        self.ask(Ask::Wants(proto::Wants { cursors })).await
    }

    /// Lets the peer send so many more bytes.
    pub(crate) async fn grant(&self, bytes: u64) -> Result<(), SessionError> {
        self.ask(Ask::Credit(proto::Credit { bytes })).await
    }

    async fn ask(&self, ask: Ask) -> Result<(), SessionError> {
        let request = proto::SubscribeRequest { request: Some(ask) };
        self.asks.send(request).await.map_err(|_| SessionError::Ended)
    }
}
