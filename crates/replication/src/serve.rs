//! The supplier's side: lets peers subscribe and ask, nothing decided.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bruri_domain::{
    SiteName,
    limits::{JOIN_SECONDS_MAX, PEER_GONE_SECONDS_MAX, PEER_MESSAGE_BYTES_MAX, PEER_STREAMS_MAX},
};
use bruri_wire::{
    proto::replication::v1::{
        self as proto,
        replication_service_server::{ReplicationService, ReplicationServiceServer},
    },
    question::{Question, encode_answer},
};
use futures_util::Stream;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Request, Response, Status, Streaming,
    service::{InterceptorLayer, Routes},
};

use crate::{
    Replication, compare,
    driver::{Accepted, Inputs},
    engine::{
        hello::bounded_text,
        io::{Input, SupplyId},
    },
    fork, repair, snapshot,
    tls::{self, Newcomers, PeerConnection},
};

const GONE: Duration = Duration::from_secs(PEER_GONE_SECONDS_MAX);
const JOINING: Duration = Duration::from_secs(JOIN_SECONDS_MAX);
/// How long streams get to end by themselves; then their connections are closed.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What goes out.
pub(crate) type Out = Result<proto::SubscribeResponse, Status>;

/// What is served on the peers' port besides the logs.
#[derive(Debug, Default)]
pub struct Doors {
    /// For peers: reached by sites of the deployment only.
    pub peers: Option<Routes>,
    /// For those who join; none where nobody can. Nothing else is reached without a certificate.
    pub newcomers: Option<Routes>,
}

impl Replication {
    /// Supplies peers that connect to `listener` until `stop`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        doors: Doors,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let tasks = TaskTracker::new();
        let tls = self.inner.tls.clone();
        let incoming = match doors.newcomers {
            Some(routes) => {
                let (peers, newcomers) =
                    tls::incoming_with_newcomers(listener, tls, &tasks, stop.clone());
                tasks.spawn(join_sites(routes, newcomers, stop.clone()));
                peers
            }
            None => tls::incoming(listener, tls, &tasks, stop.clone()),
        };
        let server = self.supply(doors.peers.unwrap_or_default(), incoming, &tasks, stop.clone());
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

    async fn supply(
        &self,
        routes: Routes,
        incoming: tls::Incoming,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let supplier =
            Supplier { replication: self.clone(), tasks: tasks.clone(), stop: stop.clone() };
        let service = ReplicationServiceServer::new(supplier)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let admitting = self.clone();
        // Around all services, so that none can forget it.
        let admitted = InterceptorLayer::new(move |request| admitting.admit(request));
        tls::server()
            .http2_keepalive_timeout(Some(GONE))
            .max_concurrent_streams(PEER_STREAMS_MAX)
            .layer(admitted)
            .add_routes(routes.add_service(service))
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
    }
}

/// Serves those who join, and nothing but joining.
async fn join_sites(routes: Routes, newcomers: Newcomers, stop: CancellationToken) {
    let server = tls::server()
        .timeout(JOINING)
        .max_concurrent_streams(1)
        .max_connection_age(JOINING)
        .add_routes(routes)
        .serve_with_incoming_shutdown(newcomers, stop.clone().cancelled_owned());
    tokio::select! {
        ended = server => {
            if let Err(error) = ended {
                tracing::error!(%error, "sites can join no more");
            }
        }
        () = stop.cancelled() => {}
    }
}

