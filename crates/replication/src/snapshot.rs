//! States and history between sites: what is answered to a peer that takes a snapshot, and what is believed of such an
//! answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::{
    Cursor, DeploymentKey, FileId, FileName, FileState, Head, Log, LogKind, RealmId, Sha256,
    limits::{
        FILE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX, SNAPSHOT_ANSWER_SECONDS_MAX, SNAPSHOT_FILES_MAX,
        SNAPSHOT_HEADS_MAX,
    },
};
use bruri_store::{Copied, CopiedFile, CopiedHead, IncomingStates, StoreError};
use bruri_wire::{
    proto::replication::v1::{
        self as proto, get_records_response::Answer, refusal::Reason,
        replication_service_client::ReplicationServiceClient,
    },
    record::{RawRecord, decode_envelope, decode_state, decode_version, encode_state},
    replication::{self, InvalidMessage, cursors, decode_chunk, encode_chunk, invalid},
};
use bytes::Bytes;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use crate::{
    engine::{
        io::{Fetch, FetchError, Portion},
        supply,
    },
    metrics::{self, Half},
    store::Store,
};

const ANSWER: Duration = Duration::from_secs(SNAPSHOT_ANSWER_SECONDS_MAX);

/// Why an answer is not believed. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidStates {
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error("the files are not in order")]
    Order,
    #[error("a head of file {0} is not what its record says")]
    Head(FileId),
    #[error("a body is too large")]
    BodySize,
    #[error("a body of file {0} is missing")]
    Body(FileId),
}

/// The next chunk of states after a file. How far the logs are is read before: so no state lacks a record up to there.
///
/// # Errors
/// Where the store cannot tell.
pub async fn states<S: Store>(
    store: &S,
    after: Option<&FileId>,
) -> Result<proto::StatesChunk, StoreError> {
    let mut vector = store.vector().await?;
    vector.retain(|cursor| cursor.log.kind == LogKind::Files && cursor.sequence > 0);
    let copied = store.states_after(after).await?;
    let mut logs: Vec<Log> = Vec::new();
    let files = copied.files.iter().map(|copied| encode_file(copied, &mut logs)).collect();
    Ok(proto::StatesChunk {
        vector: vector.iter().map(Into::into).collect(),
        files,
        bodies: copied.bodies.into_values().collect(),
        absent_bodies: copied.absent.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        logs: logs.iter().map(Into::into).collect(),
        is_last: copied.is_last,
        partings: copied.partings.iter().map(Into::into).collect(),
    })
}

fn encode_file(copied: &CopiedFile, logs: &mut Vec<Log>) -> proto::CopiedFile {
    let heads = copied.heads.iter().map(|head| {
        let place = logs.iter().position(|log| *log == head.log).unwrap_or_else(|| {
            logs.push(head.log.clone());
            logs.len().saturating_sub(1)
        });
        let (envelope, payload) = (head.raw.envelope.clone(), head.raw.payload.clone());
        proto::CopiedHead {
            log: u32::try_from(place).unwrap_or(u32::MAX),
            sequence: head.sequence,
            chain: head.chain.0.as_bytes().to_vec(),
            record: Some(proto::Entry { envelope, payload }),
        }
    });
    let heads = heads.collect();
    let (realm, name) = (copied.file.realm.to_string(), copied.file.name.to_string());
    proto::CopiedFile { realm, name, state: encode_state(&copied.state), heads }
}

/// The records of a log after a place, if they are here and follow it; else why not.
///
/// # Errors
/// Where the store cannot tell.
pub async fn records<S: Store>(
    store: &S,
    from: &Cursor,
) -> Result<Result<proto::Batch, Reason>, StoreError> {
    match store.chain_at(from).await {
        Ok(Some(chain)) if chain == from.chain => {}
        Ok(Some(_)) => return Ok(Err(Reason::Fork)),
        Ok(None) => return Ok(Err(Reason::UnknownLog)),
        Err(StoreError::BelowFloor(_)) => return Ok(Err(Reason::BelowFloor)),
        Err(error) => return Err(error),
    }
    let page = match store.records_after(&from.log.id, from.sequence).await {
        Err(StoreError::BelowFloor(_)) => return Ok(Err(Reason::BelowFloor)),
        page => page?,
    };
    let Some(last) = page.chains.last().copied() else { return Ok(Err(Reason::UnknownLog)) };
    let (first, chain) = (from.sequence.saturating_add(1), last.0.as_bytes().to_vec());
    Ok(Ok(supply::batch(&from.log, first, page, chain)))
}

