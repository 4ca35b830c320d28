//! Records and file states between their bytes and the domain.
//!
//! Envelope and payload are opaque once encoded: stored, hashed and forwarded verbatim, and decoded on a
//! copy, because prost drops fields that it does not know.

use bruri_domain::{
    Author, Body, Context, DeploymentKey, Dot, Envelope, Epoch, FileId, FileName, FileState, Head,
    LogId, Phone, RealmId, RecordKind, Sha256, SiteName, Stamp, Version,
    limits::{
        CONTEXT_DOTS_MAX, CONTEXT_LOGS_MAX, ENVELOPE_BYTES_MAX, FILE_BYTES_MAX, OPERATOR_BYTES_MAX,
        PAYLOAD_BYTES_MAX,
    },
};
use prost::{Message as _, bytes::Bytes};

use crate::proto::record::v1 as proto;

/// A record as its origin wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawRecord {
    /// An encoded `bruri.record.v1.Envelope`.
    pub envelope: Bytes,
    /// What the envelope's hash names; none where it was erased.
    pub payload: Option<Bytes>,
}

/// Why bytes are no record, or none that this release accepts.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRecord {
    /// Not protobuf of the expected message.
    #[error("{message} cannot be decoded")]
    Undecodable {
        /// The message expected.
        message: &'static str,
    },
    /// A field holds what it must not.
    #[error("field {field} is missing or out of bounds")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// More bytes than any origin writes.
    #[error("{message} has more than {bytes_max} bytes")]
    TooLarge {
        /// The message.
        message: &'static str,
        /// The bound.
        bytes_max: usize,
    },
}

pub(crate) fn field(field: &'static str) -> InvalidRecord {
    InvalidRecord::Field { field }
}

/// Encodes a version and the envelope around it.
pub fn encode_version(version: &Version, generation: u64, key: &DeploymentKey) -> RawRecord {
    let payload = proto::Version::from(version).encode_to_vec();
    let envelope = Envelope {
        kind: version.kind(),
        subject: Some(key.subject_hash(version.file.subject())),
        generation,
        payload: Sha256::of(&payload),
    };
    RawRecord { envelope: encode_envelope(&envelope), payload: Some(payload.into()) }
}

/// Encodes an envelope.
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    let message = proto::Envelope {
        kind: kind_number(envelope.kind),
        subject: envelope.subject.map(|subject| subject.as_bytes().to_vec()).unwrap_or_default(),
        generation: envelope.generation,
        payload_sha256: envelope.payload.as_bytes().to_vec(),
    };
    message.encode_to_vec().into()
}

/// Reads an envelope.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, InvalidRecord> {
    let envelope: proto::Envelope = decode(bytes, "envelope", ENVELOPE_BYTES_MAX)?;
    let subject = match envelope.subject.as_slice() {
        [] => None,
        bytes => Some(Sha256::from_slice(bytes).ok_or(field("envelope.subject"))?),
    };
    let payload = Sha256::from_slice(&envelope.payload_sha256);
    Ok(Envelope {
        kind: kind(envelope.kind).ok_or(field("envelope.kind"))?,
        subject,
        generation: envelope.generation,
        payload: payload.ok_or(field("envelope.payload_sha256"))?,
    })
}

/// Reads the payload of a backup or a deletion.
pub fn decode_version(bytes: &[u8]) -> Result<Version, InvalidRecord> {
    decode::<proto::Version>(bytes, "payload", PAYLOAD_BYTES_MAX)?.try_into()
}

/// Encodes a context by itself, as a site keeps it for a phone.
pub fn encode_context(context: &Context) -> Vec<u8> {
    proto::Context::from(context).encode_to_vec()
}

/// Reads a context that is within the bounds of a record.
pub fn decode_context(bytes: &[u8]) -> Result<Context, InvalidRecord> {
    context(decode(bytes, "context", PAYLOAD_BYTES_MAX)?, OF_A_RECORD)
}

/// Encodes a file's state.
pub fn encode_state(state: &FileState) -> Vec<u8> {
    proto::FileState {
        generation: state.generation(),
        heads: state.heads().iter().map(Into::into).collect(),
        context: Some(state.context().into()),
    }
    .encode_to_vec()
}

/// Reads a file's state.
pub fn decode_state(bytes: &[u8]) -> Result<FileState, InvalidRecord> {
    let state: proto::FileState = decode(bytes, "file state", usize::MAX)?;
    let heads = state.heads.into_iter().map(Head::try_from).collect::<Result<_, _>>()?;
    let context = state.context.map_or(Ok(Context::default()), |c| context(c, UNBOUNDED))?;
    Ok(FileState::from_parts(state.generation, heads, context))
}

