//! Asks peers what they have of a file while a phone waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use bruri_domain::{
    FileState, Sha256, SiteName,
    limits::{
        ASK_BREAK_MILLIS, ASK_FAILURES_MAX, FILE_BYTES_MAX, PEER_ANSWERS_MAX, PEER_ASKS_MAX,
        PEER_MESSAGE_BYTES_MAX, READING_NOTE_MILLIS,
    },
};
use bruri_wire::{
    proto::replication::v1::{self as proto, replication_service_client::ReplicationServiceClient},
    question::{Answer, Question, decode_answer},
};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    Replication,
    engine::{
        AskWay, Standing,
        io::{Input, LinkId},
    },
    metrics,
};

/// What the peers told of a file.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What they know that the asker did not: empty where that is nothing.
    pub state: FileState,
    /// Bodies of its heads, each hashed; one that has yet to arrive there is lacking.
    pub bodies: BTreeMap<Sha256, Bytes>,
    /// Every site that is not away has told.
    pub is_complete: bool,
    /// Some of them through another.
    pub via_hub: bool,
    /// Sites that are away, and so were not asked.
    pub away: usize,
    /// Not all states of files are here yet, and nobody was there who has them.
    pub is_in_the_dark: bool,
}

/// What was gathered from several peers.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) state: FileState,
    pub(crate) bodies: BTreeMap<Sha256, Bytes>,
    /// The sites that have told, each with whether another spoke for it.
    pub(crate) told: BTreeMap<SiteName, bool>,
}

/// What an answer told, with the sites for which it speaks too.
type Heard = (Answer, Vec<SiteName>);

/// Connections over which peers may be asked.
#[derive(Debug)]
pub(crate) struct Askers {
    links: Mutex<BTreeMap<LinkId, Arc<Asker>>>,
    /// Questions of peers that are answered at a time.
    pub(crate) answering: Semaphore,
}

/// One of them.
#[derive(Debug)]
struct Asker {
    channel: Channel,
    places: Semaphore,
    breaker: Mutex<Breaker>,
}

/// Failures in a row end the questions for a while; one more after it ends them again.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Default for Askers {
    fn default() -> Self {
        Self { links: Mutex::default(), answering: Semaphore::new(PEER_ANSWERS_MAX) }
    }
}

impl Askers {
    /// A peer was reached.
    pub(crate) fn put(&self, link: LinkId, channel: Channel) {
        let places = Semaphore::new(PEER_ASKS_MAX);
        let asker = Asker { channel, places, breaker: Mutex::default() };
        self.lock().insert(link, Arc::new(asker));
    }

    /// Its connection is gone.
    pub(crate) fn remove(&self, link: LinkId) {
        self.lock().remove(&link);
    }

    fn get(&self, link: LinkId) -> Option<Arc<Asker>> {
        self.lock().get(&link).cloned()
    }

    /// The connection itself, for what no phone waits for.
    pub(crate) fn channel(&self, link: LinkId) -> Option<Channel> {
        Some(self.get(link)?.channel.clone())
    }

