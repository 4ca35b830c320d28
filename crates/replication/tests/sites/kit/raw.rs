//! A consumer that a test leads by the hand.

use std::{net::SocketAddr, time::Duration};

use bruri_domain::{Cursor, DeploymentKey};
use bruri_replication::tls::{self, Tls};
use bruri_wire::proto::replication::v1::{
    self as proto, replication_service_client::ReplicationServiceClient,
    subscribe_request::Request as Ask, subscribe_response::Event,
};
use bytes::{Buf, BufMut as _};
use futures_util::stream;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::PATIENCE;

pub(crate) struct Raw {
    asks: mpsc::Sender<proto::SubscribeRequest>,
    events: Streaming<proto::SubscribeResponse>,
}

/// What an honest site of that name says.
pub(crate) fn hello(site: &str, key: &DeploymentKey) -> proto::Hello {
    proto::Hello {
        site: site.to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        known_kinds: vec![1, 2],
        deployment_key_check: key.check().to_vec(),
        release: "0.1.0".to_owned(),
    }
}

impl Raw {
    /// Opens a stream with that first word.
    pub(crate) async fn open(tls: &Tls, to: SocketAddr, first: Ask) -> Result<Self, Status> {
        let (channel, _) = tls::connect(tls, &to.to_string()).await.unwrap();
        let (asks, queue) = mpsc::channel(16);
        asks.send(proto::SubscribeRequest { request: Some(first) }).await.unwrap();
        let mut client =
            ReplicationServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let events = client.subscribe(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Self { asks, events })
    }

    /// Why a supplier does not take a first word.
    pub(crate) async fn refused(tls: &Tls, to: SocketAddr, first: Ask) -> Status {
        match Self::open(tls, to, first).await {
            Err(status) => status,
            Ok(mut raw) => raw.next().await.unwrap_err(),
        }
    }

    /// The same, after both have said Hello.
    pub(crate) async fn greet(tls: &Tls, to: SocketAddr, hello: proto::Hello) -> Self {
        let mut raw = Self::open(tls, to, Ask::Hello(hello)).await.unwrap();
        assert!(matches!(raw.next().await, Ok(Event::Hello(_))));
        raw
    }

    pub(crate) async fn want(&self, cursors: &[&Cursor]) {
        let cursors = cursors.iter().map(|&cursor| cursor.into()).collect();
        self.ask(Ask::Wants(proto::Wants { cursors })).await;
    }

    pub(crate) async fn grant(&self, bytes: u64) {
        self.ask(Ask::Credit(proto::Credit { bytes })).await;
    }

    async fn ask(&self, ask: Ask) {
        self.asks.send(proto::SubscribeRequest { request: Some(ask) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Event, Status> {
        let message = timeout(PATIENCE, self.events.message()).await.expect("an event");
        Ok(message?.expect("no end").event.unwrap())
    }

    /// The next event that is no heartbeat; none where none comes for so long.
    pub(crate) async fn news(&mut self, patience: Duration) -> Option<Event> {
        let wait = async {
            loop {
                match self.next().await.unwrap() {
                    Event::Heartbeat(_) => {}
                    event => return event,
                }
            }
        };
        timeout(patience, wait).await.ok()
    }

    /// The next batch.
    pub(crate) async fn batch(&mut self) -> proto::Batch {
        match self.news(PATIENCE).await {
            Some(Event::Batch(batch)) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }
}

/// Sends these bytes as the only message of a stream, and tells how it ends.
pub(crate) async fn send_garbage(tls: &Tls, to: SocketAddr, messages: Vec<Vec<u8>>) -> Status {
    let (channel, _) = tls::connect(tls, &to.to_string()).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/bruri.replication.v1.ReplicationService/Subscribe");
    let request = tonic::Request::new(stream::iter(messages));
    let mut events = match client.streaming(request, path, Opaque).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match timeout(PATIENCE, events.message()).await.expect("an end") {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

/// Messages as bytes.
struct Opaque;

impl Codec for Opaque {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// Hello as bytes on the wire, for those who cannot speak otherwise.
pub(crate) fn hello_bytes(hello: &proto::Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut field = |tag: u8, content: &[u8]| {
        bytes.push(tag << 3 | 2);
        bytes.push(u8::try_from(content.len()).unwrap());
        bytes.extend_from_slice(content);
    };
    field(1, hello.site.as_bytes());
    field(5, &hello.deployment_key_check);
    bytes.extend([2 << 3, 1, 3 << 3, 1]);
    // Number 1 in both directions: SubscribeRequest.hello and SubscribeResponse.hello.
    let mut message = vec![1 << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    message.append(&mut bytes);
    message
}
