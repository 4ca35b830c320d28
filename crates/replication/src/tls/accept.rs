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
    PEER_CONNECTIONS_MAX, PEER_HANDSHAKE_SECONDS_MAX, PEER_HANDSHAKES_MAX, PEER_PING_SECONDS,
    PEER_PING_SECONDS_MAX, REFUSED_BYTES_MAX, REFUSED_SECONDS_MAX,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Server, server::Connected};

use super::{
    PeerId, Refusal, Tls,
    handshakes::{Handshakes, Slot},
    refusal_log::RefusalLog,
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
    let (accepted, incoming) = mpsc::channel(PEER_HANDSHAKES_MAX);
    let door = Arc::new(Door {
        tls,
        stop,
        accepted,
        handshakes: Arc::default(),
        connections: Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX)),
        refusals: RefusalLog::default(),
    });
    tasks.spawn(accept_all(listener, door, tasks.clone()));
    Incoming(incoming)
}

/// The peers that were let in, as they come. Ends when the accept loop was stopped.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<PeerStream>);

impl Stream for Incoming {
    type Item = Result<PeerStream, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|peer| peer.map(Ok))
    }
}

/// A connection that a peer opened to us, its certificate accepted.
#[derive(Debug)]
pub struct PeerStream {
    tls: TlsStream<TcpStream>,
    connection: PeerConnection,
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
    handshakes: Arc<Handshakes>,
    connections: Arc<Semaphore>,
    refusals: RefusalLog,
}

impl Door {
    async fn greet(self: Arc<Self>, slot: Slot, tcp: TcpStream, address: SocketAddr) {
        let greeted = tokio::select! {
            () = self.stop.cancelled() => return,
            () = slot.pushed_out() => Err(Refusal::Crowded),
            greeted = self.handshake(tcp) => greeted,
        };
        drop(slot);
        match greeted.and_then(|tls| self.admit(tls, address)) {
            Ok(peer) => {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    // An error only says that the server is gone, and so is the connection then.
                    _ = self.accepted.send(peer) => {}
                }
            }
            Err(refusal) => self.refusals.log(address, &refusal),
        }
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Refusal> {
        // A connection that will not be hurried is slower, not wrong.
        let _ = tcp.set_nodelay(true);
        match timeout(HANDSHAKE, self.tls.acceptor().accept(tcp).into_fallible()).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err((error, tcp))) => {
                end_readably(tcp).await;
                Err(Refusal::of_handshake(&error))
            }
            Err(_) => Err(Refusal::Slow),
        }
    }

    fn admit(&self, tls: TlsStream<TcpStream>, address: SocketAddr) -> Result<PeerStream, Refusal> {
        let peer = PeerId::of_session(tls.get_ref().1)?;
        let counted = Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| Refusal::TooMany(PEER_CONNECTIONS_MAX))?;
        Ok(PeerStream { tls, connection: PeerConnection { peer, address }, _counted: counted })
    }
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

impl Connected for PeerStream {
    type ConnectInfo = PeerConnection;

    fn connect_info(&self) -> PeerConnection {
        self.connection.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
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