struct Supplier {
    replication: Replication,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl ReplicationService for Supplier {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Out> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let Accepted { supply, responses } = self.replication.accept(peer_of(&request)?).await?;
        let listening = Listening {
            supply,
            asks: request.into_inner(),
            inputs: self.replication.inner.inputs.clone(),
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listening.run() => {}
            }
        });
        let inputs = self.replication.inner.inputs.clone();
        Ok(Response::new(Box::pin(Responses { supply, queue: responses, inputs })))
    }

    async fn get_chains(
        &self,
        request: Request<proto::GetChainsRequest>,
    ) -> Result<Response<proto::GetChainsResponse>, Status> {
        peer_of(&request)?;
        let store = &self.replication.inner.store;
        fork::chains(store, request.into_inner()).await.map(Response::new)
    }

    async fn get_states(
        &self,
        request: Request<proto::GetStatesRequest>,
    ) -> Result<Response<proto::GetStatesResponse>, Status> {
        peer_of(&request)?;
        let store = &self.replication.inner.store;
        snapshot::answer_states(store, &request.into_inner()).await.map(Response::new)
    }

    async fn get_records(
        &self,
        request: Request<proto::GetRecordsRequest>,
    ) -> Result<Response<proto::GetRecordsResponse>, Status> {
        peer_of(&request)?;
        let store = &self.replication.inner.store;
        snapshot::answer_records(store, request.into_inner()).await.map(Response::new)
    }

    async fn have_newer(
        &self,
        request: Request<proto::HaveNewerRequest>,
    ) -> Result<Response<proto::HaveNewerResponse>, Status> {
        peer_of(&request)?;
        let question = Question::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (answer, spoken_for) = self.replication.answer(&question).await;
        Ok(Response::new(encode_answer(answer, &spoken_for)))
    }

    async fn get_digest(
        &self,
        request: Request<proto::GetDigestRequest>,
    ) -> Result<Response<proto::GetDigestResponse>, Status> {
        peer_of(&request)?;
        let _turn = self.replication.inner.comparing.lock().await;
        let store = &self.replication.inner.store;
        compare::tell(store, request.into_inner()).await.map(Response::new)
    }

    async fn get_file_digests(
        &self,
        request: Request<proto::GetFileDigestsRequest>,
    ) -> Result<Response<proto::GetFileDigestsResponse>, Status> {
        peer_of(&request)?;
        let _turn = self.replication.inner.comparing.lock().await;
        let store = &self.replication.inner.store;
        compare::tell_files(store, request.into_inner()).await.map(Response::new)
    }

    async fn get_bodies(
        &self,
        request: Request<proto::GetBodiesRequest>,
    ) -> Result<Response<proto::GetBodiesResponse>, Status> {
        peer_of(&request)?;
        let store = &self.replication.inner.store;
        repair::tell_bodies(store, request.into_inner()).await.map(Response::new)
    }
}

/// Who asks, by its certificate.
fn peer_of<T>(request: &Request<T>) -> Result<SiteName, Status> {
    let connection = request.extensions().get::<PeerConnection>();
    let connection = connection.ok_or_else(|| Status::unauthenticated("no certificate"))?;
    Ok(connection.peer.site.clone())
}

/// Hands in what a consumer says until it has nothing more to say.
struct Listening {
    supply: SupplyId,
    asks: Streaming<proto::SubscribeRequest>,
    inputs: Inputs,
}

impl Listening {
    async fn run(mut self) {
        loop {
            let input = match self.asks.message().await {
                Ok(Some(proto::SubscribeRequest { request: Some(ask) })) => {
                    Input::Asked { supply: self.supply, ask }
                }
                // What a later release says: nothing that changes what is sent.
                Ok(Some(proto::SubscribeRequest { request: None })) => continue,
                Err(status) if is_garbled(&status) => {
                    let text = bounded_text(status.message());
                    Input::Garbled { supply: self.supply, text }
                }
                Ok(None) | Err(_) => Input::Left(self.supply),
            };
            let is_last = !matches!(input, Input::Asked { .. });
            if !self.inputs.send(input).await || is_last {
                return;
            }
        }
    }
}

/// Whether the bytes that arrived are no message, as opposed to a line that broke.
fn is_garbled(status: &Status) -> bool {
    status.source().is_none() && matches!(status.code(), Code::Internal | Code::OutOfRange)
}

/// What goes out to a consumer; tells the engine as each leaves the queue, and when the stream is dropped.
struct Responses {
    supply: SupplyId,
    queue: mpsc::Receiver<Out>,
    inputs: Inputs,
}

impl Stream for Responses {
    type Item = Out;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Out>> {
        let next = self.queue.poll_recv(context);
        if matches!(next, Poll::Ready(Some(_))) {
            self.inputs.notify(Input::Flushed(self.supply));
        }
        next
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.inputs.notify(Input::Left(self.supply));
    }
}
