//! Membership records between their bytes and the domain.

use bruri_domain::{Member, MemberState, SiteName, member::are_addresses};

use crate::{
    proto::record::v1 as proto,
    record::{InvalidRecord, bounded_name, field},
};

impl From<&Member> for proto::Member {
    fn from(member: &Member) -> Self {
        use proto::member::State;
        let state = match member.state {
            MemberState::Joined => State::Joined,
            MemberState::Retired => State::Retired,
        };
        Self {
            random: member.random.to_vec(),
            stamp: Some(member.stamp.into()),
            site: member.site.to_string(),
            state: state.into(),
            addresses: member.addresses.clone(),
            issues: member.issues,
            operator: member.operator.clone(),
        }
    }
}

impl TryFrom<proto::Member> for Member {
    type Error = InvalidRecord;

    fn try_from(member: proto::Member) -> Result<Self, InvalidRecord> {
        use proto::member::State;
        let state = match member.state() {
            State::Joined => MemberState::Joined,
            State::Retired => MemberState::Retired,
            State::Unspecified => return Err(field("member.state")),
        };
        if !are_addresses(&member.addresses) {
            return Err(field("member.addresses"));
        }
        Ok(Self {
            random: member.random.try_into().map_err(|_| field("member.random"))?,
            stamp: member.stamp.ok_or(field("member.stamp"))?.into(),
            site: SiteName::parse(&member.site).map_err(|_| field("member.site"))?,
            state,
            addresses: member.addresses,
            issues: member.issues,
            operator: bounded_name(member.operator, "member.operator")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Control, Envelope, RecordKind, Sha256, Stamp};
    use prost::Message as _;

    use super::*;
    use crate::{
        control::{decode_control, encode_control},
        record::decode_envelope,
    };

    fn member() -> Member {
        Member {
            random: [3; 16],
            stamp: Stamp { micros: 7, trusted: true },
            site: SiteName::parse("tokyo").unwrap(),
            state: MemberState::Joined,
            addresses: vec!["tokyo.example:7440".to_owned()],
            issues: true,
            operator: "uid 0".to_owned(),
        }
    }

    fn read(member: &proto::Member) -> Result<Option<Control>, InvalidRecord> {
        let (payload, kind) = (member.encode_to_vec(), RecordKind::Member);
        let envelope =
            Envelope { kind, subject: None, generation: 0, payload: Sha256::of(&payload) };
        decode_control(&envelope, &payload)
    }

    #[test]
    fn a_membership_record_reads_as_it_was_written() {
        for state in [MemberState::Joined, MemberState::Retired] {
            let control = Control::Member(Member { state, ..member() });
            let raw = encode_control(&control, None, 0);
            let envelope = decode_envelope(&raw.envelope).unwrap();
            assert_eq!((envelope.kind, envelope.subject), (RecordKind::Member, None));
            let payload = raw.payload.unwrap();
            assert_eq!(decode_control(&envelope, &payload), Ok(Some(control)));
        }
    }

    #[test]
    fn a_membership_record_beyond_its_bounds_is_refused() {
        let wrong = [
            (Member { addresses: vec!["tokyo".to_owned()], ..member() }, "member.addresses"),
            (Member { addresses: vec!["a:1".to_owned(); 9], ..member() }, "member.addresses"),
            (Member { operator: "x".repeat(257), ..member() }, "member.operator"),
        ];
        for (member, named) in wrong {
            assert_eq!(read(&proto::Member::from(&member)), Err(field(named)));
        }
        let unknown = proto::Member { state: 9, ..proto::Member::from(&member()) };
        assert_eq!(read(&unknown), Err(field("member.state")));
    }
}
