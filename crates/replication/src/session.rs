//! One connection to one peer, from Hello to its end: the live stream, and beside it, while some log is
//! far behind, the catch-up stream. A log rides one of them, never both.

use std::{error::Error, future::Future, io, pin::Pin};

use bruri_domain::{LogId, SiteName, limits::LIVE_LAG_RECORDS_MAX};
use bruri_store::StoreError;
use bruri_wire::{
    proto::replication::v1::{self as proto, subscribe_response::Event},
    replication::InvalidMessage,
};
use tonic::{Code, transport::Channel};

use crate::{
    Replication,
    batch::credit_bytes,
    hello::{self, HelloError},
    intake::Intake,
    status::{Peer, PeerState},
    subscription::Subscription,
    tls::ConnectError,
};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the peer refuses us: {}", hello::bounded_text(.0.message()))]
    Refused(Box<tonic::Status>),
    #[error("the peer cannot supply us: {}", hello::bounded_text(.0.message()))]
    Unable(Box<tonic::Status>),
    #[error("the peer sent what is not understood: {}", hello::bounded_text(.0.message()))]
    Garbled(Box<tonic::Status>),
    #[error("the connection broke: {}", cause(.0))]
    Broken(Box<tonic::Status>),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("the peer sent what is not understood: {0}")]
    Message(InvalidMessage),
    #[error("no word from the peer for too long")]
    Silent,
    #[error("the peer ended the stream")]
    Ended,
    #[error("the cursor of a log went back here")]
    CursorMoved,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Its text holds that of its cause, so the cause is not shown once more as a source.
impl From<InvalidMessage> for SessionError {
    fn from(error: InvalidMessage) -> Self {
        Self::Message(error)
    }
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        // One that a broken line brought about has that as its source; the others were said by the peer
        // or by who decoded its words.
        let of_line = status.source().is_some();
        let kind = match status.code() {
            _ if of_line => Self::Broken,
            Code::Internal | Code::OutOfRange => Self::Garbled,
            Code::Unavailable | Code::DataLoss => Self::Unable,
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unimplemented => Self::Refused,
            _ => Self::Broken,
        };
        kind(Box::new(status))
    }
}

/// What is behind a status. Of a line that broke the layers in between tell nothing, and rustls advises
/// programmers.
fn cause(status: &tonic::Status) -> String {
    let mut deepest = status.source();
    while let Some(deeper) = deepest.and_then(Error::source) {
        deepest = Some(deeper);
    }
    let Some(deepest) = deepest else { return hello::bounded_text(status.message()) };
    match deepest.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => error.kind().to_string(),
        _ => hello::bounded_text(&deepest.to_string()),
    }
}

impl SessionError {
    /// Whether it will stay so until a person does something.
    pub(crate) fn needs_a_person(&self) -> bool {
        match self {
            Self::Connect(error) => error.needs_a_person(),
            Self::Refused(_) | Self::Hello(_) | Self::Message(_) | Self::Garbled(_) => true,
            Self::Broken(_)
            | Self::Unable(_)
            | Self::Silent
            | Self::Ended
            | Self::CursorMoved
            | Self::Store(_) => false,
        }
    }
}

type CatchingUp = Pin<Box<dyn Future<Output = Result<Vec<LogId>, SessionError>> + Send>>;

/// A session that has begun.
pub(crate) struct Session<'a> {
    replication: &'a Replication,
    peer: &'a Peer,
    channel: Channel,
    certified: SiteName,
    live: Subscription,
    intake: std::sync::Arc<Intake>,
    /// The logs on the live stream.
    live_logs: Vec<LogId>,
    /// Those that wait for the catch-up stream.
    behind: Vec<LogId>,
    /// The stream of the logs that are behind.
    catching_up: Option<CatchingUp>,
}

impl<'a> Session<'a> {
    pub(crate) async fn begin(
        replication: &'a Replication,
        peer: &'a Peer,
    ) -> Result<Self, SessionError> {
        let address = peer.get().address;
        let (channel, id) = crate::tls::connect(&replication.inner.tls, &address).await?;
        peer.change(|status| status.site = Some(id.site.clone()));
        let live = Subscription::open(replication, channel.clone(), &id.site).await?;
        peer.change(|status| status.release.clone_from(&live.release));
        let intake = Intake::new(replication.inner.store.clone(), id.site.clone());
        Ok(Self {
            replication,
            peer,
            channel,
            certified: id.site,
            live,
            intake: std::sync::Arc::new(intake),
            live_logs: Vec::new(),
            behind: Vec::new(),
            catching_up: None,
        })
    }