pub(crate) fn decode<M: prost::Message + Default>(
    bytes: &[u8],
    message: &'static str,
    bytes_max: usize,
) -> Result<M, InvalidRecord> {
    if bytes.len() > bytes_max {
        return Err(InvalidRecord::TooLarge { message, bytes_max });
    }
    M::decode(bytes).map_err(|_| InvalidRecord::Undecodable { message })
}

/// A kind as envelopes name it.
pub fn kind_number(kind: RecordKind) -> i32 {
    match kind {
        RecordKind::Backup => proto::RecordKind::Backup.into(),
        RecordKind::Deletion => proto::RecordKind::Deletion.into(),
        RecordKind::Erasure => proto::RecordKind::Erasure.into(),
        RecordKind::Lift => proto::RecordKind::Lift.into(),
        RecordKind::Receipt => proto::RecordKind::Receipt.into(),
        RecordKind::Member => proto::RecordKind::Member.into(),
        RecordKind::Realm => proto::RecordKind::Realm.into(),
        RecordKind::Release => proto::RecordKind::Release.into(),
        RecordKind::Branch => proto::RecordKind::Branch.into(),
        RecordKind::Unknown(number) => number,
    }
}

fn kind(number: i32) -> Option<RecordKind> {
    match proto::RecordKind::try_from(number) {
        Ok(proto::RecordKind::Unspecified) => None,
        Ok(proto::RecordKind::Backup) => Some(RecordKind::Backup),
        Ok(proto::RecordKind::Deletion) => Some(RecordKind::Deletion),
        Ok(proto::RecordKind::Erasure) => Some(RecordKind::Erasure),
        Ok(proto::RecordKind::Lift) => Some(RecordKind::Lift),
        Ok(proto::RecordKind::Receipt) => Some(RecordKind::Receipt),
        Ok(proto::RecordKind::Member) => Some(RecordKind::Member),
        Ok(proto::RecordKind::Realm) => Some(RecordKind::Realm),
        Ok(proto::RecordKind::Release) => Some(RecordKind::Release),
        Ok(proto::RecordKind::Branch) => Some(RecordKind::Branch),
        Err(_) => Some(RecordKind::Unknown(number)),
    }
}

impl From<&Version> for proto::Version {
    fn from(version: &Version) -> Self {
        Self {
            random: version.random.to_vec(),
            stamp: Some(version.stamp.into()),
            realm: version.file.realm.to_string(),
            file_name: version.file.name.to_string(),
            context: Some((&version.context).into()),
            body: version.body.map(Into::into),
            suspect: version.suspect,
            author: author_message(&version.author),
        }
    }
}

impl TryFrom<proto::Version> for Version {
    type Error = InvalidRecord;

    fn try_from(version: proto::Version) -> Result<Self, InvalidRecord> {
        let stamp = version.stamp.ok_or(field("version.stamp"))?;
        Ok(Self {
            random: version.random.try_into().map_err(|_| field("version.random"))?,
            stamp: stamp.into(),
            file: FileId {
                realm: RealmId::parse(&version.realm).map_err(|_| field("version.realm"))?,
                name: canonical(&version.file_name).ok_or(field("version.file_name"))?,
            },
            context: context(version.context.unwrap_or_default(), OF_A_RECORD)?,
            body: version.body.map(Body::try_from).transpose()?,
            suspect: version.suspect,
            author: author(version.author)?,
        })
    }
}

/// Only canonical names are written, so another spelling would be a second file of the same name.
fn canonical(name: &str) -> Option<FileName> {
    FileName::parse(name).ok().filter(|parsed| parsed.as_str() == name)
}

fn author_message(author: &Author) -> Option<proto::version::Author> {
    use proto::version::Author as Message;
    match author {
        Author::Phone(phone) => Some(Message::Phone(proto::Phone {
            address: phone.address.to_string(),
            mac: phone.mac.clone().unwrap_or_default(),
            user_agent: phone.user_agent.clone(),
        })),
        Author::Operator { name, restored } => Some(Message::Operator(proto::Operator {
            name: name.clone(),
            restored: restored.as_ref().map(Into::into),
        })),
        Author::Merge { operator, heads } => Some(Message::Merge(proto::Merge {
            operator: operator.clone(),
            heads: heads.iter().map(Into::into).collect(),
        })),
        Author::Unknown => None,
    }
}

fn author(message: Option<proto::version::Author>) -> Result<Author, InvalidRecord> {
    use proto::version::Author as Message;
    Ok(match message {
        Some(Message::Phone(phone)) => {
            let address = phone.address.parse().map_err(|_| field("phone.address"))?;
            // Reading the User-Agent anew bounds it and tells the MAC.
            Author::Phone(Phone::new(address, phone.user_agent.as_bytes()))
        }
        Some(Message::Operator(operator)) => Author::Operator {
            name: bounded_name(operator.name, "operator.name")?,
            restored: operator.restored.map(Dot::try_from).transpose()?,
        },
        Some(Message::Merge(merge)) => Author::Merge {
            operator: bounded_name(merge.operator, "merge.operator")?,
            heads: merge.heads.into_iter().map(Dot::try_from).collect::<Result<_, _>>()?,
        },
        None => Author::Unknown,
    })
}

