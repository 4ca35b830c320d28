//! Peers that connect to us: an accept loop whose handshakes hold up nobody.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bruri_domain::limits::{
    JOIN_CONNECTIONS_MAX, PEER_CONNECTIONS_MAX, PEER_HANDSHAKE_SECONDS_MAX, PEER_HANDSHAKES_MAX,
    PEER_PING_SECONDS, PEER_PING_SECONDS_MAX, REFUSED_BYTES_MAX, REFUSED_SECONDS_MAX,
};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Server, server::Connected};

use super::{
    PeerId, Refusal, Tls,
    handshakes::{Handshakes, Slot},
    refusal_log::RefusalLog,
    verify::JOIN,
};

const HANDSHAKE: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);
const LAST_WORDS: Duration = Duration::from_secs(REFUSED_SECONDS_MAX);
/// How long the loop rests when the system has no more connections to give, e.g. no file handles.
const ACCEPT_REST: Duration = Duration::from_millis(100);
const LOG_SILENCE: Duration = Duration::from_mins(1);

/// A server whose connections find out within seconds that the other side is gone.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(PEER_PING_SECONDS)))
        .http2_keepalive_timeout(Some(Duration::from_secs(PEER_PING_SECONDS_MAX)))
}

/// Accepts peers until `stop`, in tasks of `tasks`; for tonic's `serve_with_incoming`. What is refused
/// is logged and not seen here.
pub fn incoming(
    listener: TcpListener,
    tls: Tls,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Incoming {
    accept(listener, tls, tasks, stop, None)
}

/// The same, and who has no certificate yet and asks for the protocol of those who join: they come as
/// [`Newcomers`] and nowhere else.
pub fn incoming_with_newcomers(
    listener: TcpListener,
    tls: Tls,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> (Incoming, Newcomers) {
    let (accepted, newcomers) = mpsc::channel(JOIN_CONNECTIONS_MAX);
    let joins = Joins { accepted, connections: Arc::new(Semaphore::new(JOIN_CONNECTIONS_MAX)) };
    (accept(listener, tls, tasks, stop, Some(joins)), Incoming(newcomers))
}

fn accept(
    listener: TcpListener,
    tls: Tls,
    tasks: &TaskTracker,
    stop: CancellationToken,
    joins: Option<Joins>,
) -> Incoming {
    let (accepted, incoming) = mpsc::channel(PEER_HANDSHAKES_MAX);
    let door = Arc::new(Door {
        tls,
        stop,
        accepted,
        joins,
        handshakes: Arc::default(),
        connections: Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX)),
        refusals: RefusalLog::default(),
    });
    tasks.spawn(accept_all(listener, door, tasks.clone()));
    Incoming(incoming)
}

/// Those that were let in, as they come. Ends when the accept loop was stopped.
#[derive(Debug)]
pub struct Incoming<C = PeerConnection>(mpsc::Receiver<PeerStream<C>>);

/// Connections of those who join: nobody proved who they are.
pub type Newcomers = Incoming<NewcomerConnection>;

impl<C> Stream for Incoming<C> {
    type Item = Result<PeerStream<C>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|peer| peer.map(Ok))
    }
}

/// A connection that a peer opened to us, its certificate accepted.
#[derive(Debug)]
pub struct PeerStream<C = PeerConnection> {
    tls: TlsStream<TcpStream>,
    connection: C,
    _counted: OwnedSemaphorePermit,
}

/// Whose connection a request came on; handlers read it from the request's extensions.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    /// Whom the certificate names.
    pub peer: PeerId,
    /// Where the connection comes from.
    pub address: SocketAddr,
}

/// A connection of somebody without a certificate.
#[derive(Clone, Debug)]
pub struct NewcomerConnection {
    /// Where the connection comes from.
    pub address: SocketAddr,
}

