//! Answers what peers ask while a phone waits at theirs: from the database, and of sites that they cannot reach
//! what those tell, asked once.

use std::collections::BTreeMap;

use bruri_domain::{Body, SiteName, limits::ANSWER_BODIES_BYTES_MAX};
use bruri_store::StoreError;
use bruri_wire::question::{Answer, Question};
use tokio::time::timeout;

use crate::{Replication, ask::Gathered};

impl Replication {
    /// What is known here of a file, and the sites for which that speaks too.
    pub(crate) async fn answer(&self, question: &Question) -> (Answer, Vec<SiteName>) {
        let cannot_tell = (Answer::CannotTell, Vec::new());
        let Ok(_place) = self.inner.askers.answering.try_acquire() else { return cannot_tell };
        match timeout(question.within, self.try_answer(question)).await {
            Ok(Ok(answer)) => answer,
            // The asker tells its phone so; why the store fails is logged by who uses it for this site's own.
            Ok(Err(_)) | Err(_) => cannot_tell,
        }
    }

    async fn try_answer(&self, question: &Question) -> Result<(Answer, Vec<SiteName>), StoreError> {
        let store = &self.inner.store;
        let (known, gathered) =
            tokio::join!(store.known_of(&question.file), self.forward(question));
        // Who asked is no neighbour of those who told this: after a start they hear of it from here.
        store.note_told(gathered.state.context());
        let state = known?.joined(&gathered.state);
        let Gathered { mut bodies, told, .. } = gathered;
        let told = told.into_keys().collect();
        if !state.is_news_to(question.generation, &question.context) {
            return Ok((Answer::NothingNewer, told));
        }
        let unknown = state.unknown_to(question.generation, &question.context);
        let wanted: BTreeMap<_, Body> =
            unknown.iter().filter_map(|head| head.body).map(|body| (body.sha256, body)).collect();
        let bytes = wanted.values().fold(0_u64, |sum, body| sum.saturating_add(body.bytes));
        if bytes > ANSWER_BODIES_BYTES_MAX as u64 {
            return Ok((Answer::CannotTell, Vec::new()));
        }
        let lacking: Vec<Body> =
            wanted.values().filter(|body| !bodies.contains_key(&body.sha256)).copied().collect();
        bodies.extend(store.contents(&lacking).await?);
        bodies.retain(|sha256, _| wanted.contains_key(sha256));
        Ok((Answer::Newer { state, bodies: bodies.into_values().collect() }, told))
    }

    /// Asks those that the asker cannot reach and this site can, early enough to tell of it in time.
    async fn forward(&self, question: &Question) -> Gathered {
        if question.forward.is_empty() {
            return Gathered::default();
        }
        let now = self.inner.began.elapsed();
        let ways = self.engine().links_to(&question.forward, now);
        let within = question.within.mul_f64(FORWARD_SHARE);
        self.gather(&ways, &Question { within, ..question.clone() }).await
    }
}

/// Of the time that an asker waits, what those may take whom its question is forwarded to.
const FORWARD_SHARE: f64 = 2.0 / 3.0;
