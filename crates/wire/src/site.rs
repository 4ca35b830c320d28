//! What a site says of itself in its control log, between its bytes and the domain: its release, and where a log of
//! its own forked.

use std::collections::BTreeSet;

use bruri_domain::{
    Chain, Epoch, LogKind, Predecessor, Release, Sha256,
    fork::Branch,
    limits::{KINDS_MAX, RELEASE_BYTES_MAX},
};

use crate::{
    control::{random, stamp},
    proto::record::v1 as proto,
    record::{InvalidRecord, field},
};

impl From<&Release> for proto::Release {
    fn from(release: &Release) -> Self {
        Self {
            random: release.random.to_vec(),
            stamp: Some(release.stamp.into()),
            release: release.release.clone(),
            known_kinds: release.kinds.iter().copied().collect(),
        }
    }
}

impl TryFrom<proto::Release> for Release {
    type Error = InvalidRecord;

    fn try_from(release: proto::Release) -> Result<Self, InvalidRecord> {
        let text = release.release;
        if text.len() > RELEASE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(field("release.release"));
        }
        let kinds: BTreeSet<i32> = release.known_kinds.into_iter().collect();
        if kinds.len() > KINDS_MAX {
            return Err(field("release.known_kinds"));
        }
        Ok(Self {
            random: random(&release.random, "release.random")?,
            stamp: stamp(release.stamp, "release.stamp")?,
            release: text,
            kinds,
        })
    }
}

impl From<&Branch> for proto::Branch {
    fn from(branch: &Branch) -> Self {
        let predecessor = branch.predecessor.as_ref();
        Self {
            random: branch.random.to_vec(),
            stamp: Some(branch.stamp.into()),
            epoch: branch.epoch.0,
            control: branch.kind == LogKind::Control,
            predecessor: predecessor.map(|before| proto::branch::Predecessor {
                epoch: before.epoch.0,
                sequence: before.sequence,
                chain: before.chain.0.as_bytes().to_vec(),
            }),
            common_sequence: branch.common,
            common_chain: branch.common_chain.0.as_bytes().to_vec(),
            stays_chain: branch.stays.0.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Branch> for Branch {
    type Error = InvalidRecord;

    fn try_from(branch: proto::Branch) -> Result<Self, InvalidRecord> {
        let predecessor = branch.predecessor.map(|before| {
            Ok(Predecessor {
                epoch: Epoch(before.epoch),
                sequence: sequence(before.sequence, "branch.predecessor")?,
                chain: chain(&before.chain, "branch.predecessor")?,
            })
        });
        Ok(Self {
            random: random(&branch.random, "branch.random")?,
            stamp: stamp(branch.stamp, "branch.stamp")?,
            epoch: Epoch(branch.epoch),
            kind: if branch.control { LogKind::Control } else { LogKind::Files },
            predecessor: predecessor.transpose()?,
            common: sequence(branch.common_sequence, "branch.common_sequence")?,
            common_chain: chain(&branch.common_chain, "branch.common_chain")?,
            stays: chain(&branch.stays_chain, "branch.stays_chain")?,
        })
    }
}

/// One that has a next one in a signed column.
fn sequence(number: u64, what: &'static str) -> Result<u64, InvalidRecord> {
    if number < i64::MAX.unsigned_abs() { Ok(number) } else { Err(field(what)) }
}

fn chain(bytes: &[u8], what: &'static str) -> Result<Chain, InvalidRecord> {
    Sha256::from_slice(bytes).map(Chain).ok_or(field(what))
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Control, RecordKind, Stamp};
    use prost::Message as _;

    use super::*;
    use crate::{
        control::{decode_control, encode_control},
        record::{RawRecord, decode_envelope, encode_envelope},
    };

    const STAMP: Stamp = Stamp { micros: 7, trusted: true };

    fn release() -> Release {
        let kinds = [1, 2, 99].into();
        Release { random: [3; 16], stamp: STAMP, release: "0.2.0".to_owned(), kinds }
    }

    fn branch() -> Branch {
        let chain = |byte| Chain(Sha256([byte; 32]));
        let predecessor = Predecessor { epoch: Epoch(4), sequence: 9, chain: chain(1) };
        Branch {
            random: [3; 16],
            stamp: STAMP,
            epoch: Epoch(5),
            kind: LogKind::Files,
            predecessor: Some(predecessor),
            common: 17,
            common_chain: chain(2),
            stays: chain(3),
        }
    }

    fn read(raw: &RawRecord) -> Result<Option<Control>, InvalidRecord> {
        decode_control(&decode_envelope(&raw.envelope).unwrap(), raw.payload.as_ref().unwrap())
    }

    #[test]
    fn what_a_site_says_of_itself_reads_as_it_was_written() {
        let control = Branch { kind: LogKind::Control, predecessor: None, ..branch() };
        for said in
            [Control::Release(release()), Control::Branch(branch()), Control::Branch(control)]
        {
            let raw = encode_control(&said, None, 0);
            let envelope = decode_envelope(&raw.envelope).unwrap();
            assert_eq!((envelope.kind, envelope.subject), (said.kind(), None));
            assert_eq!(read(&raw), Ok(Some(said)));
        }
    }

    fn raw(kind: RecordKind, payload: Vec<u8>) -> RawRecord {
        let sha256 = Sha256::of(&payload);
        let envelope =
            bruri_domain::Envelope { kind, subject: None, generation: 0, payload: sha256 };
        RawRecord { envelope: encode_envelope(&envelope), payload: Some(payload.into()) }
    }

    #[test]
    fn beyond_its_bounds_it_is_refused() {
        let release = proto::Release::from(&release());
        for (wrong, named) in [
            (proto::Release { release: "x".repeat(65), ..release.clone() }, "release.release"),
            (proto::Release { release: "0.2\n".to_owned(), ..release.clone() }, "release.release"),
            (proto::Release { known_kinds: (0..257).collect(), ..release }, "release.known_kinds"),
        ] {
            let raw = raw(RecordKind::Release, wrong.encode_to_vec());
            assert_eq!(read(&raw), Err(field(named)));
        }
        let branch = proto::Branch::from(&branch());
        for (wrong, named) in [
            (proto::Branch { stays_chain: vec![0; 31], ..branch.clone() }, "branch.stays_chain"),
            (proto::Branch { common_sequence: u64::MAX, ..branch }, "branch.common_sequence"),
        ] {
            let raw = raw(RecordKind::Branch, wrong.encode_to_vec());
            assert_eq!(read(&raw), Err(field(named)));
        }
    }
}