/// Reads the key of the file after which a peer wants states.
pub(crate) fn after(realm: &str, name: &str) -> Result<Option<FileId>, InvalidMessage> {
    if realm.is_empty() && name.is_empty() {
        return Ok(None);
    }
    file_id(realm, name).map(Some)
}

fn file_id(realm: &str, name: &str) -> Result<FileId, InvalidMessage> {
    let parsed = FileName::parse(name).ok().filter(|parsed| parsed.as_str() == name);
    Ok(FileId {
        realm: RealmId::parse(realm).map_err(|_| invalid("realm"))?,
        name: parsed.ok_or(invalid("name"))?,
    })
}

/// The last file of a chunk; none where it has none.
pub(crate) fn last_file(chunk: &proto::StatesChunk) -> Option<FileId> {
    chunk.files.last().and_then(|file| file_id(&file.realm, &file.name).ok())
}

/// Checks a chunk that was asked for after a file.
pub(crate) fn check(
    chunk: proto::StatesChunk,
    after: Option<FileId>,
    key: &DeploymentKey,
) -> Result<IncomingStates, InvalidStates> {
    let mut vector = cursors(chunk.vector)?;
    vector.retain(|cursor| cursor.log.kind == LogKind::Files);
    let logs = chunk.logs.into_iter().map(Log::try_from).collect::<Result<Vec<_>, _>>()?;
    if chunk.files.len() as u64 > u64::from(SNAPSHOT_FILES_MAX) {
        return Err(invalid("files").into());
    }
    if chunk.bodies.iter().any(|body| body.len() > FILE_BYTES_MAX) {
        return Err(InvalidStates::BodySize);
    }
    let bodies: BTreeMap<Sha256, Bytes> =
        chunk.bodies.into_iter().map(|body| (Sha256::of(&body), body)).collect();
    let absent = chunk.absent_bodies.iter().map(|hash| Sha256::from_slice(hash));
    let mut absent = absent.collect::<Option<BTreeSet<_>>>().ok_or(invalid("absent_bodies"))?;
    absent.retain(|hash| !bodies.contains_key(hash));
    let mut last = after.clone();
    let mut files = Vec::with_capacity(chunk.files.len());
    for file in chunk.files {
        let copied = check_file(file, &logs, key)?;
        if last.as_ref().is_some_and(|last| key_of(last) >= key_of(&copied.file)) {
            return Err(InvalidStates::Order);
        }
        let named = copied.state.heads().iter().filter_map(|head| head.body);
        let here = |sha256| bodies.contains_key(&sha256) || absent.contains(&sha256);
        if named.map(|body| body.sha256).any(|sha256| !here(sha256)) {
            return Err(InvalidStates::Body(copied.file));
        }
        last = Some(copied.file.clone());
        files.push(copied);
    }
    if files.is_empty() && !chunk.is_last {
        return Err(invalid("files").into());
    }
    let (partings, is_last) = (cursors(chunk.partings)?, chunk.is_last);
    let copied = Copied { files, bodies, absent, partings, is_last };
    Ok(IncomingStates { after, vector, copied })
}

/// As the database orders files: by bytes.
fn key_of(file: &FileId) -> (&str, &str) {
    (file.realm.as_str(), file.name.as_str())
}

fn check_file(
    file: proto::CopiedFile,
    logs: &[Log],
    key: &DeploymentKey,
) -> Result<CopiedFile, InvalidStates> {
    let id = file_id(&file.realm, &file.name)?;
    let state: FileState = decode_state(&file.state).map_err(|_| invalid("state"))?;
    let count = state.heads().len();
    if file.heads.len() != count || count > SNAPSHOT_HEADS_MAX {
        return Err(InvalidStates::Head(id));
    }
    let mut heads = Vec::with_capacity(count);
    for (copied, head) in file.heads.into_iter().zip(state.heads()) {
        let checked = check_head(copied, logs)?;
        if !is_that(&checked, head, &id, (state.generation(), key)) {
            return Err(InvalidStates::Head(id));
        }
        heads.push(checked);
    }
    Ok(CopiedFile { file: id, state, heads })
}

fn check_head(copied: proto::CopiedHead, logs: &[Log]) -> Result<CopiedHead, InvalidMessage> {
    let log = usize::try_from(copied.log).ok().and_then(|place| logs.get(place));
    let proto::Entry { envelope, payload } = copied.record.ok_or(invalid("record"))?;
    Ok(CopiedHead {
        log: log.ok_or(invalid("head.log"))?.clone(),
        sequence: copied.sequence,
        chain: replication::chain(&copied.chain, "head.chain")?,
        raw: RawRecord { envelope, payload },
    })
}

