//! Cursors and logs between sites.

use bruri_domain::{
    Chain, Cursor, Dot, Epoch, Log, LogId, LogKind, Predecessor, Sha256, SiteName,
    limits::CURSORS_MAX,
};

use prost::Message as _;

use crate::proto::replication::v1 as proto;

/// Why a message of a peer is not understood.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("field {field} is missing or out of bounds")]
pub struct InvalidMessage {
    /// The field.
    pub field: &'static str,
}

/// An error about a field.
pub fn invalid(field: &'static str) -> InvalidMessage {
    InvalidMessage { field }
}

impl From<&Log> for proto::Log {
    fn from(log: &Log) -> Self {
        let kind = match log.kind {
            LogKind::Control => proto::LogKind::Control,
            LogKind::Files => proto::LogKind::Files,
        };
        Self {
            site: log.id.site.to_string(),
            epoch: log.id.epoch.0,
            kind: kind.into(),
            predecessor: log.predecessor.as_ref().map(|predecessor| proto::Predecessor {
                epoch: predecessor.epoch.0,
                sequence: predecessor.sequence,
                chain: predecessor.chain.0.as_bytes().to_vec(),
            }),
        }
    }
}

impl TryFrom<proto::Log> for Log {
    type Error = InvalidMessage;

    fn try_from(log: proto::Log) -> Result<Self, InvalidMessage> {
        let kind = match log.kind() {
            proto::LogKind::Control => LogKind::Control,
            proto::LogKind::Files => LogKind::Files,
            proto::LogKind::Unspecified => return Err(invalid("log.kind")),
        };
        let site = SiteName::parse(&log.site).map_err(|_| invalid("log.site"))?;
        let id = LogId { site, epoch: Epoch(log.epoch) };
        let predecessor = log.predecessor.map(Predecessor::try_from).transpose()?;
        Ok(Self { id, kind, predecessor })
    }
}

impl TryFrom<proto::Predecessor> for Predecessor {
    type Error = InvalidMessage;

    fn try_from(predecessor: proto::Predecessor) -> Result<Self, InvalidMessage> {
        Ok(Self {
            epoch: Epoch(predecessor.epoch),
            sequence: predecessor.sequence,
            chain: chain(&predecessor.chain, "predecessor.chain")?,
        })
    }
}

impl From<&Cursor> for proto::Cursor {
    fn from(cursor: &Cursor) -> Self {
        Self {
            log: Some((&cursor.log).into()),
            sequence: cursor.sequence,
            chain: cursor.chain.0.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Cursor> for Cursor {
    type Error = InvalidMessage;

    fn try_from(cursor: proto::Cursor) -> Result<Self, InvalidMessage> {
        Ok(Self {
            log: cursor.log.ok_or(invalid("cursor.log"))?.try_into()?,
            sequence: cursor.sequence,
            chain: chain(&cursor.chain, "cursor.chain")?,
        })
    }
}

/// Reads a bounded list of cursors.
pub fn cursors(list: Vec<proto::Cursor>) -> Result<Vec<Cursor>, InvalidMessage> {
    if list.len() > CURSORS_MAX {
        return Err(invalid("cursors"));
    }
    list.into_iter().map(Cursor::try_from).collect()
}

impl From<&Dot> for proto::heartbeat::Told {
    fn from(dot: &Dot) -> Self {
        Self { epoch: dot.log.epoch.0, sequence: dot.sequence }
    }
}

/// Reads the numbers of a site's logs that phones elsewhere were answered with.
pub fn told(site: &SiteName, list: &[proto::heartbeat::Told]) -> Result<Vec<Dot>, InvalidMessage> {
    if list.len() > CURSORS_MAX {
        return Err(invalid("heartbeat.told"));
    }
    let dot = |told: &proto::heartbeat::Told| Dot {
        log: LogId { site: site.clone(), epoch: Epoch(told.epoch) },
        sequence: told.sequence,
    };
    Ok(list.iter().map(dot).collect())
}

/// A chunk of a snapshot as it is sent.
pub fn encode_chunk(chunk: &proto::StatesChunk) -> proto::GetStatesResponse {
    let chunk = chunk.encode_to_vec();
    let sha256 = Sha256::of(&chunk).as_bytes().to_vec();
    proto::GetStatesResponse { chunk: chunk.into(), sha256 }
}

/// Reads a chunk, if it is as it was sent.
///
/// # Errors
/// Where it is not, or is no chunk.
pub fn decode_chunk(
    response: proto::GetStatesResponse,
) -> Result<proto::StatesChunk, InvalidMessage> {
    if Sha256::of(&response.chunk).as_bytes() != response.sha256 {
        return Err(invalid("sha256"));
    }
    proto::StatesChunk::decode(response.chunk).map_err(|_| invalid("chunk"))
}

/// Reads a chain value.
pub fn chain(bytes: &[u8], field: &'static str) -> Result<Chain, InvalidMessage> {
    Sha256::from_slice(bytes).map(Chain).ok_or(invalid(field))
}

/// Bytes of what a consumer says, encoded.
pub fn request_bytes(request: proto::subscribe_request::Request) -> usize {
    proto::SubscribeRequest { request: Some(request) }.encoded_len()
}

/// Bytes of what a supplier says, encoded.
pub fn response_bytes(event: proto::subscribe_response::Event) -> usize {
    proto::SubscribeResponse { event: Some(event) }.encoded_len()
}