async fn accept_all(listener: TcpListener, door: Arc<Door>, tasks: TaskTracker) {
    let mut logged = None;
    loop {
        let accepted = tokio::select! {
            () = door.stop.cancelled() => return,
            () = door.accepted.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let slot = door.handshakes.begin(address.ip());
                tasks.spawn(Arc::clone(&door).greet(slot, tcp, address));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if logged.is_none_or(|at: Instant| at.elapsed() >= LOG_SILENCE) {
                    tracing::warn!(%error, "cannot accept connections from peers; trying on");
                    logged = Some(Instant::now());
                }
                // Nothing tells when the system has a connection to give again.
                tokio::select! {
                    () = door.stop.cancelled() => return,
                    () = sleep(ACCEPT_REST) => {}
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionAborted | E::ConnectionReset | E::Interrupted)
}

/// What all handshakes share.
#[derive(Debug)]
struct Door {
    tls: Tls,
    stop: CancellationToken,
    accepted: mpsc::Sender<PeerStream>,
    /// Where nobody can join, such connections are refused in the handshake.
    joins: Option<Joins>,
    handshakes: Arc<Handshakes>,
    connections: Arc<Semaphore>,
    refusals: RefusalLog,
}

/// Where those go who join.
#[derive(Debug)]
struct Joins {
    accepted: mpsc::Sender<PeerStream<NewcomerConnection>>,
    connections: Arc<Semaphore>,
}

/// Whom a handshake has let in.
enum Greeted {
    Peer(PeerStream),
    Newcomer(PeerStream<NewcomerConnection>),
}

impl Door {
    async fn greet(self: Arc<Self>, slot: Slot, tcp: TcpStream, address: SocketAddr) {
        let greeted = tokio::select! {
            () = self.stop.cancelled() => return,
            () = slot.pushed_out() => Err(Refusal::Crowded),
            greeted = self.handshake(tcp) => greeted,
        };
        drop(slot);
        match greeted.and_then(|(tls, joins)| self.admit(tls, joins, address)) {
            Ok(greeted) => {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = self.pass_on(greeted) => {}
                }
            }
            Err(refusal) => self.refusals.log(address, &refusal),
        }
    }

    /// An error only says that the server is gone, and so is the connection then.
    async fn pass_on(&self, greeted: Greeted) {
        match (greeted, &self.joins) {
            (Greeted::Peer(peer), _) => drop(self.accepted.send(peer).await),
            (Greeted::Newcomer(newcomer), Some(joins)) => drop(joins.accepted.send(newcomer).await),
            (Greeted::Newcomer(_), None) => {}
        }
    }

    /// Returns whether it is somebody who joins.
    async fn handshake(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, bool), Refusal> {
        // A connection that will not be hurried is slower, not wrong.
        let _ = tcp.set_nodelay(true);
        match timeout(HANDSHAKE, self.shake_hands(tcp)).await {
            Ok(Ok(greeted)) => Ok(greeted),
            Ok(Err((error, tcp))) => {
                if let Some(tcp) = tcp {
                    end_readably(tcp).await;
                }
                Err(Refusal::of_handshake(&error))
            }
            Err(_) => Err(Refusal::Slow),
        }
    }

    /// The protocol that is asked for decides whether a certificate is: who joins gets a connection on
    /// which nothing but joining is served.
    async fn shake_hands(
        &self,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, bool), (io::Error, Option<TcpStream>)> {
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), tcp);
        let hello = match (&mut acceptor).await {
            Ok(hello) => hello,
            Err(error) => return Err((error, acceptor.take_io())),
        };
        let asks_to_join =
            hello.client_hello().alpn().is_some_and(|mut all| all.any(|one| one == JOIN));
        let joins = asks_to_join && self.joins.is_some();
        let config = if joins { self.tls.joining() } else { self.tls.serving() };
        let shaken = hello.into_stream(config).into_fallible().await;
        shaken.map(|tls| (tls, joins)).map_err(|(error, tcp)| (error, Some(tcp)))
    }

    fn admit(
        &self,
        tls: TlsStream<TcpStream>,
        joins: bool,
        address: SocketAddr,
    ) -> Result<Greeted, Refusal> {
        let Some(joins) = self.joins.as_ref().filter(|_| joins) else {
            let peer = PeerId::of_session(tls.get_ref().1)?;
            let counted = count(&self.connections, PEER_CONNECTIONS_MAX)?;
            let connection = PeerConnection { peer, address };
            return Ok(Greeted::Peer(PeerStream { tls, connection, _counted: counted }));
        };
        let counted = count(&joins.connections, JOIN_CONNECTIONS_MAX)?;
        let connection = NewcomerConnection { address };
        Ok(Greeted::Newcomer(PeerStream { tls, connection, _counted: counted }))
    }
}

fn count(connections: &Arc<Semaphore>, max: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(connections).try_acquire_owned().map_err(|_| Refusal::TooMany(max))
}

/// Closes a refused connection so that the peer can read why. It may already have sent its first
/// request; closing over unread bytes would reset the connection and take our alert with it.
async fn end_readably(mut tcp: TcpStream) {
    let drain = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whatever becomes of it, the connection is refused.
    let _ = timeout(LAST_WORDS, drain).await;
}

impl<C: Clone + Send + Sync + 'static> Connected for PeerStream<C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.connection.clone()
    }
}

impl<C: Unpin> AsyncRead for PeerStream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl<C: Unpin> AsyncWrite for PeerStream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
