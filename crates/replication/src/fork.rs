//! A log that forked is set back to where its branches part: found by comparing chains with the peer.

use std::time::Duration;

use bruri_domain::{
    Chain, Cursor, Log, LogId,
    fork::{Parting, Search},
    limits::{FORK_PROBES_MAX, PEER_HANDSHAKE_SECONDS_MAX},
};
use bruri_store::{Store, StoreError};
use bruri_wire::{
    proto::replication::v1::{self as proto, replication_service_client::ReplicationServiceClient},
    replication::{self, InvalidMessage, invalid},
};
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

const ANSWER: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);

/// Why a log was not set back; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error("the peer says: {0}")]
    Status(#[from] Status),
    #[error("no word from the peer for too long")]
    Silent,
    #[error("the log was moved meanwhile")]
    Moved,
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares our branch of a log with the peer's and sets ours back to the last place that both have.
pub(crate) async fn settle(
    store: &Store,
    channel: Channel,
    log: &LogId,
) -> Result<(), SettleError> {
    // Without all their records the files that a branch touched cannot be made anew.
    store.give_snapshot_up().await?;
    let ours = end_of(store, log).await?;
    let mut search = Search::within(ours.sequence);
    let mut forked_at = None;
    loop {
        let probes = search.probes();
        if probes.is_empty() {
            break;
        }
        let theirs = chains_of(channel.clone(), &ours.log, &probes).await?;
        let mut compared = Vec::with_capacity(probes.len());
        for (sequence, theirs) in probes.into_iter().zip(theirs) {
            let agrees = theirs == Some(chain_at(store, &ours.log, sequence).await?);
            if let Some(theirs) = theirs.filter(|_| !agrees) {
                let is_earlier = forked_at.is_none_or(|(at, _)| sequence < at);
                forked_at = if is_earlier { Some((sequence, theirs)) } else { forked_at };
            }
            compared.push((sequence, agrees));
        }
        search.narrow(compared);
    }
    let sequence = search.common();
    // A branch that has only ended there is no other branch: what ours has beyond may be nowhere else.
    if let Some((at, stays)) = forked_at.filter(|(at, _)| Some(*at) == sequence.checked_add(1)) {
        tracing::debug!(log = %ours.log.id, at, "here the branches part");
        let chain = chain_at(store, &ours.log, sequence).await?;
        let common = Cursor { log: ours.log, sequence, chain };
        store.set_back(&Parting { common, stays }).await?;
    }
    Ok(())
}

async fn end_of(store: &Store, log: &LogId) -> Result<Cursor, SettleError> {
    let vector = store.vector().await?;
    let ours = vector.into_iter().find(|cursor| cursor.log.id == *log);
    ours.ok_or(SettleError::Moved)
}

async fn chain_at(store: &Store, log: &Log, sequence: u64) -> Result<Chain, SettleError> {
    let place = Cursor { sequence, ..Cursor::at_beginning(log.clone()) };
    store.chain_at(&place).await?.ok_or(SettleError::Moved)
}

/// The peer's chains at these places; none where its branch is not so long.
async fn chains_of(
    channel: Channel,
    log: &Log,
    sequences: &[u64],
) -> Result<Vec<Option<Chain>>, SettleError> {
    let request = proto::GetChainsRequest { log: Some(log.into()), sequences: sequences.to_vec() };
    let mut client = ReplicationServiceClient::new(channel);
    let answer = timeout(ANSWER, client.get_chains(request));
    let chains = answer.await.map_err(|_| SettleError::Silent)??.into_inner().chains;
    if chains.len() != sequences.len() {
        return Err(invalid("chains").into());
    }
    let read = |chain: Vec<u8>| {
        let is_there = !chain.is_empty();
        is_there.then(|| replication::chain(&chain, "chains")).transpose()
    };
    Ok(chains.into_iter().map(read).collect::<Result<_, _>>()?)
}

/// Answers a peer that compares its branch of a log with ours.
///
/// # Errors
/// `INVALID_ARGUMENT` for a request beyond its bounds, `UNAVAILABLE` where the store does not answer.
pub(crate) async fn chains(
    store: &Store,
    request: proto::GetChainsRequest,
) -> Result<proto::GetChainsResponse, Status> {
    if !u64::try_from(request.sequences.len()).is_ok_and(|count| count <= FORK_PROBES_MAX) {
        return Err(Status::invalid_argument(format!("more than {FORK_PROBES_MAX} sequences")));
    }
    let log = request.log.ok_or(invalid("log")).and_then(Log::try_from);
    let log = log.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut chains = Vec::with_capacity(request.sequences.len());
    for sequence in request.sequences {
        let place = Cursor { sequence, ..Cursor::at_beginning(log.clone()) };
        let chain = store.chain_at(&place).await.map_err(|error| {
            tracing::warn!(log = %log.id, %error, "cannot tell a peer the chain of a log");
            Status::unavailable("its database does not answer")
        })?;
        chains.push(chain.map(|chain| chain.0.as_bytes().to_vec()).unwrap_or_default());
    }
    Ok(proto::GetChainsResponse { chains })
}
