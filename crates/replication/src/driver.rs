//! Runs the engine: hands in what happens and does what it asks for, with tonic and the store.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{LogId, SiteName, limits::ENGINE_QUEUE_MAX};
use bruri_wire::proto::replication::v1 as proto;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    Replication,
    dial::{StreamError, follow},
    engine::{
        Engine,
        io::{
            Ask, Dismissal, Effect, Event, Fetch, FetchError, Input, Job, LinkId, SubscriptionId,
            SupplyId, Time,
        },
    },
    fork::settle,
    serve::Out,
    snapshot,
    tls::{self, ConnectError, PeerId, Tls},
};

/// Messages of one stream of ours that wait to be sent: what one turn of the engine says, and room.
const ASKS_MAX: usize = 64;
/// Messages to a consumer that wait; the engine keeps fewer under way.
const RESPONSES_MAX: usize = 16;

/// The way in for what happens.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    events: mpsc::Sender<Input>,
    /// For those that cannot wait; each answers something that the engine asked for, so they are few.
    notices: mpsc::UnboundedSender<Input>,
}

impl Inputs {
    /// Waits where the engine is behind; `false` where it has ended.
    pub(crate) async fn send(&self, input: Input) -> bool {
        self.events.send(input).await.is_ok()
    }

    pub(crate) fn notify(&self, input: Input) {
        // An engine that has ended has no use for it.
        let _ = self.notices.send(input);
    }
}

/// What arrives for the engine.
#[derive(Debug)]
pub(crate) struct Arrivals {
    events: mpsc::Receiver<Input>,
    notices: mpsc::UnboundedReceiver<Input>,
}

/// The way to the engine and its other end.
pub(crate) fn inputs() -> (Inputs, Arrivals) {
    let (events, arriving) = mpsc::channel(ENGINE_QUEUE_MAX);
    let (notices, urgent) = mpsc::unbounded_channel();
    (Inputs { events, notices }, Arrivals { events: arriving, notices: urgent })
}

/// The streams of consumers, each with the way to it.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    streams: Mutex<(u64, BTreeMap<SupplyId, mpsc::Sender<Out>>)>,
}

impl Consumers {
    fn add(&self) -> (SupplyId, mpsc::Receiver<Out>) {
        let (sender, responses) = mpsc::channel(RESPONSES_MAX);
        let mut streams = self.lock();
        streams.0 = streams.0.saturating_add(1);
        let supply = SupplyId(streams.0);
        streams.1.insert(supply, sender);
        (supply, responses)
    }

    fn remove(&self, supply: SupplyId) {
        self.lock().1.remove(&supply);
    }

    fn clear(&self) {
        self.lock().1.clear();
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<SupplyId, mpsc::Sender<Out>>)> {
        // Every change is one call, so the map is whole even after a panic.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that a peer opened.
pub(crate) struct Accepted {
    pub(crate) supply: SupplyId,
    pub(crate) responses: mpsc::Receiver<Out>,
}

impl Replication {
    /// Takes a peer's stream in.
    pub(crate) async fn accept(&self, peer: SiteName) -> Result<Accepted, Status> {
        let (supply, responses) = self.inner.consumers.add();
        if !self.inner.inputs.send(Input::Opened { supply, peer }).await {
            self.inner.consumers.remove(supply);
            return Err(Status::unavailable("the site is stopping"));
        }
        Ok(Accepted { supply, responses })
    }

    /// Runs until `stop`; once in a process. Without it nothing is supplied or consumed.
    ///
    /// # Errors
    /// Where it runs already.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), AlreadyRunning> {
        let arrivals = self.inner.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take();
        let driver = Driver {
            replication: self.clone(),
            arrivals: arrivals.ok_or(AlreadyRunning)?,
            tasks: JoinSet::new(),
            channels: BTreeMap::new(),
            streams: BTreeMap::new(),
        };
        driver.run(stop).await;
        // Nobody serves these streams any more: with the ways to them they end.
        self.inner.consumers.clear();
        self.inner.flights.ended().await;
        Ok(())
    }
}

/// [`Replication::run`] was called twice.
#[derive(Debug, thiserror::Error)]
#[error("replication runs already in this process")]
pub struct AlreadyRunning;

struct Driver {
    replication: Replication,
    arrivals: Arrivals,
    /// Dialling, streams and jobs of the store; they end with the driver.
    tasks: JoinSet<()>,
    channels: BTreeMap<LinkId, Channel>,
    streams: BTreeMap<SubscriptionId, Stream>,
}

/// A stream of ours.
struct Stream {
    link: LinkId,
    asks: mpsc::Sender<Ask>,
    task: AbortHandle,
}

impl Driver {
    async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.replication.inner.store.changes_not_applied();
        loop {
            let due = self.replication.engine().due();
            let due = self.replication.inner.began.checked_add(due);
            let input = tokio::select! {
                () = stop.cancelled() => return,
                Some(input) = self.arrivals.notices.recv() => input,
                Some(input) = self.arrivals.events.recv() => input,
                Ok(()) = changes.changed() => Input::Changed,
                Some(_) = self.tasks.join_next() => continue,
                () = sleep_until(due.unwrap_or_else(Instant::now)) => Input::Tick,
            };
            self.turn(input);
        }
    }

