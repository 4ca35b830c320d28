//! A line between two sites that can be cut, go silent, or be slow.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};
use tokio_util::task::TaskTracker;

/// What the line does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Forward,
    /// Connections are closed, new ones too.
    Cut,
    /// Connections are accepted, nothing is forwarded.
    Silent,
    /// Forwards so many bytes a second each way.
    Slow(u32),
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mode) = watch::channel(Mode::Forward);
        let accepted = Arc::new(AtomicUsize::new(0));
        let (tasks, counted) = (TaskTracker::new(), Arc::clone(&accepted));
        let connections = tasks.clone();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(stream, target, mode.clone()));
            }
        });
        Self { address, mode: sender, accepted }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections that were opened so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let socket = TcpSocket::new_v4().unwrap();
    // So that little is on its way that the far end could take for delivered.
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let Ok(far) = socket.connect(target).await else { return };
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_read, far_write, mode.clone()) => {}
        () = pump(far_read, near_write, mode) => {}
    }
}

/// Forwards until one side ends or the line is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        let read = tokio::select! {
            changed = mode.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer), if matches!(now, Mode::Forward | Mode::Slow(_)) => read,
            () = std::future::ready(()), if now == Mode::Cut => return,
        };
        let count = read.unwrap_or(0);
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        if let Mode::Slow(rate) = now {
            let bytes = u32::try_from(count).unwrap();
            sleep(Duration::from_secs(1) * bytes / rate).await;
        }
    }
}
