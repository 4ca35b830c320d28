//! Lines between sites, and connections over them: streams in order, until a line is cut for too long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bruri_domain::LogId;
use bruri_replication::engine::io::{Ask, Event, LinkError, LinkId, SubscriptionId, SupplyId};
use bruri_wire::replication::{request_bytes, response_bytes};

/// How long a message waits for a cut line until its connection is given up, as pings would find.
pub(crate) const GIVEN_UP_MICROS: u64 = 5_000_000;
const SLOW_BYTES_A_SECOND: u64 = 8_000;
/// Of gRPC, a frame of HTTP/2 and a record of TLS.
const FRAMING_BYTES: u64 = 5 + 9 + 22;
/// Of a request's headers, about.
const HEADERS_BYTES: u64 = 200;
/// A ping of HTTP/2 and its answer, with TLS around each.
pub(crate) const PING_BYTES: u64 = 2 * (17 + 22);

/// One direction of a line between two sites.
pub(crate) type Line = (usize, usize);

/// What travels on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// To the server: a stream is opened.
    Open,
    Ask(Ask),
    Event(Event),
    /// The other end is gone.
    End(LinkError),
}

/// A connection from a client, who consumes, to a server, who supplies.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) link: LinkId,
    pub(crate) server: usize,
    pub(crate) streams: BTreeMap<SubscriptionId, Stream>,
    /// A message waits for a cut line since then.
    pub(crate) stuck_since: Option<u64>,
    /// Which logs are wanted on each stream, as the client last said.
    pub(crate) wanted: BTreeMap<SubscriptionId, BTreeSet<LogId>>,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) supply: Option<SupplyId>,
    to_server: Way,
    to_client: Way,
}

/// Messages in order, and when the last of them has been sent.
#[derive(Debug, Default)]
struct Way {
    waiting: VecDeque<Message>,
    busy_until: u64,
}

impl Stream {
    fn way(&mut self, to_client: bool) -> &mut Way {
        if to_client { &mut self.to_client } else { &mut self.to_server }
    }

    /// Queues a message; returns when it has left, and so when the next may.
    pub(crate) fn push(&mut self, to_client: bool, message: Message, now: u64, slow: bool) -> u64 {
        let bytes = size(&message);
        let takes = if slow { bytes * 1_000_000 / SLOW_BYTES_A_SECOND } else { bytes / 100 };
        let way = self.way(to_client);
        way.busy_until = way.busy_until.max(now) + takes;
        way.waiting.push_back(message);
        way.busy_until
    }

    pub(crate) fn pop(&mut self, to_client: bool) -> Option<Message> {
        self.way(to_client).waiting.pop_front()
    }

    pub(crate) fn waiting(&self) -> [usize; 2] {
        [self.to_server.waiting.len(), self.to_client.waiting.len()]
    }
}

/// About as many bytes as it takes.
pub(crate) fn size(message: &Message) -> u64 {
    let bytes = match message {
        Message::Open | Message::End(_) => 20,
        Message::Ask(Ask::Wants(wants)) => 100 * wants.cursors.len(),
        Message::Ask(Ask::Hello(_)) => 80,
        Message::Ask(_) => 12,
        Message::Event(Event::Heartbeat(beat)) => {
            34 + 100 * beat.changed.len() + 10 * (beat.gone.len() + beat.back.len())
        }
        Message::Event(Event::Batch(batch)) => {
            let entry = |entry: &bruri_wire::proto::replication::v1::Entry| {
                entry.envelope.len() + entry.payload.as_ref().map_or(0, bytes::Bytes::len)
            };
            let bodies: usize = batch.bodies.iter().map(bytes::Bytes::len).sum();
            batch.entries.iter().map(entry).sum::<usize>() + bodies + 100
        }
        Message::Event(_) => 150,
    };
    bytes as u64
}

/// Bytes of a message on the wire, with gRPC, HTTP/2 and TLS around it but without TCP and IP.
pub(crate) fn wire_bytes(message: &Message) -> u64 {
    match message.clone() {
        Message::Open => HEADERS_BYTES,
        Message::End(_) => FRAMING_BYTES,
        Message::Event(event) => FRAMING_BYTES + response_bytes(event) as u64,
        Message::Ask(ask) => FRAMING_BYTES + request_bytes(ask) as u64,
    }
}

/// The lines that do not work, and those that are slow.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) cut: BTreeSet<Line>,
    pub(crate) slow: BTreeSet<Line>,
}

impl Connection {
    pub(crate) fn line(&self, to_client: bool) -> Line {
        if to_client { (self.server, self.client) } else { (self.client, self.server) }
    }
}
