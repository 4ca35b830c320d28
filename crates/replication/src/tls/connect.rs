//! Peers that we connect to: one connection, whose peer is known before it is used.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bruri_domain::limits::{
    PEER_ADDRESSES_MAX, PEER_CONNECT_SECONDS_MAX, PEER_CONNECTION_WINDOW_BYTES,
    PEER_HANDSHAKE_SECONDS_MAX, PEER_PING_SECONDS, PEER_PING_SECONDS_MAX, PEER_STREAM_WINDOW_BYTES,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};
use tower::Service;

use super::{PeerId, Refusal, Tls};

const CONNECT: Duration = Duration::from_secs(PEER_CONNECT_SECONDS_MAX);
const HANDSHAKE: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);

/// Why there is no connection with a peer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address has no host and port.
    #[error("{address:?} is no address of a peer: expected HOST:PORT")]
    Address {
        /// What was written.
        address: String,
    },
    /// The host has no address.
    #[error("cannot find the address of {address}: {source}")]
    Resolve {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing accepts connections there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// What was tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing answers there.
    #[error(
        "cannot reach {address}: no answer in {PEER_CONNECT_SECONDS_MAX} s; is the site up, and the port open in its firewall?"
    )]
    NoAnswer {
        /// What was tried.
        address: String,
    },
    /// Something answers, and one side refuses the other.
    #[error("no connection with {address}: {refusal}")]
    Refused {
        /// What was tried.
        address: String,
        /// Who refuses whom, and why.
        refusal: Refusal,
    },
}

impl ConnectError {
    /// Whether it will stay so until a person does something, as opposed to a peer that is away.
    pub fn needs_a_person(&self) -> bool {
        use Refusal as R;
        match self {
            Self::Address { .. } => true,
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::NoAnswer { .. } => false,
            Self::Refused { refusal, .. } => {
                !matches!(refusal, R::Closed | R::Slow | R::Crowded | R::TooMany(_))
            }
        }
    }
}

/// Opens one connection and tells whose it is. The channel never connects again by itself: when the
/// connection ends, all its calls fail, and another `connect` proves the peer anew. Returns once the
/// peer has accepted our certificate too, which in TLS 1.3 shows only by what it says next.
pub async fn connect(tls: &Tls, address: &str) -> Result<(Channel, PeerId), ConnectError> {
    connect_with(&tls.connector(), address).await
}

/// The same, however the peer is judged.
pub(super) async fn connect_with(
    connector: &TlsConnector,
    address: &str,
) -> Result<(Channel, PeerId), ConnectError> {
    let refused = |refusal| ConnectError::Refused { address: address.to_owned(), refusal };
    let host = host(address)?;
    let tcp = reach(address).await?;
    let stream = timeout(HANDSHAKE, connector.connect(host, tcp))
        .await
        .map_err(|_| refused(Refusal::Slow))?
        .map_err(|error| refused(Refusal::of_handshake(&error)))?;
    let peer = PeerId::of_session(stream.get_ref().1).map_err(refused)?;
    let (first_word, heard) = oneshot::channel();
    let stream = OneStream { tls: stream, first_word: Some(first_word) };
    let channel = endpoint().connect_with_connector(once(stream)).await;
    let heard = timeout(HANDSHAKE, heard).await.map_err(|_| refused(Refusal::Slow))?;
    // A stream that is dropped unheard has failed on the first write.
    heard.unwrap_or(Err(Refusal::Closed)).map_err(refused)?;
    let channel = channel.map_err(|_| refused(Refusal::Closed))?;
    Ok((channel, peer))
}

/// The host's part of the address: it is sent along for whoever forwards connections by it, and not
/// compared with the certificate.
fn host(address: &str) -> Result<ServerName<'static>, ConnectError> {
    let invalid = || ConnectError::Address { address: address.to_owned() };
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    port.parse::<u16>().map_err(|_| invalid())?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<IpAddr>().map(ServerName::from).map_err(|_| invalid()),
        None => ServerName::try_from(host.to_owned()).map_err(|_| invalid()),
    }
}

async fn reach(address: &str) -> Result<TcpStream, ConnectError> {
    let no_answer = || ConnectError::NoAnswer { address: address.to_owned() };
    let resolve = |source| ConnectError::Resolve { address: address.to_owned(), source };
    let found = timeout(CONNECT, lookup_host(address)).await.map_err(|_| no_answer())?;
    let found: Vec<_> = found.map_err(resolve)?.take(PEER_ADDRESSES_MAX).collect();
    // Each gets its share of the time, so that a dead one does not keep us from the next.
    let share = CONNECT.checked_div(u32::try_from(found.len()).unwrap_or(1)).unwrap_or(CONNECT);
    let mut failed = no_answer();
    for one in found {
        match timeout(share, open(one)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(source)) => {
                failed = ConnectError::Unreachable { address: address.to_owned(), source };
            }
            Err(_) => {}
        }
    }
    Err(failed)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// "http", since TLS is done when the connector returns; the host's name is not used.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(Duration::from_secs(PEER_PING_SECONDS))
        .keep_alive_timeout(Duration::from_secs(PEER_PING_SECONDS_MAX))
        .keep_alive_while_idle(true)
        // A connection holds a live and a catch-up stream: the one that is slow must not use up what
        // the other may receive.
        .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES)
}

/// Hands out the one connection, and after it only the news that it has ended.
fn once(
    stream: OneStream,
) -> impl Service<Uri, Response = TokioIo<OneStream>, Error = io::Error, Future: Send> + Send {
    let mut stream = Some(TokioIo::new(stream));
    tower::service_fn(move |_: Uri| {
        let ended = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        std::future::ready(stream.take().ok_or_else(ended))
    })
}

/// A connection that reports the first thing the peer says on it, or that it said nothing.
#[derive(Debug)]
struct OneStream {
    tls: TlsStream<TcpStream>,
    first_word: Option<oneshot::Sender<Result<(), Refusal>>>,
}

impl AsyncRead for OneStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.tls).poll_read(cx, buffer);
        if let Poll::Ready(read) = &polled
            && let Some(first_word) = self.first_word.take()
        {
            let word = match read {
                Ok(()) if buffer.filled().len() > before => Ok(()),
                Ok(()) => Err(Refusal::Closed),
                Err(error) => Err(Refusal::of_handshake(error)),
            };
            // Nobody hears it where the connect was given up.
            let _ = first_word.send(word);
        }
        polled
    }
}

impl AsyncWrite for OneStream {
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