pub(crate) fn bounded_name(name: String, what: &'static str) -> Result<String, InvalidRecord> {
    if name.len() > OPERATOR_BYTES_MAX { Err(field(what)) } else { Ok(name) }
}

impl From<Stamp> for proto::Stamp {
    fn from(stamp: Stamp) -> Self {
        Self { micros: stamp.micros, trusted: stamp.trusted }
    }
}

impl From<proto::Stamp> for Stamp {
    fn from(stamp: proto::Stamp) -> Self {
        Self { micros: stamp.micros, trusted: stamp.trusted }
    }
}

impl From<Body> for proto::Body {
    fn from(body: Body) -> Self {
        Self { sha256: body.sha256.as_bytes().to_vec(), bytes: body.bytes }
    }
}

impl TryFrom<proto::Body> for Body {
    type Error = InvalidRecord;

    fn try_from(body: proto::Body) -> Result<Self, InvalidRecord> {
        if body.bytes > FILE_BYTES_MAX as u64 {
            return Err(field("body.bytes"));
        }
        let sha256 = Sha256::from_slice(&body.sha256).ok_or(field("body.sha256"))?;
        Ok(Self { sha256, bytes: body.bytes })
    }
}

impl From<&Dot> for proto::Dot {
    fn from(dot: &Dot) -> Self {
        Self { site: dot.log.site.to_string(), epoch: dot.log.epoch.0, sequence: dot.sequence }
    }
}

impl TryFrom<proto::Dot> for Dot {
    type Error = InvalidRecord;

    fn try_from(dot: proto::Dot) -> Result<Self, InvalidRecord> {
        if dot.sequence == 0 {
            return Err(field("dot.sequence"));
        }
        Ok(Self { log: log_id(&dot.site, dot.epoch)?, sequence: dot.sequence })
    }
}

fn log_id(site: &str, epoch: u64) -> Result<LogId, InvalidRecord> {
    let site = SiteName::parse(site).map_err(|_| field("site"))?;
    Ok(LogId { site, epoch: Epoch(epoch) })
}

impl From<&Head> for proto::Head {
    fn from(head: &Head) -> Self {
        Self {
            dot: Some((&head.dot).into()),
            stamp: Some(head.stamp.into()),
            body: head.body.map(Into::into),
            suspect: head.suspect,
        }
    }
}

impl TryFrom<proto::Head> for Head {
    type Error = InvalidRecord;

    fn try_from(head: proto::Head) -> Result<Self, InvalidRecord> {
        Ok(Self {
            dot: head.dot.ok_or(field("head.dot"))?.try_into()?,
            stamp: head.stamp.ok_or(field("head.stamp"))?.into(),
            body: head.body.map(Body::try_from).transpose()?,
            suspect: head.suspect,
        })
    }
}

impl From<&Context> for proto::Context {
    fn from(context: &Context) -> Self {
        let logs = context.logs().map(|(log, seen)| proto::LogContext {
            site: log.site.to_string(),
            epoch: log.epoch.0,
            upto: seen.upto(),
            dots: seen.dots().collect(),
        });
        Self { logs: logs.collect() }
    }
}

/// How much of a context is believed.
#[derive(Clone, Copy)]
pub(crate) struct ContextBounds {
    logs_max: usize,
    dots_max: usize,
}

/// Every origin keeps these.
pub(crate) const OF_A_RECORD: ContextBounds =
    ContextBounds { logs_max: CONTEXT_LOGS_MAX, dots_max: CONTEXT_DOTS_MAX };

/// A state is a union of bounded contexts that this site made itself.
const UNBOUNDED: ContextBounds = ContextBounds { logs_max: usize::MAX, dots_max: usize::MAX };

pub(crate) fn context(
    message: proto::Context,
    bounds: ContextBounds,
) -> Result<Context, InvalidRecord> {
    if message.logs.len() > bounds.logs_max {
        return Err(field("context.logs"));
    }
    let dots = message.logs.iter().fold(0_usize, |sum, log| sum.saturating_add(log.dots.len()));
    if dots > bounds.dots_max {
        return Err(field("context.dots"));
    }
    let mut context = Context::default();
    for log in message.logs {
        let id = log_id(&log.site, log.epoch)?;
        for sequence in log.dots.into_iter().filter(|sequence| *sequence > 0) {
            context.add(&Dot { log: id.clone(), sequence });
        }
        context.raise_to(&Dot { log: id, sequence: log.upto });
    }
    Ok(context)
}
