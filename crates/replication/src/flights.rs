//! One flight per file: reads that come while peers are asked about it wait for the next question.
//!
//! Not for the answer to the one under way: a peer may have given that before they came, and taken a backup since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bruri_domain::{FileId, FileState};
use bruri_wire::question::Question;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{Replication, ask::Told};

/// The files about which peers are asked now, each with the reads that wait for the next question.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    files: Mutex<HashMap<FileId, Vec<Waiting>>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    told: oneshot::Sender<Arc<Told>>,
}

impl Flights {
    /// Lets a read wait; gives it back where no flight is under way: then it is the first of one.
    fn join(&self, waiting: Waiting) -> Option<Waiting> {
        let mut flights = self.lock();
        if let Some(others) = flights.get_mut(&waiting.question.file) {
            others.push(waiting);
            return None;
        }
        flights.insert(waiting.question.file.clone(), Vec::new());
        Some(waiting)
    }

    /// Who came meanwhile; where nobody did the flight has ended.
    fn next(&self, file: &FileId) -> Vec<Waiting> {
        let mut flights = self.lock();
        let waiting = flights.get_mut(file).map(std::mem::take).unwrap_or_default();
        if waiting.is_empty() {
            flights.remove(file);
        }
        waiting
    }

    /// Waits for those under way: each lasts as long as its question.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Vec<Waiting>>> {
        // Every change is one call, so the map is whole even after a panic.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replication {
    /// Asks the sites that are not away what they have of a file beyond what is known here, for so long at most; where a
    /// question about the file is under way, when that is answered.
    pub async fn ask(&self, file: &FileId, known: &FileState, within: Duration) -> Arc<Told> {
        let question = Question {
            file: file.clone(),
            generation: known.generation(),
            context: known.whole_context(),
            forward: Vec::new(),
            within,
        };
        let (sender, told) = oneshot::channel();
        if let Some(first) = self.inner.flights.join(Waiting { question, told: sender }) {
            // So that a phone which hangs up takes no other's answer with it.
            let flight = Flight { replication: self.clone(), file: Some(file.clone()) };
            self.inner.flights.tasks.spawn(flight.fly(first));
        }
        // Where the flight broke off nothing was told.
        told.await.unwrap_or_default()
    }
}

/// Asks, and asks again as long as somebody came meanwhile.
struct Flight {
    replication: Replication,
    /// None once it has ended in order.
    file: Option<FileId>,
}

impl Flight {
    async fn fly(mut self, first: Waiting) {
        let mut waiting = vec![first];
        while let Some(question) = question_of(&waiting) {
            let told = Arc::new(self.replication.ask_all(&question).await);
            for read in waiting.drain(..) {
                // A phone that hung up does not hear it.
                let _ = read.told.send(Arc::clone(&told));
            }
            waiting = self.replication.inner.flights.next(&question.file);
        }
        self.file = None;
    }
}

/// What the first knows, so that nothing is left out which any of them lacks; for as long as one of them waits.
fn question_of(waiting: &[Waiting]) -> Option<Question> {
    let first = waiting.first()?.question.clone();
    let within = waiting.iter().map(|read| read.question.within).max();
    Some(Question { within: within.unwrap_or(first.within), ..first })
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // It broke off: whoever waits hears that nothing was told.
            self.replication.inner.flights.lock().remove(file);
        }
    }
}
