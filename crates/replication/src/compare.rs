//! Compares what two sites serve, and has the files in which they differ made anew from their records on both sides.
//!
//! Where two sites have applied the same records they must serve the same (law 4). The asker sends its vector and the
//! hash over its digest; an equal peer says so in a few bytes, another one sends its buckets, and the files of those
//! that differ are then made anew on both sides. Nothing is merged and no state travels (decision 14).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::{
    Digest, FileId, FileName, RealmId, Sha256, digest,
    limits::{
        COMPARE_AGAIN_MILLIS, COMPARE_AGAIN_SECONDS_MAX, COMPARE_ANSWER_SECONDS_MAX,
        COMPARED_BUCKETS_MAX, COMPARED_FILES_MAX, COMPARING_SECONDS_MAX, DAMAGED_FILES_MAX,
        DIGEST_BUCKETS, PEER_MESSAGE_BYTES_MAX,
    },
};
use bruri_store::{Proof, Store, StoreError};
use bruri_wire::{
    proto::replication::v1::{
        self as proto, get_digest_response::Outcome,
        replication_service_client::ReplicationServiceClient,
    },
    replication::{InvalidMessage, cursors, invalid},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, transport::Channel};

const AGAIN: Duration = Duration::from_millis(COMPARE_AGAIN_MILLIS);
const AGAIN_MAX: Duration = Duration::from_secs(COMPARE_AGAIN_SECONDS_MAX);
const ANSWER: Duration = Duration::from_secs(COMPARE_ANSWER_SECONDS_MAX);
const COMPARING: Duration = Duration::from_secs(COMPARING_SECONDS_MAX);

/// How a peer stands to this site.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Whether both serve the same; none where they did not become level in time.
    pub equal: Option<bool>,
    /// Files whose states were made anew on either side.
    pub repaired: u64,
    /// Files in which the two differ all the same; at most 256.
    pub differing: Vec<FileId>,
    /// Bodies that the peer knows to lack or to have damaged.
    pub damaged_bodies: u64,
}

