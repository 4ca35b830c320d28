//! A supplier with a good certificate that says what a test wants it to say.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bruri_domain::{Cursor, LogId};
use bruri_replication::tls::{self, Tls};
use bruri_wire::{
    proto::replication::v1::{
        self as proto,
        replication_service_server::{ReplicationService, ReplicationServiceServer},
        subscribe_request::Request as Ask,
        subscribe_response::Event,
    },
    replication::cursors,
};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::Full;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, body::Body, codegen::http};

const BEAT: Duration = Duration::from_millis(200);

/// What it says.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) hello: proto::Hello,
    /// What its heartbeats claim to have.
    pub(crate) vector: Vec<Cursor>,
    /// Sent when their logs are wanted, as often as that is.
    pub(crate) batches: Vec<proto::Batch>,
    pub(crate) then: Then,
}

/// What follows its Hello.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Then {
    /// Heartbeats, and what is asked for.
    Beats,
    /// Nothing, on a stream that stays open.
    Silence,
    /// The end of the stream.
    BreaksOff,
}

pub(crate) struct Forged {
    pub(crate) address: SocketAddr,
    /// Streams that were opened on it.
    streams: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Forged {
    pub(crate) async fn start(tls: Tls, script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks, streams) =
            (CancellationToken::new(), TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
        let incoming = tls::incoming(listener, tls, &tasks, stop.clone());
        let liar = Liar { script, streams: Arc::clone(&streams), tasks: tasks.clone() };
        // It may send more than an honest one.
        let service = ReplicationServiceServer::new(liar).max_encoding_message_size(usize::MAX);
        let server = tls::server().add_service(service);
        tasks.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { address, streams, stop }
    }

    /// One that answers each stream with these messages, whatever they are.
    pub(crate) async fn of_bytes(tls: Tls, messages: &[Vec<u8>]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks, streams) =
            (CancellationToken::new(), TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
        let incoming = tls::incoming(listener, tls, &tasks, stop.clone());
        let (body, counted) = (framed(messages), Arc::clone(&streams));
        let answer = tower::service_fn(move |_: http::Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let body = Body::new(Full::new(body.clone()));
            let response = http::Response::builder().header("content-type", "application/grpc");
            std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        });
        let server = tls::server();
        tasks.spawn(async move { server.serve_with_incoming(answer, incoming).await.unwrap() });
        Self { address, streams, stop }
    }

    /// One that shakes hands and goes on in another protocol.
    pub(crate) async fn of_no_grpc(tls: Tls) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks, streams) =
            (CancellationToken::new(), TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&streams);
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let mut stream = tls.acceptor().accept(tcp).await.unwrap();
                // It may have hung up already.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, streams, stop }
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

/// gRPC's framing: not compressed, length, message.
fn framed(messages: &[Vec<u8>]) -> Bytes {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.push(0);
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    bytes.into()
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Liar {
    script: Script,
    streams: Arc<AtomicUsize>,
    tasks: TaskTracker,
}

type Out = Result<proto::SubscribeResponse, Status>;

#[tonic::async_trait]
impl ReplicationService for Liar {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Out> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let (out, responses) = mpsc::channel(64);
        self.tasks.spawn(tell(self.script.clone(), request.into_inner(), Speaker(out)));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn get_chains(
        &self,
        _: Request<proto::GetChainsRequest>,
    ) -> Result<Response<proto::GetChainsResponse>, Status> {
        Err(Status::unimplemented("this peer compares nothing"))
    }

    /// As a release before snapshots.
    async fn get_states(
        &self,
        _: Request<proto::GetStatesRequest>,
    ) -> Result<Response<proto::GetStatesResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }

    async fn get_records(
        &self,
        _: Request<proto::GetRecordsRequest>,
    ) -> Result<Response<proto::GetRecordsResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }

    /// As a release before this question.
    async fn have_newer(
        &self,
        _: Request<proto::HaveNewerRequest>,
    ) -> Result<Response<proto::HaveNewerResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }

    async fn get_digest(
        &self,
        _: Request<proto::GetDigestRequest>,
    ) -> Result<Response<proto::GetDigestResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }

    async fn get_file_digests(
        &self,
        _: Request<proto::GetFileDigestsRequest>,
    ) -> Result<Response<proto::GetFileDigestsResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }

    async fn get_bodies(
        &self,
        _: Request<proto::GetBodiesRequest>,
    ) -> Result<Response<proto::GetBodiesResponse>, Status> {
        Err(Status::unimplemented("what is that?"))
    }
}

/// Sends; what nobody hears any more does not matter.
struct Speaker(mpsc::Sender<Out>);

impl Speaker {
    async fn say(&self, event: Event) {
        let _ = self.0.send(Ok(proto::SubscribeResponse { event: Some(event) })).await;
    }
}

async fn tell(script: Script, mut asks: Streaming<proto::SubscribeRequest>, out: Speaker) {
    out.say(Event::Hello(script.hello.clone())).await;
    match script.then {
        Then::Beats => {}
        Then::Silence => return out.0.closed().await,
        Then::BreaksOff => return,
    }
    let changed = script.vector.iter().map(Into::into).collect();
    let heartbeat = proto::Heartbeat { changed, ..Default::default() };
    out.say(Event::Heartbeat(heartbeat.clone())).await;
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            ask = asks.message() => match ask {
                Ok(Some(ask)) => answer(&script, ask, &out).await,
                _ => return,
            },
            _ = beats.tick() => out.say(Event::Heartbeat(heartbeat.clone())).await,
        }
    }
}

async fn answer(script: &Script, ask: proto::SubscribeRequest, out: &Speaker) {
    let Some(Ask::Wants(wants)) = ask.request else { return };
    let wanted: Vec<LogId> =
        cursors(wants.cursors).unwrap().into_iter().map(|cursor| cursor.log.id).collect();
    for batch in &script.batches {
        let log = bruri_domain::Log::try_from(batch.log.clone().unwrap()).unwrap();
        if wanted.contains(&log.id) {
            out.say(Event::Batch(batch.clone())).await;
        }
    }
}
