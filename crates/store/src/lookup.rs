//! What a phone gets: all look-ups that arrived while the last query ran are answered by one.

use std::sync::Arc;

use bruri_domain::{
    FileId, FileState, Head, Remembered,
    limits::{LOOKUP_FILES_MAX, LOOKUP_QUEUE_MAX},
};
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{Store, StoreError, bodies::unpack, columns::Row, files};

/// A file's served version with its body.
#[derive(Clone, Debug)]
pub struct Found {
    /// The head that is served.
    pub head: Head,
    /// Its bytes, exactly as they were sent.
    pub content: Bytes,
}

/// What a phone is given.
#[derive(Clone, Debug)]
pub struct Served {
    /// The served version; none where there is nothing to get.
    pub version: Option<Found>,
    /// What the phone has seen once it was told.
    pub remembered: Remembered,
    /// All that is known of the file here.
    pub state: FileState,
}

/// Asks for served versions.
#[derive(Clone, Debug)]
pub struct Lookup {
    queue: mpsc::Sender<Waiting>,
}

/// Answers look-ups; run it as a task, or several.
#[derive(Clone)]
pub struct Reader {
    store: Store,
    queue: Arc<Mutex<mpsc::Receiver<Waiting>>>,
}

struct Waiting {
    file: FileId,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Served, StoreError>;

impl Lookup {
    /// What a phone gets now: the served version with its body, or that there is none.
    pub async fn served(&self, file: &FileId) -> Answer {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { file: file.clone(), answer };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Stopping,
        })?;
        answered.await.map_err(|_| StoreError::Stopping)?
    }
}

impl Reader {
    /// A reader and the way to it.
    pub fn new(store: Store) -> (Lookup, Self) {
        let (sender, queue) = mpsc::channel(LOOKUP_QUEUE_MAX);
        (Lookup { queue: sender }, Self { store, queue: Arc::new(Mutex::new(queue)) })
    }

    /// Answers group after group until every [`Lookup`] is dropped.
    pub async fn run(self) {
        let mut group = Vec::with_capacity(LOOKUP_FILES_MAX);
        loop {
            let taken = self.queue.lock().await.recv_many(&mut group, LOOKUP_FILES_MAX).await;
            if taken == 0 {
                return;
            }
            self.answer(&mut group).await;
        }
    }

    async fn answer(&self, group: &mut Vec<Waiting>) {
        let files: Vec<&FileId> = group.iter().map(|waiting| &waiting.file).collect();
        match self.store.served(&files).await {
            Ok(answers) => {
                for (waiting, answer) in group.drain(..).zip(answers) {
                    // A phone that hung up does not hear it.
                    let _ = waiting.answer.send(answer);
                }
            }
            Err(error) => {
                let mut cause = Some(error);
                for waiting in group.drain(..) {
                    let error = cause.take().unwrap_or(StoreError::LookupFailed);
                    let _ = waiting.answer.send(Err(error));
                }
            }
        }
    }
}

impl Store {
    /// One answer per file, in their order.
    async fn served(&self, files: &[&FileId]) -> Result<Vec<Answer>, StoreError> {
        let answers = self.rows_of(files).await?;
        self.with_unknown(files, answers).await
    }

    /// What the rows of these files say; none where there is no row.
    async fn rows_of(&self, files: &[&FileId]) -> Result<Vec<Option<Answer>>, StoreError> {
        let realms: Vec<&str> = files.iter().map(|f| f.realm.as_str()).collect();
        let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
        let rows = sqlx::query!(
            r#"select wanted.place as "place!", f.state, f.checksum, f.served_body,
                      b.content as "content?"
                 from unnest($1::text[], $2::text[]) with ordinality as wanted (realm, name, place)
                 join file f on f.realm = wanted.realm and f.name = wanted.name
                 left join body b on b.sha256 = f.served_body"#,
            &realms as _,
            &names as _,
        )
        .fetch_all(self.pool())
        .await?;
        let mut answers: Vec<Option<Answer>> = files.iter().map(|_| None).collect();
        for row in rows {
            let place = usize::try_from(row.place).ok().and_then(|n| n.checked_sub(1));
            let Some((place, file)) = place.and_then(|n| Some((n, *files.get(n)?))) else {
                continue;
            };
            let stored = Stored { state: row.state, checksum: row.checksum, body: row.served_body };
            if let Some(answer) = answers.get_mut(place) {
                *answer = Some(found(file, &stored, row.content));
            }
        }
        Ok(answers)
    }

    /// Fills in the answers for files of which there is no row.
    async fn with_unknown(
        &self,
        files: &[&FileId],
        answers: Vec<Option<Answer>>,
    ) -> Result<Vec<Answer>, StoreError> {
        let lacking = files.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let unknown: Vec<&FileId> = lacking.map(|(file, _)| *file).collect();
        let blank = if unknown.is_empty() { Vec::new() } else { self.blank(&unknown).await? };
        // Where there are records the row may have come with them, since we looked.
        let has_records = blank.iter().any(Result::is_err);
        let again = if has_records { self.rows_of(&unknown).await? } else { Vec::new() };
        let again = again.into_iter().chain(std::iter::repeat_with(|| None));
        let mut second = blank.into_iter().zip(again);
        let nothing = |answer: Option<Answer>| {
            answer.unwrap_or_else(|| {
                let (blank, again) =
                    second.next().unwrap_or_else(|| (Ok(FileState::default()), None));
                again.unwrap_or_else(|| blank.map(Served::nothing))
            })
        };
        Ok(answers.into_iter().map(nothing).collect())
    }
}

impl Served {
    /// Of a file of which nothing is known but its generation.
    fn nothing(state: FileState) -> Self {
        Self { version: None, remembered: Remembered::served(&state), state }
    }
}

struct Stored {
    state: Vec<u8>,
    checksum: Vec<u8>,
    body: Option<Vec<u8>>,
}

/// Believes a row only where its parts agree.
fn found(file: &FileId, stored: &Stored, content: Option<Vec<u8>>) -> Answer {
    let state = files::state_of(file, &stored.state, &stored.checksum)?;
    let row = Row { table: "file", key: file };
    let served = state.served();
    let body = served.and_then(|head| head.body);
    if body.as_ref().map(|b| b.sha256.as_bytes()) != stored.body.as_deref() {
        return Err(row.corrupt("served_body"));
    }
    let remembered = Remembered::served(&state);
    let (Some(head), Some(body)) = (served, body) else {
        return Ok(Served { version: None, remembered, state });
    };
    let head = head.clone();
    let packed = content.ok_or_else(|| StoreError::BodyAbsent(head.dot.clone()))?;
    let content = unpack(body.sha256, body.bytes, &packed)?;
    Ok(Served { version: Some(Found { head, content }), remembered, state })
}
