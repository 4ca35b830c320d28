//! A phone's stream as hyper sees it: says what moves, and ends so that the phone hears the last answer.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bruri_domain::limits::EDGE_LINGER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connections::{Connection, Phase},
    delivery::Delivery,
};

/// The first byte of a TLS handshake (RFC 8446, section 5.1); no method begins with it.
const TLS_HANDSHAKE: u8 = 22;

/// A stream that tells its connection what moves, and what became of the answers on it.
pub(crate) struct Watched<S> {
    stream: S,
    connection: Arc<Connection>,
    delivery: Arc<Delivery>,
    speaks_tls: Arc<AtomicBool>,
    has_spoken: bool,
    is_at_end: bool,
    is_shut: bool,
    discarded: u64,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, connection: Arc<Connection>, delivery: Arc<Delivery>) -> Self {
        Self {
            stream,
            connection,
            delivery,
            speaks_tls: Arc::default(),
            has_spoken: false,
            is_at_end: false,
            is_shut: false,
            discarded: 0,
        }
    }

    /// Becomes true where the phone begins with a TLS handshake.
    pub(crate) fn speaks_tls(&self) -> Arc<AtomicBool> {
        self.speaks_tls.clone()
    }

    /// Passes on what the kernel says, and tells of a connection that is broken.
    fn heed<T>(&self, said: io::Result<T>) -> io::Result<T> {
        said.inspect_err(|_| self.delivery.broke())
    }

    fn note(&mut self, arrived: &[u8]) {
        let Some(first) = arrived.first() else {
            self.is_at_end = true;
            return;
        };
        if !self.has_spoken {
            self.has_spoken = true;
            self.speaks_tls.store(*first == TLS_HANDSHAKE, Ordering::Relaxed);
        }
        self.connection.heard();
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads and throws away what the phone still sends, so that closing does not make the kernel reset the
    /// connection and with it the answer. The connection's phase bounds the time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        while !self.is_at_end && self.discarded < EDGE_LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            self.heed(read)?;
            let count = buffer.filled().len();
            self.is_at_end = count == 0;
            self.discarded = self.discarded.saturating_add(count as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.heed(read)?;
        let arrived = buffer.filled().get(before..).unwrap_or_default();
        self.note(arrived);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        let count = self.heed(written)?;
        self.connection.told();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        let count = self.heed(written)?;
        self.connection.told();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper only flushes what it has written whole.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.heed(flushed)?;
        self.delivery.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            let shut = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.heed(shut)?;
            self.is_shut = true;
            self.connection.enter(Phase::Lingering);
        }
        if self.connection.must_linger() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}