    fn is_usable(&self, link: LinkId) -> bool {
        self.get(link).is_some_and(|asker| !asker.breaker().is_open(Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Arc<Asker>>> {
        // Every change is one call, so the map is whole even after a panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, counts, and notes how it went; none where nothing was heard that can be used.
    async fn ask(&self, question: &Question) -> Option<Heard> {
        let began = Instant::now();
        let asked = timeout(question.within, self.try_ask(question)).await;
        let (outcome, heard) = match asked {
            Err(_) => ("late", None),
            Ok(Err(status)) if status.code() == Code::Unimplemented => ("cannot_tell", None),
            Ok(Err(_)) => ("failed", None),
            Ok(Ok((Answer::CannotTell, _))) => ("cannot_tell", None),
            Ok(Ok(heard)) => (name(&heard.0), Some(heard)),
        };
        metrics::asked(outcome, began.elapsed());
        self.breaker().note(!matches!(outcome, "late" | "failed"), Instant::now());
        heard
    }

    async fn try_ask(&self, question: &Question) -> Result<Heard, tonic::Status> {
        // It is never closed.
        let _place = self.places.acquire().await.map_err(|_| tonic::Status::unavailable("ends"))?;
        let mut client = ReplicationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let mut request = Request::new(proto::HaveNewerRequest::from(question));
        request.set_timeout(question.within);
        let response = client.have_newer(request).await?.into_inner();
        let heard = decode_answer(response);
        let heard = heard.map_err(|error| tonic::Status::internal(error.to_string()))?;
        match &heard.0 {
            Answer::Newer { bodies, .. } if bodies.iter().any(|b| b.len() > FILE_BYTES_MAX) => {
                Err(tonic::Status::internal("a body is too large"))
            }
            _ => Ok(heard),
        }
    }
}

fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::NothingNewer => "nothing_newer",
        Answer::Newer { .. } => "newer",
        Answer::CannotTell => "cannot_tell",
    }
}

impl Breaker {
    fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn note(&mut self, answered: bool, now: Instant) {
        if answered {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= ASK_FAILURES_MAX {
            self.until = now.checked_add(Duration::from_millis(ASK_BREAK_MILLIS));
        }
    }
}

impl Gathered {
    /// Takes in what a site told; `needed` are those for which it was asked to speak.
    fn take(&mut self, way: &AskWay, (answer, spoken_for): Heard) {
        self.told.insert(way.site.clone(), false);
        for site in spoken_for.into_iter().filter(|site| way.forward.contains(site)) {
            self.told.entry(site).or_insert(true);
        }
        if let Answer::Newer { state, bodies } = answer {
            self.state = self.state.joined(&state);
            self.bodies.extend(bodies.into_iter().map(|body| (Sha256::of(&body), body)));
        }
    }
}

impl Replication {
    /// A phone reads here. Returns until when this site has all that every site had which is not away (none where
    /// it does not know), and how many are away. What is read after this call is at least as fresh.
    pub fn read(&self) -> (Option<Instant>, usize) {
        self.note_reader();
        let standing = self.engine().freshness(self.inner.began.elapsed());
        let until = standing.until.and_then(|until| self.inner.began.checked_add(until));
        (until, standing.away)
    }

    /// Tells the engine once in a while, so that peers beat often.
    fn note_reader(&self) {
        let now = u64::try_from(self.inner.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = now.saturating_add(READING_NOTE_MILLIS);
        let noted = self.inner.read_noted.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(noted) >= READING_NOTE_MILLIS;
        let exchange = |new| {
            let order = Ordering::Relaxed;
            self.inner.read_noted.compare_exchange(noted, new, order, order).is_ok()
        };
        if is_due && exchange(now) {
            self.inner.inputs.notify(Input::Read);
        }
    }

    fn standing(&self) -> Standing {
        self.standing_without(&BTreeSet::new())
    }

    /// The same where over these connections nobody is asked.
    fn standing_without(&self, links: &BTreeSet<LinkId>) -> Standing {
        let now = self.inner.began.elapsed();
        let usable = |link| !links.contains(&link) && self.inner.askers.is_usable(link);
        self.engine().standing(now, usable)
    }

    /// Asks all sites that are not away, as they stand now.
    pub(crate) async fn ask_all(&self, question: &Question) -> Told {
        let began = Instant::now();
        let Standing { away, needed, strangers, ways, is_copying, .. } = self.standing();
        let mut gathered = self.gather(&ways, question).await;
        let missing: BTreeSet<_> =
            needed.iter().filter(|site| !gathered.told.contains_key(*site)).cloned().collect();
        if !missing.is_empty() {
            let within = question.within.saturating_sub(began.elapsed());
            let question = Question { within, ..question.clone() };
            self.ask_around(&mut gathered, &ways, &missing, &question).await;
        }
        let Gathered { state, bodies, told } = gathered;
        let is_in_the_dark = is_copying && told.is_empty();
        let all_told = strangers == 0 && needed.iter().all(|site| told.contains_key(site));
        let is_complete = all_told && !is_in_the_dark;
        let via_hub = needed.iter().any(|site| told.get(site) == Some(&true));
        Told { state, bodies, is_complete, via_hub, away, is_in_the_dark }
    }

    /// Asks those that have told for those that have not: a line that broke just now was not known to be.
    async fn ask_around(
        &self,
        gathered: &mut Gathered,
        tried: &[AskWay],
        missing: &BTreeSet<SiteName>,
        question: &Question,
    ) {
        let failed = tried.iter().filter(|way| missing.contains(&way.site)).map(|way| way.link);
        let mut ways = self.standing_without(&failed.collect()).ways;
        for way in &mut ways {
            way.forward.retain(|site| missing.contains(site));
        }
        ways.retain(|way| !way.forward.is_empty() && !tried.contains(way));
        if ways.is_empty() || question.within.is_zero() {
            return;
        }
        let around = self.gather(&ways, question).await;
        gathered.state = gathered.state.joined(&around.state);
        gathered.bodies.extend(around.bodies);
        for (site, by_another) in around.told {
            gathered.told.entry(site).or_insert(by_another);
        }
    }

    /// Asks these peers at once and joins what they tell.
    pub(crate) async fn gather(&self, ways: &[AskWay], question: &Question) -> Gathered {
        let asks = ways.iter().map(async |way| {
            let asker = self.inner.askers.get(way.link)?;
            let question = Question { forward: way.forward.clone(), ..question.clone() };
            asker.ask(&question).await
        });
        let mut gathered = Gathered::default();
        for (way, heard) in ways.iter().zip(join_all(asks).await) {
            if let Some(heard) = heard {
                gathered.take(way, heard);
            }
        }
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_end_the_questions_for_a_while_and_an_answer_ends_the_count() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for answered in [false, false, true, false, false] {
            breaker.note(answered, now);
            assert!(!breaker.is_open(now));
        }
        breaker.note(false, now);
        assert!(breaker.is_open(now));
        let later = now + Duration::from_millis(ASK_BREAK_MILLIS);
        assert!(!breaker.is_open(later));
        breaker.note(false, later);
        assert!(breaker.is_open(later));
    }
}
