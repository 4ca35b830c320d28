//! A site with an edge on a port of its own, and clients that send bytes as they are told.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bruri_domain::{Clock, DeploymentKey, SiteName};
use bruri_edge::{Alone, Edge, Limits, Peers, serve};
use bruri_store::{Options, Store, committer::Committer, lookup::Reader};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After this a test that still waits has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What tests PUT where any body will do.
pub(crate) const BODY: &[u8] = b"\xff\xfeA\0B\0K\0=\x001\0\r\0\n\0";

struct Noon;

impl Clock for Noon {
    fn now_micros(&self) -> u64 {
        784_111_777_000_000
    }
}

/// One site.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    pub(crate) store: Store,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Site {
    pub(crate) async fn start(pool: PgPool) -> Self {
        Self::start_with(pool, Limits::default()).await
    }

    pub(crate) async fn start_with(pool: PgPool, limits: Limits) -> Self {
        Self::start_among(pool, limits, Arc::new(Alone)).await
    }

    /// A site whose reads ask these peers.
    pub(crate) async fn start_among(pool: PgPool, limits: Limits, peers: Arc<dyn Peers>) -> Self {
        let options = Options {
            site: SiteName::parse("london").unwrap(),
            key: DeploymentKey::new([7; 32]),
            clock: Arc::new(Noon),
        };
        let store = Store::open(pool.clone(), options).await.unwrap();
        let (commits, committer) = Committer::new(store.clone());
        let (lookup, reader) = Reader::new(store.clone());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let background = TaskTracker::new();
        background.spawn(committer.writer().run());
        background.spawn(committer.run());
        background.spawn(reader.run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let edge = Edge::new(store.clone(), (commits, lookup), peers, (limits, <[u8]>::is_empty));
        tasks.spawn(serve(listener, edge, stop.clone()));
        tasks.close();
        Self { address, pool, store, stop, tasks }
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    /// Sends one request on a connection of its own, and reads its answer.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut client = self.connect().await;
        client.send(request).await;
        client.reply().await
    }

    pub(crate) async fn put(&self, path: &str, body: &[u8]) -> u16 {
        self.ask(put(path, body)).await.status
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: bruri\r\n\r\n")).await
    }

    /// Records in all logs.
    pub(crate) async fn records(&self) -> i64 {
        sqlx::query_scalar("select count(*) from record").fetch_one(&self.pool).await.unwrap()
    }

    /// A phone comes by, backs up and restores.
    pub(crate) async fn assert_serves(&self) {
        let before = self.records().await;
        let body = format!("a=b{before}");
        assert!(matches!(self.put("/77_16xxdata.txt", body.as_bytes()).await, 201 | 204));
        assert_eq!(self.get("/77_16xxdata.txt").await.body, body.as_bytes());
        assert_eq!(self.records().await, before + 1);
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Whether serving ends within so long.
    pub(crate) async fn ends_within(&self, wait: Duration) -> bool {
        timeout(wait, self.tasks.wait()).await.is_ok()
    }
}

/// A whole PUT.
pub(crate) fn put(path: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: bruri\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends until all is sent or the other side has had enough.
    pub(crate) async fn send_if_wanted(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// The next answer; `HEAD` answers need [`Client::head_reply`].
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.head_reply().await;
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        reply.body = self.take(length).await;
        reply
    }

    /// The next answer up to its body.
    pub(crate) async fn head_reply(&mut self) -> Reply {
        let end = loop {
            let found = self.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            assert!(self.fill().await, "closed without an answer: {:?}", self.received);
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        Reply::parse(&String::from_utf8(head).unwrap())
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.fill().await, "the answer was cut short");
        }
        self.received.drain(..count).collect()
    }

    /// Whether the other side closes, with not a byte more, within the patience.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.fill().await
    }

    /// Whether nothing comes within so long.
    pub(crate) async fn hears_nothing_for(&mut self, wait: Duration) -> bool {
        let mut byte = [0];
        timeout(wait, self.stream.peek(&mut byte)).await.is_err()
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        // A reset is an end too.
        read.expect("the other side does nothing").unwrap_or(0) > 0
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) line: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    fn parse(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self { line, status, headers, body: Vec::new() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let found = all.next();
        assert!(all.next().is_none(), "{name} twice");
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}