/// Whether a record says what the state says of its head.
fn is_that(
    copied: &CopiedHead,
    head: &Head,
    file: &FileId,
    (generation, key): (u64, &DeploymentKey),
) -> bool {
    let Some(payload) = &copied.raw.payload else { return false };
    let read = (decode_envelope(&copied.raw.envelope), decode_version(payload));
    let (Ok(envelope), Ok(version)) = read else { return false };
    copied.log.id == head.dot.log
        && copied.sequence == head.dot.sequence
        && envelope.payload == Sha256::of(payload)
        && envelope.subject == Some(key.subject_hash(file.subject()))
        && (envelope.generation, envelope.kind) == (generation, version.kind())
        && (&version.file, version.stamp, version.body) == (file, head.stamp, head.body)
}

/// Asks a peer for the next portion.
pub(crate) async fn fetch(channel: Channel, fetch: Fetch) -> Result<Portion, FetchError> {
    let mut client =
        ReplicationServiceClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let half = match &fetch {
        Fetch::States { .. } => Half::States,
        Fetch::Records { .. } => Half::Records,
    };
    let asked = async {
        match fetch {
            Fetch::States { after } => {
                let (after_realm, after_name) = after
                    .as_ref()
                    .map_or_else(Default::default, |f| (f.realm.to_string(), f.name.to_string()));
                let request = proto::GetStatesRequest { after_realm, after_name };
                let response = client.get_states(request).await?.into_inner();
                let chunk = decode_chunk(response)?;
                Ok(Portion::States { after, chunk })
            }
            Fetch::Records { from } => {
                let request = proto::GetRecordsRequest { from: Some((&from).into()) };
                let response = client.get_records(request).await?.into_inner();
                match response.answer.ok_or(invalid("answer"))? {
                    Answer::Batch(batch) => Ok(Portion::Records { from, batch }),
                    Answer::Refusal(refusal) => {
                        let parted = refusal.reason() == Reason::Fork;
                        Err(FetchError { text: refusal.text, parted })
                    }
                }
            }
        }
    };
    let silent =
        |_| FetchError { text: "no word from the peer for too long".to_owned(), parted: false };
    let result = timeout(ANSWER, asked).await.map_err(silent).flatten();
    metrics::fetched(half, result.is_ok());
    result
}

/// Answers a peer that takes a snapshot.
pub(crate) async fn answer_states<S: Store>(
    store: &S,
    request: &proto::GetStatesRequest,
) -> Result<proto::GetStatesResponse, Status> {
    let after = after(&request.after_realm, &request.after_name).map_err(|error| bad(&error))?;
    let chunk = states(store, after.as_ref()).await.map_err(|error| unavailable(&error))?;
    metrics::supplied(Half::States);
    Ok(encode_chunk(&chunk))
}

/// Answers a peer that fills its history in.
pub(crate) async fn answer_records<S: Store>(
    store: &S,
    request: proto::GetRecordsRequest,
) -> Result<proto::GetRecordsResponse, Status> {
    let from = request
        .from
        .ok_or(invalid("from"))
        .and_then(Cursor::try_from)
        .map_err(|error| bad(&error))?;
    let answer = match records(store, &from).await.map_err(|error| unavailable(&error))? {
        Ok(batch) => {
            metrics::supplied(Half::Records);
            Answer::Batch(batch)
        }
        Err(reason) => {
            let (text, wanted) = (why_not(&from, reason), Some((&from).into()));
            Answer::Refusal(proto::Refusal { wanted, reason: reason.into(), text })
        }
    };
    Ok(proto::GetRecordsResponse { answer: Some(answer) })
}

/// Why records after a place are not supplied, for people.
pub fn why_not(from: &Cursor, reason: Reason) -> String {
    let Cursor { log, sequence, .. } = from;
    match reason {
        Reason::Fork => format!("{} has another record here at {sequence}: it forked", log.id),
        _ => format!("{} is not here after {sequence}", log.id),
    }
}

fn bad(error: &InvalidMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unavailable(error: &StoreError) -> Status {
    if !matches!(error, StoreError::StatesIncomplete) {
        tracing::warn!(%error, "a peer's snapshot waits");
    }
    Status::unavailable("it cannot tell now")
}

impl From<InvalidMessage> for FetchError {
    fn from(error: InvalidMessage) -> Self {
        Self { text: format!("the peer sent what is not understood: {error}"), parted: false }
    }
}

impl From<Status> for FetchError {
    fn from(status: Status) -> Self {
        let text = match status.code() {
            Code::Unimplemented => "its release cannot supply a snapshot".to_owned(),
            _ => format!("the peer says: {}", status.message()),
        };
        Self { text, parted: false }
    }
}