/// Why two sites could not be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error("the peer says: {0}")]
    Status(#[from] Status),
    #[error("no word from the peer for too long")]
    Silent,
    #[error("the peer's release sums up its files in another way")]
    Version,
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares until both have the same records, repairs, and compares again.
pub(crate) async fn compare(store: &Store, channel: Channel) -> Result<Compared, CompareError> {
    let began = Instant::now();
    let mut client =
        ReplicationServiceClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let (mut compared, mut is_settled) = (Compared::default(), false);
    let mut pause = AGAIN;
    loop {
        let (ours, repaired) = whole(store).await?;
        let told = ask(&mut client, &ours).await?;
        compared.damaged_bodies = told.damaged_bodies;
        compared.repaired =
            compared.repaired.saturating_add(repaired).saturating_add(told.repaired_files);
        match told.outcome() {
            Outcome::Equal => {
                let is_whole = ours.damaged.is_empty();
                return Ok(Compared { equal: Some(is_whole), differing: ours.damaged, ..compared });
            }
            Outcome::Different if !is_settled => {
                is_settled = true;
                let theirs = Digest::from_bytes(&told.buckets).ok_or(invalid("buckets"))?;
                let buckets = ours.digest.differing(&theirs);
                settle(store, &mut client, &buckets, &mut compared).await?;
            }
            Outcome::Different => return Ok(Compared { equal: Some(false), ..compared }),
            Outcome::OtherRecords if began.elapsed() < COMPARING => {
                // Each try reads all files: on a site that is written to all the time they become few.
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(AGAIN_MAX);
            }
            Outcome::OtherRecords => return Ok(compared),
            Outcome::OtherVersion => return Err(CompareError::Version),
            Outcome::Unspecified => return Err(invalid("outcome").into()),
        }
    }
}

/// This site's files summed up, damaged rows made anew before; and how many these were.
async fn whole(store: &Store) -> Result<(Proof, u64), StoreError> {
    let proof = store.proof().await?;
    if proof.damaged.is_empty() {
        return Ok((proof, 0));
    }
    let mended = store.mend_all(&proof.damaged).await?;
    Ok((store.proof().await?, mended.files.len() as u64))
}

type Client = ReplicationServiceClient<Channel>;

async fn ask(client: &mut Client, ours: &Proof) -> Result<proto::GetDigestResponse, CompareError> {
    let request = proto::GetDigestRequest {
        version: digest::VERSION,
        vector: ours.vector.iter().map(Into::into).collect(),
        root: ours.digest.root().as_bytes().to_vec(),
    };
    let answer = timeout(ANSWER, client.get_digest(request)).await;
    Ok(answer.map_err(|_| CompareError::Silent)??.into_inner())
}

/// Makes the files of these buckets anew on both sides, and notes in which they differ still.
async fn settle(
    store: &Store,
    client: &mut Client,
    buckets: &[u16],
    compared: &mut Compared,
) -> Result<(), CompareError> {
    for some in buckets.chunks(COMPARED_BUCKETS_MAX) {
        let ours = store.remade(some).await?.ok_or(invalid("files"))?;
        let request =
            proto::GetFileDigestsRequest { buckets: some.iter().copied().map(u32::from).collect() };
        let answer = timeout(ANSWER, client.get_file_digests(request)).await;
        let answer = answer.map_err(|_| CompareError::Silent)??.into_inner();
        let repaired = ours.repaired.saturating_add(answer.repaired_files);
        compared.repaired = compared.repaired.saturating_add(repaired);
        let theirs = files_of(answer.files)?;
        let all: BTreeSet<&FileId> = ours.files.keys().chain(theirs.keys()).collect();
        let differ = all.into_iter().filter(|file| ours.files.get(*file) != theirs.get(*file));
        let room = DAMAGED_FILES_MAX.saturating_sub(compared.differing.len());
        compared.differing.extend(differ.take(room).cloned());
    }
    Ok(())
}

fn files_of(files: Vec<proto::FileDigest>) -> Result<BTreeMap<FileId, Sha256>, InvalidMessage> {
    if files.len() > COMPARED_FILES_MAX {
        return Err(invalid("files"));
    }
    let read = |file: proto::FileDigest| {
        let realm = RealmId::parse(&file.realm).map_err(|_| invalid("files.realm"))?;
        let name = FileName::parse(&file.file_name).map_err(|_| invalid("files.file_name"))?;
        let sha256 = Sha256::from_slice(&file.sha256).ok_or(invalid("files.sha256"))?;
        Ok((FileId { realm, name }, sha256))
    };
    files.into_iter().map(read).collect()
}

/// Answers a peer that compares itself with this site.
pub(crate) async fn tell(
    store: &Store,
    request: proto::GetDigestRequest,
) -> Result<proto::GetDigestResponse, Status> {
    let only = |outcome: Outcome| proto::GetDigestResponse {
        outcome: outcome.into(),
        ..proto::GetDigestResponse::default()
    };
    if request.version != digest::VERSION {
        return Ok(only(Outcome::OtherVersion));
    }
    let theirs = cursors(request.vector).map_err(|error| garbled(&error))?;
    let root = Sha256::from_slice(&request.root).ok_or_else(|| garbled(&invalid("root")))?;
    // Before all files are read for nothing.
    if store.compared_vector().await.map_err(unavailable)? != theirs {
        return Ok(only(Outcome::OtherRecords));
    }
    let (ours, repaired_files) = whole(store).await.map_err(unavailable)?;
    let damaged_bodies = store.damaged_bodies().await.map_err(unavailable)?;
    let outcome = if ours.vector != theirs {
        Outcome::OtherRecords
    } else if ours.digest.root() == root && ours.damaged.is_empty() {
        Outcome::Equal
    } else {
        Outcome::Different
    };
    let is_different = outcome == Outcome::Different;
    let buckets = if is_different { ours.digest.to_bytes() } else { Vec::new() };
    Ok(proto::GetDigestResponse { buckets, damaged_bodies, repaired_files, ..only(outcome) })
}

/// Answers a peer that found buckets in which it differs from this site.
pub(crate) async fn tell_files(
    store: &Store,
    request: proto::GetFileDigestsRequest,
) -> Result<proto::GetFileDigestsResponse, Status> {
    let bucket = |bucket: u32| u16::try_from(bucket).ok();
    let buckets: Option<Vec<u16>> = request.buckets.into_iter().map(bucket).collect();
    let buckets = buckets.filter(|buckets| buckets.len() <= COMPARED_BUCKETS_MAX);
    let buckets = buckets.ok_or_else(|| {
        let expected = format!("at most {COMPARED_BUCKETS_MAX} buckets below {DIGEST_BUCKETS}");
        Status::invalid_argument(expected)
    })?;
    let remade = store.remade(&buckets).await.map_err(unavailable)?;
    let remade = remade.ok_or_else(|| Status::resource_exhausted("too many files"))?;
    let file = |(file, sha256): (FileId, Sha256)| proto::FileDigest {
        realm: file.realm.to_string(),
        file_name: file.name.to_string(),
        sha256: sha256.as_bytes().to_vec(),
    };
    let files = remade.files.into_iter().map(file).collect();
    Ok(proto::GetFileDigestsResponse { files, repaired_files: remade.repaired })
}

fn garbled(error: &InvalidMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unavailable(error: StoreError) -> Status {
    tracing::warn!(%error, "cannot tell a peer what is here");
    Status::unavailable("its database does not answer")
}
