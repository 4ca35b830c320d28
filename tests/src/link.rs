//! A link between two sites that can be cut, frozen, slowed and healed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::address::Address;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way; the sender waits for more.
const CHUNKS_MAX: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// How a link is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Bytes arrive after this time; so many a second, where that is bounded.
    Open(Duration, Option<u32>),
    /// Connections stay, nothing arrives.
    Frozen,
    /// Connections break, and new ones as soon as they are made.
    Cut,
}

/// A link: whoever connects to its near end is connected to the far one.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    // Ends with the link.
    _accepting: JoinSet<()>,
}

impl Link {
    /// Opens a link to `far`.
    pub async fn open(far: SocketAddr) -> anyhow::Result<Self> {
        let address = Address::take().peers();
        let listener = TcpListener::bind(address).await.context("open a link")?;
        let state = watch::Sender::new(State::Open(Duration::ZERO, None));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, far, state.subscribe()));
        Ok(Self { address, state, _accepting: accepting })
    }

    /// The near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on bytes take so long.
    pub fn delay(&self, by: Duration) {
        self.state.send_replace(State::Open(by, None));
    }

    /// From now on bytes take so long, and only so many a second come through each way.
    pub fn narrow(&self, by: Duration, bytes_a_second: u32) {
        self.state.send_replace(State::Open(by, Some(bytes_a_second)));
    }

    /// Breaks all connections, and new ones as soon as they are made.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing through, and tells nobody: what a dead line looks like.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// As it was made; what a frozen connection held back arrives.
    pub fn heal(&self) {
        self.state.send_replace(State::Open(Duration::ZERO, None));
    }
}

async fn accept(listener: TcpListener, far: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                let state = state.clone();
                connections.spawn(async move { carry(near, far, state).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either end closes it or the link is cut. Dropped ends are closed.
async fn carry(near: TcpStream, far: SocketAddr, mut state: watch::Receiver<State>) {
    let watched = state.clone();
    let carried = async {
        let far = TcpStream::connect(far).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        tokio::try_join!(
            forward(near_in, far_out, watched.clone()),
            forward(far_in, near_out, watched)
        )
    };
    tokio::select! {
        _ = carried => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

/// One direction: bytes are read as they come and written when they are due.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let (sender, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        loop {
            let mut chunk = vec![0; chunk_bytes(*state.borrow())];
            let count = from.read(&mut chunk).await?;
            chunk.truncate(count);
            let (delay, rate) = wait_for_open(&mut state).await;
            let at = Instant::now().checked_add(delay).unwrap_or_else(Instant::now);
            let bytes = u32::try_from(count).unwrap_or(u32::MAX);
            let passing = rate.and_then(|rate| SECOND.saturating_mul(bytes).checked_div(rate));
            if count == 0 || sender.send((at, chunk)).await.is_err() {
                return io::Result::Ok(());
            }
            sleep(passing.unwrap_or_default()).await;
        }
    };
    let write = async move {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// Bytes to read at a time; a narrow link gets them evenly.
fn chunk_bytes(state: State) -> usize {
    let State::Open(_, Some(rate)) = state else { return CHUNK_BYTES };
    usize::try_from(rate / 20).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)
}

/// Waits while the link is frozen; returns how long bytes take, and how many a second come through.
async fn wait_for_open(state: &mut watch::Receiver<State>) -> (Duration, Option<u32>) {
    match state.wait_for(|state| *state != State::Frozen).await.as_deref() {
        Ok(State::Open(delay, rate)) => (*delay, *rate),
        _ => (Duration::ZERO, None),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The near and the far end of a connection over a link.
    async fn ends() -> (Link, TcpListener, TcpStream, TcpStream) {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::open(far.local_addr().unwrap()).await.unwrap();
        let near = TcpStream::connect(link.address()).await.unwrap();
        let (end, _) = far.accept().await.unwrap();
        (link, far, near, end)
    }

    #[tokio::test]
    async fn a_frozen_link_holds_bytes_back_until_it_heals() {
        let (link, _far, mut near, mut end) = ends().await;
        link.freeze();
        near.write_all(b"x").await.unwrap();
        assert!(timeout(SOON, end.read_u8()).await.is_err());

        link.heal();

        assert_eq!(timeout(PATIENCE, end.read_u8()).await.unwrap().unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_cut_link_breaks_connections_old_and_new_until_it_heals() {
        let (link, far, mut near, _end) = ends().await;
        link.cut();
        let broken = timeout(PATIENCE, near.read_u8()).await.unwrap();
        assert!(broken.is_err());
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        assert!(timeout(PATIENCE, again.read_u8()).await.unwrap().is_err());

        link.heal();

        let mut near = TcpStream::connect(link.address()).await.unwrap();
        near.write_all(b"y").await.unwrap();
        loop {
            // A connection that was cut may have reached the far end.
            let (mut end, _) = timeout(PATIENCE, far.accept()).await.unwrap().unwrap();
            if timeout(PATIENCE, end.read_u8()).await.unwrap().is_ok_and(|byte| byte == b'y') {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_narrow_link_lets_so_many_bytes_through_a_second() {
        let (link, _far, mut near, mut end) = ends().await;
        link.narrow(Duration::ZERO, 100_000);
        let began = Instant::now();
        near.write_all(&vec![0; 40_000]).await.unwrap();
        end.read_exact(&mut vec![0; 40_000]).await.unwrap();
        // The last chunk, of at most 16 KiB, has arrived before its time has passed.
        assert!(began.elapsed() >= Duration::from_millis(230), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time() {
        let (link, _far, mut near, mut end) = ends().await;
        link.delay(SOON);
        let began = Instant::now();
        near.write_all(b"z").await.unwrap();
        end.read_u8().await.unwrap();
        assert!(began.elapsed() >= SOON, "{:?}", began.elapsed());
    }
}