    fn turn(&mut self, input: Input) {
        if let Input::Reached { link, .. } = &input {
            // Whoever reached it left the channel there.
            if let Some(channel) = self.replication.inner.reached.take(*link) {
                self.replication.inner.askers.put(*link, channel.clone());
                self.channels.insert(*link, channel);
            }
        }
        let time = self.replication.time();
        let effects = self.replication.engine().handle(time, input);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial(link) => self.dial(link),
            Effect::Hang(link) => {
                self.channels.remove(&link);
                self.replication.inner.askers.remove(link);
                self.streams.retain(|_, stream| stream.link != link);
            }
            Effect::Subscribe { link, subscription } => self.subscribe(link, subscription),
            Effect::Unsubscribe(subscription) => drop(self.streams.remove(&subscription)),
            Effect::Ask { subscription, ask } => self.ask(subscription, ask),
            Effect::Tell { supply, event } => self.tell(supply, event),
            Effect::Dismiss { supply, why } => self.dismiss(supply, why),
            Effect::Do(job) => self.perform(job),
            Effect::Settle { link, log } => self.settle(link, log),
            Effect::Fetch { link, number, fetch } => self.fetch(link, number, fetch),
            Effect::TrustClock(trusted) => self.replication.inner.store.trust_clock(trusted),
        }
    }

    fn dial(&mut self, link: LinkId) {
        let replication = self.replication.clone();
        self.tasks.spawn(async move {
            let inner = &replication.inner;
            let input = match connect(&inner.tls, inner.ways.addresses(link)).await {
                Ok((channel, peer)) => {
                    inner.reached.put(link, channel);
                    Input::Reached { link, site: peer.site }
                }
                Err(error) => Input::Unreachable { link, error: error.into() },
            };
            inner.inputs.send(input).await;
        });
    }

    fn subscribe(&mut self, link: LinkId, subscription: SubscriptionId) {
        let inputs = self.replication.inner.inputs.clone();
        let Some(channel) = self.channels.get(&link).cloned() else {
            let error = StreamError::Ended.into();
            return inputs.notify(Input::Ended { subscription, error });
        };
        let (asks, queue) = mpsc::channel(ASKS_MAX);
        let task = self.tasks.spawn(follow(channel, subscription, queue, inputs));
        self.streams.insert(subscription, Stream { link, asks, task });
    }

    fn ask(&mut self, subscription: SubscriptionId, ask: Ask) {
        let Some(stream) = self.streams.get(&subscription) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = stream.asks.try_send(ask) {
            let error = StreamError::Unread.into();
            self.replication.inner.inputs.notify(Input::Ended { subscription, error });
        }
    }

    fn tell(&mut self, supply: SupplyId, event: Event) {
        let inner = &self.replication.inner;
        let response = proto::SubscribeResponse { event: Some(event) };
        let mut streams = inner.consumers.lock();
        let Some(stream) = streams.1.get(&supply) else { return };
        if stream.try_send(Ok(response)).is_err() {
            streams.1.remove(&supply);
            inner.inputs.notify(Input::Left(supply));
        }
    }

    /// Says why; the stream ends when that has been read.
    fn dismiss(&mut self, supply: SupplyId, why: Dismissal) {
        let removed = self.replication.inner.consumers.lock().1.remove(&supply);
        if let Some(stream) = removed {
            let _ = stream.try_send(Err(status(why)));
        }
    }

    fn settle(&mut self, link: LinkId, log: LogId) {
        let replication = self.replication.clone();
        let Some(channel) = self.channels.get(&link).cloned() else {
            let error = Some("no connection".to_owned());
            return replication.inner.inputs.notify(Input::Settled { link, log, error });
        };
        self.tasks.spawn(async move {
            let inner = &replication.inner;
            let settled = settle(&inner.store, channel, &log).await;
            let error = settled.err().map(|error| error.to_string());
            inner.inputs.send(Input::Settled { link, log, error }).await;
        });
    }

    fn fetch(&mut self, link: LinkId, number: u64, fetch: Fetch) {
        let inputs = self.replication.inner.inputs.clone();
        let Some(channel) = self.channels.get(&link).cloned() else {
            let result = Err(FetchError { text: "no connection".to_owned(), parted: false });
            return inputs.notify(Input::Fetched { link, number, result });
        };
        self.tasks.spawn(async move {
            let result = snapshot::fetch(channel, fetch).await;
            inputs.send(Input::Fetched { link, number, result }).await;
        });
    }

    fn perform(&mut self, job: Job) {
        let replication = self.replication.clone();
        self.tasks.spawn(async move {
            let inner = &replication.inner;
            let done = inner.jobs.perform(job, &inner.store).await;
            inner.inputs.send(Input::Done(done)).await;
        });
    }
}

/// Connects to the first of the addresses where somebody is let in.
async fn connect(tls: &Tls, addresses: Vec<String>) -> Result<(Channel, PeerId), ConnectError> {
    let mut failed = ConnectError::Address { address: String::new() };
    for address in addresses {
        match tls::connect(tls, &address).await {
            Ok(reached) => return Ok(reached),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn status(why: Dismissal) -> Status {
    match why {
        Dismissal::Refused(text) => Status::failed_precondition(text),
        Dismissal::Invalid(text) => Status::invalid_argument(text),
        Dismissal::Away => Status::unavailable("its database does not answer"),
        Dismissal::Silent => Status::deadline_exceeded("no Hello"),
    }
}

/// Connections that were reached and not yet handed over.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<BTreeMap<LinkId, Channel>>);

impl Reached {
    fn put(&self, link: LinkId, channel: Channel) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(link, channel);
    }

    fn take(&self, link: LinkId) -> Option<Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&link)
    }
}

impl Replication {
    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        // A panic in the engine ends its task and with it the process.
        self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn time(&self) -> Time {
        let now = self.inner.began.elapsed();
        Time { now, wall_micros: self.inner.store.clock().now_micros() }
    }
}
