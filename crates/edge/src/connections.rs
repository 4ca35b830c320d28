//! The open connections: how many there may be, what each waits for, and which ones must go.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use bruri_domain::limits::{EDGE_LAST_HEAD_MILLIS_MAX, EDGE_ROOM_DIVISOR};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{Limits, metrics};

/// How often connections are looked at for having overstayed, at most.
const TICK: Duration = Duration::from_millis(250);

/// The open connections of an edge; clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    inner: Arc<Inner>,
}

struct Inner {
    started: Instant,
    connections_max: usize,
    next_number: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Told when one ends.
    ended: Notify,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// For a request, or for the phone to read its answer.
    Idle,
    /// For the rest of a request's headers.
    Head,
    /// For a body.
    Receiving,
    /// For us.
    Busy,
    /// For the phone to stop sending.
    Lingering,
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Answer what was asked, then end.
    Drain = 1,
    /// End now, unless a request came in meanwhile.
    Close,
    /// End now.
    Abandon,
}

/// One connection.
pub(crate) struct Connection {
    number: u64,
    address: IpAddr,
    clock: Instant,
    phase: AtomicU8,
    since_millis: AtomicU64,
    unread: AtomicBool,
    /// The sharpest [`Order`] given, 0 for none.
    order: AtomicU8,
    ordered: Notify,
}

/// A connection's place among the open ones, given back when dropped.
pub(crate) struct Place {
    connection: Arc<Connection>,
    connections: Connections,
}