    /// Takes in what comes until something breaks.
    pub(crate) async fn run(mut self) -> SessionError {
        loop {
            if let Err(error) = self.turn().await {
                return error;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), SessionError> {
        tokio::select! {
            event = self.live.next() => self.take_live(event?).await?,
            level = next_level(&mut self.catching_up) => {
                self.catching_up = None;
                self.live_logs.extend(level?);
                self.want_live().await?;
                self.catch_up();
            }
        }
        self.show();
        Ok(())
    }

    async fn take_live(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Heartbeat(heartbeat) => {
                let new = self.intake.hear(heartbeat).await?;
                self.place(new).await
            }
            Event::Batch(batch) => {
                let bytes = credit_bytes(&batch);
                if !self.intake.take(batch).await? {
                    self.want_live().await?;
                }
                self.live.grant(bytes).await
            }
            Event::Refusal(refusal) => bar(&self.intake, refusal),
            Event::Hello(_) => Ok(()),
        }
    }

    /// Puts logs that were heard of for the first time on a stream.
    async fn place(&mut self, new: Vec<LogId>) -> Result<(), SessionError> {
        let far = |log: &LogId| self.intake.lag_of(log) > LIVE_LAG_RECORDS_MAX;
        let (behind, level): (Vec<_>, Vec<_>) = new.into_iter().partition(far);
        if !level.is_empty() {
            self.live_logs.extend(level);
            self.want_live().await?;
        }
        self.behind.extend(behind);
        self.catch_up();
        Ok(())
    }

    /// Catches up with the logs that wait for it, on a stream of their own, unless one is there already.
    fn catch_up(&mut self) {
        if self.behind.is_empty() || self.catching_up.is_some() {
            return;
        }
        let logs = std::mem::take(&mut self.behind);
        let catch_up = CatchUp {
            replication: self.replication.clone(),
            channel: self.channel.clone(),
            certified: self.certified.clone(),
            intake: std::sync::Arc::clone(&self.intake),
        };
        self.catching_up = Some(Box::pin(async move {
            catch_up.run(&logs).await?;
            Ok(logs)
        }));
    }

    async fn want_live(&mut self) -> Result<(), SessionError> {
        self.live.want(&self.intake.cursors(&self.live_logs)).await
    }

    fn show(&self) {
        let barred = self.intake.barred();
        let state = match (&barred, &self.catching_up) {
            (Some(_), _) => PeerState::Refused,
            (None, Some(_)) => PeerState::CatchingUp,
            (None, None) => PeerState::Live,
        };
        let lag_records = self.intake.lag();
        let now = self.replication.inner.store.clock().now_micros();
        self.peer.change(|status| {
            status.state = state;
            status.last_error = barred.unwrap_or_default();
            status.last_heard_micros = Some(now);
            status.lag_records = lag_records;
        });
    }
}

/// Waits for the catch-up stream, for ever where there is none.
async fn next_level(catching_up: &mut Option<CatchingUp>) -> Result<Vec<LogId>, SessionError> {
    match catching_up {
        Some(catching_up) => catching_up.await,
        None => std::future::pending().await,
    }
}

fn bar(intake: &Intake, refusal: proto::Refusal) -> Result<(), SessionError> {
    let wanted = refusal.wanted.ok_or(bruri_wire::replication::invalid("refusal.wanted"))?;
    let wanted = bruri_domain::Cursor::try_from(wanted)?;
    let text = hello::bounded_text(&refusal.text);
    if intake.bar(&wanted.log.id, text.clone()) {
        tracing::error!(log = %wanted.log.id, text, "a peer cannot supply its log");
    }
    Ok(())
}

/// The catch-up stream.
struct CatchUp {
    replication: Replication,
    channel: Channel,
    certified: SiteName,
    intake: std::sync::Arc<Intake>,
}

impl CatchUp {
    /// Returns when all `logs` are level; the stream ends with it, so that nothing more comes on it.
    async fn run(self, logs: &[LogId]) -> Result<(), SessionError> {
        let mut stream =
            Subscription::open(&self.replication, self.channel, &self.certified).await?;
        stream.want(&self.intake.cursors(logs)).await?;
        while logs.iter().any(|log| self.intake.lag_of(log) > 0) {
            match stream.next().await? {
                Event::Batch(batch) => {
                    let bytes = credit_bytes(&batch);
                    if !self.intake.take(batch).await? {
                        stream.want(&self.intake.cursors(logs)).await?;
                    }
                    stream.grant(bytes).await?;
                }
                Event::Heartbeat(heartbeat) => {
                    // Logs that are new in it are heard of on the live stream too.
                    self.intake.hear_known(heartbeat)?;
                }
                Event::Refusal(refusal) => bar(&self.intake, refusal)?,
                Event::Hello(_) => {}
            }
        }
        Ok(())
    }
}
