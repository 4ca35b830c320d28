//! The consumer's side of connections to peers: sockets and streams, nothing decided.

use std::{error::Error, io, time::Duration};

use bruri_domain::limits::{
    PEER_HANDSHAKE_SECONDS_MAX, PEER_MESSAGE_BYTES_MAX, PEER_MESSAGE_SECONDS_MAX,
};
use bruri_wire::proto::replication::v1::{
    self as proto, replication_service_client::ReplicationServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    driver::Inputs,
    engine::{
        hello::bounded_text,
        io::{Ask, Event, Input, LinkError, SubscriptionId},
    },
    tls::ConnectError,
};

const HANDSHAKE: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);
const MESSAGE: Duration = Duration::from_secs(PEER_MESSAGE_SECONDS_MAX);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the peer refuses us: {}", bounded_text(.0.message()))]
    Refused(Box<tonic::Status>),
    #[error("the peer cannot supply us: {}", bounded_text(.0.message()))]
    Unable(Box<tonic::Status>),
    #[error("the peer sent what is not understood: {}", bounded_text(.0.message()))]
    Garbled(Box<tonic::Status>),
    #[error("the connection broke: {}", cause(.0))]
    Broken(Box<tonic::Status>),
    #[error("no word from the peer for too long")]
    Silent,
    #[error("the peer ended the stream")]
    Ended,
    #[error("the peer does not read what we say")]
    Unread,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        // One that a broken line brought about has that as its source; the others were said by the peer
        // or by who decoded its words.
        let of_line = status.source().is_some();
        let kind = match status.code() {
            _ if of_line => Self::Broken,
            Code::Internal | Code::OutOfRange => Self::Garbled,
            Code::Unavailable | Code::DataLoss => Self::Unable,
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unimplemented => Self::Refused,
            _ => Self::Broken,
        };
        kind(Box::new(status))
    }
}

/// What is behind a status. Of a line that broke the layers in between tell nothing, and rustls advises
/// programmers.
fn cause(status: &tonic::Status) -> String {
    let mut deepest = status.source();
    while let Some(deeper) = deepest.and_then(Error::source) {
        deepest = Some(deeper);
    }
    let Some(deepest) = deepest else { return bounded_text(status.message()) };
    match deepest.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => error.kind().to_string(),
        _ => bounded_text(&deepest.to_string()),
    }
}

impl From<StreamError> for LinkError {
    fn from(error: StreamError) -> Self {
        let needs_a_person = matches!(error, StreamError::Refused(_) | StreamError::Garbled(_));
        Self { text: error.to_string(), needs_a_person }
    }
}

impl From<ConnectError> for LinkError {
    fn from(error: ConnectError) -> Self {
        Self { text: error.to_string(), needs_a_person: error.needs_a_person() }
    }
}

/// One stream: says what comes out of `asks` and hands in what is heard, until either ends.
pub(crate) async fn follow(
    channel: Channel,
    subscription: SubscriptionId,
    asks: mpsc::Receiver<Ask>,
    inputs: Inputs,
) {
    let Err(error) = try_follow(channel, subscription, asks, &inputs).await else { return };
    inputs.send(Input::Ended { subscription, error: error.into() }).await;
}

async fn try_follow(
    channel: Channel,
    subscription: SubscriptionId,
    asks: mpsc::Receiver<Ask>,
    inputs: &Inputs,
) -> Result<(), StreamError> {
    let mut client = ReplicationServiceClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let asks = tokio_stream::StreamExt::map(ReceiverStream::new(asks), |ask| {
        proto::SubscribeRequest { request: Some(ask) }
    });
    let subscribed = timeout(HANDSHAKE, client.subscribe(asks));
    let mut events = subscribed.await.map_err(|_| StreamError::Silent)??.into_inner();
    loop {
        let event = next(&mut events).await?;
        let heard = Input::Heard { subscription, event };
        if !inputs.send(heard).await {
            return Ok(());
        }
    }
}

/// The next event; what a later release says beyond this one's events is passed over.
async fn next(events: &mut Streaming<proto::SubscribeResponse>) -> Result<Event, StreamError> {
    loop {
        let message =
            timeout(MESSAGE, events.message()).await.map_err(|_| StreamError::Silent)??;
        if let Some(event) = message.ok_or(StreamError::Ended)?.event {
            return Ok(event);
        }
    }
}