impl Connections {
    pub(crate) fn new(connections_max: usize) -> Self {
        let inner = Inner {
            started: Instant::now(),
            connections_max,
            next_number: AtomicU64::new(0),
            open: Mutex::default(),
            ended: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes in a connection, closing idle ones where there are too many; none where all are at work.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Option<Place> {
        let address = peer.ip().to_canonical();
        let mut open = self.open();
        if open.len() >= self.inner.connections_max && make_room(&mut open, Some(address)) == 0 {
            return None;
        }
        let number = self.inner.next_number.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(number, address, self.inner.started));
        open.insert(number, connection.clone());
        metrics::opened();
        Some(Place { connection, connections: self.clone() })
    }

    /// Closes some idle connections, since the process has no room for more; tells how many.
    pub(crate) fn make_room(&self) -> usize {
        make_room(&mut self.open(), None)
    }

    /// Waits until a connection has ended.
    pub(crate) async fn one_ended(&self) {
        self.inner.ended.notified().await;
    }

    /// Has every connection end.
    pub(crate) fn end(&self, order: Order) {
        self.open().values().for_each(|connection| connection.order(order));
    }

    /// Closes connections that keep us waiting for longer than they may; never ends.
    pub(crate) async fn watch(&self, limits: &Limits) {
        let shortest = limits.head.min(limits.idle).min(limits.linger);
        let tick = TICK.min(shortest.div_f64(4.0)).max(Duration::from_millis(1));
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let overdue = |connection: &&Arc<Connection>| connection.is_overdue(limits);
            self.open().values().filter(overdue).for_each(|c| c.order(Order::Close));
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the connections that have waited longest, of the address with the most of them if it can be: so an
/// address that opens thousands crowds out its own. Only where none is idle, and the newcomer comes from
/// elsewhere, may a body of the busiest address be cut off. They no longer count from now on.
fn make_room(open: &mut HashMap<u64, Arc<Connection>>, newcomer: Option<IpAddr>) -> usize {
    let busiest = busiest_address(open);
    let rank = |connection: &Connection| {
        let is_busiest = Some(connection.address) == busiest;
        match connection.phase() {
            Phase::Idle | Phase::Head | Phase::Lingering => Some(u8::from(!is_busiest)),
            Phase::Receiving if is_busiest && newcomer != busiest => Some(2),
            Phase::Receiving | Phase::Busy => None,
        }
    };
    let ranked = open.values().filter_map(|c| Some((rank(c)?, c.since_millis(), c.number)));
    let mut victims: Vec<_> = ranked.collect();
    victims.sort_unstable();
    let count = (open.len() / EDGE_ROOM_DIVISOR).max(1);
    let first_rank = victims.first().map(|(rank, ..)| *rank);
    victims.retain(|(rank, ..)| Some(*rank) == first_rank);
    victims.truncate(count);
    for (.., number) in &victims {
        if let Some(connection) = open.remove(number) {
            // One that is no longer idle when it hears is answered first; a body is cut off on purpose.
            connection.order(if first_rank == Some(2) { Order::Abandon } else { Order::Close });
        }
    }
    victims.len()
}

fn busiest_address(open: &HashMap<u64, Arc<Connection>>) -> Option<IpAddr> {
    let mut counts = HashMap::<IpAddr, usize>::new();
    for connection in open.values() {
        let count = counts.entry(connection.address).or_default();
        *count = count.saturating_add(1);
    }
    counts.into_iter().max_by_key(|(address, count)| (*count, *address)).map(|(address, _)| address)
}

impl Connection {
    fn new(number: u64, address: IpAddr, clock: Instant) -> Self {
        let connection = Self {
            number,
            address,
            clock,
            phase: AtomicU8::new(Phase::Idle as u8),
            since_millis: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            order: AtomicU8::new(0),
            ordered: Notify::new(),
        };
        connection.enter(Phase::Idle);
        connection
    }

    /// Where the phone is; an IPv4 address also where it came mapped into IPv6.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Acquire);
        let all = [Phase::Idle, Phase::Head, Phase::Receiving, Phase::Busy];
        all.into_iter().find(|p| *p as u8 == phase).unwrap_or(Phase::Lingering)
    }

    /// Waits for something else from now on.
    pub(crate) fn enter(&self, phase: Phase) {
        self.since_millis.store(self.now_millis(), Ordering::Release);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Bytes of a request came in.
    pub(crate) fn heard(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Bytes of an answer went out.
    pub(crate) fn told(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    /// A body was left unread, so the phone may still be sending.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether the phone may need time to read its answer before the connection may go.
    pub(crate) fn must_linger(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || !self.is_ending()
    }

    /// Waits for the next order.
    pub(crate) async fn order_given(&self) -> Order {
        self.ordered.notified().await;
        let order = self.order.load(Ordering::Acquire);
        let all = [Order::Drain, Order::Close];
        all.into_iter().find(|o| *o as u8 == order).unwrap_or(Order::Abandon)
    }

    fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.ordered.notify_one();
    }

    fn is_ending(&self) -> bool {
        self.order.load(Ordering::Relaxed) > 0
    }

    fn is_overdue(&self, limits: &Limits) -> bool {
        let bound = match self.phase() {
            Phase::Idle => limits.idle,
            Phase::Head if self.is_ending() => {
                limits.head.min(Duration::from_millis(EDGE_LAST_HEAD_MILLIS_MAX))
            }
            Phase::Head => limits.head,
            Phase::Lingering => limits.linger,
            // Whoever reads the body or asks the store has a bound of its own, and an answer to give.
            Phase::Receiving | Phase::Busy => return false,
        };
        let waited = self.now_millis().saturating_sub(self.since_millis());
        u128::from(waited) > bound.as_millis()
    }

    fn since_millis(&self) -> u64 {
        self.since_millis.load(Ordering::Acquire)
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Place {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.connection.number);
        self.connections.inner.ended.notify_waiters();
        metrics::closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn peer(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 40_000).into()
    }

    /// Connections of an edge that began a day and a bit ago.
    fn connections(max: usize) -> Connections {
        let mut connections = Connections::new(max);
        let inner = Arc::get_mut(&mut connections.inner).unwrap();
        inner.started = inner.started.checked_sub(DAY.saturating_mul(2)).unwrap();
        connections
    }

    /// Has it been in this phase for so long.
    fn put(place: &Place, phase: Phase, ago: Duration) {
        place.connection.enter(phase);
        let ago = u64::try_from(ago.as_millis()).unwrap();
        place.connection.since_millis.fetch_sub(ago, Ordering::Relaxed);
    }

    fn is_closed(place: &Place) -> bool {
        place.connection.order.load(Ordering::Relaxed) >= Order::Close as u8
    }

    #[test]
    fn the_longest_idle_connection_of_the_busiest_address_makes_room() {
        let connections = connections(4);
        let places = [1, 2, 2, 3].map(|last| connections.admit(peer(last)).unwrap());
        for (place, seconds) in places.iter().zip([9, 2, 3, 8]) {
            put(place, Phase::Idle, Duration::from_secs(seconds));
        }
        assert!(connections.admit(peer(4)).is_some());
        assert_eq!(places.each_ref().map(is_closed), [false, false, true, false]);
    }

    #[test]
    fn a_newcomer_is_refused_where_all_are_at_work() {
        let connections = connections(2);
        let places = [1, 1].map(|last| connections.admit(peer(last)).unwrap());
        put(&places[0], Phase::Busy, DAY);
        put(&places[1], Phase::Receiving, DAY);
        assert!(connections.admit(peer(1)).is_none(), "its own address crowds it out");
        assert!(connections.admit(peer(2)).is_some(), "another address is let in");
        assert_eq!(places.each_ref().map(is_closed), [false, true]);
    }

    #[test]
    fn a_place_is_given_back() {
        let connections = connections(1);
        let place = connections.admit(peer(1)).unwrap();
        put(&place, Phase::Busy, DAY);
        assert!(connections.admit(peer(2)).is_none());
        drop(place);
        assert!(connections.admit(peer(2)).is_some());
    }

    #[test]
    fn only_what_waits_for_the_phone_becomes_overdue() {
        let connections = connections(1);
        let place = connections.admit(peer(1)).unwrap();
        let (limits, second) = (Limits::default(), Duration::from_secs(1));
        for (phase, bound) in [
            (Phase::Idle, limits.idle),
            (Phase::Head, limits.head),
            (Phase::Lingering, limits.linger),
        ] {
            put(&place, phase, bound.saturating_sub(second));
            assert!(!place.connection.is_overdue(&limits), "{phase:?}");
            put(&place, phase, bound + second);
            assert!(place.connection.is_overdue(&limits), "{phase:?}");
        }
        for phase in [Phase::Busy, Phase::Receiving] {
            put(&place, phase, DAY);
            assert!(!place.connection.is_overdue(&limits), "{phase:?}");
        }
    }

    #[test]
    fn a_sharper_order_stands() {
        let connections = connections(1);
        let place = connections.admit(peer(1)).unwrap();
        connections.end(Order::Abandon);
        connections.end(Order::Drain);
        assert_eq!(place.connection.order.load(Ordering::Relaxed), Order::Abandon as u8);
    }
}
