//! Records that concern no file, between their bytes and the domain.

use bruri_domain::{
    Control, Envelope, Erasure, Lift, Random, Receipt, RecordKind, Sha256, Stamp,
    limits::{BARS_MAX, PAYLOAD_BYTES_MAX},
};
use prost::Message as _;

use crate::{
    proto::record::v1 as proto,
    realm::decode_change,
    record::{InvalidRecord, RawRecord, bounded_name, decode, encode_envelope, field},
};

/// Encodes a record that concerns this subject, by a writer that knows this generation of it.
pub fn encode_control(control: &Control, subject: Option<Sha256>, generation: u64) -> RawRecord {
    let (kind, payload) = match control {
        Control::Erasure(it) => (RecordKind::Erasure, proto::Erasure::from(it).encode_to_vec()),
        Control::Lift(it) => (RecordKind::Lift, proto::Lift::from(it).encode_to_vec()),
        Control::Receipt(it) => (RecordKind::Receipt, proto::Receipt::from(it).encode_to_vec()),
        Control::Member(it) => (RecordKind::Member, proto::Member::from(it).encode_to_vec()),
        Control::Realm(it) => (RecordKind::Realm, proto::RealmChange::from(it).encode_to_vec()),
        Control::Release(it) => (RecordKind::Release, proto::Release::from(it).encode_to_vec()),
        Control::Branch(it) => (RecordKind::Branch, proto::Branch::from(it).encode_to_vec()),
    };
    let envelope = Envelope { kind, subject, generation, payload: Sha256::of(&payload) };
    RawRecord { envelope: encode_envelope(&envelope), payload: Some(payload.into()) }
}

/// Reads the payload of a record that concerns no file; none where its kind is another one.
///
/// # Errors
/// Where the payload is not one of its kind, or its envelope lacks the subject that it concerns.
pub fn decode_control(
    envelope: &Envelope,
    payload: &[u8],
) -> Result<Option<Control>, InvalidRecord> {
    let control = match envelope.kind {
        RecordKind::Erasure => {
            let erasure: proto::Erasure = decode(payload, "erasure", PAYLOAD_BYTES_MAX)?;
            Control::Erasure(erasure.try_into()?)
        }
        RecordKind::Lift => {
            let lift: proto::Lift = decode(payload, "lift", PAYLOAD_BYTES_MAX)?;
            Control::Lift(lift.try_into()?)
        }
        RecordKind::Receipt => {
            let receipt: proto::Receipt = decode(payload, "receipt", PAYLOAD_BYTES_MAX)?;
            Control::Receipt(receipt.try_into()?)
        }
        // It concerns no subject that could be erased.
        RecordKind::Member => {
            let member: proto::Member = decode(payload, "member", PAYLOAD_BYTES_MAX)?;
            return Ok(Some(Control::Member(member.try_into()?)));
        }
        // It concerns no subject.
        RecordKind::Realm => return Ok(Some(Control::Realm(decode_change(payload)?))),
        RecordKind::Release => {
            let release: proto::Release = decode(payload, "release", PAYLOAD_BYTES_MAX)?;
            return Ok(Some(Control::Release(release.try_into()?)));
        }
        RecordKind::Branch => {
            let branch: proto::Branch = decode(payload, "branch", PAYLOAD_BYTES_MAX)?;
            return Ok(Some(Control::Branch(branch.try_into()?)));
        }
        RecordKind::Backup | RecordKind::Deletion | RecordKind::Unknown(_) => return Ok(None),
    };
    if envelope.subject.is_none() {
        return Err(field("envelope.subject"));
    }
    // The next one must have room in a signed column.
    if envelope.generation >= i64::MAX.unsigned_abs() {
        return Err(field("envelope.generation"));
    }
    Ok(Some(control))
}

pub(crate) fn random(bytes: &[u8], what: &'static str) -> Result<Random, InvalidRecord> {
    bytes.try_into().map_err(|_| field(what))
}

pub(crate) fn stamp(
    stamp: Option<proto::Stamp>,
    what: &'static str,
) -> Result<Stamp, InvalidRecord> {
    stamp.map(Stamp::from).ok_or(field(what))
}

impl From<&Erasure> for proto::Erasure {
    fn from(erasure: &Erasure) -> Self {
        Self {
            random: erasure.random.to_vec(),
            stamp: Some(erasure.stamp.into()),
            operator: erasure.operator.clone(),
        }
    }
}

impl TryFrom<proto::Erasure> for Erasure {
    type Error = InvalidRecord;

    fn try_from(erasure: proto::Erasure) -> Result<Self, InvalidRecord> {
        Ok(Self {
            random: random(&erasure.random, "erasure.random")?,
            stamp: stamp(erasure.stamp, "erasure.stamp")?,
            operator: bounded_name(erasure.operator, "erasure.operator")?,
        })
    }
}

impl From<&Lift> for proto::Lift {
    fn from(lift: &Lift) -> Self {
        Self {
            random: lift.random.to_vec(),
            stamp: Some(lift.stamp.into()),
            operator: lift.operator.clone(),
            erasures: lift.erasures.iter().map(|random| random.to_vec()).collect(),
        }
    }
}

impl TryFrom<proto::Lift> for Lift {
    type Error = InvalidRecord;

    fn try_from(lift: proto::Lift) -> Result<Self, InvalidRecord> {
        if lift.erasures.len() > BARS_MAX {
            return Err(field("lift.erasures"));
        }
        let erasures = lift.erasures.iter().map(|bytes| random(bytes, "lift.erasures"));
        Ok(Self {
            random: random(&lift.random, "lift.random")?,
            stamp: stamp(lift.stamp, "lift.stamp")?,
            operator: bounded_name(lift.operator, "lift.operator")?,
            erasures: erasures.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Receipt> for proto::Receipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            random: receipt.random.to_vec(),
            stamp: Some(receipt.stamp.into()),
            erasure: receipt.erasure.to_vec(),
            versions: receipt.versions,
            bodies: receipt.bodies,
        }
    }
}

impl TryFrom<proto::Receipt> for Receipt {
    type Error = InvalidRecord;

    fn try_from(receipt: proto::Receipt) -> Result<Self, InvalidRecord> {
        Ok(Self {
            random: random(&receipt.random, "receipt.random")?,
            stamp: stamp(receipt.stamp, "receipt.stamp")?,
            erasure: random(&receipt.erasure, "receipt.erasure")?,
            versions: receipt.versions,
            bodies: receipt.bodies,
        })
    }
}
