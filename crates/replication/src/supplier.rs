//! Lets peers subscribe to our logs.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bruri_domain::{
    SiteName,
    limits::{
        PEER_GONE_SECONDS_MAX, PEER_HANDSHAKE_SECONDS_MAX, PEER_MESSAGE_BYTES_MAX,
        PEER_STREAMS_MAX, PEERS_MAX, STREAM_QUEUE_MAX,
    },
};
use bruri_wire::proto::replication::v1::{
    self as proto,
    replication_service_server::{ReplicationService, ReplicationServiceServer},
    subscribe_request::Request as Ask,
    subscribe_response::Event,
};
use futures_util::Stream;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Replication, hello,
    supply::{Out, Supply},
    tls::{self, PeerConnection},
};

const GONE: Duration = Duration::from_secs(PEER_GONE_SECONDS_MAX);
const FIRST_WORD: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);
/// How long streams get to end by themselves; then their connections are closed.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Replication {
    /// Supplies peers that connect to `listener` until `stop`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let tasks = TaskTracker::new();
        let incoming = tls::incoming(listener, self.inner.tls.clone(), &tasks, stop.clone());
        let supplier = Supplier {
            replication: self.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            refused: Mutex::default(),
        };
        let service = ReplicationServiceServer::new(supplier)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let server = tls::server()
            .http2_keepalive_timeout(Some(GONE))
            .max_concurrent_streams(PEER_STREAMS_MAX)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let stopped = async {
            stop.cancelled().await;
            // A peer that holds its connection open would keep the server for ever.
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            ended = server => ended?,
            () = stopped => {}
        }
        tasks.close();
        if stop.is_cancelled() {
            // Each of them listens to it.
            tasks.wait().await;
        }
        Ok(())
    }
}

struct Supplier {
    replication: Replication,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Why peers were last refused, so that each reason is logged once however often they try.
    refused: Mutex<BTreeMap<SiteName, String>>,
}

impl Supplier {
    /// Holds a peer's Hello against its certificate and us.
    fn greet(&self, theirs: &proto::Hello, peer: &SiteName) -> Result<(), Status> {
        let inner = &self.replication.inner;
        let refusal = hello::check(theirs, peer, &inner.store).err().map(|error| error.to_string());
        // Every change is one call, so the map is whole even after a panic.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(refusal) = refusal else {
            refused.remove(peer);
            return Ok(());
        };
        if refused.len() >= PEERS_MAX {
            refused.clear();
        }
        if refused.insert(peer.clone(), refusal.clone()).as_ref() != Some(&refusal) {
            tracing::warn!(%peer, error = refusal, "refused a peer");
        }
        Err(Status::failed_precondition(refusal))
    }
}

#[tonic::async_trait]
impl ReplicationService for Supplier {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Out> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let peer = request
            .extensions()
            .get::<PeerConnection>()
            .ok_or_else(|| Status::unauthenticated("no certificate"))?
            .peer
            .clone();
        let mut asks = request.into_inner();
        let inner = &self.replication.inner;
        let theirs = first_word(&mut asks).await?;
        self.greet(&theirs, &peer.site)?;
        inner.peers.seen(&peer.site);
        let (out, responses) = mpsc::channel(STREAM_QUEUE_MAX);
        let ours = Event::Hello(hello::ours(&inner.store, inner.release));
        // The queue is empty and its other end is held below.
        let _ = out.send(Ok(proto::SubscribeResponse { event: Some(ours) })).await;
        let supply = Supply::new(inner.store.clone(), inner.vector.watch(), out);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = supply.run(asks) => ended.log(&peer.site),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

async fn first_word(asks: &mut Streaming<proto::SubscribeRequest>) -> Result<proto::Hello, Status> {
    let first = tokio::time::timeout(FIRST_WORD, asks.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello"))??;
    match first.and_then(|ask| ask.request) {
        Some(Ask::Hello(hello)) => Ok(hello),
        _ => Err(Status::failed_precondition(hello::HelloError::Missing.to_string())),
    }
}
